"""`vpbench check benchmark=... outputs=DIR`: each fault is found in the right clip, and nothing in outputs that are well."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.test_configs import composed_model
from tests.test_score import pictures, video
from vpbench.benchmarks.demo import Demo
from vpbench.check_outputs import check_outputs
from vpbench.cli import main
from vpbench.clip import Clip, Frames
from vpbench.errors import ConfigError, DataError
from vpbench.findings import Finding
from vpbench.running import build_model
from vpbench.video import read_lossless, read_video, write_lossless

SIZE = {"frames": 10, "height": 144, "width": 256}
OVERRIDES = ["benchmark=demo", *(f"benchmark.{key}={value}" for key, value in SIZE.items())]
MODELS = ["blank", "nearest_frame", "temporal_median", "telea", "navier_stokes", "flow_propagation"]
CLIP = "launch-site"


@dataclass(frozen=True)
class Handle:
    """A clip of the demo that is rendered once."""

    name: str

    def fingerprint(self) -> str:
        return self.name

    def load(self) -> Clip:
        return clips()[self.name]


@functools.cache
def clips() -> dict[str, Clip]:
    """Half of the demo: two inpainting clips and two edits whose results are known."""
    return {handle.name: handle.load() for handle in Demo(**SIZE) if handle.name in (CLIP, "galaxies", "add-cat", "change-saucer")}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of every model that is not the truth, for all clips of the demo."""
    folder = tmp_path_factory.mktemp("runs")
    for name in MODELS:
        (folder / name).mkdir()
        model = build_model(composed_model(f"model={name}"))
        for handle in Demo(**SIZE):
            write_lossless(folder / name / f"{handle.name}.mkv", model.predict(handle.load(), 0).frames, 8.0)
    return folder


def redrawn(frames: Frames, strength: float = 1.0) -> Frames:
    """As a network gives back what it was given: a little softer, with errors of its own."""
    rng = np.random.default_rng(0)
    made = [
        cv2.GaussianBlur(frame, (0, 0), 0.6) + cv2.GaussianBlur(rng.normal(0, 6 * strength, frame.shape), (0, 0), 1.5) for frame in frames
    ]
    return np.clip(np.rint(made), 0, 255).astype(np.uint8)


def smaller_and_back(frames: Frames) -> Frames:
    """As a model that works at another size."""
    height, width = frames.shape[1:3]
    small = [cv2.resize(frame, (width * 2 // 3, height * 2 // 3), interpolation=cv2.INTER_AREA) for frame in frames]
    return np.stack([cv2.resize(frame, (width, height), interpolation=cv2.INTER_CUBIC) for frame in small])


@pytest.fixture(scope="module", params=["pasted", "altered"])
def originals(request: pytest.FixtureRequest, runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs of a model, with the background pasted, or as the model redrew it."""
    predictions = runs / "telea"
    folder = tmp_path_factory.mktemp("originals")
    for name in clips():
        frames = read_lossless(predictions / f"{name}.mkv")
        write_lossless(folder / f"{name}.mkv", frames if request.param == "pasted" else redrawn(frames), 8.0)
    return folder


@pytest.fixture
def clean(originals: Path, tmp_path: Path) -> Path:
    """A copy of them, to be spoilt."""
    return shutil.copytree(originals, tmp_path / "mine")


def check(folder: Path, **settings: Any) -> tuple[list[Finding], list[Finding]]:
    """Findings and notes."""
    found = check_outputs([Handle(name) for name in clips()], folder, **settings)
    return [one for one in found if not one.note], [one for one in found if one.note]


@pytest.mark.parametrize("model", MODELS)
def test_nothing_is_found_in_what_models_make(runs: Path, model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *OVERRIDES, f"outputs={runs / model}"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "note  8 of 8 clips: background pasted: it is the clip's own to the last bit",
        "check: ok  8 outputs of demo",
    ]


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("change", [redrawn, smaller_and_back])
def test_nothing_is_found_where_the_model_altered_the_background(
    runs: Path, tmp_path: Path, model: str, change: Callable[[Frames], Frames]
) -> None:
    for name in clips():
        write_lossless(tmp_path / f"{name}.mkv", change(read_lossless(runs / model / f"{name}.mkv")), 8.0)
    found, notes = check(tmp_path)
    assert found == []
    assert [(note.where, note.fault) for note in notes] == [("4 of 4 clips", "background altered")]


def edit(change: Callable[[Frames, Clip], Frames]) -> Callable[[Path], None]:
    """A fault of the pixels of one clip."""

    def plant(folder: Path) -> None:
        path = folder / f"{CLIP}.mkv"
        write_lossless(path, np.ascontiguousarray(change(read_lossless(path), clips()[CLIP])), 8.0)

    return plant


def missing(folder: Path) -> None:
    (folder / f"{CLIP}.mkv").unlink()


def extra(folder: Path) -> None:
    shutil.copy(folder / f"{CLIP}.mkv", folder / "another.mkv")


def inverted(frames: Frames, clip: Clip) -> Frames:
    """The model was given the mask upside down."""
    made = clip.frames.copy()
    made[~clip.masks] = clip.frames[clip.masks].mean(axis=0)
    return made


def truth(frames: Frames, clip: Clip) -> Frames:
    return np.where(clip.masks[..., None], clip.reference, frames)


def redrawn_truth(frames: Frames, clip: Clip) -> Frames:
    return redrawn(clip.reference)


def black_hole(frames: Frames, clip: Clip) -> Frames:
    frames[4:6][clip.masks[4:6]] = 0
    return frames


def black(frames: Frames, clip: Clip) -> Frames:
    frames[-1] = 0
    return frames


def all_black(frames: Frames, clip: Clip) -> Frames:
    return np.zeros_like(frames)


def frozen(frames: Frames, clip: Clip) -> Frames:
    frames[5:8] = frames[4]
    return frames


def still(frames: Frames, clip: Clip) -> Frames:
    return np.repeat(frames[:1], len(frames), axis=0)


def mp4(folder: Path) -> None:
    path = folder / f"{CLIP}.mkv"
    video(path.with_suffix(".mp4"), read_lossless(path), "libx264", "yuv420p", crf="16")
    path.unlink()


def jpeg(folder: Path) -> None:
    path = folder / f"{CLIP}.mkv"
    pictures(folder / CLIP, read_lossless(path), "jpg", quality=92)
    path.unlink()


def was_mp4(folder: Path, pixels: str = "yuv420p") -> None:
    """A lossless file of what was once lossy."""
    video(folder.parent / "lossy.mp4", read_lossless(folder / f"{CLIP}.mkv"), "libx264", pixels, crf="16")
    write_lossless(folder / f"{CLIP}.mkv", read_video(folder.parent / "lossy.mp4")[0], 8.0)


def was_jpeg(folder: Path) -> None:
    from vpbench.video import read_frame_folder

    pictures(folder.parent / "lossy", read_lossless(folder / f"{CLIP}.mkv"), "jpg", quality=92)
    write_lossless(folder / f"{CLIP}.mkv", read_frame_folder(folder.parent / "lossy"), 8.0)


def other_rate(folder: Path) -> None:
    write_lossless(folder / f"{CLIP}.mkv", read_lossless(folder / f"{CLIP}.mkv"), 30.0)


def truncated(folder: Path) -> None:
    path = folder / f"{CLIP}.mkv"
    path.write_bytes(path.read_bytes()[:-500])


FAULTS: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "missing": (missing, "missing clip", "holds no output named 'launch-site'"),
    "last frame missing": (edit(lambda f, c: f[:-1]), "off by one", "9 frames, the clip has 10; they show the clip's frames 0 to 8"),
    "first frame missing": (edit(lambda f, c: f[1:]), "off by one", "9 frames, the clip has 10; they show the clip's frames 1 to 9"),
    "one frame too many": (edit(lambda f, c: np.concatenate([f, f[-1:]])), "off by one", "11 frames, the clip has 10"),
    "first frame twice": (
        edit(lambda f, c: np.concatenate([f[:1], f[:-1]])),
        "off by one",
        "9 of 10 frames show the background of 1 frame before",
    ),
    "last frame twice": (
        edit(lambda f, c: np.concatenate([f[1:], f[-1:]])),
        "off by one",
        "9 of 10 frames show the background of 1 frame after",
    ),
    "shifted from the middle on": (edit(lambda f, c: np.concatenate([f[:5], f[4:-1]])), "off by one", "5 of 10 frames"),
    "channels": (edit(lambda f, c: f[..., ::-1]), "swapped channels", "with red and blue swapped by"),
    "masks": (edit(inverted), "inverted masks", "the hole holds the clip's own pixels (difference 0.0)"),
    "size": (edit(lambda f, c: f[:, ::2, ::2]), "resized", "is 128x72, the clip 256x144"),
    "mp4": (mp4, "lossy re-encoding", "the file is h264 yuv420p"),
    "jpeg": (jpeg, "lossy re-encoding", "the file is jpeg pictures"),
    "was mp4": (was_mp4, "lossy re-encoding", "as in 4:2:0"),
    "was mp4 444": (lambda folder: was_mp4(folder, "yuv444p"), "lossy re-encoding", "8-bit YUV (BT.601)"),
    "was jpeg": (was_jpeg, "lossy re-encoding", "8-bit YUV (JPEG)"),
    "truth in the hole": (edit(truth), "ground truth copied", "of detail in the hole that no frame near shows differ by 0.0"),
    "truth redrawn": (edit(redrawn_truth), "ground truth copied", "of detail in the hole"),
    "black frame": (edit(black), "black", "frame 9 (brightness 0.0"),
    "black hole": (edit(black_hole), "black", "frames 4-5"),
    "black": (edit(all_black), "black", "frames 0-9"),
    "frozen": (edit(frozen), "frozen", "frames 5-7 repeat the frame before"),
    "still": (edit(still), "frozen", "frames 1-9 repeat the frame before"),
    "another rate": (other_rate, "frame rate", "states 30 frames per second, the clip has 8"),
    "truncated": (truncated, "unreadable", "is cut off"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_in_its_clip_alone(clean: Path, name: str) -> None:
    plant, fault, evidence = FAULTS[name]
    plant(clean)
    found, notes = check(clean)
    assert [(one.where, one.fault) for one in found] == [(CLIP, fault)]
    assert evidence in found[0].evidence
    assert found[0].line().count("\n") == 0
    if not name.startswith("truncated"):
        assert found[0].remedy or "frames=" in found[0].evidence or "resize=" in found[0].evidence
    assert all("of 4 clips" in note.where for note in notes)


def test_an_extra_output_is_named(clean: Path) -> None:
    extra(clean)
    (found,), _ = check(clean)
    assert (found.where, found.fault) == ("another", "extra clip")
    assert str(clean / "another.mkv") in found.evidence


@pytest.mark.parametrize("other", ["galaxies", "add-cat"])
def test_outputs_under_each_others_names_are_told_apart(clean: Path, other: str) -> None:
    for one, to in ((CLIP, "spare"), (other, CLIP), ("spare", other)):
        (clean / f"{one}.mkv").rename(clean / f"{to}.mkv")
    found, _ = check(clean)
    assert {one.where: one.fault for one in found} == {CLIP: "wrong pairing", other: "wrong pairing"}
    assert {one.where: f"that of {to}" in one.evidence for one, to in zip(found, (other, CLIP), strict=True)} == {CLIP: True, other: True}


def test_another_clip_of_another_size_and_length_is_told_too(clean: Path) -> None:
    frames = read_lossless(clean / "galaxies.mkv")
    write_lossless(clean / f"{CLIP}.mkv", np.ascontiguousarray(frames[:-1, ::2, ::2]), 8.0)
    (found,), _ = check(clean)
    assert (found.where, found.fault) == (CLIP, "wrong pairing")


def test_what_the_user_allows_is_a_note(clean: Path) -> None:
    for path in clean.glob("*.mkv"):
        frames = read_lossless(path)
        write_lossless(
            path, np.stack([cv2.resize(frame, (320, 180), interpolation=cv2.INTER_CUBIC) for frame in [*frames, frames[-1]]]), 8.0
        )
    found, _ = check(clean)
    assert {one.fault for one in found} == {"resized"}
    found, notes = check(clean, resize="area", frames="cut")
    assert found == []
    assert sum(note.evidence == "resized: 320x180 to 256x144, area" for note in notes) == 4
    assert sum(note.evidence == "frames cut: 11 to 10" for note in notes) == 4
    shutil.copytree(clean, clean.parent / "again" / "x")
    assert check(clean.parent / "again", resize="area", frames="cut", pattern="x/{clip}")[0] == []


def test_short_outputs_that_may_be_short(clean: Path) -> None:
    edit(lambda frames, clip: frames[:-3])(clean)
    assert check(clean)[0][0].fault == "frame count"
    assert check(clean, frames="present")[0] == []


def test_an_edit_without_a_known_result_may_be_unchanged(clean: Path) -> None:
    class Edit(Handle):
        def load(self) -> Clip:
            return replace(super().load(), operation="change", target=None)

    write_lossless(clean / f"{CLIP}.mkv", clips()[CLIP].frames, 8.0)
    found = check_outputs([Edit(CLIP)], clean)
    assert next(one.fault for one in found if one.note) == "unchanged"
    assert {one.fault for one in found if not one.note} == {"extra clip"}


def test_the_command_says_a_line_for_each_and_exits_with_1(clean: Path, capsys: pytest.CaptureFixture[str]) -> None:
    missing(clean)
    extra_source = clean / "galaxies.mkv"
    shutil.copy(extra_source, clean / "more.mkv")
    some = f"clips=[{','.join(clips())}]"
    assert main(["check", *OVERRIDES, f"outputs={clean}", some]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("finding  ") for line in lines) == 2
    assert lines[-1] == "check: FOUND  2 findings in 2 places; 4 outputs of demo"
    assert main(["check", *OVERRIDES, f"outputs={clean}", "clips=[galaxies,add-cat]"]) == 1
    assert "finding  launch-site" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["outputs=nowhere"], "nowhere: no such folder of outputs"),
        (["outputs=.", "resize=cubic"], "resize: 'cubic' is unknown"),
        (["resize=cubic"], "resize belongs to outputs=DIR"),
    ],
)
def test_what_cannot_be_checked(given: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *OVERRIDES, *given]) == 2
    assert said in capsys.readouterr().err


def test_settings_and_folders_that_do_not_exist(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="frames: 'all' is unknown"):
        check(tmp_path, frames="all")
    with pytest.raises(DataError, match="holds no video"):
        check(tmp_path)
