"""A sweep of two slow models over the demo, in processes of its own, and the tables that come of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

MODEL = """
import time

class Slow:
    version = 1

    def __init__(self, level):
        self.level = level

    def __call__(self, clip, *, seed):
        time.sleep({seconds})
        frames = clip.frames.copy()
        frames[clip.masks] = self.level
        return frames
"""


def write_models(place: Path, seconds: float) -> Path:
    """Write ``dark`` and ``light``, which take so many seconds for a clip, and the leaves that name them in ``place/mine``."""
    (place / "slow.py").write_text(MODEL.format(seconds=seconds))
    (place / "mine" / "model").mkdir(parents=True)
    for name, level in (("dark", 60), ("light", 190)):
        leaf = f"defaults: [custom, _self_]\nname: {name}\ntarget: slow.Slow\nkwargs: {{level: {level}}}\n"
        (place / "mine" / "model" / f"{name}.yaml").write_text(leaf)
    return place


def start(place: Path, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[str]:
    """Start the sweep in ``place``, with its children, if any, in a process group of its own."""
    line = [sys.executable, "-m", "vpbench", "run", "--config-dir", "mine", "-m", "model=dark,light", "benchmark=demo", "protocol=pixels"]
    return subprocess.Popen(
        [*line, *arguments], cwd=place, env=environment, text=True, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finished(process: subprocess.Popen[str], status: int = 0) -> str:
    """What a sweep printed, which must have ended with ``status``."""
    output, _ = process.communicate(timeout=600)
    assert process.returncode == status, output
    return output


def tables(place: Path, out: str) -> dict[str, bytes]:
    """The files of the tables of the runs in ``place/out``, by name."""
    board = place / f"board-{Path(out).name}"
    line = [sys.executable, "-m", "vpbench", "rank", f"{out}/demo", "-o", str(board)]
    done = subprocess.run(line, cwd=place, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in board.iterdir()}


def processes(which: str, number: int) -> list[int]:
    """The living processes whose ``ppid`` or ``pgid`` is this number, but for ``ps`` itself."""
    line = ["ps", "-eo", f"pid=,{which}=,stat=,comm="]
    found = subprocess.run(line, capture_output=True, text=True, check=True).stdout
    rows = [row.split(None, 3) for row in found.splitlines()]
    return [int(pid) for pid, of, state, name in rows if int(of) == number and not state.startswith("Z") and name != "ps"]
