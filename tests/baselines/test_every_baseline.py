import cv2
import numpy as np
import pytest

from tests.baselines.clips import blind, box, pan, still, walking, whole
from vpbench.baselines.blank import Blank
from vpbench.baselines.flow_propagation import FlowPropagation
from vpbench.baselines.ground_truth import GroundTruth
from vpbench.baselines.navier_stokes import NavierStokes
from vpbench.baselines.nearest_frame import NearestFrame
from vpbench.baselines.telea import Telea
from vpbench.baselines.temporal_median import TemporalMedian

BLIND = [Blank(), NearestFrame(), TemporalMedian(), TemporalMedian(window=5), Telea(), NavierStokes(), FlowPropagation()]
every_model = pytest.mark.parametrize("model", BLIND, ids=str)


def clips():
    moving, fixed = pan(6, 48, 64), still()
    all_hole = walking(fixed)
    all_hole[2] = True
    some = walking(fixed)
    some[::2] = False
    corner = box(fixed, slice(0, 9), slice(55, 64))
    tiny = still(3, 8, 8)
    return {
        "walking hole": (fixed, walking(fixed)),
        "still hole, moving camera": (moving, box(moving, slice(20, 30), slice(20, 40))),
        "hole at the corner": (fixed, corner),
        "no hole": (fixed, np.zeros_like(corner)),
        "some frames without a hole": (fixed, some),
        "one frame all hole": (fixed, all_hole),
        "nothing but hole": (fixed, np.ones_like(corner)),
        "one frame": (fixed[:1], walking(fixed)[:1]),
        "8 x 8": (tiny, box(tiny, slice(2, 5), slice(2, 5))),
        "8 x 8, all hole": (tiny[:1], np.ones((1, 8, 8), bool)),
        "1 x 1": (tiny[:, :1, :1], np.array([True, False, True]).reshape(3, 1, 1)),
        "odd size": (fixed[:, :33, :41], walking(fixed)[:, :33, :41]),
    }


every_clip = pytest.mark.parametrize(("frames", "masks"), clips().values(), ids=clips().keys())


@every_model
@every_clip
def test_result_is_a_video_of_the_same_shape_with_the_background_untouched(model, frames, masks):
    result = model(blind(frames, masks), seed=0)
    assert result.dtype == np.uint8
    assert result.shape == frames.shape
    np.testing.assert_array_equal(result[~masks], frames[~masks])


@every_model
@every_clip
def test_what_stands_in_the_hole_has_no_effect_and_the_input_stays_as_it_was(model, frames, masks):
    black, red = blind(frames, masks), blind(frames, masks, (255, 0, 0))
    before = black.frames.copy(), black.masks.copy()
    np.testing.assert_array_equal(model(black, seed=0), model(red, seed=1))
    np.testing.assert_array_equal(black.frames, before[0])
    np.testing.assert_array_equal(black.masks, before[1])


@every_model
def test_bytes_do_not_depend_on_the_number_of_threads(model):
    frames = pan(5)
    clip = blind(frames, walking(frames, 30))
    before = cv2.getNumThreads()
    results = []
    try:
        for threads in (1, 2, 4):
            cv2.setNumThreads(threads)
            results.append(model(clip, seed=0))
            assert cv2.getNumThreads() == threads
    finally:
        cv2.setNumThreads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


@pytest.mark.parametrize("model", [m for m in BLIND if not isinstance(m, Blank)], ids=str)
def test_flat_scene_is_filled_with_its_colour(model):
    frames = np.full((4, 40, 50, 3), (200, 90, 30), np.uint8)
    np.testing.assert_allclose(
        model(blind(frames, walking(frames)), seed=0).astype(int), frames, atol=2
    )  # OpenCV's Telea rounds every pixel from rounded ones


def test_ground_truth_is_a_copy_of_the_reference():
    frames = still()
    clip = whole(frames, walking(frames))
    result = GroundTruth()(clip, seed=0)
    np.testing.assert_array_equal(result, clip.reference)
    assert not np.shares_memory(result, clip.reference)


def test_blank_is_the_mean_of_what_is_visible():
    frames = np.zeros((1, 1, 4, 3), np.uint8)
    frames[0, 0, :, 0] = (10, 20, 31, 255)
    masks = np.array([False, False, False, True]).reshape(1, 1, 4)
    np.testing.assert_array_equal(Blank()(blind(frames, masks), seed=0)[0, 0, 3], (20, 0, 0))
