"""Checkpoint folders without networks: what `vpbench check` looks at, and nothing that could be loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

PARTS = {
    "scheduler": ("diffusers", "UniPCMultistepScheduler"),
    "text_encoder": ("transformers", "UMT5EncoderModel"),
    "tokenizer": ("transformers", "T5TokenizerFast"),
    "transformer": ("diffusers", "WanVACETransformer3DModel"),
    "vae": ("diffusers", "AutoencoderKLWan"),
}


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def pipeline(folder: Path, kind: str = "WanVACEPipeline", shards: int = 2) -> Path:
    """A pipeline's folder as the hub lays it out; the transformer's weights are in ``shards`` files."""
    write_json(folder / "model_index.json", {"_class_name": kind, "_diffusers_version": "0.37.0", **PARTS, "boundary_ratio": None})
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": "UniPCMultistepScheduler"})
    write_json(folder / "tokenizer" / "tokenizer.json", {})
    for part in ("text_encoder", "transformer", "vae"):
        write_json(folder / part / "config.json", {"_class_name": PARTS[part][1]})
    save_file({"shared.weight": torch.ones(4, 3)}, folder / "text_encoder" / "model.safetensors")
    save_file({"encoder.weight": torch.ones(5)}, folder / "vae" / "diffusion_pytorch_model.safetensors")
    names = [f"diffusion_pytorch_model-{number + 1:05d}-of-{shards:05d}.safetensors" for number in range(shards)]
    for number, name in enumerate(names):
        save_file({f"blocks.{number}.weight": torch.full((3, 3), float(number))}, folder / "transformer" / name)
    weight_map = {f"blocks.{number}.weight": name for number, name in enumerate(names)}
    write_json(folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json", {"weight_map": weight_map})
    return folder
