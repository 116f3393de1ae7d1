import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import Resize

from tests.metrics.clips import textured
from vpbench.metrics.clip_image import cover_squares, seen, squashed
from vpbench.metrics.hole_box import crop_square, hole_box

SIDE = 224


def pillow(frame):
    return np.asarray(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.BICUBIC))


@pytest.fixture
def frame():
    return textured(1, 60, 100)[0]


@pytest.fixture
def mask():
    mask = np.zeros((60, 100), bool)
    mask[20:40, 30:45] = True
    return mask


@pytest.mark.parametrize("size", [(48, 72), (72, 48), (40, 80), (60, 67), (60, 66), (50, 50)])
def test_cover_sees_both_ends_unless_one_square_is_nearly_all(size):
    height, width = size
    squares = cover_squares(height, width)
    assert len(squares) == (1 if max(size) <= 1.1 * min(size) else 2)
    seen_by = np.zeros(size, bool)
    for top, left, side in squares:
        assert side == min(size)
        seen_by[top : top + side, left : left + side] = True
    if len(squares) == 2:
        assert seen_by.all()


def test_cover_is_each_square_resized_by_pillow(frame, mask):
    np.testing.assert_array_equal(seen("cover", frame, mask, 0), pillow(frame[:, :60]))
    np.testing.assert_array_equal(seen("cover", frame, mask, 1), pillow(frame[:, 40:]))


def test_center_does_not_see_the_sides(frame, mask):
    changed = frame.copy()
    changed[:, [0, 1, 2, -3, -2, -1]] = 255 - changed[:, [0, 1, 2, -3, -2, -1]]
    np.testing.assert_array_equal(seen("center", frame, mask), seen("center", changed, mask))


def test_hole_box_sees_only_the_square_around_the_hole(frame, mask):
    top, left, side = hole_box(mask)
    np.testing.assert_array_equal(seen("hole_box", frame, mask), pillow(crop_square(frame, (top, left, side))))
    outside = np.ones_like(mask)
    outside[max(top, 0) : top + side, left : left + side] = False
    assert outside.any()
    np.testing.assert_array_equal(seen("hole_box", np.where(outside[..., None], 0, frame), mask), seen("hole_box", frame, mask))


def test_masked_center_is_black_outside_the_hole(frame, mask):
    black = np.where(mask[..., None], frame, 0).astype(np.uint8)
    np.testing.assert_array_equal(seen("masked_center", frame, mask), seen("center", black, mask))
    assert not seen("masked_center", frame, np.zeros_like(mask)).any()


@pytest.mark.parametrize("size", [(60, 100), (300, 500), (7, 5)])
def test_squash_is_torchvision_on_floats(size):
    frame = textured(1, *size)[0]
    expected = Resize((SIDE, SIDE), antialias=True)(torch.from_numpy(frame).permute(2, 0, 1)[None] / 255.0)[0]
    np.testing.assert_allclose(squashed(frame), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (3, 50), (50, 3), (63, 63)])
@pytest.mark.parametrize("crop", ["center", "cover", "hole_box", "masked_center"])
def test_small_frames_fill_the_square(size, crop):
    frame, mask = np.full((*size, 3), (10, 200, 90), np.uint8), np.ones(size, bool)
    picture = seen(crop, frame, mask)
    assert picture.shape == (SIDE, SIDE, 3)
    if crop != "hole_box":
        assert (picture == frame[0, 0]).all()
