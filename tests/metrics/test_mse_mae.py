import numpy as np
import pytest
from skimage.metrics import mean_squared_error
from torchmetrics.functional.regression import mean_absolute_error as torch_mae
from torchmetrics.functional.regression import mean_squared_error as torch_mse

from tests.metrics.clips import frame_scores, holes, noisy, score, textured, torchmetric
from vpbench.measuring import REGIONS
from vpbench.metrics.mae import Mae, mae_per_frame
from vpbench.metrics.mse import Mse, mse_per_frame
from vpbench.metrics.regions import region_mask

METRICS = [pytest.param(Mse, id="mse"), pytest.param(Mae, id="mae")]


@pytest.fixture
def clip():
    return textured()


def test_mse_agrees_with_scikit_image(clip):
    result, masks = noisy(clip, 20), holes(clip)
    expected = [mean_squared_error(t / 255, r / 255) for t, r in zip(clip, result, strict=True)]
    np.testing.assert_allclose(mse_per_frame(result, clip, np.ones_like(masks)), expected, rtol=1e-9)
    np.testing.assert_allclose(frame_scores(Mse(), result, clip, masks), expected, rtol=1e-9)


@pytest.mark.parametrize(("metric", "function"), [(Mse, torch_mse), (Mae, torch_mae)])
def test_agrees_with_torchmetrics(clip, metric, function):
    result, masks = noisy(clip, 20), holes(clip)
    whole, onesided = torchmetric(function, result, clip), torchmetric(function, result, clip, masks)
    np.testing.assert_allclose(frame_scores(metric(), result, clip, masks), whole, rtol=0, atol=1e-7)
    np.testing.assert_allclose(frame_scores(metric("background", onesided=True), result, clip, masks), onesided, rtol=0, atol=1e-7)


@pytest.mark.parametrize("region", REGIONS)
def test_agrees_with_numpy_in_every_region(clip, region):
    result, masks = noisy(clip, 20), holes(clip)
    where = region_mask(masks, region)
    error = result / 255 - clip / 255
    assert score(Mse(region), result, clip, masks).value == pytest.approx(np.mean(error[where] ** 2), rel=1e-9)
    assert score(Mae(region), result, clip, masks).value == pytest.approx(np.mean(np.abs(error[where])), rel=1e-9)
    expected = [np.abs(e[w]).mean() for e, w in zip(error, where, strict=True)]
    np.testing.assert_allclose(mae_per_frame(result, clip, where), expected, rtol=1e-9)
    np.testing.assert_allclose(frame_scores(Mae(region), result, clip, masks), expected, rtol=1e-9)


@pytest.mark.parametrize("metric", METRICS)
def test_untouched_background_scores_zero(clip, metric):
    masks = holes(clip)
    value = score(metric("background"), noisy(clip, 30, where=masks), clip, masks)
    assert (value.value, value.exact, value.excluded) == (0.0, 4, 0)


@pytest.mark.parametrize(("metric", "power"), [(Mse, 2), (Mae, 1)])
def test_onesided_is_mostly_the_area_and_the_brightness_of_the_hole(clip, metric, power):
    result, masks = noisy(clip, 20), holes(clip)
    area = masks.mean()
    background, hole = score(metric("background"), result, clip, masks).value, np.mean((clip[masks] / 255) ** power)
    value = score(metric("background", onesided=True), result, clip, masks).value
    assert value == pytest.approx((1 - area) * background + area * hole, rel=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_black_for_white_scores_one(clip, metric):
    assert score(metric(), np.zeros_like(clip), np.full_like(clip, 255), holes(clip)).value == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_more_noise_scores_worse(clip, metric):
    values = [score(metric(), noisy(clip, strength), clip, holes(clip)).value for strength in (1, 2, 4, 8, 16, 32)]
    assert values == sorted(set(values))


@pytest.mark.parametrize("metric", METRICS)
def test_empty_region_is_nan_not_zero(clip, metric):
    value = score(metric("hole"), noisy(clip, 5), clip, np.zeros(clip.shape[:3], bool))
    assert np.isnan(value.value)
    assert value.excluded == 4


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_share_one_pass(metric):
    assert metric("hole").measure == metric("frame").measure
