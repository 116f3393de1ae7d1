"""Ranked tables from finished runs: reads only ``summary.json`` files, so it needs neither torch nor any metric.

Rows are ranked only with equal benchmark fingerprint and with all clips present, and only when the columns of the mean rank have equal
signatures and leave out the same clips; the rest is shown below the line with the reason. A column that does not count in the mean rank
is ranked among those rows that agree on it. What lies inside the noise comes from ``vpbench.rankings``.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from vpbench.rankings import Clips, ColumnRanking, Interval, MeanRank, Range, intervals, mean_rank, rank_column
from vpbench.results import Cell, Summary, load_summaries, order
from vpbench.slices import check_dimensions, slices
from vpbench.table_text import ALL_COLUMNS, of_models, one_line, place_text
from vpbench.table_text import absent_metrics as absent_metrics

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

NO_LIMIT = 100_000  # characters: a width in which every table fits
PAIRS = "pairs.csv"


@dataclass(frozen=True)
class Row:
    """A line of a table.

    Attributes:
        label: the model's name, or the run's id where two runs of a table share a name.
        ranks: rank by column, for ranked rows; ties share the best rank (1, 1, 3).
        ranges: the ranks that are possible within the noise, by column; no entry where values per clip are not stored.
        intervals: 95 % interval by column, natural unit; no entry for fewer than two clips.
        mean_rank: mean over the protocol's mean-rank columns; None for unranked rows.
        mean_rank_interval: 95 % interval; None where unknown.
        place: rank of the row by its mean rank; None for unranked rows.
        places: the places that are possible within the noise; None where unknown.
        reason: why the row is not ranked.
    """

    summary: Summary
    label: str
    ranks: dict[str, int] = field(default_factory=dict)
    mean_rank: float | None = None
    place: int | None = None
    reason: str = ""
    ranges: dict[str, Range] = field(default_factory=dict)
    intervals: dict[str, Interval] = field(default_factory=dict)
    mean_rank_interval: Interval | None = None
    places: Range | None = None

    @property
    def note(self) -> str:
        """What stands in people's tables beside the row: why it is not ranked, and the marks of its model's notes."""
        return "; ".join(dict.fromkeys(filter(None, [self.reason, *(note.brief for note in self.summary.notes)])))


@dataclass(frozen=True)
class Group:
    """One table: rows of equal benchmark data, protocol, track and slice; ranked rows first, in order of their mean rank.

    Attributes:
        rows: in table order.
        slice: ``all``, or which clips, e.g. ``operation=swap``.
        rankings: the ranked columns, with positions in ``rows``.
    """

    benchmark: str
    fingerprint: str
    protocol: str
    track: str
    rows: tuple[Row, ...]
    slice: str = "all"
    rankings: tuple[ColumnRanking, ...] = field(default=(), compare=False, repr=False)

    @property
    def title(self) -> str:
        """Heading for people."""
        return f"{self.benchmark} · {self.protocol} · {self.track}" + ("" if self.slice == "all" else f" · {self.slice}")

    @functools.cached_property
    def columns(self) -> list[Cell]:
        """The columns, in order of first appearance, each as one of its cells."""
        found: dict[str, Cell] = {}
        for row in self.rows:
            for cell in row.summary.cells:
                found.setdefault(cell.column, cell)
        return list(found.values())

    @functools.cached_property
    def defined(self) -> list[Cell]:
        """Columns in which at least one row has a value."""
        return [c for c in self.columns if any((cell := row.summary.cell(c.column)) and cell.value is not None for row in self.rows)]

    @functools.cached_property
    def counted(self) -> list[str]:
        """Names of the columns that some row's protocol counts in the mean rank."""
        return list(dict.fromkeys(name for row in self.rows for name in row.summary.mean_rank))

    @functools.cached_property
    def leading(self) -> list[Cell]:
        """Of these, the columns of the mean rank, in the protocol's order."""
        return [cell for name in self.counted for cell in self.defined if cell.column == name]

    def chosen(self, names: Sequence[str]) -> list[Cell]:
        """Columns with values as ``Options.columns`` chooses them; by default all, those of the mean rank first."""
        if not names or ALL_COLUMNS in names:
            return [*self.leading, *(cell for cell in self.defined if cell.column not in self.counted)]
        found = {cell.column: cell for name in names for cell in self.defined if name in (cell.column, cell.metric)}
        return list(found.values())

    @functools.cached_property
    def _best(self) -> dict[str, list[int]]:
        """By column that two rows or more are ranked in: the ranks that occur, the best first."""
        ranks: dict[str, list[int]] = {}
        for row in self.rows:
            for column, rank in row.ranks.items():
                ranks.setdefault(column, []).append(rank)
        return {column: sorted(set(found)) for column, found in ranks.items() if len(found) > 1}

    def place(self, row: Row, column: str) -> str:
        """``best`` or ``second`` for a ranked row's cell that deserves it, else empty; ties share."""
        ranks = self._best.get(column, [])
        if column not in row.ranks or row.ranks[column] not in ranks[:2]:
            return ""
        return "best" if row.ranks[column] == ranks[0] else "second"


@dataclass(frozen=True)
class Table:
    """All groups, in order of benchmark, fingerprint, protocol and track; after each group of all clips its slices."""

    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Options:
    """How tables are made; a leaderboard records them.

    Attributes:
        by: slices to show after each table, see ``vpbench.slices.DIMENSIONS``.
        intervals: whether people's forms show the intervals (machine forms always do).
        pairs: whether the differences of all pairs of models are written too.
        columns: of Markdown, HTML and LaTeX: names of metrics or columns in this order, or ``all``; empty for all in Markdown and HTML,
            and those of the mean rank in LaTeX.
    """

    by: tuple[str, ...] = ()
    intervals: bool = True
    pairs: bool = False
    columns: tuple[str, ...] = ()


def rank(summaries: Iterable[Summary], by: Sequence[str] = ()) -> Table:
    """Rank the rows of every group; see the module's text for which rows take part.

    Args:
        summaries: in any order.
        by: dimensions to slice each group by, in this order.

    Raises:
        ConfigError: an unknown dimension.
        DataError: a damaged property of a clip.
    """
    dimensions = check_dimensions(by)
    groups: dict[tuple[str, str, str, str], list[Summary]] = {}
    for summary in sorted(summaries, key=order):
        groups.setdefault(summary.group, []).append(summary)
    found = []
    for key in sorted(groups):
        found.append(_group(groups[key]))
        found += [_group(part) for part in slices(groups[key], dimensions)]
    return Table(tuple(found))


def _group(summaries: Sequence[Summary]) -> Group:
    rows = _comparable([Row(summary, label, reason=summary.unranked) for summary, label in zip(summaries, _labels(summaries), strict=True)])
    draws = {names: Clips(names) for names in dict.fromkeys(summary.clips for summary in summaries)}
    rows = _with_intervals(rows, draws)
    ranked = [row for row in rows if not row.reason]
    members = [row.summary for row in ranked]
    rankings = {
        column: ranking
        for column in dict.fromkeys(cell.column for summary in members for cell in summary.cells)
        if (ranking := rank_column(members, column))
    }
    names = members[0].mean_rank if members else ()
    counted = [rankings[name] for name in names if name in rankings and len(rankings[name].rows) == len(ranked)]
    means = mean_rank(members, counted, draws[members[0].clips]) if counted else None
    final = [_ranked(row, index, rankings, means) for index, row in enumerate(ranked)]
    positions = sorted(range(len(ranked)), key=lambda index: (final[index].mean_rank or 0.0, final[index].label))
    table_order = {old: new for new, old in enumerate(positions)}
    found = [final[index] for index in positions] + sorted((row for row in rows if row.reason), key=lambda row: row.label)
    return Group(
        *summaries[0].group,
        rows=tuple(found),
        slice=summaries[0].slice,
        rankings=tuple(dataclasses.replace(r, rows=tuple(table_order[row] for row in r.rows)) for r in rankings.values()),
    )


def _with_intervals(rows: Sequence[Row], draws: Mapping[tuple[str, ...], Clips]) -> list[Row]:
    """Rows of other clips have draws of their own, so that they move nothing for the rest."""
    found = list(rows)
    for names, clips in draws.items():
        alike = [index for index, row in enumerate(rows) if row.summary.clips == names]
        ends = intervals([rows[index].summary for index in alike], clips)
        for index, mine in zip(alike, ends, strict=True):
            found[index] = dataclasses.replace(rows[index], intervals=mine)
    return found


def _ranked(row: Row, index: int, rankings: Mapping[str, ColumnRanking], means: MeanRank | None) -> Row:
    mine = {column: ranking.rows.index(index) for column, ranking in rankings.items() if index in ranking.rows}
    return dataclasses.replace(
        row,
        ranks={column: rankings[column].ranks[position] for column, position in mine.items()},
        ranges={column: rankings[column].ranges[position] for column, position in mine.items() if rankings[column].ranges},
        mean_rank=means.means[index] if means else None,
        mean_rank_interval=means.intervals[index] if means and means.intervals else None,
        place=1 + sum(other < means.means[index] for other in means.means) if means else None,
        places=means.places[index] if means and means.places else None,
    )


def _labels(summaries: Sequence[Summary]) -> list[str]:
    models, runs = Counter(s.model for s in summaries), Counter(s.run for s in summaries)
    seen: Counter[str] = Counter()
    labels = []
    for summary in summaries:
        seen[summary.run] += 1
        if runs[summary.run] > 1:  # one id, different contents: say so rather than hide one of them
            labels.append(f"{summary.run} ({seen[summary.run]})")
        else:
            labels.append(summary.run if models[summary.model] > 1 else summary.model)
    return labels


Basis = tuple[tuple[str, str, tuple[str, ...]], ...]  # of each column in the mean rank: its name, signature and the clips it leaves out


def _comparable(rows: Sequence[Row]) -> list[Row]:
    """Keep only one set of clips and one basis among the ranked rows, those most of them have; the others say what differs."""
    clips = Counter(row.summary.clips for row in rows if not row.reason)
    if not clips:
        return list(rows)
    scored = min(clips, key=lambda names: (-clips[names], -len(names), names))
    elsewhere = "not ranked: it was scored on other clips"
    rows = [row if row.reason or row.summary.clips == scored else dataclasses.replace(row, reason=elsewhere) for row in rows]
    bases = {row.label: _basis(row.summary) for row in rows if not row.reason}
    found = Counter(bases.values())
    usual = min(found, key=lambda basis: (-found[basis], _lacking(basis), sum(len(names) for _, _, names in basis), basis))
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


def check_columns(summaries: Iterable[Summary], names: Sequence[str]) -> None:
    """Refuse what no summary has.

    Raises:
        ConfigError: neither a metric, nor a column, nor ``all``; suggests the nearest and lists all.
    """
    if not names:
        return
    known = {ALL_COLUMNS, *(name for summary in summaries for cell in summary.cells for name in (cell.metric, cell.column))}
    for name in names:
        if name not in known:
            from vpbench.configuration import unknown_name

            raise unknown_name("--columns", name, known)


def table_files(table: Table, options: Options) -> dict[str, str]:
    """The files of a leaderboard by name: the same rows in every form, and the options they were made with (in ``leaderboard.json``).

    Raises:
        ConfigError: a column that no row has.
    """
    from vpbench.table_formats import json_text, pairs_csv, tidy_csv, wide_csv
    from vpbench.table_html import html_page
    from vpbench.table_latex import latex
    from vpbench.table_markdown import markdown

    check_columns((row.summary for group in table.groups for row in group.rows), options.columns)
    files = {
        "leaderboard.csv": tidy_csv(table),
        "leaderboard.html": html_page(table, options.intervals, options.columns),
        "leaderboard.json": json_text(table, options),
        "leaderboard.md": markdown(table, options.intervals, options.columns),
        "leaderboard.tex": latex(table, options.intervals, options.columns),
        "leaderboard_wide.csv": wide_csv(table, options.intervals),
    }
    return {**files, PAIRS: pairs_csv(table)} if options.pairs else files


def write_tables(runs: Sequence[Path], out: Path, options: Options | None = None) -> Table:
    """Write the tables of these runs into ``out``: see ``table_files``.

    Equal runs give equal bytes, in whatever order their folders are named. A ``pairs.csv`` of earlier options is removed.

    Raises:
        ConfigError: an unknown slice or column.
        DataError: see ``load_summaries``.
        StorageError: ``out`` cannot be written.
    """
    from vpbench.storage import cannot_write, write_bytes

    chosen = options or Options()
    table = rank(load_summaries(runs), chosen.by)
    for name, text in table_files(table, chosen).items():
        write_bytes(Path(out) / name, text.encode())
    if not chosen.pairs:
        try:
            (Path(out) / PAIRS).unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(Path(out) / PAIRS, error) from error
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
        few = group.leading or group.defined
        short = _grid(group, few, stacked=False)
        if not console.is_terminal:
            for line in console.render_lines(short, unlimited, pad=False):
                text = "".join(segment.text for segment in line).rstrip()
                console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=True)
        else:
            fitting = [_grid(group, group.chosen(()), stacked=False), short]
            fitting = [grid for grid in fitting if Measurement.get(console, unlimited, grid).maximum <= console.width]
            console.print(fitting[0] if fitting else _grid(group, few, stacked=True))
            for row in group.rows if not fitting else ():
                if row.note:
                    console.print(Text(f"{one_line(row.label)}: {one_line(row.note)}", style="dim"))
        for note in of_models(group):
            console.print(one_line(note), markup=False, highlight=False, emoji=False, soft_wrap=True)


def _grid(group: Group, columns: Sequence[Cell], *, stacked: bool) -> RichTable:
    from rich.table import Table as RichTable
    from rich.text import Text

    grid = RichTable(title=Text(one_line(f"{group.title} · {group.fingerprint[:8]}")), title_justify="left", box=None, pad_edge=False)
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
        note = [] if stacked else [Text(one_line(row.note))]
        clips = f"{row.summary.ok}/{row.summary.total}"
        grid.add_row(place_text(row), Text(one_line(row.label)), *cells, mean, clips, *note, style="dim" if row.reason else "")
    return grid


def _stacked(header: str) -> str:
    short = header.replace("[background]", "[bg]").replace("[boundary]", "[bnd]")
    return short.replace("[", "\n[").replace(" ", "\n")


def _widest(group: Group, column: Cell) -> int:
    return max(len(cell.text) for row in group.rows if (cell := row.summary.cell(column.column)))
