"""What the pages of one table say: its clips in order, values per clip and frame, seconds, and the differences of every two models."""

from __future__ import annotations

import csv
import functools
import hashlib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vpbench.benchmarks.common import check_name
from vpbench.errors import DataError
from vpbench.report.sources import RunFolder, view_of
from vpbench.results import Cell
from vpbench.statistics import Paired, paired, paired_sets
from vpbench.table_html import escape
from vpbench.table_text import ENDS, notes, short, with_commands
from vpbench.tables import Group, Row
from vpbench.views import View

NUMBERS = ("frames", "fps", "height", "width", "coverage", "motion")  # of a clip's properties, those that its page shows
MOST_FRAMES = 1_000_000  # that a clip's table of values per frame may speak of
DIGITS = 6  # significant ones of the numbers in pages' data
Floats = NDArray[np.float64]


def slug(name: str) -> str:
    """A name as a safe file name and link; names that differ have slugs that differ.

    >>> slug("bmx-trees"), slug("../a b")
    ('bmx-trees', 'a-b-2c2c791a')
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")[:80]
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}".lstrip("-")


def number(value: float | None, digits: int = DIGITS) -> float | str | None:
    """A number as JSON holds it: nan is null, infinity the text ``inf``."""
    if value is None or math.isnan(value):
        return None
    return float(f"{value:.{digits}g}") if math.isfinite(value) else str(value)


@dataclass(frozen=True)
class Section:
    """One table of the report.

    Attributes:
        group: rows of equal benchmark data, protocol and track.
        runs: the run folder of each row; None where it has numbers alone.
    """

    group: Group
    runs: tuple[RunFolder | None, ...]

    @classmethod
    def of(cls, group: Group) -> Section:
        """Find the run folders.

        Raises:
            DataError: a run names a clip that cannot be a file's name.
            StorageError: a damaged ``run.json``.
        """
        runs = tuple(RunFolder.of(row.summary) for row in group.rows)
        for row, run in zip(group.rows, runs, strict=True):
            if run is not None:
                for clip in row.summary.clips:
                    check_name(clip, row.summary.source)
        return cls(group, runs)

    @property
    def title(self) -> str:
        """Heading for people."""
        return short(self.group.title)

    @functools.cached_property
    def labels(self) -> list[str]:
        """What the rows are called, on one line each."""
        return [short(row.label) for row in self.rows]

    @functools.cached_property
    def notes(self) -> list[Markup]:
        """Footnotes of the table, commands in them as code."""
        lines = notes(self.group, intervals=True, shown=ENDS)
        return [Markup(with_commands(line, escape, "<code>{}</code>".format)) for line in lines]

    @property
    def slug(self) -> str:
        """Folder of its pages."""
        group = self.group
        return slug(f"{group.benchmark}-{group.protocol}-{group.track}-{group.fingerprint[:8]}")

    @property
    def rows(self) -> tuple[Row, ...]:
        """Of the table, ranked ones first."""
        return self.group.rows

    @functools.cached_property
    def columns(self) -> list[Cell]:
        """Columns in which a row has a value, or a clip has one."""
        defined = {cell.column for cell in self.group.defined}
        per_clip = {cell.column for row in self.rows for cell in row.summary.cells if np.isfinite(cell.clips).any()}
        return [cell for cell in self.group.columns if cell.column in defined | per_clip]

    @property
    def ranking_columns(self) -> list[Cell]:
        """Columns of the ranked table: those in which a row has a value, the ones of the mean rank first."""
        counted = {name for row in self.rows for name in row.summary.mean_rank}
        return sorted(self.group.defined, key=lambda cell: cell.column not in counted)

    @functools.cached_property
    def clip_columns(self) -> list[Cell]:
        """Columns with values per clip."""
        have = {cell.column for row in self.rows for cell in row.summary.cells if len(cell.clips)}
        return [cell for cell in self.columns if cell.column in have]

    @functools.cached_property
    def main_column(self) -> Cell | None:
        """The column that clips are ordered by at first: the first of the mean rank that has values per clip."""
        counted = [name for row in self.rows for name in row.summary.mean_rank]
        chosen = [cell for name in counted for cell in self.clip_columns if cell.column == name]
        return next(iter([*chosen, *self.clip_columns]), None)

    @functools.cached_property
    def all_clips(self) -> list[str]:
        """Names of the clips that at least one row has scored, sorted."""
        found = {clip for row in self.rows for clip in row.summary.clips}
        return sorted(found)

    @functools.cached_property
    def clips(self) -> list[str]:
        """The clips, worst first: by ``means``."""
        if self.main_column is None:
            return self.all_clips
        sign = 1.0 if self.main_column.direction == "higher" else -1.0
        return sorted(self.all_clips, key=lambda clip: (math.isnan(self.means[clip]), sign * self.means[clip], clip))

    @functools.cached_property
    def means(self) -> dict[str, float]:
        """Of each clip: the main column's mean over the ranked rows (over all, where none is ranked); nan where undefined."""
        if self.main_column is None:
            return {}
        values = self.values(self.main_column.column)
        ranked = [index for index, row in enumerate(self.rows) if not row.reason] or list(range(len(self.rows)))
        return {clip: _mean(values[ranked, index]) for index, clip in enumerate(self.all_clips)}

    def values(self, column: str) -> Floats:
        """(rows, clips) of ``all_clips``: the value of each clip, nan where it has none."""
        place = {clip: index for index, clip in enumerate(self.all_clips)}
        result = np.full((len(self.rows), len(place)), np.nan)
        for index, row in enumerate(self.rows):
            cell = row.summary.cell(column)
            if cell is not None and len(cell.clips):
                result[index, [place[clip] for clip in row.summary.clips]] = cell.clips
        return result

    @functools.cached_property
    def seconds(self) -> list[float | None]:
        """Seconds per frame of each row; None where no run folder says."""
        return [run.seconds_per_frame(row.summary) if run else None for row, run in zip(self.rows, self.runs, strict=True)]

    @property
    def machines(self) -> list[str]:
        """Where the rows ran, each machine once."""
        return sorted({run.machine for run in self.runs if run is not None and run.machine})

    @functools.cached_property
    def views(self) -> list[View]:
        """What was scored, of each row."""
        return [view_of(row.summary) for row in self.rows]

    def properties(self, clip: str) -> Mapping[str, Any]:
        """What was measured of a clip itself; empty where no row knows it.

        Raises:
            DataError: a damaged property; names the file.
        """
        for row in self.rows:
            found = row.summary.properties.get(clip)
            if found:
                for key in NUMBERS:
                    value = found.get(key)
                    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                        raise DataError(f"{row.summary.source}: {clip}: {key} is {value!r}, not a number. Run the same command again.")
                if not isinstance(tags := found.get("tags", []), list):
                    raise DataError(f"{row.summary.source}: {clip}: tags is {tags!r}, not a list. Run the same command again.")
                return {**found, "tags": tags}
        return {}

    def curves(self, clip: str) -> dict[str, list[list[float | str | None]]]:
        """Values per frame of a clip: by column one list per row; a row without any has an empty list.

        Raises:
            DataError: a damaged file of frames; names it.
        """
        tables = [self._frames(index, clip) for index in range(len(self.rows))]
        names = [cell.column for cell in self.columns if any(cell.column in table for table in tables)]
        return {name: [table.get(name, []) for table in tables] for name in names}

    def _frames(self, index: int, clip: str) -> dict[str, list[float | str | None]]:
        run, summary = self.runs[index], self.rows[index].summary
        path = summary.source.parent / "frames" / f"{clip}.csv"
        if run is None or not path.exists():
            return {}
        return read_frames(path)

    def pairs(self, column: Cell) -> list[list[list[float | str | None]]]:
        """The difference of row i and row j > i at ``[i][j - i - 1]``: clips, difference, low, high; empty where not comparable."""
        cells = [row.summary.cell(column.column) for row in self.rows]
        values = self.values(column.column)
        found = []
        for i in range(len(cells)):
            line: list[list[float | str | None]] = []
            for j in range(i + 1, len(cells)):
                one, other = cells[i], cells[j]
                line.append([] if not one or not other else _interval(self._paired(one, other, i, j, values)))
            found.append(line)
        return found

    def _paired(self, one: Cell, other: Cell, i: int, j: int, values: Floats) -> Paired | None:
        if one.signature != other.signature:
            return None
        if len(one.clips) and len(other.clips):
            return paired(values[i], values[j], self._weights(one, i) if one.average == "frames" else None)
        same = self.rows[i].summary.clips == self.rows[j].summary.clips and len(one.without) == len(other.without) > 0
        if same and one.value is not None and other.value is not None:
            return paired_sets(one.value, other.value, one.without, other.without)
        return None

    def _weights(self, cell: Cell, index: int) -> Floats:
        frames = dict(zip(self.rows[index].summary.clips, cell.frames, strict=True))
        return np.array([frames.get(clip, 0.0) for clip in self.all_clips])


def read_frames(path: Path) -> dict[str, list[float | str | None]]:
    """Read ``frames/<clip>.csv``: a list per column, null where a frame has no value.

    Raises:
        DataError: not the table that a run writes; names the file.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            header, *lines = list(csv.reader(file))
        if header[:1] != ["frame"] or any(len(line) != len(header) for line in lines):
            raise ValueError("expected a first column named frame and lines of equal length")
        frames = [int(line[0]) for line in lines]
        if frames != sorted(set(frames)) or (frames and not 0 <= frames[0] <= frames[-1] < MOST_FRAMES):
            raise ValueError("expected ascending numbers of frames")
        columns: dict[str, list[float | str | None]] = {name: [None] * (frames[-1] + 1 if frames else 0) for name in header[1:]}
        for frame, line in zip(frames, lines, strict=True):
            for name, text in zip(header[1:], line[1:], strict=True):
                columns[name][frame] = number(float(text)) if text else None
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as values per frame ({error}). Run the same `vpbench run` command again.") from error
    return columns


def _mean(values: Floats) -> float:
    """Of what is defined; infinite where a value is, nan where none is."""
    found = values[~np.isnan(values)]
    return float(found.mean()) if len(found) else math.nan


def _interval(found: Paired | None) -> list[float | str | None]:
    if found is None or not found.n:
        return []
    low, high = found.interval()
    return [found.n, number(found.difference), number(low), number(high)]
