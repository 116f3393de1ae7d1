"""What the tests of the adapters share: a clip that is small and long, and stand-ins for checkouts."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpbench.clip import Clip, MaskedClip

PYTHON = sys.executable


def edit(frames: int, operation: str = "swap", name: str = "a", **texts: str) -> MaskedClip:
    """What a model sees of ``whole``."""
    return MaskedClip.of(whole(frames, operation, name, **texts))


def whole(frames: int, operation: str = "swap", name: str = "a", height: int = 60, width: int = 90, **texts: str) -> Clip:
    """An edit whose frame t is grey 4 t and whose hole moves to the right by a pixel per frame, in rows 20 to 39."""
    shown = np.repeat(np.arange(frames)[:, None, None, None] * 4, 3, axis=3).astype(np.uint8) + np.zeros((1, height, width, 1), np.uint8)
    masks = np.zeros((frames, height, width), bool)
    for t in range(frames):
        masks[t, 20:40, 10 + t % 40 : 30 + t % 40] = True
    said = {"caption": "a dog runs", "source_caption": "a cat runs", "region_caption": "a brown dog", **texts}
    return Clip(name, shown, masks, fps=8.0, operation=operation, **said)


@dataclass(frozen=True)
class Handle:
    """Of the clip ``edit``."""

    name: str
    frames: int

    def fingerprint(self) -> str:
        return f"{self.name} {self.frames}"

    def load(self) -> Clip:
        return whole(self.frames, name=self.name)


class Edits:
    """A benchmark of one clip, ``edit``."""

    name = "edits"

    def __init__(self, frames: int) -> None:
        self._handle = Handle("edit", frames)

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Handle]:
        yield self._handle


def checkout(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files, with the folders that they stand in."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    return folder


def problems(model: Any) -> str:
    """All that a model says to be missing."""
    return "\n".join(line for need in model.needs() if not need.met for line in need.lines())
