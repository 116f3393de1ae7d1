"""Wan 2.1 checkpoints (VACE, image-to-video) in the layout of the hub, small enough for the CPU, with random weights."""

from __future__ import annotations

from pathlib import Path

from diffusers import (
    AutoencoderKLWan,
    UniPCMultistepScheduler,
    WanImageToVideoPipeline,
    WanTransformer3DModel,
    WanVACEPipeline,
    WanVACETransformer3DModel,
)
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel, UMT5Config, UMT5EncoderModel

from tests.baselines.diffusion.tiny_images import WIDTH, randomised, t5_tokenizer

TRANSFORMER = {
    "patch_size": (1, 2, 2),
    "num_attention_heads": 2,
    "attention_head_dim": 12,
    "text_dim": WIDTH,
    "freq_dim": 32,
    "ffn_dim": 32,
    "num_layers": 3,
    "cross_attn_norm": True,
    "qk_norm": "rms_norm_across_heads",
    "rope_max_seq_len": 64,
}


def vae() -> AutoencoderKLWan:
    return randomised(
        AutoencoderKLWan(base_dim=3, z_dim=16, dim_mult=[1, 1, 1, 1], num_res_blocks=1, temperal_downsample=[False, True, True]), 0
    )


def text_encoder() -> UMT5EncoderModel:
    config = UMT5Config(vocab_size=60, d_model=WIDTH, d_kv=8, d_ff=37, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu")
    return randomised(UMT5EncoderModel(config), 1)


def scheduler() -> UniPCMultistepScheduler:
    return UniPCMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True, num_train_timesteps=1000, flow_shift=5.0)


def wan_vace(folder: Path, experts: int = 1) -> Path:
    """With two experts as Wan 2.2 has them: one transformer for much noise, one for little."""
    settings = {**TRANSFORMER, "in_channels": 16, "out_channels": 16, "vace_layers": [0, 2], "vace_in_channels": 96}
    networks = [randomised(WanVACETransformer3DModel(**settings), 2 + number) for number in range(experts)]
    WanVACEPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=text_encoder(),
        vae=vae(),
        scheduler=scheduler(),
        transformer=networks[0],
        transformer_2=networks[1] if experts == 2 else None,
        boundary_ratio=0.9 if experts == 2 else None,
    ).save_pretrained(folder)
    return folder


def wan_image_to_video(folder: Path) -> Path:
    transformer = WanTransformer3DModel(**TRANSFORMER, in_channels=36, out_channels=16, image_dim=4, added_kv_proj_dim=24)
    vision = CLIPVisionConfig(
        hidden_size=4, projection_dim=4, num_hidden_layers=2, num_attention_heads=2, image_size=32, intermediate_size=16, patch_size=4
    )
    WanImageToVideoPipeline(
        tokenizer=t5_tokenizer(),
        text_encoder=text_encoder(),
        image_encoder=randomised(CLIPVisionModel(vision), 3),
        image_processor=CLIPImageProcessor(crop_size=32, size=32),
        vae=vae(),
        scheduler=scheduler(),
        transformer=randomised(transformer, 2),
    ).save_pretrained(folder)
    return folder
