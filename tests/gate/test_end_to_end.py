"""Every exit status, from real runs of the demo (smaller than it ships) through the command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vpbench.cli import main

DEMO = ["benchmark=demo", "benchmark.frames=6", "benchmark.height=96", "benchmark.width=160", "protocol=pixels"]
Runs = Callable[..., Path]


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Runs of the models of ``tests.gate.models``, each made once; returns the folder that holds the run."""
    root = tmp_path_factory.mktemp("gate-runs")

    def made(model: str, *overrides: str, name: str = "", start: str = "", status: int = 0) -> Path:
        folder = root / (name or model)
        if not folder.exists():
            if start:  # measures are there already: only the scores are new
                shutil.copytree(made(start), folder)
            command = ["run", "model=custom", f"model.target=tests.gate.models.{model}", *DEMO, f"out={folder}", *overrides]
            assert main(command) == status
        return folder

    return made


@pytest.fixture
def baseline(runs: Runs, tmp_path: Path) -> Path:
    file = tmp_path / "baseline.json"
    assert main(["gate", "--save", str(file), str(runs("steady"))]) == 0
    return file


class Outcome:
    """What the command said."""

    def __init__(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str | Path) -> None:
        capsys.readouterr()
        files = {name: tmp_path / f"gate.{name}" for name in ("json", "junit", "markdown")}
        options = [word for name, file in files.items() for word in (f"--{name}", str(file))]
        self.status = main(["gate", *map(str, arguments), *options])
        self.out, self.err = capsys.readouterr()
        self.written = {name: file for name, file in files.items() if file.exists()}
        self.json = json.loads(self.written["json"].read_text()) if self.written else {}
        if self.written:
            assert self.json["exit_status"] == self.status
            suite = ElementTree.parse(self.written["junit"]).getroot()[0]
            red = int(suite.get("failures", 0)) + int(suite.get("errors", 0))
            assert (red > 0) == (self.status != 0)
            assert self.out.splitlines()[-1] in self.written["markdown"].read_text().replace("\\", "")


@pytest.fixture
def outcome(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    return lambda *arguments: Outcome(capsys, tmp_path, *arguments)


Gate = Callable[..., Outcome]


class TestPass:
    def test_the_run_itself(self, runs: Runs, baseline: Path, outcome: Gate) -> None:
        found = outcome("--baseline", baseline, "--candidate", runs("steady"))
        assert found.status == 0
        assert found.out.splitlines()[-1] == "gate: PASS  5 pass (exit status 0)"

    @pytest.mark.parametrize("rules", ["default", "strict", "tolerance"])
    def test_the_same_model_run_again_elsewhere(self, rules: str, runs: Runs, baseline: Path, outcome: Gate) -> None:
        found = outcome("--baseline", baseline, "--candidate", runs("steady", name="again"), "--rules", rules)
        assert found.status == 0
        assert {check["drop"] for check in found.json["checks"]} == {0}


class TestRegression:
    @pytest.mark.parametrize(
        ("model", "columns"),
        [
            pytest.param("blurred", {"psnr[background]", "psnr[boundary]"}, id="blur"),
            pytest.param("delayed", {"psnr[background]", "psnr[boundary]"}, id="one-frame delay"),
            pytest.param("tinted", {"psnr[hole]"}, id="colour shift"),
        ],
    )
    def test_a_worse_model_fails_with_metric_and_clips_named(
        self, model: str, columns: set[str], runs: Runs, baseline: Path, outcome: Gate
    ) -> None:
        found = outcome("--baseline", baseline, "--candidate", runs(model))
        assert found.status == 1
        regressed = {check["column"]: check for check in found.json["checks"] if check["status"] == "regression"}
        assert columns <= set(regressed)
        for column in columns:
            worst = regressed[column]["worst"]
            assert worst
            assert regressed[column]["drop"] > 0
            for text in (found.out, found.written["junit"].read_text(), found.written["markdown"].read_text().replace("\\", "")):
                assert column in text
                assert all(clip["clip"] in text for clip in worst)

    def test_a_tolerance_or_an_acknowledgement_lets_it_through(self, runs: Runs, baseline: Path, outcome: Gate, tmp_path: Path) -> None:
        rules = tmp_path / "rules.yaml"
        rules.write_text('rules: [{metric: "psnr[hole]", tolerance: 50%}]')
        sides = "--baseline", baseline, "--candidate", runs("tinted"), "--rules", rules
        assert outcome(*sides).status == 0
        rules.write_text(
            'rules: [{metric: "psnr[hole]"}]\n'
            "acknowledged: [{metric: psnr, region: hole, drop: 20, reason: a lighter decoder, expires: 2999-12-31}]"
        )
        found = outcome(*sides)
        assert found.status == 0
        assert "acknowledged: a drop of 20 until 2999-12-31 (a lighter decoder)" in found.out
        rules.write_text(rules.read_text().replace("2999", "2001"))
        found = outcome(*sides)
        assert found.status == 1
        assert "the acknowledgement expired on 2001-12-31 and no longer counts (a lighter decoder)" in found.out

    def test_a_slice_finds_what_only_edits_lose(self, runs: Runs, baseline: Path, outcome: Gate, tmp_path: Path) -> None:
        (tmp_path / "rules.yaml").write_text("rules: [{metric: psnr, region: background, slice: operation=inpaint}]")
        found = outcome("--baseline", baseline, "--candidate", runs("blurred"), "--rules", tmp_path / "rules.yaml")
        assert (found.status, found.json["checks"][0]["n"]) == (1, 4)


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["--baseline", "B"], "give --baseline PATH and --candidate PATH"),
            (["--baseline", "nowhere", "--candidate", "B"], "nowhere: no such file or folder"),
            (["--baseline", "B", "--candidate", "B", "--rules", "defualt"], "Did you mean 'default'?"),
            (["--baseline", "B", "--candidate", "B", "--protocol", "pixel"], "Did you mean 'pixels'?"),
            (["--baseline", "B", "--candidate", "B", "--rules", "RULES"], "has a column pnsr. Did you mean 'psnr'? Columns: psnr["),
        ],
    )
    def test_one_message_and_no_file(self, arguments: list[str], message: str, baseline: Path, outcome: Gate, tmp_path: Path) -> None:
        (tmp_path / "rules.yaml").write_text("rules: [{metric: pnsr}]")
        places = {"B": str(baseline), "RULES": str(tmp_path / "rules.yaml")}
        found = outcome(*(places.get(argument, argument) for argument in arguments))
        assert found.status == 2
        assert message in found.err
        assert len(found.err.splitlines()) == 1
        assert not found.written

    def test_an_output_that_cannot_be_written(self, runs: Runs, baseline: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        sides = ["--baseline", str(baseline), "--candidate", str(runs("steady"))]
        assert main(["gate", *sides, "--json", str(tmp_path / "file" / "x.json")]) == 2
        assert "x.json: cannot be written" in capsys.readouterr().err

    def test_two_models_without_a_choice(self, runs: Runs, baseline: Path, outcome: Gate) -> None:
        found = outcome("--baseline", baseline, "--candidate", runs("blurred"), runs("tinted"))
        assert found.status == 2
        assert "--candidate-model blurred | tinted" in found.err
        assert outcome("--baseline", baseline, "--candidate", runs("blurred"), runs("tinted"), "--candidate-model", "tinted").status == 1


class TestInconclusive:
    def test_a_partial_run(self, runs: Runs, baseline: Path, outcome: Gate) -> None:
        found = outcome("--baseline", baseline, "--candidate", runs("blurred", "limit=3", name="partial"))
        assert found.status == 3
        assert "the candidate is a partial run: 5 of 8 clips are missing" in found.out

    def test_a_missing_metric(self, runs: Runs, baseline: Path, outcome: Gate) -> None:
        overrides = ["protocol.metrics.ssim=null", 'protocol.mean_rank=["psnr[hole]"]']
        found = outcome("--baseline", baseline, "--candidate", runs("steady", *overrides, name="no-ssim", start="steady"))
        assert found.status == 3
        assert "ssim[hole]  the candidate: does not have this column" in found.out

    def test_another_signature(self, runs: Runs, baseline: Path, outcome: Gate) -> None:
        found = outcome("--baseline", baseline, "--candidate", runs("steady", "protocol.boundary_px=4", name="px4", start="steady"))
        assert found.status == 3
        assert "other signature: psnr[boundary]|pooled,rgb,cap=100,px=8|" in found.out

    def test_other_benchmark_data(self, runs: Runs, baseline: Path, outcome: Gate) -> None:
        found = outcome("--baseline", baseline, "--candidate", runs("steady", "benchmark.frames=5", name="five"))
        assert found.status == 3
        assert "other benchmark data" in found.out

    def test_another_protocol(self, runs: Runs, baseline: Path, outcome: Gate) -> None:
        found = outcome("--baseline", baseline, "--candidate", runs("steady", "protocol.name=mine", "limit=1", name="mine"))
        assert found.status == 3
        assert "nothing to compare: the baseline has pixels raw, the candidate has mine raw" in found.out


class TestFailed:
    def test_a_run_with_a_failed_clip(self, runs: Runs, baseline: Path, outcome: Gate) -> None:
        found = outcome("--baseline", baseline, "--candidate", runs("failing", status=1))
        assert found.status == 4
        assert "the candidate run had failures: 1 of 8 clips" in found.out
        assert "    galaxies: RuntimeError: out of stars" in found.out
        assert "out of stars" in found.written["junit"].read_text()

    def test_usage_comes_first(self, runs: Runs, baseline: Path, outcome: Gate) -> None:
        assert outcome("--baseline", baseline, "--candidate", runs("failing", status=1), "--rules", "no").status == 2


def test_the_job_summary_is_written_where_github_says(
    runs: Runs, baseline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sides = ["gate", "--baseline", str(baseline), "--candidate", str(runs("tinted"))]
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    assert main(sides) == 1
    assert "gate: FAIL" in (tmp_path / "summary.md").read_text()
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "no" / "summary.md"))
    assert main(sides) == 1  # the verdict stands
    assert "summary.md: cannot be written" in capsys.readouterr().err


def test_a_verdict_needs_no_torch_and_no_pandas(runs: Runs, baseline: Path) -> None:
    arguments = ["gate", "--baseline", str(baseline), "--candidate", str(runs("steady"))]
    code = f"import sys; from vpbench.cli import main; status = main({arguments!r}); "
    code += "print(sorted({'torch', 'pandas', 'cv2', 'decord', 'hydra', 'scipy.stats'} & set(sys.modules))); sys.exit(status)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_a_defect_of_ours_is_no_regression(monkeypatch: pytest.MonkeyPatch, baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("made up")

    monkeypatch.setattr("vpbench.gate.judge", broken)
    assert main(["gate", "--baseline", str(baseline), "--candidate", str(baseline)]) == 2
    assert "this is a defect of vpbench" in capsys.readouterr().err
