"""VideoPainter's context encoder: two CogVideoX blocks that look at the visible part of the video and steer the big transformer.

Its input is the noisy latents, the latents of the video without its hole and the mask, side by side (33 channels). After each of its
blocks a linear layer gives one feature per visual token. Names and shapes of its weights are those of the released file, so it loads
without renaming.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.embeddings import CogVideoXPatchEmbed, TimestepEmbedding, Timesteps
from diffusers.models.transformers.cogvideox_transformer_3d import CogVideoXBlock
from safetensors.torch import load_file
from torch import nn

from vpbench.baselines.diffusion.checkpoints import tensor_shapes, weight_files
from vpbench.errors import ConfigError

PATCH_SETTINGS = (
    *(
        "patch_size",
        "text_embed_dim",
        "sample_width",
        "sample_height",
        "sample_frames",
        "temporal_compression_ratio",
        "max_text_seq_length",
    ),
    *("spatial_interpolation_scale", "temporal_interpolation_scale", "use_learned_positional_embeddings"),
)
BLOCK_SETTINGS = ("time_embed_dim", "activation_fn", "attention_bias", "norm_elementwise_affine", "norm_eps")
UNUSED = ("norm_final.", "norm_out.", "proj_out.", "branch_x_embedder.")  # in the released file, run by nobody
DEFAULTS = {  # of the released ``config.json``; what a file says goes before it
    "out_channels": 16,
    "patch_size": 2,
    "time_embed_dim": 512,
    "text_embed_dim": 4096,
    "max_text_seq_length": 226,
    "sample_width": 90,
    "sample_height": 60,
    "sample_frames": 49,
    "temporal_compression_ratio": 4,
    "spatial_interpolation_scale": 1.875,
    "temporal_interpolation_scale": 1.0,
    "norm_eps": 1e-5,
    "norm_elementwise_affine": True,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "timestep_activation_fn": "silu",
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": True,
}


class ContextEncoder(nn.Module):
    """The context encoder.

    Args:
        config: of the branch folder's ``config.json``; keys that say nothing about the network are ignored.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        said = {**DEFAULTS, **config}
        heads, head, layers = said["num_attention_heads"], said["attention_head_dim"], said["num_layers"]
        width = heads * head
        self.patch_embed = CogVideoXPatchEmbed(
            in_channels=2 * said["out_channels"] + 1,
            embed_dim=width,
            bias=True,
            use_positional_embeddings=not said["use_rotary_positional_embeddings"],
            **{name: said[name] for name in PATCH_SETTINGS},
        )
        self.time_proj = Timesteps(width, said["flip_sin_to_cos"], said["freq_shift"])
        self.time_embedding = TimestepEmbedding(width, said["time_embed_dim"], said["timestep_activation_fn"])
        block = {name: said[name] for name in BLOCK_SETTINGS}
        self.transformer_blocks = nn.ModuleList(
            CogVideoXBlock(dim=width, num_attention_heads=heads, attention_head_dim=head, **block) for _ in range(layers)
        )
        self.branch_blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(layers))

    def forward(
        self, latents: torch.Tensor, condition: torch.Tensor, text: torch.Tensor, timestep: torch.Tensor, rope: Any
    ) -> list[torch.Tensor]:
        """Return one feature per block.

        Args:
            latents: noisy, (B, L, 16, h, w).
            condition: latents of the video without its hole, then the mask: (B, L, 17, h, w).
            text: (B, T, width).
            timestep: int (B,).
            rope: rotary positions, see ``denoiser.rotary``.

        Returns:
            (B, N, d) each, N visual tokens.
        """
        embedding = self.time_embedding(self.time_proj(timestep).to(latents.dtype))
        tokens = self.patch_embed(text, torch.cat([latents, condition], dim=2))
        words, visual = tokens[:, : text.shape[1]], tokens[:, text.shape[1] :]
        features = []
        for block, linear in zip(self.transformer_blocks, self.branch_blocks, strict=True):
            visual, words = block(visual, words, embedding, image_rotary_emb=rope)
            features.append(linear(visual))
        return features


def load_context_encoder(folder: Path, dtype: torch.dtype | None = None) -> ContextEncoder:
    """Load a context encoder from a branch folder.

    Args:
        folder: holds ``config.json`` and ``diffusion_pytorch_model.safetensors`` (one file, or shards with their index).
        dtype: of the weights; None keeps the file's.

    Raises:
        ConfigError: files are missing, or their tensors are not those of such a branch; the message names the first ones.
    """
    config = json.loads((folder / "config.json").read_text())
    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(folder, "diffusers"):
        for name, tensor in load_file(folder / file).items():
            if not name.startswith(UNUSED):
                tensors[name] = tensor if dtype is None else tensor.to(dtype)
    with torch.device("meta"):
        encoder = ContextEncoder(config)
    check_tensors(folder, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, encoder)
    encoder.load_state_dict(tensors, strict=True, assign=True)
    return encoder.eval().requires_grad_(False)


def check_context_encoder(folder: Path) -> None:
    """Check a branch folder by its files' headers.

    Raises:
        ConfigError: see ``load_context_encoder``.
    """
    with torch.device("meta"):
        encoder = ContextEncoder(json.loads((folder / "config.json").read_text()))
    shapes: dict[str, Sequence[int]] = {}
    for file in weight_files(folder, "diffusers"):
        shapes |= {name: shape for name, shape in tensor_shapes(folder / file).items() if not name.startswith(UNUSED)}
    check_tensors(folder, shapes, encoder)


def check_tensors(folder: Path, shapes: Mapping[str, Sequence[int]], encoder: nn.Module) -> None:
    """Check names and shapes of a file's tensors against a network.

    Raises:
        ConfigError: tensors are missing, unexpected, or of another shape.
    """
    expected = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
    missing, unexpected = sorted(set(expected) - set(shapes)), sorted(set(shapes) - set(expected))
    problems = [
        f"{len(names)} tensors {what}, the first is {names[0]}"
        for what, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    for name in sorted(set(expected) & set(shapes)):
        if tuple(shapes[name]) != expected[name]:
            problems.append(f"{name} is {tuple(shapes[name])}, expected {expected[name]}")
            break
    if problems:
        raise ConfigError(f"{folder}: not the branch that its config.json describes: {'; '.join(problems)}. Get the folder again.")
