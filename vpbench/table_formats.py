"""Tables as files for machines: tidy and wide CSV, JSON, and the differences of all pairs of models; all from the same rows.

Values have 10 significant digits, the ends of intervals 6, p values 4: more than anybody reads, and few enough that another processor
gives the same bytes. Only the wide CSV guards against spreadsheets: there a name that begins with ``=``, ``+``, ``-`` or ``@`` gets a
leading apostrophe. The others hold names as they are.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

from vpbench import statistics
from vpbench.rankings import ColumnRanking
from vpbench.results import Cell
from vpbench.table_text import clips_text, mean_text, notes, range_text
from vpbench.tables import Group, Options, Row, Table

TIDY = (
    *("benchmark", "fingerprint", "protocol", "track", "slice", "model", "run", "metric", "region", "unit", "direction"),
    *("value", "low", "high", "n", "clips_ok", "clips_total", "under_sampled", "rank", "rank_low", "rank_high"),
    *("mean_rank", "mean_rank_low", "mean_rank_high", "place", "place_low", "place_high", "ranked", "reason", "notes", "signature"),
)
PAIRED = (
    *("benchmark", "fingerprint", "protocol", "track", "slice", "metric", "region", "unit", "direction"),
    *("model", "run", "other", "other_run", "difference", "low", "high", "p", "p_holm", "n", "signature"),
)


def tidy_csv(table: Table) -> str:
    """One line per benchmark, protocol, track, slice, model, metric and region; no timestamps.

    ``low`` and ``high`` are the ends of the 95 % interval; ``rank_low`` to ``rank_high`` the ranks that the noise leaves.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, TIDY, lineterminator="\n")
    writer.writeheader()
    for group in table.groups:
        for row in group.rows:
            about = {**_about(group), **_of_row(row)}
            for cell in row.summary.cells:
                writer.writerow({**about, **_of_cell(row, cell)})
    return text.getvalue()


def _about(group: Group) -> dict[str, str]:
    return {
        "benchmark": group.benchmark,
        "fingerprint": group.fingerprint,
        "protocol": group.protocol,
        "track": group.track,
        "slice": group.slice,
    }


def _of_row(row: Row) -> dict[str, Any]:
    low, high = row.mean_rank_interval or (None, None)
    best, worst = row.places or ("", "")
    return {
        "model": row.summary.model,
        "run": row.summary.run,
        "clips_ok": row.summary.ok,
        "clips_total": row.summary.total,
        "mean_rank": _number(row.mean_rank, 10),
        "mean_rank_low": _number(low, 6),
        "mean_rank_high": _number(high, 6),
        "place": "" if row.place is None else row.place,
        "place_low": best,
        "place_high": worst,
        "ranked": "no" if row.reason else "yes",
        "reason": row.reason,
        "notes": "; ".join(note.text for note in row.summary.notes),
    }


def _of_cell(row: Row, cell: Cell) -> dict[str, Any]:
    low, high = row.intervals.get(cell.column, (None, None))
    best, worst = row.ranges.get(cell.column, ("", ""))
    return {
        "metric": cell.metric,
        "region": cell.region,
        "unit": cell.unit,
        "direction": cell.direction,
        "value": _number(cell.value, 10),
        "low": _number(low, 6),
        "high": _number(high, 6),
        "n": cell.n,
        "under_sampled": "yes" if cell.under_sampled else "",
        "rank": row.ranks.get(cell.column, ""),
        "rank_low": best,
        "rank_high": worst,
        "signature": cell.signature,
    }


def _number(value: float | None, digits: int) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.{digits}g}"


def wide_csv(table: Table, intervals: bool = True) -> str:
    """One line per model, values as people read them; formulas are defused, see above.

    The columns of all groups stand side by side, those of a mean rank first.

    Args:
        table: what to write.
        intervals: add the ends of each interval, in two columns after the values.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    leading = [cell.header for group in table.groups for cell in group.leading]
    headers = list(dict.fromkeys([*leading, *(cell.header for group in table.groups for cell in group.defined)]))
    named = [name for header in headers for name in ([header, f"{header} low", f"{header} high"] if intervals else [header])]
    head = ["benchmark", "fingerprint", "protocol", "track", "slice", "rank", "rank range", "model", "mean rank"]
    writer.writerow([*head, *map(_plain, named), "clips", "note"])
    for group in table.groups:
        names = [_plain(name) for name in (group.benchmark, group.fingerprint[:12], group.protocol, group.track, group.slice)]
        for row in group.rows:
            cells = {column.header: cell for column in group.defined if (cell := row.summary.cell(column.column))}
            values = [value for header in headers for value in _wide(row, cells.get(header), intervals)]
            place = [row.place or "", _plain(range_text(row.places))]
            writer.writerow([*names, *place, _plain(row.label), mean_text(row), *values, clips_text(row), _plain(row.note)])
    return text.getvalue()


def _wide(row: Row, cell: Cell | None, intervals: bool) -> list[str]:
    if cell is None:
        return ["", "", ""] if intervals else [""]
    ends = row.intervals.get(cell.column)
    shown = ["", ""] if ends is None else [f"{end * cell.scale:.{cell.digits}f}" for end in ends]
    return [cell.text, *shown] if intervals else [cell.text]


def _plain(text: str) -> str:
    return "'" + text if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def json_text(table: Table, options: Options) -> str:
    """The tables with their footnotes, and the options they were made with; one line per row, fields without a value left out."""
    tables = [
        ",\n".join(
            [
                f' {{"about": {_line(_about(group))}',
                f'  "columns": {_line([{key: getattr(cell, key) for key in _COLUMN} for cell in group.columns])}',
                f'  "notes": {_line(notes(group, intervals=False))}',
                '  "rows": [\n   ' + ",\n   ".join(_line(_json_row(row)) for row in group.rows) + "\n  ]}",
            ]
        )
        for group in table.groups
    ]
    return f'{{"options": {_line(dataclasses.asdict(options))},\n "tables": [\n' + ",\n".join(tables) + "\n]}\n"


_COLUMN = ("column", "metric", "region", "unit", "direction", "digits", "scale", "average")
_NUMBERS = ("value", "low", "high", "mean_rank", "mean_rank_low", "mean_rank_high")  # the CSV's text says with how many digits


def _json_row(row: Row) -> dict[str, Any]:
    shared = {"metric", "region", "unit", "direction", "under_sampled"}
    cells = {}
    for cell in row.summary.cells:
        found = {key: value for key, value in _of_cell(row, cell).items() if key not in shared}
        marks = {"under_sampled": cell.under_sampled or None, "absent": cell.absent, "unranked": cell.unranked, "note": cell.note}
        cells[cell.column] = _filled({**found, **marks})
    notes = [{"note": note.text, "clips": len(note.clips)} for note in row.summary.notes]
    return {"label": row.label, **_filled({**_of_row(row), "notes": notes or None}), "ranked": not row.reason, "cells": cells}


def _filled(found: Mapping[str, Any]) -> dict[str, Any]:
    return {key: float(value) if key in _NUMBERS else value for key, value in found.items() if value not in ("", None)}


def _line(found: Any) -> str:
    return json.dumps(found, ensure_ascii=False, allow_nan=False)


def pairs_csv(table: Table) -> str:
    """One line per column and pair of ranked models, the better one first: the difference, its interval, p and p after Holm's correction.

    The correction is over the pairs of one column of one table. Intervals are those of a single comparison.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(PAIRED)
    for group in table.groups:
        for ranking in group.rankings:
            about = {**_about(group), **{key: getattr(ranking.cell, key) for key in ("metric", "region", "unit", "direction", "signature")}}
            writer.writerows([line[key] for key in PAIRED] for line in _pairs(group, ranking, about))
    return text.getvalue()


def _pairs(group: Group, ranking: ColumnRanking, about: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    if ranking.pairs is None:
        return
    rows = [group.rows[row] for row in ranking.rows]
    found = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    p, (low, high) = ranking.pairs.p, ranking.pairs.intervals()
    holm = statistics.holm([float(p[i, j]) for i, j in found])
    for (i, j), adjusted in zip(found, holm, strict=True):
        yield {
            **about,
            "model": rows[i].summary.model,
            "run": rows[i].summary.run,
            "other": rows[j].summary.model,
            "other_run": rows[j].summary.run,
            "difference": _number(float(ranking.pairs.difference[i, j]), 6),
            "low": _number(float(low[i, j]), 6),
            "high": _number(float(high[i, j]), 6),
            "p": _number(float(p[i, j]), 4),
            "p_holm": _number(adjusted, 4),
            "n": ranking.pairs.n,
        }
