"""A benchmark, models and a metric small enough to read, for tests of the harness itself."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpbench.clip import Clip, Frames, MaskedClip
from vpbench.models import Short


def toy_clip(name: str, frames: int = 4, height: int = 32, width: int = 40, operation: str = "inpaint") -> Clip:
    """A clip of smooth colours with a square hole; its content follows from its name."""
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big"))
    base = rng.integers(40, 200, (frames, 1, 1, 3)) + np.linspace(0, 50, width)[None, None, :, None] + np.zeros((1, height, 1, 1))
    masks = np.zeros((frames, height, width), bool)
    masks[:, 8:20, 10:24] = True
    return Clip(name, base.astype(np.uint8), masks, fps=8.0, caption=f"the clip {name}", operation=operation)


@dataclass(frozen=True)
class Handle:
    name: str
    salt: str
    frames: int

    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.name} {self.salt} {self.frames}".encode()).hexdigest()

    def load(self) -> Clip:
        if self.name.startswith("broken"):
            raise OSError(f"{self.name}.mp4: truncated")
        return toy_clip(self.name, self.frames, operation="remove" if self.name.startswith("edit") else "inpaint")


class Toy:
    """``count`` clips named a, b, c, ...; or the clips named by ``names``."""

    def __init__(self, count: int = 5, names: list[str] | None = None, salt: str = "", frames: int = 4, name: str = "toy") -> None:
        self.name = name
        self._handles = [Handle(n, salt, frames) for n in (names or [chr(ord("a") + i) for i in range(count)])]

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[Handle]:
        return iter(self._handles)


def grey(clip: MaskedClip, *, seed: int, level: int = 128) -> Frames:
    """A plain function as a model."""
    frames = clip.frames.copy()
    frames[clip.masks] = level
    return frames


class Noisy:
    """A class as a model; uses the seed."""

    def __init__(self, strength: int = 10) -> None:
        self.strength = strength

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        frames = clip.frames.copy()
        noise = np.random.default_rng(seed).integers(0, self.strength + 1, (int(clip.masks.sum()), 3))
        frames[clip.masks] = (100 + noise).astype(np.uint8)
        return frames


class WithRandomWeights:
    """As a network would be whose weights were never trained."""

    random_weights = True

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        return grey(clip, seed=seed)


def raises_on_c(clip: MaskedClip, *, seed: int) -> Frames:
    if clip.name == "c":
        raise RuntimeError("no idea how to fill this one")
    return grey(clip, seed=seed)


def short(clip: MaskedClip, *, seed: int) -> Short:
    """Leaves the last frame out without having said so."""
    return Short(grey(clip, seed=seed)[:-1], tuple(range(len(clip.frames) - 1)))


def counts_calls(clip: MaskedClip, *, seed: int, log: str, seconds: float = 0.0) -> Frames:
    """Writes a line per call, so that a test sees what was generated and what was kept."""
    with Path(log).open("a") as file:
        file.write(clip.name + "\n")
    time.sleep(seconds)
    return grey(clip, seed=seed)


def wrong(clip: MaskedClip, *, seed: int, how: str) -> object:
    """Everything that a model must not return."""
    good = grey(clip, seed=seed)
    return {
        "count": good[:-1],
        "shape": good[:, :-2],
        "dtype": good.astype(np.int32),
        "nan": np.full(good.shape, np.nan, np.float32),
        "float": good.astype(np.float32) / 255,
        "list": good.tolist(),
    }[how]


not_callable = 3
