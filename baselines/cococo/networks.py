"""The four networks of COCOCO: loaded from the base checkpoint and the released parts, or small ones with seeded random weights."""

from __future__ import annotations

import json
import string
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from vpbench.baselines.cococo import parts
from vpbench.baselines.cococo.unet import attach
from vpbench.baselines.diffusion.loading import load_network
from vpbench.errors import ConfigError

CHANNELS = 9  # noisy latents, mask, masked latents
SMALL: dict[str, Any] = {  # of random networks: as released, but narrow
    "in_channels": CHANNELS,
    "block_out_channels": (16, 16, 32, 32),
    "norm_num_groups": 8,
    "layers_per_block": 1,
    "cross_attention_dim": 32,
    "attention_head_dim": 1,  # heads of the image network; the motion modules have eight
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
SMALL_VAE: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
START, END = "<|startoftext|>", "<|endoftext|>"


@dataclass
class TextNetworks:
    """What turns a text into an embedding."""

    tokenizer: Any
    encoder: Any


@dataclass
class PictureNetworks:
    """What turns pictures into latents and back, and what takes the noise out of them."""

    vae: Any
    unet: Any


def load_text(folder: Path, precision: str) -> TextNetworks:
    """Load tokenizer and text encoder.

    Raises:
        ConfigError: the checkpoint's files do not belong together; the message names the folder.
    """
    try:
        tokenizer = CLIPTokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{folder / 'tokenizer'}: cannot be loaded as a CLIPTokenizer: {error}") from error
    return TextNetworks(tokenizer, load_network(CLIPTextModel, folder / "text_encoder", precision))


def load_pictures(folder: Path, files: Sequence[Path], precision: str) -> PictureNetworks:
    """Load VAE and UNet on the CPU, the UNet with the parts of COCOCO on top.

    Args:
        folder: of Stable Diffusion 1.5 inpainting, in the layout of diffusers, whole.
        files: the parts of COCOCO.
        precision: of both.

    Raises:
        ConfigError: the checkpoint is another one, or see ``parts.load``.
    """
    unet: Any = load_network(UNet2DConditionModel, folder / "unet", precision)
    if unet.config.in_channels != CHANNELS:
        raise ConfigError(
            f"{folder / 'unet' / 'config.json'}: in_channels is {unet.config.in_channels}, expected {CHANNELS}: checkpoint must be the "
            "inpainting variant of Stable Diffusion 1.5."
        )
    attach(unet, device="meta")
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        block.motion_modules.to_empty(device="cpu")  # every value comes from the parts, which ``load`` makes sure of
    parts.load(unet, files)
    return PictureNetworks(load_network(AutoencoderKL, folder / "vae", precision), unet)


def random_text(seed: int) -> TextNetworks:
    """A tokenizer that knows letters, and a small text encoder with random weights."""
    letters = [*string.printable[:95], *(letter + "</w>" for letter in string.printable[:95])]
    vocabulary = {word: number for number, word in enumerate([*letters, START, END])}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.json").write_text(json.dumps(vocabulary))
        Path(folder, "merges.txt").write_text("#version: 0.2\n")
        names = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
        Path(folder, "tokenizer_config.json").write_text(json.dumps({"model_max_length": 77, "tokenizer_class": "CLIPTokenizer", **names}))
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    with _seeded(seed):
        config = CLIPTextConfig(
            vocab_size=len(vocabulary),
            bos_token_id=vocabulary[START],
            eos_token_id=vocabulary[END],
            pad_token_id=vocabulary[END],
            hidden_size=32,
            intermediate_size=64,
            num_attention_heads=4,
            num_hidden_layers=2,
            projection_dim=32,
        )
        encoder: Any = CLIPTextModel(config)
        return TextNetworks(tokenizer, encoder.eval())


def random_pictures(seed: int) -> PictureNetworks:
    """A small VAE and a small UNet with motion modules, with torch's own initial weights."""
    with _seeded(seed):
        vae: Any = AutoencoderKL(**SMALL_VAE)  # type: ignore[no-untyped-call]
        return PictureNetworks(vae.eval(), attach(UNet2DConditionModel(**SMALL)))  # type: ignore[no-untyped-call]


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield
