"""VideoPainter and Cog-Inp beside the outputs of the article's code (made as tests/parity/fixtures/videopainter_upstream.txt says).

The second half deviates from it on purpose, one thing at a time: every deviation must be seen.
"""

from pathlib import Path

import numpy as np
import pytest

from tests.baselines.diffusion import tiny
from vpbench.baselines.diffusion import masks, windows
from vpbench.baselines.diffusion.cogvideox import CogVideoX, CogVideoXDenoiser
from vpbench.baselines.diffusion.latent_blend import OFFICIAL_SEED, LatentBlend
from vpbench.baselines.diffusion.videopainter import VideoPainter, VideoPainterDenoiser

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution  # noqa: E402

from vpbench.baselines.diffusion import adapter, denoiser  # noqa: E402

FIXTURE = Path(__file__).parents[2] / "parity" / "fixtures" / "videopainter_upstream.npz"
TOLERANCE = 1e-4

# name: frames, overlap, blend, previous weight
CASES = {
    "videopainter_one": (9, 0, True, 0.0),
    "videopainter_unblended": (9, 0, False, 0.0),
    "videopainter_two": (18, 0, True, 0.0),
    "videopainter_overlap_1": (17, 1, True, 0.0),
    "videopainter_overlap_5": (13, 5, True, 0.0),
    "videopainter_previous": (18, 0, True, 0.5),
    "cog_inp_one": (9, 0, True, 0.0),
    "cog_inp_unblended": (9, 0, False, 0.0),
    "cog_inp_two": (18, 0, True, 0.0),
    "adapter_one": (9, 0, True, 0.0),
    "adapter_two": (18, 0, True, 0.0),
    "adapter_two_previous": (18, 0, True, 0.5),
    "adapter_three_previous": (27, 0, True, 0.5),
}


@pytest.fixture(scope="module")
def upstream():
    with np.load(FIXTURE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture
def make(checkpoints, backbone_options):
    """Run a case; keywords change the backbone or the model."""

    def run(name, model=None, **changes):
        frames, overlap, blend, weight = CASES[name]
        options = {**backbone_options, "compat": "official", **changes}
        if name.startswith("cog_inp"):
            backbone = CogVideoX(**options)
        else:
            file = str(checkpoints / "adapter.safetensors") if name.startswith("adapter") else None
            backbone = VideoPainter(**{"branch": str(checkpoints / "branch"), "adapter": file, "previous_weight": weight, **options})
        blender = LatentBlend(backbone, blend=blend, compat="official", **(model or {}))
        video, holes, first = tiny.video(frames)
        holes[0] = False
        layout = windows.plan(frames, tiny.WINDOW, overlap, cover=False)
        latents = blender.latents([first, *video[1:]], holes, layout, torch.from_numpy(tiny.embeddings()), OFFICIAL_SEED)
        return latents, backbone

    return run


@pytest.mark.parametrize("name", CASES)
def test_latents_and_frames_are_those_of_the_articles_code(make, upstream, name):
    latents, backbone = make(name)
    np.testing.assert_allclose(latents, upstream[f"{name}_latents"], atol=TOLERANCE, rtol=0)
    pixels = backbone.decode(latents)[0, :, :, 5::16, 7::16]
    np.testing.assert_allclose(pixels, upstream[f"{name}_pixels"], atol=TOLERANCE, rtol=0)


def every_fourth_frame(mask, rule, spatial=8, temporal=4):
    return mask[:, :, ::temporal, ::spatial, ::spatial].permute(0, 2, 1, 3, 4)


def mostly_hole(latents, patch=2):
    return (torch.nn.functional.avg_pool2d(latents[0], patch) > 0.5).reshape(1, -1, 1)


def without_ghosts(query, key, value):
    there = value.abs().sum((0, 1, 3)) > 0
    return torch.nn.functional.scaled_dot_product_attention(query, key[:, :, there], value[:, :, there])


def zeroed_after_the_norm(attn, key, value, rope, length):
    heads = adapter._heads(attn, key)
    normed = attn.norm_k(heads) * (heads.abs().sum(-1, keepdim=True) > 0)
    return adapter._rotated(normed, rope, length), adapter._heads(attn, value)


def unmodulated(block, index, embedding, words, extras):
    if extras.previous is None:
        return {"holes": extras.resampled}
    return {"holes": extras.resampled, "previous": extras.previous[index], "weight": extras.weight}


def changed(method, **fields):
    """``VideoPainterDenoiser.extras`` with fields of its result replaced; a function of the denoiser gives the value."""

    def extras(self, *arguments):
        found = method(self, *arguments)
        for name, value in fields.items():
            setattr(found, name, value(self, found))
        return found

    return extras


EXTRAS = VideoPainterDenoiser.extras
ADD_NOISE = CogVideoXDenoiser.add_noise
LATENT_MASK, TOKEN_MASK = masks.latent_mask, masks.token_mask
SAMPLE = DiagonalGaussianDistribution.sample


def posterior_mean(self, generator):
    SAMPLE(self, generator)  # the draws stay the same
    return self.mean


def holes_before(denoiser, found):
    return found.resampled if denoiser.previous is None else denoiser.previous_holes


DEVIATIONS = {
    "latent mask of every fourth frame": ("videopainter_one", masks, "latent_mask", every_fourth_frame),
    "latent mask pooled": ("videopainter_one", masks, "latent_mask", lambda mask, rule, *sizes: LATENT_MASK(mask, "any", *sizes)),
    "token mask: more than half": ("videopainter_one", masks, "token_mask", mostly_hole),
    "token mask inverted": ("videopainter_one", masks, "token_mask", lambda *arguments: ~TOKEN_MASK(*arguments)),
    "features added on all tokens": ("videopainter_one", VideoPainterDenoiser, "extras", changed(EXTRAS, holes=lambda *_: None)),
    "features in turn": ("videopainter_one", denoiser, "feature_of", lambda block, blocks, features: block % features),
    "rotary base of the checkpoint": ("videopainter_one", denoiser, "BASE", (tiny.HEIGHT, tiny.WIDTH)),
    "mean of the posterior": ("videopainter_one", DiagonalGaussianDistribution, "sample", posterior_mean),
    "blended at the level before": ("videopainter_one", CogVideoXDenoiser, "add_noise", lambda self, x, n, i: ADD_NOISE(self, x, n, i - 1)),
    "ghosts dropped": ("adapter_one", adapter, "attend", without_ghosts),
    "keys zeroed after their norm": ("adapter_one", adapter, "_ready", zeroed_after_the_norm),
    "previous holes at every step": ("adapter_two_previous", VideoPainterDenoiser, "extras", changed(EXTRAS, resampled=holes_before)),
    "previous states not modulated": ("adapter_two_previous", denoiser, "_attention", unmodulated),
}
OPTIONS = {
    "black hole for the context encoder": ("videopainter_one", {}, {"hole": "black"}),
    "fresh noise for the blend": ("videopainter_one", {"blend_noise": "fresh"}, {}),
    "blend stops early": ("videopainter_one", {"blend_until": 0.5}, {}),
    "constant guidance": ("videopainter_one", {}, {"dynamic_guidance": False}),
    "adapter as it was trained": ("adapter_one", {}, {"adapter_scale": 0.5}),
    "no adapter": ("adapter_one", {}, {"adapter": None}),
    "no look back": ("adapter_two_previous", {}, {"previous_weight": 0.0}),
}


def largest_difference(latents, upstream, name):
    return float(np.abs(latents.numpy() - upstream[f"{name}_latents"]).max())


@pytest.mark.parametrize(("name", "owner", "attribute", "value"), DEVIATIONS.values(), ids=DEVIATIONS.keys())
def test_a_deviation_in_the_code_is_seen(make, upstream, monkeypatch, name, owner, attribute, value):
    monkeypatch.setattr(owner, attribute, value)
    latents, _ = make(name)
    assert largest_difference(latents, upstream, name) > 100 * TOLERANCE


@pytest.mark.parametrize(("name", "model", "backbone"), OPTIONS.values(), ids=OPTIONS.keys())
def test_an_option_that_differs_is_seen(make, upstream, name, model, backbone):
    latents, _ = make(name, model, **backbone)
    assert largest_difference(latents, upstream, name) > 100 * TOLERANCE


def test_cog_inp_without_the_unused_draw_differs(make, upstream, monkeypatch):
    monkeypatch.setattr(CogVideoX, "draw_posterior", lambda self, generator: None)
    latents, _ = make("cog_inp_one")
    assert largest_difference(latents, upstream, "cog_inp_one") > 100 * TOLERANCE


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_draws_are_those_of_the_articles_code(checkpoints, backbone_options, steps):
    """Image, known video, noise, video without its hole; then one draw at the first and last step and two at every other."""
    backbone = VideoPainter(**{**backbone_options, "steps": steps}, branch=str(checkpoints / "branch"), compat="official")
    video, holes, first = tiny.video(9)
    blender = LatentBlend(backbone, compat="official")
    made = []
    drawn = torch.Generator

    class Recorded(drawn):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", Recorded)
        layout = windows.plan(9, tiny.WINDOW, 0, cover=False)
        blender.latents([first, *video[1:]], holes, layout, torch.from_numpy(tiny.embeddings()), OFFICIAL_SEED)
    (used,) = made
    expected = drawn().manual_seed(OFFICIAL_SEED)
    _, length, channels, height, width = tiny.LATENTS
    for frames in (1, length, length, length, *[length] * max(1, 2 * steps - 2)):
        torch.randn((1, channels, frames, height, width), generator=expected)
    assert torch.equal(used.get_state(), expected.get_state())
