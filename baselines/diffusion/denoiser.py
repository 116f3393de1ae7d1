"""One call of CogVideoX's transformer, written over its stock blocks so that a context encoder can add to what they pass on.

The loop is ours, every layer is diffusers' own: checkpoints load unchanged, ``torch.compile`` and fused attention work on the blocks,
and no hidden state is kept that nobody reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.embeddings import get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid

BASE = (480, 720)  # the picture that rotary positions are laid out for, whatever the checkpoint says; pixels, height and width


@dataclass
class Extras:
    """What else goes into a call.

    Attributes:
        features: of the context encoder, (B, N, d) each; the first is added after the first blocks, the next after the next, and so on.
        holes: bool (1, N, 1), True where a token holds a hole: nothing is added there. None: added everywhere.
        resampled: bool (1, T + N, 1), the tokens that ``adapter.Resampling`` resamples; None without the adapter.
        previous: hidden states of the window before, one per block, (B, T + N, d), text first; None to not look back.
        weight: of ``previous``.
        keep: where the hidden states after each block go; None: they are not kept.
        keep_on: the device on which they are kept.
    """

    features: Sequence[torch.Tensor] = ()
    holes: torch.Tensor | None = None
    resampled: torch.Tensor | None = None
    previous: Sequence[torch.Tensor] | None = None
    weight: float = 0.0
    keep: list[torch.Tensor] | None = None
    keep_on: Any = None


def predict(
    transformer: Any,
    latents: torch.Tensor,
    text: torch.Tensor,
    timestep: torch.Tensor,
    rope: tuple[torch.Tensor, torch.Tensor],
    extras: Extras | None = None,
) -> torch.Tensor:
    """Run ``transformer`` (a ``CogVideoXTransformer3DModel``).

    Args:
        transformer: loaded, in evaluation mode.
        latents: (B, L, channels, h, w), the image condition included.
        text: (B, T, width).
        timestep: int (B,).
        rope: from ``rotary``.
        extras: what the context encoder adds.

    Returns:
        (B, L, out channels, h, w).
    """
    extras = extras or Extras()
    batch, frames, _, height, width = latents.shape
    embedding = transformer.time_embedding(transformer.time_proj(timestep).to(latents.dtype))
    tokens = transformer.embedding_dropout(transformer.patch_embed(text, latents))
    words, visual = tokens[:, : text.shape[1]], tokens[:, text.shape[1] :]
    count = len(transformer.transformer_blocks)
    for index, block in enumerate(transformer.transformer_blocks):
        attention = _attention(block, index, embedding, text.shape[1], extras)
        visual, words = block(visual, words, embedding, image_rotary_emb=rope, attention_kwargs=attention)
        if extras.features:
            feature = extras.features[feature_of(index, count, len(extras.features))]
            visual = visual + feature if extras.holes is None else torch.where(extras.holes, visual, visual + feature)
        if extras.keep is not None:
            extras.keep.append(torch.cat([words, visual], dim=1).to(extras.keep_on))
    visual = transformer.proj_out(transformer.norm_out(transformer.norm_final(visual), temb=embedding))
    patch = transformer.config.patch_size
    grid = visual.unflatten(2, (-1, patch, patch)).unflatten(1, (frames, height // patch, width // patch))
    result: torch.Tensor = grid.permute(0, 1, 4, 2, 5, 3, 6).reshape(batch, frames, -1, height, width)
    return result


def feature_of(block: int, blocks: int, features: int) -> int:
    """Which of the context encoder's features is added after a block: blocks in equal groups, the last group may be smaller.

    >>> [feature_of(i, 5, 2) for i in range(5)]
    [0, 0, 0, 1, 1]
    """
    return block // -(-blocks // features)


def rotary(transformer: Any, frames: int, height: int, width: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Rotary positions of the visual tokens: cosines and sines, float32 (frames * tokens per frame, head width).

    Args:
        transformer: for its patch size and head width.
        frames: latent frames.
        height: of a latent frame.
        width: of a latent frame.
        device: where they are needed.
    """
    patch = transformer.config.patch_size
    grid = (height // patch, width // patch)
    base_height, base_width = (side // (8 * patch) for side in BASE)
    crop = get_resize_crop_region_for_grid(grid, base_width, base_height)  # type: ignore[no-untyped-call]
    cosines, sines = get_3d_rotary_pos_embed(transformer.config.attention_head_dim, crop, grid, frames, device=device)
    return cosines, sines


def _attention(block: Any, index: int, embedding: torch.Tensor, words: int, extras: Extras) -> dict[str, Any] | None:
    """Keywords of ``adapter.Resampling``: the holes, and the previous window's hidden states in this block's own modulation."""
    if extras.previous is None:
        return None if extras.resampled is None else {"holes": extras.resampled}
    tokens = extras.previous[index].to(embedding.device)
    visual, text, _, _ = block.norm1(tokens[:, words:], tokens[:, :words], embedding)
    return {"holes": extras.resampled, "previous": torch.cat([text, visual], dim=1), "weight": extras.weight}
