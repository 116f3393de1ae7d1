"""From noise to the latents of a clip of any length.

A clip longer than a window is denoised as a whole: at every step each window predicts the noise of its frames, where windows overlap the
predictions are cross-faded, and the step is taken once for the clip. So no window is finished before another begins, and none is pasted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler
from numpy.typing import NDArray

from vpbench.baselines.cococo.unet import predict


def ddim(steps: int) -> Any:
    """The scheduler that COCOCO was made for; its betas are linear, which those in the base checkpoint's file are not."""
    scheduler: Any = DDIMScheduler(  # type: ignore[no-untyped-call]
        beta_start=0.00085, beta_end=0.012, beta_schedule="linear", steps_offset=1, clip_sample=False, timestep_spacing="leading"
    )
    scheduler.set_timesteps(steps)
    return scheduler


def spans(frames: int, window: int | None, overlap: int) -> list[tuple[int, int]]:
    """Cut a clip into windows, ``[start, stop)`` each: all of ``window`` frames (or the one of a shorter clip), the last at the clip's end.

    >>> spans(30, 16, 4), spans(10, 16, 4), spans(30, None, 4)
    ([(0, 16), (12, 28), (14, 30)], [(0, 10)], [(0, 30)])
    """
    if window is None or frames <= window:
        return [(0, frames)]
    starts = [*range(0, frames - window, window - overlap), frames - window]
    return [(start, start + window) for start in starts]


def shares(frames: int, windows: list[tuple[int, int]]) -> list[NDArray[np.float32]]:
    """How much each window says about each of its frames: more the farther from its ends; together 1 for every frame."""
    ramps = [np.minimum(np.arange(1, stop - start + 1), np.arange(stop - start, 0, -1)) for start, stop in windows]
    total = np.zeros(frames)
    for (start, stop), ramp in zip(windows, ramps, strict=True):
        total[start:stop] += ramp
    return [(ramp / total[start:stop]).astype(np.float32) for (start, stop), ramp in zip(windows, ramps, strict=True)]


def sample(
    unet: Any,
    noise: torch.Tensor,
    mask: torch.Tensor,
    masked: torch.Tensor,
    texts: torch.Tensor,
    *,
    steps: int,
    guidance: float,
    windows: list[tuple[int, int]],
) -> torch.Tensor:
    """Denoise a clip.

    Args:
        unet: with motion modules, on the device of ``noise``.
        noise: (T, 4, h, w); its precision is that of the latents from step to step.
        mask: (T, 1, h, w), 1 = hole.
        masked: latents of the frames with a grey hole, (T, 4, h, w).
        texts: embeddings (2, N, D): of what guidance leads away from, and of the text; or (1, N, D), the text alone: no guidance.
        steps: of DDIM.
        guidance: strength of the text.
        windows: as ``spans`` returns them.

    Returns:
        (T, 4, h, w).
    """
    scheduler = ddim(steps)
    given = torch.cat([mask, masked], dim=1).to(unet.dtype)
    texts = texts.to(noise.device, unet.dtype)
    weights = [torch.from_numpy(share).to(noise)[:, None, None, None] for share in shares(len(noise), windows)]
    latents = noise
    for timestep in scheduler.timesteps:
        total = torch.zeros_like(latents)
        for (start, stop), weight in zip(windows, weights, strict=True):
            inputs = torch.cat([latents[start:stop].to(unet.dtype), given[start:stop]], dim=1)
            found = [predict(unet, inputs, timestep, text).to(latents) for text in texts]
            guided = found[0] if len(found) == 1 else found[0] + guidance * (found[1] - found[0])
            total[start:stop] += weight * guided
        latents = scheduler.step(total, timestep, latents).prev_sample
    return latents
