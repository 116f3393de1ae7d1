"""Batches for networks: fixed on the CPU, from free memory on CUDA, halved when memory runs out.

On the CPU the batch size never changes, so equal inputs give equal bytes. No batch spans two clips, because a pass sees one clip.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

CUDA_SHARE = 0.5  # of the free memory
CUDA_LARGEST = 64  # items
log = logging.getLogger(__name__)


def batch_size(device: str, on_cpu: int, cuda_bytes_per_item: int) -> int:
    """Return how many items go through a network at once.

    Args:
        device: a torch device.
        on_cpu: the fixed size on the CPU.
        cuda_bytes_per_item: device memory that one item needs, estimated from above.
    """
    if not device.startswith("cuda"):
        return on_cpu
    import torch

    free, _ = torch.cuda.mem_get_info(device)
    return int(min(max(free * CUDA_SHARE // cuda_bytes_per_item, 1), CUDA_LARGEST))


def in_batches(call: Callable[[slice], NDArray[np.generic]], count: int, size: int) -> NDArray[np.generic]:
    """Call ``call`` on consecutive slices of ``count`` items and join what it returns along the first axis.

    When CUDA runs out of memory the batch is halved and the work goes on from the slice that failed.

    Raises:
        torch.cuda.OutOfMemoryError: one item alone does not fit.
    """
    import torch

    parts: list[NDArray[np.generic]] = []
    start = 0
    while start < count:
        try:
            parts.append(call(slice(start, min(start + size, count))))
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise
            torch.cuda.empty_cache()
            log.warning("CUDA ran out of memory with %d items at once; going on with %d", size, size // 2)
            size //= 2
            continue
        start += size
    return np.concatenate(parts)
