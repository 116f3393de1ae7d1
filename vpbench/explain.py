"""``vpbench explain A B``: why two numbers differ. What is said is found in ``vpbench.differences``; here it is shown."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpbench.column_split import Difference, Part
    from vpbench.differences import Explanation
    from vpbench.results import Cell, Summary

CHOICES = ("protocol", "track", "model")
MEASURE = "--measure"  # a reason that names it can be helped with it
NEEDS_ARRAYS = f"(*) the run lacks the arrays: add {MEASURE}, which computes and keeps them"
MORE_DIGITS = 2  # than a table shows: effects are small


def add_parser(commands: Any) -> None:
    """Add ``explain`` to the commands of the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "explain",
        help="why two numbers differ",
        description="Split the difference of two results into its parts: each setting in which their protocols differ is turned alone, "
        "starting from A, over the arrays that A's run stores; clips that only one has are left out; the rest is the predictions.",
        epilog="exit status: 0 explained; 2 the two cannot be compared, or the choice is not clear.\n\n"
        "examples:\n  vpbench explain runs/demo/telea-* runs/demo/blank-*\n"
        "  vpbench explain RUN RUN --protocol pixels --other-protocol standard\n"
        "  vpbench explain RUN RUN --protocol standard --other-protocol vpbench-official \\\n"
        "      --column 'psnr[background]' --other-column 'psnr_onesided[background]' --measure\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for side in ("a", "b"):
        parser.add_argument(side, type=Path, metavar=side.upper(), help="a run folder, a submission, a saved baseline")
    parser.add_argument("--column", default="", metavar="C", help="only this column, e.g. psnr[hole]; default: all that both have")
    parser.add_argument("--other-column", default="", metavar="C", help="the column of B; default: as --column")
    for name in CHOICES:
        parser.add_argument(f"--{name}", default="", metavar=name[0].upper(), help=f"which {name}, where there are several")
        parser.add_argument(f"--other-{name}", default="", metavar=name[0].upper(), help=f"the {name} of B; default: as --{name}")
    parser.add_argument(
        "--measure",
        action="store_true",
        help="compute the arrays that a setting needs and the run lacks, from the stored predictions and the benchmark; they are kept",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything, unrounded, as JSON")
    parser.set_defaults(call=_command)


def _command(options: argparse.Namespace) -> int:
    from vpbench.differences import explain, pick
    from vpbench.storage import write_json

    one = pick(options.a, "", **{name: getattr(options, name) for name in CHOICES})
    chosen = {name: getattr(options, f"other_{name}") for name in CHOICES}
    other = pick(options.b, "other-", **{name: chosen[name] or getattr(options, name) for name in CHOICES})
    found = explain(one, other, options.column, options.other_column, options.measure)
    sys.stdout.write(text(found))
    if options.json is not None:
        write_json(options.json, as_json(found))
        sys.stdout.write(f"explanation: {options.json}\n")
    return 0


def text(found: Explanation) -> str:
    """The explanation as plain text: what differs, then every column that does, then what is equal, then what has no value."""
    lines = [f"A  {_title(found.a)}", f"B  {_title(found.b)}", ""]
    if found.equal:
        lines.append(f"equal: {', '.join(found.equal)}")
    lines += found.unknown
    if found.parts:
        lines += ["different:", *_grid([("", "A", "B", ""), *((p.name, p.a, p.b, p.why) for p in found.parts)])]
    same = [column for column in found.columns if column.equal]
    differing = [column for column in found.columns if not column.equal and not column.unmeasured]
    unmeasured: dict[str, list[str]] = {}
    for column in found.columns:
        if column.unmeasured:
            unmeasured.setdefault(column.why, []).append(" and ".join(dict.fromkeys((column.a.column, column.b.column))))
    for column in differing:
        lines += ["", *_column(column)]
    lines.append("")
    if any(MEASURE in part.why for column in differing for part in column.parts if part.effect is None):
        lines.append(NEEDS_ARRAYS)
    if same:
        lines.append(f"equal columns: {', '.join(column.a.column for column in same)}")
    lines += [f"{', '.join(names)}: {why}" for why, names in unmeasured.items()]
    for side, names in (("A", found.only_a), ("B", found.only_b)):
        if names:
            lines.append(f"only {side} has: {', '.join(names)} (compare with --column and --other-column)")
    compared, empty = len(same) + len(differing), len(found.columns) - len(same) - len(differing)
    verdict = "nothing differs" if found.nothing_differs else f"{len(differing)} of {compared} columns differ"
    if empty:
        count = f"{empty} column{'' if empty == 1 else 's'} without a value on either side"
        verdict = f"{verdict}; {count}" if compared else f"nothing to compare; {count}"
    lines.append(f"explain: {verdict}")
    return "\n".join(map(_printable, lines)) + "\n"


def _printable(line: str) -> str:
    """A line without what a terminal would obey."""
    return "".join(c for c in line.rstrip() if c.isprintable())


def _title(summary: Summary) -> str:
    clips = f"{summary.ok}/{summary.total} clips"
    return f"{summary.source}: {summary.model} on {summary.benchmark}, {summary.protocol}, {summary.track}, {clips}"


def _column(column: Difference) -> Iterator[str]:
    one, other = column.a, column.b
    name = one.header if one.column == other.column else f"{one.column} and {other.header}"
    values = f"{name}: A {_number(one.value, one)}, B {_number(other.value, one)}, B - A {_number(column.difference, one, '+')}"
    measured = [part for part in column.parts if part.effect is not None]
    if column.difference is None:
        yield f"{name}: {column.why}"
    elif len(column.parts) == len(measured) == 1:
        yield f"{values}: {measured[0].name} {_turn(measured[0])}"
        return
    else:
        yield values
    yield from _grid([(_number(part.effect, one, "+"), part.name, _turn(part), part.why) for part in measured], numbers=True)
    for part in column.parts:
        if part.effect is None:
            why = " (*)" if MEASURE in part.why else f": {part.why}" if part.why else ""
            yield f"  not measured: {part.name} {_turn(part)}".rstrip() + why


def _turn(part: Part) -> str:
    return f"{part.a} -> {part.b}" if part.a or part.b else ""


def _number(value: float | None, cell: Cell, sign: str = "") -> str:
    """A value as tables scale it, with more digits."""
    if value is None:
        return "-"
    text = f"{value * cell.scale:{sign}.{cell.digits + MORE_DIGITS}f}"
    return text if float(text) else text.replace("-", sign)  # no -0.0000


def _grid(rows: list[tuple[str, str, str, str]], numbers: bool = False) -> Iterator[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)] if rows else []
    for first, *rest in rows:
        cells = [first.rjust(widths[0]) if numbers else first.ljust(widths[0]), *map(str.ljust, rest, widths[1:])]
        yield "  " + "  ".join(cells).rstrip()


def as_json(found: Explanation) -> dict[str, Any]:
    """The explanation as JSON values; effects in natural units, unrounded."""
    return {
        "a": _side(found.a),
        "b": _side(found.b),
        "nothing_differs": found.nothing_differs,
        "equal": list(found.equal),
        "unknown": list(found.unknown),
        "parts": [_part(part) for part in found.parts],
        "columns": [
            {
                "column": column.a.column,
                "other_column": column.b.column,
                "unit": column.a.unit,
                "a": {"value": column.a.value, "signature": column.a.signature},
                "b": {"value": column.b.value, "signature": column.b.signature},
                "difference": column.difference,
                "why": column.why,
                "parts": [_part(part) for part in column.parts],
            }
            for column in found.columns
        ],
        "only_a": list(found.only_a),
        "only_b": list(found.only_b),
    }


def _side(summary: Summary) -> dict[str, Any]:
    names = ("benchmark", "fingerprint", "model", "run", "protocol", "track")
    return {"source": str(summary.source), **{name: getattr(summary, name) for name in names}, "clips": list(summary.clips)}


def _part(part: Part) -> dict[str, Any]:
    return {"part": part.name, "a": part.a, "b": part.b, "effect": part.effect, "why": part.why}
