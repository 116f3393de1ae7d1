"""Tables as Markdown: one section per table, for a README, an issue or a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from vpbench.results import Cell
from vpbench.table_text import (
    UNDER_SAMPLED,
    clips_text,
    half_mean_text,
    half_text,
    mean_text,
    notes_by_group,
    one_line,
    place_text,
    range_text,
    short,
    with_commands,
)
from vpbench.tables import Group, Row, Table


def markdown(table: Table, intervals: bool = True, columns: Sequence[str] = ()) -> str:
    """One section per table; best bold, second best underlined, unranked rows last with the reason; signatures at the end.

    Args:
        table: what to write.
        intervals: add half the width of each interval (``± 0.42``) to values.
        columns: see ``Options``.
    """
    notes = notes_by_group(table, intervals, columns)
    sections = zip(table.groups, notes, strict=True)
    return "\n".join(_section(group, group.chosen(columns), found, intervals) for group, found in sections)


def _section(group: Group, columns: Sequence[Cell], notes: Sequence[str], intervals: bool) -> str:
    lines = [f"### {escape(short(group.title))}", "", f"Benchmark fingerprint {escape(group.fingerprint[:12])}.", ""]
    header = ["rank", "model", "mean rank", *(short(c.header) for c in columns), "clips", "note"]
    lines += ["| " + " | ".join(escape(name) for name in header) + " |"]
    lines += ["|" + "|".join(["--:", ":--", *["--:"] * (len(columns) + 2), ":--"]) + "|"]
    for row in group.rows:
        cells = [_value(group, row, column, intervals) for column in columns]
        mean = mean_text(row) + (_half(half_mean_text(row)) if intervals else "")
        line = [place_text(row), escape(short(row.label)), mean, *cells, clips_text(row), escape(row.note)]
        lines.append("| " + " | ".join(line) + " |")
    lines.append("")
    if notes:
        lines += [*(f"* {with_commands(note, escape, '`{}`'.format)}" for note in notes), ""]
    lines += ["<details><summary>Signatures</summary>", ""]
    signatures = dict.fromkeys(cell.signature for row in group.rows for cell in row.summary.cells if cell.value is not None)
    lines += [f"* {escape(signature)}" for signature in signatures]
    return "\n".join([*lines, "", "</details>", ""])


def _value(group: Group, row: Row, column: Cell, intervals: bool) -> str:
    cell = row.summary.cell(column.column)
    if cell is None or cell.value is None:
        return ""
    mark = {"best": "**{}**", "second": "<u>{}</u>"}.get(group.place(row, column.column), "{}")
    text = mark.format(cell.text) + (UNDER_SAMPLED if cell.under_sampled else "")
    if intervals:
        text += _half(half_text(row, cell))
    ranks = range_text(row.ranges.get(column.column))
    return text + (f" <sup>{ranks}</sup>" if ranks else "")


def _half(width: str) -> str:
    return f" ± {width}" if width else ""


def escape(text: str) -> str:
    """Text as Markdown inside a table cell: no HTML, no cell borders, no emphasis, no formulas, one line."""
    return re.sub(r"([\\`*\[\]_|~$#])", r"\\\1", html.escape(one_line(text), quote=False))
