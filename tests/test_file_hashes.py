"""Hashes of files that processes tell each other."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from vpbench import file_hashes
from vpbench.errors import DataError
from vpbench.file_hashes import file_hash, remembered
from vpbench.storage import sha256_file

LONG_AGO = time.time() - 1000


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are read."""
    names: list[str] = []

    def reading(path: Path) -> str:
        names.append(path.name)
        return sha256_file(path)

    monkeypatch.setattr(file_hashes, "sha256_file", reading)
    monkeypatch.setattr(file_hashes, "SETTLED_SECONDS", -1000.0)  # the time of the last change of metadata cannot be set
    return names


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    made = [tmp_path / "a", tmp_path / "b"]
    for path in made:
        path.write_text(path.name)
    return made


def process(record: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What a process of its own finds."""
    monkeypatch.setattr(file_hashes, "_known", {})
    with remembered(record):
        return [file_hash(path) for path in files]


def test_another_process_reads_nothing_again(read: list[str], files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = process(tmp_path / "record", files, monkeypatch)
    assert read == ["a", "b"]
    assert process(tmp_path / "record", files, monkeypatch) == first == [sha256_file(path) for path in files]
    assert read == ["a", "b"]


def test_what_changed_is_read_again_even_with_its_old_time(
    read: list[str], files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.utime(files[0], (LONG_AGO, LONG_AGO))
    process(tmp_path / "record", files, monkeypatch)
    time.sleep(0.02)  # file systems count time in steps of some milliseconds
    files[0].write_text("c")
    os.utime(files[0], (LONG_AGO, LONG_AGO))
    assert process(tmp_path / "record", files, monkeypatch)[0] == sha256_file(files[0])
    assert read == ["a", "b", "a"]


def test_what_changed_just_now_is_not_noted(files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    process(tmp_path / "record", files, monkeypatch)
    assert not (tmp_path / "record").exists()


@pytest.mark.parametrize("entry", ["", "1 2 3 4", 7, None, ["1 2 3 4", "0" * 64], "1 2 3 4 " + "x" * 64])
def test_a_record_that_says_something_else_counts_for_nothing(
    entry: object, read: list[str], files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "record"
    record.write_text(json.dumps({str(files[0]): entry}))
    assert process(record, files, monkeypatch) == [sha256_file(path) for path in files]
    record.write_text("{")
    assert process(record, files, monkeypatch) == [sha256_file(path) for path in files]
    process(record, files, monkeypatch)
    assert read == ["a", "b", "a", "b"]


def test_a_record_that_cannot_be_written_is_no_error(read: list[str], files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    assert process(files[0] / "record", files, monkeypatch) == [sha256_file(path) for path in files]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing: cannot be read"):
        file_hash(tmp_path / "nothing")
