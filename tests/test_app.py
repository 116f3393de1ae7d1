"""``vpbench run`` as people type it."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hydra._internal.hydra import Hydra

from vpbench.app import per_job, progress_lines
from vpbench.cli import main
from vpbench.configuration import open_key

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def plugin(folder: Path) -> Path:
    """A folder that stands for an installed plug-in: a config package, an entry point, and a broken entry point beside it."""
    package = folder / "toy_plugin"
    (package / "model").mkdir(parents=True)
    (package / "benchmark").mkdir()
    (package / "__init__.py").write_text("")
    (package / "model" / "toy_grey.yaml").write_text(
        "name: toy_grey\n_target_: vpbench.models.custom\ntarget: tests.toy.grey\nkwargs: {level: 128}\n"
    )
    for name in ("raises_on_c", "counts_calls"):
        (package / "model" / f"toy_{name}.yaml").write_text(
            f"name: toy_{name}\n_target_: vpbench.models.custom\ntarget: tests.toy.{name}\nkwargs: {{}}\n"
        )
    (package / "benchmark" / "toy.yaml").write_text("_target_: tests.toy.Toy\ncount: 5\nnames: null\nframes: 4\n")
    info = folder / "toy_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-plugin\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[vpbench.configs]\ntoy = toy_plugin\nbroken = no_such_package_anywhere\n")
    return folder


@pytest.fixture
def toys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy benchmark and models, brought by an installed plug-in."""
    folder = plugin(tmp_path / "site")
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    return folder


@pytest.mark.usefixtures("toys")
class TestRun:
    def test_one_run_prints_its_table(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "model=toy_grey", "benchmark=toy"]) == 0
        printed = capsys.readouterr().out
        assert "toy_grey" in printed
        assert "psnr[hole]" in printed
        assert len(list(Path("runs/toy").glob("toy_grey-*/scores/standard-raw/summary.json"))) == 1

    def test_a_sweep_ranks_all_jobs_and_writes_the_tables(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "-m", "model=toy_grey,telea,blank", "benchmark=toy"]) == 0
        printed = capsys.readouterr().out
        assert all(name in printed for name in ("toy_grey", "telea", "blank"))
        assert Path("runs/leaderboard/leaderboard.csv").exists()
        assert Path("runs/leaderboard/leaderboard.md").exists()

    def test_a_sweep_with_a_failing_clip_ends_non_zero_and_names_it(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["run", "-m", "model=toy_raises_on_c,telea", "benchmark=toy"]) == 1
        printed = capsys.readouterr().out
        assert "1 of 5 clips failed" in printed
        assert "c: RuntimeError: no idea how to fill this one" in printed
        assert "log:" in printed
        assert "4/5" in printed

    def test_a_plugin_is_listed_with_its_package(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["list", "model"]) == 0
        printed = capsys.readouterr().out
        assert "toy_grey  (from toy_plugin)" in printed
        assert "  telea\n" in printed

    def test_a_single_failing_clip_ends_non_zero(self) -> None:
        assert main(["run", "model=toy_raises_on_c", "benchmark=toy"]) == 1

    def test_a_custom_model_from_the_current_directory(self, capsys: pytest.CaptureFixture[str]) -> None:
        Path("my_file_here.py").write_text(
            "class Fill:\n"
            "    def __init__(self, level=0):\n        self.level = level\n"
            "    def __call__(self, clip, *, seed):\n"
            "        frames = clip.frames.copy()\n        frames[clip.masks] = self.level\n        return frames\n"
        )
        arguments = ["run", "model=custom", "model.target=my_file_here.Fill", "model.kwargs.level=90", "benchmark=toy"]
        assert main(arguments) == 0
        assert "Fill" in capsys.readouterr().out


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["model=telae"], "telea"),
        (["model=telea", "benchmark=dmo"], "demo"),
        (["model=telea", "protocol=pixel"], "pixels"),
        (["model=telea", "model.radius=3"], "radius_px"),
        (["model=telea", "+model.radius=3"], "radius_px"),
        (["model=telea", "benchmark=toy", "benchmark.cont=3"], "count"),
        (["model=telea", "protocol.boundry_px=3"], "boundary_px"),
        (["model=telea", "+protocol.metrics.psnr.caps=3"], "regions"),
        (["model=telea", "protocol.metrics.psnr.regions=[hol]"], "hole"),
        (["model=telea", "protocol.mean_rank=['psnr[hol]']"], "psnr[hole]"),
        (["model=telea", "sed=3"], "seed"),
        (["model=telea", "seed=many"], "Integer"),
        (["model=telea", "track=[rw]"], "raw, composite"[:3]),
        (["model=telea", "limit=0"], "at least 1"),
        (["model=telea", "clips=[]"], "at least one"),
        (["model=telea", "clips=galaxies"], "clips=[galaxies]"),
        (["model=custom"], "model.target is required"),
        (["model=custom", "model.target=tests.toy.gray"], "grey"),
        (["model=custom", "model.target=no_such_module_x.f"], "no module"),
        (["model=custom", "model.target=grey"], "dotted path"),
        (["model=custom", "model.target=tests.toy.not_callable"], "not a class or function"),
        (["model=custom", "model.target=tests.toy.Noisy", "model.kwargs.strenth=1"], "strength"),
        (["model=telea", "benchmark=davis"], "benchmark.root is required"),
        (["model=telea", "benchmark=davis", "benchmark.root=nowhere"], "nowhere: no such folder"),
        (["model=telea", "track=composit"], "Did you mean 'composite'"),
    ],
)
def test_a_misspelt_name_is_an_error_that_lists_the_valid_ones(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", *arguments]) == 2
    captured = capsys.readouterr()
    assert message in captured.out + captured.err
    assert "Traceback" not in captured.out + captured.err


def test_a_misspelt_name_in_a_sweep_is_found_before_anything_runs(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "model=blank,telae", "benchmark=toy"]) == 2
    assert "telea" in capsys.readouterr().err
    assert not list(Path(".").glob("runs/*/*/clips/*"))


def test_a_setting_of_every_swept_model_is_set_once(toys: Path, tmp_path: Path) -> None:
    assert main(["run", "-m", "model=telea,navier_stokes", "model.radius_px=3", "benchmark=toy", "limit=1", "protocol=pixels"]) == 0
    runs = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("toy/*/run.json")]
    chosen = {run["config"]["model"]["name"]: run["config"]["model"]["radius_px"] for run in runs}
    assert chosen == {"navier_stokes": 3, "telea": 3}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(["model=a", "model.x=1"], ["model=a", "model.x=1"], id="no sweep"),
        pytest.param(["-m", "model=a", "model.x=1,2"], ["-m", "model=a", "model.x=1,2"], id="the setting is swept itself"),
        pytest.param(["-m", "model=a,b", "model.x=[1,2]"], ["-m", "model=a,b", "model.x=choice([1,2])"], id="a list is one value"),
        pytest.param(["-m", "model=a,b", "model/part=c"], ["-m", "model=a,b", "model/part=choice(c)"], id="a part of the model"),
        pytest.param(["-m", "model/part=c,d", "model.part.x=1"], ["-m", "model/part=c,d", "model.part.x=choice(1)"], id="a swept part"),
        pytest.param(["-m", "model/part=c,d", "model.x=1"], ["-m", "model/part=c,d", "model.x=1"], id="beside a swept part"),
        pytest.param(["-m", "model=a,b", "+model.x=1"], ["-m", "model=a,b", "+model.x=choice(1)"], id="a key that is new"),
        pytest.param(["-m", "model=a,b", "seed=1", "benchmark.x=1"], ["-m", "model=a,b", "seed=1", "benchmark.x=1"], id="other settings"),
        pytest.param(["-m", "model=a,b", "~model.x"], ["-m", "model=a,b", "~model.x"], id="a key that is taken away"),
        pytest.param(["--multirun", "model=a,b", "model.x="], ["--multirun", "model=a,b", "model.x="], id="nothing"),
    ],
)
def test_settings_below_a_swept_group_become_part_of_the_sweep(given: list[str], expected: list[str]) -> None:
    assert per_job(given) == expected


def test_progress_in_a_file_is_plain_lines_on_standard_error(toys: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vpbench", "run", "model=toy_grey", "benchmark=toy"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "\r" not in done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    lines = [line for line in done.stderr.splitlines() if " clips" in line]
    assert lines[0] == "toy_grey on toy: 0 of 5 clips"
    assert lines[-1] == "toy_grey on toy: 5 of 5 clips, e"
    assert lines[-1] not in done.stdout


@pytest.mark.parametrize(("seconds", "shown"), [(0.0, ["0", "1", "2", "3"]), (1e9, ["0", "3"])])
def test_lines_of_progress_keep_their_distance_but_for_the_last(
    seconds: float, shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    update = progress_lines("m on b", seconds)
    for done, clip in enumerate(["", "a", "b", "c"]):
        update(clip, done, 3)
    assert [line.split(": ")[1].split()[0] for line in capsys.readouterr().err.splitlines()] == shown


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_an_ended_run_goes_on_where_it_was(toys: Path, tmp_path: Path, sent: signal.Signals) -> None:
    calls = tmp_path / "calls"
    command = [sys.executable, "-m", "vpbench", "run", "model=toy_counts_calls", "benchmark=toy"]
    command += [f"model.kwargs.log={calls}", "model.kwargs.seconds=0.5"]
    heard = functools.partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs ignore it
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heard)
    deadline = time.time() + 60
    while not (calls.exists() and len(calls.read_text().split()) >= 3) and time.time() < deadline:
        time.sleep(0.05)
    process.send_signal(sent)
    _, said = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[sent]
    assert ("; the same command goes on from here." in said) == (sent != signal.SIGKILL)
    kept = [json.loads(p.read_text())["clip"] for p in sorted(Path("runs/toy").glob("*/clips/*.json"))]
    assert kept == ["a", "b"]
    if sent != signal.SIGKILL:
        assert not list(Path("runs/toy").glob("*/clips/*.claim"))
    again = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert again.returncode == 0, again.stderr
    assert calls.read_text().split() == ["a", "b", "c", "c", "d", "e"]


@pytest.mark.parametrize("launcher", ["cores", "slurm"])
def test_a_launcher_without_a_sweep_is_refused(launcher: str, toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "model=telea", "benchmark=demo", f"hydra/launcher={launcher}"]) == 2
    assert f"hydra/launcher={launcher} starts the jobs of a sweep, and this is none: add -m" in capsys.readouterr().out
    assert not Path("runs/demo").exists()


@pytest.mark.parametrize("error", [ConnectionError("no cluster at 127.0.0.1:1"), RuntimeError("no cluster at\n127.0.0.1:1")])
def test_a_launcher_that_gives_up_is_said(
    error: Exception, toys: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def sweep(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(Hydra, "multirun", sweep)
    assert main(["run", "-m", "model=telea", "benchmark=demo"]) == 1
    said = capsys.readouterr().err
    assert f"the sweep was given up ({type(error).__name__}: no cluster at 127.0.0.1:1)" in said
    assert "Traceback" not in said


def test_a_sweep_of_which_no_job_begins_is_a_wrong_setting(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "model=telea", "benchmark=demo", "hydra/launcher=cores", "hydra.launcher.n_jobs=0"]) == 2
    said = capsys.readouterr().err
    assert "no job of the sweep began (ValueError: n_jobs == 0 in Parallel has no meaning)" in said
    assert "hydra.launcher.KEY=VALUE" in said


@pytest.mark.parametrize(
    ("launcher", "key", "meant"),
    [("cores", "launcher.njobs", "n_jobs"), ("slurm", "launcher.partitoin", "partition"), ("cores", "swep.dir", "sweep")],
)
def test_a_key_of_hydra_that_does_not_exist_lists_those_beside_it(
    launcher: str, key: str, meant: str, toys: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", "-m", "model=telea,blank", "benchmark=demo", f"hydra/launcher={launcher}", f"hydra.{key}=2"]) == 2
    said = capsys.readouterr().err
    assert "is unknown. Did you mean" in said
    assert f"Did you mean {meant!r}? Valid: " in said


def test_a_device_that_is_not_here_is_found_before_anything_runs(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    where = "device=cuda:99"
    assert main(["run", "model=telea", "benchmark=demo", "protocol=pixels", where]) == 2
    assert "device=cuda:99: cannot be used here" in capsys.readouterr().out
    assert main(["check", "model=telea", where]) == 1
    assert "device=cuda:99: cannot be used here" in capsys.readouterr().out


def test_a_key_that_one_model_of_a_sweep_lacks_is_said_with_the_model(toys: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "-m", "model=telea,blank", "benchmark=demo", "model.radius_px=3"]) == 2
    said = capsys.readouterr()
    assert "blank: model.radius_px: 'radius_px' is unknown." in said.out + said.err
    assert "docs/extending.md" in said.out + said.err


def test_variables_of_a_program_need_no_plus() -> None:
    given = ["model.env={A: 0}", "model.env.B=1", "model.environment=2", "model.kwargs.x=1", "out=model.env.x"]
    expected = ["++model.env={A: 0}", "++model.env.B=1", "model.environment=2", "++model.kwargs.x=1", "out=model.env.x"]
    assert [open_key(one) for one in given] == expected


def test_what_failed_says_of_which_model_and_protocol(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["model=command", "model.argv=['false']", "model.env={A: 0}", "model.env.B=1", "benchmark=demo", "limit=1", "protocol=pixels"]
    assert main(["run", *asked, f"out={tmp_path}"]) == 1
    assert "(command under pixels): 1 of 8 clips failed" in capsys.readouterr().out
