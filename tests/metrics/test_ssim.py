import cv2
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_dilation
from skimage.metrics import structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure as torch_ssim

from tests.metrics.clips import frame_scores, holes, noisy, score, textured, torchmetric
from vpbench.errors import ConfigError
from vpbench.measuring import REGIONS, Comparison
from vpbench.metrics.regions import region_mask
from vpbench.metrics.ssim import Ssim
from vpbench.metrics.ssim_map import SsimMap, ssim_map

REFLECT = Ssim(border="reflect")
ONESIDED = Ssim("background", border="reflect", onesided=True)
VARIANTS = [Ssim(), Ssim("background"), REFLECT, ONESIDED, Ssim(window="uniform65"), Ssim(window="uniform7", data_range=2.0)]
WITHOUT_MASKS = [metric for metric in VARIANTS if metric.region == "frame"]


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


@pytest.mark.parametrize("strength", [1, 5, 40])
@pytest.mark.parametrize("top", [0, 14, 27])
def test_reflect_agrees_with_torchmetrics_whole_and_onesided(clip, strength, top):
    result, masks = noisy(clip, strength), holes(clip, top=top, bottom=top + 13, left=38)
    whole, onesided = (torchmetric(torch_ssim, result, clip, hole, data_range=1.0) for hole in (None, masks))
    np.testing.assert_allclose(frame_scores(REFLECT, result, clip, masks), whole, rtol=0, atol=1e-5)
    np.testing.assert_allclose(frame_scores(ONESIDED, result, clip, masks), onesided, rtol=0, atol=1e-5)


@pytest.mark.parametrize("brightness", [0, 190])
def test_float32_stays_close_to_float64(clip, brightness):
    bright = (clip.astype(int) // 4 + brightness).astype(np.uint8)
    result = noisy(bright, 3)
    inside = ssim_map(result[0], bright[0], border="reflect")[5:-5, 5:-5]
    np.testing.assert_allclose(inside, ssim_map(result[0], bright[0]), rtol=0, atol=2e-5)
    assert inside.mean() == pytest.approx(ssim_map(result[0], bright[0]).mean(), abs=2e-6)


@pytest.mark.parametrize("data_range", [1.0, 2.0])
@pytest.mark.parametrize(("window", "size", "shape"), [("uniform7", 7, (40, 56)), ("uniform7", 7, (7, 7)), ("uniform65", 65, (80, 97))])
def test_uniform_windows_agree_with_scikit_image(window, size, shape, data_range):
    clip = textured(2, *shape)
    result = noisy(clip, 20)
    options = {"win_size": size, "channel_axis": -1, "data_range": data_range}
    expected = [structural_similarity(t / 255, r / 255, **options) for t, r in zip(clip, result, strict=True)]
    metric = Ssim(window=window, data_range=data_range)
    np.testing.assert_allclose(frame_scores(metric, result, clip, np.zeros(clip.shape[:3], bool)), expected, rtol=0, atol=1e-9)


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
    for where in (~masks, masks & False, np.roll(~masks, 31, axis=2) & ~masks):
        result = noisy(clip, 8, seed, where=where)
        other = noisy(result, strength, seed + 1, where=masks)
        for metric in (Ssim("background"), ONESIDED):
            assert score(metric, other, clip, masks) == score(metric, result, clip, masks)  # to the last bit


@settings(max_examples=10, deadline=None)
@example(seed=0, left=130, width=4)
@given(seed=st.integers(0, 99), left=st.integers(0, 180), width=st.integers(1, 20))
def test_the_content_of_a_small_hole_in_a_wide_frame_does_not_change_the_background(seed, left, width):
    clip = textured(1, 24, 201, seed=seed)
    masks = holes(clip, 8, 16, left, left + width)
    result = noisy(clip, 9, seed, where=np.roll(masks, 60, axis=2) & ~masks)
    other = noisy(result, 60, seed, where=masks)
    for metric in (Ssim("background"), ONESIDED):
        assert score(metric, other, clip, masks) == score(metric, result, clip, masks)


@settings(max_examples=25, deadline=None)
@given(data=st.data(), height=st.integers(11, 70), width=st.integers(11, 90))
@pytest.mark.parametrize("measure", [SsimMap(), SsimMap(border="reflect"), SsimMap("uniform7")])
def test_a_window_has_the_same_loss_in_every_box_to_the_last_bit(measure, data, height, width):
    clip = textured(1, height, width)
    result = noisy(clip, 9)
    top, bottom, left, right = measure.inner(height, width)
    whole = measure.loss(result[0], clip[0], (top, bottom, left, right))
    first, start = data.draw(st.tuples(st.integers(top, bottom - 1), st.integers(left, right - 1)))
    last, stop = data.draw(st.tuples(st.integers(first + 1, bottom), st.integers(start + 1, right)))
    part = measure.loss(result[0], clip[0], (first, last, start, stop))
    np.testing.assert_array_equal(part, whole[first - top : last - top, start - left : stop - left])


def test_onesided_without_a_hole_is_the_whole_frame(clip):
    result, masks = noisy(clip, 9), np.zeros(clip.shape[:3], bool)
    np.testing.assert_array_equal(frame_scores(ONESIDED, result, clip, masks), frame_scores(REFLECT, result, clip, masks))
    blank = frame_scores(ONESIDED, result, clip, ~masks)
    np.testing.assert_array_equal(blank, frame_scores(REFLECT, np.zeros_like(clip), clip, masks))


@pytest.mark.parametrize("metric", [*WITHOUT_MASKS, *(Ssim(region) for region in REGIONS)])
def test_a_perfect_prediction_scores_exactly_one(metric):
    clip = textured(2, 70, 80)
    assert score(metric, clip, clip, holes(clip)).value == 1.0


@pytest.mark.parametrize("metric", WITHOUT_MASKS)
def test_prediction_and_reference_may_change_places(metric):
    clip = textured(2, 70, 80)
    result, masks = noisy(clip, 9), holes(clip)
    assert score(metric, result, clip, masks).value == pytest.approx(score(metric, clip, result, masks).value, abs=1e-6)


def test_onesided_is_not_symmetric(clip):
    result, masks = noisy(clip, 9), holes(clip)
    assert abs(score(ONESIDED, result, clip, masks).value - score(ONESIDED, clip, result, masks).value) > 1e-4


def test_bytes_do_not_depend_on_the_number_of_threads(clip):
    result, masks, before = noisy(clip, 9), holes(clip), cv2.getNumThreads()
    try:
        for metric in VARIANTS[:4]:
            seen = set()
            for threads in (1, 2, 4):
                cv2.setNumThreads(threads)
                seen.add(frame_scores(metric, result, clip, masks).tobytes())
            assert len(seen) == 1
    finally:
        cv2.setNumThreads(before)


def test_windows_without_a_difference_are_exactly_one(clip):
    result = clip[0].copy()
    result[0, 0] ^= 255
    values = ssim_map(result, clip[0])
    assert values[0, 0] < 1
    values[0, 0] = 1
    assert (values == 1).all()


@pytest.mark.parametrize("metric", VARIANTS)
def test_more_noise_scores_lower(metric):
    clip = textured(2, 70, 80)
    values = [score(metric, noisy(clip, strength), clip, holes(clip)).value for strength in (1, 2, 4, 8, 16, 32)]
    assert values == sorted(set(values), reverse=True)


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
@pytest.mark.parametrize("metric", [Ssim(), REFLECT, ONESIDED, Ssim(window="uniform65")])
def test_frames_smaller_than_the_window_are_nan_with_a_reason(size, metric):
    clip = textured(2)[:, : size[0], : size[1]]
    value = score(metric, noisy(clip, 9), clip, np.zeros(clip.shape[:3], bool))
    assert np.isnan(value.value)
    assert value.excluded == 2
    assert ("65x65" if metric.window == "uniform65" else "11x11") in value.reason


def test_the_smallest_frame_has_one_window():
    clip = textured(1, 11, 11)
    result = noisy(clip, 9)
    assert score(Ssim(), result, clip, np.zeros((1, 11, 11), bool)).value == pytest.approx(scikit_image(result[0], clip[0]), rel=1e-9)


def test_variants_and_arrays_name_every_convention():
    assert Ssim().variant == "pooled,rgb,gauss11,valid"
    assert ONESIDED.variant == "pooled,rgb,gauss11,reflect,onesided"
    assert Ssim(window="uniform7", data_range=2.0).variant == "pooled,rgb,uniform7,valid,L=2"
    assert len({metric.variant for metric in VARIANTS}) == len(VARIANTS) - 1  # regions are no part of it
    assert {metric.measure.array_id for metric in VARIANTS} == {
        "ssim_map-gauss11-valid-L1-b8-f64-v2",
        "ssim_map-gauss11-reflect-L1-f32-v2",
        "ssim_map-uniform65-valid-L1-f64-v2",
        "ssim_map-uniform7-valid-L2-f64-v2",
    }
    assert Ssim("boundary", boundary_px=3).measure.array_id == "ssim_map-gauss11-valid-L1-b3-f64-v2"


@pytest.mark.parametrize(
    "options",
    [
        {"region": "hole", "border": "reflect"},
        {"region": "background", "border": "reflect"},
        {"region": "frame", "border": "reflect", "onesided": True},
        {"region": "background", "onesided": True},
        {"region": "hole", "window": "uniform65"},
        {"window": "uniform7", "border": "reflect"},
        {"window": "uniform7", "data_range": 3.0},
        {"data_range": 2.0},
        {"window": "uniform9"},
        {"border": "same"},
    ],
)
def test_combinations_without_a_meaning_are_refused_with_a_list(options):
    with pytest.raises(ConfigError, match="window=gauss11 border=reflect: region frame, or background with onesided=true"):
        Ssim(**options)


def test_boundary_width_is_checked_in_every_variant():
    with pytest.raises(ConfigError, match="boundary_px"):
        Ssim(window="uniform7", boundary_px=0)
