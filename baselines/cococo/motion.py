"""The motion modules of COCOCO: what its frames know of one another.

Zi et al., "CoCoCo: Improving Text-Guided Video Inpainting for Better Consistency, Controllability and Compatibility", arXiv 2403.12035.
A module stands behind every unit of the image network. It has two attentions over the frames of each pixel, one over all pixels of all
frames (of a picture made small first), one from each pixel to the words, and a feed-forward layer. Names of parameters are those of the
released files.

Values run as (F, d, C): frames, pixels row by row, channels. A clip is worked on alone, so there is no batch.
"""

from __future__ import annotations

import functools
import math
from typing import cast

import torch
from diffusers.models.attention import FeedForward
from torch import nn
from torch.nn import functional

HEADS = 8
GLOBAL_ROWS = 12  # pictures with more rows than this are made this small for the attention over everything
WIDTH_OF_TEXT = 768
PERIOD = 10_000.0


@functools.lru_cache(maxsize=8)
def positions(count: int, width: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """The sine and cosine code of positions 0 to ``count - 1``, (count, width): even columns sines, odd ones cosines.

    The released network keeps tables of 64 and 10,000 rows; here a row is computed when it is needed, and any number can be.
    """
    steps = torch.arange(count, device=device, dtype=torch.float32)[:, None]
    waves = torch.exp(torch.arange(0, width, 2, device=device, dtype=torch.float32) * (-math.log(PERIOD) / width))
    return torch.stack([torch.sin(steps * waves), torch.cos(steps * waves)], dim=-1).flatten(1).to(dtype)


def small_size(height: int, width: int) -> tuple[int, int]:
    """The size at which a picture enters the attention over everything: its rows decide alone.

    >>> small_size(30, 54), small_size(12, 90), small_size(44, 24), small_size(90, 5)
    ((12, 21), (12, 90), (12, 6), (12, 1))
    """
    if height <= GLOBAL_ROWS:
        return height, width
    # in this order: the rounding is part of the released network, which has no answer where nothing is left
    return GLOBAL_ROWS, max(1, int(GLOBAL_ROWS / height * width))


def tokens(frames: int, height: int, width: int) -> int:
    """The most tokens that attend to each other in one pass, over all levels of the network.

    Args:
        frames: made at once.
        height: of the latents.
        width: of the latents.

    >>> tokens(44, 45, 80)  # 640x360
    11088
    """
    most = 0
    for _ in range(4):
        rows, columns = small_size(height, width)
        most = max(most, frames * rows * columns)
        height, width = -(-height // 2), -(-width // 2)
    return most


class Attention(nn.Module):
    """Attention of eight heads.

    Args:
        width: channels of the queries, and of the result.
        context: channels of what is attended to.
    """

    def __init__(self, width: int, context: int | None = None) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context or width, width, bias=False)
        self.to_v = nn.Linear(context or width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(self, x: torch.Tensor, context: torch.Tensor | None = None) -> torch.Tensor:
        """From (N, L, width), and (N, M, context) where that is not ``x`` itself, to (N, L, width)."""
        other = x if context is None else context
        query, key, value = (_heads(layer(values)) for layer, values in ((self.to_q, x), (self.to_k, other), (self.to_v, other)))
        made: torch.Tensor = self.to_out[0](functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))
        return made

    def over_frames(self, x: torch.Tensor) -> torch.Tensor:
        """From (F, d, width) to the same: each pixel attends to itself in all frames. Only the heads change places, not the pixels."""
        query, key, value = (
            layer(x).reshape(*x.shape[:2], HEADS, -1).permute(1, 2, 0, 3)  # (d, heads, F, width / heads)
            for layer in (self.to_q, self.to_k, self.to_v)
        )
        made: torch.Tensor = self.to_out[0](functional.scaled_dot_product_attention(query, key, value).permute(2, 0, 1, 3).flatten(2))
        return made


class MotionBlock(nn.Module):
    """Four attentions and a feed-forward layer, each added to what it read."""

    def __init__(self, width: int, text: int) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList([*(Attention(width) for _ in range(3)), Attention(width, text)])
        self.norms = nn.ModuleList([nn.LayerNorm(width) for _ in range(4)])
        self.ff = FeedForward(width, activation_fn="geglu")
        self.ff_norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor, words: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """From (F, height * width, C) and words (1, N, text) to (F, height * width, C)."""
        first, second, whole, text = (cast(Attention, block) for block in self.attention_blocks)
        frames, pixels, channels = x.shape
        time = positions(frames, channels, x.dtype, x.device)[:, None]
        for attention, norm in ((first, self.norms[0]), (second, self.norms[1])):
            x = x + attention.over_frames(norm(x) + time)
        x = x + self._globally(whole, self.norms[2](x), height, width)
        # Every pixel reads the same words, so all pixels of all frames are one sequence and the words are projected once.
        x = x + text((self.norms[3](x) + time).reshape(1, frames * pixels, channels), words).reshape(x.shape)
        made: torch.Tensor = x + self.ff(self.ff_norm(x))
        return made

    @staticmethod
    def _globally(attention: nn.Module, x: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Attention of every pixel of every frame to every other, at ``small_size``, and back."""
        frames, _, channels = x.shape
        rows, columns = small_size(height, width)
        if rows != height:
            picture = x.transpose(1, 2).reshape(frames, channels, height, width)
            x = functional.interpolate(picture, (rows, columns)).flatten(2).transpose(1, 2)
        flat = x.reshape(1, frames * rows * columns, channels)
        x = attention(flat + positions(flat.shape[1], channels, x.dtype, x.device)).reshape(frames, rows * columns, channels)
        if rows != height:
            picture = x.transpose(1, 2).reshape(frames, channels, rows, columns)
            x = functional.interpolate(picture, (height, width)).flatten(2).transpose(1, 2)
        return x


class MotionTransformer(nn.Module):
    """A motion block between two projections, added to what came in.

    Args:
        width: channels.
        text: channels of the words.
        groups: of the normalisation, which is that of each frame by itself.
    """

    def __init__(self, width: int, text: int, groups: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(groups, width, eps=1e-6)
        self.proj_in = nn.Linear(width, width)
        self.transformer_blocks = nn.ModuleList([MotionBlock(width, text)])
        self.proj_out = nn.Linear(width, width)

    def forward(self, x: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """From pictures (F, C, h, w) and words (1, N, text) to pictures."""
        height, width = x.shape[2:]
        y = self.proj_in(self.norm(x).flatten(2).transpose(1, 2))
        for block in self.transformer_blocks:
            y = block(y, words, height, width)
        made: torch.Tensor = x + self.proj_out(y).transpose(1, 2).reshape(x.shape)
        return made


class MotionModule(nn.Module):
    """A motion transformer under the name that it has in the released files."""

    def __init__(self, width: int, text: int = WIDTH_OF_TEXT, groups: int = 32) -> None:
        super().__init__()
        self.temporal_transformer = MotionTransformer(width, text, groups)

    def forward(self, x: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        """See ``MotionTransformer``."""
        made: torch.Tensor = self.temporal_transformer(x, words)
        return made


def _heads(x: torch.Tensor) -> torch.Tensor:
    """(N, L, C) as (N, heads, L, C / heads)."""
    return x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)
