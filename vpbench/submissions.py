"""Leaderboards in git: submissions, the tables made from them, and the checks that both still belong together.

A leaderboard is a folder::

    submissions/<benchmark>/<protocol>-<track>/<model>.json   a run's summary.json as it is, with its values per clip
    leaderboard.json, .csv, .md, ...                          tables of all submissions; the JSON holds the options they were made with

``verify`` makes the tables again and compares bytes. ``compare`` holds a fresh run against the submissions, within a tolerance.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpbench.errors import ConfigError, DataError
from vpbench.results import SUBMISSIONS, Cell, Summary, load_summaries, read_contents, read_summaries, said
from vpbench.slices import check_dimensions
from vpbench.storage import parse_json, to_json, write_bytes
from vpbench.tables import PAIRS, Options, Table, check_columns, rank, table_files, write_tables

RECORD = "leaderboard.json"  # of the tables, it holds the options
LONGEST = 100  # characters of a file's name
LAST_DIGITS = 2  # default tolerance, in units of the last decimal that tables show of a column
log = logging.getLogger(__name__)


def submit(runs: Sequence[Path], leaderboard: Path, options: Options) -> tuple[Table, list[Path]]:
    """Store the runs' summaries as submissions and make the tables of all submissions that the leaderboard then has.

    A submission of the same benchmark, protocol, track and model is replaced, unless it is of these clips and more (the log says so);
    the others stay.

    Returns:
        The tables, and the files of the submissions that were written.

    Raises:
        DataError: a run without scores, or a column whose values per clip are not stored.
        ConfigError: an unknown slice or column.
        StorageError: the folder cannot be written.
    """
    check_dimensions(options.by)
    summaries = load_summaries(runs)
    others = load_summaries([leaderboard]) if options.columns and any((leaderboard / SUBMISSIONS).glob("**/*.json")) else []
    check_columns([*summaries, *others], options.columns)
    files = {leaderboard / SUBMISSIONS / name: summary for name, summary in _names(summaries).items()}
    contents = {file: to_json(_content(_complete(summary))) for file, summary in files.items()}  # all, before any is written
    written = [file for file, summary in files.items() if not _stays(file, summary)]
    for file in written:
        write_bytes(file, contents[file])
    return write_tables([leaderboard], leaderboard, options), written


def _stays(file: Path, new: Summary) -> bool:
    """Whether a submission that lies there is of all clips of a new one and more."""
    try:
        old = read_summaries(file)
    except DataError:  # none, or damaged
        return False
    more = [one for one in old if one.fingerprint == new.fingerprint and set(one.clips) > set(new.clips)]
    if more:
        log.warning("%s: stays, of %d clips: %s has %d. Remove it to replace it.", file, more[0].ok, new.source, new.ok)
    return bool(more)


def _names(summaries: Sequence[Summary]) -> dict[str, Summary]:
    """A file for each summary: named by its model, by its run where several of a model are given, else by its content."""

    def path(summary: Summary, name: str) -> str:
        return f"{_safe(summary.benchmark)}/{_safe(f'{summary.protocol}-{summary.track}')}/{_safe(name)}.json"

    by_model = Counter(path(s, s.model).casefold() for s in summaries)
    by_run = Counter(path(s, s.run).casefold() for s in summaries)
    found: dict[str, Summary] = {}
    for summary in summaries:
        name = path(summary, summary.model)
        if by_model[name.casefold()] > 1:
            name = path(summary, summary.run)
            if by_run[name.casefold()] > 1:
                name = path(summary, f"{summary.run}-{summary.digest[:8]}")
        found[name] = summary
    return found


def _safe(name: str) -> str:
    """A name as a file's name on every system; changed ones carry a hash of the original, so that no two become one.

    >>> _safe("telea"), _safe("../x")
    ('telea', '_.._x-d6b96a97')
    """
    kept = re.sub(r"[^A-Za-z0-9._+-]", "_", name)[:LONGEST]
    if kept == name and kept and not kept.startswith((".", "_")):
        return kept
    return f"_{kept}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _complete(summary: Summary) -> Summary:
    """The summary, if all its values can be checked.

    Raises:
        DataError: a column has a value and none per clip.
    """
    for cell in summary.cells:
        if cell.average != "set" and cell.value is not None and not len(cell.clips):
            raise DataError(
                f"{summary.source}: {cell.column} has a value but none per clip, so nobody can check it. "
                "Submit the summary.json that `vpbench run` wrote."
            )
    return summary


def _content(summary: Summary) -> dict[str, Any]:
    """What the summary's file holds of it."""
    parts = read_contents(summary.source)
    found = next((part for part, read in zip(parts, read_summaries(summary.source), strict=True) if read.digest == summary.digest), None)
    if found is None:
        raise DataError(f"{summary.source}: changed while it was read. Run the same command again.")
    return found


def leaderboards(folder: Path) -> list[Path]:
    """The leaderboards at or below a folder.

    Raises:
        DataError: there are none.
    """
    found = sorted(path.parent for path in folder.rglob(SUBMISSIONS) if path.is_dir())
    if not found:
        raise DataError(
            f"{folder}: holds no leaderboard (looked for a folder {SUBMISSIONS}/). Make one with `vpbench rank RUNS -o DIR --submissions`."
        )
    return found


def read_options(leaderboard: Path) -> Options:
    """The options that a leaderboard's tables were made with.

    Raises:
        DataError: there is no record, or it is damaged; names the file.
    """
    file = leaderboard / RECORD
    again = f"Make the tables again: `vpbench rank {leaderboard} -o {leaderboard}` with the options you want."
    try:
        found = parse_json(file.read_bytes())["options"]
        if not all(isinstance(found[key], bool) for key in ("intervals", "pairs")):
            raise ValueError("intervals and pairs must be true or false")
        if not isinstance(found["columns"], list):
            raise ValueError("columns must be a list of names")
        return Options(check_dimensions(map(str, found["by"])), found["intervals"], found["pairs"], tuple(map(str, found["columns"])))
    except (OSError, ValueError, KeyError, TypeError, RecursionError, ConfigError) as error:
        raise DataError(f"{file}: does not say how the tables were made ({said(error)}). {again}") from error


def verify(leaderboard: Path) -> tuple[list[str], int, int]:
    """Make a leaderboard's tables again from its submissions and compare them with those that are there.

    Returns:
        What differs, one line per file; how many tables there are; from how many submissions.

    Raises:
        DataError: no submissions or options, a damaged submission, or one whose values cannot be checked.
    """
    options = read_options(leaderboard)
    summaries = [_complete(summary) for summary in load_summaries([leaderboard])]
    files = table_files(rank(summaries, options.by), options)
    differences = [line for name, text in files.items() if (line := _difference(leaderboard / name, text))]
    if not options.pairs and (leaderboard / PAIRS).exists():
        differences.append(f"{leaderboard / PAIRS}: does not belong here, the tables were made without pairs.")
    return differences, len(files), len(summaries)


def _difference(file: Path, expected: str) -> str:
    try:
        found = file.read_bytes()
    except FileNotFoundError:
        return f"{file}: is missing."
    except OSError as error:
        raise DataError(f"{file}: cannot be read ({error.strerror or error}).") from error
    if found == expected.encode():
        return ""
    lines, wanted = found.decode(errors="replace").split("\n"), expected.split("\n")
    line = next((i for i, (one, other) in enumerate(zip(lines, wanted, strict=False)) if one != other), min(len(lines), len(wanted)))
    here, there = ((text[line] if line < len(text) else "(the file ends here)") for text in (lines, wanted))
    return f"{file}: line {line + 1} differs from what the submissions give.\n{_apart(here, there)}"


def _apart(here: str, there: str, shown: int = 160) -> str:
    """Two lines from shortly before where they part."""
    part = next((i for i, (one, other) in enumerate(zip(here, there, strict=False)) if one != other), min(len(here), len(there)))
    start = max(0, part - 60)
    begin = "..." if start else ""
    return f"  there: {begin}{here[start : start + shown]}\n  made:  {begin}{there[start : start + shown]}"


@dataclass(frozen=True)
class Comparison:
    """A fresh run held against its submission.

    Attributes:
        differences: what differs by more than the tolerance, or cannot be compared.
        notes: what a reader should know that is no failure.
        values: how many values were compared.
        rows: how many submissions.
    """

    differences: tuple[str, ...]
    notes: tuple[str, ...]
    values: int
    rows: int


def parse_tolerances(given: Sequence[str]) -> dict[str, float]:
    """Read ``METRIC=VALUE`` or ``VALUE`` (for all other metrics, under the empty name), in a metric's natural unit.

    Raises:
        ConfigError: not of that form, or negative.
    """
    found = {}
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not (math.isfinite(value) and value >= 0):
            raise ConfigError(
                f"--tolerance {text!r}: expected METRIC=VALUE or VALUE, for example psnr=0.05; the value in the metric's own unit."
            )
        found[name] = value
    return found


def check_tolerances(tolerances: Mapping[str, float], leaderboard: Path) -> None:
    """Refuse a tolerance for what no submission has.

    Raises:
        ConfigError: neither a metric nor a column; suggests the nearest and lists all.
        DataError: no submissions, or a damaged one.
    """
    if not any(tolerances):
        return
    names = {name for summary in load_summaries([leaderboard]) for cell in summary.cells for name in (cell.metric, cell.column)}
    if unknown := [name for name in tolerances if name and name not in names]:
        from vpbench.configuration import unknown_name

        raise unknown_name("--tolerance", unknown[0], names)


def compare(runs: Sequence[Path], leaderboard: Path, tolerances: Mapping[str, float]) -> Comparison:
    """Hold fresh runs against the submissions of the same benchmark, protocol, track and model.

    The values of every column and of every clip must agree within the metric's tolerance, which is by default two units of the last
    decimal that tables show. Other signatures, columns or clips are differences; another fingerprint of the benchmark is a note, because
    that the values agree in spite of slightly different pixels is what a tolerance is for.

    Args:
        runs: folders of the fresh runs.
        leaderboard: the folder with submissions.
        tolerances: by metric, by column, or under the empty name for all others; natural units.

    Raises:
        DataError: nothing to read on one side.
        ConfigError: a tolerance for a metric that no submission has.
    """
    check_tolerances(tolerances, leaderboard)
    theirs = load_summaries([leaderboard])
    ours = load_summaries(runs)
    stored: dict[tuple[str, ...], list[Summary]] = {}
    for summary in theirs:
        stored.setdefault(_key(summary), []).append(summary)
    differences: list[str] = []
    notes: list[str] = []
    values = rows = 0
    for summary in ours:
        candidates = stored.get(_key(summary), [])
        name = " ".join(_key(summary))
        if not candidates:
            notes.append(f"{name}: has no submission.")
            continue
        other = next((one for one in candidates if one.run == summary.run), candidates[0])
        rows += 1
        if other.fingerprint != summary.fingerprint:
            notes.append(
                f"{name}: other benchmark data (fingerprint {summary.fingerprint[:12]}, submitted {other.fingerprint[:12]}); "
                "another version of what renders or decodes the clips does that."
            )
        found, count = _compare(summary, other, tolerances)
        differences += [f"{name}: {line}" for line in found]
        values += count
    seen = {_key(summary) for summary in ours}
    notes += [f"{' '.join(key)}: was not run again." for key in stored if key not in seen]
    if not values and not differences:
        differences.append("nothing was compared: no run has a submission of the same benchmark, protocol, track and model.")
    return Comparison(tuple(differences), tuple(notes), values, rows)


def _key(summary: Summary) -> tuple[str, ...]:
    return (summary.benchmark, summary.protocol, summary.track, summary.model)


def _compare(ours: Summary, theirs: Summary, tolerances: Mapping[str, float]) -> tuple[list[str], int]:
    found: list[str] = []
    count = 0
    if ours.clips != theirs.clips:
        missing, more = sorted(set(theirs.clips) - set(ours.clips)), sorted(set(ours.clips) - set(theirs.clips))
        parts = [
            f"{what} {', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"
            for what, names in (("without", missing), ("also", more))
            if names
        ]
        return [f"other clips ({'; '.join(parts)})."], 0
    for cell in theirs.cells:
        mine = ours.cell(cell.column)
        if mine is None or (mine.absent and not cell.absent):
            found.append(f"{cell.column} is missing{f' ({mine.absent})' if mine else ''}.")
        elif cell.absent:
            continue
        elif mine.signature != cell.signature:
            found.append(f"{cell.column} has another signature: {mine.signature}, submitted {cell.signature}.")
        else:
            lines, compared = _compare_cells(mine, cell, ours.clips, _tolerance(cell, tolerances))
            found += lines
            count += compared
    return found, count


def _tolerance(cell: Cell, tolerances: Mapping[str, float]) -> float:
    default = LAST_DIGITS * 10.0**-cell.digits / cell.scale
    return tolerances.get(cell.column, tolerances.get(cell.metric, tolerances.get("", default)))


def _compare_cells(mine: Cell, theirs: Cell, clips: Sequence[str], tolerance: float) -> tuple[list[str], int]:
    found = []
    one, other = (math.nan if cell.value is None else cell.value for cell in (mine, theirs))
    if not _near(np.array([one]), np.array([other]), tolerance)[0]:
        found.append(f"{theirs.column} is {one:.10g}, submitted {other:.10g} (tolerance {tolerance:g}).")
    if len(mine.clips) != len(theirs.clips):
        return [*found, f"{theirs.column} has values per clip on one side only."], 1
    far = np.flatnonzero(~_near(mine.clips, theirs.clips, tolerance))
    if len(far):
        with np.errstate(invalid="ignore"):
            distance = np.nan_to_num(np.abs(mine.clips[far] - theirs.clips[far]), nan=math.inf)
        worst = far[int(np.argmax(distance))]
        found.append(
            f"{theirs.column} differs on {len(far)} of {len(clips)} clips, most on {clips[worst]}: "
            f"{mine.clips[worst]:.10g}, submitted {theirs.clips[worst]:.10g} (tolerance {tolerance:g})."
        )
    return found, 1 + len(mine.clips)


def _near(one: np.ndarray[Any, np.dtype[np.float64]], other: np.ndarray[Any, np.dtype[np.float64]], tolerance: float) -> Any:
    with np.errstate(invalid="ignore"):
        return (one == other) | (np.isnan(one) & np.isnan(other)) | (np.abs(one - other) <= tolerance)
