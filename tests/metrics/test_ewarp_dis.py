import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from tests.metrics.clips import frame_scores, holes, noisy, score, textured
from vpbench.errors import ConfigError
from vpbench.measuring import Comparison
from vpbench.metrics.ewarp_dis import EwarpDis, WarpErrorDis, dis_flow, visible, warp

REGIONS = ("frame", "hole", "background")


@pytest.fixture
def clip():
    return textured(5, 64, 96, shift=2)


def translation(height, width, x, y):
    return np.broadcast_to(np.array([x, y], np.float16), (height, width, 2))


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_a_translation_with_its_true_flow_is_explained_completely(shift):
    first, second = textured(2, 40, 56, shift=shift)
    forward, backward = translation(40, 56, shift, 0), translation(40, 56, -shift, 0)
    keep = visible(forward, backward)
    assert keep.sum() == 40 * (56 - shift)
    rows, columns = np.nonzero(keep)
    found = warp(second, columns + float(shift), rows.astype(float))
    assert np.abs(found - first[keep]).max() < 1e-12


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_warp_agrees_with_scipy(seed):
    image = textured(1, 17, 23, seed=seed)[0]
    x, y = np.random.default_rng(seed).uniform(-4, 26, (2, 50))
    expected = [map_coordinates(image[..., c].astype(float), [y, x], order=1, mode="nearest") for c in range(3)]
    np.testing.assert_allclose(warp(image, x, y), np.transpose(expected), rtol=0, atol=1e-10)


def test_inconsistent_flow_is_not_visible():
    assert not visible(translation(20, 20, 2, 0), translation(20, 20, 2, 0)).any()


def test_motion_boundaries_are_not_visible():
    forward = np.array(translation(20, 20, 0, 0))
    backward = forward.copy()
    forward[:, 10:, 0], backward[:, 10:, 0] = 0.5, -0.5
    expected = np.ones((20, 20), bool)
    expected[:, 9] = False  # the step from column 9 to 10
    expected[:, 19] = False  # leaves the frame
    np.testing.assert_array_equal(visible(forward, backward), expected)


def test_flow_points_from_the_first_frame_to_the_second(clip):
    flow = dis_flow(clip[0], clip[1])
    assert flow.dtype == np.float16
    np.testing.assert_allclose(np.median(flow, axis=(0, 1)), [2, 0], atol=0.1)


def test_agrees_with_a_plain_definition(clip):
    prediction, masks = noisy(clip, 10), holes(clip, 20, 44, 30, 60)
    pairs = []
    for t in range(4):
        forward, backward = dis_flow(clip[t], clip[t + 1]), dis_flow(clip[t + 1], clip[t])
        keep = visible(forward, backward)
        rows, columns = np.mgrid[:64, :96].astype(float)
        at = [rows + forward[..., 1], columns + forward[..., 0]]
        found = np.stack([map_coordinates(prediction[t + 1, ..., c] / 255, at, order=1, mode="nearest") for c in range(3)], -1)
        hole = masks[t] | (map_coordinates(masks[t + 1].astype(float), at, order=1, mode="nearest") > 0.5)
        error = (found - prediction[t] / 255) ** 2
        pairs.append([error[keep].mean(), error[keep & hole].mean(), error[keep & ~hole].mean()])
    for region, expected in zip(REGIONS, np.transpose(pairs), strict=True):
        np.testing.assert_allclose(frame_scores(EwarpDis(region), prediction, clip, masks), expected, rtol=1e-9)
        value = score(EwarpDis(region), prediction, clip, masks)
        assert value.value == pytest.approx(expected.mean(), rel=1e-9)
        assert (value.n, value.excluded) == (4, 0)


def test_a_frozen_video_scores_zero():
    clip = np.repeat(textured(1), 3, axis=0)
    assert score(EwarpDis(), clip, clip, holes(clip)).value == 0.0


def test_a_moving_video_scores_low_and_flicker_scores_higher(clip):
    masks = holes(clip)
    values = [score(EwarpDis(), noisy(clip, strength), clip, masks).value for strength in (0, 5, 20, 60)]
    assert values[0] < 1e-3
    assert values == sorted(values)


def test_flicker_in_the_hole_does_not_change_the_background(clip):
    masks = np.repeat(holes(clip)[:1], len(clip), axis=0)
    still = np.repeat(clip[:1], len(clip), axis=0)
    result = noisy(still, 40, where=masks)
    assert score(EwarpDis("background"), result, still, masks).value == 0.0
    assert score(EwarpDis("hole"), result, still, masks).value > 0.0


def test_the_flow_is_that_of_the_reference_and_asked_for_once(clip):
    asked = {}

    def cache(array_id, compute):
        if array_id not in asked:
            asked[array_id] = compute()
        return asked[array_id]

    masks = holes(clip)
    runs = [WarpErrorDis()(Comparison(noisy(clip, s), clip, masks, reference_arrays=cache)) for s in (5, 5)]
    assert len(asked) == 1
    plain = WarpErrorDis()(Comparison(noisy(clip, 5), clip, masks))
    for key, values in plain.items():
        np.testing.assert_array_equal(runs[0][key], values)
        np.testing.assert_array_equal(runs[1][key], values)
    assert {array.dtype for arrays in asked.values() for array in arrays.values()} == {np.dtype(np.float16), np.dtype(bool)}


def test_one_frame_is_nan_with_a_reason():
    clip = textured(1)
    value = score(EwarpDis(), clip, clip, holes(clip))
    assert np.isnan(value.value)
    assert "one frame" in value.reason


@pytest.mark.parametrize("size", [(15, 56), (40, 15), (1, 1)])
def test_small_frames_are_nan_with_a_reason(size):
    clip = textured(3)[:, : size[0], : size[1]]
    value = score(EwarpDis(), clip, clip, np.zeros(clip.shape[:3], bool))
    assert np.isnan(value.value)
    assert "16 pixels" in value.reason
    assert (value.n, value.excluded) == (0, 2)


def test_the_smallest_size_has_a_flow():
    clip = textured(3, 16, 64)
    assert np.isfinite(score(EwarpDis(), clip, clip, np.zeros(clip.shape[:3], bool)).value)


def test_empty_hole_is_nan_not_zero(clip):
    value = score(EwarpDis("hole"), clip, clip, np.zeros(clip.shape[:3], bool))
    assert np.isnan(value.value)
    assert (value.n, value.excluded) == (0, 4)


def test_pairs_without_a_hole_are_excluded_and_counted(clip):
    masks = holes(clip)
    masks[2:] = False
    value = score(EwarpDis("hole"), clip, clip, masks)
    assert (value.n, value.excluded) == (2, 2)


def test_boundary_is_refused_with_the_valid_regions():
    with pytest.raises(ConfigError, match="known: frame, hole, background"):
        EwarpDis("boundary")
