"""From frames to frames, for clips of any length: each step works through the clip in pieces, so that the device holds one piece at a time.

What belongs to a whole clip lies on the host: frames and flows as (T, C, H, W), masks as 1 = hole. Pieces overlap as those of the
authors' command line do, and what the overlap made is dropped, so that the pieces are the same for everybody.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from vpbench.baselines.propainter import raft
from vpbench.baselines.propainter.completion import complete
from vpbench.baselines.propainter.propagation import Flows, propagate

FLOW_CONTEXT, FRAME_CONTEXT = 5, 10  # flows and frames that a piece sees on either side of its own
MOST_PROPAGATED = 100  # frames of a piece of the propagation, however long subvideos are


def pieces(count: int, length: int | None, context: int) -> Iterator[tuple[slice, slice]]:
    """Cut ``count`` things into pieces.

    Args:
        count: of things.
        length: of a piece; None: all.
        context: things that a piece sees on either side.

    Yields:
        What a piece sees, and which part of that is its own.

    >>> list(pieces(10, 4, 1))
    [(slice(0, 5, None), slice(0, 4, None)), (slice(3, 9, None), slice(1, 5, None)), (slice(7, 10, None), slice(1, 3, None))]
    """
    if length is None or count <= length:
        yield slice(0, count), slice(0, count)
        return
    for start in range(0, count, length):
        stop = min(count, start + length)
        first = max(0, start - context)
        yield slice(first, min(count, stop + context)), slice(start - first, stop - first)


def flows(network: Any, frames: torch.Tensor, length: int, updates: int, device: torch.device) -> Flows:
    """Optical flow between neighbours, both ways.

    Args:
        network: RAFT.
        frames: float32 (T, 3, H, W) in [-1, 1]; H and W multiples of 8, at least 128.
        length: frames of a piece.
        updates: of RAFT.
        device: where it runs.

    Returns:
        Forward and backward, each float32 (T - 1, 2, H, W), on the host.
    """
    count, _, height, width = frames.shape
    empty = frames.new_zeros((0, 2, height, width))
    found: list[Flows] = [(empty, empty)]
    if count > 1:
        for start in range(0, count, length):
            piece = frames[max(0, start - 1) : start + length]  # one frame earlier, so that every pair is in a piece
            if len(piece) > 1:
                forward, backward = raft.flows(network, piece.to(device), updates)
                found.append((forward.cpu(), backward.cpu()))
    return torch.cat([forward for forward, _ in found]), torch.cat([backward for _, backward in found])


def completed(network: Any, found: Flows, masks: torch.Tensor, length: int | None, device: torch.device) -> Flows:
    """Flow inside the hole, see ``completion.complete``; the same shapes, on the host."""
    if not len(found[0]):
        return found
    made: list[Flows] = []
    for seen, own in pieces(len(found[0]), length, FLOW_CONTEXT):
        holes = masks[seen.start : seen.stop + 1].to(device)
        forward, backward = complete(network, (found[0][seen].to(device), found[1][seen].to(device)), holes)
        made.append((forward[own].cpu(), backward[own].cpu()))
    return torch.cat([forward for forward, _ in made]), torch.cat([backward for _, backward in made])


def propagated(
    frames: torch.Tensor, along: Flows, masks: torch.Tensor, length: int | None, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Carry visible pixels into the hole, see ``propagation.propagate``.

    Args:
        frames: float32 (T, 3, H, W); what the hole holds has no influence.
        along: completed flows.
        masks: (T, 1, H, W).
        length: frames of a piece.
        device: where it runs.

    Returns:
        Frames with what was found, float32 (T, 3, H, W), and what is hole still, (T, 1, H, W); on the host.
    """
    made, left = [], []
    for seen, own in pieces(len(frames), length if length is None else min(length, MOST_PROPAGATED), FRAME_CONTEXT):
        holes = masks[seen].to(device)
        between = slice(seen.start, seen.stop - 1)
        visible = frames[seen].to(device) * (1 - holes)
        updated, holes = propagate(visible, (along[0][between].to(device), along[1][between].to(device)), holes)
        made.append(updated[own].cpu())
        left.append(holes[own].cpu())
    return torch.cat(made), torch.cat(left)


def windows(count: int, neighbours: int, stride: int, length: int | None) -> Iterator[tuple[range, list[int]]]:
    """The generator's windows in time.

    Args:
        count: frames of the clip.
        neighbours: length of a window, about; windows follow each other by half of it.
        stride: of the frames elsewhere that a window looks at.
        length: of a subvideo: a longer clip's windows look at frames of such a neighbourhood alone. None: at those of the whole clip.

    Yields:
        The frames that a window makes, and those that it looks at besides.
    """
    half = neighbours // 2
    for middle in range(0, count, half):
        local = range(max(0, middle - half), min(count, middle + half + 1))
        if length is None or count <= length:
            yield local, [i for i in range(0, count, stride) if i not in local]
            continue
        most = length // stride
        reach = stride * (most // 2)
        near = [i for i in range(max(0, middle - reach), min(count, middle + reach), stride) if i not in local]
        yield local, near[: most + 1]


def filled(
    network: Any,
    frames: torch.Tensor,
    along: Flows,
    masks: torch.Tensor,
    left: torch.Tensor,
    layout: Iterator[tuple[range, list[int]]],
    device: torch.device,
    idle: bool,
) -> Iterator[tuple[range, torch.Tensor]]:
    """Run the generator over windows in time. What belongs to one frame is made once, however many windows it is in.

    Args:
        network: the generator.
        frames: float32 (T, 3, H, W) after propagation.
        along: completed flows.
        masks: (T, 1, H, W).
        left: (T, 1, H, W), what is hole after propagation.
        layout: of ``windows``.
        device: where it runs.
        idle: leave out windows without a hole.

    Yields:
        Which frames, and their pixels, (L, 3, H, W) in (-1, 1), on the device.
    """
    dtype = next(network.parameters()).dtype
    features: dict[int, torch.Tensor] = {}  # on the device, of frames that the next window has too
    tokens: dict[int, torch.Tensor] = {}  # on the host, of frames that windows look at

    def ready(source: torch.Tensor, which: list[int] | range) -> torch.Tensor:
        return source[list(which)].to(device, dtype)

    def encoded(which: list[int]) -> torch.Tensor:
        made: torch.Tensor = network.encode(ready(frames, which), ready(masks, which), ready(left, which))
        return made

    for local, elsewhere in layout:
        if idle and not masks[local.start : local.stop].any():
            continue
        features = {i: features[i] for i in local if i in features}
        if new := [i for i in local if i not in features]:
            features |= dict(zip(new, encoded(new), strict=True))
        if new := [i for i in elsewhere if i not in tokens]:
            for i in new:  # one by one: there may be many, and they are made once
                tokens[i] = network.split(encoded([i]))[0].cpu()
        between = slice(local.start, local.stop - 1)
        yield (
            local,
            network.fill(
                torch.stack([features[i] for i in local]),
                [tokens[i].to(device) for i in elsewhere],
                (along[0][between].to(device), along[1][between].to(device)),
                ready(masks, local),
                ready(left, local),
            ),
        )
