"""Attention that looks at the holes twice: ID resampling within a window, and a look back at the window before.

*ID resampling* (VideoPainter's adapter): keys and values are doubled by a copy in which every token outside the hole is set to zero before
the normalisation of the keys. Such a token is not gone: its key becomes the normalisation's bias, its value stays zero, so it takes
weight from the others and gives nothing. *Previous clip*: the copy comes from the previous window's hidden states instead; without the
adapter, attention to them is computed apart and mixed in by ``weight``.

Bian et al., "VideoPainter: Any-length Video Inpainting and Editing with Plug-and-Play Context Control", SIGGRAPH 2025.
Behaviour after the released code (TencentARC/VideoPainter, commit bbab6cd); checked against its outputs in
``tests/baselines/diffusion/test_videopainter_parity.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch.nn.functional import scaled_dot_product_attention as attend

Rope = tuple[torch.Tensor, torch.Tensor]  # cosines and sines, float32 (visual tokens, head width)


@dataclass(frozen=True)
class Resampling:
    """An attention processor for the blocks of ``CogVideoXTransformer3DModel``.

    Attributes:
        identity: whether the adapter is loaded: resample hole tokens.
    """

    identity: bool

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        image_rotary_emb: Rope | None = None,
        holes: torch.Tensor | None = None,
        previous: torch.Tensor | None = None,
        weight: float = 0.0,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend.

        Args:
            attn: the block's ``Attention``, whose projections and normalisations are used.
            hidden_states: visual tokens (B, N, d), modulated.
            encoder_hidden_states: text tokens (B, T, d), modulated.
            attention_mask: must be None.
            image_rotary_emb: for visual tokens.
            holes: bool (1, T + N, 1): tokens that are resampled; text never is. With ``previous`` those of the previous window.
            previous: tokens of the window before (B, T + N, d), text first, modulated.
            weight: of ``previous``, above 0.

        Returns:
            Visual tokens, text tokens.
        """
        assert attention_mask is None, "CogVideoX attends to everything"
        length = encoder_hidden_states.shape[1]
        tokens = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        query = _rotated(attn.norm_q(_heads(attn, attn.to_q(tokens))), image_rotary_emb, length)
        plain_key, plain_value = attn.to_k(tokens), attn.to_v(tokens)
        key, value = _ready(attn, plain_key, plain_value, image_rotary_emb, length)
        other_key, other_value = (plain_key, plain_value) if previous is None else (attn.to_k(previous), attn.to_v(previous))
        if self.identity:
            assert holes is not None, "resampling needs the holes"
            kept = holes.to(tokens.dtype) * (1.0 if previous is None else weight)
            again_key, again_value = _ready(attn, other_key * kept, other_value * kept, image_rotary_emb, length)
            result = attend(query, torch.cat([key, again_key], dim=2), torch.cat([value, again_value], dim=2))
        elif previous is not None:
            back_key, back_value = _ready(attn, other_key, other_value, image_rotary_emb, length)
            result = (1 - weight) * attend(query, key, value) + weight * attend(query, back_key, back_value)
        else:
            result = attend(query, key, value)
        result = attn.to_out[1](attn.to_out[0](result.transpose(1, 2).flatten(2)))
        return result[:, length:], result[:, :length]


def _heads(attn: Any, tokens: torch.Tensor) -> torch.Tensor:
    """(B, N, d) to (B, heads, N, head width)."""
    batch, count, width = tokens.shape
    return tokens.view(batch, count, attn.heads, width // attn.heads).transpose(1, 2)


def _ready(attn: Any, key: torch.Tensor, value: torch.Tensor, rope: Rope | None, length: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Projected keys and values as attention takes them: in heads, keys normalised and rotated."""
    return _rotated(attn.norm_k(_heads(attn, key)), rope, length), _heads(attn, value)


def _rotated(tokens: torch.Tensor, rope: Rope | None, length: int) -> torch.Tensor:
    """Rotate visual tokens by their place; text, the first ``length``, has none."""
    if rope is None:
        return tokens
    visual: Any = apply_rotary_emb(tokens[:, :, length:], rope)  # type: ignore[arg-type]
    return torch.cat([tokens[:, :, :length], visual], dim=2)
