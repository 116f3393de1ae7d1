"""The network of COCOCO: diffusers' own inpainting UNet with a motion module behind each of its units, and the way through it.

All layers of the image network see the frames as so many pictures; the motion modules see the clip. They hang in its blocks, so that the
released names of parameters fit as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from vpbench.baselines.cococo.motion import MotionModule

MOTION = ".motion_modules."  # what the names of all parameters of the motion modules have


class TextOnce:
    """Attention from pictures to words for diffusers' layers: the words, which are the same for all frames, are projected once."""

    def __call__(self, attn: Any, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **_: Any) -> torch.Tensor:
        """From (F, d, C) and words (1, N, text) to (F, d, C)."""
        query, key, value = (
            layer(x).reshape(1, -1, attn.heads, attn.inner_dim // attn.heads).transpose(1, 2)
            for layer, x in ((attn.to_q, hidden_states), (attn.to_k, encoder_hidden_states), (attn.to_v, encoder_hidden_states))
        )
        made: torch.Tensor = functional.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(hidden_states.shape)
        return attn.to_out[0](made)  # type: ignore[no-any-return]


def attach(unet: Any, *, device: torch.device | str | None = None) -> Any:
    """Hang the motion modules into an image network, in its precision.

    Args:
        unet: a ``UNet2DConditionModel`` of diffusers; changed.
        device: where the new parameters are made; ``meta``: they have shapes and no values, until weights are assigned.

    Returns:
        ``unet``.
    """
    text, groups = int(unet.config.cross_attention_dim), int(unet.config.norm_num_groups)
    with torch.device(device or unet.device):
        for block in (*unet.down_blocks, *unet.up_blocks):
            modules = [MotionModule(resnet.out_channels, text, groups) for resnet in block.resnets]
            block.motion_modules = nn.ModuleList(modules).to(unet.dtype)
        last = unet.mid_block.resnets[-1].out_channels
        unet.mid_block.motion_modules = nn.ModuleList([MotionModule(last, text, groups)]).to(unet.dtype)
    for transformer in _transformers(unet):
        for block in transformer.transformer_blocks:
            block.attn2.set_processor(TextOnce())
    return unet.eval()


def predict(unet: Any, sample: torch.Tensor, timestep: torch.Tensor | int, words: torch.Tensor) -> torch.Tensor:
    """The noise in a clip's latents.

    Args:
        unet: with motion modules.
        sample: (F, 9, h, w): noisy latents (4), mask (1), latents of the masked frames (4).
        timestep: the level of the noise.
        words: (N, text), the embedding of one text.

    Returns:
        (F, 4, h, w).
    """
    words = words[None]
    level = torch.as_tensor(timestep, device=sample.device).reshape(1)
    time = unet.time_embedding(unet.time_proj(level).to(sample.dtype))  # one row for all frames
    x = unet.conv_in(sample)
    skips = [x]
    for block in unet.down_blocks:
        for index, (resnet, motion) in enumerate(zip(block.resnets, block.motion_modules, strict=True)):
            x = motion(_attended(block, index, resnet(x, time), words), words)
            skips.append(x)
        for down in block.downsamplers or ():
            x = down(x)
            skips.append(x)
    first, second = unet.mid_block.resnets
    x = unet.mid_block.motion_modules[0](_attended(unet.mid_block, 0, first(x, time), words), words)
    x = second(x, time)
    for block in unet.up_blocks:
        for index, (resnet, motion) in enumerate(zip(block.resnets, block.motion_modules, strict=True)):
            x = resnet(torch.cat([x, skips.pop()], dim=1), time)
            x = motion(_attended(block, index, x, words), words)
        for up in block.upsamplers or ():
            x = up(x, skips[-1].shape[2:])  # the size of what comes next, also where halving had rounded up
    made: torch.Tensor = unet.conv_out(unet.conv_act(unet.conv_norm_out(x)))
    return made


def _attended(block: Any, index: int, x: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
    """``x`` through the block's spatial transformer, where it has any."""
    transformers = getattr(block, "attentions", None)
    if transformers is None:
        return x
    made: torch.Tensor = transformers[index](x, encoder_hidden_states=words, return_dict=False)[0]
    return made


def _transformers(unet: Any) -> Iterator[Any]:
    for block in (*unet.down_blocks, unet.mid_block, *unet.up_blocks):
        yield from getattr(block, "attentions", None) or ()
