"""What is in the tree is in the wheel, and what is in the wheel works."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAPPING = {"vpbench": "vpbench", "metrics": "vpbench/metrics", "baselines": "vpbench/baselines", "conf": "vpbench/conf"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """A wheel built from a clean copy: old build folders put deleted files into new wheels."""
    clean = tmp_path_factory.mktemp("clean")
    for name in (*MAPPING, "pyproject.toml", "README.md", "LICENSE"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, clean / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, clean / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(clean / "dist"), str(clean)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return zipfile.ZipFile(next((clean / "dist").glob("*.whl")))


def test_the_wheel_holds_the_tree_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    tree = {
        f"{target}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, target in MAPPING.items()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == tree


def test_the_wheel_runs_from_anywhere(wheel: zipfile.ZipFile, tmp_path: Path) -> None:
    wheel.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); import vpbench; assert 'site' in vpbench.__file__;"
        "from vpbench.cli import main; sys.exit(main(['run', 'model=telea', 'benchmark=demo', 'limit=1']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "telea" in done.stdout
