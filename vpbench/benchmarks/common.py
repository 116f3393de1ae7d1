"""What the benchmarks share: safe paths, clip names, and hashes of files."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

from vpbench.errors import DataError
from vpbench.file_hashes import file_hash


def existing_root(root: str | os.PathLike[str], what: str) -> Path:
    """The benchmark's root folder.

    Raises:
        DataError: it does not exist; says how to name another.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise DataError(f"{path}: no such folder. Give the folder of {what} as benchmark.root=DIR.")
    return path


def inside(root: Path, relative: str) -> Path:
    """``root / relative``, refused when it leaves ``root`` (``..``, absolute paths, drive letters); symbolic links are the user's own.

    Raises:
        DataError: names the path and the root.
    """
    plain = Path(relative.replace("\\", "/"))
    parts = plain.parts
    if not relative or plain.is_absolute() or ".." in parts or "\0" in relative or re.match(r"^[A-Za-z]:", relative):
        raise DataError(f"{relative!r}: leaves the folder {root}; clip names and paths in lists must stay inside it.")
    return root.joinpath(*parts)


def check_name(name: str, source: Path) -> str:
    """A clip's name, fit to be a file name: no separators, no control characters, not starting with a dot, at most 200 bytes.

    Raises:
        DataError: names ``source``, where the name comes from.
    """
    if not name or name.startswith(".") or re.search(r'[/\\:*?"<>|\x00-\x1f\x7f]', name) or len(name.encode()) > 200:
        raise DataError(f"{source}: {name!r} cannot name a clip; it leaves the folder or holds characters that file names must not have.")
    return name


def check_unique(names: Iterable[str], source: Path) -> None:
    """Refuse names that differ in case only: they would share files on many systems.

    Raises:
        DataError: gives both names.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.get(name.casefold())
        if other is not None:
            raise DataError(f"{source}: the clips {other!r} and {name!r} have the same name without regard to case; rename one.")
        seen[name.casefold()] = name


def fingerprint(files: Iterable[Path], *settings: Any) -> str:
    """Hex sha256 over the content of files, in their order, and over settings; paths and times do not count."""
    digest = hashlib.sha256()
    for path in files:
        digest.update(file_hash(path).encode())
    digest.update(repr(settings).encode())
    return digest.hexdigest()


def check_columns(path: Path, found: Collection[str], needed: Iterable[str]) -> None:
    """Refuse a list without a needed column.

    Raises:
        DataError: names the file, the column and what was found.
    """
    for name in needed:
        if name not in found:
            raise DataError(f"{path}: the column {name!r} is missing; found: {', '.join(found)}.")


def read_csv(path: Path, needed: Iterable[str]) -> list[dict[str, str]]:
    """Rows of a CSV file as text; absent optional values are empty.

    Raises:
        DataError: missing, not CSV, or without a needed column; names the file, the column and what was found.
    """
    import pandas

    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pandas.errors.ParserWarning)  # rows longer than the header would be cut
            table = pandas.read_csv(path, dtype=str, keep_default_na=False, index_col=False).fillna("")
    except (ValueError, OSError, pandas.errors.ParserWarning) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"{path}: cannot be read as CSV ({error}).") from error
    check_columns(path, [str(name) for name in table.columns], needed)
    return [{str(key): str(value) for key, value in row.items()} for row in table.to_dict("records")]


def whole_number(text: str, where: str) -> int:
    """An integer of a CSV cell (``12`` or ``12.0``).

    Raises:
        DataError: names the cell.
    """
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not number.is_integer():
        raise DataError(f"{where}: expected a whole number, found {text!r}.")
    return int(number)
