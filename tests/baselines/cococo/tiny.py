"""Stable Diffusion 1.5 inpainting and the four parts of COCOCO, small enough for the CPU, with seeded random weights.

Layouts, file names and names of tensors are those of the released files (the VAE's attention under its old names too); only sizes differ.
Every tensor follows from its name alone (``tests/baselines/diffusion/tiny.py``), so the same files come out wherever this runs.
"""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from tests.baselines.diffusion.tiny import noise
from vpbench.baselines.cococo.unet import MOTION, attach

TEXT = 48  # width of the text embeddings
UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (32, 64, 96, 96),
    "layers_per_block": 2,
    "cross_attention_dim": TEXT,
    "attention_head_dim": 8,
    "down_block_types": ("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
    "up_block_types": ("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3,
}
RELEASED: dict[str, Any] = {**UNET, "block_out_channels": (320, 640, 1280, 1280), "cross_attention_dim": 768}
VAE: dict[str, Any] = {
    "block_out_channels": (8, 8, 8, 8),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 1,
    "norm_num_groups": 4,
}
OLD_NAMES = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}  # in the VAE's file as it was released
LETTERS = string.ascii_letters + ".,"
FINE_TUNED = "up_blocks.3.resnets."  # tensors of the image network that the parts have as well
CAPTION = "Trees. Snow mountains."

# name: frames, rows and columns of the latents. No resize, resize, exact and rounded number of columns, sizes that halving rounds up,
# more rows than columns.
SIZES = {"small": (4, 8, 8), "wide": (5, 18, 30), "exact": (3, 24, 44), "large": (2, 45, 80), "high": (6, 13, 9)}
LOOP = (3, 8, 12)


def values(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Random weights for a parameter: of a size that keeps activations in range; nothing is zero, which would hide what it multiplies."""
    drawn = noise(name, shape)
    if len(shape) > 1:
        drawn /= np.sqrt(np.prod(shape[1:]))
    else:
        drawn = 0.1 * drawn + (not name.endswith("bias"))
    return torch.from_numpy(drawn.astype(np.float32))


def filled(network: Any, prefix: str) -> Any:
    """Give every tensor of a network its values."""
    state = {name: values(f"{prefix} {name}", tuple(tensor.shape)) for name, tensor in network.state_dict().items()}
    network.load_state_dict(state, assign=True)
    return network.eval()


def unet() -> Any:
    """The network with motion modules."""
    with torch.device("meta"):
        network = attach(UNet2DConditionModel(**UNET), device="meta")
    return filled(network, "cococo unet")


def inputs(name: str, size: tuple[int, int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """The nine channels (F, 9, h, w) and the words (77, TEXT) of a parity case."""
    frames, height, width = size
    return drawn(f"{name} sample", (frames, 9, height, width)), drawn(f"{name} words", (77, TEXT))


def drawn(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    return torch.from_numpy(noise(f"cococo {name}", shape).astype(np.float32))


def parts(state: dict[str, torch.Tensor]) -> list[dict[str, torch.Tensor]]:
    """The released way to write down the motion modules (and some of the image network), tables of positions among them."""
    named = {f"module.{name}": tensor for name, tensor in sorted(state.items())}
    for name in [name for name in named if name.endswith(".to_q.weight")]:
        if MOTION in name:
            named[name.replace("to_q.weight", "pos_encoder.pe")] = torch.full((1, 2, 3), 1e9)
    names = sorted(named)
    return [{name: named[name] for name in names[number::4]} for number in range(4)]


def write_parts(folder: Path) -> Path:
    state = {name: tensor for name, tensor in unet().state_dict().items() if MOTION in name or name.startswith(FINE_TUNED)}
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts(state)):
        torch.save(part, folder / f"model_{number}.pth")
    return folder


def write_tokenizer(folder: Path) -> None:
    folder.mkdir(parents=True)
    words = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "<|startoftext|>", "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({word: number for number, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {**special, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer", "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def write_base(folder: Path) -> Path:
    """Stable Diffusion 1.5 inpainting; the tensors that the parts have as well are others here."""
    image = UNet2DConditionModel(**UNET)
    filled(image, "cococo unet")
    with torch.no_grad():
        for name, parameter in image.named_parameters():
            if name.startswith(FINE_TUNED):
                parameter.zero_()
    image.save_pretrained(folder / "unet")
    vae = filled(AutoencoderKL(**VAE), "cococo vae")
    vae.save_config(folder / "vae")
    save_file({old_name(name): tensor for name, tensor in vae.state_dict().items()}, folder / "vae" / "diffusion_pytorch_model.safetensors")
    write_tokenizer(folder / "tokenizer")
    count = 2 * len(LETTERS) + 2
    config = CLIPTextConfig(
        vocab_size=count,
        hidden_size=TEXT,
        intermediate_size=64,
        num_attention_heads=4,
        num_hidden_layers=2,
        projection_dim=TEXT,
        bos_token_id=count - 2,
        eos_token_id=count - 1,
        pad_token_id=count - 1,
    )
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in CLIPTextModel(config).state_dict().items()}
    named = {f"text_model.{name.removeprefix('text_model.')}": shape for name, shape in shapes.items()}  # as in the released file
    config.save_pretrained(folder / "text_encoder")
    text = {name: values(f"cococo text {name}", shape) for name, shape in named.items()}
    save_file(text, folder / "text_encoder" / "model.safetensors", metadata={"format": "pt"})
    (folder / "scheduler").mkdir()
    scheduler = {"_class_name": "PNDMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    index = {
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "safety_checker": [None, None],
        "feature_extractor": [None, None],
    }
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionInpaintPipeline", **index}))
    return folder


def old_name(name: str) -> str:
    if ".attentions." in name:
        for new, old in OLD_NAMES.items():
            name = name.replace(f".{new}.", f".{old}.")
    return name


def video(frames: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Smooth moving colours, uint8 (T, H, W, 3), and a moving hole, bool (T, H, W)."""
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    waves = [np.sin(x / 9 + t / 3) + np.cos(y / 7), np.sin(y / 5 - t / 4), np.cos((x + y) / 11 + t / 5)]
    pixels = np.stack([128 + 55 * wave for wave in waves], axis=-1).clip(0, 255).astype(np.uint8)
    masks = (y > height // 4) & (y < height // 4 * 3) & (x > 7 + 2 * t) & (x < 7 + 2 * t + width // 3)
    return pixels, masks
