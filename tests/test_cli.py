"""Start-up is part of the product: light commands stay light, and their help's examples run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vpbench import __version__, cli
from vpbench.cli import main

HEAVY = ("torch", "cv2", "decord", "av", "skimage", "scipy", "pandas")


def loaded_after(statement: str, tmp_path: Path) -> list[str]:
    """Modules of ``HEAVY`` that are imported once ``statement`` has run in a fresh interpreter; torch is present as a stand-in."""
    (tmp_path / "torch.py").write_text("")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r})\ntry:\n    {statement}\nexcept SystemExit:\n    pass\n"
    code += f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return eval(done.stderr.strip().splitlines()[-1])  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["run", "--help"], ["rank", "--help"], ["list", "--help"], ["gate", "--help"]]
)
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    assert loaded_after(f"from vpbench.cli import main; main({arguments!r})", tmp_path) == []


def test_rank_imports_no_torch_and_nothing_of_the_metrics(tmp_path: Path, run) -> None:  # type: ignore[no-untyped-def]
    folder = run(limit=2).folder
    loaded = loaded_after(f"from vpbench.cli import main; main(['rank', {str(folder)!r}, '-o', {str(tmp_path / 'o')!r}])", tmp_path)
    assert "torch" not in loaded
    assert "cv2" not in loaded
    assert (tmp_path / "o" / "leaderboard.csv").exists()


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"vpbench {__version__}\n"


def test_no_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "vpbench run experiment=demo" in capsys.readouterr().out


def test_rank_of_nothing_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["rank", str(tmp_path)]) == 2
    assert str(tmp_path) in capsys.readouterr().err


@pytest.mark.parametrize("group", ["model", "benchmark", "protocol", "experiment"])
def test_list_shows_what_ships(group: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", group]) == 0
    shipped = {"model": "flow_propagation", "benchmark": "davis", "protocol": "pixels", "experiment": "demo"}
    assert f"  {shipped[group]}\n" in capsys.readouterr().out


def test_the_examples_of_the_help_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"^  vpbench (run|rank|list)(.*?)(?:   .*)?$", cli.RUN_HELP.split("examples:")[1], re.M)
    assert len(examples) == 3
    for command, rest in examples:
        if "experiment=demo" in rest:
            rest += " limit=1 hydra.sweeper.params.model='telea,blank'"
        assert main([command, *rest.split(), *(["limit=1"] if "limit" not in rest else [])]) == 0
    assert main(["rank", "runs/demo", "-o", "leaderboard"]) == 0
    assert main(["list", "model"]) == 0
