import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio
from torchmetrics.functional.image import peak_signal_noise_ratio as torch_psnr

from tests.metrics.clips import frame_scores, holes, noisy, score, textured, torchmetric
from vpbench.errors import ConfigError
from vpbench.measuring import REGIONS, Comparison
from vpbench.metrics.psnr import Psnr, psnr_per_frame
from vpbench.metrics.region_sums import RegionSums
from vpbench.metrics.regions import region_mask

ONESIDED = Psnr("background", onesided=True)
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


@pytest.mark.parametrize("strength", STRENGTHS)
def test_agrees_with_torchmetrics(clip, strength):
    result, masks = noisy(clip, strength), holes(clip)
    for metric, where in ((Psnr(), None), (ONESIDED, masks)):
        expected = torchmetric(torch_psnr, result, clip, where, data_range=1.0)
        np.testing.assert_allclose(frame_scores(metric, result, clip, masks), expected, rtol=0, atol=1e-5)


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


def test_onesided_sums_are_exact(clip):
    result, masks = noisy(clip, 40), holes(clip)
    sums = RegionSums()(Comparison(result, clip, masks))
    for t, mask in enumerate(masks):
        error = np.abs(np.where(mask[..., None], 0, result[t]).astype(int) - clip[t])
        assert (sums["sse_onesided"][t], sums["sae_onesided"][t]) == ((error**2).sum(), error.sum())


def test_sums_are_exact_on_large_frames():
    black = np.zeros((1, 1080, 1920, 3), np.uint8)
    sums = RegionSums()(Comparison(np.full_like(black, 255), black, np.ones(black.shape[:3], bool)))
    assert (sums["sse_frame"][0], sums["sse_hole"][0]) == (255**2 * black.size,) * 2
    assert (sums["sae_frame"][0], sums["sae_background"][0]) == (255 * black.size, 0)


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


@pytest.mark.parametrize("metric", [Psnr(), Psnr("background"), Psnr("hole"), ONESIDED])
def test_more_noise_scores_lower(clip, metric):
    values = [score(metric, noisy(clip, strength), clip, holes(clip)).value for strength in (1, 2, 4, 8, 16, 32)]
    assert values == sorted(set(values), reverse=True)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), strength=st.integers(1, 80))
def test_onesided_does_not_see_what_a_model_puts_into_the_hole(seed, strength):
    clip = textured(2)
    masks, result = holes(clip), noisy(clip, 8)
    other = noisy(result, strength, seed, where=masks)
    assert score(ONESIDED, other, clip, masks) == score(ONESIDED, result, clip, masks)


def test_onesided_measures_the_area_of_the_hole(clip):
    values = [score(ONESIDED, clip, clip, holes(clip, bottom=14 + size, right=20 + size)).value for size in (2, 6, 10, 20)]
    assert values == sorted(set(values), reverse=True)
    assert score(Psnr("background"), clip, clip, holes(clip)).value == 100.0


def test_onesided_without_a_hole_is_the_whole_frame_and_without_background_the_reference(clip):
    result, masks = noisy(clip, 10), np.zeros(clip.shape[:3], bool)
    np.testing.assert_array_equal(frame_scores(ONESIDED, result, clip, masks), frame_scores(Psnr(), result, clip, masks))
    value = score(ONESIDED, result, clip, ~masks)
    assert value.value == pytest.approx(-10 * np.log10(np.mean((clip / 255) ** 2)), rel=1e-12)
    assert value.n == 4


def test_exact_frames_are_infinite_when_onesided(clip):
    assert np.isinf(frame_scores(ONESIDED, clip, clip, np.zeros(clip.shape[:3], bool))).all()


def test_blanking_both_and_dividing_by_the_frame_adds_a_constant(clip):
    result, masks = noisy(clip, 10), holes(clip)
    both = np.where(masks[..., None], 0, result), np.where(masks[..., None], 0, clip)
    offset = score(Psnr(), *both, masks).value - score(Psnr("background"), result, clip, masks).value
    assert offset == pytest.approx(-10 * np.log10(1 - masks.mean()), rel=1e-9)


@pytest.mark.parametrize("region", REGIONS)
def test_prediction_and_reference_may_change_places_except_onesided(clip, region):
    result, masks = noisy(clip, 10), holes(clip)
    assert score(Psnr(region), result, clip, masks) == score(Psnr(region), clip, result, masks)
    assert score(ONESIDED, result, clip, masks) != score(ONESIDED, clip, result, masks)


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
    assert Psnr("boundary", boundary_px=3).measure.array_id == "region_sums-b3-v2"
    assert Psnr("boundary").variant != Psnr("boundary", boundary_px=3).variant


def test_every_convention_is_in_the_variant():
    assert Psnr().variant == "pooled,rgb,cap=100"
    assert ONESIDED.variant == "pooled,rgb,cap=100,onesided"
    assert Psnr("background", name="psnr_official", onesided=True).name == "psnr_official"


@pytest.mark.parametrize("region", ["frame", "hole", "boundary"])
def test_onesided_belongs_to_the_background(region):
    with pytest.raises(ConfigError, match="onesided is only defined in the background"):
        Psnr(region, onesided=True)


def test_unknown_region_is_refused():
    with pytest.raises(ConfigError, match="known: frame, hole, background, boundary"):
        Psnr("edge")
