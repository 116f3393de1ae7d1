import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio

from tests.metrics.clips import frame_scores, holes, noisy, score, textured
from vpbench.errors import ConfigError
from vpbench.measuring import Comparison
from vpbench.metrics.psnr import Psnr, psnr_per_frame
from vpbench.metrics.region_sums import RegionSums
from vpbench.metrics.regions import REGIONS, region_mask

STRENGTHS = [pytest.param(1, id="faint"), pytest.param(40, id="strong")]


@pytest.fixture
def clip():
    return textured()


@pytest.mark.parametrize("strength", STRENGTHS)
def test_agrees_with_scikit_image(clip, strength):
    result, masks = noisy(clip, strength), holes(clip)
    expected = [peak_signal_noise_ratio(t, r, data_range=255) for t, r in zip(clip, result, strict=True)]
    np.testing.assert_allclose(psnr_per_frame(result, clip, np.ones_like(masks)), expected, rtol=1e-9)
    np.testing.assert_allclose(frame_scores(Psnr(), result, clip, masks), expected, rtol=1e-9)
    pooled = peak_signal_noise_ratio(clip, result, data_range=255)
    assert score(Psnr(), result, clip, masks).value == pytest.approx(pooled, rel=1e-9)


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_a_selection_of_pixels(clip, region):
    result, masks = noisy(clip, 12), holes(clip)
    where = region_mask(masks, region)
    expected = [10 * np.log10(255**2 / np.mean((r[w].astype(float) - t[w]) ** 2)) for r, t, w in zip(result, clip, where, strict=True)]
    np.testing.assert_allclose(frame_scores(Psnr(region), result, clip, masks), expected, rtol=1e-9)
    np.testing.assert_allclose(psnr_per_frame(result, clip, where), expected, rtol=1e-9)


@pytest.mark.parametrize("region", REGIONS)
def test_sums_are_exact(clip, region):
    result, masks = noisy(clip, 40), holes(clip)
    sums = RegionSums()(Comparison(result, clip, masks))
    for t, where in enumerate(region_mask(masks, region)):
        error = np.abs(result[t].astype(int) - clip[t])[where]
        assert sums[f"sse_{region}"][t] == (error**2).sum()
        assert sums[f"sae_{region}"][t] == error.sum()
        assert sums[f"n_{region}"][t] == error.size
    assert all(array.dtype == np.int64 for array in sums.values())


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 99), strength=st.integers(1, 80))
def test_error_outside_the_region_does_not_count(seed, strength):
    clip = textured(2)
    masks = holes(clip)
    result = noisy(clip, strength, seed, where=masks)
    background = score(Psnr("background"), result, clip, masks)
    assert background.value == 100.0
    assert background.exact == 2
    both = noisy(result, strength, seed + 1, where=~masks)
    assert score(Psnr("hole"), both, clip, masks) == score(Psnr("hole"), result, clip, masks)


def test_more_noise_scores_lower(clip):
    masks = holes(clip)
    values = [score(Psnr(), noisy(clip, strength), clip, masks).value for strength in (1, 5, 20, 60)]
    assert values == sorted(values, reverse=True)


def test_largest_error_is_zero_decibels(clip):
    masks = holes(clip)
    assert score(Psnr(), np.zeros_like(clip), np.full_like(clip, 255), masks).value == 0.0


def test_exact_frames_are_counted_and_do_not_make_the_clip_infinite(clip):
    masks, result = holes(clip), noisy(clip, 10)
    result[0] = clip[0]
    value = score(Psnr("hole"), result, clip, masks)
    assert (value.n, value.exact) == (4, 1)
    assert np.isfinite(value.value)
    assert np.isinf(frame_scores(Psnr("hole"), result, clip, masks)).tolist() == [True, False, False, False]


def test_empty_region_is_nan_not_zero(clip):
    masks, result = np.zeros(clip.shape[:3], bool), noisy(clip, 10)
    value = score(Psnr("hole"), result, clip, masks)
    assert np.isnan(value.value)
    assert (value.n, value.excluded, value.exact) == (0, 4, 0)
    assert value.reason == "the hole is empty in every frame"
    assert np.isnan(frame_scores(Psnr("hole"), result, clip, masks)).all()


def test_frames_with_an_empty_region_are_excluded_and_counted(clip):
    masks, result = holes(clip), noisy(clip, 10)
    masks[1] = False
    value = score(Psnr("hole"), result, clip, masks)
    assert (value.n, value.excluded, value.reason) == (3, 1, "the hole is empty in 1 of 4 frames")
    assert value.value == pytest.approx(peak_signal_noise_ratio(clip[masks], result[masks], data_range=255), rel=1e-9)


def test_boundary_width_belongs_to_the_arrays():
    assert Psnr("boundary", boundary_px=3).measure.array_id == "region_sums-b3-v1"
    assert Psnr("boundary").variant != Psnr("boundary", boundary_px=3).variant


def test_unknown_region_is_refused():
    with pytest.raises(ConfigError, match="known: frame, hole, background, boundary"):
        Psnr("edge")
