import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from skimage.metrics import structural_similarity

from tests.metrics.clips import frame_scores, holes, noisy, score, textured
from vpbench.measuring import Comparison
from vpbench.metrics.regions import REGIONS, region_mask
from vpbench.metrics.ssim import Ssim, SsimMap, ssim_map


def scikit_image(result, clip, **options):
    return structural_similarity(
        clip, result, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, channel_axis=-1, data_range=255, **options
    )


def naive(result, clip, masks, region):
    """Sum and count of the full map over the windows of a region, per frame."""
    inner = np.zeros(masks.shape[1:], bool)
    inner[5:-5, 5:-5] = True
    for r, t, mask, where in zip(result, clip, masks, region_mask(masks, region), strict=True):
        if region == "background":
            where = ~binary_dilation(mask, np.ones((11, 11)))
        full = scikit_image(r, t, full=True)[1].mean(axis=-1)
        yield full[where & inner].sum(), (where & inner).sum()


@pytest.fixture
def clip():
    return textured()


@pytest.mark.parametrize("strength", [pytest.param(1, id="faint"), pytest.param(40, id="strong")])
def test_agrees_with_scikit_image(clip, strength):
    result = noisy(clip, strength)
    expected = [scikit_image(r, t) for r, t in zip(result, clip, strict=True)]
    np.testing.assert_allclose(frame_scores(Ssim(), result, clip, holes(clip)), expected, rtol=1e-9)
    full = scikit_image(result[0], clip[0], full=True)[1].mean(axis=-1)
    np.testing.assert_allclose(ssim_map(result[0], clip[0]), full[5:-5, 5:-5], rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", [0, 250, 255])
def test_agrees_with_scikit_image_on_flat_frames(level):
    clip = np.full((1, 30, 30, 3), level, np.uint8)
    result = noisy(clip, 2)
    assert score(Ssim(), result, clip, holes(clip)).value == pytest.approx(scikit_image(result[0], clip[0]), rel=1e-9)


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("where", ["everywhere", "hole", "corner"])
def test_regions_agree_with_the_full_map(clip, region, where):
    masks = holes(clip)
    changed = {"everywhere": np.ones_like(masks), "hole": masks, "corner": np.zeros_like(masks)}[where]
    if where == "corner":
        changed[:, -3:, :2] = True
    result = noisy(clip, 25, where=changed)
    arrays = SsimMap()(Comparison(result, clip, masks))
    sums, counts = zip(*naive(result, clip, masks, region), strict=True)
    np.testing.assert_array_equal(arrays[f"n_{region}"], counts)
    np.testing.assert_allclose(arrays[f"ssim_{region}"], sums, rtol=1e-12)
    assert Ssim(region).clip(arrays).value == pytest.approx(sum(sums) / sum(counts), rel=1e-12)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 99), strength=st.integers(1, 120))
def test_content_of_the_hole_does_not_change_the_background(seed, strength):
    clip = textured(2)
    masks = holes(clip)
    untouched = score(Ssim("background"), noisy(clip, strength, seed, where=masks), clip, masks)
    assert untouched.value == 1.0
    result = noisy(clip, 8, seed, where=~masks)
    other = noisy(result, strength, seed + 1, where=masks)
    expected = score(Ssim("background"), result, clip, masks).value
    assert score(Ssim("background"), other, clip, masks).value == pytest.approx(expected, rel=1e-12)


def test_a_perfect_prediction_scores_exactly_one(clip):
    for region in REGIONS:
        assert score(Ssim(region), clip, clip, holes(clip)).value == 1.0


def test_windows_without_a_difference_are_exactly_one(clip):
    result = clip[0].copy()
    result[0, 0] ^= 255
    values = ssim_map(result, clip[0])
    assert values[0, 0] < 1
    values[0, 0] = 1
    assert (values == 1).all()


def test_more_noise_scores_lower(clip):
    values = [score(Ssim(), noisy(clip, strength), clip, holes(clip)).value for strength in (1, 5, 20, 60)]
    assert values == sorted(values, reverse=True)


def test_empty_region_is_nan_not_zero(clip):
    value = score(Ssim("hole"), noisy(clip, 5), clip, np.zeros(clip.shape[:3], bool))
    assert np.isnan(value.value)
    assert (value.n, value.excluded) == (0, 4)
    value = score(Ssim("background"), noisy(clip, 5), clip, np.ones(clip.shape[:3], bool))
    assert np.isnan(value.value)
    assert "background" in value.reason


def test_frames_with_an_empty_region_are_excluded_and_counted(clip):
    masks = holes(clip)
    masks[2] = False
    value = score(Ssim("hole"), noisy(clip, 5), clip, masks)
    assert (value.n, value.excluded) == (3, 1)


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (1, 1)])
def test_frames_smaller_than_the_window_are_nan_with_a_reason(size):
    clip = textured(2)[:, : size[0], : size[1]]
    value = score(Ssim(), noisy(clip, 9), clip, np.zeros(clip.shape[:3], bool))
    assert np.isnan(value.value)
    assert "11x11" in value.reason


def test_the_smallest_frame_has_one_window():
    clip = textured(1, 11, 11)
    result = noisy(clip, 9)
    assert score(Ssim(), result, clip, np.zeros((1, 11, 11), bool)).value == pytest.approx(scikit_image(result[0], clip[0]), rel=1e-9)
