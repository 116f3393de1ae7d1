"""What the drivers of checkouts have in common. Runs in the environment of the system that is driven: Python 3.8, Pillow, NumPy.

A driver is started with its settings as JSON in its first argument. ``code`` is the checkout: it comes first when modules are looked for.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable  # noqa: UP035 (Python 3.8)


def settings(below: str = "") -> dict[str, Any]:
    """The settings; from here on modules of the checkout can be imported, from the folder ``below`` it."""
    told: dict[str, Any] = json.loads(sys.argv[1])
    sys.path.insert(0, os.path.join(told["code"], below))
    return told


def shortened(text: str, fits: Callable[[str], bool]) -> str:
    """The longest beginning of ``text``, in whole words, that ``fits``.

    >>> shortened("one two three", lambda text: len(text) < 9)
    'one two'
    """
    if fits(text):
        return text
    words = text.split()
    while words and not fits(" ".join(words)):
        words.pop()
    return " ".join(words)


def peak_gpu_bytes() -> int | None:
    """The most memory that torch had on the GPUs since the last call; None without a GPU."""
    import torch

    if not torch.cuda.is_available():
        return None
    devices = range(torch.cuda.device_count())
    peak = sum(torch.cuda.max_memory_allocated(device) for device in devices)
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
    return int(peak)
