import cv2
import numpy as np
import pytest

from tests.baselines.clips import photo
from vpbench.baselines.spatial import inpaint, interpolate, mean_colour


@pytest.mark.parametrize("method", [cv2.INPAINT_TELEA, cv2.INPAINT_NS], ids=["telea", "navier_stokes"])
@pytest.mark.parametrize("radius", [1.0, 5.0, 9.5])
@pytest.mark.parametrize("seed", range(6))
def test_cropping_gives_the_bytes_of_the_whole_frame(method, radius, seed):
    noise = np.random.default_rng(seed)
    frame = photo(90, 120, seed)
    mask = np.zeros((90, 120), bool)
    for _ in range(int(noise.integers(1, 4))):
        y, x, height, width = noise.integers((0, 0, 1, 1), (60, 90, 30, 30))
        mask[y : y + height, x : x + width] |= noise.random((height, width)) < (1.0 if seed % 2 else 0.7)
    frame[mask] = 0
    expected = frame.copy()
    expected[mask] = cv2.inpaint(frame, mask.astype(np.uint8), radius, method)[mask]
    np.testing.assert_array_equal(inpaint(frame[None], mask[None], radius, method)[0], expected)


def test_frame_without_a_visible_pixel_gets_the_mean_colour_of_the_clip():
    frames = np.stack([np.full((20, 20, 3), 50, np.uint8), np.full((20, 20, 3), 0, np.uint8)])
    masks = np.zeros((2, 20, 20), bool)
    masks[1] = True
    assert (inpaint(frames, masks)[1] == 50).all()


def test_mean_colour_of_a_clip_without_a_visible_pixel_is_grey():
    np.testing.assert_array_equal(mean_colour(np.zeros((1, 2, 2, 3), np.uint8), np.ones((1, 2, 2), bool)), (128, 128, 128))


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (33, 50)])
def test_interpolate_keeps_what_is_known_and_stays_in_its_range(shape):
    noise = np.random.default_rng(0)
    values, known = noise.random((*shape, 2)).astype(np.float32), noise.random(shape) < 0.3
    known[0, 0] = True
    result = interpolate(values, known)
    np.testing.assert_array_equal(result[known], values[known])
    assert result.min() >= values[known].min() - 1e-5
    assert result.max() <= values[known].max() + 1e-5


def test_interpolate_continues_a_slope_into_a_hole():
    slope = np.repeat(np.arange(64, dtype=np.float32)[None], 64, axis=0)[..., None]
    known = np.ones((64, 64), bool)
    known[20:40, 20:40] = False
    assert np.abs(interpolate(slope, known) - slope).max() < 2


def test_interpolate_without_anything_known_is_zero():
    assert not interpolate(np.ones((4, 4, 1), np.float32), np.zeros((4, 4), bool)).any()
