from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.summaries import Runs, fvd, mse, psnr
from vpbench.cli import main
from vpbench.errors import ConfigError, DataError
from vpbench.results import load_summaries
from vpbench.running import Result
from vpbench.submissions import compare, parse_tolerances, submit, verify
from vpbench.tables import Options, write_tables

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "leaderboards" / "demo"
OPTIONS = ("--by", "operation", "--pairs")


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    (tmp_path / "runs").mkdir()
    return Runs(tmp_path / "runs")


@pytest.fixture
def board(runs: Runs, tmp_path: Path) -> Path:
    """A leaderboard of two models, made by the command line."""
    about = {"clip0": {"operation": "add"}, "clip1": {"operation": "swap"}, "clip2": {"operation": "add"}}
    for model, values in {"good": [3.0, 4.0, 5.5], "bad": [2.0, 3.5, 4.0]}.items():
        runs(model, psnr(values=values), mse(values=[v / 100 for v in values]), folder=model, properties=about)
    assert main(["rank", str(runs.root), "-o", str(tmp_path / "board"), "--submissions", *OPTIONS]) == 0
    return tmp_path / "board"


def submission(board: Path, model: str) -> Path:
    return board / "submissions" / "demo" / "pixels-raw" / f"{model}.json"


def change(file: Path, edit: Callable[[Any], None]) -> None:
    content = json.loads(file.read_text())
    edit(content)
    file.write_text(json.dumps(content))


class TestSubmitting:
    def test_a_submission_is_the_summary_and_its_name_follows_from_the_model(self, board: Path, runs: Runs) -> None:
        assert {path.relative_to(board).as_posix() for path in (board / "submissions").rglob("*.json")} == {
            "submissions/demo/pixels-raw/bad.json",
            "submissions/demo/pixels-raw/good.json",
        }
        stored = json.loads((runs.root / "good" / "scores" / "pixels-raw" / "summary.json").read_text())
        assert json.loads(submission(board, "good").read_text()) == stored

    def test_a_later_run_of_a_model_replaces_its_submission_and_the_others_stay(self, board: Path, tmp_path: Path) -> None:
        (tmp_path / "later").mkdir()
        Runs(tmp_path / "later")("good", psnr(values=[9.0, 9.0, 9.0]), mse(values=[0.1, 0.1, 0.1]), run="good-other")
        table, files = submit([tmp_path / "later"], board, Options())
        assert files == [submission(board, "good")]
        assert [(row.label, row.summary.run) for row in table.groups[0].rows] == [("bad", "bad-1a2b"), ("good", "good-other")]

    def test_a_submission_of_these_clips_and_more_stays(self, board: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        file = submission(board, "good")
        before = file.read_bytes()
        (tmp_path / "later").mkdir()
        fewer = Runs(tmp_path / "later")("good", psnr(values=[9.0, 9.0]), mse(values=[0.1, 0.1]), total=3)
        _, files = submit([tmp_path / "later"], board, Options())
        assert (files, file.read_bytes()) == ([], before)
        assert f"{file}: stays, of 3 clips: {fewer}" in caplog.text
        assert caplog.text.count("has 2. Remove it to replace it.") == 1
        file.unlink()
        assert submit([tmp_path / "later"], board, Options())[1] == [file]

    def test_several_runs_of_a_model_are_named_by_run_and_different_ones_of_one_run_by_content(self, runs: Runs, tmp_path: Path) -> None:
        runs("a", psnr(values=[1.0, 2.0]), run="a-seed0")
        runs("a", psnr(values=[1.0, 3.0]), run="a-seed1")
        runs("b", psnr(values=[1.0, 2.0]), run="b-0")
        runs("b", psnr(values=[1.0, 3.0]), run="b-0")
        runs("B", psnr(values=[1.0, 4.0]), run="b-1")
        _, files = submit([runs.root], tmp_path / "out", Options())
        names = sorted(path.stem for path in files)
        assert [name[:3] if name.startswith("b-0-") else name for name in names] == ["a-seed0", "a-seed1", "b-0", "b-0", "b-1"]
        assert len(set(names)) == 5

    @pytest.mark.parametrize("model", ["../../evil", "/etc/x", "a\0b", "..", ".hidden", "x" * 5000, "a/b", "con:", "", "بالعالم"])
    def test_names_stay_inside_the_leaderboard(self, runs: Runs, tmp_path: Path, model: str) -> None:
        runs(model, psnr(values=[1.0, 2.0]), benchmark=model, protocol="pixels")
        board = tmp_path / "deep" / "board"
        _, (file,) = submit([runs.root], board, Options())
        assert file.resolve().is_relative_to(board.resolve() / "submissions")
        assert len(file.relative_to(board).parts) == 4
        assert [path.name for path in (tmp_path / "deep").iterdir()] == ["board"]
        assert [summary.model for summary in load_summaries([board])] == [model]
        assert verify(board)[0] == []

    def test_a_value_that_nobody_can_check_is_refused(self, runs: Runs, tmp_path: Path) -> None:
        path = runs("a", psnr(3.0))
        with pytest.raises(DataError, match=r"psnr\[hole\] has a value but none per clip") as error:
            submit([runs.root], tmp_path / "out", Options())
        assert str(path) in str(error.value)
        assert not (tmp_path / "out").exists()

    def test_parts_of_a_saved_baseline_can_be_submitted(self, runs: Runs, tmp_path: Path) -> None:
        files = [runs(model, psnr(values=[1.0, 2.0])) / "scores" / "pixels-raw" / "summary.json" for model in "ab"]
        saved = tmp_path / "baseline.json"
        saved.write_text(json.dumps({"schema": 3, "results": [json.loads(file.read_text()) for file in files]}))
        submit([saved], tmp_path / "out", Options())
        assert [summary.model for summary in load_summaries([tmp_path / "out"])] == ["a", "b"]


class TestVerifying:
    def test_untouched_tables_pass(self, board: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["rank", "--verify", str(board)]) == 0
        assert capsys.readouterr().out == f"verify: ok  {board}: 7 tables from 2 submissions\n"

    @pytest.mark.parametrize("form", [".csv", ".md", ".tex", ".html", ".json", "_wide.csv"])
    def test_a_changed_table_fails_and_the_first_line_that_differs_is_shown(
        self, board: Path, form: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = board / f"leaderboard{form}"
        lines = file.read_text().split("\n")
        number = next(i for i, line in enumerate(lines) if "good" in line)
        lines[number] = lines[number].replace("good", "best", 1)
        file.write_text("\n".join(lines))
        assert main(["rank", "--verify", str(board)]) == 1
        out = capsys.readouterr().out
        assert f"{file}: line {number + 1} differs from what the submissions give.\n  there: " in out
        assert "best" in out
        assert out.endswith(f"verify: FAIL  {board}: 7 tables from 2 submissions\n")

    def test_a_cut_or_missing_or_left_over_table_fails(self, board: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (board / "leaderboard.md").unlink()
        text = (board / "pairs.csv").read_text().split("\n")
        (board / "pairs.csv").write_text("\n".join(text[:2]))
        assert main(["rank", "--verify", str(board)]) == 1
        out = capsys.readouterr().out
        assert f"{board / 'leaderboard.md'}: is missing." in out
        assert f"{board / 'pairs.csv'}: line 3 differs" in out
        assert "(the file ends here)" in out
        write_tables([board], board)
        (board / "pairs.csv").write_text("old")
        assert main(["rank", "--verify", str(board)]) == 1
        assert "pairs.csv: does not belong here" in capsys.readouterr().out

    def test_a_changed_or_added_or_removed_submission_fails(self, board: Path) -> None:
        good = submission(board, "good")
        original = good.read_text()
        change(good, lambda content: content["model"].update(name="better"))
        assert main(["rank", "--verify", str(board)]) == 1
        good.write_text(original.replace("good", "third"))
        shutil.copy(good, good.with_name("third.json"))
        good.write_text(original)
        assert main(["rank", "--verify", str(board)]) == 1
        good.with_name("third.json").unlink()
        assert main(["rank", "--verify", str(board)]) == 0
        submission(board, "bad").unlink()
        assert main(["rank", "--verify", str(board)]) == 1

    def test_a_polished_value_is_refused_with_its_file(self, board: Path, capsys: pytest.CaptureFixture[str]) -> None:
        change(submission(board, "bad"), lambda content: content["columns"][0].update(value=9.9))
        assert main(["rank", "--verify", str(board)]) == 2
        error = capsys.readouterr().err
        assert f"{submission(board, 'bad')}: psnr[hole] is stored as 9.9, but the mean of its values per clip is 3.16" in error
        assert error.endswith(": one of them was changed. Use the summary.json that `vpbench run` wrote, as it is.\n")

    @pytest.mark.parametrize(
        "text",
        [
            "{",
            "[]",
            "{}",
            '{"options": 3}',
            '{"options": {"by": ["operations"], "intervals": true, "pairs": false}}',
            '{"options": {"by": [], "intervals": 1, "pairs": false, "columns": []}}',
            '{"options": {"by": [], "intervals": true, "pairs": false, "columns": "all"}}',
            '{"options": {"by": [], "intervals": true, "pairs": false}}',
        ],
    )
    def test_without_the_options_there_is_nothing_to_make(self, board: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
        (board / "leaderboard.json").write_text(text)
        assert main(["rank", "--verify", str(board)]) == 2
        error = capsys.readouterr().err
        assert f"{board / 'leaderboard.json'}: does not say how the tables were made" in error
        assert f"`vpbench rank {board} -o {board}`" in error

    def test_the_columns_are_among_the_options(self, board: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["rank", str(board), "-o", str(board), "--columns", "mse,psnr[hole]"]) == 0
        assert capsys.readouterr().out.endswith(f"tables: written to {board}\n")
        assert "& mean rank & mse[hole]" in (board / "leaderboard.tex").read_text()
        assert main(["rank", "--verify", str(board)]) == 0
        change(board / "leaderboard.json", lambda content: content["options"].update(columns=["pnsr"]))
        assert main(["rank", "--verify", str(board)]) == 2

    def test_every_leaderboard_below_a_folder_is_verified(self, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        shutil.copytree(board, tmp_path / "boards" / "x" / "one")
        shutil.copytree(board, tmp_path / "boards" / "two")
        (tmp_path / "boards" / "two" / "leaderboard.md").write_text("")
        assert main(["rank", "--verify", str(tmp_path / "boards")]) == 1
        assert [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.startswith("verify")] == ["FAIL", "ok"]

    def test_a_folder_without_leaderboards_is_an_error_not_a_pass(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["rank", "--verify", str(tmp_path)]) == 2
        assert "holds no leaderboard" in capsys.readouterr().err


class TestRerun:
    def test_equal_runs_pass(self, board: Path, runs: Runs, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["rank", str(runs.root), "--verify", str(board)]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "rerun: ok  2 submissions, 16 values compared"

    def test_values_within_the_tolerance_pass_and_others_are_named(self, board: Path, tmp_path: Path) -> None:
        def rerun(value: float, **tolerances: float) -> list[str]:
            shutil.rmtree(tmp_path / "again", ignore_errors=True)
            (tmp_path / "again").mkdir()
            Runs(tmp_path / "again")("good", psnr(values=[value, 4.0, 5.5]), mse(values=[0.03, 0.04, 0.055]))
            found = compare([tmp_path / "again"], board, tolerances)
            assert found.notes == ("demo pixels raw bad: was not run again.",)
            return list(found.differences)

        assert rerun(3.019) == []
        assert rerun(3.021) == [
            "demo pixels raw good: psnr[hole] differs on 1 of 3 clips, most on clip0: 3.021, submitted 3 (tolerance 0.02)."
        ]
        assert len(rerun(3.3)) == 2
        assert rerun(3.3, psnr=0.5) == []
        assert rerun(3.3, **{"psnr[hole]": 0.5}) == []
        assert rerun(3.3, **{"": 0.5}) == []
        assert len(rerun(3.3, **{"": 0.5, "psnr": 0.15})) == 1  # the clip by 0.3, the mean by 0.1
        assert len(rerun(3.000001, **{"": 0.0})) == 2

    def test_what_cannot_be_compared_is_a_difference(self, board: Path, tmp_path: Path) -> None:
        (tmp_path / "again").mkdir()
        again = Runs(tmp_path / "again")
        again("good", psnr(values=[3.0, 4.0, 5.5], signature="psnr[hole]|v2"), mse(None, absent="no weights"))
        again("bad", psnr(values=[2.0, 3.5]), mse(values=[0.02, 0.035]), total=3)
        assert compare([again.root], board, {}).differences == (
            "demo pixels raw bad: other clips (without clip2).",
            "demo pixels raw good: psnr[hole] has another signature: psnr[hole]|v2, submitted psnr[hole]|v1.",
            "demo pixels raw good: mse[hole] is missing (no weights).",
        )

    def test_a_clip_undefined_on_one_side_is_a_difference(self, board: Path, tmp_path: Path) -> None:
        (tmp_path / "again").mkdir()
        Runs(tmp_path / "again")("good", psnr(values=[3.0, 4.0, None]), mse(values=[0.03, 0.04, 0.055]))
        found = compare([tmp_path / "again"], board, {"": 1e9}).differences
        assert found == ("demo pixels raw good: psnr[hole] differs on 1 of 3 clips, most on clip2: nan, submitted 5.5 (tolerance 1e+09).",)

    def test_other_pixels_with_equal_values_are_a_note(self, board: Path, tmp_path: Path) -> None:
        (tmp_path / "again").mkdir()
        Runs(tmp_path / "again")("good", psnr(values=[3.0, 4.0, 5.5]), mse(values=[0.03, 0.04, 0.055]), fingerprint="ffff")
        found = compare([tmp_path / "again"], board, {})
        assert found.differences == ()
        assert found.notes[0].startswith("demo pixels raw good: other benchmark data (fingerprint ffff, submitted 0123456789ab)")

    def test_set_metrics_are_compared_by_their_value(self, runs: Runs, tmp_path: Path) -> None:
        runs("a", fvd(10.0, [9.0, 10.0]))
        submit([runs.root], tmp_path / "out", Options())
        (tmp_path / "again").mkdir()
        Runs(tmp_path / "again")("a", fvd(10.5, [9.0, 10.0]))
        assert compare([tmp_path / "again"], tmp_path / "out", {}).differences == (
            "demo pixels raw a: fvd[frame] is 10.5, submitted 10 (tolerance 0.02).",
        )

    def test_nothing_compared_is_no_pass(self, board: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "again").mkdir()
        Runs(tmp_path / "again")("other", psnr(values=[1.0, 2.0]))
        assert main(["rank", str(tmp_path / "again"), "--verify", str(board)]) == 1
        out = capsys.readouterr().out
        assert "nothing was compared" in out
        assert "note: demo pixels raw other: has no submission." in out

    def test_tolerances_are_checked(self, board: Path, runs: Runs) -> None:
        assert parse_tolerances(["psnr=0.05", "ssim[hole]=1e-3", "2"]) == {"psnr": 0.05, "ssim[hole]": 1e-3, "": 2}
        for wrong in ("psnr=", "psnr=x", "psnr=-1", "nan", "psnr"):
            with pytest.raises(ConfigError, match="expected METRIC=VALUE or VALUE"):
                parse_tolerances([wrong])
        with pytest.raises(ConfigError, match=r"'pnsr' is unknown. Did you mean 'psnr'"):
            compare([runs.root], board, {"pnsr": 1})

    def test_a_tolerance_for_nothing_is_wrong_use_before_anything_is_verified(
        self, board: Path, runs: Runs, capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["rank", str(runs.root), "--verify", str(board), "--tolerance", "pnsr=1"]) == 2
        assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name the runs"),
        (["RUNS", "--pairs"], "--pairs needs -o DIR"),
        (["RUNS", "--submissions"], "--submissions needs -o DIR"),
        (["RUNS", "--columns", "psnr"], "--columns needs -o DIR"),
        (["RUNS", "-o", "OUT", "--columns", "pnsr"], "Did you mean 'psnr'?"),
        (["RUNS", "-o", "OUT", "--submissions", "--columns", "pnsr"], "Did you mean 'psnr'?"),
        (["RUNS", "-o", "FILE"], "summary.json: is a file, give a folder."),
        (["--verify", "BOARD", "--columns", "all"], "--verify takes only RUNS and --tolerance"),
        (["RUNS", "--by", "opertion"], "Did you mean 'operation'?"),
        (["RUNS", "--tolerance", "1"], "--tolerance needs --verify DIR and RUNS"),
        (["--verify", "BOARD", "--tolerance", "1"], "--tolerance is for RUNS, and none are named"),
        (["--verify", "BOARD", "--by", "tag"], "--verify takes only RUNS and --tolerance"),
        (["--verify", "BOARD", "-o", "x"], "--verify takes only RUNS and --tolerance"),
    ],
)
def test_wrong_use_says_what_is_wrong(
    board: Path, runs: Runs, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = runs.root / "good" / "scores" / "pixels-raw" / "summary.json"
    words = {"RUNS": str(runs.root), "BOARD": str(board), "OUT": str(board.parent / "new"), "FILE": str(file)}
    assert main(["rank", *(words.get(word, word) for word in arguments)]) == 2
    assert message in capsys.readouterr().err
    assert not (board.parent / "new").exists()


def test_real_runs_go_all_the_way(run: Callable[..., Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A run of the harness, submitted, verified and held against another run of the same."""
    folder = run().folder
    assert main(["rank", str(folder), "-o", str(tmp_path / "board"), "--submissions", "--by", "operation", "--by", "motion"]) == 0
    assert "operation=inpaint" in capsys.readouterr().out
    (file,) = (tmp_path / "board" / "submissions").rglob("*.json")
    assert file.read_bytes() == (folder / "scores" / "pixels-raw" / "summary.json").read_bytes()
    again = run(out=str(tmp_path / "again")).folder
    assert main(["rank", str(again), "--verify", str(tmp_path / "board"), "--tolerance", "0"]) == 0
    worse = run(out=str(tmp_path / "worse"), seed=1).folder
    change(worse / "scores" / "pixels-raw" / "summary.json", lambda content: content["columns"][0].update(signature="x"))
    assert main(["rank", str(worse), "--verify", str(tmp_path / "board")]) == 1


def test_verifying_imports_nothing_heavy(board: Path) -> None:
    code = f"import sys; from vpbench.cli import main; main(['rank', '--verify', {str(board)!r}])\n"
    code += "heavy = {'torch', 'pandas', 'cv2', 'hydra', 'omegaconf', 'scipy.stats', 'vpbench.running'}\n"
    code += "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


class TestDemo:
    """The measured tables of the demo that this repository ships."""

    def test_they_follow_from_their_submissions(self) -> None:
        assert verify(DEMO) == ([], 6, 7)

    def test_a_model_of_the_demo_run_again_gives_its_submission(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["run", "experiment=demo", "hydra.sweeper.params.model=telea"]) == 0
        capfd.readouterr()
        assert main(["rank", "runs/demo", "--verify", str(DEMO)]) == 0, capfd.readouterr().out
        assert "rerun: ok  1 submissions, 171 values compared" in capfd.readouterr().out
