import numpy as np
import pytest

from tests.baselines.clips import blind, box, hole_psnr, pan, still, walking
from vpbench.baselines.flow_propagation import FlowPropagation
from vpbench.baselines.nearest_frame import NearestFrame
from vpbench.baselines.telea import Telea
from vpbench.baselines.temporal_median import TemporalMedian
from vpbench.errors import ConfigError


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        pytest.param("100001", [0, 0, 0, 5, 5, 5], id="nearest"),
        pytest.param("10001", [0, 0, 0, 4, 4], id="tie: the earlier"),
        pytest.param("0001", [3, 3, 3, 3], id="only later"),
        pytest.param("1000", [0, 0, 0, 0], id="only earlier"),
        pytest.param("01101", [1, 1, 2, 2, 4], id="between"),
    ],
)
def test_nearest_frame_copies_from_the_nearest_visible_frame(visible, expected):
    count = len(visible)
    frames = np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None], (count, 2, 2, 3)).copy()
    masks = np.zeros((count, 2, 2), bool)
    masks[:, 1, 1] = [character == "0" for character in visible]
    np.testing.assert_array_equal(NearestFrame()(blind(frames, masks), seed=0)[:, 1, 1, 0], expected)


@pytest.mark.parametrize("model", [NearestFrame(), TemporalMedian(), TemporalMedian(window=5), FlowPropagation()], ids=str)
def test_still_scene_behind_a_moving_hole_is_recovered(model):
    frames = still(8, 64, 96)
    masks = walking(frames, 12, 13)
    result = model(blind(frames, masks), seed=0)
    if isinstance(model, FlowPropagation):
        assert hole_psnr(result, frames, masks) > 45
    else:
        np.testing.assert_array_equal(result, frames)


@pytest.mark.parametrize(
    ("values", "hidden", "median"),
    [
        ([0, 5, 9, 200], [1, 0, 0, 0], 9),
        ([0, 4, 9, 0], [1, 0, 0, 1], 7),
        ([0, 255, 255, 255, 0], [1, 0, 0, 0, 1], 255),
        ([0, 0, 17], [1, 1, 0], 17),
    ],
)
def test_temporal_median_is_over_the_visible_frames(values, hidden, median):
    frames = np.broadcast_to(np.array(values, np.uint8)[:, None, None, None], (len(values), 2, 2, 3)).copy()
    masks = np.zeros((len(values), 2, 2), bool)
    masks[:, 0, 0] = hidden
    assert TemporalMedian()(blind(frames, masks), seed=0)[0, 0, 0, 0] == median


def test_window_leaves_distant_frames_out():
    frames = np.broadcast_to(np.array([0, 10, 200, 200, 200], np.uint8)[:, None, None, None], (5, 2, 2, 3)).copy()
    masks = np.zeros((5, 2, 2), bool)
    masks[0, 0, 0] = True
    assert TemporalMedian(window=3)(blind(frames, masks), seed=0)[0, 0, 0, 0] == 10
    assert TemporalMedian()(blind(frames, masks), seed=0)[0, 0, 0, 0] == 200


@pytest.mark.parametrize("window", [0, 1, 4, -3])
def test_window_that_cannot_be_centred_is_refused(window):
    with pytest.raises(ConfigError, match="odd"):
        TemporalMedian(window=window)


def test_no_pass_is_refused():
    with pytest.raises(ConfigError, match="at least 1"):
        FlowPropagation(passes=0)


def test_unknown_preset_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="ultrafast, fast, medium"):
        FlowPropagation(preset="slow")


@pytest.mark.parametrize("preset", ["fast", "medium"])
@pytest.mark.parametrize("step", [2, 4])
def test_flow_propagation_follows_a_moving_camera(preset, step):
    frames = pan(12, 120, 160, step)
    masks = box(frames, slice(45, 75), slice(70, 90))
    clip = blind(frames, masks)
    score = hole_psnr(FlowPropagation(preset)(clip, seed=0), frames, masks)
    for other in (Telea(), NearestFrame(), TemporalMedian()):
        assert score >= hole_psnr(other(clip, seed=0), frames, masks) + 6


def test_flow_propagation_with_a_walking_hole_and_a_moving_camera():
    frames = pan(10, 120, 160, 3)
    masks = walking(frames, 24, 9)
    clip = blind(frames, masks)
    score = hole_psnr(FlowPropagation()(clip, seed=0), frames, masks)
    assert score >= max(hole_psnr(other(clip, seed=0), frames, masks) for other in (Telea(), NearestFrame())) + 6


def test_stricter_consistency_leaves_more_to_telea():
    frames = pan(8, 96, 128, 3)
    masks = box(frames, slice(30, 60), slice(50, 80))
    clip = blind(frames, masks)
    np.testing.assert_array_equal(FlowPropagation(consistency_px=-1.0)(clip, seed=0), Telea()(clip, seed=0))
