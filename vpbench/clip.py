"""Clips, what a model may see of them, and the checks at every seam.

A video in memory is one ``numpy.uint8`` array ``(T, H, W, 3)``, RGB, 0-255; masks are ``bool (T, H, W)``, True = hole.
Nothing else crosses from one part of the harness to another.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vpbench.errors import DataError

Frames = NDArray[np.uint8]
Masks = NDArray[np.bool_]

OPERATIONS = ("inpaint", "add", "remove", "swap", "change", "other")


def describe(value: Any) -> str:
    """Say what an array is: its shape, dtype and range, for error messages."""
    if not isinstance(value, np.ndarray):
        return f"a {type(value).__name__}"
    text = f"shape {value.shape}, dtype {value.dtype}"
    if value.size and value.dtype.kind in "buif":
        text += f", min {value.min()}, max {value.max()}"
    return text


def check_frames(frames: Any, name: str) -> Frames:
    """Return ``frames`` when it is a video: uint8 (T, H, W, 3) with at least one frame.

    Raises:
        DataError: anything else; the message says what came and what was expected.
    """
    if not isinstance(frames, np.ndarray) or frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[3] != 3:
        raise DataError(f"{name}: expected frames as uint8 (T, H, W, 3) RGB, got {describe(frames)}.")
    if 0 in frames.shape:
        raise DataError(f"{name}: the clip is empty (shape {frames.shape}); every clip needs at least one frame.")
    return frames


def check_masks(masks: Any, frames: Frames, name: str) -> Masks:
    """Return ``masks`` when it fits ``frames``: bool (T, H, W), True = hole.

    Raises:
        DataError: another dtype, another frame count, another size; the message gives both sides.
    """
    if not isinstance(masks, np.ndarray) or masks.dtype != np.bool_ or masks.ndim != 3:
        raise DataError(f"{name}: expected masks as bool (T, H, W), True = hole, got {describe(masks)}.")
    if len(masks) != len(frames):
        raise DataError(f"{name}: {len(masks)} masks for {len(frames)} frames; there must be one mask for every frame.")
    if masks.shape[1:] != frames.shape[1:3]:
        raise DataError(
            f"{name}: the masks are {masks.shape[2]}x{masks.shape[1]}, the frames {frames.shape[2]}x{frames.shape[1]} (width x height). "
            "Masks of another size are only accepted with mask_resize=nearest."
        )
    return masks


@dataclass(frozen=True)
class Clip:
    """One video of a benchmark with its masks and texts.

    Attributes:
        name: unique in its benchmark without regard to case; a plain file name (no separators, not starting with a dot).
        frames: the source video, uint8 (T, H, W, 3) RGB.
        masks: bool (T, H, W), True where pixels are to be filled.
        fps: frames per second of ``frames`` (after any thinning).
        caption: text describing the whole video; for an edit the whole edited video.
        region_caption: text describing what belongs into the hole.
        source_caption: of an edit, text describing the video as it is; empty where the benchmark has none.
        operation: one of ``OPERATIONS``.
        instruction: the edit as an order ("Remove the woman."); empty for ``inpaint``.
        target: the true result where one exists, same shape as ``frames``; for ``inpaint`` leave it None (the source is the truth).
        tags: free labels for slicing tables.
    """

    name: str
    frames: Frames
    masks: Masks
    fps: float
    caption: str = ""
    region_caption: str = ""
    operation: str = "inpaint"
    instruction: str = ""
    target: Frames | None = None
    tags: tuple[str, ...] = ()
    source_caption: str = ""

    def __post_init__(self) -> None:
        check_frames(self.frames, self.name)
        check_masks(self.masks, self.frames, self.name)
        if self.operation not in OPERATIONS:
            raise DataError(f"{self.name}: unknown operation {self.operation!r}; known: {', '.join(OPERATIONS)}.")
        if self.target is not None and check_frames(self.target, f"{self.name} (target)").shape != self.frames.shape:
            raise DataError(f"{self.name}: the target is {self.target.shape}, the frames {self.frames.shape}; they must be equal.")

    def at(self, frames: Sequence[int]) -> Clip:
        """The clip with these of its frames alone, counted from 0, in this order."""
        chosen = list(frames)
        if chosen == list(range(len(self.frames))):
            return self  # no copy of everything
        target = None if self.target is None else self.target[chosen]
        return replace(self, frames=self.frames[chosen], masks=self.masks[chosen], target=target)

    @property
    def reference(self) -> Frames:
        """The video a prediction is compared with: the target where one exists, else the source."""
        return self.frames if self.target is None else self.target

    @property
    def has_truth(self) -> bool:
        """Whether the hole has a true answer: always for ``inpaint``, for an edit only with a target."""
        return self.operation == "inpaint" or self.target is not None


@dataclass(frozen=True)
class MaskedClip:
    """What a blind model sees of a clip.

    For ``inpaint`` the pixels of the hole are nowhere in this object: ``frames`` is a fresh array with the hole set to
    ``fill`` and ``source`` is None. For edits ``source`` holds the unedited frames, because editing systems invert them.
    """

    name: str
    frames: Frames
    masks: Masks
    fps: float
    caption: str
    region_caption: str
    operation: str
    instruction: str
    source: Frames | None
    source_caption: str = ""

    @classmethod
    def of(cls, clip: Clip, fill: tuple[int, int, int] = (0, 0, 0)) -> MaskedClip:
        """Blank the hole of ``clip`` with the colour ``fill`` (RGB, 0-255) in a copy of its own."""
        frames = clip.frames.copy()
        frames[clip.masks] = fill
        return cls(
            name=clip.name,
            frames=frames,
            masks=clip.masks.copy(),
            fps=clip.fps,
            caption=clip.caption,
            region_caption=clip.region_caption,
            operation=clip.operation,
            instruction=clip.instruction,
            source=None if clip.operation == "inpaint" else clip.frames.copy(),
            source_caption=clip.source_caption,
        )


class Shape(NamedTuple):
    """How large a clip is, once prepared."""

    frames: int
    height: int
    width: int
    fps: float


class ClipHandle(Protocol):
    """A clip that has not been read yet.

    It may also have ``shape() -> Shape``, which tells from lists and headers what ``load`` will give, so that outputs that cannot be scored
    are refused before the first clip is read.
    """

    @property
    def name(self) -> str:
        """The clip's name, see ``Clip.name``."""

    def fingerprint(self) -> str:
        """Hex sha256 of everything that decides the clip's content (file bytes, texts, settings), without decoding."""

    def load(self) -> Clip:
        """Read frames and masks.

        Raises:
            DataError: a file is missing, unreadable or inconsistent; the message names it.
        """


class Benchmark(Protocol):
    """A sequence of clip handles; building it reads lists and folders but no pixel."""

    @property
    def name(self) -> str:
        """Name shown in tables; different mask sets and splits have different names (``davis``, ``davis-random``)."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[ClipHandle]: ...


class Inpainter(Protocol):
    """A model: anything that fills the hole."""

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3), the same shape as ``clip.frames``."""
