from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vpbench import storage
from vpbench.errors import StorageError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "value.json"
    storage.write_json(path, {"old": 1})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(storage.os, "fsync", full)
    with pytest.raises(StorageError, match=r"value\.json: cannot be written \(No space left on device\).*out=DIR"):
        storage.write_json(path, {"new": 2})
    assert json.loads(path.read_text()) == {"old": 1}
    assert os.listdir(tmp_path) == ["value.json"]


def test_write_once_keeps_the_first(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    storage.write_once(path, {"first": True})
    storage.write_once(path, {"second": True})
    assert storage.read_json(path) == {"first": True}
    assert os.listdir(tmp_path) == ["run.json"]


def test_json_refuses_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        storage.write_json(tmp_path / "x.json", {"value": float("nan")})


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"a\.json"):
        storage.read_json(path)


def test_arrays_round_trip_with_equal_bytes(tmp_path: Path) -> None:
    arrays = {"b": np.arange(5, dtype=np.int64), "a": np.array([1.5, np.inf, np.nan])}
    for name in ("one.npz", "two.npz"):
        storage.write_arrays(tmp_path / name, dict(arrays))
        arrays = dict(reversed(arrays.items()))
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
    np.testing.assert_array_equal(storage.read_arrays(tmp_path / "one.npz")["a"], arrays["a"])


def test_pickled_arrays_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "evil.npz", x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(StorageError, match=r"evil\.npz"):
        storage.read_arrays(tmp_path / "evil.npz")


def test_cached_arrays_are_computed_once_and_again_when_damaged(tmp_path: Path) -> None:
    calls = []

    def compute() -> dict[str, np.ndarray]:
        calls.append(1)
        return {"x": np.ones(2)}

    path = tmp_path / "c.npz"
    storage.cached_arrays(path, compute)
    storage.cached_arrays(path, compute)
    assert len(calls) == 1
    path.write_bytes(path.read_bytes()[:30])
    np.testing.assert_array_equal(storage.cached_arrays(path, compute)["x"], np.ones(2))
    assert len(calls) == 2


class TestClaim:
    def test_where_no_folder_can_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "clips").write_text("")
        with (
            pytest.raises(StorageError, match=r"clips: cannot be written \(File exists\)"),
            storage.Claim.take(tmp_path / "clips" / "a.claim"),
        ):
            pass

    def test_is_gone_afterwards(self, tmp_path: Path) -> None:
        path = tmp_path / "a.claim"
        with storage.Claim.take(path) as claim:
            assert claim is not None
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists()

    def test_that_cannot_be_removed(self, tmp_path: Path) -> None:
        (tmp_path / "a.claim").mkdir()
        os.utime(tmp_path / "a.claim", (0, 0))  # of nobody alive
        with pytest.raises(StorageError, match=r"a\.claim: cannot be written"), storage.Claim.take(tmp_path / "a.claim"):
            pass

    def test_of_a_living_process_is_respected(self, tmp_path: Path) -> None:
        path = tmp_path / "a.claim"
        other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        try:
            storage.write_json(path, {"host": "here", "machine": storage.machine(), "pid": other.pid, "since": 0})
            with storage.Claim.take(path) as claim:
                assert claim is None
        finally:
            other.kill()
        os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        with storage.Claim.take(path) as claim:
            assert claim is not None, "its holder is dead now, and nobody has asked for how it ended"
        storage.write_json(path, {"host": "here", "machine": storage.machine(), "pid": other.pid, "since": 0})
        other.wait()
        with storage.Claim.take(path) as claim:
            assert claim is not None, "its holder is gone"

    def test_of_another_host_counts_while_its_heartbeat_is_fresh(self, tmp_path: Path) -> None:
        path = tmp_path / "a.claim"
        storage.write_json(path, {"host": "elsewhere", "pid": 1, "since": 0})
        assert storage.holder_is_alive(path)
        os.utime(path, (0, 0))
        assert not storage.holder_is_alive(path)

    def test_damaged_claims_do_not_block(self, tmp_path: Path) -> None:
        path = tmp_path / "a.claim"
        path.write_text("{")
        os.utime(path, (0, 0))
        with storage.Claim.take(path) as claim:
            assert claim is not None
