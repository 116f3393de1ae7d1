import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpbench.baselines.diffusion.masks import dilate, latent_mask, token_mask
from vpbench.errors import ConfigError

torch = pytest.importorskip("torch")


@pytest.mark.parametrize(("size", "before", "after"), [(0, 0, 0), (1, 0, 0), (3, 1, 1), (16, 7, 8), (32, 15, 16), (48, 23, 24)])
def test_how_far_a_square_reaches(size, before, after):
    masks = np.zeros((1, 99, 99), bool)
    masks[0, 50, 40] = True
    grown = dilate(masks, size)
    expected = np.zeros_like(masks)
    expected[0, 50 - before : 50 + after + 1, 40 - before : 40 + after + 1] = True
    np.testing.assert_array_equal(grown, expected)


def test_negative_square_is_refused():
    with pytest.raises(ConfigError, match="dilate_px=-1"):
        dilate(np.zeros((1, 4, 4), bool), -1)


@pytest.mark.parametrize(("frames", "picked"), [(49, [0, 3, 7, 11, 15, 18, 22, 26, 30, 33, 37, 41, 45]), (9, [0, 3, 6]), (5, [0, 2])])
def test_pixels_that_nearest_picks(frames, picked):
    mask = torch.arange(frames).float().view(1, 1, frames, 1, 1).expand(1, 1, frames, 16, 24)
    assert latent_mask(mask)[0, :, 0, 0, 0].tolist() == picked
    places = torch.arange(16 * 24).float().view(1, 1, 1, 16, 24).expand(1, 1, 5, 16, 24)
    np.testing.assert_array_equal(latent_mask(places)[0, 0, 0], [[0, 8, 16], [8 * 24, 8 * 24 + 8, 8 * 24 + 16]])


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.1))
@settings(max_examples=50, deadline=None)
def test_rules_agree_on_what_they_look_at(seed, share):
    mask = torch.from_numpy(np.random.default_rng(seed).random((1, 1, 9, 16, 24)) < share).float()
    nearest, anywhere, area = (latent_mask(mask, rule) for rule in ("nearest", "any", "area"))
    assert nearest.shape == anywhere.shape == area.shape == (1, 3, 1, 2, 3)
    assert (nearest <= anywhere).all()
    assert ((area > 0) == (anywhere > 0)).all()
    groups = [mask[0, 0, :1], mask[0, 0, 1:5], mask[0, 0, 5:9]]
    for l, group in enumerate(groups):
        cells = group.reshape(len(group), 2, 8, 3, 8)
        np.testing.assert_array_equal(anywhere[0, l, 0], cells.amax((0, 2, 4)))
        np.testing.assert_allclose(area[0, l, 0], cells.mean((0, 2, 4)), atol=1e-6)


def test_unknown_rule_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="nearest, any, area"):
        latent_mask(torch.zeros(1, 1, 5, 8, 8), "most")


def test_a_token_with_any_hole_is_a_hole():
    latents = torch.zeros(1, 2, 1, 4, 6)
    latents[0, 0, 0, 1, 1] = 1
    latents[0, 1, 0, 2, 5] = 1
    tokens = token_mask(latents)
    assert tokens.shape == (1, 12, 1)
    assert tokens.flatten().nonzero().flatten().tolist() == [0, 6 + 5]
