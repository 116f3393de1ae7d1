"""`vpbench check`: what a model needs, what of it is missing, and the exit status; nothing is loaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.baselines.diffusion.files import pipeline
from tests.baselines.diffusion.tiny_wan import wan_vace
from tests.test_cli import loaded_after
from tests.toy import Noisy
from vpbench import check as check_module
from vpbench.check import Need, check, needs, unmet
from vpbench.cli import main
from vpbench.errors import ConfigError


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


class Needy(Noisy):
    """A user's own model that says what it needs."""

    def __init__(self, file: str = "") -> None:
        super().__init__()
        self.file = file

    def needs(self) -> list[Need]:
        problems = () if Path(self.file).exists() else (f"{self.file}: is missing",)
        return [Need("kwargs.file", self.file, self.file, problems, size="3 GB", licence="MIT", get="ask the author")]


def test_a_model_without_weights_needs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model=telea"]) == 0
    assert capsys.readouterr().out == "check: ok  telea needs nothing besides vpbench\n"


def test_a_model_in_a_folder_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "mine.yaml").write_text("defaults: [telea, _self_]\nname: mine\nradius_px: 9\n")
    assert main(["check", "--config-dir", str(tmp_path), "model=mine"]) == 0
    assert capsys.readouterr().out == "check: ok  mine needs nothing besides vpbench\n"
    with pytest.raises(ConfigError, match=r"--config-dir .*nowhere: no such folder"):
        check(["model=mine"], tmp_path / "nowhere")


def test_what_is_missing_is_said_with_size_licence_and_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model=wan_vace"]) == 1
    said = capsys.readouterr().out
    assert "missing  model.checkpoint=Wan-AI/Wan2.1-VACE-1.3B-diffusers  (about 19.0 GB, Apache-2.0)" in said
    assert "get it: hf download Wan-AI/Wan2.1-VACE-1.3B-diffusers" in said
    assert said.splitlines()[-1] == "check: MISSING  1 of 2 things that wan_vace needs"


def test_what_is_there_is_said_with_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = wan_vace(tmp_path / "wan")
    assert main(["check", "model=wan_vace", f"model.checkpoint={folder}"]) == 0
    assert f"ok       model.checkpoint={folder}\n" in capsys.readouterr().out
    snapshot = wan_vace(tmp_path / "hub" / "models--Wan-AI--Wan2.1-VACE-1.3B-diffusers" / "snapshots" / "abc")
    assert main(["check", "model=wan_vace"]) == 0
    assert f"({snapshot})" in capsys.readouterr().out


def test_what_is_there_and_wrong_is_called_so_and_a_folder_nearby_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pipeline(tmp_path / "copies" / "wan")
    assert main(["check", "model=wan_vace", f"model.checkpoint={tmp_path / 'copies'}"]) == 1
    said = capsys.readouterr().out
    assert f"wrong    model.checkpoint={tmp_path / 'copies'}\n" in said, "nothing is known of the size and licence of somebody's folder"
    assert f"did you mean {folder}?" in said
    assert "(about 19.0 GB, Apache-2.0)  or model.checkpoint=PATH of a copy" in said, "those of what is offered"
    assert main(["check", "model=wan_vace", f"model.checkpoint={folder / 'vae'}"]) == 1
    assert f"did you mean {folder}?" in capsys.readouterr().out


def test_every_missing_file_of_a_partial_folder_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = pipeline(tmp_path / "wan", shards=3)
    gone = sorted((folder / "transformer").glob("*-0000[13]-*.safetensors"))
    for path in gone:
        path.unlink()
    assert main(["check", "model=wan_vace", f"model.checkpoint={folder}"]) == 1
    said = capsys.readouterr().out
    assert all(f"           {path}: is missing\n" in said for path in gone)
    assert len(gone) == 2


def test_a_users_own_model_is_asked_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call = ["check", "model=custom", "model.target=tests.test_check.Needy", f"model.kwargs.file={tmp_path / 'weights'}"]
    assert main(call) == 1
    assert "(3 GB, MIT)" in capsys.readouterr().out
    (tmp_path / "weights").write_text("")
    assert main(call) == 0


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ([], "name a model: vpbench check model=NAME"),
        (["seed=1"], "name a model"),
        (["model=tela"], "Could not find 'model/tela'"),
        (["model=wan_vace", "model.chekpoint=x"], "Did you mean 'checkpoint'"),
        (["model=wan_vace", "model.steps=0"], "steps=0: expected at least 1"),
        (["model=custom"], "model.target is required"),
        (["model=videopainter", "model.steps=30"], "This model has model.backbone.steps"),
        (["model=wan_vace", "model.backbone.steps=30"], "model.backbone: 'backbone' is unknown."),
        (["model=wan_vace", "model.backbone.steps=30"], "This model has model.steps."),
        (["model=wan_vace", "model.checkpoint=~/Wan"], "write model.checkpoint=$HOME/Wan"),
        (["model"], "missing EQUAL"),
    ],
    ids=lambda value: " ".join(value) or "nothing" if isinstance(value, list) else "",
)
def test_what_cannot_be_checked_is_a_usage_error(overrides: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *overrides]) == 2
    assert said in capsys.readouterr().err


def test_a_part_of_a_model_says_its_whole_key() -> None:
    need = Need("checkpoint", "folder", problems=("gone",))
    error = unmet([need.under("image_inpainter"), Need("", "package")])
    assert isinstance(error, ConfigError)
    assert "model.image_inpainter.checkpoint=folder" in str(error)
    assert "package" not in str(error)
    assert Need("", "package").under("backbone").key == ""
    assert unmet([Need("a", "b")]) is None
    assert needs(Noisy()) == []


def test_a_check_agrees_with_the_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same lines, before a clip is read, and exit status 2."""
    overrides = ["model=wan_vace", f"model.checkpoint={tmp_path / 'nowhere'}"]
    _, found = check(overrides)
    assert main(["run", *overrides, "benchmark=demo", f"out={tmp_path / 'runs'}"]) == 2
    said = capsys.readouterr().out
    assert all(line in said for need in found if not need.met for line in need.lines())
    assert not list(tmp_path.glob("runs/*/wan_vace*"))


def test_checking_imports_no_torch(tmp_path: Path) -> None:
    loaded = loaded_after("from vpbench.cli import main; main(['check', 'model=wan_vace'])", tmp_path)
    assert "torch" not in loaded


def test_the_examples_of_the_help_run(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    examples = re.findall(r"^  vpbench (check .*?)(?:   .*)?$", capsys.readouterr().out.split("examples:")[1], re.M)
    here = [example for example in examples if "=DIR" not in example]
    assert [main(example.split()) for example in here] == [0, 1, 1, 0, 0]
    assert len(examples) == 7


def test_a_process_has_the_exit_status() -> None:
    done = subprocess.run([sys.executable, "-m", "vpbench", "check", "model=wan_vace"], capture_output=True, text=True, timeout=60)
    assert done.returncode == check_module.MISSING, done.stderr


def test_a_sweep_is_checked_option_by_option(capsys: pytest.CaptureFixture[str]) -> None:
    swept = ["model=telea,navier_stokes", "protocol=pixels,standard", "benchmark=demo", "seed=0,1"]
    assert main(["check", *swept]) == 0
    verdicts = [line for line in capsys.readouterr().out.splitlines() if line.startswith("check:")]
    assert [line.split(";")[0].removeprefix("check: ok  ").split(":")[0] for line in verdicts] == [
        "telea needs nothing besides vpbench",
        "navier_stokes needs nothing besides vpbench",
        "protocol pixels",
        "protocol standard",
        "demo",
    ]
