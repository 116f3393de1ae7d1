"""Along a flow: sampling, where both directions agree, and visible pixels carried into the hole (no weights).

Tensors are (T, C, H, W). Flows are in pixels, x first; ``forward[i]`` leads from frame i to i + 1, ``backward[i]`` back. 1 is the hole.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import torch
from torch.nn import functional

RELATIVE, ABSOLUTE = 0.01, 0.5  # squared disagreement of the two directions that is let through: of the squared lengths, and in pixels^2
ANY = 0.1  # a warped mask above this is hole

Flows = tuple[torch.Tensor, torch.Tensor]


def warp(values: torch.Tensor, flow: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    """Fetch (N, C, H, W) from where the flow (N, 2, H, W) leads; 0 outside. In float32, whatever the types: half has a quarter pixel."""
    height, width = values.shape[-2:]
    flow = flow.float()
    rows = torch.arange(height, dtype=torch.float32, device=flow.device)[:, None]
    columns = torch.arange(width, dtype=torch.float32, device=flow.device)
    # in this order: with `nearest` the last bit decides which of two pixels is taken
    x = 2.0 * (columns + flow[:, 0]) / max(width - 1, 1) - 1.0
    y = 2.0 * (rows + flow[:, 1]) / max(height - 1, 1) - 1.0
    grid = torch.stack([x, y], dim=-1)
    return functional.grid_sample(values.float(), grid, mode=mode, padding_mode="zeros", align_corners=True).to(values.dtype)


def agree(flow: torch.Tensor, reverse: torch.Tensor) -> torch.Tensor:
    """Where the way back leads to where one came from: 1 or 0, (N, 1, H, W)."""
    flow, back = flow.float(), warp(reverse.float(), flow)
    apart = (flow + back).square().sum(1, keepdim=True)
    lengths = flow.square().sum(1, keepdim=True) + back.square().sum(1, keepdim=True)
    return (apart < RELATIVE * lengths + ABSOLUTE).float()


def passes(count: int, flows: Flows) -> Iterator[tuple[range, torch.Tensor, torch.Tensor]]:
    """The two passes over a clip, from its end and from its start: the order of the frames, the flow by which frame i fetches from the
    one before it in this order (in row ``i``, or ``i - 1`` where the order ascends), and the flow back.
    """
    forward, backward = flows
    yield range(count - 1, -1, -1), forward, backward
    yield range(count), backward, forward


def propagate(frames: torch.Tensor, flows: Flows, masks: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Carry visible pixels into the hole, first from later frames, then from earlier ones.

    Args:
        frames: (T, 3, H, W), 0 in the hole.
        flows: completed, each (T - 1, 2, H, W).
        masks: (T, 1, H, W), 1 = hole.

    Returns:
        The frames with what was found, and what is hole still.
    """
    found, holes = list(torch.split(frames, 1)), list(torch.split(masks, 1))
    for order, flow, reverse in passes(len(frames), flows):
        agreed = agree(flow, reverse) if len(flow) else flow
        shift = 0 if order.step < 0 else -1
        for before, i in itertools.pairwise(order):
            along = flow[i + shift, None]
            fetched = warp(found[before], along, "nearest")
            seen = agreed[i + shift, None] * (1 - _binary(warp(holes[before], along)))
            use = holes[i] * seen
            found[i] = use * fetched + (1 - use) * found[i]
            holes[i] = holes[i] * (1 - seen)
    return torch.cat(found), torch.cat(holes)


def _binary(mask: torch.Tensor) -> torch.Tensor:
    return (mask > ANY).to(mask.dtype)
