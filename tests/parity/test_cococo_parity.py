"""COCOCO beside the outputs of the authors' code (made as tests/parity/fixtures/cococo_upstream.txt says).

The second half deviates from it on purpose, one thing at a time: every deviation must be seen.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch.nn import functional

from tests.baselines.cococo import tiny
from vpbench.baselines.cococo import model as model_module
from vpbench.baselines.cococo import motion, sampling
from vpbench.baselines.cococo.model import Cococo
from vpbench.baselines.cococo.sampling import ddim, sample
from vpbench.baselines.cococo.unet import predict
from vpbench.clip import Clip, MaskedClip

FIXTURE = Path(__file__).parent / "fixtures" / "cococo_upstream.npz"
UNET_TOLERANCE = 1e-4  # of values up to 3
LOOP_TOLERANCE = 1e-5  # relative to the largest value
LEVELS = 1  # of 255: where the authors' code cuts a level off, a rounding decides


@pytest.fixture(scope="module")
def upstream() -> dict[str, Any]:
    with np.load(FIXTURE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module")
def unet() -> Any:
    return tiny.unet()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cococo")
    tiny.write_base(root / "base")
    tiny.write_parts(root / "parts")
    return root


def predicted(unet: Any, name: str) -> Any:
    given, words = tiny.inputs(name, tiny.SIZES[name])
    with torch.inference_mode():
        made = predict(unet, given, 481, words).numpy()
    return made[..., ::2, ::2] if name == "large" else made


def looped(unet: Any, guidance: float, **options: Any) -> Any:
    frames, height, width = tiny.LOOP
    noise = torch.randn((1, 4, *tiny.LOOP), generator=torch.Generator().manual_seed(0))[0].transpose(0, 1)
    mask, masked = (tiny.drawn(f"loop {name}", (frames, count, height, width)) for name, count in (("mask", 1), ("masked", 4)))
    texts = tiny.drawn("loop texts", (2, 77, tiny.TEXT))
    given = {"texts": texts if guidance > 1 else texts[1:], "guidance": guidance, "windows": [(0, frames)], **options}
    with torch.inference_mode():
        return sample(unet, noise, mask, masked, steps=6, **given).numpy()


def scripted(files: Path, caption: str = tiny.CAPTION, **options: Any) -> Any:
    settings: dict[str, Any] = {"compat": "official", "mask_rule": "nearest", "window": None, "steps": 6, **options}
    model = Cococo(str(files / "parts"), str(files / "base"), precision="float32", device="cpu", **settings)
    frames, masks = tiny.video(5, 112, 64)
    return model(MaskedClip.of(Clip("a", frames, masks, fps=8.0, caption=caption)), seed=0)


def difference(made: Any, expected: Any) -> float:
    """The largest, relative to the largest value."""
    return float(np.abs(made - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("name", tiny.SIZES)
def test_the_network_is_that_of_the_authors(unet: Any, upstream: dict[str, Any], name: str) -> None:
    np.testing.assert_allclose(predicted(unet, name), upstream[f"unet_{name}"], atol=UNET_TOLERANCE, rtol=0)


def test_the_scheduler_is_that_of_the_authors(upstream: dict[str, Any]) -> None:
    scheduler = ddim(50)
    np.testing.assert_array_equal(scheduler.timesteps, upstream["ddim_timesteps"])
    np.testing.assert_array_equal(scheduler.alphas_cumprod, upstream["ddim_alphas"])
    latents = tiny.drawn("ddim noise", (1, 4, *tiny.LOOP))
    for timestep in scheduler.timesteps:
        latents = scheduler.step(torch.tanh(latents * 0.5) + 0.1 * latents, timestep, latents).prev_sample
    np.testing.assert_allclose(latents, upstream["ddim_made"], rtol=4e-6, atol=1e-6)  # float32, 50 steps that build on each other


@pytest.mark.parametrize("guidance", [7, 1])
def test_the_whole_loop_is_that_of_the_authors(unet: Any, upstream: dict[str, Any], guidance: int) -> None:
    assert difference(looped(unet, guidance), upstream[f"loop_{guidance}"]) < LOOP_TOLERANCE


def test_the_frames_are_those_of_the_authors_script(files: Path, upstream: dict[str, Any]) -> None:
    """From the files on the disk to pixels: loading, text, VAE, noise, 6 steps."""
    apart = np.abs(scripted(files).astype(int) - upstream["script"])
    assert apart.max() <= LEVELS
    assert (apart > 0).mean() < 0.001


def jointly_normed(self: motion.MotionTransformer, x: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    clip = self.norm(x.transpose(0, 1)[None])[0].transpose(0, 1)
    y = self.proj_in(clip.flatten(2).transpose(1, 2))
    for block in self.transformer_blocks:
        y = block(y, words, *x.shape[2:])
    return x + self.proj_out(y).transpose(1, 2).reshape(x.shape)


def coded_words(self: motion.MotionBlock, x: torch.Tensor, words: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return BLOCK(self, x, words + POSITIONS(words.shape[1], words.shape[2], x.dtype, x.device), height, width)


def plain_over_frames(self: motion.Attention, x: torch.Tensor) -> torch.Tensor:
    return OVER_FRAMES(self, x - POSITIONS(len(x), x.shape[2], x.dtype, x.device)[:, None])


def coded_per_frame(count: int, width: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    frames = tiny.SIZES["wide"][0]
    if count <= frames:
        return POSITIONS(count, width, dtype, device)
    return POSITIONS(count // frames, width, dtype, device).repeat(frames, 1)


def halves(count: int, width: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    code = POSITIONS(count, width, dtype, device)
    return torch.cat([code[:, ::2], code[:, 1::2]], dim=1)


def frames_last(attention: Any, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Tokens pixel by pixel, all frames of each: another position for every token."""
    frames, pixels, channels = x.shape
    flat = x.transpose(0, 1).reshape(1, pixels * frames, channels)
    made = attention(flat + POSITIONS(frames * pixels, channels, x.dtype, x.device))
    return made.reshape(pixels, frames, channels).transpose(0, 1)


def by_columns(height: int, width: int) -> tuple[int, int]:
    return SIZE(width, height)[::-1]


def rounded(height: int, width: int) -> tuple[int, int]:
    return (height, width) if height <= 12 else (12, round(12 / height * width))


def blurred(x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    return functional.interpolate(x, size, mode="bilinear")


BLOCK, OVER_FRAMES, POSITIONS, SIZE = motion.MotionBlock.forward, motion.Attention.over_frames, motion.positions, motion.small_size
BLURRING = types.SimpleNamespace(interpolate=blurred, scaled_dot_product_attention=functional.scaled_dot_product_attention)

NETWORK_DEVIATIONS: dict[str, tuple[str, Any, str, Any]] = {
    "group norm over all frames together": ("small", motion.MotionTransformer, "forward", jointly_normed),
    "positions on the words": ("small", motion.MotionBlock, "forward", coded_words),
    "no positions over time": ("small", motion.Attention, "over_frames", plain_over_frames),
    "sines before cosines": ("small", motion, "positions", halves),
    "positions anew in each frame": ("wide", motion, "positions", coded_per_frame),
    "tokens pixel by pixel": ("small", motion.MotionBlock, "_globally", staticmethod(frames_last)),
    "never made small": ("wide", motion, "small_size", lambda height, width: (height, width)),
    "made small by its columns": ("wide", motion, "small_size", by_columns),
    "number of columns rounded": ("large", motion, "small_size", rounded),
    "made small smoothly": ("wide", motion, "functional", BLURRING),
}


@pytest.mark.parametrize(("name", "owner", "attribute", "value"), NETWORK_DEVIATIONS.values(), ids=NETWORK_DEVIATIONS.keys())
def test_a_deviation_in_the_network_is_seen(
    unet: Any, upstream: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str, owner: Any, attribute: str, value: Any
) -> None:
    monkeypatch.setattr(owner, attribute, value)
    assert np.abs(predicted(unet, name) - upstream[f"unet_{name}"]).max() > 10 * UNET_TOLERANCE


@pytest.mark.parametrize("index", range(21))
def test_a_motion_module_that_does_nothing_is_seen(
    unet: Any, upstream: dict[str, Any], monkeypatch: pytest.MonkeyPatch, index: int
) -> None:
    modules = [module for module in unet.modules() if isinstance(module, motion.MotionModule)]
    assert len(modules) == 21
    monkeypatch.setattr(modules[index], "forward", lambda x, words: x)
    assert np.abs(predicted(unet, "small") - upstream["unet_small"]).max() > 10 * UNET_TOLERANCE


def scheduled(**changes: Any) -> Callable[[int], Any]:
    def make(steps: int) -> Any:
        scheduler = DDIMScheduler.from_config(ddim(1).config, **changes)
        scheduler.set_timesteps(steps)
        return scheduler

    return make


def reordered(unet: Any, given: torch.Tensor, timestep: Any, words: torch.Tensor) -> torch.Tensor:
    """Noisy latents, masked latents, mask."""
    return predict(unet, given[:, [0, 1, 2, 3, 5, 6, 7, 8, 4]], timestep, words)


LOOP_DEVIATIONS: dict[str, tuple[str, Any]] = {
    "betas of Stable Diffusion": ("ddim", scheduled(beta_schedule="scaled_linear")),
    "first step one later": ("ddim", scheduled(steps_offset=0)),
    "last alpha not one": ("ddim", scheduled(set_alpha_to_one=False)),
    "clipped samples": ("ddim", scheduled(clip_sample=True)),
    "steps at the end": ("ddim", scheduled(timestep_spacing="trailing")),
    "mask after the masked latents": ("predict", reordered),
}


@pytest.mark.parametrize(("attribute", "value"), LOOP_DEVIATIONS.values(), ids=LOOP_DEVIATIONS.keys())
def test_a_deviation_in_the_loop_is_seen(
    unet: Any, upstream: dict[str, Any], monkeypatch: pytest.MonkeyPatch, attribute: str, value: Any
) -> None:
    monkeypatch.setattr(sampling, attribute, value)
    assert difference(looped(unet, 7), upstream["loop_7"]) > 10 * LOOP_TOLERANCE


@pytest.mark.parametrize(
    "options",
    [
        {"guidance": 7, "texts": tiny.drawn("loop texts", (2, 77, tiny.TEXT)).flip(0)},
        {"guidance": 7.1},
        {"guidance": 7, "windows": [(0, 2), (1, 3)]},
    ],
    ids=["texts in the other order", "stronger guidance", "two windows"],
)
def test_an_option_of_the_loop_that_differs_is_seen(unet: Any, upstream: dict[str, Any], options: dict[str, Any]) -> None:
    assert difference(looped(unet, **options), upstream["loop_7"]) > 10 * LOOP_TOLERANCE


def posterior_mean(self: DiagonalGaussianDistribution, generator: Any) -> torch.Tensor:
    return self.mean


def unhidden(frames: Any, masks: Any, height: int, width: int) -> tuple[Any, Any]:
    video, holes = model_module_prepared(frames, masks, height, width)
    return np.where(holes[..., None], np.uint8(0), video), np.zeros_like(holes)


model_module_prepared = model_module.prepared

SCRIPT_DEVIATIONS: dict[str, tuple[Any, str, Any]] = {
    "mean of the posterior": (DiagonalGaussianDistribution, "sample", posterior_mean),
    "another draw of the posterior": (model_module, "OFFICIAL_POSTERIOR", 41),
    "other noise": (model_module, "OFFICIAL_NOISE", 1),
    "black hole and no mask": (model_module, "prepared", unhidden),
}


@pytest.mark.parametrize(("owner", "attribute", "value"), SCRIPT_DEVIATIONS.values(), ids=SCRIPT_DEVIATIONS.keys())
def test_a_deviation_from_the_script_is_seen(
    files: Path, upstream: dict[str, Any], monkeypatch: pytest.MonkeyPatch, owner: Any, attribute: str, value: Any
) -> None:
    monkeypatch.setattr(owner, attribute, value)
    assert seen(scripted(files), upstream)


@pytest.mark.parametrize(
    "options",
    [{"mask_rule": "any"}, {"quality": ""}, {"negative_prompt": ""}, {"guidance": 9.0}, {"caption": "Trees."}, {"compat": "none"}],
    ids=lambda options: "-".join(options),
)
def test_an_option_that_differs_from_the_script_is_seen(files: Path, upstream: dict[str, Any], options: dict[str, Any]) -> None:
    assert seen(scripted(files, **options), upstream)


def test_rounded_colours_are_seen(files: Path, upstream: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a level, in about half of all pixels."""
    decode = Cococo._decode

    def rounding(self: Cococo, *arguments: Any) -> Any:
        with monkeypatch.context() as patch:
            patch.setattr(Cococo, "_official", False)
            return decode(self, *arguments)

    monkeypatch.setattr(Cococo, "_decode", rounding)
    apart = np.abs(scripted(files).astype(int) - upstream["script"])
    assert apart.max() == 1
    assert (apart > 0).mean() > 0.3


def seen(made: Any, upstream: dict[str, Any]) -> bool:
    """Pixels that no rounding explains."""
    return bool(np.abs(made.astype(int) - upstream["script"]).max() > 2 * LEVELS)
