from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.summaries import Runs, fvd, psnr
from vpbench.errors import DataError
from vpbench.results import load_summaries, read_summaries


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    (tmp_path / "runs").mkdir()
    return Runs(tmp_path / "runs")


class TestReading:
    def test_a_run_folder_and_a_folder_of_run_folders_at_any_depth(self, runs: Runs) -> None:
        one = runs("a", psnr(1.0), folder="x/y/a")
        runs("b", psnr(2.0), folder="b")
        assert [s.model for s in load_summaries([one])] == ["a"]
        assert [s.model for s in load_summaries([runs.root])] == ["a", "b"]

    def test_hidden_and_underscored_folders_are_skipped(self, runs: Runs) -> None:
        runs("a", psnr(1.0), folder="a")
        runs("b", psnr(1.0), folder=".b")
        runs("c", psnr(1.0), folder="_c")
        assert [s.model for s in load_summaries([runs.root])] == ["a"]

    def test_the_same_run_counts_once(self, runs: Runs) -> None:
        one = runs("a", psnr(1.0), folder="a")
        runs("a", psnr(1.0), folder="copy-of-a")
        assert len(load_summaries([one, runs.root, one / ".." / "a"])) == 1

    def test_a_path_without_scores_is_named_with_what_to_do(self, runs: Runs) -> None:
        (runs.root / "empty").mkdir()
        with pytest.raises(DataError, match=r"empty: holds no scores .*Give a run folder, or run `vpbench run` first"):
            load_summaries([runs.root / "empty"])
        with pytest.raises(DataError, match=r"absent: no such file or folder\.$"):
            load_summaries([runs.root / "absent"])

    def test_a_run_without_scores_is_not_left_out_in_silence(self, runs: Runs, caplog: pytest.LogCaptureFixture) -> None:
        begun = runs.root / "b"
        begun.mkdir()
        (begun / "run.json").write_text("{}")
        with pytest.raises(DataError, match=r"b: holds no scores yet\. `vpbench status` says how far it is"):
            load_summaries([runs.root])
        runs("a", psnr(1.0), folder="a")
        assert [s.model for s in load_summaries([runs.root])] == ["a"]
        assert f"{begun}: is left out, it holds no scores yet" in caplog.text

    def test_of_a_folder_with_nothing_but_a_broken_file_the_file_is_named(self, runs: Runs) -> None:
        (runs.root / "results.json").write_text('{"schema": 3,')
        with pytest.raises(DataError, match=r"results\.json: cannot be read as JSON"):
            load_summaries([runs.root])
        (runs.root / "results.json").write_text("{}")
        with pytest.raises(DataError, match=r"runs: holds no scores"):
            load_summaries([runs.root])

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            pytest.param("{", "cannot be read as JSON", id="not JSON"),
            pytest.param("[]", "expected a JSON object", id="a list"),
            pytest.param('{"schema": 4}', "has schema 4, this vpbench reads 3", id="of a newer version"),
            pytest.param('{"schema": 3}', r"is not a summary \('clips' is missing\)", id="without content"),
        ],
    )
    def test_a_file_that_is_no_summary_is_named(self, runs: Runs, text: str, message: str) -> None:
        file = runs("a", psnr(1.0)) / "scores" / "pixels-raw" / "summary.json"
        file.write_text(text)
        with pytest.raises(DataError, match=message) as error:
            load_summaries([runs.root])
        assert str(file) in str(error.value)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            pytest.param({"value": float("nan")}, "NaN is no JSON number", id="nan as a value"),
            pytest.param({"value": float("inf")}, "Infinity is no JSON number", id="inf as a value"),
            pytest.param({"value": 1e999}, "Infinity is no JSON number", id="an overflow"),
            pytest.param({"values": [1.0, float("nan")]}, "NaN is no JSON number", id="nan as a clip's value"),
            pytest.param({"values": [1.0, "nan"]}, "hold text", id="nan as text"),
            pytest.param({"values": [1.0]}, "1 values for 2 clips", id="too few values"),
            pytest.param({"direction": "up"}, "direction 'up'", id="direction"),
            pytest.param({"average": "median"}, "average 'median'", id="average"),
            pytest.param({"n": 1}, "counts 1 clips, but 2 have a value", id="another count"),
            pytest.param({"average": "frames"}, "without the frames of each clip", id="no frames"),
        ],
    )
    def test_a_damaged_column_is_named(self, runs: Runs, change: dict[str, Any], message: str) -> None:
        path = runs("a", psnr(values=[1.0, 2.0]) | change, ok=2)
        with pytest.raises(DataError, match=message) as error:
            load_summaries([runs.root])
        assert str(path / "scores" / "pixels-raw" / "summary.json") in str(error.value)

    @pytest.mark.parametrize("names", [["b", "a"], ["a", "a"]])
    def test_clips_out_of_order_or_twice_are_refused(self, runs: Runs, names: list[str]) -> None:
        file = runs("a", psnr(values=[1.0, 2.0])) / "scores" / "pixels-raw" / "summary.json"
        content = json.loads(file.read_text())
        content["clips"]["names"] = names
        file.write_text(json.dumps(content))
        with pytest.raises(DataError, match="not sorted, or a name occurs twice"):
            load_summaries([runs.root])

    def test_a_saved_baseline_holds_several_summaries(self, runs: Runs, tmp_path: Path) -> None:
        parts = [
            json.loads((runs(model, psnr(values=[value, 2.0])) / "scores" / "pixels-raw" / "summary.json").read_text())
            for model, value in {"a": 1.0, "b": 3.0}.items()
        ]
        (tmp_path / "baseline.json").write_text(json.dumps({"schema": 3, "results": parts}))
        assert [s.model for s in load_summaries([tmp_path / "baseline.json"])] == ["a", "b"]
        assert len(load_summaries([tmp_path / "baseline.json", runs.root])) == 2


class TestValuesPerClip:
    """A value must be the mean of its values per clip: a submission whose number was polished by hand is refused."""

    def test_they_are_read_with_undefined_and_infinite_ones(self, runs: Runs) -> None:
        runs("a", psnr(None) | {"values": [1.0, None, "inf"], "n": 1}, ok=3)
        (summary,) = load_summaries([runs.root])
        assert str(summary.cells[0].clips) == "[ 1. nan inf]"
        assert summary.cells[0].value is None

    @pytest.mark.parametrize("value", [1.5 * (1 + 1e-8), 27.9, None])
    def test_a_value_that_is_not_their_mean_is_refused(self, runs: Runs, value: float | None) -> None:
        runs("a", psnr(values=[1.0, 2.0]) | {"value": value})
        with pytest.raises(DataError, match=r"psnr\[hole\] is stored as .*, but the mean of its values per clip is 1\.5: one") as error:
            load_summaries([runs.root])
        assert str(error.value).endswith("Run the same `vpbench run` command again.")
        assert "ValueError" not in str(error.value)

    def test_rounding_is_no_reason(self, runs: Runs) -> None:
        runs("a", psnr(values=[1.0, 2.0]) | {"value": 1.5 * (1 + 1e-12)})
        assert load_summaries([runs.root])[0].cells[0].value == pytest.approx(1.5)

    def test_a_mean_near_zero_is_held_against_the_size_of_its_values(self, runs: Runs) -> None:
        runs("a", psnr(values=[1.0, -1.0]) | {"value": 1e-17})
        assert load_summaries([runs.root])

    def test_a_mean_over_frames_weighs_clips_by_their_frames(self, runs: Runs) -> None:
        runs("a", psnr(values=[1.0, 2.0, None], average="frames", clip_frames=[1, 3, 0]))
        (summary,) = load_summaries([runs.root])
        assert summary.cells[0].value == 1.75

    @pytest.mark.parametrize("average", ["clips", "frame_means", "frames"])
    def test_the_frames_of_clips_must_add_up_whatever_the_average(self, runs: Runs, average: str) -> None:
        about = {"average": average, "clip_frames": [3, 3, 5], "frames": 6}
        file = runs("a", psnr(values=[1.0, 1.0, None], **about)) / "scores" / "pixels-raw" / "summary.json"
        assert str(read_summaries(file)[0].cells[0].frames) == "[3. 3. 5.]"
        runs("b", psnr(values=[1.0, 1.0, None], **{**about, "clip_frames": [3, 4, 5]}))
        with pytest.raises(DataError, match=r"psnr\[hole\] counts 6 frames, but those of its clips are 7"):
            load_summaries([runs.root])

    def test_frames_that_nothing_can_be_checked_against_are_not_read(self, runs: Runs) -> None:
        runs("a", psnr(values=[1.0, 2.0], clip_frames=[3, 3]))
        assert len(load_summaries([runs.root])[0].cells[0].frames) == 0

    @pytest.mark.parametrize("frames", [[3, None], [3, -1], [3, "inf"]])
    def test_what_is_no_number_of_frames_is_refused(self, runs: Runs, frames: list[Any]) -> None:
        runs("a", psnr(values=[1.0, 2.0]) | {"clip_frames": frames, "frames": 3})
        with pytest.raises(DataError, match="clip_frames hold what is no number of frames"):
            load_summaries([runs.root])

    def test_set_metrics_keep_their_values_without_each_clip(self, runs: Runs) -> None:
        file = runs("a", fvd(10.0, [9.0, None, 11.0]), ok=3) / "scores" / "pixels-raw" / "summary.json"
        (cell,) = read_summaries(file)[0].cells
        assert str(cell.without) == "[ 9. nan 11.]"
        assert cell.under_sampled
        assert not psnr_cell(runs).under_sampled


def psnr_cell(runs: Runs) -> Any:
    return read_summaries(runs("b", psnr(1.0)) / "scores" / "pixels-raw" / "summary.json")[0].cells[0]
