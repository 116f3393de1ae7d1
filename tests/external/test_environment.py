"""A worker in a virtual environment of its own, which has nothing but NumPy and Pillow, in a sweep beside built-in models."""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

ADAPTER = """
import numpy as np
import vpbench_worker
from PIL import Image

def fill(job):
    for source, mask, out in zip(job.sources, job.masks, job.outs):
        pixels, hole = np.array(Image.open(source)), np.array(Image.open(mask)) > 0
        pixels[hole] = pixels[~hole].mean(axis=0)
        Image.fromarray(pixels).save(out)

vpbench_worker.run(fill)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of the environment; the two packages come from ours, so that no network is needed."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    ours = Path(sysconfig.get_path("purelib"))
    for name in ("numpy", "numpy.libs", "PIL", "pillow.libs"):
        if (ours / name).is_dir():
            shutil.copytree(ours / name, site / name, ignore=shutil.ignore_patterns("tests", "__pycache__"))
    return folder / "bin" / "python"


@pytest.mark.skipif(sys.platform == "win32", reason="another layout of virtual environments")
def test_a_worker_in_its_own_environment_takes_part_in_a_sweep(python: Path, tmp_path: Path) -> None:
    for module in ("torch", "cv2", "vpbench", "hydra"):
        assert subprocess.run([python, "-c", f"import {module}"], cwd=tmp_path, capture_output=True).returncode == 1
    (tmp_path / "adapter.py").write_text(ADAPTER)
    (tmp_path / "mine" / "model").mkdir(parents=True)
    leaf = f"defaults: [command, _self_]\nname: mean_colour\nargv: [{python}, adapter.py]\nworker: true\n"
    (tmp_path / "mine" / "model" / "mean_colour.yaml").write_text(leaf)
    line = ["run", "--config-dir", "mine", "-m", "model=mean_colour,telea,blank", "benchmark=demo", "protocol=pixels", "limit=2"]
    done = subprocess.run([sys.executable, "-m", "vpbench", *line], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    rank = [sys.executable, "-m", "vpbench", "rank", "runs/demo", "-o", "board"]
    subprocess.run(rank, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=True)
    with (tmp_path / "board" / "leaderboard.csv").open() as file:
        found = {row["model"]: float(row["value"]) for row in csv.DictReader(file) if (row["metric"], row["region"]) == ("psnr", "hole")}
    assert set(found) == {"mean_colour", "telea", "blank"}
    assert found["mean_colour"] != found["blank"]
