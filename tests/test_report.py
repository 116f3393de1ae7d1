"""The report's content and files; what a browser makes of them is in tests/browser."""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.browser.numbered import NASTY, config, numbered
from tests.conftest import pixels
from tests.summaries import Runs, fvd, mse, psnr
from tests.test_cli import loaded_after
from vpbench.cli import main
from vpbench.clip import Clip
from vpbench.errors import DataError
from vpbench.report.content import Section, read_frames, slug
from vpbench.report.pages import Report, Selection, as_json, write_report
from vpbench.report.previews import NO_TRUTH_GREY, OUTLINE, error_pictures, input_pictures, outlined, preview_size, write_preview
from vpbench.report.sources import view_of
from vpbench.results import load_summaries
from vpbench.running import Run
from vpbench.statistics import paired, paired_sets
from vpbench.tables import rank
from vpbench.video import probe, read_video
from vpbench.views import View

CLIPS = ["edit", "nasty & odd's", "plain"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models on three clips, both tracks; tests copy this folder before they change it."""
    root = tmp_path_factory.mktemp("report")
    protocol = pixels()
    protocol["metrics"] = {name: protocol["metrics"][name] for name in ("psnr", "mae")}
    protocol["mean_rank"] = ["psnr[hole]", "mae[hole]"]
    for name, level in {"dark": 60, "grey": 120}.items():
        Run(config(root / "runs", {"names": CLIPS, "frames": 4}, protocol, name, level=level, track=["raw", "composite"])).execute()
    return root / "runs"


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "runs")
    return tmp_path / "runs"


def folder(runs: Path, model: str) -> Path:
    (found,) = (runs / "numbered").glob(f"{model}-*")
    return found


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def raw(out: Path) -> Path:
    """The folder of the pages of the track ``raw``."""
    (found,) = out.glob("*-raw-*")
    return found


def page(out: Path, clip: str) -> str:
    return (raw(out) / "clips" / f"{slug(clip)}.html").read_text()


def media(out: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (out / "media").iterdir()}


def test_the_second_report_makes_nothing_again(runs: Path, tmp_path: Path) -> None:
    first = write_report([runs], tmp_path / "out")
    before = media(tmp_path / "out")
    assert first.made == len(before) > 0
    assert first.kept == 0
    second = write_report([runs], tmp_path / "out")
    assert (second.made, second.kept) == (0, first.made)
    assert media(tmp_path / "out") == before


def test_only_what_is_missing_is_made(runs: Path, tmp_path: Path) -> None:
    write_report([folder(runs, "dark")], tmp_path / "out")
    before = media(tmp_path / "out")
    report = write_report([runs], tmp_path / "out")
    after = media(tmp_path / "out")
    assert {name: after[name] for name in before} == before
    # one preview of the raw predictions, which are the same bytes for all clips; a composite and two error maps for each clip
    assert report.made == len(after) - len(before) == 1 + 3 * len(CLIPS)
    gone = next(iter(sorted((tmp_path / "out" / "media").glob("*.mp4"))))
    gone.unlink()
    assert write_report([runs], tmp_path / "out").made == 1
    assert gone.exists()


def test_torch_is_not_imported(runs: Path, tmp_path: Path) -> None:
    command = ["report", str(runs), "-o", str(tmp_path / "out")]
    root = Path(__file__).resolve().parent.parent
    statement = f"sys.path.insert(0, {str(root)!r}); from vpbench.cli import main; assert main({command!r}) == 0"
    assert "torch" not in loaded_after(statement, tmp_path)
    assert page(tmp_path / "out", "plain").count("<video") == 4 + 2  # input, reference, two models, and the two of the stage


def test_the_command_says_what_it_did(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(runs), "-o", str(tmp_path / "out"), "--track", "raw", "--clips", "1"]) == 0
    told = capsys.readouterr()
    assert str(tmp_path / "out" / "index.html") in told.out
    assert "1 of 1 clips" in told.err
    assert "2 of 3 clips have no page" in told.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--clips", "nowhere"], "--clips: 'nowhere' is unknown"),
        (["--clips", "0"], "at least 1"),
        (["--clips", "-3"], "--clips -3: give a number of clips, at least 1, or names."),
        (["--models", "gray"], "Did you mean 'grey'?"),
        (["--track", "cooked"], "Valid: composite, raw"),
        (["--protocol", "standard"], "Valid: pixels"),
    ],
)
def test_a_wrong_option_is_one_line(
    options: list[str], message: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(runs), "-o", str(tmp_path / "out"), *options]) == 2
    told = capsys.readouterr().err.strip()
    assert message in told
    assert "\n" not in told
    assert not (tmp_path / "out").exists()


def test_nothing_to_report_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    assert "holds no scores" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "out").write_text("a file is in the way")
    assert main(["report", str(runs), "-o", str(tmp_path / "out")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_part_of_the_results(runs: Path, tmp_path: Path) -> None:
    selection = Selection(clips=("plain",), models=("grey",), tracks=("raw",))
    write_report([runs], tmp_path / "out", selection)
    assert [path.name for path in (tmp_path / "out").glob("*/clips/*")] == ["plain.html"]
    index = (tmp_path / "out" / "index.html").read_text()
    assert ">dark<" not in index
    assert ">grey<" in index
    assert "composite" not in index


def test_pages_of_the_former_report_go_and_other_files_stay(runs: Path, tmp_path: Path) -> None:
    write_report([runs], tmp_path / "out")
    (tmp_path / "out" / "mine.txt").write_text("not yours")
    (raw(tmp_path / "out") / "clips" / "mine.html").write_text("not yours")
    write_report([runs], tmp_path / "out", Selection(clips=1))
    assert len(list(raw(tmp_path / "out").glob("clips/*.html"))) == 2  # the worst clip, and what we did not write
    assert (tmp_path / "out" / "mine.txt").exists()
    write_report([runs], tmp_path / "out", Selection(tracks=("raw",)))
    assert not list((tmp_path / "out").glob("*-composite-*"))


def test_a_manifest_cannot_delete_what_lies_elsewhere(runs: Path, tmp_path: Path) -> None:
    write_report([runs], tmp_path / "out")
    (tmp_path / "precious").write_text("x")
    (tmp_path / "out" / "report.json").write_text(json.dumps({"pages": ["../precious", str(tmp_path / "precious")]}))
    write_report([runs], tmp_path / "out")
    assert (tmp_path / "precious").exists()


def lost(report: Report, out: Path, reason: str) -> None:
    """The models' players are there, input and reference are not, and it is said why."""
    assert any(reason in note for note in report.notes)
    text = page(out, "plain")
    assert reason in text.replace("&#39;", "'")
    assert 'data-name="input"' not in text
    assert 'data-name="reference"' not in text
    assert len(re.findall(r"data-video=", text)) == 2
    assert "data-error=" not in text


def test_a_benchmark_that_is_gone(runs: Path, tmp_path: Path) -> None:
    for run in (runs / "numbered").glob("*-*"):
        change(run / "run.json", lambda manifest: manifest["config"]["benchmark"].update(_target_="nowhere.Bench"))
    lost(write_report([runs], tmp_path / "out"), tmp_path / "out", "the benchmark cannot be built any more")
    composite = next((tmp_path / "out").glob("*-composite-*")) / "clips" / "plain.html"
    assert "shown as the model made it" in composite.read_text()


def test_a_benchmark_with_other_data(runs: Path, tmp_path: Path) -> None:
    for run in (runs / "numbered").glob("*-*"):
        change(run / "run.json", lambda manifest: manifest["config"]["benchmark"].update(frames=5))
    lost(write_report([runs], tmp_path / "out"), tmp_path / "out", "the clip's data is not what the run saw")


def test_one_run_that_still_has_its_benchmark_is_enough(runs: Path, tmp_path: Path) -> None:
    change(folder(runs, "dark") / "run.json", lambda manifest: manifest["config"]["benchmark"].update(_target_="nowhere.Bench"))
    assert write_report([runs], tmp_path / "out").notes == []
    assert len(re.findall(r"data-video=", page(tmp_path / "out", "plain"))) == 4


def test_what_was_made_is_shown_after_the_benchmark_is_gone(runs: Path, tmp_path: Path) -> None:
    write_report([runs], tmp_path / "out")
    before = page(tmp_path / "out", "plain")
    for run in (runs / "numbered").glob("*-*"):
        change(run / "run.json", lambda manifest: manifest["config"].update(benchmark={"_target_": "nowhere.Bench"}))
    assert write_report([runs], tmp_path / "out").notes == []
    assert page(tmp_path / "out", "plain") == before


def test_a_prediction_that_is_gone_or_another_one(runs: Path, tmp_path: Path) -> None:
    shutil.move(folder(runs, "dark") / "predictions" / "plain.mkv", folder(runs, "grey") / "predictions" / "plain.mkv")
    write_report([runs], tmp_path / "out")
    text = page(tmp_path / "out", "plain")
    assert "plain.mkv is gone" in text
    assert "is not the prediction that was scored" in text
    assert len(re.findall(r"data-video=", text)) == 2


def test_a_clip_that_failed_says_why(runs: Path, tmp_path: Path) -> None:
    path = folder(runs, "dark") / "clips" / "plain.json"
    change(path, lambda record: record.update(status="failed", error="RuntimeError: <out of memory>"))
    write_report([runs], tmp_path / "out")
    assert "failed: RuntimeError: &lt;out of memory&gt;" in page(tmp_path / "out", "plain")


def test_numbers_alone_give_tables_alone(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "dark.json"
    shutil.copy(next(folder(runs, "dark").glob("scores/*-raw/summary.json")), file)
    report = write_report([file], tmp_path / "out")
    assert report.made == 0
    assert "tables only" in report.notes[0]
    assert "tables only" in report.index.read_text()
    assert not list((tmp_path / "out").glob("*/clips"))
    mixed = write_report([file, folder(runs, "grey")], tmp_path / "mixed", Selection(tracks=("raw",)))
    assert any("numbers only, no players: dark" in note for note in mixed.notes)
    assert "numbers only: no run folder was given" in page(tmp_path / "mixed", "plain")


def test_a_damaged_file_of_frames_is_named(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = next(folder(runs, "dark").glob("scores/*-raw/frames/plain.csv"))
    path.write_text("frame,psnr[hole]\n0,loud\n")
    assert main(["report", str(runs), "-o", str(tmp_path / "out")]) == 2
    assert str(path) in capsys.readouterr().err


@pytest.mark.parametrize(("damage", "said"), [({"fps": "fast"}, "fps is 'fast', not a number"), ({"tags": 5}, "tags is 5, not a list")])
def test_a_damaged_property_is_named(
    damage: dict[str, Any], said: str, runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in (runs / "numbered").glob("*/scores/*/summary.json"):
        change(path, lambda summary: summary["clips"]["properties"]["plain"].update(damage))
    assert main(["report", str(runs), "-o", str(tmp_path / "out")]) == 2
    assert f"plain: {said}" in capsys.readouterr().err


def test_a_clip_without_tags_is_shown(runs: Path, tmp_path: Path) -> None:
    for path in (runs / "numbered").glob("*/scores/*/summary.json"):
        change(path, lambda summary: summary["clips"]["properties"]["plain"].pop("tags", None))
    write_report([runs], tmp_path / "out")
    assert "% of the frame" in page(tmp_path / "out", "plain")


def test_curves_are_those_of_the_run(runs: Path, tmp_path: Path) -> None:
    write_report([runs], tmp_path / "out")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page(tmp_path / "out", "plain"))[1])  # type: ignore[index]
    assert (data["fps"], data["frames"], data["main"]) == (8, 4, "psnr[hole]")
    stored = read_frames(next(folder(runs, "dark").glob("scores/*-raw/frames/plain.csv")))
    assert data["curves"]["psnr[hole]"][data["models"].index("dark")] == stored["psnr[hole]"]
    assert data["curves"]["psnr[background]"][0] == ["inf"] * 4


def test_empty_and_infinite_cells_of_a_frame(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("frame,x,y\n0,1.23456789,inf\n1,,-inf\n")
    assert read_frames(tmp_path / "a.csv") == {"x": [1.23457, None], "y": ["inf", "-inf"]}


@pytest.mark.parametrize("text", ["", "clip,x\n0,1\n", "frame,x\n0\n", "frame,x\n0,a\n", "\0"])
def test_other_files_are_not_values_per_frame(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError, match=r"a\.csv"):
        read_frames(tmp_path / "a.csv")


def test_the_composite_player_shows_known_pixels(runs: Path, tmp_path: Path) -> None:
    clip = Clip("c", numbered(3), np.zeros((3, 96, 160), bool) | (np.arange(96) > 60)[None, :, None], 8.0)
    noise = np.full_like(clip.frames, 200)
    comparison = View("composite").comparison(clip, noise)
    write_preview(tmp_path / "a.mp4", comparison.prediction, 8.0)
    shown, _ = read_video(tmp_path / "a.mp4")
    assert abs(shown[:, 70:].astype(int) - 200).max() < 6
    assert abs(shown[:, 30:55].astype(int) - clip.frames[:, 30:55]).mean() < 4


def test_pages_with_hostile_names(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    make = Runs(tmp_path / "runs")
    for name in ("<img src=x onerror=alert(1)>" + NASTY, "</script><script>alert(2)</script>"):
        file = make(name, psnr(values=[20.0, 30.0]), benchmark="../../../<b>", run="r") / "scores" / "pixels-raw" / "summary.json"
        change(file, lambda summary: summary.update(protocol="../..", track="/etc"))
    write_report([tmp_path / "runs"], tmp_path / "out")
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "runs" not in path.parts]
    assert all((tmp_path / "out") in path.parents for path in written)
    for path in (tmp_path / "out").rglob("*.html"):
        assert "<img" not in path.read_text()
        assert "alert(2)</script>" not in path.read_text()
        assert not re.search("[\u202a-\u202e\u2066-\u2069]", re.sub(r'title="[^"]*"', "", path.read_text()))
    for path in (tmp_path / "out").rglob("*/*.js"):
        assert "<" not in path.read_text()


def test_clip_names_that_leave_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = Runs(tmp_path)("m", psnr(values=[20.0]))
    change(run / "scores" / "pixels-raw" / "summary.json", lambda summary: summary["clips"].update(names=["../../x"]))
    (run / "run.json").write_text(json.dumps({"config": {}, "clips": {}, "identity": {"model": {}}, "provenance": {}}))
    assert main(["report", str(run), "-o", str(tmp_path / "out")]) == 2
    assert "'../../x' cannot name a clip" in capsys.readouterr().err


@given(value=st.text() | st.lists(st.text()))
def test_json_cannot_end_its_script(value: Any) -> None:
    text = str(as_json(value))
    assert not set("<>&") & set(text)
    assert json.loads(text) == value


@given(one=st.text(min_size=1), other=st.text(min_size=1))
def test_slugs_are_safe_and_differ(one: str, other: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_-]{1,90}", slug(one))
    assert (slug(one) == slug(other)) == (one == other)


def section(root: Path) -> Section:
    (group,) = rank(load_summaries([root])).groups
    return Section.of(group)


def test_values_have_intervals_ranges_and_footnotes(tmp_path: Path) -> None:
    make = Runs(tmp_path)
    make("a", psnr(values=[20.0, 25.0, 30.0]))
    make("b", psnr(values=[21.0, 24.0, 31.0]))
    index = write_report([tmp_path], tmp_path / "out").index.read_text()
    (row,) = (row for row in rank(load_summaries([tmp_path])).groups[0].rows if row.label == "a")
    low, high = row.intervals["psnr[hole]"]
    assert f"25.00</span> <sup>1-2</sup><small>{low:.2f} to {high:.2f}</small>" in index
    assert "Below a value stand the ends of its 95% interval" in index


def test_worst_clips_come_first(tmp_path: Path) -> None:
    make = Runs(tmp_path)
    make("a", psnr(values=[20.0, None, 10.0, 30.0]))
    make("b", psnr(values=[24.0, None, 11.0, 14.0]))
    make("floor", psnr(values=[1.0, 2.0, 99.0, 99.0]), ranked=False)
    assert section(tmp_path).clips == ["clip2", "clip0", "clip3", "clip1"]  # the one without a value at the end


def test_the_first_page_names_the_benchmark_and_the_worst_values(tmp_path: Path) -> None:
    make = Runs(tmp_path)
    make("a", psnr(values=[20.0, 10.0]))
    make("b", psnr(values=[24.0, 11.0]))
    index = write_report([tmp_path], tmp_path / "out").index.read_text()
    (group,) = rank(load_summaries([tmp_path])).groups
    assert f"<h1>Report: <bdi>{group.benchmark}</bdi></h1>" in index
    assert re.findall(r'<span class="value">(.*?)</span>', index) == ["10.50 dB", "22.00 dB"]


def test_lower_is_better_turns_the_order(tmp_path: Path) -> None:
    Runs(tmp_path)("a", mse(values=[0.1, 0.4, 0.2]))
    assert section(tmp_path).clips == ["clip1", "clip2", "clip0"]


def test_infinite_clips_are_the_best(tmp_path: Path) -> None:
    run = Runs(tmp_path)("a", psnr(values=[20.0, 30.0]))
    column = {"value": None, "n": 1, "values": [20.0, "inf"], "excluded": [{"clip": "clip1", "reason": "exact"}]}
    change(run / "scores" / "pixels-raw" / "summary.json", lambda summary: summary["columns"][0].update(column))
    found = section(tmp_path)
    assert found.clips == ["clip0", "clip1"]
    assert math.isinf(found.values("psnr[hole]")[0, 1])
    write_report([tmp_path], tmp_path / "out")
    assert '"inf"' in next((tmp_path / "out").glob("*/data.js")).read_text()


@given(data=st.data(), clips=st.integers(2, 8))
@settings(max_examples=25, deadline=None)
def test_differences_are_those_of_the_statistics(data: st.DataObject, clips: int) -> None:
    numbers = st.lists(st.floats(-50, 50), min_size=clips, max_size=clips)
    one, other = data.draw(numbers), data.draw(numbers)
    with tempfile.TemporaryDirectory() as root:
        make = Runs(Path(root))
        make("a", psnr(values=one), fvd(5.0, [4.0 + i for i in range(clips)]))
        make("b", psnr(values=other), fvd(7.0, [9.0 - i for i in range(clips)]))
        found = section(Path(root))
        first, second = (one, other) if found.labels == ["a", "b"] else (other, one)
        (pair,) = found.pairs(found.columns[0])[0]
        expected = paired(np.array(first), np.array(second))
        assert pair[0] == clips
        assert pair[1:] == pytest.approx([expected.difference, *expected.interval()], rel=1e-4, abs=1e-9)
        cells = [row.summary.cell("fvd[frame]") for row in found.rows]
        (pair,) = found.pairs(found.columns[1])[0]
        sets = paired_sets(cells[0].value, cells[1].value, cells[0].without, cells[1].without)  # type: ignore[union-attr,arg-type]
        assert pair[1:] == pytest.approx([sets.difference, *sets.interval()], rel=1e-4)


def test_other_signatures_are_not_compared(tmp_path: Path) -> None:
    make = Runs(tmp_path)
    make("a", psnr(values=[1.0, 2.0]))
    make("b", psnr(values=[1.0, 3.0], signature="psnr[hole]|v2"))
    found = section(tmp_path)
    assert found.pairs(found.columns[0]) == [[[]], []]


@pytest.mark.parametrize("track", ["raw", "composite"])
@pytest.mark.parametrize("quantise", ["exact", "vpbench-official"])
@pytest.mark.parametrize("against", ["truth", "source"])
@pytest.mark.parametrize("dilate", [0, 16])
def test_the_view_is_read_from_the_signatures(track: str, quantise: str, against: str, dilate: int, tmp_path: Path) -> None:
    view = View(track, quantise, against, dilate)
    tags = view.tags(frozenset(("prediction", "reference", "masks")))
    Runs(tmp_path)("a", psnr(values=[1.0], signature=f"psnr[hole]|x|sums-v1|track={tags}|mean=clips|v1"), track=track)
    (summary,) = load_summaries([tmp_path])
    assert view_of(summary) == view


@given(
    height=st.integers(1, 40) | st.sampled_from([95, 240, 1400]),
    width=st.integers(1, 40) | st.sampled_from([161, 432, 2000]),
    frames=st.integers(1, 5),
    fps=st.sampled_from([0.5, 8.0, 23.976, 25.0, 29.97, 60.0, 120.0]),
)
@settings(max_examples=25, deadline=None)
def test_previews_of_any_size_and_rate(height: int, width: int, frames: int, fps: float) -> None:
    video = np.random.default_rng(0).integers(0, 256, (frames, height, width, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as root:
        write_preview(Path(root) / "a.mp4", video, fps)
        info = probe(Path(root) / "a.mp4")
        assert [path.name for path in Path(root).iterdir()] == ["a.mp4"]
    assert info.frames == frames
    assert info.fps == pytest.approx(fps, rel=1e-3)
    assert (info.width % 2, info.height % 2) == (0, 0)
    assert 128 <= max(info.width, info.height) <= 1280
    shown = preview_size(height, width)
    assert (info.height - shown[0], info.width - shown[1]) in {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_a_preview_looks_like_its_video(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 160).astype(np.uint8)
    picture = np.stack([np.broadcast_to(ramp, (96, 160)), np.broadcast_to(ramp[::-1], (96, 160)), np.full((96, 160), 90)], axis=-1)
    write_preview(tmp_path / "a.mp4", [picture.astype(np.uint8)] * 3, 8.0)
    shown, _ = read_video(tmp_path / "a.mp4")
    assert abs(shown.astype(int) - picture).mean() < 4


def test_the_outline_lies_in_the_hole() -> None:
    picture, mask = np.zeros((100, 120, 3), np.uint8), np.zeros((100, 120), bool)
    mask[20:60, 0:50] = True
    marked = (outlined(picture, mask) == OUTLINE).all(axis=-1)
    assert not marked[~mask].any()
    assert marked[20, :50].all()
    assert marked[20:60, 0].all()  # where the hole reaches the border of the picture
    assert not marked[25:55, 5:45].any()


def test_the_input_of_an_edit_is_the_source_and_that_of_inpainting_is_blank() -> None:
    frames, masks = np.full((2, 40, 60, 3), 200, np.uint8), np.zeros((2, 40, 60), bool)
    masks[:, 10:30, 10:40] = True
    for operation, level in {"inpaint": 0, "remove": 200}.items():
        picture = next(input_pictures(Clip("a", frames, masks, 8.0, operation=operation)))
        assert picture[picture.shape[0] // 2, picture.shape[1] // 3].tolist() == [level] * 3


def test_error_maps_grow_with_the_error() -> None:
    reference, masks = np.full((1, 64, 200, 3), 100, np.uint8), np.zeros((1, 64, 200), bool)
    masks[:, 40:60, 40:60] = True
    prediction = reference + np.minimum(np.arange(200) // 2, 100).astype(np.uint8)[None, None, :, None]
    picture = next(error_pictures(prediction, reference, masks, has_truth=False)).astype(int)
    light = picture[5].sum(axis=-1)
    assert light[0] < 10
    assert (np.diff(light) >= -12).all()  # the colours are made for even steps, not for a strictly growing sum
    assert light[190] == light[130] > 500
    assert (picture[50, 50] == NO_TRUTH_GREY).all()


def test_a_run_without_a_manifest_of_clips(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder(runs, "dark") / "run.json").write_text("{}")
    assert main(["report", str(runs), "-o", str(tmp_path / "out")]) == 2
    assert "config is no object" in capsys.readouterr().err


def test_seconds_are_per_frame(runs: Path, tmp_path: Path) -> None:
    for index, clip in enumerate(CLIPS):
        change(folder(runs, "dark") / "clips" / f"{clip}.json", lambda record, index=index: record.update(seconds=1.0 + index))
    write_report([runs], tmp_path / "out", Selection(tracks=("raw",)))
    data = json.loads(re.search(r'id="pareto-1">(.*?)</script>', (tmp_path / "out" / "index.html").read_text())[1])  # type: ignore[index]
    labels = [model["label"] for model in data["models"]]
    assert data["seconds"][labels.index("dark")] == 6.0 / 12
