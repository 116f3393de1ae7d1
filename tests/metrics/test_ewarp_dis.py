import numpy as np
import pytest
from scipy.ndimage import map_coordinates

from tests.metrics.clips import frame_scores, holes, noisy, score, textured
from vpbench.errors import ConfigError
from vpbench.measuring import Comparison
from vpbench.metrics.ewarp_dis import DisFlow, EwarpDis, WarpErrorDis, dis_flow
from vpbench.metrics.warping import visible

REGIONS = ("frame", "hole", "background")


@pytest.fixture
def clip():
    return textured(5, 64, 96, shift=2)


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


def test_the_flow_is_that_of_the_reference_and_stored_for_all_models(clip):
    kept, computed = {}, []

    def stored(measure, compute):
        assert measure.reads == {"reference"}
        if measure.array_id not in kept:
            computed.append(measure.array_id)
            kept[measure.array_id] = compute()
        return kept[measure.array_id]

    masks = holes(clip)
    runs = [WarpErrorDis()(Comparison(noisy(clip, s), clip, masks, stored=stored)) for s in (5, 20)]
    assert computed == [DisFlow(0).array_id]
    assert {array.dtype for arrays in kept.values() for array in arrays.values()} == {np.dtype(np.float16), np.dtype(bool)}
    for run, strength in zip(runs, (5, 20), strict=True):
        for key, values in WarpErrorDis()(Comparison(noisy(clip, strength), clip, masks)).items():
            np.testing.assert_array_equal(run[key], values)


def test_a_long_clip_has_the_values_of_its_pairs():
    clip = textured(70, 20, 32, shift=1)
    prediction, masks = noisy(clip, 10), np.zeros(clip.shape[:3], bool)
    masks[:, 4:12, 8:20] = True
    for region in REGIONS:
        whole = frame_scores(EwarpDis(region), prediction, clip, masks)
        pairs = [slice(t, t + 2) for t in range(69)]
        alone = np.concatenate([frame_scores(EwarpDis(region), prediction[p], clip[p], masks[p]) for p in pairs])
        np.testing.assert_array_equal(whole, alone)
        assert np.isfinite(whole).all()


def test_it_is_not_symmetric(clip):
    other, masks = noisy(textured(5, 64, 96, seed=3), 10), holes(clip)
    assert score(EwarpDis(), other, clip, masks).value != pytest.approx(score(EwarpDis(), clip, other, masks).value, rel=0.01)


def test_black_videos_score_zero():
    black = np.zeros((3, 40, 56, 3), np.uint8)
    assert score(EwarpDis(), black, black, holes(black)).value == 0.0


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
