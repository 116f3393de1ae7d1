import numpy as np
import pytest
from skimage.metrics import mean_squared_error

from tests.metrics.clips import frame_scores, holes, noisy, score, textured
from vpbench.metrics.mae import Mae, mae_per_frame
from vpbench.metrics.mse import Mse, mse_per_frame
from vpbench.metrics.regions import REGIONS, region_mask

METRICS = [pytest.param(Mse, id="mse"), pytest.param(Mae, id="mae")]


@pytest.fixture
def clip():
    return textured()


def test_mse_agrees_with_scikit_image(clip):
    result, masks = noisy(clip, 20), holes(clip)
    expected = [mean_squared_error(t / 255, r / 255) for t, r in zip(clip, result, strict=True)]
    np.testing.assert_allclose(mse_per_frame(result, clip, np.ones_like(masks)), expected, rtol=1e-9)
    np.testing.assert_allclose(frame_scores(Mse(), result, clip, masks), expected, rtol=1e-9)


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


@pytest.mark.parametrize("metric", METRICS)
def test_black_for_white_scores_one(clip, metric):
    assert score(metric(), np.zeros_like(clip), np.full_like(clip, 255), holes(clip)).value == 1.0


@pytest.mark.parametrize("metric", METRICS)
def test_more_noise_scores_worse(clip, metric):
    values = [score(metric(), noisy(clip, strength), clip, holes(clip)).value for strength in (1, 5, 20, 60)]
    assert values == sorted(values)


@pytest.mark.parametrize("metric", METRICS)
def test_empty_region_is_nan_not_zero(clip, metric):
    value = score(metric("hole"), noisy(clip, 5), clip, np.zeros(clip.shape[:3], bool))
    assert np.isnan(value.value)
    assert value.excluded == 4


@pytest.mark.parametrize("metric", METRICS)
def test_metrics_share_one_pass(metric):
    assert metric("hole").measure == metric("frame").measure
