import numpy as np
import pytest

from tests.baselines.clips import pan
from vpbench.baselines.diffusion import pictures

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")


def test_frames_survive_the_way_there_and_back():
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    pixels = pictures.to_pixels(frames, 16, 16)
    assert pixels.shape == (1, 3, 1, 16, 16)
    assert pixels.dtype == torch.float32
    assert (pixels.min(), pixels.max()) == (-1, 1)
    np.testing.assert_array_equal(pictures.to_frames(pixels), frames)


def test_official_cuts_63_of_256_levels_off():
    frames = np.arange(256, dtype=np.uint8).repeat(3).reshape(1, 16, 16, 3)
    lost = frames.astype(int) - pictures.to_frames(pictures.to_pixels(frames, 16, 16), official=True)
    assert set(np.unique(lost)) == {0, 1}
    assert lost[..., 0].sum() == 63


def test_half_precision_is_scaled_in_float32_by_default_only():
    pixels = torch.linspace(-1, 1, 768).reshape(1, 3, 1, 16, 16).bfloat16()
    exact = (pixels.float().double() * 127.5 + 127.5)[0].permute(1, 2, 3, 0).numpy()
    assert np.abs(pictures.to_frames(pixels) - exact).max() <= 0.5
    assert np.abs(pictures.to_frames(pixels, official=True) - exact).max() > 0.9


def test_values_out_of_range_are_clipped():
    pixels = torch.tensor([-3.0, 3.0]).repeat_interleave(3).reshape(1, 2, 1, 1, 3).permute(0, 4, 2, 3, 1)
    np.testing.assert_array_equal(pictures.to_frames(pixels)[0, 0], [[0, 0, 0], [255, 255, 255]])


def test_pictures_of_several_sizes_become_one_video():
    frames = pan(2, 48, 64)
    pixels = pictures.to_pixels([frames[0], pictures.resized(frames[1:], 96, 128)[0]], 24, 32)
    assert pixels.shape == (1, 3, 2, 24, 32)
    np.testing.assert_array_equal(pixels[:, :, 0], pictures.to_pixels(frames, 24, 32)[:, :, 0])


def test_mask_is_resized_and_stays_a_mask():
    masks = np.zeros((1, 32, 32), bool)
    masks[0, :, 10:] = True
    assert pictures.mask_to_pixels(masks, 32, 32)[0, 0].bool().equal(torch.from_numpy(masks))
    half = pictures.mask_to_pixels(masks, 16, 16)
    assert half.shape == (1, 1, 1, 16, 16)
    assert half[0, 0, 0, 0].tolist() == [0.0] * 5 + [1.0] * 11


@pytest.mark.parametrize(("fill", "value"), [(pictures.GREY, 0.0), (pictures.BLACK, -1.0)])
def test_the_hole_gets_its_fill(fill, value):
    pixels, mask = torch.full((1, 3, 1, 2, 2), 0.5), torch.tensor([[1.0, 0.0], [0.0, 0.0]]).reshape(1, 1, 1, 2, 2)
    result = pictures.without_hole(pixels, mask, fill)
    assert (result[..., 0, 0] == value).all()
    assert (result[mask.expand(-1, 3, -1, -1, -1) == 0] == 0.5).all()


def test_resized_keeps_what_has_the_size():
    frames = pan(2, 48, 64)
    assert pictures.resized(frames, 48, 64) is frames
    assert pictures.resized(frames, 24, 30).shape == (2, 24, 30, 3)
