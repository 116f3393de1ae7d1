import weakref

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from tests.metrics.clips import holes, noisy, textured
from vpbench.metrics import warping
from vpbench.metrics.warping import clip_sums, error_sums, visible, warp


def translation(height, width, x, y):
    return np.broadcast_to(np.array([x, y], np.float16), (height, width, 2))


def random_flow(rng, height, width):
    """Mostly smooth and mostly consistent, with steps and disagreements here and there."""
    flow = np.round(rng.normal(0, 1.5, 2) + rng.normal(0, 0.06, (height, width, 2)), 2)
    return np.where(rng.random((height, width, 1)) < 0.05, flow + rng.normal(0, 2, (height, width, 2)), flow)


def visible_pixel(forward, backward, row, column):
    """The definition, for one pixel."""
    height, width = forward.shape[:2]
    f = forward[row, column].astype(float)
    x, y = column + f[0], row + f[1]
    if not (0 <= x <= width - 1 and 0 <= y <= height - 1):
        return False
    left, top = min(int(x), width - 2), min(int(y), height - 2)
    a, d = x - left, y - top
    corners = backward[top : top + 2, left : left + 2].astype(float)
    b = (1 - d) * ((1 - a) * corners[0, 0] + a * corners[0, 1]) + d * ((1 - a) * corners[1, 0] + a * corners[1, 1])
    if np.sum((b + f) ** 2) > 0.01 * (np.sum(b**2) + np.sum(f**2)) + 0.5:
        return False
    gradient = 0.0
    if column + 1 < width:
        gradient += np.sum((forward[row, column + 1].astype(float) - f) ** 2)
    if row + 1 < height:
        gradient += np.sum((forward[row + 1, column].astype(float) - f) ** 2)
    return gradient <= 0.01 * np.sum(f**2) + 0.002


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999))
def test_warp_agrees_with_scipy(seed):
    image = textured(1, 17, 23, seed=seed)[0]
    x, y = np.random.default_rng(seed).uniform(-4, 26, (2, 50))
    expected = [map_coordinates(image[..., c].astype(float), [y, x], order=1, mode="nearest") for c in range(3)]
    np.testing.assert_allclose(warp(image, x, y), np.transpose(expected), rtol=0, atol=1e-10)


def test_warp_agrees_with_grid_sample_of_aligned_corners():
    import torch
    from torch.nn.functional import grid_sample

    image = textured(1, 17, 23)[0]
    x, y = np.random.default_rng(0).uniform(-4, 26, (2, 9, 11))
    grid = torch.from_numpy(np.stack([2 * x / 22 - 1, 2 * y / 16 - 1], axis=-1))[None]
    source = torch.from_numpy(image.astype(np.float64)).permute(2, 0, 1)[None]
    expected = grid_sample(source, grid, mode="bilinear", padding_mode="border", align_corners=True)[0].permute(1, 2, 0)
    np.testing.assert_allclose(warp(image, x, y), expected.numpy(), rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1)])
def test_warp_of_one_row_or_column_takes_the_border(shape):
    image = np.arange(shape[0] * shape[1], dtype=float).reshape(*shape, 1)
    ends = warp(image, np.array([-3.0, 99.0]), np.array([-3.0, 99.0]))
    np.testing.assert_array_equal(ends[:, 0], [image.min(), image.max()])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 999))
def test_visible_agrees_with_a_plain_loop(seed):
    rng = np.random.default_rng(seed)
    forward = random_flow(rng, 12, 15).astype(np.float16)
    backward = (-forward[0, 0] + rng.normal(0, 0.3, forward.shape)).astype(np.float16)
    expected = [[visible_pixel(forward, backward, row, column) for column in range(15)] for row in range(12)]
    np.testing.assert_array_equal(visible(forward, backward), expected)


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


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_a_translation_with_its_true_flow_has_no_error(shift):
    clip, masks = textured(2, 40, 56, shift=shift), np.zeros((2, 40, 56), bool)
    forward = translation(40, 56, shift, 0)
    total, pixels = error_sums(clip, masks, forward, visible(forward, translation(40, 56, -shift, 0)))["frame"]
    assert pixels == 40 * (56 - shift)
    assert total / (3 * pixels) <= 1e-10


def test_the_error_is_the_mean_square_on_the_scale_0_to_1():
    frames = np.zeros((2, 4, 5, 3), np.uint8)
    frames[1] = 51  # a fifth of 255
    everywhere = np.ones((4, 5), bool)
    total, pixels = error_sums(frames, np.zeros((2, 4, 5), bool), translation(4, 5, 0, 0), everywhere)["frame"]
    assert (total / (3 * pixels), pixels) == (pytest.approx(0.2**2, rel=1e-12), 20)


def test_the_error_is_not_symmetric_in_time():
    clip, masks = noisy(textured(2, 40, 56), 10), np.zeros((2, 40, 56), bool)
    forward, seen = translation(40, 56, 0.5, 0), np.ones((40, 56), bool)
    there, back = (error_sums(frames, masks, forward, seen)["frame"][0] for frames in (clip, clip[::-1]))
    assert there != pytest.approx(back, rel=1e-3)


@pytest.mark.parametrize(("shift", "from_next"), [(0.25, False), (0.5, False), (0.75, True), (1, True)])
def test_a_pixel_is_in_the_hole_when_more_than_half_of_it_comes_from_one(shift, from_next):
    masks = np.zeros((2, 1, 6), bool)
    masks[0, 0, 0] = masks[1, 0, 4] = True
    frames, everywhere = np.zeros((2, 1, 6, 3), np.uint8), np.ones((1, 6), bool)
    sums = error_sums(frames, masks, translation(1, 6, shift, 0), everywhere)
    # Pixel 0 is in the first frame's hole; the second's pixel 4 is seen from pixels 3 (by ``shift``) and 4 (by the rest).
    expected = 1 + from_next + (1 - shift > 0.5)
    assert (sums["hole"][1], sums["background"][1], sums["frame"][1]) == (expected, 6 - expected, 6)


def test_flow_is_asked_for_chunk_after_chunk():
    clip, asked = textured(2 * warping.PAIRS + 2, 3, 4), []

    def flow_of(first):
        asked.append(first)
        pairs = min(warping.PAIRS, len(clip) - 1 - first)
        return {"forward": np.zeros((pairs, 3, 4, 2), np.float16), "visible": np.ones((pairs, 3, 4), bool)}

    sums = clip_sums(clip, np.zeros(clip.shape[:3], bool), flow_of)
    assert asked == [0, warping.PAIRS, 2 * warping.PAIRS]
    expected = np.square(np.diff(clip.astype(float), axis=0)).sum(axis=(1, 2, 3)) / 255**2
    np.testing.assert_allclose(sums["sum_frame"], expected, rtol=1e-12)
    np.testing.assert_array_equal(sums["n_frame"], np.full(len(clip) - 1, 12))


def test_frame_is_hole_and_background():
    clip = noisy(textured(3), 10)
    flow = {"forward": np.zeros((2, 40, 56, 2), np.float16), "visible": np.random.default_rng(0).random((2, 40, 56)) < 0.7}
    sums = clip_sums(clip, holes(clip), lambda first: flow)
    np.testing.assert_array_equal(sums["n_hole"] + sums["n_background"], sums["n_frame"])
    np.testing.assert_allclose(sums["sum_hole"] + sums["sum_background"], sums["sum_frame"], rtol=1e-12)


def test_no_flow_outlives_its_chunk():
    chunks = []

    def flow_of(first):
        assert not any(chunk() is not None for chunk in chunks), "memory grows with the clip, or two chunks stand beside each other"
        forward = np.zeros((min(warping.PAIRS, len(clip) - 1 - first), *clip.shape[1:3], 2), np.float16).view(Watched)
        chunks.append(weakref.ref(forward))
        return {"forward": forward, "visible": np.ones(forward.shape[:3], bool)}

    clip = textured(2 * warping.PAIRS + 5, 16, 20)
    sums = clip_sums(clip, np.zeros(clip.shape[:3], bool), flow_of)
    assert len(chunks) == 3
    assert (sums["n_frame"] == 16 * 20).all()


class Watched(np.ndarray):
    """An array that a weak reference can follow."""
