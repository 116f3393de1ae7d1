"""Tables as files: tidy CSV for machines, wide CSV and Markdown for people, all from the same rows.

Only the wide CSV guards against spreadsheets: there a name that begins with ``=``, ``+``, ``-`` or ``@`` gets a leading apostrophe. The
tidy CSV holds names as they are.
"""

from __future__ import annotations

import csv
import html
import io
import re
from typing import Any

from vpbench.results import Cell
from vpbench.tables import Group, Row, Table, absent_metrics

TIDY = (
    *("benchmark", "fingerprint", "protocol", "track", "slice", "model", "run", "metric", "region", "unit", "direction"),
    *("value", "low", "high", "n", "clips_ok", "clips_total", "rank", "mean_rank", "ranked", "reason", "signature"),
)


def tidy_csv(table: Table) -> str:
    """One line per benchmark, protocol, track, slice, model, metric and region; 10 significant digits, no timestamps."""
    text = io.StringIO()
    writer = csv.DictWriter(text, TIDY, lineterminator="\n")
    writer.writeheader()
    for group in table.groups:
        for row in group.rows:
            for cell in row.summary.cells:
                writer.writerow(_tidy_row(group, row, cell))
    return text.getvalue()


def _tidy_row(group: Group, row: Row, cell: Cell) -> dict[str, Any]:
    return {
        "benchmark": group.benchmark,
        "fingerprint": group.fingerprint,
        "protocol": group.protocol,
        "track": group.track,
        "slice": "all",
        "model": row.summary.model,
        "run": row.summary.run,
        "metric": cell.metric,
        "region": cell.region,
        "unit": cell.unit,
        "direction": cell.direction,
        "value": "" if cell.value is None else f"{cell.value:.10g}",
        "low": "",
        "high": "",
        "n": cell.n,
        "clips_ok": row.summary.ok,
        "clips_total": row.summary.total,
        "rank": row.ranks.get(cell.column, ""),
        "mean_rank": "" if row.mean_rank is None else f"{row.mean_rank:.10g}",
        "ranked": "no" if row.reason else "yes",
        "reason": row.reason,
        "signature": cell.signature,
    }


def wide_csv(table: Table) -> str:
    """One line per model, values as people read them, the columns of all groups side by side; formulas are defused, see above."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    headers = list(dict.fromkeys(cell.header for group in table.groups for cell in group.defined))
    head = ["benchmark", "fingerprint", "protocol", "track", "rank", "model"]
    writer.writerow([*head, *map(_plain, headers), "mean rank", "clips", "note"])
    for group in table.groups:
        names = [_plain(name) for name in (group.benchmark, group.fingerprint[:12], group.protocol, group.track)]
        for row in group.rows:
            texts = {column.header: cell.text for column in group.defined if (cell := row.summary.cell(column.column))}
            values = [texts.get(header, "") for header in headers]
            writer.writerow([*names, row.place or "", _plain(row.label), *values, _mean(row), _clips(row), _plain(row.reason)])
    return text.getvalue()


def markdown(table: Table) -> str:
    """One section per group; best bold, second best underlined, unranked rows last with the reason; signatures at the end."""
    return "\n".join(_section(group) for group in table.groups)


def _section(group: Group) -> str:
    columns = group.defined
    lines = [f"### {_escape(group.title)}", "", f"Benchmark fingerprint {_escape(group.fingerprint[:12])}.", ""]
    header = ["rank", "model", *(c.header for c in columns), "mean rank", "clips", "note"]
    lines += ["| " + " | ".join(_escape(name) for name in header) + " |"]
    lines += ["|" + "|".join(["--:", ":--", *["--:"] * (len(columns) + 2), ":--"]) + "|"]
    for row in group.rows:
        cells = [_value(group, row, column) for column in columns]
        line = [str(row.place or ""), _escape(row.label), *cells, _mean(row), _clips(row), _escape(row.reason)]
        lines.append("| " + " | ".join(line) + " |")
    lines.append("")
    if notes := _notes(group):
        lines += [*(f"* {_escape(note)}" for note in notes), ""]
    lines += ["<details><summary>Signatures</summary>", ""]
    signatures = dict.fromkeys(cell.signature for row in group.rows for cell in row.summary.cells if cell.value is not None)
    lines += [f"* {_escape(signature)}" for signature in signatures]
    return "\n".join([*lines, "", "</details>", ""])


def _value(group: Group, row: Row, column: Cell) -> str:
    cell = row.summary.cell(column.column)
    if cell is None or cell.value is None:
        return ""
    mark = {"best": "**{}**", "second": "<u>{}</u>"}.get(group.place(row, column.column), "{}")
    return mark.format(cell.text)


def _notes(group: Group) -> list[str]:
    defined = {cell.column for cell in group.defined}
    notes = []
    absences: dict[tuple[str, str], list[str]] = {}
    for cap, columns in _caps(group).items():
        notes.append(f"A clip's value is capped at {cap} in {', '.join(columns)}.")
    for column in group.columns:
        cells = [(row.label, cell) for row in group.rows if (cell := row.summary.cell(column.column))]
        reasons = "; ".join(sorted({reason for _, cell in cells for _, reason in cell.excluded if reason}))
        why = f": {reasons}" if reasons else ""
        if all(cell.absent for _, cell in cells):
            continue  # told below, one line per metric
        if column.column not in defined:
            notes.append(f"{column.column} is left out, no row has a value{why}.")
            continue
        fewer = [f"{cell.n} of {cell.n + len(cell.excluded)} clips ({label})" for label, cell in cells if cell.excluded]
        if fewer:
            notes.append(f"{column.column} is undefined on some clips and is the mean over {', '.join(fewer)}{why}.")
        exact = [f"{cell.exact_frames} ({label})" for label, cell in cells if cell.exact_frames]
        if exact:
            notes.append(f"{column.column}: frames that equal the reference exactly: {', '.join(exact)}.")
        notes += [f"{column.column}: {note}." for note in sorted({cell.note for _, cell in cells if cell.note})]
        if unranked := sorted({cell.unranked for _, cell in cells if cell.unranked}):
            notes.append(f"{column.column} is not ranked: {'; '.join(unranked)}.")
    for row in group.rows:
        for metric, reason in absent_metrics({cell.column: cell.absent for cell in row.summary.cells if cell.absent}).items():
            absences.setdefault((metric, reason), []).append(row.label)
    for (metric, reason), rows in absences.items():
        who = "" if len(rows) == len(group.rows) else f" for {', '.join(rows)}"
        notes.append(f"{metric} is absent{who}: {reason}.")
    return notes


def _caps(group: Group) -> dict[str, list[str]]:
    """Columns by the cap on a clip's value that their signature names (``cap=100``)."""
    caps: dict[str, list[str]] = {}
    for cell in group.defined:
        if found := re.search(r"[|,]cap=([0-9.]+)", cell.signature):
            caps.setdefault(f"{found[1]} {cell.unit}".strip(), []).append(cell.column)
    return caps


def _mean(row: Row) -> str:
    return "" if row.mean_rank is None else f"{row.mean_rank:.2f}"


def _clips(row: Row) -> str:
    return f"{row.summary.ok}/{row.summary.total}"


def _plain(text: str) -> str:
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def _escape(text: str) -> str:
    """Text as Markdown inside a table cell: no HTML, no cell borders, no emphasis, one line."""
    flat = re.sub(r"\s+", " ", html.escape(text, quote=False))
    return re.sub(r"([\\`*\[\]_|~])", r"\\\1", flat)
