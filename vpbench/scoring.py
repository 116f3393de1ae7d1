"""From a stored prediction to scores: measures per clip, then the reductions that a protocol names.

Measures (arrays per frame) are stored in the run folder, at most one pass per clip, track and array id. Scores are derived from
them in clip-name order, so that any number of processes and restarts end in the same bytes.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Clip, Frames
from vpbench.configuration import PROTOCOL_KEYS, build, check_keys, check_leaf, unknown_name
from vpbench.errors import ConfigError
from vpbench.measuring import ClipValue, Comparison, Measure, Metric, Region
from vpbench.storage import cached_arrays, read_arrays, write_arrays, write_bytes, write_json

SUMMARY_SCHEMA = 1
PREDICTION = "_prediction"  # the array that ties measures to the prediction they were made from
NO_TRUTH = "the hole has no true answer (an edit without a known result)"
REFERENCE_FREE_REGION = "background"  # the only region where the source is the truth whatever the operation


@dataclass(frozen=True)
class Protocol:
    """A named set of metrics with every convention fixed.

    Attributes:
        name: as in ``conf/protocol``.
        metrics: in column order.
        mean_rank: columns that count in the mean rank.
    """

    name: str
    metrics: tuple[Metric, ...]
    mean_rank: tuple[str, ...]

    @classmethod
    def of(cls, leaf: Mapping[str, Any]) -> Protocol:
        """Build a protocol from its leaf, checking every key.

        Raises:
            ConfigError: an unknown key, metric, region or mean-rank column; the message lists the valid ones.
        """
        check_keys(leaf, PROTOCOL_KEYS, "protocol")
        metrics: list[Metric] = []
        for name, options in (leaf.get("metrics") or {}).items():
            where = f"protocol.metrics.{name}"
            if options is None:
                continue
            _, arguments = check_leaf(options, where, reserved=["regions"])
            for region in options.get("regions") or ["frame"]:
                if region not in get_args(Region):
                    raise unknown_name(f"{where}.regions", str(region), get_args(Region))
                metrics.append(build({"_target_": options["_target_"], **arguments}, where, region=region))
        if not metrics:
            raise ConfigError("protocol.metrics is empty: name at least one metric.")
        columns = [column(metric) for metric in metrics]
        mean_rank = tuple(str(name) for name in leaf.get("mean_rank") or ())
        for name in mean_rank:
            if name not in columns:
                raise unknown_name("protocol.mean_rank", name, columns)
        return cls(str(leaf["name"]), tuple(metrics), mean_rank)

    def measures(self) -> dict[str, Measure]:
        """The passes this protocol needs, each once, by array id."""
        return {metric.measure.array_id: metric.measure for metric in self.metrics}


def column(metric: Metric) -> str:
    """A metric's column name, ``name[region]``."""
    return f"{metric.name}[{metric.region}]"


def signature(metric: Metric, track: str) -> str:
    """The string that fixes a value's meaning; values with different signatures never share a rank."""
    return f"{column(metric)}|{metric.variant}|{metric.measure.array_id}|track={track}|mean=clips|v{metric.version}"


def composite(prediction: Frames, clip: Clip) -> Frames:
    """The prediction with the known pixels pasted back: hole from ``prediction``, background from the source."""
    return np.where(clip.masks[..., None], prediction, clip.frames)


def measures_path(run: Path, array_id: str, track: str, clip: str) -> Path:
    """Where the arrays of one pass over one clip lie."""
    return run / "measures" / f"{array_id}-{track}" / f"{clip}.npz"


def _tie(checksum: str) -> NDArray[np.uint8]:
    return np.frombuffer(bytes.fromhex(checksum), dtype=np.uint8)


def has_measures(run: Path, array_id: str, track: str, clip: str, checksum: str) -> bool:
    """Whether the pass is stored, readable and made from the prediction with this checksum."""
    path = measures_path(run, array_id, track, clip)
    if not path.exists():
        return False
    try:
        stored = read_arrays(path).get(PREDICTION)
    except Exception:  # damaged: computed again
        return False
    return stored is not None and np.array_equal(stored, _tie(checksum))


def measure(
    run: Path,
    clip: Clip,
    prediction: Frames,
    checksum: str,
    track: str,
    measures: Mapping[str, Measure],
    reference_folder: Path,
) -> None:
    """Run the passes that are missing for one clip and track, and store their arrays.

    Args:
        run: the run folder.
        clip: with its reference and masks.
        prediction: the stored prediction, uint8 (T, H, W, 3).
        checksum: hex sha256 of the prediction's file.
        track: ``raw`` or ``composite``.
        measures: the passes, by array id.
        reference_folder: where arrays of this clip's reference are cached, shared by all models.
    """
    missing = {name: m for name, m in measures.items() if not has_measures(run, name, track, clip.name, checksum)}
    if not missing:
        return

    def cached(name: str, compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        return cached_arrays(reference_folder / f"{name}.npz", compute)

    scored = prediction if track == "raw" else composite(prediction, clip)
    comparison = Comparison(scored, clip.reference, clip.masks, clip.has_truth, cached)
    for name, one in missing.items():
        arrays = {**one(comparison), PREDICTION: _tie(checksum)}
        write_arrays(measures_path(run, name, track, clip.name), arrays)


def clip_value(metric: Metric, arrays: Mapping[str, NDArray[Any]], has_truth: bool) -> ClipValue:
    """One metric of one clip; undefined outside the background when the hole has no true answer."""
    if not has_truth and metric.region != REFERENCE_FREE_REGION:
        return ClipValue(math.nan, 0, reason=NO_TRUTH)
    return metric.clip(arrays)


def write_scores(
    run: Path,
    header: Mapping[str, Any],
    protocol: Protocol,
    track: str,
    done: Mapping[str, bool],
    failed: Mapping[str, str],
    names: Sequence[str],
) -> Path:
    """Derive ``clips.csv`` and ``summary.json`` of one protocol and track from the stored measures.

    Args:
        run: the run folder.
        header: what the summary says about the run (benchmark, model, run id).
        protocol: the reductions.
        track: ``raw`` or ``composite``.
        done: clips with measures, with whether their hole has a true answer.
        failed: clips that failed, with the reason.
        names: every clip of the benchmark, restricted or not.

    Returns:
        The folder written to.
    """
    values: dict[str, dict[str, ClipValue]] = {column(metric): {} for metric in protocol.metrics}
    for clip in sorted(done):
        stored = {name: read_arrays(measures_path(run, name, track, clip)) for name in protocol.measures()}
        for metric in protocol.metrics:
            values[column(metric)][clip] = clip_value(metric, stored[metric.measure.array_id], done[clip])

    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["clip", *values])
    for clip in sorted(done):
        row = (values[name][clip].value for name in values)
        writer.writerow([clip, *("" if math.isnan(value) else repr(float(value)) for value in row)])
    folder = run / "scores" / f"{protocol.name}-{track}"
    write_bytes(folder / "clips.csv", table.getvalue().encode())
    write_json(
        folder / "summary.json",
        {
            "schema": SUMMARY_SCHEMA,
            **header,
            "protocol": protocol.name,
            "track": track,
            "clips": {
                "total": len(names),
                "ok": len(done),
                "failed": [{"clip": clip, "reason": failed[clip]} for clip in sorted(failed)],
                "missing": sorted(set(names) - set(done) - set(failed)),
            },
            "mean_rank": list(protocol.mean_rank),
            "columns": [_column_summary(metric, track, values[column(metric)]) for metric in protocol.metrics],
        },
    )
    return folder


def _column_summary(metric: Metric, track: str, values: Mapping[str, ClipValue]) -> dict[str, Any]:
    defined = [value for value in values.values() if not math.isnan(value.value)]
    excluded = [{"clip": clip, "reason": value.reason} for clip, value in values.items() if math.isnan(value.value)]
    return {
        "metric": metric.name,
        "region": metric.region,
        "column": column(metric),
        "unit": metric.unit,
        "direction": metric.direction,
        "digits": metric.digits,
        "scale": metric.scale,
        "version": metric.version,
        "signature": signature(metric, track),
        "value": math.fsum(value.value for value in defined) / len(defined) if defined else None,
        "n": len(defined),
        "excluded": excluded,
        "exact_frames": sum(value.exact for value in defined),
        "excluded_frames": sum(value.excluded for value in defined),
    }
