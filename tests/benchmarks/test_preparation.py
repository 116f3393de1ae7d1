from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from tests.benchmarks.files import frames, holes, which
from vpbench.benchmarks.preparation import Preparation
from vpbench.clip import Clip
from vpbench.errors import ConfigError, DataError


def a_clip(count: int = 12, **changes: Any) -> Clip:
    return dataclasses.replace(Clip("a", frames(count), holes(count), fps=24.0), **changes)


def test_the_default_changes_nothing():
    clip = a_clip()
    prepared = Preparation().apply(clip)
    np.testing.assert_array_equal(prepared.frames, clip.frames)
    np.testing.assert_array_equal(prepared.masks, clip.masks)
    assert prepared.fps == 24.0


@pytest.mark.parametrize(("fps", "step"), [(24, 3), (25, 3), (29.97, 3), (30, 3), (23, 2), (23.976, 2), (60, 7), (15, 1), (8, 1), (6, 1)])
def test_thinning_follows_the_official_rule(fps, step):
    assert Preparation(to_fps=8).step(fps) == step


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"frame_step": 4}, [0, 4, 8]),
        ({"start": 2, "end": 5}, [2, 3, 4]),
        ({"end": 99}, list(range(12))),
        ({"to_fps": 8, "max_frames": 2, "start": 1}, [1, 4]),
        ({"start": 12}, []),
    ],
)
def test_frame_windows(settings, kept):
    assert Preparation(**settings).indices(12, 24.0) == kept


def test_frames_masks_target_and_fps_are_thinned_together():
    prepared = Preparation(to_fps=8).apply(a_clip(target=frames(12), operation="remove"))
    assert which(prepared.frames) == [0, 3, 6, 9]
    assert prepared.target is not None
    assert which(prepared.target) == [0, 3, 6, 9]
    assert len(prepared.masks) == 4
    assert prepared.fps == 8.0


def test_frames_are_resized_with_lanczos_and_masks_stay_binary():
    noise = np.random.default_rng(0).integers(0, 256, (2, 32, 56, 3), dtype=np.uint8)
    prepared = Preparation.of({"size": [16, 20]}).apply(Clip("a", noise, holes(2), 8.0, target=noise))
    expected = np.asarray(Image.fromarray(noise[1]).resize((20, 16), Image.Resampling.LANCZOS))
    np.testing.assert_array_equal(prepared.frames[1], expected)
    np.testing.assert_array_equal(prepared.reference[1], expected)
    assert prepared.masks.shape == (2, 16, 20)
    assert prepared.masks.mean() == pytest.approx(holes(1).mean(), rel=0.2)


def test_settings_come_from_omegaconf():
    config = OmegaConf.create({"size": [16, 20], "to_fps": 8})
    assert Preparation.of(config) == Preparation(size=(16, 20), to_fps=8.0)
    assert Preparation.of(config).size == (16, 20)


def test_the_identity_follows_the_values_and_not_their_spelling():
    assert Preparation(to_fps=8).identity() == Preparation.of({"to_fps": 8.0, "frame_step": 1}).identity()
    everything = [Preparation(), Preparation(to_fps=8), Preparation(size=(1, 2)), Preparation(mask_dilate_px=3), Preparation(end=4)]
    assert len({preparation.identity() for preparation in everything}) == len(everything)


@pytest.mark.parametrize(("shape", "pixels"), [("box", 81), ("cross", 41)])
def test_four_small_dilations(shape, pixels):
    """Four times 3x3: a square of 9x9, or with the cross of the official DAVIS loader all within a city-block distance of 4."""
    masks = np.zeros((1, 32, 56), bool)
    masks[0, 16, 24] = True
    grown = Preparation(mask_dilate_px=3, mask_dilate_shape=shape, mask_dilate_iterations=4).apply(a_clip(1, masks=masks)).masks
    assert grown.sum() == pixels


def test_dilation_counts_pixels_after_resizing():
    masks = np.zeros((1, 32, 56), bool)
    masks[0, 16:18, 24:26] = True
    grown = Preparation(size=(64, 112), mask_dilate_px=5).apply(a_clip(1, masks=masks)).masks
    assert grown.sum() == 8 * 8


def test_masks_of_another_size_need_permission():
    small = holes(2, 16, 24)
    with pytest.raises(DataError, match=r"24x16.*56x32.*mask_resize=nearest"):
        Preparation().masks_for(small, frames(2), "a")
    assert Preparation(mask_resize="nearest").masks_for(small, frames(2), "a").shape == (2, 32, 56)


def test_a_clip_without_any_hole():
    with pytest.raises(DataError, match=r"a: .*no hole.*nothing to fill"):
        Preparation().apply(a_clip(masks=np.zeros_like(holes(12))))


def test_a_clip_that_is_all_hole():
    with pytest.raises(DataError, match=r"a: .*all hole.*nothing is left to see"):
        Preparation().apply(a_clip(masks=np.ones_like(holes(12))))


def test_single_frames_may_be_all_hole_or_none():
    masks = holes(12)
    masks[0], masks[1] = True, False
    assert Preparation().apply(a_clip(masks=masks)).masks[0].all()


def test_a_window_without_frames():
    with pytest.raises(DataError, match=r"a: the clip is empty.*12 frames"):
        Preparation(start=20).apply(a_clip())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sice": [1, 2]}, r"sice.*Did you mean 'size'"),
        ({"size": 480}, r"size=480.*\[height, width\]"),
        ({"size": [480]}, r"\[height, width\]"),
        ({"size": [480, 0]}, r"\[height, width\]"),
        ({"size": "ab"}, r"\[height, width\]"),
        ({"to_fps": 0}, "to_fps=0"),
        ({"to_fps": "fast"}, "to_fps=fast"),
        ({"to_fps": float("nan")}, "to_fps=nan"),
        ({"frame_step": 0}, "frame_step=0.*at least 1"),
        ({"frame_step": 1.5}, "frame_step=1.5.*whole number"),
        ({"start": -1}, "start=-1.*at least 0"),
        ({"start": 4, "end": 4}, "end=4.*more than prepare.start=4"),
        ({"max_frames": 0}, "max_frames=0"),
        ({"max_frames": 2.5}, "max_frames=2.5.*whole number"),
        ({"mask_resize": "linear"}, "linear.*nearest"),
        ({"mask_dilate_shape": "round"}, "round.*box, cross, disk"),
        ({"mask_dilate_px": -3}, "mask_dilate_px=-3"),
        ("fast", "expected a mapping.*frame_step"),
    ],
)
def test_bad_settings_say_what_is_valid(settings, message):
    with pytest.raises(ConfigError, match=message):
        Preparation.of(settings)
