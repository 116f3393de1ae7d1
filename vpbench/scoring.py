"""From a stored prediction to scores: measures per clip, then the reductions that a protocol names.

Measures are stored in the run folder (those of the reference alone beside the runs, shared by all models), at most one pass per clip,
view and array id. Scores are derived from them in clip-name order, so that any number of processes and restarts end in the same bytes.
"""

from __future__ import annotations

import contextlib
import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from vpbench import weights
from vpbench.clip import Clip, Frames
from vpbench.configuration import PROTOCOL_KEYS, TRACKS, build, check_keys, check_leaf, unknown_name
from vpbench.errors import ConfigError, StorageError
from vpbench.measuring import Arrays, ClipMetric, ClipValue, Compute, Measure, Metric, Region, SetMetric, SetValue, frame_mean
from vpbench.results import SCHEMA, of_predictions
from vpbench.statistics import jackknife_error
from vpbench.storage import cached_arrays, check_unpacked, read_arrays, read_json, sha256_json, write_arrays, write_bytes, write_json
from vpbench.views import View

PREDICTION = "_prediction"  # the array that ties measures to the prediction they were made from
NO_TRUTH = "the hole has no true answer (an edit without a known result)"
REFERENCE_FREE_REGION = "background"  # the only region where the source is the truth whatever the operation
RANDOM = "random-"  # how the source of seeded random weights begins
AVERAGES = ("clips", "frame_means", "frames")
MISSING = ("skip", "error")
LEAF_KEYS = ("regions", "average")  # of a metric in a protocol; read here, not passed to the metric


@dataclass(frozen=True)
class Column:
    """A metric as a protocol uses it.

    Attributes:
        metric: with its region and options.
        average: ``clips`` (the metric's own value per clip, then the mean of the clips), ``frame_means`` (the mean of the frames of
            each clip, then the mean of the clips) or ``frames`` (the mean of all frames of all clips); ``set`` for set metrics.
    """

    metric: Metric
    average: str

    @property
    def name(self) -> str:
        """``metric[region]``."""
        return f"{self.metric.name}[{self.metric.region}]"

    @property
    def random(self) -> bool:
        """Whether it comes from seeded random weights: shown, never ranked."""
        return any(network.source.startswith(RANDOM) for network in self.metric.measure.networks)

    def signature(self, view: View) -> str:
        """The string that fixes a value's meaning; values with different signatures never share a rank."""
        metric, variant = self.metric, self.metric.variant
        if self.average in ("frame_means", "frames"):  # of the frames' own values, which are neither pooled nor capped
            variant = ",".join(part for part in variant.split(",") if part != "pooled" and not part.startswith("cap="))
        tags = view.tags(metric.measure.reads) or "reference"
        return f"{self.name}|{variant}|{metric.measure.array_id}|track={tags}|mean={self.average}|v{metric.version}"

    def missing(self) -> str:
        """Why its networks cannot run, empty when they can."""
        return "; ".join(dict.fromkeys(reason for network in self.metric.measure.networks if (reason := weights.missing(network))))

    def clip(self, arrays: Arrays, has_truth: bool) -> ClipValue:
        """The value of one clip: nan where the metric needs a true answer that the clip does not have, inf where a mean of frames is."""
        assert isinstance(self.metric, ClipMetric)
        if not has_truth and self.metric.needs_truth and self.metric.region != REFERENCE_FREE_REGION:
            return ClipValue(math.nan, 0, reason=NO_TRUTH)
        value = self.metric.clip(arrays)
        if self.average == "clips" or math.isnan(value.value):
            return value
        frames = self.metric.frames(arrays)
        if infinite := int(np.isinf(frames).sum()):
            reason = f"{infinite} of {len(frames)} frames equal the reference exactly, so their mean is infinite"
            return ClipValue(math.inf, len(frames), exact=value.exact, reason=reason)
        mean = frame_mean(frames, "the value is undefined")
        return ClipValue(mean.value, mean.n, mean.excluded, value.exact, value.reason or mean.reason)


@dataclass(frozen=True)
class Protocol:
    """A named set of metrics with every convention fixed.

    Attributes:
        name: as in ``conf/protocol``.
        columns: in order.
        mean_rank: names of the columns that count in the mean rank.
        tracks: what is scored when the run does not say.
        view: what of a clip is scored, in the track ``raw``.
        missing: ``skip`` leaves columns without weights empty, with the reason; ``error`` refuses to run.
    """

    name: str
    columns: tuple[Column, ...]
    mean_rank: tuple[str, ...]
    tracks: tuple[str, ...] = ("raw",)
    view: View = field(default_factory=View)
    missing: str = "skip"

    @classmethod
    def of(cls, leaf: Mapping[str, Any]) -> Protocol:
        """Build a protocol from its leaf, checking every key.

        Raises:
            ConfigError: an unknown key, metric, region, average, track or mean-rank column; the message lists the valid ones.
        """
        check_keys(leaf, PROTOCOL_KEYS, "protocol")
        average = _choice(leaf.get("average", "clips"), "protocol.average", AVERAGES)
        columns: list[Column] = []
        for name, options in (leaf.get("metrics") or {}).items():
            if options is not None:
                columns += _columns(str(name), options, average)
        if not columns:
            raise ConfigError("protocol.metrics is empty: name at least one metric.")
        names = [column.name for column in columns]
        mean_rank = tuple(_choice(name, "protocol.mean_rank", names) for name in leaf.get("mean_rank") or ())
        tracks = tuple(_choice(track, "protocol.tracks", TRACKS) for track in leaf.get("tracks") or ("raw",))
        view = View(
            quantise=leaf.get("quantise", "exact"), against=leaf.get("against", "truth"), mask_dilate_px=leaf.get("mask_dilate_px", 0)
        )
        missing = _choice(leaf.get("missing", "skip"), "protocol.missing", MISSING)
        return cls(str(leaf["name"]), tuple(columns), mean_rank, tracks, view, missing)

    def absent(self) -> dict[str, str]:
        """Columns whose weights are missing, with the reason.

        Raises:
            ConfigError: there are any and the protocol says ``missing: error``, or the configuration names a file that cannot be used.
        """
        found = {column.name: reason for column in self.columns if (reason := column.missing())}
        for column in self.columns:
            if column.name in found and any(network.source for network in column.metric.measure.networks):
                raise ConfigError(f"protocol.weights, for {column.name}: {found[column.name]}")
        if found and self.missing == "error":
            reasons: dict[str, list[str]] = {}
            for name, reason in found.items():
                reasons.setdefault(reason, []).append(name)
            lines = "".join(f"\n  {', '.join(names)}: {reason}" for reason, names in reasons.items())
            raise ConfigError(
                f"protocol {self.name} needs weights that are not here, and protocol.missing=error:{lines}\n"
                "Get them, or leave these columns empty with protocol.missing=skip."
            )
        return found

    def measures(self, without: Mapping[str, str] | None = None) -> dict[str, Measure]:
        """The passes of the columns that are not in ``without``, each once, by array id."""
        return {c.metric.measure.array_id: c.metric.measure for c in self.columns if c.name not in (without or {})}


def _choice(given: Any, what: str, known: Sequence[str]) -> str:
    if given not in known:
        raise unknown_name(what, str(given), known)
    return str(given)


def _columns(name: str, options: Any, average: str) -> list[Column]:
    where = f"protocol.metrics.{name}"
    _, arguments = check_leaf(options, where, reserved=LEAF_KEYS)
    regions = options.get("regions") or ["frame"]
    for region in regions:
        _choice(region, f"{where}.regions", get_args(Region))
    mine = _choice(options.get("average", average), f"{where}.average", AVERAGES)
    leaf = {"_target_": options["_target_"], **arguments}
    metrics: list[Metric] = [build(leaf, where, region=region, name=name) for region in regions]
    return [Column(metric, "set" if isinstance(metric, SetMetric) else mine) for metric in metrics]


@dataclass(frozen=True)
class ClipStore:
    """The stored arrays of one clip under one view.

    Attributes:
        run: the run folder.
        references: where arrays of this clip's reference, masks and texts lie, shared by all models.
        clip: its name.
        checksum: hex sha256 of the prediction's file; arrays made from another prediction do not count.
        view: what is scored.
    """

    run: Path
    references: Path
    clip: str
    checksum: str
    view: View

    def path(self, measure: Measure) -> Path:
        """Where the arrays of a pass lie: in the run, or beside the runs where it does not read the prediction."""
        name = "-".join(filter(None, (measure.array_id, self.view.tags(measure.reads))))
        if "prediction" in measure.reads:
            return self.run / "measures" / name / f"{self.clip}.npz"
        return self.references / f"{name}.npz"

    def read(self, measure: Measure) -> dict[str, NDArray[Any]] | None:
        """The stored arrays of a pass; None when there are none, they are damaged or made from another prediction."""
        path = self.path(measure)
        if not path.exists():
            return None
        try:
            arrays = read_arrays(path)
        except StorageError:  # damaged: computed again
            return None
        if "prediction" not in measure.reads:
            return arrays
        return arrays if self._is_tied(arrays.pop(PREDICTION, None)) else None

    def has(self, measure: Measure) -> bool:
        """Whether the pass is stored, undamaged (by the CRC of every array) and made from this prediction; only the tie is loaded."""
        path = self.path(measure)
        if not path.exists():
            return False
        try:
            with np.load(path, allow_pickle=False) as stored:
                check_unpacked(stored.zip, path.stat().st_size)
                if stored.zip.testzip() is not None:
                    return False
                return "prediction" not in measure.reads or self._is_tied(stored.get(PREDICTION))
        except Exception:  # zipfile, numpy and the operating system raise a dozen unrelated types here; the pass runs again
            return False

    def get(self, measure: Measure, compute: Compute) -> Arrays:
        """The arrays of a pass, computed and stored when absent. Safe under concurrent use."""
        if "prediction" not in measure.reads:
            return cached_arrays(self.path(measure), compute)
        arrays = self.read(measure)
        if arrays is None:
            arrays = compute()
            write_arrays(self.path(measure), {**arrays, PREDICTION: self._tie})
        return arrays

    @property
    def _tie(self) -> NDArray[np.uint8]:
        return np.frombuffer(bytes.fromhex(self.checksum), dtype=np.uint8)

    def _is_tied(self, tie: NDArray[Any] | None) -> bool:
        return tie is not None and np.array_equal(tie, self._tie)


def clip_store(run: Path, fingerprint: str, record: Mapping[str, Any], view: View) -> ClipStore:
    """Where the arrays of a clip of a run lie.

    Args:
        run: the run folder.
        fingerprint: of the clip's content.
        record: the clip's record. A prediction that lacks frames (``present``) is compared with those of the reference that it has.
        view: what is scored.
    """
    content = sha256_json([fingerprint, record["present"]]) if "present" in record else fingerprint
    return ClipStore(run, run.parent / ".reference" / content[:16], record["clip"], str(record.get("prediction", "")), view)


def measure_clip(store: ClipStore, clip: Clip, prediction: Frames, measures: Mapping[str, Measure], device: str) -> None:
    """Run the passes that are missing for one clip and view, and store their arrays.

    Args:
        store: where arrays lie.
        clip: with its reference, masks and texts.
        prediction: the stored prediction, uint8 (T, H, W, 3).
        measures: the passes, by array id.
        device: where networks run.
    """
    missing = [measure for measure in measures.values() if not store.has(measure)]
    if missing:
        comparison = store.view.comparison(clip, prediction, device, store.get)
        for measure in missing:
            comparison.arrays(measure, keep=False)


@dataclass(frozen=True)
class Scored:
    """A clip whose passes are stored.

    Attributes:
        store: where.
        has_truth: whether its hole has a true answer.
        properties: what was measured of the clip itself.
        present: the frames that the prediction has; empty: all.
    """

    store: ClipStore
    has_truth: bool
    properties: Mapping[str, Any] = field(default_factory=dict)
    present: Sequence[int] = ()


def scores_folder(run: Path, protocol: Protocol, view: View) -> Path:
    """Where the scores of a run lie that one protocol and view give."""
    return run / "scores" / f"{protocol.name}-{view.track}"


@dataclass(frozen=True)
class Derived:
    """What a summary that lies there was derived from.

    Attributes:
        clips: names of the scored clips.
        failed: names of the clips that failed.
        absent: names of the columns whose weights were missing.
    """

    clips: frozenset[str]
    failed: frozenset[str]
    absent: frozenset[str]


def derived(run: Path, protocol: Protocol, view: View) -> Derived | None:
    """What the summary of one protocol and view holds; None where there is none, it is damaged or its columns mean something else."""
    path = scores_folder(run, protocol, view) / "summary.json"
    try:
        found = read_json(path)
        columns, clips = found["columns"], found["clips"]
        if found["schema"] != SCHEMA or [c["signature"] for c in columns] != [c.signature(view) for c in protocol.columns]:
            return None
        failed = frozenset(str(one["clip"]) for one in clips["failed"])
        return Derived(frozenset(map(str, clips["names"])), failed, frozenset(str(c["column"]) for c in columns if c["absent"]))
    except (StorageError, LookupError, TypeError, ValueError):
        return None


def has_tables(run: Path, protocol: Protocol, view: View, clips: Iterable[str]) -> bool:
    """Whether the files that ``write_scores`` leaves beside the summary are there for these clips; not what is in them."""
    scores = scores_folder(run, protocol, view)
    return (scores / "clips.csv").is_file() and all((scores / "frames" / f"{clip}.csv").is_file() for clip in clips)


def write_scores(
    run: Path,
    header: Mapping[str, Any],
    protocol: Protocol,
    view: View,
    done: Mapping[str, Scored],
    failed: Mapping[str, str],
    names: Sequence[str],
    absent: Mapping[str, str],
) -> Path:
    """Derive ``clips.csv``, ``frames/<clip>.csv`` and ``summary.json`` of one protocol and view from the stored measures.

    Args:
        run: the run folder.
        header: what the summary says about the run (benchmark, model, run id).
        protocol: the reductions.
        view: what was scored.
        done: clips with measures, by name.
        failed: clips that failed, with the reason.
        names: every clip of the benchmark, restricted or not.
        absent: columns whose weights are missing, with the reason.

    Returns:
        The folder written to.
    """
    # A column without weights still has its values where all arrays were stored while they were there.
    gone = {c.name: absent[c.name] for c in protocol.columns if c.name in absent and not _all_stored(c, done)}
    present = [column for column in protocol.columns if column.name not in gone]
    values: dict[str, dict[str, ClipValue]] = {c.name: {} for c in present if isinstance(c.metric, ClipMetric)}
    sets: dict[str, dict[str, Arrays]] = {c.name: {} for c in present if isinstance(c.metric, SetMetric)}
    folder = scores_folder(run, protocol, view)
    read = {c.metric.measure.array_id: c.metric.measure for c in present}
    for clip in sorted(done):
        arrays = {name: _stored(done[clip].store, measure) for name, measure in read.items()}
        for column in present:
            if isinstance(column.metric, SetMetric):
                if done[clip].has_truth or not column.metric.needs_truth:
                    sets[column.name][clip] = arrays[column.metric.measure.array_id]
            else:
                with _reducing(run, clip):
                    values[column.name][clip] = column.clip(arrays[column.metric.measure.array_id], done[clip].has_truth)
        with _reducing(run, clip):
            curves = {
                column.name: column.metric.frames(arrays[column.metric.measure.array_id])
                for column in present
                if isinstance(column.metric, ClipMetric) and values[column.name][clip].n
            }
        longest = max(map(len, curves.values()), default=0)
        numbers = done[clip].present or range(longest)
        rows = ([numbers[t], *(c[t] if t < len(c) else math.nan for c in curves.values())] for t in range(longest))
        with _reducing(run, clip):
            frames = _csv(["frame", *curves], rows)
        write_bytes(folder / "frames" / f"{clip}.csv", frames)
    lines = ([clip, *(values[name][clip].value for name in values)] for clip in sorted(done))
    write_bytes(folder / "clips.csv", _csv(["clip", *values], lines))
    columns = []
    for column in protocol.columns:
        if column.name in gone:
            found = {**_of_clips(column, {}), "absent": gone[column.name], "weights": {}}
        elif isinstance(column.metric, SetMetric):
            with _reducing(run, "*"):
                found = _of_set(column.metric, sets[column.name], sorted(done))
        else:
            found = _of_clips(column, values[column.name])
        columns.append({**_description(column, view), **found})
    write_json(
        folder / "summary.json",
        {
            "schema": SCHEMA,
            **header,
            "protocol": protocol.name,
            "track": view.track,
            "clips": {
                "total": len(names),
                "ok": len(done),
                "names": sorted(done),
                "predictions": of_predictions({clip: scored.store.checksum for clip, scored in done.items()}),
                "properties": {clip: dict(done[clip].properties) for clip in sorted(done)},
                "failed": [{"clip": clip, "reason": failed[clip]} for clip in sorted(failed)],
                "missing": sorted(set(names) - set(done) - set(failed)),
            },
            "mean_rank": list(protocol.mean_rank),
            "columns": columns,
        },
    )
    return folder


@contextlib.contextmanager
def _reducing(run: Path, clip: str) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise StorageError(
            f"{run}/measures/*/{clip}.npz: hold arrays that no run writes ({error!r}). Delete them and run the same command again."
        ) from error


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A table whose first column is a name or number; nan is left empty, inf is written as such."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for first, *values in rows:
        writer.writerow([first, *("" if math.isnan(value) else repr(float(value)) for value in values)])
    return text.getvalue().encode()


def _all_stored(column: Column, done: Mapping[str, Scored]) -> bool:
    return bool(done) and all(scored.store.has(column.metric.measure) for scored in done.values())


def _stored(store: ClipStore, measure: Measure) -> Arrays:
    arrays = store.read(measure)
    if arrays is None:
        raise StorageError(f"{store.path(measure)}: is gone or damaged since it was written. Run the same command again.")
    return arrays


def _description(column: Column, view: View) -> dict[str, Any]:
    """What tables need to know of a column, whatever its values."""
    metric = column.metric
    return {
        "metric": metric.name,
        "region": metric.region,
        "column": column.name,
        "unit": metric.unit,
        "direction": metric.direction,
        "digits": metric.digits,
        "scale": metric.scale,
        "version": metric.version,
        "average": column.average,
        "signature": column.signature(view),
        "weights": {network.name: weights.sha256(network) for network in metric.measure.networks},
        "absent": "",
        "unranked": "seeded random weights" if column.random else "",
    }


def _of_clips(column: Column, values: Mapping[str, ClipValue]) -> dict[str, Any]:
    """The value over clips of a metric that has one per clip, and what it leaves out."""
    defined = [value for value in values.values() if math.isfinite(value.value)]
    excluded = [{"clip": clip, "reason": value.reason} for clip, value in values.items() if not math.isfinite(value.value)]
    weigh = [value.n if column.average == "frames" else 1 for value in defined]
    mean = math.fsum(value.value * w for value, w in zip(defined, weigh, strict=True)) / sum(weigh) if defined else None
    if any(math.isinf(value.value) for value in values.values()):
        mean = None  # the mean that this rule defines is infinite; leaving these clips out would be another rule
    return {
        "value": mean,
        "n": len(defined),
        "frames": sum(value.n for value in defined),
        "excluded": excluded,
        "exact_frames": sum(value.exact for value in values.values()),
        "excluded_frames": sum(value.excluded for value in values.values()),
        "values": [_json_number(values[clip].value) for clip in sorted(values)],
        "clip_frames": [values[clip].n for clip in sorted(values)],
    }


def _of_set(metric: SetMetric, clips: Mapping[str, Arrays], names: Sequence[str]) -> dict[str, Any]:
    """The value of a set metric, with the values without each clip: what a jackknife needs."""
    found = metric.reduce(clips) if clips else SetValue(math.nan, 0, reason=NO_TRUTH)
    defined = math.isfinite(found.value)
    without = found.leave_one_out if defined else {}
    left_out = [name for name in names if name not in clips or not defined]
    return {
        "value": found.value if defined else None,
        "n": len(clips) if defined else 0,
        "frames": 0,
        "excluded": [{"clip": clip, "reason": found.reason if clip in clips else NO_TRUTH} for clip in left_out],
        "exact_frames": 0,
        "excluded_frames": 0,
        "vectors": found.n,
        "dimensions": found.dimensions,
        "leave_one_out": [_json_number(without.get(name, math.nan)) for name in names] if without else [],
        "standard_error": _error(list(without.values())),
        "note": found.reason if defined else "",
    }


def _json_number(value: float) -> float | str | None:
    """JSON knows neither nan nor infinity: they become null and text."""
    return None if math.isnan(value) else value if math.isfinite(value) else repr(value)


def _error(without: Sequence[float]) -> float | None:
    """Delete-one standard error; None for fewer than two values, or where one is not finite."""
    return jackknife_error(np.array(without)) if len(without) > 1 and all(map(math.isfinite, without)) else None
