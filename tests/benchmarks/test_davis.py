from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.files import REAL, frames, holes, which, write_masks, write_pictures
from vpbench.benchmarks.davis import Davis
from vpbench.errors import ConfigError, DataError
from vpbench.masks import write_manifest

CAPTIONS = "Video_Index,Video_Caption,Masked_Target_Caption\n1,a bear walks,a bear\n2,a cow stands,a cow\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two clips, ``bear`` with 5 frames and ``cow`` with 3."""
    for clip, count in (("bear", 5), ("cow", 3)):
        write_pictures(tmp_path / "davis/JPEGImages_432_240" / clip, frames(count))
        write_masks(tmp_path / "davis/test_masks" / clip, holes(count))
    (tmp_path / "davis/davis_caption.csv").write_text(CAPTIONS)
    return tmp_path / "davis"


def test_reads_frames_masks_and_captions(root):
    benchmark = Davis(root)
    assert (benchmark.name, len(benchmark)) == ("davis", 2)
    bear, cow = (handle.load() for handle in benchmark)
    np.testing.assert_array_equal(bear.frames, frames(5))
    np.testing.assert_array_equal(bear.masks, holes(5))
    assert (bear.name, bear.caption, bear.region_caption, bear.fps) == ("bear", "a bear walks", "a bear", 8.0)
    assert (cow.caption, len(cow.frames)) == ("a cow stands", 3)


def test_captions_without_suffix_and_without_file(root):
    (root / "davis_caption.csv").rename(root / "davis_caption")
    assert next(iter(Davis(root))).load().caption == "a bear walks"
    (root / "davis_caption").unlink()
    assert next(iter(Davis(root))).load().caption == ""


def test_every_mask_value_over_zero_is_hole(root):
    import cv2

    path = root / "test_masks/bear/00000.png"
    assert cv2.imwrite(str(path), holes(1)[0].astype(np.uint8))
    np.testing.assert_array_equal(next(iter(Davis(root))).load().masks, holes(5))


def test_random_masks_follow_seed_and_name(root):
    def masks(**settings: object) -> list[np.ndarray]:
        return [handle.load().masks for handle in Davis(root, masks="random", **settings)]  # type: ignore[arg-type]

    assert Davis(root, masks="random").name == "davis-random"
    first, again, other = masks(), masks(), masks(mask_seed=1)
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other, strict=True))
    assert not np.array_equal(first[0][:3], first[1])
    shutil.rmtree(root / "test_masks")
    assert np.array_equal(masks()[0], first[0])


def test_a_frame_window_does_not_change_random_masks(root):
    whole = next(iter(Davis(root, masks="random", mask_motion="moving"))).load()
    part = next(iter(Davis(root, masks="random", mask_motion="moving", prepare={"start": 1, "end": 4}))).load()
    np.testing.assert_array_equal(part.masks, whole.masks[1:4])
    assert which(part.frames) == [1, 2, 3]


def test_a_manifest_is_checked(root, tmp_path):
    made = Davis(root, masks="random").manifest()
    assert made is not None
    assert [entry["clip"] for entry in made["clips"]] == ["bear", "cow"]
    write_manifest(tmp_path / "masks.json", made)
    for handle in Davis(root, masks="random", mask_manifest=str(tmp_path / "masks.json")):
        handle.load()
    with pytest.raises(DataError, match=r"masks\.json: the masks of bear differ"):
        next(iter(Davis(root, masks="random", mask_seed=7, mask_manifest=str(tmp_path / "masks.json")))).load()


def test_the_fingerprint_follows_content_and_not_place(root, tmp_path):
    def prints(where: Path, **settings: object) -> list[str]:
        return [handle.fingerprint() for handle in Davis(where, **settings)]  # type: ignore[arg-type]

    shutil.copytree(root, tmp_path / "elsewhere")
    before = prints(root)
    assert prints(tmp_path / "elsewhere") == before
    assert prints(root, prepare={"max_frames": 2}) != before
    assert prints(root, masks="random") != before
    assert prints(root, masks="random") != prints(root, masks="random", mask_seed=1)
    (root / "davis_caption.csv").write_text(CAPTIONS.replace("a bear walks", "a bear runs"))
    assert [a == b for a, b in zip(prints(root), before, strict=True)] == [False, True]
    write_masks(root / "test_masks/cow", ~holes(3))
    assert prints(root)[1] != before[1]


def test_a_missing_root_says_how_to_set_it(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*benchmark\.root="):
        Davis(tmp_path / "nowhere")


def test_a_root_without_the_layout(tmp_path):
    with pytest.raises(DataError, match=r"JPEGImages_432_240.*no such folder"):
        Davis(tmp_path)


def test_masks_missing_on_disk(root):
    shutil.rmtree(root / "test_masks")
    with pytest.raises(DataError, match=r"test_masks.*benchmark\.masks=random"):
        Davis(root)


def test_masks_without_frames(root):
    write_masks(root / "test_masks/dog", holes(2))
    with pytest.raises(DataError, match="dog: no such folder"):
        Davis(root)


def test_a_caption_column_is_missing(root):
    (root / "davis_caption.csv").write_text("Video_Index,Caption\n1,x\n")
    with pytest.raises(DataError, match=r"davis_caption\.csv: the column 'Video_Caption' is missing; found: Video_Index, Caption"):
        Davis(root)


def test_a_caption_for_no_clip(root):
    (root / "davis_caption.csv").write_text(CAPTIONS + "3,x,y\n")
    with pytest.raises(DataError, match="Video_Index 3, but there are 2 clips"):
        Davis(root)


def test_another_number_of_masks(root):
    (root / "test_masks/bear/00002.png").unlink()
    with pytest.raises(DataError, match="bear: 4 masks for the 5 frames"):
        next(iter(Davis(root))).load()


def test_masks_of_another_size(root):
    write_masks(root / "test_masks/bear", holes(5, 64, 96))
    with pytest.raises(DataError, match=r"bear.*96x64.*56x32.*mask_resize=nearest"):
        next(iter(Davis(root))).load()
    assert next(iter(Davis(root, prepare={"mask_resize": "nearest"}))).load().masks.shape == (5, 32, 56)


def test_an_empty_clip(root):
    for path in (root / "JPEGImages_432_240/bear").iterdir():
        path.unlink()
    with pytest.raises(DataError, match="bear: the clip is empty"):
        next(iter(Davis(root))).load()


def test_a_broken_picture(root):
    (root / "JPEGImages_432_240/bear/00001.png").write_bytes(b"not a picture")
    with pytest.raises(DataError, match=r"00001\.png: cannot be decoded"):
        next(iter(Davis(root))).load()


@pytest.mark.parametrize(("value", "message"), [(False, "bear.*no hole"), (True, "bear.*all hole")])
def test_no_hole_and_all_hole(root, value, message):
    write_masks(root / "test_masks/bear", np.full_like(holes(5), value))
    with pytest.raises(DataError, match=message):
        next(iter(Davis(root))).load()


@pytest.mark.parametrize("key", ["frames_dir", "masks_dir", "captions"])
@pytest.mark.parametrize("path", ["../davis", "/etc", "a/../../b", "\\etc", "C:\\a"])
def test_paths_stay_inside_the_root(root, key, path):
    with pytest.raises(DataError, match="leaves the folder"):
        Davis(root, **{key: path})


def test_names_that_differ_in_case_only(root):
    write_masks(root / "test_masks/BEAR", holes(1))
    if len(list((root / "test_masks").iterdir())) < 3:
        pytest.skip("this file system does not tell them apart")
    with pytest.raises(DataError, match="'BEAR' and 'bear'"):
        Davis(root)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"masks": "disc"}, "'disc'.*'disk'"), ({"mask_motion": "fast"}, "fast.*stationary"), ({"fps": 0}, "fps=0")],
)
def test_unknown_values(root, settings, message):
    with pytest.raises(ConfigError, match=message):
        Davis(root, **settings)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not here")
@pytest.mark.parametrize("masks", ["disk", "random"])
def test_the_real_clips(masks):
    clips = [handle.load() for handle in Davis(REAL / "davis_layout", masks=masks)]
    assert [(clip.name, clip.frames.shape) for clip in clips] == [("bmx-trees", (80, 240, 432, 3)), ("tennis", (70, 240, 432, 3))]
    assert clips[1].region_caption.startswith("A male tennis player")
