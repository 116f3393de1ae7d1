"""Hashes of a benchmark's files, computed once for the same path, size, inode and times."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from vpbench.errors import DataError, StorageError
from vpbench.storage import read_json, sha256_file, write_json

SETTLED_SECONDS = 2.0  # a file that was changed less long ago might change again without another time
ENTRY = re.compile(r"(\d+ \d+ \d+ \d+) ([0-9a-f]{64})")
_known: dict[str, tuple[str, str]] = {}  # of this process: stamp and hash by absolute path


def file_hash(path: Path) -> str:
    """Hex sha256 of a file.

    Raises:
        DataError: no such file.
    """
    name = os.path.abspath(path)
    try:
        stamp = _stamp(path)
        known = _known.get(name)
        if known is None or known[0] != stamp:
            _known[name] = known = (stamp, sha256_file(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error
    return known[1]


@contextlib.contextmanager
def remembered(record: Path) -> Iterator[None]:
    """Know within the block what earlier processes noted in the file ``record``, and note there what came up.

    Without it every process of a sweep reads all files of its benchmark. A damaged or foreign record counts for nothing, as does one
    that cannot be written. Whoever does not trust it deletes it.
    """
    noted: dict[str, object] = {}
    with contextlib.suppress(StorageError):
        noted = read_json(record) if record.exists() else {}
    entries = {name: entry.groups() for name, text in noted.items() if isinstance(text, str) and (entry := ENTRY.fullmatch(text))}
    for name, (stamp, sha256) in entries.items():
        _known.setdefault(name, (stamp, sha256))
    before = dict(_known)
    yield
    settled = (time.time() - SETTLED_SECONDS) * 1e9
    new = {
        name: f"{stamp} {sha256}"
        for name, (stamp, sha256) in _known.items()
        if before.get(name) != (stamp, sha256) and max(map(int, stamp.split()[2:])) < settled
    }
    if new:
        with contextlib.suppress(StorageError):  # a folder that cannot be written
            write_json(record, noted | new)


def _stamp(path: Path) -> str:
    stat = path.stat()
    return f"{stat.st_size} {stat.st_ino} {stat.st_mtime_ns} {stat.st_ctime_ns}"
