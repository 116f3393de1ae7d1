import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.ndimage import distance_transform_edt

from tests.metrics.clips import holes, textured
from vpbench.errors import ConfigError
from vpbench.metrics.regions import difference_box, region_mask

MASKS = arrays(bool, st.tuples(st.just(2), st.integers(1, 24), st.integers(1, 24)))


def test_frame_is_everything_and_background_is_what_is_not_hole():
    masks = holes(textured())
    assert region_mask(masks, "frame").all()
    np.testing.assert_array_equal(region_mask(masks, "hole"), masks)
    np.testing.assert_array_equal(region_mask(masks, "background"), ~masks)


@settings(max_examples=60, deadline=None)
@given(masks=MASKS, boundary_px=st.integers(1, 12))
def test_boundary_is_a_euclidean_band_on_both_sides(masks, boundary_px):
    expected = np.zeros_like(masks)
    for mask, band in zip(masks, expected, strict=True):
        if mask.any() and not mask.all():
            band[:] = np.maximum(distance_transform_edt(mask), distance_transform_edt(~mask)) <= boundary_px + 1e-9
    np.testing.assert_array_equal(region_mask(masks, "boundary", boundary_px), expected)


@pytest.mark.parametrize("shape", [(9, 30, 41, 30, 41), (5, 60, 90, 20, 70), (8, 80, 80, 25, 55)])
def test_boundary_of_a_large_hole(shape):
    boundary_px, height, width, first, last = shape
    mask = np.zeros((1, height, width), bool)
    mask[0, first:, 3:last] = True
    expected = np.maximum(distance_transform_edt(mask[0]), distance_transform_edt(~mask[0])) <= boundary_px + 1e-9
    np.testing.assert_array_equal(region_mask(mask, "boundary", boundary_px)[0], expected if mask.any() else False)


@pytest.mark.parametrize("value", [False, True])
def test_without_an_edge_there_is_no_boundary(value):
    assert not region_mask(np.full((2, 20, 20), value), "boundary").any()


@pytest.mark.parametrize("boundary_px", [0, -1, 2.5, True])
def test_boundary_width_is_checked(boundary_px):
    with pytest.raises(ConfigError, match="boundary_px"):
        region_mask(np.zeros((1, 4, 4), bool), "boundary", boundary_px)


def test_unknown_region_lists_the_known_ones():
    with pytest.raises(ConfigError, match="frame, hole, background, boundary"):
        region_mask(np.zeros((1, 4, 4), bool), "edge")


def test_difference_box():
    reference = textured(1)[0]
    prediction = reference.copy()
    assert difference_box(prediction, reference) is None
    prediction[5, 7, 2] ^= 1
    prediction[30, 9, 0] ^= 1
    assert difference_box(prediction, reference) == (5, 31, 7, 10)
