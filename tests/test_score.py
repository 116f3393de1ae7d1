"""`vpbench score`: outputs that exist on disk become a run like any other."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from tests.test_cli import loaded_after
from tests.toy import Toy, toy_clip
from vpbench.cli import main
from vpbench.clip import Frames
from vpbench.errors import ConfigError, DataError
from vpbench.outputs import FRAMES, Header, Output, choose, listing, match
from vpbench.results import Summary, load_summaries
from vpbench.running import Result, Run
from vpbench.video import read_lossless, write_lossless

SMALL = ["benchmark=demo", "benchmark.frames=6", "benchmark.height=96", "benchmark.width=160", "protocol=pixels"]


def video(path: Path, frames: Frames, codec: str, pixels: str, fps: float = 8, **options: str) -> None:
    """Write a video with any codec."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.options = options
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode(None))


def pictures(folder: Path, frames: Frames, suffix: str = "png", **options: Any) -> None:
    """Write a folder of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{t}.{suffix}", **options)


def mkv(path: Path, frames: Frames) -> None:
    video(path.with_suffix(".mkv"), frames, "ffv1", "bgr0")


def mp4(path: Path, frames: Frames) -> None:
    video(path.with_suffix(".mp4"), frames, "libx264", "yuv420p", crf="18")


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of two models over a small demo."""
    out = tmp_path_factory.mktemp("originals")
    assert main(["run", "-m", "model=telea,temporal_median", *SMALL, f"out={out}"]) == 0
    return out / "demo"


def summary(folder: Path, name: str) -> Summary:
    (found,) = (one for one in load_summaries([folder]) if one.model == name)
    return found


def numbers(found: Summary) -> dict[str, Any]:
    return {cell.column: (cell.value, cell.clips.tolist(), cell.signature) for cell in found.cells}


@pytest.mark.parametrize("model", ["telea", "temporal_median"])
@pytest.mark.parametrize("write", [mkv, pictures, mp4])
def test_outputs_of_a_model_are_scored_as_the_model_was(
    originals: Path, tmp_path: Path, model: str, write: Callable[[Path, Frames], None], capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = originals.glob(f"{model}-*")
    for path in run.glob("predictions/*.mkv"):
        write(tmp_path / "mine" / path.stem, read_lossless(path))
    assert main(["score", str(tmp_path / "mine"), *SMALL, f"out={tmp_path / 'runs'}"]) == 0
    printed = capsys.readouterr().out
    found, original = summary(tmp_path / "runs/demo", "mine"), summary(originals, model)
    assert (found.ok, found.total, found.fingerprint) == (8, 8, original.fingerprint)
    if write is mp4:
        assert [note.text for note in found.notes] == ["lossy input: h264 yuv420p"]
        assert len(found.notes[0].clips) == 8
        assert "lossy input" in printed
        assert numbers(found) != numbers(original)
        assert numbers(found)["psnr[hole]"][0] == pytest.approx(numbers(original)["psnr[hole]"][0], abs=0.5)
    else:
        assert numbers(found) == numbers(original)
        assert found.notes == ()
        assert "lossy" not in printed
        (scored,) = (tmp_path / "runs/demo").glob("mine-*")
        scores = "scores/pixels-raw/clips.csv"
        assert (scored / scores).read_bytes() == (run / scores).read_bytes()


def test_two_folders_make_one_table_and_a_name_can_be_given(originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("one", "it's two"):
        for clip in ("galaxies", "add-cat"):
            source = next(originals.glob(f"telea-*/predictions/{clip}.mkv"))
            (tmp_path / name).mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / name)
    common = [*SMALL, "clips=[galaxies,add-cat]", f"out={tmp_path / 'runs'}"]
    assert main(["score", str(tmp_path / "one"), str(tmp_path / "it's two"), *common]) == 0
    printed = capsys.readouterr().out
    assert " one " in printed
    assert " it-s-two " in printed
    assert main(["score", str(tmp_path / "one"), *common, "name=mine"]) == 0
    assert " mine " in capsys.readouterr().out


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """Lossless outputs of the five toy clips: the clips themselves, brighter by 1."""
    for handle in Toy():
        (tmp_path / "mine").mkdir(exist_ok=True)
        write_lossless(tmp_path / "mine" / f"{handle.name}.mkv", handle.load().frames + 1, 8.0)
    return tmp_path / "mine"


@pytest.fixture
def score(config: dict[str, Any], outputs: Path) -> Callable[..., Result]:
    """Score ``outputs`` with keys of the model and of the run replaced."""

    def execute(folder: Path = outputs, clips: list[str] | None = None, **keys: Any) -> Result:
        leaf = {"_target_": "vpbench.baselines.outputs.Outputs", "folder": str(folder), **keys}
        return Run({**config, "model": leaf, "clips": clips}).execute()

    return execute


def notes(result: Result) -> list[str]:
    (found,) = load_summaries([result.folder])
    return [note.text for note in found.notes]


def test_changed_files_are_another_run_and_a_moved_folder_is_not(score: Callable[..., Result], outputs: Path, tmp_path: Path) -> None:
    first = score(name="mine")
    assert score(name="mine").generated == []
    moved = shutil.copytree(outputs, tmp_path / "elsewhere")
    assert score(moved, name="mine").folder == first.folder
    write_lossless(outputs / "c.mkv", toy_clip("c").frames + 2, 8.0)
    second = score(name="mine")
    assert second.folder != first.folder
    assert len(second.generated) == 5


@pytest.mark.parametrize(
    ("codec", "suffix", "pixels", "options", "said"),
    [
        ("ffv1", "mkv", "bgr0", {}, []),
        ("ffv1", "mkv", "yuv420p", {}, ["lossy input: ffv1 yuv420p"]),
        ("libx264rgb", "mkv", "rgb24", {"crf": "0"}, []),
        ("libx264rgb", "mp4", "rgb24", {"qp": "0"}, []),
        ("libx264rgb", "mp4", "rgb24", {"crf": "10"}, ["lossy input: h264 gbrp"]),
        ("libx264", "mkv", "yuv444p", {"qp": "0"}, ["lossy input: h264 yuv444p"]),
        ("libx264", "mov", "yuv420p", {}, ["lossy input: h264 yuv420p"]),
        ("utvideo", "avi", "gbrp", {}, []),
        ("png", "mov", "rgb24", {}, []),
        ("rawvideo", "avi", "bgr24", {}, []),
        ("mjpeg", "avi", "yuvj420p", {}, ["lossy input: mjpeg yuvj420p"]),
        ("libvpx-vp9", "webm", "yuv420p", {"deadline": "realtime"}, ["lossy input: vp9 yuv420p"]),
    ],
)
def test_lossless_is_told_by_codec_and_pixel_format(
    score: Callable[..., Result], outputs: Path, codec: str, suffix: str, pixels: str, options: dict[str, str], said: list[str]
) -> None:
    frames = toy_clip("a").frames.copy()
    frames[:, ::2] //= 3  # something to lose
    (outputs / "a.mkv").unlink()
    video(outputs / f"a.{suffix}", frames, codec, pixels, **options)
    result = score(clips=["a"])
    assert notes(result) == said
    assert np.array_equal(read_lossless(result.folder / "predictions/a.mkv"), frames) == (not said)


@pytest.mark.parametrize(
    ("suffix", "options", "said"),
    [
        ("png", {}, []),
        ("bmp", {}, []),
        ("tif", {}, []),
        ("webp", {"lossless": True}, []),
        ("webp", {}, ["lossy input: webp pictures"]),
        ("jpg", {"quality": 95}, ["lossy input: jpeg pictures"]),
        ("tif", {"compression": "jpeg"}, ["lossy input: tiff pictures"]),
    ],
)
def test_pictures_too(score: Callable[..., Result], outputs: Path, suffix: str, options: dict[str, Any], said: list[str]) -> None:
    (outputs / "a.mkv").unlink()
    frames = toy_clip("a", frames=4).frames
    pictures(outputs / "a", frames, suffix, **options)
    result = score(clips=["a"])
    assert notes(result) == said
    assert np.array_equal(read_lossless(result.folder / "predictions/a.mkv"), frames) or said


def test_another_size_is_refused_unless_the_user_says_so(score: Callable[..., Result], outputs: Path) -> None:
    pictures(outputs / "b", np.zeros((4, 16, 20, 3), np.uint8))
    (outputs / "b.mkv").unlink()
    result = score()
    assert result.failed == {
        "b": f"ModelError: b: {outputs / 'b'} is 20x16, the clip 40x32. Write frames of its size, or let them be resized: "
        "resize=nearest|bilinear|bicubic|area|lanczos"
    }
    result = score(resize="bicubic")
    assert result.ok == 5
    assert notes(result) == ["resized: 20x16 to 40x32, bicubic"]


@pytest.mark.parametrize(
    ("count", "fps", "rule", "said", "noted"),
    [
        (4, 8, None, "", []),
        (4, 24, None, "states 24 frames per second, the clip has 8. If they are the same frames, say so: frames=by_index", []),
        (4, 24, "by_index", "", ["other rate: 24 fps taken for 8"]),
        (5, 8, None, "has 5 frames, the clip 4", []),
        (5, 8, "by_index", "has 5 frames, the clip 4", []),
        (3, 8, None, "frames=present, repeat_last, by_time", []),
        (5, 8, "cut", "", ["frames cut: 5 to 4"]),
        (3, 8, "cut", "frames=cut does not make more of them", []),
        (3, 8, "repeat_last", "", ["frames repeated: the last of 3 up to 4"]),
        (12, 24, "by_time", "", ["frames by time: 12 at 24 fps to 4 at 8"]),
        (2, 4, "by_time", "", ["frames by time: 2 at 4 fps to 4 at 8"]),
        (2, 8, "by_time", "ends after 0.25 s, before the clip's last frame at 0.375 s", []),
        (3, 8, "present", "", []),
    ],
)
def test_another_count_or_rate_too(
    score: Callable[..., Result], outputs: Path, count: int, fps: float, rule: str | None, said: str, noted: list[str]
) -> None:
    frames = np.stack([np.full((32, 40, 3), 10 * t, np.uint8) for t in range(count)])
    write_lossless(outputs / "b.mkv", frames, fps)
    result = score(frames=rule, clips=["b"])
    assert said in result.failed.get("b", "")
    assert bool(said) == bool(result.failed)
    if not said:
        assert notes(result) == noted
        (found,) = load_summaries([result.folder])
        assert ("short: 3 of 4 frames" in found.barred) == (rule == "present")


def test_which_frames_are_taken() -> None:
    def header(frames: int, fps: float = 0.0) -> Header:
        return Header(frames, 8, 8, fps, "", True)

    assert choose(header(5, 12), 3, 8, "by_time").indices == (0, 2, 3)
    assert choose(header(7, 24), 3, 8, "by_time").indices == (0, 3, 6)
    assert choose(header(3, 4), 6, 8, "by_time").indices == (0, 1, 1, 2, 2, 2)
    assert choose(header(2), 4, 8, "repeat_last").indices == (0, 1, 1, 1)
    assert choose(header(9), 4, 8, "cut").indices == (0, 1, 2, 3)
    assert choose(header(2), 4, 8, "present").present == (0, 1)
    assert choose(header(4, 24000 / 1001), 4, 24, None).notes == ()
    with pytest.raises(DataError, match="folders of pictures never do"):
        choose(header(4), 4, 8, "by_time")
    for rule in FRAMES:
        assert choose(header(4, 8), 4, 8, rule).notes == ()


def outputs_named(*names: str) -> list[Output]:
    return [Output(name, Path(f"{name}.mp4")) for name in names]


@pytest.mark.parametrize(
    ("names", "pattern"),
    [
        (["dog", "dog-agility"], "{clip}"),
        (["dog", "dog-agility", "dog_mask", "other"], "{clip}"),
        (["ours_dog", "ours_dog-agility"], "ours_{clip}"),
        (["x/dog/result", "x/dog-agility/result"], "x/{clip}/result"),
        (["dog/dog", "dog-agility/dog-agility"], "{clip}/{clip}"),
        (["predictions/dog"], "predictions/{clip}"),
    ],
)
def test_names_are_those_of_clips_or_follow_from_them(names: list[str], pattern: str) -> None:
    found = match(outputs_named(*names), ["dog", "dog-agility"])
    assert found.pattern == pattern
    assert {output.name: clip for clip, output in found.of.items()} == {
        pattern.replace("{clip}", clip): clip for clip in ("dog", "dog-agility") if pattern.replace("{clip}", clip) in names
    }


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (
            ["dog/result", "dog/mask", "cat/result"],
            r"several ways: '{clip}/result' \(2 clips\); '{clip}/mask' \(1 clips\). Say which: pattern=",
        ),
        (["ours_dog", "dog_ours"], "several ways"),
        (["dog", "dog"], "dog has 2 outputs"),
    ],
)
def test_what_can_be_read_in_several_ways_is_refused(names: list[str], said: str) -> None:
    with pytest.raises(DataError, match=said):
        match(outputs_named(*names), ["dog", "cat"])
    if "/" in names[0]:
        assert sorted(match(outputs_named(*names), ["dog", "cat"], "{clip}/result").of) == ["cat", "dog"]


def test_a_part_of_a_word_names_no_clip() -> None:
    found = match(outputs_named("hotdog", "dogs", "dog1"), ["dog"])
    assert found.of == {}
    assert len(found.extra) == 3


def test_missing_and_extra_outputs(score: Callable[..., Result], outputs: Path, caplog: pytest.LogCaptureFixture) -> None:
    (outputs / "c.mkv").rename(outputs / "see.mkv")
    with pytest.raises(ConfigError, match=r"no output for 1 of 5 clips: c \(looked for '\{clip\}'; without a clip: see\)") as refused:
        score()
    assert "'clips=[a,b,d,e]'" in str(refused.value)
    result = score(clips=["a", "b", "d", "e"])
    assert result.ok == 4
    assert "1 outputs belong to no clip and are not scored: see" in caplog.text


def test_everything_that_does_not_fit_is_said_before_anything_is_scored(
    originals: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(next(originals.glob("telea-*/predictions")), tmp_path / "mine")
    (folder / "galaxies.mkv").unlink()
    frames = read_lossless(folder / "add-cat.mkv")
    write_lossless(folder / "add-cat.mkv", frames[1:], 8.0)
    write_lossless(folder / "remove-cup.mkv", np.ascontiguousarray(frames[:, ::2, ::2]), 8.0)
    (folder / "garage-pan.mkv").write_bytes((folder / "garage-pan.mkv").read_bytes()[:-100])
    assert main(["score", str(folder), *SMALL, f"out={tmp_path / 'runs'}"]) == 2
    said = capsys.readouterr().out
    assert "no output for 1 of 8 clips: galaxies" in said
    assert f"add-cat: {folder / 'add-cat.mkv'} has 5 frames, the clip 6" in said
    assert f"remove-cup: {folder / 'remove-cup.mkv'} is 80x48, the clip 160x96" in said
    assert f"garage-pan: {folder / 'garage-pan.mkv'}: is cut off" in said
    assert not list((tmp_path / "runs").glob("demo/*"))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"resize": "cubic"}, "resize: 'cubic' is unknown. Did you mean 'bicubic'"),
        ({"frames": "all"}, "frames: 'all' is unknown"),
        ({"pattern": "result"}, r"pattern=result: expected a name with {clip} in it"),
    ],
)
def test_settings_that_do_not_exist(score: Callable[..., Result], keys: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        score(**keys)


def test_a_folder_without_outputs(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no video and no folder of pictures"):
        listing(tmp_path)
    pictures(tmp_path, np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="2 pictures that belong to no clip"):
        listing(tmp_path)
    (tmp_path / ".hidden").mkdir()
    pictures(tmp_path / ".hidden" / "a", np.zeros((2, 8, 8, 3), np.uint8))
    with pytest.raises(DataError, match="belong to no clip"):
        listing(tmp_path)


def test_the_shapes_that_benchmarks_tell_are_those_of_their_clips(benchmarks: list[Any]) -> None:
    for handle in benchmarks:
        clip = handle.load()
        assert tuple(handle.shape()) == (*clip.frames.shape[:3], clip.fps), handle


@pytest.fixture
def benchmarks(tmp_path: Path) -> list[Any]:
    """A handle of every benchmark that ships, with and without preparation."""
    from vpbench.benchmarks.davis import Davis
    from vpbench.benchmarks.demo import Demo
    from vpbench.benchmarks.folder import Folder
    from vpbench.benchmarks.vpbench import VPBench

    frames = np.random.default_rng(0).integers(0, 255, (20, 32, 48, 3), dtype=np.uint8)
    masks = np.zeros((20, 32, 48), np.uint8)
    masks[:, 8:20, 8:20] = 3
    davis = tmp_path / "davis"
    pictures(davis / "JPEGImages_432_240/dog", frames)
    pictures(davis / "test_masks/dog", np.repeat(masks[..., None] * 80, 3, axis=3))
    (davis / "davis_caption.csv").write_text("Video_Index,Video_Caption,Masked_Target_Caption\n1,a dog,a dog\n")
    folder = tmp_path / "folder"
    pictures(folder / "frames", frames)
    video(folder / "clip.mp4", frames, "libx264", "yuv420p", fps=24)
    Image.fromarray(masks[0] * 80).save(tmp_path / "mask.png")
    data = tmp_path / "vpbench"
    video(data / "pexels/pexels/raw_video/000000001/000000001_0.mp4", frames, "libx264", "yuv420p", fps=24)
    (data / "video_inpainting/pexels/000000001_0").mkdir(parents=True)
    np.savez(data / "video_inpainting/pexels/000000001_0/all_masks.npz", masks)
    (data / "our_video_inpaint.csv").write_text(
        "path,mask_id,start_frame,end_frame,fps,video_inpainting_prompt,image_inpainting_prompt\n"
        "000000001_0.mp4,3,2,19,24,a video,a thing\n"
    )
    return [
        next(iter(benchmark))
        for prepare in ({}, {"size": [16, 24], "frame_step": 2, "start": 1, "max_frames": 5})
        for benchmark in (
            Demo(frames=6, height=64, width=80, prepare=prepare),
            Davis(davis, prepare={**prepare}),
            Folder(folder / "clip.mp4", mask=str(tmp_path / "mask.png"), prepare=prepare),
            Folder(folder, mask=str(tmp_path / "mask.png"), prepare=prepare),
            VPBench(data, prepare=prepare),
        )
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [(["nowhere", "benchmark=demo"], "nowhere: no such folder of outputs"), (["benchmark=demo"], "no such folder of outputs")],
)
def test_a_folder_must_be_named(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", *given]) == 2
    assert said in capsys.readouterr().err


def test_help_imports_nothing_heavy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert loaded_after("from vpbench.cli import main; main(['score', '--help'])", tmp_path) == []
    assert main(["score", "--help"]) == 0
    assert "resize=bicubic" in capsys.readouterr().out


def test_the_record_of_a_clip_says_what_it_was_made_of(score: Callable[..., Result]) -> None:
    record = json.loads((score().folder / "clips/a.json").read_text())
    assert record["status"] == "ok"
    assert "notes" not in record


@pytest.mark.parametrize("first", [0, 1, 100])
def test_a_picture_that_is_missing_in_the_middle_leaves_the_others_in_their_places(tmp_path: Path, first: int) -> None:
    pictures(tmp_path / "a", toy_clip("a").frames)
    names = sorted((tmp_path / "a").iterdir(), key=lambda path: int(path.stem), reverse=True)
    for path in names:
        path.rename(path.with_name(f"{int(path.stem) + first:05d}.png"))
    count = len(names)
    (tmp_path / "a" / f"{first + 2:05d}.png").unlink()
    (output,) = listing(tmp_path)
    header = output.header()
    assert header.gaps == (2,)
    chosen = choose(header, count, 8, "present")
    assert (chosen.indices, chosen.present) == (tuple(range(count - 1)), tuple(t for t in range(count) if t != 2))
    for rule in (None, "repeat_last", "cut"):
        with pytest.raises(DataError, match=r"without number 2, counted|lacks number 2 of its pictures"):
            choose(header, count, 8, rule)
    assert choose(header, count - 1, 8, None).present == tuple(range(count - 1)), "every picture of a clip that is numbered in steps"


def test_a_sweep_flag_may_stand_anywhere_and_a_pattern_needs_no_quotes(
    outputs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for clip in list(outputs.iterdir()):
        clip.rename(outputs / f"{clip.stem}_made{clip.suffix}")
    given = [str(outputs), "benchmark=demo", "limit=1", f"out={tmp_path / 'runs'}"]
    for line in ([*given, "-m", "protocol=pixels"], [*given, "protocol=pixels", "pattern={clip}_other"]):
        assert main(["score", *line]) == 2
    said = capsys.readouterr()
    assert "no output for 1 of 1 clips" in said.out
    assert "looked for '{clip}_other'" in said.out
    assert main(["check", "benchmark=demo", f"outputs={outputs}", "limit=1", "pattern='{clip}_made'"]) == 1
    assert "no output named 'garage-pan_made'" in capsys.readouterr().out
