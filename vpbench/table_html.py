"""Tables as one HTML page that stands alone: no script, nothing from the network, light and dark as the reader's system asks."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from vpbench.results import Cell
from vpbench.table_text import (
    ENDS,
    UNDER_SAMPLED,
    clips_text,
    mean_text,
    notes_by_group,
    one_line,
    place_text,
    range_text,
    short,
    with_commands,
)
from vpbench.tables import Group, Row, Table

STYLE = """\
:root { color-scheme: light dark; --line: #8884; --dim: light-dark(#555, #aaa); --page: light-dark(#fff, #16181c); }
body { font: 15px/1.45 system-ui, sans-serif; margin: 1.5rem; background: var(--page); color: light-dark(#111, #eee); }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .3rem; }
p, li { max-width: 75rem; overflow-wrap: anywhere; } li, .dim, small { color: var(--dim); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .6rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; vertical-align: top; }
thead th { border-bottom-width: 2px; vertical-align: bottom; }
.name { text-align: left; position: sticky; left: 0; background: var(--page); }
.name { max-width: 22rem; min-width: 11rem; white-space: normal; overflow-wrap: anywhere; }
.note { text-align: left; } small { display: block; font-size: .75rem; } sup { font-size: .7rem; }
"""
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>vpbench: ranked tables</title>
<style>
{style}</style>
</head>
<body>
<h1>Ranked tables</h1>
{sections}</body>
</html>
"""


def html_page(table: Table, intervals: bool = True, columns: Sequence[str] = ()) -> str:
    """All tables on one page; best bold, second best underlined, unranked rows last with the reason, signatures behind a fold.

    Args:
        table: what to write.
        intervals: show the ends of each interval below its value.
        columns: see ``Options``.
    """
    notes = notes_by_group(table, intervals, columns, ENDS)
    sections = (_section(group, group.chosen(columns), found, intervals) for group, found in zip(table.groups, notes, strict=True))
    return PAGE.format(style=STYLE, sections="".join(sections))


def _section(group: Group, columns: Sequence[Cell], notes: Sequence[str], intervals: bool) -> str:
    headers = "".join(f'<th scope="col">{escape(short(column.header))}</th>' for column in columns)
    signatures = dict.fromkeys(cell.signature for row in group.rows for cell in row.summary.cells if cell.value is not None)
    lines = [
        f"<h2>{escape(short(group.title))}</h2>",
        f'<p class="dim">Benchmark fingerprint {escape(group.fingerprint[:12])}.</p>',
        '<div class="scroll"><table>',
        f'<thead><tr><th scope="col">rank</th><th scope="col" class="name">model</th><th scope="col">mean rank</th>{headers}'
        '<th scope="col">clips</th><th scope="col" class="note">note</th></tr></thead>',
        "<tbody>",
        *(_row(group, row, columns, intervals) for row in group.rows),
        "</tbody>",
        "</table></div>",
        *_list(notes),
        "<details><summary>Signatures</summary>",
        *_list(signatures),
        "</details>",
    ]
    return "\n".join([*lines, ""])


def _row(group: Group, row: Row, columns: Sequence[Cell], intervals: bool) -> str:
    name = short(row.label)
    full = "" if name == row.label else f' title="{escape(row.label)}"'
    dim = ' class="dim"' if row.reason else ""
    cells = "".join(f"<td>{_value(group, row, column, intervals)}</td>" for column in columns)
    ends = row.mean_rank_interval
    mean = mean_text(row) + (f"<small>{ends[0]:.2f} to {ends[1]:.2f}</small>" if ends and intervals else "")
    return (
        f"<tr{dim}><td>{place_text(row)}</td>"
        f'<th scope="row" class="name"{full}><bdi>{escape(name)}</bdi></th><td>{mean}</td>{cells}<td>{clips_text(row)}</td>'
        f'<td class="note">{escape(row.note)}</td></tr>'
    )


def _value(group: Group, row: Row, column: Cell, intervals: bool) -> str:
    cell = row.summary.cell(column.column)
    if cell is None or cell.value is None:
        return ""
    mark = {"best": "<b>{}</b>", "second": "<u>{}</u>"}.get(group.place(row, column.column), "{}")
    text = mark.format(cell.text) + (UNDER_SAMPLED if cell.under_sampled else "")
    ranks = range_text(row.ranges.get(column.column))
    text += f" <sup>{ranks}</sup>" if ranks else ""
    ends = row.intervals.get(column.column) if intervals else None
    return text + ("" if ends is None else "<small>{} to {}</small>".format(*(f"{end * cell.scale:.{cell.digits}f}" for end in ends)))


def _list(lines: Iterable[str]) -> list[str]:
    items = [f"<li>{with_commands(line, escape, '<code>{}</code>'.format)}</li>" for line in lines]
    return ["<ul>", *items, "</ul>"] if items else []


def escape(text: str) -> str:
    """Text as HTML content or attribute, on one line."""
    return html.escape(one_line(text))
