from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.benchmarks.files import REAL, frames, holes, truncate, which, write_video
from vpbench.benchmarks.vpbench import VPBench, operation_of
from vpbench.clip import Clip
from vpbench.errors import ConfigError, DataError

PEXELS = "000000000855_854996_seg_696_890.mp4"
VIDEOVO = "999999000001.0.mp4"
INPAINT = "path,mask_id,start_frame,end_frame,fps,video_inpainting_prompt,image_inpainting_prompt\n"
EDIT = "path,mask_id,start_frame,end_frame,fps,Original_video_caption,Edited_video_caption,Edited_image_caption,Editing_instruction\n"
FRAMES = 20


def labels(count: int = FRAMES) -> np.ndarray:
    """Object 4 in the middle, object 9 in the top left corner from frame 10 on."""
    map_ = holes(count).astype(np.uint8) * 4
    map_[10:, :4, :4] = 9
    return map_


def add_clip(root: Path, path: str, map_: np.ndarray, fps: int = 25) -> None:
    stem = path.split(".")[0]
    folder, source = (stem[:-3], "videovo") if ".0.mp4" in path else (stem[:9], "pexels")
    write_video(root / ("videovo/raw_video" if source == "videovo" else "pexels/pexels/raw_video") / folder / path, frames(FRAMES), fps=fps)
    masks = root / "video_inpainting" / source / stem
    masks.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(masks / "all_masks.npz", map_)


def listed(root: Path, rows: str, split: str = "inpaint") -> Path:
    (root / f"our_video_{split}.csv").write_text((EDIT if split.startswith("edit") else INPAINT) + rows)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """One pexels and one videovo clip; the folder's own name holds "videovo" and "edit_long", which the official code trips over."""
    base = tmp_path / "videovo_edit_long"
    add_clip(base, PEXELS, labels())
    add_clip(base, VIDEOVO, labels())
    return listed(base, f"{PEXELS},4,0,20,25,a beach,sand\n{VIDEOVO},9,2,16,25,a king,a crown\n")


def load(benchmark: VPBench) -> list[Clip]:
    return [handle.load() for handle in benchmark]


def only(root: Path, **settings: object) -> Clip:
    return next(iter(VPBench(root, **settings))).load()  # type: ignore[arg-type]


def test_reads_rows(root):
    benchmark = VPBench(root)
    beach, king = load(benchmark)
    assert (benchmark.name, len(benchmark)) == ("vpbench-inpaint", 2)
    assert (beach.name, king.name) == ("000000000855_854996_seg_696_890_m4", "999999000001_m9")
    assert (beach.caption, beach.region_caption, beach.operation, beach.instruction) == ("a beach", "sand", "inpaint", "")
    assert which(beach.frames) == [0, 3, 6, 9, 12, 15, 18]
    assert beach.fps == pytest.approx(25 / 3)
    np.testing.assert_array_equal(beach.masks, holes(7))


def test_the_window_is_half_open_and_applies_to_video_and_masks(root):
    _, king = load(VPBench(root))
    assert which(king.frames) == [2, 5, 8, 11, 14]
    assert [bool(mask.any()) for mask in king.masks] == [False, False, False, True, True]
    np.testing.assert_array_equal(king.masks[3], labels()[11] == 9)


@pytest.mark.parametrize(("split", "count"), [("inpaint", 7), ("inpaint_long", 7), ("edit", 7), ("edit_long", 20)])
def test_all_but_long_edits_are_thinned(root, split, count):
    texts = "o,v,i,Add a cat." if split.startswith("edit") else "v,i"
    listed(root, f"{PEXELS},4,0,20,25,{texts}\n", split)
    clip = only(root, split=split)
    assert len(clip.frames) == count
    assert VPBench(root, split=split).name == f"vpbench-{split}"


@pytest.mark.parametrize(("split", "most"), [("inpaint", 49), ("edit", 49), ("inpaint_long", None), ("edit_long", None)])
def test_standard_splits_keep_49_frames(root, split, most):
    listed(root, f"{PEXELS},4,0,20,25,{'o,v,i,Add a cat.' if split.startswith('edit') else 'v,i'}\n", split)
    assert next(iter(VPBench(root, split=split))).prepare.max_frames == most


def test_the_time_base_can_be_set(root):
    assert which(only(root, prepare={"to_fps": 25, "max_frames": 4}).frames) == [0, 1, 2, 3]


def test_edits_carry_texts_and_operation(root):
    listed(root, f'{PEXELS},4,0,20,25,before,after,region,"Remove the woman, please."\n', "edit")
    clip = only(root, split="edit")
    texts = (clip.caption, clip.region_caption, clip.instruction, clip.operation)
    assert texts == ("after", "region", "Remove the woman, please.", "remove")


@pytest.mark.parametrize(
    ("instruction", "operation"),
    [
        ("Add a rainbow.", "add"),
        ("insert a cat", "add"),
        ("Delete the cow.", "remove"),
        (" erase it", "remove"),
        ("Replace the dog", "swap"),
        ("Swap the dog into a cat.", "swap"),
        ("Change the lamp into a small tree.", "change"),
        ("Turn it red", "change"),
        ("Make it red", "change"),
        ("Address the crowd", "other"),
        ("Please add a cat", "other"),
        ("", "other"),
    ],
)
def test_the_first_verb_names_the_operation(instruction, operation):
    assert operation_of(instruction) == operation


def test_a_column_overrides_the_operation(root):
    rows = f"{PEXELS},4,0,20,25,o,v,i,Change the woman to a man.,swap\n{VIDEOVO},4,0,20,25,o,v,i,Add a cat.,\n"
    (root / "our_video_edit.csv").write_text(EDIT.replace("\n", ",operation\n") + rows)
    assert [clip.operation for clip in load(VPBench(root, split="edit"))] == ["swap", "add"]


def test_rows_are_addressed_by_row(root):
    listed(root, f"{PEXELS},4,0,20,25,one,x\n{PEXELS},9,0,20,25,two,x\n{PEXELS},4,0,10,25,three,x\n")
    clips = load(VPBench(root))
    stem = PEXELS.removesuffix(".mp4")
    assert [clip.name for clip in clips] == [f"{stem}_m4_r0", f"{stem}_m9", f"{stem}_m4_r2"]
    assert [clip.caption for clip in clips] == ["one", "two", "three"]
    assert clips[1].masks.sum() < clips[0].masks.sum()


def test_another_row_count_is_noted_and_fine(root, caplog):
    with caplog.at_level(logging.INFO):
        VPBench(root)
    assert "lists 2 clips; the published split has 100" in caplog.text


def test_empty_texts_are_fine(root):
    listed(root, f"{PEXELS},4,0,20,25,,\n")
    assert only(root).caption == ""


def test_the_fingerprint_follows_content_and_not_place(root, tmp_path):
    def prints(where: Path, **settings: object) -> list[str]:
        return [handle.fingerprint() for handle in VPBench(where, **settings)]  # type: ignore[arg-type]

    before = prints(root)
    shutil.copytree(root, tmp_path / "elsewhere")
    assert prints(tmp_path / "elsewhere") == before
    assert prints(root, prepare={"mask_dilate_px": 3}) != before
    assert prints(root, prepare={"to_fps": 8, "max_frames": 49}) == before
    add_clip(root, VIDEOVO, labels()[:, ::-1])
    assert [a == b for a, b in zip(prints(root), before, strict=True)] == [True, False]


def test_dilation_goes_through_the_preparation(root):
    grown = only(root, prepare={"mask_dilate_px": 3}).masks
    assert grown[0].sum() == 18 * 18


def test_a_missing_root_says_how_to_set_it(tmp_path):
    with pytest.raises(DataError, match=r"nowhere.*benchmark\.root="):
        VPBench(tmp_path / "nowhere")


def test_a_missing_list(root):
    with pytest.raises(DataError, match=r"our_video_edit\.csv: no such file"):
        VPBench(root, split="edit")


def test_an_unknown_split(root):
    with pytest.raises(ConfigError, match=r"edits.*Did you mean 'edit'"):
        VPBench(root, split="edits")


def test_a_missing_column(root):
    (root / "our_video_inpaint.csv").write_text(INPAINT.replace("mask_id,", ""))
    with pytest.raises(DataError, match=r"our_video_inpaint\.csv: the column 'mask_id' is missing; found: path, start_frame"):
        VPBench(root)


def test_a_list_of_vpdata_has_one_text(root):
    (root / "list.csv").write_text(f"path,start_frame,end_frame,fps,mask_id,caption\n{PEXELS},0,20,25,4,a beach\n")
    clip = only(root, csv="list.csv")
    assert (clip.caption, clip.region_caption, len(clip.frames), clip.operation) == ("a beach", "", 7, "inpaint")
    with pytest.raises(DataError, match=r"list\.csv: the column 'Edited_video_caption' is missing; found: path, start_frame"):
        VPBench(root, split="edit", csv="list.csv")


def test_an_empty_list(root):
    with pytest.raises(DataError, match="lists no clip"):
        VPBench(listed(root, ""))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("../x.mp4,4,0,20,25,v,i", r"\.\./x\.mp4.*leaves the folder"),
        ("/etc/x.mp4,4,0,20,25,v,i", "leaves the folder"),
        ("\\\\host\\x.mp4,4,0,20,25,v,i", "leaves the folder"),
        ("a/b.mp4,4,0,20,25,v,i", "row 1: path is 'a/b.mp4'; expected a bare file name"),
        ("a.avi,4,0,20,25,v,i", r"row 1: path is 'a\.avi'; expected the name of an \.mp4"),
        ("a?.mp4,4,0,20,25,v,i", "cannot name a clip"),
        (f"{PEXELS},x,0,20,25,v,i", "row 1: mask_id: expected a whole number, found 'x'"),
        (f"{PEXELS},4,0.5,20,25,v,i", r"row 1: start_frame: expected a whole number, found '0\.5'"),
        (f"{PEXELS},4,0,20,0,v,i", "row 1: fps is '0'"),
        (f"{PEXELS},4,0,20,nan,v,i", "row 1: fps is 'nan'"),
    ],
)
def test_bad_rows(root, row, message):
    with pytest.raises(DataError, match=message):
        VPBench(listed(root, row + "\n"))


@pytest.mark.parametrize("window", ["0,21", "5,5", "-1,4", "30,40"])
def test_a_window_outside_the_video(root, window):
    listed(root, f"{PEXELS},4,{window},25,v,i\n")
    with pytest.raises(DataError, match=r"\.mp4: the list asks for frames .* the video has 20"):
        only(root)


def test_an_object_that_does_not_occur(root):
    listed(root, f"{PEXELS},9,0,9,25,v,i\n")
    with pytest.raises(DataError, match=r"all_masks\.npz: the object 9 does not occur in the 3 frames.*found: 0, 4\..*nothing to fill"):
        only(root)


def test_an_object_that_is_everywhere(root):
    add_clip(root, PEXELS, np.full((FRAMES, 32, 56), 4, np.uint8))
    with pytest.raises(DataError, match=r"_m4: .*all hole.*nothing is left to see"):
        only(root)


def test_another_number_of_masks(root):
    add_clip(root, PEXELS, labels(19))
    with pytest.raises(DataError, match=r"all_masks\.npz: 19 masks for the 20 frames"):
        only(root)


def test_masks_of_another_size(root):
    add_clip(root, PEXELS, holes(FRAMES, 64, 96).astype(np.int64) * 4)
    with pytest.raises(DataError, match=r"96x64.*56x32.*mask_resize=nearest"):
        only(root)
    assert only(root, prepare={"mask_resize": "nearest"}).masks.shape == (7, 32, 56)


def test_pickled_masks_are_refused(root):
    add_clip(root, PEXELS, np.array([{"a": 1}], dtype=object))
    with pytest.raises(DataError, match=r"all_masks\.npz: cannot be read .*expected an \.npz"):
        only(root)


def test_masks_that_are_no_label_map(root):
    add_clip(root, PEXELS, np.zeros((FRAMES, 32, 56), np.float32))
    with pytest.raises(DataError, match=r"arr_0 is float32 \(20, 32, 56\); expected integers"):
        only(root)


def test_a_truncated_video(root):
    truncate(root / "pexels/pexels/raw_video/000000000" / PEXELS)
    with pytest.raises(DataError, match=r"854996_seg_696_890\.mp4: .*truncated"):
        only(root)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not here")
def test_the_real_list_of_vpdata():
    clips = load(VPBench(REAL / "vpbench_layout", csv="pexels_videovo_test_dataset.csv"))
    assert len(clips) == 6
    assert all(clip.caption for clip in clips)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips are not here")
@pytest.mark.parametrize(
    ("split", "counts"), [("inpaint", [20, 20, 20, 30, 20, 20]), ("inpaint_long", [68]), ("edit", None), ("edit_long", [204])]
)
def test_the_real_clips(split, counts):
    clips = load(VPBench(REAL / "vpbench_layout", split=split))
    if counts is None:
        assert [clip.operation for clip in clips] == ["change", "change", "swap", "remove", "add"]
        return
    counts = [min(count, 49) if split == "inpaint" else count for count in counts]
    assert [len(clip.frames) for clip in clips] == counts
    assert all(clip.frames.shape[1:3] == (480, 720) and clip.caption and clip.region_caption for clip in clips)
