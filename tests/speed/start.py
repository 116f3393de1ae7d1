"""What a process of a sweep does before its first clip: hashing all files of the benchmark, without and with what another one noted.

    python -m tests.speed.start                     20,000 files of 64 kB

The files are in the cache of the file system, which no disk and no network slows down.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from vpbench import file_hashes
from vpbench.file_hashes import file_hash, remembered


def measure(record: Path, files: list[Path]) -> float:
    """Seconds that a new process takes."""
    file_hashes._known.clear()
    begun = time.perf_counter()
    with remembered(record):
        for path in files:
            file_hash(path)
    return time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--kilobytes", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "a-folder-with-a-name" / "000000000" / "of-the-usual-length"
        folder.mkdir(parents=True)
        files = [folder / f"{number:012}.mp4" for number in range(options.files)]
        for path in files:
            path.write_bytes(os.urandom(options.kilobytes * 1024))
        time.sleep(file_hashes.SETTLED_SECONDS + 0.5)
        record = Path(place) / "record"
        first, next_ = measure(record, files), measure(record, files)
        size = record.stat().st_size / 1e6
        print(f"{options.files} files: first {first:.2f} s, next {next_:.2f} s, ratio {first / next_:.1f}; the record has {size:.1f} MB")


if __name__ == "__main__":
    main()
