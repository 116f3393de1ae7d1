"""The README's three ways to a row, executed from its text: a folder of mp4 files, a Python callable, a program in its own environment."""

from __future__ import annotations

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.external.test_environment import python as python
from vpbench.benchmarks.demo import Demo
from vpbench.clip import MaskedClip

README = (Path(__file__).resolve().parent.parent.parent / "README.md").read_text()
SMALL = "benchmark=demo benchmark.frames=6 benchmark.height=96 benchmark.width=160 protocol=pixels"


def block(language: str, holding: str) -> str:
    (found,) = [text for text in re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL) if holding in text]
    return str(found)


@pytest.fixture
def mp4s(tmp_path: Path) -> Path:
    """What some system made elsewhere: lossy, at half the size."""
    import av

    folder = tmp_path / "MP4S"
    folder.mkdir()
    for handle in Demo(frames=6, height=96, width=160):
        frames = MaskedClip.of(handle.load()).frames[:, ::2, ::2]
        with av.open(str(folder / f"{handle.name}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=8, options={"crf": "18"})
            stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode(None))
    return folder


def test_three_ways_to_a_row(python: Path, mp4s: Path, tmp_path: Path) -> None:
    (tmp_path / "my_file.py").write_text(block("python", "class MyModel"))
    (tmp_path / "adapter.py").write_text(block("python", "import vpbench_worker"))
    script = block("bash", "vpbench score MP4S").replace("OTHER_PYTHON", str(python)).replace("benchmark=demo", SMALL)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(["bash", "-euc", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    with (tmp_path / "leaderboard" / "leaderboard.csv").open() as file:
        rows = {row["model"]: row for row in csv.DictReader(file) if (row["metric"], row["region"]) == ("psnr", "hole")}
    assert set(rows) == {"from_mp4", "MyModel", "program"}
    assert all(row["ranked"] == "yes" for row in rows.values())
    assert rows["from_mp4"]["notes"].startswith("lossy input: h264 yuv420p")
    assert "resized" in rows["from_mp4"]["notes"]
    assert rows["MyModel"]["value"] == rows["program"]["value"], "both paint the hole grey"
