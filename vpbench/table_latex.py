"""Tables as LaTeX: one ``tabular`` per table with the rules of ``booktabs``, for a paper's own ``table`` environment."""

from __future__ import annotations

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

HEAD = """\
% \\usepackage{booktabs}  (names outside Latin script: LuaLaTeX or XeLaTeX with a font that has them)
"""
SPECIALS = {
    **{c: f"\\{c}" for c in "#$%&_{}"},
    "\\": r"\textbackslash{}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    '"': r"{\char34}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "±": r"$\pm$",
    "·": r"$\cdot$",
    "…": r"\dots{}",
    UNDER_SAMPLED: r"$^\dagger$",
}


def latex(table: Table, intervals: bool = True, columns: Sequence[str] = ()) -> str:
    """One ``tabular`` per table, its notes below in small print.

    Best bold, second best underlined, unranked rows below a rule with the reason.

    Args:
        table: what to write.
        intervals: add half the width of each interval to values.
        columns: see ``Options``; by default only those of the mean rank, because a page has no room for more.
    """
    notes = notes_by_group(table, intervals, columns, few=True)
    chosen = [group.chosen(columns) if columns else group.leading or group.defined for group in table.groups]
    return HEAD + "\n".join(_tabular(*part, intervals) for part in zip(table.groups, chosen, notes, strict=True))


def _tabular(group: Group, columns: Sequence[Cell], notes: Sequence[str], intervals: bool) -> str:
    lines = [f"% {_comment(group.title)} · {_comment(group.fingerprint[:12])}"]
    lines.append("\\begin{tabular}{rl" + "r" * (len(columns) + 2) + "l}")
    header = ["rank", "model", "mean rank", *(short(c.header) for c in columns), "clips", "note"]
    lines += ["\\toprule", " & ".join(map(escape, header)) + " \\\\", "\\midrule"]
    for index, row in enumerate(group.rows):
        if index and row.reason and not group.rows[index - 1].reason:
            lines.append("\\midrule")
        mean = mean_text(row) + (_half(half_mean_text(row)) if intervals else "")
        cells = [_value(group, row, column, intervals) for column in columns]
        line = [_ranks(place_text(row)), escape(short(row.label)), mean, *cells, clips_text(row), escape(short(row.note))]
        lines.append(" & ".join(line) + " \\\\")
    lines += ["\\bottomrule", "\\end{tabular}"]
    if notes:
        lines += ["\\par\\smallskip\\begingroup\\footnotesize\\raggedright"]
        lines += [with_commands(note, escape, lambda command: f"\\texttt{{{escape(command)}}}") for note in notes]
        lines += ["\\par\\endgroup"]
    return "\n".join([*lines, ""])


def _value(group: Group, row: Row, column: Cell, intervals: bool) -> str:
    cell = row.summary.cell(column.column)
    if cell is None or cell.value is None:
        return ""
    mark = {"best": "\\textbf{%s}", "second": "\\underline{%s}"}.get(group.place(row, column.column), "%s")
    text = mark % cell.text + (SPECIALS[UNDER_SAMPLED] if cell.under_sampled else "")
    if intervals:
        text += _half(half_text(row, cell))
    ranks = range_text(row.ranges.get(column.column))
    return text + (f"\\textsuperscript{{{_ranks(ranks)}}}" if ranks else "")


def _half(width: str) -> str:
    return f" {{\\scriptsize$\\pm${width}}}" if width else ""


def _ranks(text: str) -> str:
    return text.replace("-", "--")


def _comment(text: str) -> str:
    return one_line(text)


def escape(text: str) -> str:
    """Text as LaTeX: every special as its command, no ligatures of hyphens, one line."""
    commands = "".join(SPECIALS.get(character, character) for character in one_line(text))
    return re.sub("-(?=-)", "-{}", commands)
