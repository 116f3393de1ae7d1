from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.files import (
    REAL,
    frames,
    holes,
    truncate,
    which,
    write_mask_video,
    write_masks,
    write_picture,
    write_pictures,
    write_video,
)
from vpbench.benchmarks.folder import Folder
from vpbench.clip import Clip
from vpbench.errors import ConfigError, DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A video ``a`` of 6 frames and a frame folder ``b`` of 4."""
    write_video(tmp_path / "mine/a.mp4", frames(6), fps=24)
    write_pictures(tmp_path / "mine/b", frames(4))
    return tmp_path / "mine"


@pytest.fixture
def picture(tmp_path: Path) -> str:
    return str(write_picture(tmp_path / "mask.png", holes(1)[0].astype(np.uint8) * 255))


def load(benchmark: Folder) -> list[Clip]:
    return [handle.load() for handle in benchmark]


def test_one_picture_for_all_frames_of_all_clips(root, picture):
    benchmark = Folder(root, mask=picture)
    a, b = load(benchmark)
    assert (benchmark.name, a.name, b.name) == ("folder-mine", "a", "b")
    assert (a.fps, b.fps) == (24.0, 8.0)
    assert which(a.frames) == list(range(6))
    np.testing.assert_array_equal(a.masks, holes(6))
    np.testing.assert_array_equal(b.frames, frames(4))
    np.testing.assert_array_equal(b.masks, holes(4))


def test_a_mask_video_and_a_mask_folder(root, tmp_path):
    shutil.rmtree(root / "b")
    moving = np.stack([np.roll(mask, t, axis=1) for t, mask in enumerate(holes(6))])
    for given in (write_mask_video(tmp_path / "m.mp4", moving), write_masks(tmp_path / "m", moving)):
        (clip,) = load(Folder(root, mask=str(given)))
        np.testing.assert_array_equal(clip.masks, moving)


def test_a_mask_for_each_clip_by_its_name(root, tmp_path):
    write_mask_video(tmp_path / "masks/a.mp4", holes(6))
    write_masks(tmp_path / "masks/b", holes(4))
    a, b = load(Folder(root, masks_dir=str(tmp_path / "masks")))
    np.testing.assert_array_equal(a.masks, holes(6))
    np.testing.assert_array_equal(b.masks, holes(4))


def test_names_are_taken_literally_when_looking_for_a_mask(tmp_path):
    write_video(tmp_path / "mine/take [1].mp4", frames(2))
    write_picture(tmp_path / "masks/take [1].png", holes(1)[0].astype(np.uint8) * 255)
    write_picture(tmp_path / "masks/take 1.png", holes(1)[0].astype(np.uint8))
    (clip,) = load(Folder(tmp_path / "mine", masks_dir=str(tmp_path / "masks"), mask_threshold=127))
    np.testing.assert_array_equal(clip.masks, holes(2))


def test_a_folder_for_each_clip(tmp_path):
    write_video(tmp_path / "one/video.mp4", frames(3))
    write_mask_video(tmp_path / "one/mask.mp4", holes(3))
    write_pictures(tmp_path / "two/video", frames(2))
    write_masks(tmp_path / "two/mask", holes(2))
    write_video(tmp_path / "three/video.mkv", frames(2))
    write_picture(tmp_path / "three/mask.png", holes(1)[0].astype(np.uint8) * 255)
    clips = load(Folder(tmp_path))
    assert [(clip.name, len(clip.frames)) for clip in clips] == [("one", 3), ("three", 2), ("two", 2)]
    for clip in clips:
        np.testing.assert_array_equal(clip.masks, holes(len(clip.frames)))


def test_a_single_video(root, picture):
    (clip,) = load(Folder(root / "a.mp4", mask=picture))
    assert clip.name == "a"


@pytest.mark.parametrize("key", ["mask", "masks_dir"])
def test_masks_inside_the_root_are_no_clips(tmp_path, key):
    write_video(tmp_path / "a.mp4", frames(3))
    if key == "mask":
        given = write_mask_video(tmp_path / "m.mp4", holes(3))
    else:
        given = write_picture(tmp_path / "m/a.png", holes(1)[0].astype(np.uint8) * 255).parent
    assert [handle.name for handle in Folder(tmp_path, **{key: str(given)})] == ["a"]


def test_soft_edges_of_a_mask_video_are_cut_in_the_middle(tmp_path):
    grey = np.zeros((2, 32, 56, 3), np.uint8)
    grey[:, :, 16:32], grey[:, :, 32:] = 100, 160
    write_video(tmp_path / "c/video.mp4", frames(2))
    write_video(tmp_path / "c/mask.mp4", grey)
    (clip,) = load(Folder(tmp_path))
    assert not clip.masks[..., 4:28].any()
    assert clip.masks[..., 36:].all()


def test_only_the_frames_of_the_window_are_kept(root, picture):
    a, b = load(Folder(root, mask=picture, prepare={"start": 1, "frame_step": 2}))
    assert (which(a.frames), which(b.frames)) == ([1, 3, 5], [1, 3])
    assert (a.fps, b.fps) == (12.0, 4.0)


def test_captions_and_edits(root, picture, tmp_path):
    table = tmp_path / "captions.csv"
    table.write_text("clip,caption,region_caption,operation,instruction\nb,a lake,a boat,remove,Remove the boat.\n")
    a, b = load(Folder(root, mask=picture, captions=str(table)))
    assert (a.caption, a.operation) == ("", "inpaint")
    assert (b.caption, b.region_caption, b.operation, b.instruction) == ("a lake", "a boat", "remove", "Remove the boat.")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("clip,text\na,x\n", "the column 'caption' is missing; found: clip, text"),
        ("clip,caption\nz,x\n", "caption for 'z', which is no clip; clips: a, b"),
        ("clip,caption\n../a,x\n", "caption for '../a', which is no clip"),
        ("clip,caption\na,x\na,y\n", "two rows for the clip 'a'"),
        ("clip,caption\na,x,y\n", "cannot be read as CSV"),
        ("clip,caption,operation\na,x,paint\n", "operation of a is 'paint'; known: inpaint, add"),
        ("", "cannot be read as CSV"),
    ],
)
def test_bad_captions(root, picture, tmp_path, table, message):
    (tmp_path / "captions.csv").write_text(table)
    with pytest.raises(DataError, match=rf"captions\.csv: .*{message}"):
        Folder(root, mask=picture, captions=str(tmp_path / "captions.csv"))


def test_the_fingerprint_follows_content_and_not_place(root, picture, tmp_path):
    def prints(where: Path, **settings: object) -> list[str]:
        return [handle.fingerprint() for handle in Folder(where, mask=picture, **settings)]  # type: ignore[arg-type]

    before = prints(root)
    shutil.copytree(root, tmp_path / "elsewhere")
    assert prints(tmp_path / "elsewhere") == before
    assert prints(root, prepare={"size": [16, 16]}) != before
    assert [a == b for a, b in zip(prints(root, fps=12), before, strict=True)] == [True, False]
    write_picture(Path(picture), np.full((32, 56), 255, np.uint8))
    assert all(a != b for a, b in zip(prints(root), before, strict=True))


def test_a_missing_root_says_how_to_set_it(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*benchmark\.root="):
        Folder(tmp_path / "nowhere")


def test_a_root_without_clips(tmp_path, picture):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no video"):
        Folder(tmp_path / "empty", mask=picture)


def test_a_root_that_is_a_picture(picture):
    with pytest.raises(DataError, match=r"mask\.png: is neither a folder nor a video"):
        Folder(picture, mask=picture)


def test_no_mask_at_all(root):
    with pytest.raises(DataError, match=r"a\.mp4: has no mask.*benchmark\.mask=.*benchmark\.masks_dir=.*mask\.\*"):
        Folder(root)


def test_a_mask_that_does_not_exist(root, tmp_path):
    with pytest.raises(DataError, match=r"gone\.png: no such file or folder \(benchmark\.mask\)"):
        Folder(root, mask=str(tmp_path / "gone.png"))


def test_a_clip_without_its_mask(root, tmp_path):
    write_mask_video(tmp_path / "masks/a.mp4", holes(6))
    with pytest.raises(DataError, match=r"masks: holds no mask for the clip b \(looked for b/"):
        Folder(root, masks_dir=str(tmp_path / "masks"))


def test_two_ways_to_give_masks(root, picture, tmp_path):
    with pytest.raises(ConfigError, match=r"benchmark\.mask and benchmark\.masks_dir"):
        Folder(root, mask=picture, masks_dir=str(tmp_path))


@pytest.mark.parametrize("kind", ["video", "folder"])
def test_another_number_of_masks(root, tmp_path, kind):
    given = write_mask_video(tmp_path / "m.mp4", holes(5)) if kind == "video" else write_masks(tmp_path / "m", holes(5))
    with pytest.raises(DataError, match=r"5 masks for the 6 frames of .*a\.mp4"):
        next(iter(Folder(root, mask=str(given)))).load()


def test_a_mask_of_another_size(root, tmp_path):
    given = str(write_picture(tmp_path / "m.png", holes(1, 64, 96)[0].astype(np.uint8) * 255))
    with pytest.raises(DataError, match=r"a: the masks are 96x64, the frames 56x32.*mask_resize=nearest"):
        next(iter(Folder(root, mask=given))).load()
    np.testing.assert_equal(next(iter(Folder(root, mask=given, prepare={"mask_resize": "nearest"}))).load().masks.shape, (6, 32, 56))


def test_a_truncated_video(root, picture):
    truncate(root / "a.mp4")
    a, b = Folder(root, mask=picture)
    with pytest.raises(DataError, match=r"a\.mp4: .*truncated"):
        a.load()
    b.load()


def test_an_empty_file(root, picture):
    (root / "a.mp4").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.mp4"):
        next(iter(Folder(root, mask=picture))).load()


def test_a_window_that_leaves_nothing(root, picture):
    for handle in Folder(root, mask=picture, prepare={"start": 50}):
        with pytest.raises(DataError, match=r"the clip is empty.*window"):
            handle.load()


@pytest.mark.parametrize(("value", "message"), [(0, "a: .*no hole.*nothing to fill"), (255, "a: .*all hole.*nothing is left to see")])
def test_no_hole_and_all_hole(root, tmp_path, value, message):
    given = write_picture(tmp_path / "m.png", np.full((32, 56), value, np.uint8))
    with pytest.raises(DataError, match=message):
        next(iter(Folder(root, mask=str(given)))).load()


def test_two_files_for_one_name(root, picture):
    shutil.copy(root / "a.mp4", root / "a.mov")
    with pytest.raises(DataError, match="'a' and 'a'"):
        Folder(root, mask=picture)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not here")
def test_the_real_clips():
    dog, tennis = load(Folder(REAL / "mask_video"))
    assert (dog.name, dog.frames.shape, dog.fps) == ("dog_rectangle", (81, 480, 832, 3), 16.0)
    assert (tennis.name, tennis.frames.shape, tennis.fps) == ("tennis_silhouette", (70, 480, 854, 3), 15.0)
    completion = REAL / "video_completion"
    (car,) = load(Folder(completion, mask=str(completion / "mask_square_648x360.png")))
    assert (car.name, car.frames.shape) == ("running_car", (100, 360, 648, 3))
    with pytest.raises(DataError, match=r"432x240.*648x360"):
        load(Folder(completion, mask=str(completion / "mask_square.png")))
