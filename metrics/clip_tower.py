"""The same image embeddings from less work: what ``vpbench.metrics.clip_encoder`` changes in ``open_clip``'s vision transformer.

* The embedding is read from the class token alone, so the last block computes only that token: 1/24 of ViT-L/14, 1/12 of ViT-B/32.
* On the CPU the linear layers of the blocks' MLPs, two thirds of the multiplications, run in oneDNN on weights that are laid out for it
  once (PyTorch's own matrix product goes to MKL, which is slower on many machines and never faster by much).

Both change results by float32 rounding only; ``tests/parity/test_clip_parity.py`` compares with the plain network.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn


def lighten(visual: Any, device: str) -> None:
    """Change an ``open_clip`` vision transformer in place; it must be on the device already, and for inference only."""
    blocks = visual.transformer.resblocks
    if device == "cpu" and _has_onednn():
        tokens = len(visual.positional_embedding)
        for block in blocks:
            block.mlp.c_fc, block.mlp.c_proj = _Packed(block.mlp.c_fc, tokens), _Packed(block.mlp.c_proj, tokens)
    blocks[-1] = _ClassToken(blocks[-1])


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and all(  # type: ignore[no-untyped-call]
        hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")
    )


class _ClassToken(nn.Module):
    """A residual attention block that computes the first token only: (N, tokens, D) to (N, 1, D)."""

    def __init__(self, block: Any) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: torch.Tensor, attn_mask: None = None) -> torch.Tensor:
        block = self.block
        seen = block.ln_1(x)
        first = x[:, :1] + block.ls_1(block.attn(seen[:, :1], seen, seen, need_weights=False)[0])
        result: torch.Tensor = first + block.ls_2(block.mlp(block.ln_2(first)))
        return result


class _Packed(nn.Module):
    """A linear layer in oneDNN, on the CPU, with weights laid out for inputs of ``rows`` rows (others work too)."""

    def __init__(self, layer: nn.Linear, rows: int) -> None:
        super().__init__()
        self.bias = layer.bias
        self.packed = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach(), rows)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return result
