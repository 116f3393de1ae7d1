"""What people's forms of a table share: short one-line texts, the noise of a value, footnotes. Escaping is each form's own affair."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Container, Mapping, Sequence
from typing import TYPE_CHECKING

from vpbench import statistics
from vpbench.results import Cell
from vpbench.slices import NO_VALUES, OF_SET
from vpbench.statistics import ALPHA, LEVEL, POWER, RESAMPLES

if TYPE_CHECKING:
    from vpbench.rankings import ColumnRanking, Range
    from vpbench.tables import Group, Row, Table

LONGEST = 80  # characters of a name in people's forms; machine forms hold all of it
JOINERS = "\u200c\u200d"  # format characters that are part of words and emoji
UNDER_SAMPLED = "†"
ALL_COLUMNS = "all"  # of Options.columns
OF_SLICES = (OF_SET, NO_VALUES)  # why a slice has no value where the whole has one
COMMAND = re.compile(r"`(vpbench [\w ./:=,+-]+)`")  # in a note; nothing in it needs escaping in HTML and in code of Markdown


def one_line(text: str) -> str:
    """Text on one line, without what would steer a terminal or the direction of the text around it."""
    return "".join(c for c in " ".join(text.split()) if c.isprintable() or c in JOINERS)


def short(text: str) -> str:
    """One line of at most ``LONGEST`` characters, the middle left out; accents stay with their letter."""
    flat = one_line(text)
    if len(flat) <= LONGEST:
        return flat
    start, end = flat[: LONGEST - 17], flat[-16:]
    while end and unicodedata.combining(end[0]):
        end = end[1:]
    return f"{start}…{end}"


def with_commands(text: str, escape: Callable[[str], str], code: Callable[[str], str]) -> str:
    """A note in some form: its commands as code, all the rest escaped.

    >>> with_commands("a_b; `vpbench run` now", str.upper, "<{}>".format)
    'A_B; <vpbench run> NOW'
    """

    def around(part: str) -> str:
        words = part.strip()  # escaping cuts the spaces at the ends
        return part.replace(words, escape(words), 1) if words else part

    parts = COMMAND.split(one_line(text))
    return "".join(code(part) if index % 2 else around(part) for index, part in enumerate(parts))


def range_text(ranks: Range | None) -> str:
    """``1-2``; empty where the range is unknown or only one rank."""
    return "" if ranks is None or ranks[0] == ranks[1] else f"{ranks[0]}-{ranks[1]}"


def place_text(row: Row) -> str:
    """The place of a row, as a range where the noise leaves several."""
    return range_text(row.places) or ("" if row.place is None else str(row.place))


def mean_text(row: Row) -> str:
    """The mean rank as people read it."""
    return "" if row.mean_rank is None else f"{row.mean_rank:.2f}"


def clips_text(row: Row) -> str:
    """How many clips are done, of how many."""
    return f"{row.summary.ok}/{row.summary.total}"


def half_text(row: Row, cell: Cell) -> str:
    """Half the width of a cell's interval, with the value's decimals; empty where there is none."""
    ends = row.intervals.get(cell.column)
    return "" if ends is None else f"{(ends[1] - ends[0]) / 2 * cell.scale:.{cell.digits}f}"


def half_mean_text(row: Row) -> str:
    """Half the width of the mean rank's interval."""
    ends = row.mean_rank_interval
    return "" if ends is None else f"{(ends[1] - ends[0]) / 2:.2f}"


HALF = "± is half the width of the {level} interval ({how}); the ends are in leaderboard.csv."
ENDS = "Below a value stand the ends of its {level} interval ({how})."


def notes(group: Group, intervals: bool, shown: str = HALF, columns: Container[str] | None = None) -> list[str]:
    """Footnotes of a table, in plain text: what its values leave out, what its noise means, what more clips would show.

    Args:
        group: the table.
        intervals: whether the form shows intervals.
        shown: how it does, ``HALF`` or ``ENDS``.
        columns: names of the columns that the notes are for; None for all.
    """
    every = [cell for cell in group.columns if columns is None or cell.column in columns]
    return [*of_models(group), *_of_noise(group, every, shown if intervals else ""), *_power(group, every), *_of_values(group, every)]


def notes_by_group(table: Table, intervals: bool, names: Sequence[str], shown: str = HALF, few: bool = False) -> list[list[str]]:
    """Footnotes of every table of one file; what is absent for lack of weights is told once, under the first table that it is true of.

    Args:
        table: all tables.
        intervals: see ``notes``.
        names: the columns, see ``Group.chosen``; empty for all.
        shown: see ``notes``.
        few: without names, only the columns of the mean rank.
    """
    told: set[str] = set()
    found = []
    for group in table.groups:
        columns: set[str] | None = None
        if names and ALL_COLUMNS not in names:
            columns = {cell.column for cell in group.columns if cell.column in names or cell.metric in names}
        elif few and not names and group.leading:
            columns = set(group.counted)
        once = {line for line in _absences(group, columns) if not line.endswith(tuple(f": {reason}." for reason in OF_SLICES))}
        found.append([line for line in notes(group, intervals, shown, columns) if line not in told])
        told |= once
    return found


def of_models(group: Group) -> list[str]:
    """What the models' runs say of themselves, with the clips that it is true of where these are not all."""
    found = []
    for row in group.rows:
        for note in row.summary.notes:
            some = "" if len(note.clips) == row.summary.ok else f" ({len(note.clips)} of {row.summary.ok} clips)"
            found.append(f"{short(row.label)}: {note.text.rstrip('.')}{some}.")
    return found


def _of_noise(group: Group, columns: Sequence[Cell], shown: str) -> list[str]:
    found = []
    resampled = any(cell.average != "set" and any(cell.column in row.intervals for row in group.rows) for cell in columns)
    sets = any(cell.average == "set" and any(cell.column in row.intervals for row in group.rows) for cell in columns)
    if shown and (resampled or sets):
        how = []
        if resampled:
            how.append(f"bootstrap over clips, {RESAMPLES:,} resamples, the same for all rows of the same clips")
        if sets:
            how.append("jackknife over clips for values of whole sets")
        found.append(shown.format(level=f"{LEVEL:.0%}", how="; ".join(how)))
    if any(len(row.summary.clips) == 1 for row in group.rows if not row.reason):
        if any(row.places for row in group.rows):
            found.append("There is one clip, and nothing can be said about noise: ranges hold every rank.")
        return found
    if any(range_text(row.ranges.get(cell.column)) for row in group.rows for cell in columns):
        found.append(
            "A range such as 1-2 beside a value holds the ranks that are possible within the noise (paired t-test over clips, "
            f"{ALPHA:.0%}, Holm's correction over neighbours); bold and underlined are the best and second best value all the same."
        )
    if any(row.places for row in group.rows):
        constant = [
            name
            for name in group.counted
            if any((c := row.summary.cell(name)) and c.average == "set" and c.value is not None for row in group.rows)
        ]
        keep = "keep their ranks" if len(constant) > 1 else "keeps its rank"
        fixed = f"; {', '.join(constant)} cannot be resampled and {keep}" if constant else ""
        found.append(
            f"The rank is the place by the mean rank; a range holds the places that the middle {LEVEL:.0%} of resampled clips give{fixed}."
        )
    return found


def _power(group: Group, columns: Sequence[Cell]) -> list[str]:
    """Of each column in the mean rank: how many clips would tell the first neighbours apart that the noise does not."""
    names = {cell.column for cell in columns}
    rankings = {ranking.cell.column: ranking for ranking in group.rankings if ranking.cell.column in names}
    lines = [line for name in group.counted if name in rankings and (line := _power_line(group, rankings[name]))]
    if not lines:
        return []
    neighbours = "neighbours, corrected for their number"
    return [f"With {POWER:.0%} power at {ALPHA:.0%} ({neighbours}): {'; '.join(lines)}."]


def _power_line(group: Group, ranking: ColumnRanking) -> str:
    index = ranking.first_inside_noise()
    if index is None or ranking.pairs is None:
        return ""
    pair = ranking.pairs.pair(index, index + 1)
    if not pair.error > 0:
        return ""
    needed = statistics.clips_needed(pair.difference, pair.deviation, ranking.alpha)
    cell = ranking.cell
    unit = f" {cell.unit}" if cell.unit else ""
    scale = f" (x{cell.scale:g})" if cell.scale != 1 else ""
    one, other = (short(group.rows[ranking.rows[position]].label) for position in (index, index + 1))
    clips = f"more than {statistics.MOST_CLIPS:,} clips" if needed is None else f"about {needed:,} clips"
    seen = f"{abs(pair.difference) * cell.scale:.2g}{unit}{scale} of {cell.column}"
    return f"to see {seen} between {one} and {other} you need {clips} (here {pair.n})"


def _of_values(group: Group, columns: Sequence[Cell]) -> list[str]:
    defined = {cell.column for cell in group.defined}
    found = []
    for cap, capped in _caps([cell for cell in group.defined if cell.column in {column.column for column in columns}]).items():
        found.append(f"A clip's value is capped at {cap} in {', '.join(capped)}.")
    exact: dict[tuple[tuple[str, int], ...], list[str]] = {}
    for column in columns:
        cells = [(short(row.label), cell) for row in group.rows if (cell := row.summary.cell(column.column))]
        reasons = "; ".join(sorted({reason for _, cell in cells for _, reason in cell.excluded if reason}))
        why = f": {reasons}" if reasons else ""
        if all(cell.absent for _, cell in cells):
            continue  # told below, one line per metric
        if column.column not in defined:
            found.append(f"{column.column} is left out, no row has a value{why}.")
            continue
        fewer = [f"{cell.n} of {cell.n + len(cell.excluded)} clips ({label})" for label, cell in cells if cell.excluded]
        if fewer:
            found.append(f"{column.column} is undefined on some clips and is the mean over {', '.join(fewer)}{why}.")
        if counts := tuple((label, cell.exact_frames) for label, cell in cells if cell.exact_frames):
            exact.setdefault(counts, []).append(column.column)
        found += [f"{column.column}: {note}." for note in sorted({cell.note for _, cell in cells if cell.note})]
        if few := sorted({(cell.n, cell.dimensions) for _, cell in cells if cell.under_sampled}):
            numbers = ", ".join(f"{n} clips for features of {dimensions} dimensions" for n, dimensions in few)
            found.append(f"{UNDER_SAMPLED} {column.column} is under-sampled: {numbers}.")
        if unranked := sorted({cell.unranked for _, cell in cells if cell.unranked}):
            found.append(f"{column.column} is not ranked: {'; '.join(unranked)}.")
    for counts, equal in exact.items():
        rows = ", ".join(f"{count} ({label})" for label, count in counts)
        found.append(f"{', '.join(equal)}: frames that equal the reference exactly: {rows}.")
    return found + _absences(group, {cell.column for cell in columns})


def _absences(group: Group, columns: Container[str] | None) -> list[str]:
    absences: dict[tuple[str, str], list[str]] = {}
    for row in group.rows:
        absent = {cell.column: cell.absent for cell in row.summary.cells if cell.absent and (columns is None or cell.column in columns)}
        for metric, reason in absent_metrics(absent).items():
            absences.setdefault((metric, reason), []).append(short(row.label))
    found = []
    for (metric, reason), rows in absences.items():
        who = "" if len(rows) == len(group.rows) else f" for {', '.join(rows)}"
        found.append(f"{metric} {'are' if ', ' in metric else 'is'} absent{who}: {reason}.")
    return found


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


def _caps(columns: Sequence[Cell]) -> dict[str, list[str]]:
    """Columns by the cap on a clip's value that their signature names (``cap=100``)."""
    caps: dict[str, list[str]] = {}
    for cell in columns:
        if (cap := cap_of(cell)) is not None:
            caps.setdefault(f"{cap:g} {cell.unit}".strip(), []).append(cell.column)
    return caps


def cap_of(cell: Cell) -> float | None:
    """The cap on a clip's value that the signature names; None where there is none."""
    found = re.search(r"[|,]cap=(\d{1,9}(?:\.\d{1,9})?)(?![\d.])", cell.signature)
    return float(found[1]) if found else None
