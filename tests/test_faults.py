"""Kill -9 at random moments of a sweep, again and again: the tables are those of a sweep that nobody disturbed, to the last byte."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = int(os.environ.get("VPBENCH_KILLS", "10"))  # make test-long: 50
MODEL = """
import time

class Slow:
    version = 1

    def __init__(self, level):
        self.level = level

    def __call__(self, clip, *, seed):
        time.sleep(0.3)
        frames = clip.frames.copy()
        frames[clip.masks] = self.level
        return frames
"""
SWEEP = ["model=dark,light", "benchmark=demo", "benchmark.frames=6", "benchmark.height=96", "benchmark.width=160", "protocol=pixels"]
TWO = ["shard=0,1", "num_shards=2", "hydra/launcher=cores", "hydra.launcher.n_jobs=2"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with two models."""
    (tmp_path / "slow.py").write_text(MODEL)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    for name, level in (("dark", 60), ("light", 190)):
        leaf = f"defaults: [custom, _self_]\nname: {name}\ntarget: slow.Slow\nkwargs: {{level: {level}}}\n"
        (tmp_path / "mine" / "model" / f"{name}.yaml").write_text(leaf)
    return tmp_path


def start(place: Path, out: str, *more: str) -> subprocess.Popen[str]:
    """A sweep with its children, if any, in a process group of its own."""
    line = [sys.executable, "-m", "vpbench", "run", "--config-dir", "mine", "-m", *SWEEP, f"out={out}", *more]
    return subprocess.Popen(line, cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def tables(place: Path, out: str) -> dict[str, bytes]:
    board = place / f"board-{out}"
    line = [sys.executable, "-m", "vpbench", "rank", f"{out}/demo", "-o", str(board)]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in board.iterdir()}


def records(place: Path) -> list[Path]:
    return list((place / "stormy").glob("demo/*/clips/*.json"))


def test_a_sweep_that_is_killed_again_and_again_ends_with_the_same_tables(place: Path) -> None:
    output, _ = start(place, "calm").communicate(timeout=300)
    expected = tables(place, "calm")
    chance = random.Random(0)
    for number in range(KILLS):
        before = records(place)
        if len(before) > 10:  # nearly all done: these are to be made once more, with everything else left as it is
            for path in before:
                path.unlink()
            before = []
        process = start(place, "stormy", *(TWO if number % 3 == 2 else ()))
        until = len(before) + chance.randint(0, 2)
        while process.poll() is None and not (len(records(place)) >= until and any((place / "stormy").rglob("*.claim"))):
            time.sleep(0.01)
        time.sleep(chance.uniform(0.0, 0.5))
        assert process.poll() is None, process.communicate()
        os.killpg(process.pid, signal.SIGKILL)  # with all its children, as when a machine is lost
        process.communicate(timeout=60)
        assert set(before) <= set(records(place)), "a clip that was done is done no more"
    output, _ = start(place, "stormy").communicate(timeout=300)
    assert tables(place, "stormy") == expected, output
    assert not [path for path in (place / "stormy").rglob("*") if path.suffix in (".claim", ".tmp")]
