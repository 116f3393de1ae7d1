"""Windows: how a clip of any length is cut for a model that makes a fixed number of frames at once.

A video VAE packs ``temporal`` frames into one latent, except the very first frame, which has a latent of its own: ``F = temporal * k + 1``
frames become ``k + 1`` latents. Windows share ``overlap`` frames; each is denoised by itself, its latents are added to those of the whole
clip at its place, and latents that two windows made are averaged. One decode of the whole then gives the frames.

Windows stay aligned with the clip only when ``overlap = 1 + temporal * j``. The default is 1: a window starts at the last frame of the one
before. The article's code uses 0, which places windows ``window - 1`` frames apart but reads them ``window`` frames apart, so its output
drifts one frame per window and is shorter than the clip (``cover=False`` reproduces it).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vpbench.errors import ConfigError

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Window:
    """One window.

    Attributes:
        frames: indices into the clip, one per frame of the window; the last window of ``cover`` turns round at the clip's end.
        latent: where its first latent lies among the latents of the whole clip.
        previous: index of the latent of the window before that holds this window's first frame; None for the first window.
    """

    frames: tuple[int, ...]
    latent: int
    previous: int | None


@dataclass(frozen=True)
class Plan:
    """All windows of a clip.

    Attributes:
        windows: in the order in which they are made.
        latents: latents of the whole clip.
        per_window: latents of one window.
        frames: frames of the clip.
        temporal: frames per latent.
    """

    windows: tuple[Window, ...]
    latents: int
    per_window: int
    frames: int
    temporal: int

    @property
    def decoded(self) -> int:
        """Frames that the latents stand for, the first latent for a single one."""
        return self.temporal * (self.latents - 1) + 1

    def counts(self) -> NDArray[np.int64]:
        """How many windows make each latent, int (latents,)."""
        counts = np.zeros(self.latents, np.int64)
        for window in self.windows:
            counts[window.latent : window.latent + self.per_window] += 1
        return counts


def plan(frames: int, window: int = 49, overlap: int = 1, temporal: int = 4, *, cover: bool = True) -> Plan:
    """Cut ``frames`` frames into windows.

    Args:
        frames: of the clip.
        window: frames that the model makes at once, ``temporal * k + 1``.
        overlap: frames that two windows share.
        temporal: frames per latent.
        cover: True: enough windows for every frame; the last one, and a clip shorter than a window, goes on with the clip played backwards
            (frames T-2, T-3, ...). False: as many whole windows as fit, trailing frames are left out.

    Raises:
        ConfigError: a window that is not ``temporal * k + 1`` frames, an overlap out of range, one that does not stay aligned (with
            ``cover``), or fewer frames than a window (without).
    """
    if window < temporal + 1 or (window - 1) % temporal:
        raise ConfigError(f"window={window}: a window has {temporal}k + 1 frames, such as {max(1, window // temporal) * temporal + 1}.")
    if not 0 <= overlap < window:
        raise ConfigError(f"overlap={overlap}: two windows of {window} frames share 0 to {window - 1} frames.")
    if cover and (overlap - 1) % temporal:
        raise ConfigError(
            f"overlap={overlap}: windows stay aligned with the clip only when they share {temporal}k + 1 frames (1, {temporal + 1}, ...). "
            "The article's overlap of 0, which drifts one frame per window, is compat=official."
        )
    if not cover and frames < window:
        raise ConfigError(f"the clip has {frames} frames and one window {window}; this many are needed.")
    stride = window - overlap
    per_window = (window - 1) // temporal + 1
    back = overlap // temporal  # latents before the last one where the next window's first frame lies
    count = max(1, -(-(frames - overlap) // stride)) if cover else (frames - window) // stride + 1
    step = per_window - (back + 1)
    windows = tuple(
        Window(
            frames=tuple(mirrored(i, frames) for i in range(w * stride, w * stride + window)),
            latent=w * step,
            previous=None if w == 0 else per_window - 1 - back,
        )
        for w in range(count)
    )
    return Plan(windows, step * (count - 1) + per_window, per_window, frames, temporal)


def mirrored(index: int, frames: int) -> int:
    """The frame that stands at ``index`` when a clip is played forwards and backwards in turn, without repeating its ends.

    >>> [mirrored(i, 4) for i in range(9)]
    [0, 1, 2, 3, 2, 1, 0, 1, 2]
    """
    if frames == 1:
        return 0
    index %= 2 * (frames - 1)
    return min(index, 2 * (frames - 1) - index)


def assemble(made: Sequence[torch.Tensor], layout: Plan) -> torch.Tensor:
    """Put the latents of all windows together; where windows overlap the mean, computed in the latents' own precision.

    Args:
        made: one (1, per_window, C, h, w) per window.
        layout: the windows.

    Returns:
        (1, latents, C, h, w).
    """
    total = made[0].new_zeros((1, layout.latents, *made[0].shape[2:]))
    for window, latents in zip(layout.windows, made, strict=True):
        total[:, window.latent : window.latent + layout.per_window] += latents
    for index, count in enumerate(layout.counts()):
        if count > 1:
            total[:, index] /= int(count)
    return total
