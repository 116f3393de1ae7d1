"""What of a clip is scored: tracks, quantisation, what it is compared with, and the scoring mask."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest

from tests.toy import toy_clip
from vpbench.errors import ConfigError
from vpbench.measuring import PAIR, Part
from vpbench.views import View, official_round_trip


@pytest.fixture
def prediction():
    return np.full((4, 32, 40, 3), 77, np.uint8)


def test_the_official_reference_loses_one_level_from_1_to_63():
    levels = np.arange(256)
    np.testing.assert_array_equal(official_round_trip(), np.where((levels >= 1) & (levels <= 63), levels - 1, levels))


def test_the_official_reference_is_what_torch_computes_in_float32():
    torch = pytest.importorskip("torch")
    levels = torch.from_numpy(np.arange(256, dtype=np.uint8).astype(np.float32) / 255.0)
    back = ((2.0 * levels - 1.0) / 2 + 0.5).clamp(0, 1).numpy() * 255
    np.testing.assert_array_equal(official_round_trip(), back.astype(np.uint8))


def test_the_default_view_is_the_clip_itself(prediction):
    clip = toy_clip("a")
    comparison = View().comparison(clip, prediction)
    assert comparison.prediction is prediction
    assert comparison.reference is clip.frames
    assert comparison.masks is clip.masks
    assert comparison.caption == clip.caption
    assert View().tags(PAIR) == "raw"


def test_the_composite_takes_the_background_from_the_quantised_source(prediction):
    clip = toy_clip("a")
    comparison = View(track="composite", quantise="vpbench-official").comparison(clip, prediction)
    assert (comparison.prediction[clip.masks] == 77).all()
    np.testing.assert_array_equal(comparison.prediction[~clip.masks], official_round_trip()[clip.frames][~clip.masks])
    np.testing.assert_array_equal(comparison.reference, official_round_trip()[clip.frames])


def test_edits_are_compared_with_their_result_or_with_the_source(prediction):
    clip = dataclasses.replace(toy_clip("a", operation="remove"), target=prediction)
    assert View().comparison(clip, prediction).reference is prediction
    assert View(against="source").comparison(clip, prediction).reference is clip.frames
    unknown = dataclasses.replace(clip, target=None)
    assert not View().comparison(unknown, prediction).has_truth
    assert View(against="source").comparison(unknown, prediction).has_truth


@pytest.mark.parametrize("side", [3, 16])
def test_the_scoring_mask_grows_as_opencv_grows_it(prediction, side):
    clip = toy_clip("a")
    grown = View(mask_dilate_px=side).comparison(clip, prediction).masks
    expected = cv2.dilate(clip.masks[0].astype(np.uint8), np.ones((side, side), np.uint8)) > 0
    np.testing.assert_array_equal(grown[0], expected)
    assert grown.sum() > clip.masks.sum()


@pytest.mark.parametrize(
    ("reads", "tags"),
    [
        ({"prediction"}, "composite-vpbench-official-dilate16"),
        ({"reference"}, "source-vpbench-official"),
        ({"masks"}, "dilate16"),
        ({"texts"}, ""),
        (PAIR, "composite-source-vpbench-official-dilate16"),
    ],
)
def test_arrays_are_told_apart_by_what_decides_them(reads: frozenset[Part], tags: str):
    view = View(track="composite", quantise="vpbench-official", against="source", mask_dilate_px=16)
    assert view.tags(frozenset(reads)) == tags
    assert View(quantise="vpbench-official", mask_dilate_px=16).tags(frozenset({"prediction"})) == "raw"


@pytest.mark.parametrize("options", [{"quantise": "floor"}, {"against": "target"}, {"mask_dilate_px": -1}, {"mask_dilate_px": 1.5}])
def test_a_value_out_of_range_is_refused(options):
    with pytest.raises(ConfigError, match=next(iter(options))):
        View(**options)
