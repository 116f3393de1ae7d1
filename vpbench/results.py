"""Results as commands read them: the summaries of runs, and files that hold the same (submissions, saved baselines).

Neither torch nor any metric is needed: a summary holds the metadata of its columns and their values per clip.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpbench.errors import DataError
from vpbench.storage import parse_json, recorded, sha256_json

SCHEMA = 3  # of summary.json
SUBMISSIONS = "submissions"  # the folder of a leaderboard that holds summaries, one file each
UNSCORED = "`vpbench status` says how far it is; the same `vpbench run` command without limit, clips and shards does what is missing."
MOST_DIGITS = 15  # of a column: a float has no more
AVERAGES = ("clips", "frame_means", "frames", "set")
SAME = 1e-9  # relative: how far a stored value may be from the mean of its values per clip
AGAIN = "Run the same `vpbench run` command again."
AS_WRITTEN = "Use the summary.json that `vpbench run` wrote, as it is."
Values = NDArray[np.float64]
log = logging.getLogger(__name__)


def _none() -> Values:
    return np.empty(0)


@dataclass(frozen=True)
class Cell:
    """One column of a run: a metric in a region, with all that tables need to know of it.

    Attributes:
        column: ``metric[region]``.
        average: ``clips``, ``frame_means``, ``frames`` (the mean weighs every clip by its frames) or ``set``.
        value: unrounded, in the metric's natural unit; None where undefined or absent.
        n: clips that contributed.
        excluded: names of scored clips for which the metric is undefined, with the reason.
        scale: people's tables show ``value * scale``.
        digits: decimals in people's tables.
        absent: why the column could not be computed at all (missing weights); empty when it could.
        unranked: why its values are shown but never ranked; empty when they are.
        note: what a reader must know of the value.
        clips: (n clips,) the value of every scored clip, in the order of ``Summary.clips``; nan where undefined, inf where it is infinite;
            empty for set metrics and absent columns.
        frames: (n clips,) the frames that stand behind each value; empty where nothing is stored to check them against.
        without: (n clips,) of a set metric: its value without each clip, nan where undefined; empty for other metrics.
        vectors: of a set metric: the feature vectors that contributed.
        dimensions: of a set metric: the length of a feature vector; fewer clips than this leave it under-sampled. 0 where unknown.
    """

    metric: str
    region: str
    column: str
    unit: str
    direction: str
    digits: int
    scale: float
    average: str
    signature: str
    value: float | None
    n: int
    excluded: tuple[tuple[str, str], ...]
    exact_frames: int
    absent: str = ""
    unranked: str = ""
    note: str = ""
    clips: Values = field(default_factory=_none, compare=False, repr=False)
    frames: Values = field(default_factory=_none, compare=False, repr=False)
    without: Values = field(default_factory=_none, compare=False, repr=False)
    vectors: int = 0
    dimensions: int = 0

    @property
    def header(self) -> str:
        """Name, unit and arrow, e.g. ``psnr[hole] (dB) ↑``."""
        unit = f" ({self.unit})" if self.unit else ""
        scale = f" x{self.scale:g}" if self.scale != 1 else ""
        return f"{self.column}{unit}{scale} {'↑' if self.direction == 'higher' else '↓'}"

    @property
    def text(self) -> str:
        """The value as people read it; empty where there is none."""
        return "" if self.value is None else f"{self.value * self.scale:.{self.digits}f}"

    @property
    def under_sampled(self) -> bool:
        """Whether a set metric's value comes from fewer clips than its features have dimensions."""
        return self.value is not None and self.n < self.dimensions

    @property
    def weights(self) -> Values | None:
        """(n clips,) of the clips in the mean; None for equal ones."""
        return self.frames if self.average == "frames" else None


def clip_mean(values: Values, weights: Values | None = None) -> float | None:
    """The value of a column from its values per clip: None where no clip has one, or one is infinite."""
    if np.isinf(values).any():
        return None
    used = np.isfinite(values)
    weigh = used.astype(np.float64) if weights is None else np.where(used, weights, 0.0)
    total = math.fsum(weigh)
    return math.fsum(values[used] * weigh[used]) / total if total else None


@dataclass(frozen=True)
class Note:
    """What a model's run says that a reader of the table must know, and the scored clips that it is true of.

    >>> Note("lossy input: h264 yuv420p", ("a",)).brief
    'lossy input'
    """

    text: str
    clips: tuple[str, ...]

    @property
    def brief(self) -> str:
        """What marks the row: the part before the first colon."""
        return self.text.partition(": ")[0]


@dataclass(frozen=True)
class Summary:
    """One run under one protocol and track.

    Attributes:
        barred: why it is not ranked although its kind of model is; empty when it may be.
        notes: sorted by their text.
        clips: the scored clips, sorted by name; the arrays of cells follow this order.
        properties: what was measured of each clip itself (``vpbench.properties``), by its name.
        source: the file it was read from.
        digest: of that file's content.
        predictions: what the predictions were that it is of, see ``of_predictions``; empty where it does not say.
        slice: ``all``, or the clips that it was cut down to, e.g. ``operation=swap`` (``vpbench.slices``).
        partial: of a slice: why the run as a whole is not complete; empty when it is.
    """

    benchmark: str
    fingerprint: str
    model: str
    needs_reference: bool
    may_rank: bool
    run: str
    protocol: str
    track: str
    ok: int
    total: int
    failed: int
    mean_rank: tuple[str, ...]
    cells: tuple[Cell, ...]
    clips: tuple[str, ...] = ()
    properties: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False, repr=False)
    source: Path = field(default=Path(), compare=False)
    digest: str = ""
    slice: str = "all"
    partial: str = ""
    notes: tuple[Note, ...] = ()
    barred: str = ""
    predictions: str = field(default="", compare=False)

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What rows of one table share."""
        return (self.benchmark, self.fingerprint, self.protocol, self.track)

    def cell(self, column: str) -> Cell | None:
        """The cell of a column, where this run has it."""
        return self._by_column.get(column)

    @functools.cached_property
    def _by_column(self) -> dict[str, Cell]:
        return {cell.column: cell for cell in self.cells}

    @property
    def unranked(self) -> str:
        """Why this row takes no part in the ranking; empty when it does."""
        if self.needs_reference:
            return "; ".join(filter(None, ["sees hole", self.barred]))
        if self.barred:
            return f"not ranked: {self.barred}"
        if self.partial:
            return self.partial
        if self.ok != self.total:
            return f"{self.ok}/{self.total} clips" + (f", {self.failed} failed" if self.failed else "")
        return "" if self.may_rank else "not ranked: floor/ceiling row"


def load_summaries(paths: Sequence[Path]) -> list[Summary]:
    """Read the summaries of run folders, of folders that hold run folders, of leaderboards with submissions, and of JSON files.

    A JSON file holds one summary (a submission) or, under ``results``, several (a saved baseline). Folders whose name begins with
    ``.`` or ``_`` are skipped. A run named twice counts once, and so does an identical copy of it.

    Runs that have no scores yet, or none of a protocol and track that was begun, are left out, with a warning; so is said where scores
    are older than what their run has now.

    Raises:
        DataError: a path that does not exist or has no scores, or a file that is no summary of ours; names it.
    """
    found: dict[tuple[str, str], Summary] = {}
    for path in map(Path, paths):
        held = {holder: _files(holder) for holder in _holders(path)}
        files = [path] if path.is_file() else [file for found_there in held.values() for file in found_there]
        unscored = [holder for holder, found_there in held.items() if not found_there and (holder / "run.json").is_file()]
        if not path.exists():
            raise DataError(f"{path}: no such file or folder.")
        if not files:
            for file in sorted(path.glob("*.json")):
                _parsed(file)  # where one is broken, that is what is wrong
            if unscored:
                raise DataError(f"{unscored[0]}: holds no scores yet. {UNSCORED}")
            raise DataError(f"{path}: holds no scores (looked for scores/*/summary.json). Give a run folder, or run `vpbench run` first.")
        for run in unscored:
            log.warning("%s: is left out, it holds no scores yet. %s", run, UNSCORED)
        for begun in (scores for holder, found_there in held.items() if found_there for scores in sorted(holder.glob("scores/*"))):
            if begun.is_dir() and not (begun / "summary.json").exists():
                log.warning("%s: is left out, scores were begun and are not there. %s", begun, _completed(*begun.name.rsplit("-", 1)))
        for file in files:
            for summary in read_summaries(file):
                found.setdefault((summary.digest, summary.run), summary)
                if _is_of_run(file):
                    _say_what_is_not_in(summary)
    return sorted(found.values(), key=order)


def _completed(protocol: str, track: str = "raw") -> str:
    return f"The same `vpbench run` command with protocol={protocol} track={track}, without limit, clips and shards, does what is missing."


def _say_what_is_not_in(summary: Summary) -> None:
    """Warn where a run has records of more clips than its scores are of, or of other predictions of the same clips."""
    folder = summary.source.parents[2] / "clips"
    scored = {name: folder / f"{name}.json" for name in summary.clips}
    remedy = _completed(summary.protocol, summary.track)
    if summary.ok < summary.total:
        others = [name for path in folder.rglob("*.json") if (name := path.relative_to(folder).with_suffix("").as_posix()) not in scored]
        failed = sum(recorded(folder / f"{name}.json").get("status") == "failed" for name in others)
        if (more := len(others) - min(failed, summary.failed)) > 0:
            log.warning("%s: the run has %d more clips, which were begun since or are not measured so. %s", summary.source, more, remedy)
    try:
        youngest = max((path.stat().st_mtime_ns for path in scored.values()), default=0)
        if youngest < summary.source.stat().st_mtime_ns:
            return
    except (OSError, ValueError):  # only the scores are here, or a clip is to be done again
        return
    records = {name: recorded(path) for name, path in scored.items()}
    changed = sum(record.get("status") != "ok" for record in records.values())
    now = of_predictions({name: str(record.get("prediction")) for name, record in records.items()})
    if changed or summary.predictions not in ("", now):
        what = f"{changed} of its clips are not done" if changed else "predictions were made again since"
        log.warning("%s: is older than its run: %s. %s", summary.source, what, remedy)


def of_predictions(checksums: Mapping[str, str]) -> str:
    """What ties scores to the predictions that they are of: hex sha256 of the hex sha256 of each clip's file."""
    return sha256_json(dict(checksums))


def order(summary: Summary) -> tuple[str, ...]:
    """The key by which summaries are sorted; the last part decides between different runs of one id."""
    return (*summary.group, summary.model, summary.run, summary.digest)


def _holders(folder: Path) -> Iterator[Path]:
    """The folders, this one or below it, that hold results: runs, with scores or not yet, and leaderboards."""
    if any((folder / part).exists() for part in ("scores", SUBMISSIONS, "run.json")):
        yield folder
    elif folder.is_dir():
        for child in sorted(folder.iterdir()):
            if child.is_dir() and not child.name.startswith((".", "_")):
                yield from _holders(child)


def _files(holder: Path) -> list[Path]:
    return sorted(holder.glob("scores/*/summary.json" if (holder / "scores").is_dir() else f"{SUBMISSIONS}/**/*.json"))


def read_summaries(file: Path) -> list[Summary]:
    """Read the summaries of one JSON file.

    Raises:
        DataError: unreadable, no summary of ours, or of another schema.
    """
    return [_summary(part, file) for part in read_contents(file)]


def read_contents(file: Path) -> list[dict[str, Any]]:
    """The summaries of one JSON file as they were stored, not looked at.

    Raises:
        DataError: unreadable, or neither an object nor a list of objects under ``results``.
    """
    found = _parsed(file)
    parts = found.get("results") if isinstance(found, dict) and "results" in found else [found]
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise DataError(f"{file}: holds no summary (expected a JSON object).")
    return parts


def _parsed(file: Path) -> Any:
    try:
        return parse_json(file.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{file}: cannot be read as JSON ({error}). {advice(file)}") from error


def advice(file: Path) -> str:
    """What to do about a file that is damaged: only a run folder's own summary can be made again in its place."""
    return AGAIN if _is_of_run(file) else AS_WRITTEN


def _is_of_run(file: Path) -> bool:
    return file.name == "summary.json" and file.parent.parent.name == "scores"


def said(error: Exception) -> str:
    """An error of reading stored data as a part of a sentence."""
    return f"{error} is missing" if isinstance(error, KeyError) else str(error)


def _summary(found: Mapping[str, Any], file: Path) -> Summary:
    if found.get("schema") != SCHEMA:
        raise DataError(f"{file}: has schema {found.get('schema')!r}, this vpbench reads {SCHEMA}. {advice(file)}")
    try:
        clips = tuple(str(name) for name in found["clips"]["names"])
        if len(clips) != int(found["clips"]["ok"]):
            raise ValueError(f"{len(clips)} names for {found['clips']['ok']} clips")
        if list(clips) != sorted(set(clips)):
            raise ValueError("the clips' names are not sorted, or a name occurs twice")
        cells = tuple(_cell(column, len(clips)) for column in found["columns"])
        if len({cell.column for cell in cells}) < len(cells):
            raise ValueError("a column occurs twice")
        for cell, column in zip(cells, found["columns"], strict=True):
            if wrong := _contradiction(cell, column):
                raise DataError(f"{file}: {wrong}: one of them was changed. {advice(file)}")
        return Summary(
            benchmark=str(found["benchmark"]["name"]),
            fingerprint=str(found["benchmark"]["fingerprint"]),
            model=str(found["model"]["name"]),
            needs_reference=bool(found["model"]["needs_reference"]),
            may_rank=bool(found["model"]["ranked"]),
            run=str(found["run"]),
            protocol=str(found["protocol"]),
            track=str(found["track"]),
            ok=len(clips),
            total=int(found["clips"]["total"]),
            failed=len([(str(one["clip"]), str(one["reason"])) for one in found["clips"]["failed"]]),
            mean_rank=tuple(str(name) for name in found["mean_rank"]),
            cells=cells,
            clips=clips,
            properties={str(name): dict(found["clips"]["properties"].get(name, {})) for name in clips},
            source=file,
            digest=_digest(found, cells),
            barred=str(found["model"].get("barred", "")),
            predictions=str(found["clips"].get("predictions", "")),
            notes=tuple(
                sorted(
                    (Note(str(note["note"]), tuple(map(str, note["clips"]))) for note in found["model"].get("notes", ())),
                    key=lambda note: note.text,
                )
            ),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise DataError(f"{file}: is not a summary ({said(error)}). {advice(file)}") from error


ARRAYS = ("values", "clip_frames", "leave_one_out")


def _digest(found: Mapping[str, Any], cells: Sequence[Cell]) -> str:
    """Of all that a summary holds. Numbers per clip go in as bytes: as text they would take longer than everything else in a table."""
    rest = [{key: value for key, value in column.items() if key not in ARRAYS} for column in found["columns"]]
    digest = hashlib.sha256(json.dumps({**found, "columns": rest}, sort_keys=True).encode())
    for cell in cells:
        for array in (cell.clips, cell.frames, cell.without):
            digest.update(len(array).to_bytes(8, "little") + array.tobytes())
    return digest.hexdigest()


def _cell(column: Mapping[str, Any], clips: int) -> Cell:
    value = None if column["value"] is None else float(column["value"])
    if value is not None and not math.isfinite(value):
        raise ValueError(f"{column['column']} is {value}")
    if column["direction"] not in ("higher", "lower"):
        raise ValueError(f"direction {column['direction']!r}")
    if column["average"] not in AVERAGES:
        raise ValueError(f"average {column['average']!r}")
    frames = _values(column, "clip_frames", clips)
    if column["average"] != "frames" and "frames" not in column:
        frames = _none()  # nothing that they could be checked against
    cell = Cell(
        metric=str(column["metric"]),
        region=str(column["region"]),
        column=str(column["column"]),
        unit=str(column["unit"] or ""),
        direction=column["direction"],
        digits=int(column["digits"]),
        scale=float(column["scale"]),
        average=str(column["average"]),
        signature=str(column["signature"]),
        value=value,
        n=int(column["n"]),
        excluded=tuple(sorted((str(clip["clip"]), str(clip["reason"])) for clip in column["excluded"])),
        exact_frames=int(column["exact_frames"]),
        absent=str(column["absent"]),
        unranked=str(column["unranked"]),
        note=str(column.get("note", "")),
        clips=_values(column, "values", clips),
        frames=frames,
        without=_values(column, "leave_one_out", clips),
        vectors=int(column.get("vectors", 0)),
        dimensions=int(column.get("dimensions", 0)),
    )
    if not 0 <= cell.digits <= MOST_DIGITS or not 0 < cell.scale < math.inf:
        raise ValueError(f"{cell.column}: {cell.digits} digits of values times {cell.scale:g}")
    if cell.absent and (value is not None or len(cell.clips) or len(cell.without)):
        raise ValueError(f"{cell.column} has values, and is absent: {cell.absent}")
    if len(cell.clips) and cell.weights is not None and len(cell.weights) != len(cell.clips):
        raise ValueError(f"{cell.column}: a mean over frames without the frames of each clip")
    if not (np.isfinite(cell.frames) & (cell.frames >= 0)).all():
        raise ValueError(f"{cell.column}: clip_frames hold what is no number of frames")
    return cell


def _contradiction(cell: Cell, column: Mapping[str, Any]) -> str:
    """What in a column is not the sum or mean of its values per clip; empty where all is."""
    if not len(cell.clips):
        return ""
    mean = clip_mean(cell.clips, cell.weights)
    size = np.abs(cell.clips[np.isfinite(cell.clips)])
    if (mean is None) != (cell.value is None) or (
        mean is not None and cell.value is not None and abs(mean - cell.value) > SAME * float(size.mean())
    ):
        return f"{cell.column} is stored as {cell.value}, but the mean of its values per clip is {mean}"
    if cell.n != len(size):
        return f"{cell.column} counts {cell.n} clips, but {len(size)} have a value"
    if len(cell.frames) and "frames" in column and int(column["frames"]) != cell.frames[np.isfinite(cell.clips)].sum():
        total = int(cell.frames[np.isfinite(cell.clips)].sum())
        return f"{cell.column} counts {column['frames']} frames, but those of its clips are {total}"
    return ""


def _values(column: Mapping[str, Any], key: str, clips: int) -> Values:
    """A list of numbers, one per clip; null is nan and the text ``inf`` is infinite."""
    found = column.get(key) or []
    if found and len(found) != clips:
        raise ValueError(f"{column['column']}: {len(found)} {key} for {clips} clips")
    if not set(map(type, found)) <= {float, int, type(None)} and any(
        value not in ("inf", "-inf") for value in found if isinstance(value, str)
    ):
        raise ValueError(f"{column['column']}: {key} hold text")
    return np.array(found, dtype=np.float64)  # None becomes nan
