"""Optical flow between neighbours: RAFT (Teed and Deng 2020) as torchvision has it, with the weights of its authors.

Both directions of many pairs at once. Every frame goes through the encoders once, and the upsampling runs after the last update alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torchvision.models.optical_flow import raft_large
from torchvision.models.optical_flow._utils import make_coords_grid, upsample_flow

WHAT = {"c": "corr", "f": "flow"}
RENAMED: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (  # a part of the authors' name, and of torchvision's
    (r"^module\.", ""),
    (r"^fnet\.", "feature_encoder."),
    (r"^cnet\.", "context_encoder."),
    (r"^(\w+_encoder)\.conv1\.", r"\1.convnormrelu.0."),
    (r"^(\w+_encoder)\.norm1\.", r"\1.convnormrelu.1."),
    (r"^(\w+_encoder)\.conv2\.", r"\1.conv."),
    (r"^(\w+_encoder\.layer\d\.\d)\.conv([12])\.", r"\1.convnormrelu\2.0."),
    (r"^(\w+_encoder\.layer\d\.\d)\.norm([12])\.", r"\1.convnormrelu\2.1."),
    (r"^update_block\.encoder\.conv([cf])(\d)\.", lambda found: f"update_block.motion_encoder.conv{WHAT[found[1]]}{found[2]}.0."),
    (r"^update_block\.encoder\.conv\.", "update_block.motion_encoder.conv.0."),
    (r"^update_block\.gru\.conv([zrq])(\d)\.", r"update_block.recurrent_block.convgru\2.conv\1."),
    (r"^update_block\.mask\.0\.", "mask_predictor.convrelu.0."),
    (r"^update_block\.mask\.2\.", "mask_predictor.conv."),
)
COPY = re.compile(r"\.norm3\.")  # of what `downsample.1` holds


def build() -> Any:
    """RAFT with torch's initial weights."""
    return raft_large(weights=None, progress=False)


def converted(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors of ``raft-things.pth`` under torchvision's names."""
    return {renamed(name): tensor for name, tensor in state.items() if not COPY.search(name)}


def renamed(name: str) -> str:
    """Torchvision's name of a tensor.

    >>> renamed("module.update_block.gru.convz2.weight")
    'update_block.recurrent_block.convgru2.convz.weight'
    """
    for pattern, replacement in RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def flows(raft: Any, frames: torch.Tensor, updates: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Flow of consecutive frames in both directions.

    Args:
        raft: torchvision's network.
        frames: float32 (N, 3, H, W) in [-1, 1]; N at least 2, H and W multiples of 8 and at least 128.
        updates: how often the flow is refined.

    Returns:
        Forward (frame i to i + 1) and backward (i + 1 to i), each float32 (N - 1, 2, H, W): pixels, x first.
    """
    features = raft.feature_encoder(frames)
    hidden, context = torch.split(raft.context_encoder(frames), [raft.update_block.hidden_state_size, 128], dim=1)
    hidden, context = torch.tanh(hidden), torch.relu(context)
    both = torch.arange(len(frames) - 1, device=frames.device)
    here, there = torch.cat([both, both + 1]), torch.cat([both + 1, both])
    raft.corr_block.build_pyramid(features[here], features[there])
    hidden, context = hidden[here], context[here]
    start = make_coords_grid(len(here), *features.shape[-2:]).to(frames)
    at = start
    for _ in range(updates):
        hidden, step = raft.update_block(hidden, context, raft.corr_block.index_pyramid(centroids_coords=at), at - start)
        at = at + step
    raft.corr_block.corr_pyramid = []
    found = upsample_flow(flow=at - start, up_mask=raft.mask_predictor(hidden))
    forward, backward = torch.split(found, len(both))
    return forward, backward
