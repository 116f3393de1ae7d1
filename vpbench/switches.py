"""What a column's value would be with other settings: a protocol's switches, turned over the arrays that a run stores.

The settings of a column are found in the run's configuration, in Hydra's records beside the runs, or in the protocol of that name that is
installed; they count only when they give the very signature that the result carries.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from vpbench import plugins
from vpbench.clip import Clip, ClipHandle
from vpbench.configuration import build, import_target
from vpbench.devices import usable_device
from vpbench.errors import ConfigError, DataError, StorageError, VpbenchError
from vpbench.measuring import Arrays, SetMetric
from vpbench.results import Cell, Summary, Values, clip_mean
from vpbench.scoring import LEAF_KEYS, ClipStore, Column, Protocol, clip_store, measure_clip
from vpbench.storage import read_manifest, read_record
from vpbench.trust import check_stored
from vpbench.views import View

Settings = dict[str, Any]
VIEW = tuple(field.name for field in fields(View))
KEPT = 2000  # arrays of clips that stay in memory, some kB each
FIXED = ("metric", "region", "average", *VIEW)  # the other settings are options of the metric


class UnmeasuredError(Exception):
    """An effect that cannot be measured; the message says why."""


def run_folder(summary: Summary) -> Path | None:
    """The run folder that a summary was read from; None for a file that stands alone (a submission, a saved baseline)."""
    source = summary.source.absolute()
    folder = source.parents[2] if len(source.parents) > 2 else source
    return folder if source.name == "summary.json" and source.parents[1].name == "scores" and (folder / "run.json").is_file() else None


def run_facts(folder: Path | None) -> dict[str, Any]:
    """The content of ``run.json``; empty without a run folder.

    Raises:
        StorageError: it cannot be read.
    """
    return {} if folder is None else read_manifest(folder)


def column_of(settings: Settings, name: str = "metric") -> Column:
    """The column that these settings make.

    Raises:
        ConfigError: they do not go together.
    """
    options = {key: value for key, value in settings.items() if key not in FIXED}
    leaf: dict[str, Any] = {"_target_": settings["metric"], "regions": [settings["region"]], **options}
    if settings["average"] != "set":
        leaf["average"] = settings["average"]
    (column,) = Protocol.of({"name": name, "metrics": {name: leaf}}).columns
    return column


def view_of(settings: Settings) -> View:
    """The view that these settings make.

    Raises:
        ConfigError: a value out of its range.
    """
    return View(**{key: settings[key] for key in VIEW})


def mean(values: Values, frames: Values, average: str) -> float:
    """The mean over clips as a protocol takes it.

    Args:
        values: (clips,) nan where a clip has no value.
        frames: (clips,) the frames behind each; they weigh where ``average`` is ``frames``.
        average: ``clips``, ``frame_means`` or ``frames``.

    Raises:
        UnmeasuredError: no clip has a value, or one is infinite.
    """
    found = clip_mean(values, frames if average == "frames" else None)
    if found is not None:
        return found
    if infinite := int(np.isinf(values).sum()):
        raise UnmeasuredError(f"the value is infinite: {infinite} clips hold frames that equal the reference exactly")
    raise UnmeasuredError("the value is undefined for every clip")


def _settings(leaf: Mapping[str, Any], cell: Cell, track: str) -> Settings | None:
    options = (leaf.get("metrics") or {}).get(cell.metric)
    if options is None or cell.region not in (options.get("regions") or ["frame"]):
        return None
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(import_target(options["_target_"], cell.metric)).parameters.items()
        if parameter.default is not inspect.Parameter.empty and name not in ("name", "region")
    }
    own = {key: value for key, value in options.items() if key not in ("_target_", *LEAF_KEYS)}
    return {
        "metric": options["_target_"],
        "region": cell.region,
        "average": "set" if cell.average == "set" else options.get("average", leaf.get("average", "clips")),
        "track": track,
        **{key: leaf.get(key, getattr(View(), key)) for key in VIEW if key != "track"},
        **{key: list(value) if isinstance(value, tuple) else value for key, value in {**defaults, **own}.items()},
    }


def _recorded(records: Path) -> Iterator[Mapping[str, Any]]:
    """The protocols of Hydra's records of earlier commands, the latest first."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    for file in sorted({*records.glob("*/.hydra/config.yaml"), *records.glob("*/*/.hydra/config.yaml")}, reverse=True):
        try:
            leaf = OmegaConf.to_container(OmegaConf.select(OmegaConf.load(file), "protocol"), resolve=True)
        except (OSError, ValueError, OmegaConfBaseException, YAMLError):  # half written by a command that was killed
            continue
        if isinstance(leaf, dict):
            yield {str(key): value for key, value in leaf.items()}


def _installed(name: str) -> Iterator[Mapping[str, Any]]:
    from omegaconf import OmegaConf

    package = plugins.options("protocol").get(name)
    if package is not None:
        text = resources.files(package).joinpath("protocol", f"{name}.yaml").read_text(encoding="utf-8")
        config = OmegaConf.to_container(OmegaConf.create({"protocol": OmegaConf.create(text)}), resolve=True)
        assert isinstance(config, dict)
        yield config["protocol"]


class Workbench:
    """A run's stored arrays, reduced under any settings."""

    def __init__(self, summary: Summary, measure: bool = False) -> None:
        """Open the run behind ``summary``.

        Args:
            summary: of the run.
            measure: compute arrays that are missing from the stored predictions and the benchmark, and store them in the run.

        Raises:
            StorageError: ``run.json`` cannot be read.
        """
        self.summary = summary
        self.folder = run_folder(summary)
        self.facts = run_facts(self.folder)
        self._measure = measure
        self._records: dict[str, Mapping[str, Any]] = {}
        self._read: dict[Path, Arrays] = {}  # columns of one metric and settings of one view share them

    def settings(self, cell: Cell) -> Settings:
        """Every setting that decides a column's value, by name: ``metric`` (its class), ``region``, ``average``, the fields of a ``View``
        and the metric's options with their defaults.

        Raises:
            UnmeasuredError: no known protocol of that name gives the column's signature.
        """
        problem = ""
        for leaf, stored in self._leaves():
            try:
                if leaf.get("name") != self.summary.protocol:
                    continue
                if stored:
                    check_stored((leaf.get("metrics") or {}).get(cell.metric), f"protocol.metrics.{cell.metric} in the run's records")
                found = _settings(leaf, cell, self.summary.track)
                if found is not None and column_of(found, cell.metric).signature(view_of(found)) == cell.signature:
                    return found
            except (VpbenchError, AttributeError, LookupError, TypeError, ValueError) as error:
                # damaged, another version's, or one whose package is gone: not the one we look for
                problem = problem or f" ({next(iter(str(error).splitlines()), type(error).__name__)})"
        where = "in the run's records or installed" if self.folder is not None else "installed"
        raise UnmeasuredError(f"no protocol {self.summary.protocol} {where} gives {cell.signature}{problem}")

    def _leaves(self) -> Iterator[tuple[Mapping[str, Any], bool]]:
        """Protocols that may be the summary's, the likeliest first, and whether they were stored with the run, by whomever."""
        yield from self._likely
        yield from ((leaf, True) for leaf in self._records_of_hydra)

    @functools.cached_property
    def _likely(self) -> list[tuple[Mapping[str, Any], bool]]:
        own = self.facts.get("config", {}).get("protocol")
        return [*([(own, True)] if own else []), *((leaf, False) for leaf in _installed(self.summary.protocol))]

    @functools.cached_property
    def _records_of_hydra(self) -> list[Mapping[str, Any]]:
        return [] if self.folder is None else list(_recorded(self.folder.parent.parent / ".hydra"))

    def record(self, clip: str) -> Mapping[str, Any]:
        """What the run recorded of a clip.

        Raises:
            UnmeasuredError: there is no run folder, or the record is gone or damaged.
        """
        if self.folder is None:
            raise UnmeasuredError(f"{self.summary.source.name} holds no arrays; name the run folder")
        if clip not in self._records:
            try:
                self._records[clip] = read_record(self.folder / "clips" / f"{clip}.json")
            except StorageError as error:
                raise UnmeasuredError(str(error)) from error
        return self._records[clip]

    def value(self, settings: Settings, clips: Sequence[str]) -> float:
        """The value of these clips under these settings.

        Raises:
            ConfigError: the settings do not go together.
            UnmeasuredError: an array or the value does not exist.
        """
        column, view = column_of(settings), view_of(settings)
        arrays = {clip: self._arrays(clip, column, view) for clip in sorted(clips)}
        truth = {clip: bool(self.record(clip).get("has_truth")) or view.against == "source" for clip in arrays}
        if isinstance(column.metric, SetMetric):
            used = {clip: found for clip, found in arrays.items() if truth[clip] or not column.metric.needs_truth}
            with _reducing():
                value = column.metric.reduce(used).value if used else math.nan
            if not math.isfinite(value):
                raise UnmeasuredError("the value is undefined for these clips")
            return value
        with _reducing():
            found = [column.clip(arrays[clip], truth[clip]) for clip in arrays]
        return mean(np.array([value.value for value in found]), np.array([float(value.n) for value in found]), column.average)

    def _arrays(self, clip: str, column: Column, view: View) -> Arrays:
        store, measure = self._store(clip, view), column.metric.measure
        path = store.path(measure)
        if path in self._read:
            return self._read[path]
        arrays = store.read(measure)
        if arrays is None and self._measure:
            self._compute(store, column, view)
            arrays = store.read(measure)
        if arrays is None:
            raise UnmeasuredError(f"the run has no arrays {path.parent.name} of {clip}; --measure computes them")
        if len(self._read) >= KEPT:
            self._read.pop(next(iter(self._read)))
        self._read[path] = arrays
        return arrays

    def _store(self, clip: str, view: View) -> ClipStore:
        record = {"clip": clip, **self.record(clip)}
        assert self.folder is not None
        return clip_store(self.folder, str(self.facts["clips"].get(clip, "")), record, view)

    def _compute(self, store: ClipStore, column: Column, view: View) -> None:
        from vpbench.storage import sha256_file
        from vpbench.video import read_lossless

        if reason := column.missing():
            raise UnmeasuredError(reason)
        file = store.run / "predictions" / f"{store.clip}.mkv"
        if not file.exists() or sha256_file(file) != store.checksum:
            raise UnmeasuredError(f"{file}: is gone or is not the prediction that was scored")
        measure = column.metric.measure
        try:
            clip, present = self._clip(store.clip), self.record(store.clip).get("present")
            clip = clip.at(present) if present else clip
            device = usable_device("auto") if measure.networks else "cpu"
            measure_clip(store, clip, read_lossless(file), {measure.array_id: measure}, device)
        except (VpbenchError, OSError, ValueError) as error:
            raise UnmeasuredError(str(error)) from error

    def _clip(self, name: str) -> Clip:
        handle = self._handles.get(name)
        if handle is None or handle.fingerprint() != self.facts["clips"].get(name):
            raise DataError(f"{name}: the benchmark that the run was made from is not here with the same content")
        return handle.load()

    @functools.cached_property
    def _handles(self) -> dict[str, ClipHandle]:
        check_stored(self.facts["config"]["benchmark"], f"{self.folder}/run.json: config.benchmark")
        handles: Iterable[ClipHandle] = build(self.facts["config"]["benchmark"], "benchmark")
        return {handle.name: handle for handle in handles}


@contextlib.contextmanager
def _reducing() -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError) as error:
        raise UnmeasuredError(f"the stored arrays are not what a run writes ({error!r})") from error


def check(settings: Settings) -> bool:
    """Whether these settings go together."""
    try:
        column_of(settings)
        view_of(settings)
    except ConfigError:
        return False
    return True
