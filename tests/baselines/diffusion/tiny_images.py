"""FLUX.1-Fill and Stable Diffusion 2 inpainting in the layout of the hub, small enough for the CPU, with random weights."""

from __future__ import annotations

import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxFillPipeline,
    FluxTransformer2DModel,
    StableDiffusionInpaintPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer, T5Config, T5EncoderModel, T5TokenizerFast

LETTERS = string.ascii_lowercase
WIDTH = 32


def t5_tokenizer() -> T5TokenizerFast:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", -5.0)]
    pieces += [("▁" + letter, -3.0) for letter in LETTERS] + [(letter, -4.0) for letter in LETTERS] + [("▁", -3.0)]
    return T5TokenizerFast(vocab=pieces, extra_ids=0)


def clip_tokenizer() -> CLIPTokenizer:
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    return CLIPTokenizer(vocab={word: number for number, word in enumerate(words)}, merges=[], model_max_length=16)


def clip_text(hidden: int = WIDTH) -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=54,
            hidden_size=hidden,
            intermediate_size=37,
            num_attention_heads=4,
            num_hidden_layers=2,
            projection_dim=hidden,
            max_position_embeddings=16,
            bos_token_id=52,
            eos_token_id=53,
        )
    )


def image_vae(**options: object) -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 8),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
        norm_num_groups=2,
        **options,
    )


def randomised(network: torch.nn.Module, seed: int) -> torch.nn.Module:
    """No tensor stays at the zero or one it begins with: those would hide what is multiplied with them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = max(1, parameter[0].numel()) if parameter.ndim > 1 else 25
            parameter.copy_(
                torch.randn(parameter.shape, generator=generator) / fan_in**0.5 + (parameter.ndim == 1 and parameter.mean() == 1)
            )
    return network


def same_pictures(made: Any, expected: Any) -> None:
    """Equal but for a level here and there: the same weights at another address may be summed in another order."""
    assert made.shape == expected.shape
    difference = np.abs(made.astype(int) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def flux_fill(folder: Path) -> Path:
    transformer = FluxTransformer2DModel(
        patch_size=1,
        in_channels=4 * 2 * 4 + 4 * 4,  # latents, masked latents, and the mask's 2x2 pixels per latent, each for 2x2 latents
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    t5 = T5EncoderModel(T5Config(vocab_size=60, d_model=WIDTH, d_kv=8, d_ff=37, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu"))
    FluxFillPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(),
        vae=randomised(image_vae(use_quant_conv=False, use_post_quant_conv=False, shift_factor=0.06, scaling_factor=1.5), 0),
        text_encoder=randomised(clip_text(), 1),
        tokenizer=clip_tokenizer(),
        text_encoder_2=randomised(t5, 2),
        tokenizer_2=t5_tokenizer(),
        transformer=randomised(transformer, 3),
    ).save_pretrained(folder)
    return folder


def stable_diffusion_2(folder: Path) -> Path:
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=16,
        in_channels=9,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=WIDTH,
        norm_num_groups=2,
        attention_head_dim=(2, 4),
        use_linear_projection=True,
    )
    StableDiffusionInpaintPipeline(
        vae=randomised(image_vae(), 0),
        text_encoder=randomised(clip_text(), 1),
        tokenizer=clip_tokenizer(),
        unet=randomised(unet, 2),
        scheduler=DDIMScheduler(clip_sample=False, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)
    return folder
