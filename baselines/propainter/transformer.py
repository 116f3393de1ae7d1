"""The sparse window transformer: 8 blocks over tokens of all frames of a window in time.

The token grid of each frame is cut into windows of 5 x 9. Windows that the hole touches, in any local frame, attend to themselves, to a
ring of tokens around them and to a coarse version of the whole picture, in every second frame; all others to themselves alone.
Attribute names are those of the tensors in ``ProPainter.pth``.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import nn
from torch.nn import functional

WIDTH, HEADS, HIDDEN = 512, 4, 1960
WINDOW = (5, 9)  # tokens, down and across
SHIFT = (3, 5)  # how far the grid is rolled, each way, to get the ring around a window
POOL = 4
EVERY = 2  # block i reads keys of frames i % 2, i % 2 + 2, ...
PATCH: dict[str, Any] = {"kernel_size": 7, "stride": 3, "padding": 3}  # of pixels of the feature map that a token stands for


def grid(height: int, width: int) -> tuple[int, int]:
    """Tokens down and across for a feature map."""
    return (height - 1) // 3 + 1, (width - 1) // 3 + 1


class Transformer(nn.Module):
    """All blocks."""

    def __init__(self, depth: int = 8) -> None:
        super().__init__()
        self.transformer = nn.ModuleList(Block() for _ in range(depth))

    def forward(self, tokens: torch.Tensor, masks: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """Run the blocks; the last one for local frames alone, since nothing reads the others.

        Args:
            tokens: (T, rows, columns, 512), local frames first.
            masks: (L, 1, rows, columns) of the L local frames, above 0 where the hole is.
            size: of the feature map.

        Returns:
            (L, rows, columns, 512).
        """
        touched = _touched(masks)
        last = len(self.transformer) - 1
        for i, block in enumerate(self.transformer):
            tokens = block(tokens, touched, slice(i % EVERY, None, EVERY), size, len(masks) if i == last else len(tokens))
        return tokens


class Block(nn.Module):
    """Attention, then a feed-forward network whose hidden values neighbouring tokens share."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.norm2 = nn.LayerNorm(WIDTH)
        self.mlp = SharingFeedForward()

    def forward(self, x: torch.Tensor, touched: torch.Tensor, keys: slice, size: tuple[int, int], count: int) -> torch.Tensor:
        """(T, rows, columns, 512) to the same for the first ``count`` frames."""
        x = x[:count] + self.attention(self.norm1(x), touched, keys, count)
        return x + self.mlp(self.norm2(x), size)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Attention inside windows."""

    valid_ind_rolled: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.key = nn.Linear(WIDTH, WIDTH)
        self.query = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.proj = nn.Linear(WIDTH, WIDTH)
        self.pool_layer = nn.Conv2d(WIDTH, WIDTH, POOL, stride=POOL, groups=WIDTH)
        self.register_buffer("valid_ind_rolled", ring())

    def forward(self, x: torch.Tensor, touched: torch.Tensor, keys: slice, count: int) -> torch.Tensor:
        """Attend.

        Args:
            x: (T, rows, columns, 512), normalised.
            touched: bool (windows,), row by row.
            keys: the frames that touched windows read.
            count: the first frames of the T, which ask.

        Returns:
            (count, rows, columns, 512).
        """
        rows, columns = x.shape[1:3]
        down, across = -(-rows // WINDOW[0]), -(-columns // WINDOW[1])
        x = functional.pad(x, (0, 0, 0, across * WINDOW[1] - columns, 0, down * WINDOW[0] - rows))
        places, ringed = (table.to(x.device) for table in tables(down, across, self.valid_ind_rolled.cpu()))
        query, key, value = self.query(x[:count]).flatten(1, 2), self.key(x).flatten(1, 2), self.value(x).flatten(1, 2)
        found = torch.empty_like(query)  # (count, places, 512)

        own = places[~touched]  # (windows, 45)
        if len(own):
            asked, known, content = (_heads(part[:count, own].flatten(0, 1)) for part in (query, key, value))
            answer = functional.scaled_dot_product_attention(asked, known, content)
            found[:, own.flatten()] = answer.transpose(1, 2).reshape(count, -1, WIDTH)
        own = places[touched]
        if len(own):
            coarse = self.pool_layer(x[keys].permute(0, 3, 1, 2)).flatten(2).transpose(1, 2)  # (T', coarse, 512)
            around = torch.cat([own, ringed[touched]], dim=1)  # (windows, 193)
            known = _of_windows(key[keys], around, self.key(coarse))
            content = _of_windows(value[keys], around, self.value(coarse))
            asked = _heads(query[:, own].transpose(0, 1).flatten(1, 2))
            answer = functional.scaled_dot_product_attention(asked, known, content)  # (windows, heads, count * 45, 128)
            answer = answer.transpose(1, 2).reshape(len(own), count, -1, WIDTH)
            found[:, own.flatten()] = answer.transpose(0, 1).flatten(1, 2)
        found = found.view(count, down * WINDOW[0], across * WINDOW[1], WIDTH)[:, :rows, :columns]
        return self.proj(found)  # type: ignore[no-any-return]


class SharingFeedForward(nn.Module):
    """The hidden values of a token are a patch of a picture; where patches overlap they are averaged."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Sequential(nn.Linear(WIDTH, HIDDEN))
        self.fc2 = nn.Sequential(nn.GELU(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, x: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(T, rows, columns, 512) to the same."""
        picture = functional.fold(self.fc1(x).flatten(1, 2).transpose(1, 2), size, **PATCH)
        picture = self.fc2[0](picture / overlaps(size, picture.device).to(picture.dtype))  # the same before and after it is cut up
        return self.fc2[1](functional.unfold(picture, **PATCH).transpose(1, 2)).view(x.shape)  # type: ignore[no-any-return]


@functools.lru_cache(maxsize=8)
def overlaps(size: tuple[int, int], device: torch.device) -> torch.Tensor:
    """How many patches cover each place of a feature map, (1, 1, height, width)."""
    rows, columns = grid(*size)
    return functional.fold(torch.ones(1, 49, rows * columns, device=device), size, **PATCH)


def ring() -> torch.Tensor:
    """Which of the 4 x 45 tokens of four rolled grids are not in the window itself, int64 (148,)."""
    with torch.device("cpu"):  # values, also where a network is made without any
        row, column = torch.meshgrid(torch.arange(WINDOW[0]), torch.arange(WINDOW[1]), indexing="ij")
    above, left = row < WINDOW[0] - SHIFT[0], column < WINDOW[1] - SHIFT[1]
    below, right = row >= SHIFT[0], column >= SHIFT[1]
    inside = [(above if down < 0 else below) & (left if across < 0 else right) for down, across in _shifts()]
    return (~torch.stack(inside)).flatten().nonzero().flatten()


_TABLES: dict[tuple[int, int, bytes], tuple[torch.Tensor, torch.Tensor]] = {}


def tables(down: int, across: int, kept: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where the tokens of each window lie in the grid, row by row.

    Args:
        down: windows down.
        across: windows across.
        kept: see ``ring``.

    Returns:
        int64 (windows, 45): the window itself; int64 (windows, 148): those around it, across the picture's border too.
    """
    key = (down, across, kept.numpy().tobytes())
    if key not in _TABLES:
        numbers = torch.arange(down * WINDOW[0] * across * WINDOW[1]).view(down * WINDOW[0], across * WINDOW[1])
        around = [_windows(torch.roll(numbers, shift, dims=(0, 1))) for shift in _shifts()]
        _TABLES[key] = _windows(numbers), torch.cat(around, dim=1)[:, kept]
    return _TABLES[key]


def _shifts() -> list[tuple[int, int]]:
    return [(down * SHIFT[0], across * SHIFT[1]) for down in (-1, 1) for across in (-1, 1)]


def _windows(values: torch.Tensor) -> torch.Tensor:
    """(rows, columns) to (windows, 45)."""
    rows, columns = values.shape
    cut = values.view(rows // WINDOW[0], WINDOW[0], columns // WINDOW[1], WINDOW[1])
    return cut.transpose(1, 2).reshape(-1, WINDOW[0] * WINDOW[1])


def _touched(masks: torch.Tensor) -> torch.Tensor:
    """Which windows the hole touches in any frame, bool (windows,)."""
    rows, columns = masks.shape[-2:]
    padded = functional.pad(masks.float().amax(0), (0, -columns % WINDOW[1], 0, -rows % WINDOW[0]))
    return functional.max_pool2d(padded, WINDOW).flatten() > 0


def _heads(x: torch.Tensor) -> torch.Tensor:
    """(N, tokens, 512) to (N, heads, tokens, 128)."""
    return x.reshape(*x.shape[:-1], HEADS, WIDTH // HEADS).transpose(1, 2)


def _of_windows(x: torch.Tensor, around: torch.Tensor, coarse: torch.Tensor) -> torch.Tensor:
    """Keys or values of windows: (T', places, 512) at ``around`` (windows, 193), and (T', coarse, 512) for all, by head."""
    near = x[:, around].transpose(0, 1)  # (windows, T', 193, 512)
    return _heads(torch.cat([near, coarse.expand(len(around), *coarse.shape)], dim=2).flatten(1, 2))
