"""A benchmark whose frames carry their own number, so that a screenshot says which frame each player shows."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Clip, Frames, MaskedClip

BITS = 8
HEIGHT, WIDTH = 96, 160
BAR = 24  # pixels: height of the number's squares, at the top; the hole is below
NASTY = '<script>alert(1)</script> "quoted" & \u202bשלום\u202c | `code` ' + "very long " * 490  # 5,000 characters


def numbered(frames: int) -> Frames:
    """Frames with their number as black and white squares in the topmost rows, the highest bit at the left."""
    video = np.full((frames, HEIGHT, WIDTH, 3), 90, np.uint8)
    video[:, BAR:] += np.linspace(0, 80, WIDTH).astype(np.uint8)[None, None, :, None]
    side = WIDTH // BITS
    for t in range(frames):
        for bit in range(BITS):
            video[t, :BAR, bit * side : (bit + 1) * side] = 255 if t >> (BITS - 1 - bit) & 1 else 0
    return video


def read_number(picture: NDArray[np.uint8]) -> int:
    """The number that a screenshot of a player shows, uint8 (H, W, 3) of any size."""
    height, width = picture.shape[:2]
    row = int(height * BAR / 2 / HEIGHT)
    return sum(int(picture[row, int(width * (bit + 0.5) / BITS)].mean() > 128) << (BITS - 1 - bit) for bit in range(BITS))


@dataclass(frozen=True)
class Handle:
    name: str
    frames: int
    fps: float

    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()

    def load(self) -> Clip:
        masks = np.zeros((self.frames, HEIGHT, WIDTH), bool)
        masks[:, 40:80, 30:90] = True
        operation = "remove" if "edit" in self.name else "inpaint"
        caption = NASTY if "nasty" in self.name else f"the clip {self.name}"
        return Clip(self.name, numbered(self.frames), masks, self.fps, caption, "a region", operation, "Remove <b>it</b>.")


class Numbered:
    """Clips by name, all of the same length and rate; edits have no true result."""

    def __init__(self, names: list[str], frames: int = 24, fps: float = 8.0, name: str = "numbered") -> None:
        self.name = name
        self._handles = [Handle(clip, frames, fps) for clip in names]

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._handles)


@dataclass(frozen=True)
class Sized:
    """A clip of colours whose name is its shape: frames, height, width."""

    name: str

    def fingerprint(self) -> str:
        return hashlib.sha256(self.name.encode()).hexdigest()

    def load(self) -> Clip:
        frames, height, width = map(int, self.name.split("x"))
        video = np.zeros((frames, height, width, 3), np.uint8)
        video += np.linspace(0, 200, width).astype(np.uint8)[:, None] + 10 * np.arange(frames, dtype=np.uint8)[:, None, None, None]
        masks = np.zeros(video.shape[:3], bool)
        masks[:, : height // 2, : width // 2] = True
        return Clip(self.name, video, masks, 25.0)


class Sizes:
    """Clips of odd, tiny and large sizes, and one of a single frame."""

    name = "sizes"

    def __iter__(self) -> Iterator[Sized]:
        return iter([Sized(name) for name in ("3x16x16", "3x33x61", "3x1400x90", "2x1080x1920", "1x48x64")])

    def __len__(self) -> int:
        return 5


def fill(clip: MaskedClip, *, seed: int, level: int = 128, strong: str = "") -> Frames:
    """Fills with a grey that drifts over time; the clips that ``strong`` names are filled well."""
    frames = (clip.frames if clip.source is None else clip.source).copy()
    for t, (frame, mask) in enumerate(zip(frames, clip.masks, strict=True)):
        frame[mask] = 130 if clip.name in strong.split(",") else np.clip(level + t, 0, 255)
    return frames


def config(out: Any, benchmark: dict[str, Any], protocol: dict[str, Any], name: str, **options: Any) -> dict[str, Any]:
    """A run of ``fill`` under a name of its own."""
    track = options.pop("track", ["raw"])
    model = {"_target_": "vpbench.models.custom", "target": "tests.browser.numbered.fill", "kwargs": options, "name": name}
    return {
        "model": model,
        "benchmark": {"_target_": "tests.browser.numbered.Numbered", **benchmark},
        "protocol": protocol,
        "seed": 0,
        "track": track,
        "clips": None,
        "limit": None,
        "out": str(out),
        "device": "cpu",
    }
