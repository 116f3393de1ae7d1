"""Ranked tables from finished runs: reads only ``summary.json`` files, so it needs neither torch nor any metric.

Rows are ranked only with equal benchmark fingerprint and with all clips present, and only when the columns of the mean rank have equal
signatures and leave out the same clips; the rest is shown below the line with the reason. A column that does not count in the mean rank
is ranked among those rows that agree on it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vpbench.results import Cell, Summary, load_summaries, order

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

NO_LIMIT = 100_000  # characters: a width in which every table fits
WIDE = 300  # columns of text where standard output is no terminal: nothing is cut


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        label: the model's name, or the run's id where two runs of a table share a name.
        ranks: rank by column, for ranked rows; ties share the best rank (1, 1, 3).
        mean_rank: mean over the protocol's mean-rank columns; None for unranked rows.
        place: rank of the row by its mean rank; None for unranked rows.
        reason: why the row is not ranked.
    """

    summary: Summary
    label: str
    ranks: dict[str, int] = field(default_factory=dict)
    mean_rank: float | None = None
    place: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Group:
    """One table: rows of equal benchmark data, protocol and track; ranked rows first, in order of their mean rank."""

    benchmark: str
    fingerprint: str
    protocol: str
    track: str
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        """Heading for people."""
        return f"{self.benchmark} · {self.protocol} · {self.track}"

    @property
    def columns(self) -> list[Cell]:
        """The columns, in order of first appearance, each as one of its cells."""
        found: dict[str, Cell] = {}
        for row in self.rows:
            for cell in row.summary.cells:
                found.setdefault(cell.column, cell)
        return list(found.values())

    @property
    def defined(self) -> list[Cell]:
        """Columns in which at least one row has a value."""
        return [c for c in self.columns if any((cell := row.summary.cell(c.column)) and cell.value is not None for row in self.rows)]

    def place(self, row: Row, column: str) -> str:
        """``best`` or ``second`` for a ranked row's cell that deserves it, else empty; ties share."""
        ranks = sorted({r.ranks[column] for r in self.rows if column in r.ranks})
        rank = row.ranks.get(column)
        if rank is None or len([r for r in self.rows if column in r.ranks]) < 2:
            return ""
        return "best" if rank == ranks[0] else "second" if len(ranks) > 1 and rank == ranks[1] else ""


@dataclass(frozen=True)
class Table:
    """All groups, in order of benchmark, fingerprint, protocol and track."""

    groups: tuple[Group, ...]


def absent_metrics(absent: Mapping[str, str]) -> dict[str, str]:
    """Columns that could not be computed, with the reason; those of one reason are one entry.

    >>> absent_metrics({"lpips[frame]": "no weights", "lpips[hole]": "no weights", "fvd[frame]": "no network", "pvcs[frame]": "no network"})
    {'lpips[frame, hole]': 'no weights', 'fvd[frame], pvcs[frame]': 'no network'}
    """
    reasons: dict[str, dict[str, list[str]]] = {}
    for column, reason in absent.items():
        metric, _, region = column.rstrip("]").partition("[")
        reasons.setdefault(reason, {}).setdefault(metric, []).append(region)
    return {", ".join(f"{metric}[{', '.join(found)}]" for metric, found in metrics.items()): reason for reason, metrics in reasons.items()}


def rank(summaries: Iterable[Summary]) -> Table:
    """Rank the rows of every group; see the module's text for which rows take part."""
    groups: dict[tuple[str, str, str, str], list[Summary]] = {}
    for summary in sorted(summaries, key=order):
        groups.setdefault(summary.group, []).append(summary)
    return Table(tuple(_group(key, groups[key]) for key in sorted(groups)))


def _group(key: tuple[str, str, str, str], summaries: Sequence[Summary]) -> Group:
    rows = [Row(s, label, reason=s.unranked) for s, label in zip(summaries, _labels(summaries), strict=True)]
    rows = _comparable(rows)
    ranked = [row for row in rows if not row.reason]
    ranks: list[dict[str, int]] = [{} for _ in ranked]
    for column in dict.fromkeys(cell.column for row in ranked for cell in row.summary.cells):
        for index, place in _column_ranks([row.summary for row in ranked], column).items():
            ranks[index][column] = place
    counted = [name for name in (ranked[0].summary.mean_rank if ranked else ()) if all(name in places for places in ranks)]
    means = [sum(places[name] for name in counted) / len(counted) for places in ranks] if counted else []
    final = [row for row in rows if row.reason]
    for index, row in enumerate(ranked):
        mean = means[index] if means else None
        place_ = None if mean is None else 1 + sum(other < mean for other in means)
        final.append(dataclasses.replace(row, ranks=ranks[index], mean_rank=mean, place=place_))
    final.sort(key=lambda row: (bool(row.reason), row.mean_rank or 0.0, row.label))
    return Group(*key, rows=tuple(final))


def _labels(summaries: Sequence[Summary]) -> list[str]:
    models, runs = [s.model for s in summaries], [s.run for s in summaries]
    labels = []
    for index, summary in enumerate(summaries):
        if runs.count(summary.run) > 1:  # one id, different contents: say so rather than hide one of them
            labels.append(f"{summary.run} ({runs[: index + 1].count(summary.run)})")
        else:
            labels.append(summary.run if models.count(summary.model) > 1 else summary.model)
    return labels


Basis = tuple[tuple[str, str, tuple[str, ...]], ...]  # of each column in the mean rank: its name, signature and the clips it leaves out


def _comparable(rows: Sequence[Row]) -> list[Row]:
    """Keep only one basis among the ranked rows, the one most of them have; the others say what differs."""
    bases = {row.label: _basis(row.summary) for row in rows if not row.reason}
    if not bases:
        return list(rows)
    found = list(bases.values())
    usual = min(found, key=lambda basis: (-found.count(basis), _lacking(basis), sum(len(clips) for _, _, clips in basis), basis))
    return [row if row.reason else dataclasses.replace(row, reason=_difference(bases[row.label], usual)) for row in rows]


def _basis(summary: Summary) -> Basis:
    found = ((name, summary.cell(name)) for name in summary.mean_rank)
    return tuple((name, cell.signature, _clips(cell)) if cell and not cell.absent else (name, "", ()) for name, cell in found)


def _lacking(basis: Basis) -> int:
    return sum(not signature for _, signature, _ in basis)


def _clips(cell: Cell) -> tuple[str, ...]:
    return tuple(clip for clip, _ in cell.excluded)


def _difference(basis: Basis, usual: Basis) -> str:
    if basis == usual:
        return ""
    if [name for name, _, _ in basis] != [name for name, _, _ in usual]:
        return "not ranked: the mean rank counts other columns"
    for (name, signature, clips), (_, theirs, their_clips) in zip(basis, usual, strict=True):
        if signature != theirs:
            return f"other signature: {signature or f'{name} is absent'}"
        if clips != their_clips:
            return f"not ranked: {name} is undefined on other clips"
    return ""


def _column_ranks(summaries: Sequence[Summary], column: str) -> dict[int, int]:
    """Competition ranks (1, 1, 3) by position, among the rows with the usual signature and clips of this column."""
    cells = {index: cell for index, s in enumerate(summaries) if (cell := s.cell(column)) and cell.value is not None and not cell.unranked}
    if not cells:
        return {}
    bases = [(cell.signature, _clips(cell)) for cell in cells.values()]
    usual = min(bases, key=lambda basis: (-bases.count(basis), len(basis[1]), basis))
    alike = {index: cell for index, cell in cells.items() if (cell.signature, _clips(cell)) == usual}
    values = {i: -(c.value or 0.0) if c.direction == "higher" else (c.value or 0.0) for i, c in alike.items()}
    return {index: 1 + sum(other < value for other in values.values()) for index, value in values.items()}


def write_tables(runs: Sequence[Path], out: Path) -> Table:
    """Write ``leaderboard.csv`` (tidy), ``leaderboard_wide.csv`` and ``leaderboard.md`` of these runs into ``out``.

    Equal runs give equal bytes, in whatever order their folders are named.

    Raises:
        DataError: see ``load_summaries``.
        StorageError: ``out`` cannot be written.
    """
    from vpbench.storage import write_bytes
    from vpbench.table_formats import markdown, tidy_csv, wide_csv

    table = rank(load_summaries(runs))
    for name, text in (
        ("leaderboard.csv", tidy_csv(table)),
        ("leaderboard_wide.csv", wide_csv(table)),
        ("leaderboard.md", markdown(table)),
    ):
        write_bytes(Path(out) / name, text.encode())
    return table


def print_table(table: Table, console: Console) -> None:
    """Print every group: best bold, second best underlined, unranked rows dim with the reason.

    A terminal that is too narrow for all columns gets those of the mean rank, if need be with headers over several lines and the reasons
    below the table. A file or pipe gets those of the mean rank as plain text, and nothing is cut; every column is in the written tables.
    """
    from rich.measure import Measurement
    from rich.text import Text

    unlimited = console.options.update(width=NO_LIMIT)
    for group in table.groups:
        counted = {name for row in group.rows for name in row.summary.mean_rank}
        few = [cell for cell in group.defined if cell.column in counted] or group.defined
        short = _grid(group, few, stacked=False)
        if not console.is_terminal:
            for line in console.render_lines(short, unlimited, pad=False):
                text = "".join(segment.text for segment in line).rstrip()
                console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
            continue
        fitting = [_grid(group, group.defined, stacked=False), short]
        fitting = [grid for grid in fitting if Measurement.get(console, unlimited, grid).maximum <= console.width]
        if fitting:
            console.print(fitting[0])
            continue
        console.print(_grid(group, few, stacked=True))
        for row in group.rows:
            if row.reason:
                console.print(Text(f"{_line(row.label)}: {_line(row.reason)}", style="dim"))


def _grid(group: Group, columns: Sequence[Cell], *, stacked: bool) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(title=Text(_line(f"{group.title} · {group.fingerprint[:8]}")), title_justify="left", box=None, pad_edge=False)
    grid.add_column("#" if stacked else "rank", justify="right", no_wrap=True)
    grid.add_column("model", overflow="fold", no_wrap=not stacked, min_width=5)
    for column in columns:
        header = _stacked(column.header) if stacked else column.header
        grid.add_column(Text(header), justify="right", no_wrap=not stacked, overflow="fold", min_width=_widest(group, column))
    grid.add_column("mean\nrank" if stacked else "mean rank", justify="right", no_wrap=not stacked, min_width=4)
    grid.add_column("clips", justify="right", no_wrap=True)
    if not stacked:
        grid.add_column("note", no_wrap=True)
    for row in group.rows:
        cells = []
        for column in columns:
            cell = row.summary.cell(column.column)
            style = {"best": "bold", "second": "underline"}.get(group.place(row, column.column), "")
            cells.append(Text.assemble((cell.text if cell else "", style)))  # the style is on the digits, not on the padding
        mean = "" if row.mean_rank is None else f"{row.mean_rank:.2f}"
        note = [] if stacked else [Text(_line(row.reason))]
        place = "" if row.place is None else str(row.place)
        clips = f"{row.summary.ok}/{row.summary.total}"
        grid.add_row(place, Text(_line(row.label)), *cells, mean, clips, *note, style="dim" if row.reason else "")
    return grid


def _stacked(header: str) -> str:
    short = header.replace("[background]", "[bg]").replace("[boundary]", "[bnd]")
    return short.replace("[", "\n[").replace(" ", "\n")


def _line(text: str) -> str:
    """Text on one line, without what a terminal would obey."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable())


def _widest(group: Group, column: Cell) -> int:
    return max(len(cell.text) for row in group.rows if (cell := row.summary.cell(column.column)))
