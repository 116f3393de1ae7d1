"""What README.md and docs/gate.md show works: a scratch repository is set up as they say, and its workflow runs step by step.

Steps that only GitHub can do (checkout, Python, uploads) are replaced by a clone; the install step by the package that is tested here; and
the demo is smaller than it ships.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from vpbench.gate_rules import load_rules

ROOT = Path(__file__).resolve().parent.parent.parent
README, GUIDE = (ROOT / "README.md").read_text(), (ROOT / "docs" / "gate.md").read_text()
SMALL = "benchmark=demo benchmark.frames=6 benchmark.height=96 benchmark.width=160"
ELSEWHERE = {"actions/checkout@v4", "actions/setup-python@v5", "actions/upload-artifact@v4"}  # replaced by a clone, or nothing
MODEL_GETS_WORSE = ("level: int = 128", "level: int = 255")


def blocks(text: str, language: str, holding: str) -> list[str]:
    return [block for block in re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL) if holding in block]


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


README_GATE = section(README, "Five minutes: I keep a model from getting worse")
SOURCES = {"README.md": README_GATE, "docs/gate.md": section(GUIDE, "GitHub")}


def shell(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script as GitHub runs the ``run`` of a step, with the vpbench under test on the path."""
    assert "benchmark=demo" in script or "vpbench run" not in script
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GITHUB_")}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1", **variables}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script.replace("benchmark=demo", SMALL)]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)


def git(folder: Path, *arguments: str) -> None:
    who = ["-c", "user.name=somebody", "-c", "user.email=somebody@example.org"]
    subprocess.run(["git", *who, *arguments], cwd=folder, check=True, capture_output=True)


@pytest.fixture(scope="module", params=SOURCES)
def repository(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the README's model, set up as the page says; branches ``same`` and ``worse`` hold changes of the model."""
    page = SOURCES[request.param]
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-b", "main")
    (model,) = blocks(README, "python", "class MyModel")
    (folder / "my_file.py").write_text(model)
    (setup,) = blocks(page, "bash", "gate --save")
    done = shell(setup, folder)
    assert done.returncode == 0, done.stderr
    (workflow,) = blocks(page, "yaml", "runs-on")
    (folder / ".github" / "workflows").mkdir(parents=True)
    (folder / ".github" / "workflows" / "gate.yml").write_text(workflow)
    git(folder, "add", "my_file.py", "baseline.json", "constraints.txt", ".github")
    git(folder, "commit", "-m", "a gate")
    for branch, (old, new) in {"same": ("import numpy as np", "import numpy as np  # numbers"), "worse": MODEL_GETS_WORSE}.items():
        git(folder, "checkout", "-b", branch, "main")
        assert old in model
        (folder / "my_file.py").write_text(model.replace(old, new))
        git(folder, "commit", "-am", branch)
    git(folder, "checkout", "main")
    return folder


def checkout(repository: Path, branch: str, folder: Path) -> Path:
    git(repository.parent, "clone", "--branch", branch, str(repository), str(folder))
    return folder


def run_steps(steps: Sequence[Mapping[str, Any]], folder: Path, **variables: str) -> tuple[dict[str, int], str]:
    """Run the steps of a workflow until one fails; those that run always, too. Returns every step's exit status, and what was printed."""
    statuses: dict[str, int] = {}
    printed = []
    for step in steps:
        if "uses" in step:
            assert step["uses"] in ELSEWHERE
            continue
        assert set(step) <= {"name", "run", "if"}
        assert step.get("if") in (None, "always()", "${{ !cancelled() }}")
        if step["name"] == "Install":
            assert step["run"].startswith("python -m pip install ")
            continue
        if any(statuses.values()) and "if" not in step:
            continue
        done = shell(step["run"], folder, **variables)
        statuses[step["name"]] = done.returncode
        printed.append(done.stdout + done.stderr)
    return statuses, "\n".join(printed)


@pytest.mark.parametrize(("branch", "expected"), [("same", 0), ("worse", 1)])
def test_the_workflow_judges_a_change(repository: Path, branch: str, expected: int, tmp_path: Path) -> None:
    work = checkout(repository, branch, tmp_path / "work")
    workflow = yaml.safe_load((work / ".github" / "workflows" / "gate.yml").read_text())
    assert set(workflow["jobs"]) == {"gate"}
    summary = tmp_path / "summary.md"
    statuses, printed = run_steps(workflow["jobs"]["gate"]["steps"], work, GITHUB_STEP_SUMMARY=str(summary))
    assert statuses.pop("Gate") == expected, printed
    assert set(statuses.values()) == {0}, printed
    assert f"gate: {'FAIL' if expected else 'PASS'}" in printed
    assert f"gate: {'FAIL' if expected else 'PASS'}" in summary.read_text()
    if expected:
        assert re.search(r"^regression +psnr\[hole\] .*\n    [a-z-]+: ", printed, re.M)
    if "Keep the results" in statuses:  # the artifact becomes the baseline: the change is accepted
        assert {path.name for path in work.glob("gate.*")} == {"gate.xml", "gate.json"}
        shutil.copy(work / "candidate.json", work / "baseline.json")
        statuses, printed = run_steps(workflow["jobs"]["gate"]["steps"], work)
        assert statuses["Gate"] == 0, printed


def test_a_run_with_a_failed_clip_ends_with_the_clip_named(repository: Path, tmp_path: Path) -> None:
    work = checkout(repository, "main", tmp_path / "work")
    model = (work / "my_file.py").read_text()
    (work / "my_file.py").write_text(model.replace("return frames", "return frames if clip.name != 'galaxies' else None"))
    workflow = yaml.safe_load((work / ".github" / "workflows" / "gate.yml").read_text())
    statuses, printed = run_steps(workflow["jobs"]["gate"]["steps"], work)
    assert statuses["Run the model"] == 1
    assert statuses["Gate"] == 4, printed
    assert "gate: CANDIDATE FAILED" in printed
    assert "galaxies: " in printed


def test_locally_the_folder_of_the_changed_model_is_named(repository: Path, tmp_path: Path) -> None:
    work = checkout(repository, "worse", tmp_path / "work")
    shutil.copytree(repository / "runs", work / "runs")
    (before,) = (work / "runs" / "demo").glob("MyModel-*")
    steps = yaml.safe_load((work / ".github" / "workflows" / "gate.yml").read_text())["jobs"]["gate"]["steps"]
    commands = {step["name"]: step["run"] for step in steps if "run" in step}
    assert shell(commands["Run the model"], work).returncode == 0
    done = shell(commands["Gate"], work)
    assert done.returncode == 2
    (after,) = set((work / "runs" / "demo").glob("MyModel-*")) - {before}
    assert shell(commands["Gate"].replace("runs/demo", f"runs/demo/{after.name}"), work).returncode == 1
    shutil.rmtree(before)
    assert shell(commands["Gate"], work).returncode == 1


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A folder with a baseline and a run that passes (0), and one with a run that does not (1)."""
    root = tmp_path_factory.mktemp("guide")
    (model,) = blocks(README, "python", "class MyModel")
    (setup,) = blocks(SOURCES["docs/gate.md"], "bash", "gate --save")
    run = next(line for line in setup.splitlines() if line.startswith("vpbench run"))
    (root / "before").mkdir()
    (root / "before" / "my_file.py").write_text(model)
    assert shell(setup, root / "before").returncode == 0
    found = {}
    for status, change in ((0, ("", "")), (1, MODEL_GETS_WORSE)):
        folder = root / str(status)
        folder.mkdir()
        (folder / "my_file.py").write_text(model.replace(*change))
        shutil.copy(root / "before" / "baseline.json", folder)
        shutil.copy(root / "before" / "constraints.txt", folder)
        assert shell(run, folder).returncode == 0
        found[status] = folder
    return found


class TestGuide:
    """The other ways that docs/gate.md shows, in one repository."""

    @pytest.mark.parametrize("status", [0, 1])
    def test_the_gitlab_job(self, works: dict[int, Path], status: int) -> None:
        (text,) = blocks(section(GUIDE, "GitLab"), "yaml", "script")
        job = yaml.safe_load(text)["gate"]
        install, *commands = job["script"]
        assert install.startswith("python -m pip install ")
        done = shell("\n".join(commands), works[status])
        assert done.returncode == status, done.stderr
        assert all((works[status] / name).exists() for name in (*job["artifacts"]["paths"], job["artifacts"]["reports"]["junit"]))

    @pytest.mark.parametrize("status", [0, 1])
    def test_the_pytest_example(self, works: dict[int, Path], status: int) -> None:
        (code,) = blocks(section(GUIDE, "pytest"), "python", "def test_")
        (works[status] / "test_gate.py").write_text(code)
        done = shell("python -m pytest -q -p no:cacheprovider test_gate.py", works[status])
        assert done.returncode == status, done.stdout
        assert ("gate: FAIL" in done.stdout) == bool(status)

    def test_the_example_of_the_rules(self, works: dict[int, Path], tmp_path: Path) -> None:
        (text,) = blocks(section(GUIDE, "Rules"), "yaml", "acknowledged")
        (tmp_path / "gate.yaml").write_text(text)
        assert len(load_rules(str(tmp_path / "gate.yaml")).rules) == 5
        done = shell(f"vpbench gate --baseline baseline.json --candidate runs/demo --rules {tmp_path}/gate.yaml", works[0])
        assert done.returncode == 3, done.stdout + done.stderr
        assert "ssim[hole] on operation=swap" in done.stdout  # the demo has one such clip: no test is possible
        assert "one clip" in done.stdout

    @pytest.mark.parametrize("status", [0, 1])
    def test_the_composite_action(self, works: dict[int, Path], status: int, tmp_path: Path) -> None:
        action = yaml.safe_load((ROOT / ".github" / "actions" / "gate" / "action.yml").read_text())
        (text,) = blocks(section(GUIDE, "GitHub"), "yaml", "/.github/actions/gate@")
        (use,) = yaml.safe_load(text)
        assert set(use["with"]) <= set(action["inputs"])
        assert {name for name, given in action["inputs"].items() if given.get("required")} <= set(use["with"])
        (works[status] / "gate.yaml").write_text('rules: [{metric: "psnr", region: hole}]')
        inputs = {name: str(use["with"].get(name, given.get("default", ""))) for name, given in action["inputs"].items()}
        files = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
        for step in action["runs"]["steps"]:
            assert step["shell"] == "bash"
            assert "${{" not in step["run"]
            if "if" in step:
                assert step["if"] == "inputs.install != ''"
                assert not inputs["install"]
                continue
            variables = {name: inputs[value.removeprefix("${{ inputs.").removesuffix(" }}")] for name, value in step["env"].items()}
            done = shell(step["run"], works[status], **variables, **files)
            assert done.returncode == status, done.stderr
        assert action["outputs"]["exit-status"]["value"] == "${{ steps.gate.outputs.exit-status }}"
        assert (tmp_path / "GITHUB_OUTPUT").read_text() == f"exit-status={status}\n"
        assert "gate: " in (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
        assert all((works[status] / name).exists() for name in ("gate.json", "gate.xml"))

    def test_the_examples_of_the_help(self, works: dict[int, Path]) -> None:
        from vpbench.gate_cli import EPILOG

        for example in re.findall(r"^  (vpbench gate .*)$", EPILOG, re.M):
            if "leaderboard.csv" in example:
                assert shell("vpbench rank runs/demo -o leaderboard", works[0]).returncode == 0
                example = example.replace("telea", "MyModel")
            done = shell(example, works[0])
            assert done.returncode == 0, done.stderr
