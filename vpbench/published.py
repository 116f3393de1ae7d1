"""Numbers that papers print, as CSV files kept in git; shown apart, never ranked with measured rows.

What a published number means is often not known (region, masks, text length), so every row says how certain its digits and its meaning
are. ``leaderboards/README.md`` describes the format.
"""

from __future__ import annotations

import argparse
import csv
import html
import re
import sys
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from vpbench.errors import ConfigError, DataError

FOLDER = Path("leaderboards") / "published"
CHECKOUT = Path(__file__).resolve().parent.parent
COLUMNS = (
    *("source", "where", "benchmark", "split", "model", "metric", "unit", "direction", "scale", "printed", "value"),
    *("protocol", "digits", "digits_why", "meaning", "meaning_why"),
)
MAY_BE_EMPTY = ("split", "unit")
SOURCES = r"arXiv:\d{4}\.\d{4,5}|github:[\w.-]+/[\w.-]+@[0-9a-f]{7,40}"
NUMBER = r"-?\d*\.?\d+"
ARROWS = {"higher": "↑", "lower": "↓"}
TEXT_WIDTH = 120  # characters: where notes are wrapped in a terminal


@dataclass(frozen=True)
class Number:
    """One published number.

    Attributes:
        source: ``arXiv:ID``, or ``github:OWNER/NAME@COMMIT``.
        where: the table in it, e.g. ``Table 2``.
        split: of the benchmark, as our configs name it; empty where there is none.
        model: as printed.
        metric: as printed.
        unit: ``dB``, or empty.
        direction: ``higher`` or ``lower``: which values are better.
        scale: what is printed is ``value * scale``.
        printed: the digits exactly as printed, e.g. ``.44``.
        value: in the natural unit, exact.
        protocol: how it was measured, as far as known.
        digits: ``high`` or ``low``: how certain it is that the source prints these digits.
        meaning: ``high`` or ``low``: how certain it is what was measured.
    """

    source: str
    where: str
    benchmark: str
    split: str
    model: str
    metric: str
    unit: str
    direction: str
    scale: Decimal
    printed: str
    value: Decimal
    protocol: str
    digits: str
    digits_why: str
    meaning: str
    meaning_why: str

    @property
    def header(self) -> str:
        """The metric as a table's head, e.g. ``LPIPS x100 ↓``."""
        unit = f" ({self.unit})" if self.unit else ""
        scale = f" x{self.scale}" if self.scale != 1 else ""
        return f"{self.metric}{unit}{scale} {ARROWS[self.direction]}"


@dataclass(frozen=True)
class PublishedTable:
    """A table as its source prints it: the numbers of one source, place, benchmark and split, in the order of the file."""

    numbers: tuple[Number, ...]

    @property
    def title(self) -> str:
        """Source, place and data."""
        first = self.numbers[0]
        return " · ".join(part for part in (first.source, first.where, first.benchmark, first.split) if part)

    @property
    def headers(self) -> dict[str, str]:
        """The head of every metric's column, by metric."""
        return {number.metric: number.header for number in self.numbers}

    @property
    def rows(self) -> dict[str, dict[str, str]]:
        """The printed digits, by model and metric."""
        found: dict[str, dict[str, str]] = {}
        for number in self.numbers:
            found.setdefault(number.model, {})[number.metric] = number.printed
        return found

    @property
    def cells(self) -> list[list[str]]:
        """Heads and rows; a metric that a model lacks is an empty cell."""
        return [
            ["model", *self.headers.values()],
            *([model, *(row.get(metric, "") for metric in self.headers)] for model, row in self.rows.items()),
        ]


def default_folder() -> Path:
    """``leaderboards/published`` of the current directory or of the checkout that this package runs from.

    Raises:
        ConfigError: neither exists (published tables are not part of the installed package).
    """
    for folder in (FOLDER, CHECKOUT / FOLDER):
        if folder.is_dir():
            return folder
    raise ConfigError(f"there is no {FOLDER} here. Run this in a checkout of vpbench, or name the folder with --folder DIR.")


def tables(folder: Path | None = None, names: Sequence[str] = ()) -> dict[str, list[PublishedTable]]:
    """Read and check published tables.

    Args:
        folder: holds ``<name>.csv``; None for ``default_folder()``.
        names: of the files without ``.csv``; empty for all.

    Returns:
        the tables of each file, by its name, in order of names.

    Raises:
        ConfigError: no folder, no file in it, or a name that does not exist.
        DataError: a file that is not in our format; names the file, the line and the key.
    """
    folder = default_folder() if folder is None else folder
    from vpbench.configuration import unknown_name  # not at the top: it loads OmegaConf, which help texts do not need

    files = {file.stem: file for file in sorted(folder.glob("*.csv"))}
    if not files:
        raise ConfigError(f"{folder}: holds no published tables (*.csv).")
    for name in names:
        if name not in files:
            raise unknown_name("published", name, list(files))
    return {name: _grouped(read_numbers(file)) for name, file in files.items() if not names or name in names}


def _grouped(numbers: Iterable[Number]) -> list[PublishedTable]:
    found: dict[tuple[str, ...], list[Number]] = {}
    for number in numbers:
        found.setdefault((number.source, number.where, number.benchmark, number.split), []).append(number)
    return [PublishedTable(tuple(group)) for group in found.values()]


def read_numbers(file: Path) -> list[Number]:
    """Read and check one file.

    Raises:
        DataError: unreadable, other columns, an empty or malformed value, a number that is not what is printed, the same cell twice, or
            a metric whose unit, direction or scale changes within the file.
    """
    try:
        lines = list(csv.reader(file.read_text(encoding="utf-8").splitlines(), strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: cannot be read as CSV ({error}).") from error
    head = lines[0] if lines else []
    for key in head:
        if key not in COLUMNS:
            raise DataError(f"{file}: {_unknown('column', key, COLUMNS)}")
    if head != list(COLUMNS):
        raise DataError(f"{file}: expected the columns {', '.join(COLUMNS)}; found {', '.join(head) or 'none'}.")
    numbers: list[Number] = []
    first: dict[tuple[str, ...], int] = {}
    heads: dict[tuple[str, str], tuple[str, int]] = {}
    for index, line in enumerate(lines[1:], start=2):
        number = _number(line, f"{file}, row {index}")
        cell = (number.source, number.where, number.benchmark, number.split, number.model, number.metric)
        if cell in first:
            raise DataError(f"{file}, row {index}: the same cell as row {first[cell]} ({', '.join(part for part in cell if part)}).")
        first[cell] = index
        header, earlier = heads.setdefault((number.source, number.metric), (number.header, index))
        if header != number.header:
            raise DataError(f"{file}, row {index}: {number.header!r} here, {header!r} in row {earlier}: one metric has one unit and scale.")
        numbers.append(number)
    if not numbers:
        raise DataError(f"{file}: holds no numbers.")
    return numbers


def _number(line: Sequence[str], where: str) -> Number:
    if len(line) != len(COLUMNS):
        raise DataError(f"{where}: {len(line)} values for {len(COLUMNS)} columns.")
    found: dict[str, Any] = dict(zip(COLUMNS, line, strict=True))
    for key, text in found.items():
        if text != text.strip() or not text.isprintable():
            raise DataError(f"{where}: {key} is {text!r}: leave out spaces at its ends and line breaks.")
        if not text and key not in MAY_BE_EMPTY:
            raise DataError(f"{where}: {key} is empty; every number needs one.")
    if not re.fullmatch(SOURCES, found["source"]):
        raise DataError(f"{where}: source is {found['source']!r}; expected arXiv:ID or github:OWNER/NAME@COMMIT.")
    for key, known in (("direction", tuple(ARROWS)), ("digits", ("high", "low")), ("meaning", ("high", "low"))):
        if found[key] not in known:
            raise DataError(f"{where}: {_unknown(key, found[key], known)}")
    if not re.fullmatch(NUMBER, found["printed"]):
        raise DataError(f"{where}: printed is {found['printed']!r}; expected digits as printed, such as 20.97 or .44.")
    try:
        found["scale"], found["value"] = Decimal(found["scale"]), Decimal(found["value"])
        exact = found["value"] * found["scale"] == Decimal(found["printed"])
    except InvalidOperation as error:
        raise DataError(
            f"{where}: scale or value is no number ({line[COLUMNS.index('scale')]}, {line[COLUMNS.index('value')]})."
        ) from error
    if not found["scale"].is_finite() or found["scale"] <= 0:
        raise DataError(f"{where}: scale is {found['scale']}; expected a number above 0.")
    if not exact:
        raise DataError(f"{where}: value {found['value']} times scale {found['scale']} is not the {found['printed']} that is printed.")
    return Number(**found)


def _unknown(what: str, given: str, known: Sequence[str]) -> str:
    from vpbench.configuration import unknown_name

    return str(unknown_name(what, given, known))


def notes(numbers: Sequence[Number]) -> list[str]:
    """What a reader must know of these numbers: protocol, and certainty of digits and meaning with the reason, each said once."""
    lines = []
    for kind in ("protocol", "digits", "meaning"):
        reasons: dict[tuple[str, str], list[Number]] = {}
        for number in numbers:
            certain = (number.protocol,) if kind == "protocol" else (f"{getattr(number, kind)}: {getattr(number, f'{kind}_why')}",)
            reasons.setdefault((kind, *certain), []).append(number)
        which = {reason: _which(group, numbers) for reason, group in reasons.items()}
        unclear = [reason for reason, label in which.items() if label is None]
        for reason, label in which.items():
            others = " (the others)" if len(unclear) == 1 else " (some cells, see the CSV)"
            colon = ": " if kind == "protocol" else " "
            lines.append(f"{kind}{others if label is None else label}{colon}{reason[1]}.")
    return lines


def _which(group: Sequence[Number], numbers: Sequence[Number]) -> str | None:
    """Which of the numbers a note is about: empty for all of them, None where lists of metrics, tables and models do not say it."""
    alike, parts = list(numbers), []
    for key in ("metric", "where", "benchmark", "split", "model"):
        values = dict.fromkeys(getattr(number, key) for number in group)
        if len(values) < len({getattr(number, key) for number in alike}):
            parts.append(", ".join(value or "no split" for value in values))
            alike = [number for number in alike if getattr(number, key) in values]
    if len(alike) != len(group):
        return None
    return f" ({'; '.join(parts)})" if parts else ""


def text(found: dict[str, list[PublishedTable]]) -> str:
    """The tables as plain text, the notes of each file below them."""
    blocks = []
    for name, group in found.items():
        for table in group:
            widths = [max(map(len, column)) for column in zip(*table.cells, strict=True)]
            lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in table.cells)
            blocks.append("\n".join([table.title, *lines]))
        wrapped = ("\n".join(textwrap.wrap(note, TEXT_WIDTH, subsequent_indent="    ", initial_indent="  ")) for note in _all_notes(group))
        blocks.append("\n".join([f"published, not measured here ({name}.csv):", *wrapped]))
    return "\n\n".join(blocks) + "\n"


def markdown(found: dict[str, list[PublishedTable]]) -> str:
    """The tables as Markdown, one section per file."""
    blocks = [
        "# Published numbers",
        f"Written by `vpbench published --markdown {(FOLDER / 'README.md').as_posix()}` from the CSV files beside it: do not edit.",
        "Digits are as printed. These numbers were not measured here and are never ranked with measured rows; read the notes first.",
    ]
    for name, group in found.items():
        blocks.append(f"## {name}.csv")
        for table in group:
            head, *rows = [[_escape(cell) for cell in row] for row in table.cells]
            lines = [head, [":--", *("--:" for _ in head[1:])], *rows]
            blocks += [f"**{_escape(table.title)}**", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
        blocks.append("\n".join(f"- {_escape(note)}" for note in _all_notes(group)))
    return "\n\n".join(blocks) + "\n"


def _all_notes(group: Sequence[PublishedTable]) -> list[str]:
    return notes([number for table in group for number in table.numbers])


def _escape(cell: str) -> str:
    return re.sub(r"([\\`*\[\]_|~])", r"\\\1", html.escape(cell, quote=False))


def add_parser(commands: Any) -> None:
    """Add ``published`` to the commands of the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "published",
        help="numbers that papers print, with source and certainty",
        description="Show published tables as their sources print them. They are never ranked with measured rows.",
        epilog="examples:\n  vpbench published\n  vpbench published videopainter\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="files of the folder, without .csv; default: all")
    parser.add_argument("--folder", type=Path, metavar="DIR", help=f"where they lie; default: {FOLDER} here or in the checkout")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write them as Markdown instead")
    parser.set_defaults(call=_command)


def _command(options: argparse.Namespace) -> int:
    found = tables(options.folder, options.names)
    if options.markdown is None:
        sys.stdout.write(text(found))
        return 0
    from vpbench.storage import write_bytes

    write_bytes(options.markdown, markdown(found).encode())
    sys.stdout.write(f"published tables: {options.markdown}\n")
    return 0
