"""Memory is bounded by a few clips, however many a benchmark has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.toy import Handle, toy_clip
from vpbench.clip import Clip
from vpbench.prefetch import prefetched

ROOT = Path(__file__).resolve().parent.parent
CODE = """
import dataclasses, resource, sys
sys.path.insert(0, sys.argv[1])
from tests.conftest import custom, pixels
from tests import toy
from vpbench.clip import Clip
from vpbench.running import Run
real = toy.toy_clip
toy.toy_clip = lambda name, frames, operation: dataclasses.replace(real("same", frames, 360, 480), name=name)
leaf = pixels()
leaf["metrics"] = {"psnr": {**leaf["metrics"]["psnr"], "regions": ["hole"]}}
leaf["mean_rank"] = []
names = [f"clip{i:03}" for i in range(int(sys.argv[2]))]
run = Run({"model": custom("grey"), "benchmark": {"_target_": "tests.toy.Toy", "names": names, "frames": 40}, "protocol": leaf,
           "seed": 0, "track": ["raw"], "clips": None, "limit": None, "out": sys.argv[3], "device": "cpu"})
result = run.execute()
assert result.ok == len(names), result.failed
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""
CLIP_BYTES = 40 * 360 * 480 * 4  # frames and masks


def peak(clips: int, out: Path) -> int:
    command = [sys.executable, "-c", CODE, str(ROOT), str(clips), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.strip())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell the peak memory of a process")
def test_fifty_copies_of_a_clip_need_no_more_than_four(tmp_path: Path) -> None:
    few, many = peak(4, tmp_path / "few"), peak(50, tmp_path / "many")
    assert many - few < 3 * CLIP_BYTES, f"{few / 1e6:.0f} MB for 4 clips, {many / 1e6:.0f} MB for 50"


class TestPrefetch:
    def test_the_next_clip_is_read_while_the_present_one_is_worked_on(self) -> None:
        import threading

        read = []
        second = threading.Event()

        class Watched(Handle):
            def load(self) -> Clip:
                read.append(self.name)
                if len(read) == 2:
                    second.set()
                return toy_clip(self.name)

        clips = prefetched([Watched(name, "", 4) for name in "abcd"])
        next(clips)
        assert second.wait(10), "clip b is read while a is in use"
        assert not threading.Event().wait(0.2)
        assert read == ["a", "b"], "and no further"
        assert [handle.name for handle, _ in clips] == ["b", "c", "d"]

    def test_an_unreadable_clip_does_not_stop_the_others(self) -> None:
        found = {handle.name: clip for handle, clip in prefetched([Handle(n, "", 4) for n in ("a", "broken", "c")])}
        assert isinstance(found["broken"], OSError)
        assert isinstance(found["c"], Clip)

    def test_leaving_early_stops_the_reader(self) -> None:
        import threading

        clips = prefetched([Handle(n, "", 4) for n in "abcdef"])
        next(clips)
        clips.close()
        for thread in threading.enumerate():
            if thread.name == "vpbench-prefetch":
                thread.join(5)
                assert not thread.is_alive()


def test_a_clip_is_what_this_test_thinks() -> None:
    clip = toy_clip("x", 40, 360, 480)
    assert clip.frames.nbytes + clip.masks.nbytes == CLIP_BYTES
    assert clip.frames.dtype == np.uint8
