"""What is done to clips before a model sees them: frame window and step, size, mask size, mask dilation; part of the identity."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpbench.clip import Clip, Frames, Masks, Shape
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, DataError

SHAPES = ("box", "cross", "disk")


@dataclass(frozen=True)
class Preparation:
    """All settings of the preparation; the defaults change nothing.

    Attributes:
        size: (height, width) in pixels that frames are resized to with PIL's Lanczos filter, aspect ratio not kept; None keeps them.
        to_fps: keep every ``max(1, int(fps // to_fps))``-th frame (the official VPBench rule with 8); None keeps all.
        frame_step: keep every n-th frame, after ``to_fps``.
        start: first frame of the window, counted in the source.
        end: frame after the last of the window; None for the clip's end.
        max_frames: at most this many frames after thinning; None for all.
        mask_resize: ``nearest`` accepts masks of another size than the frames; None makes them an error.
        mask_dilate_px: side of the structuring element; 0 does not dilate.
        mask_dilate_shape: ``box``, ``cross`` or ``disk``.
        mask_dilate_iterations: how often.

    Raises:
        ConfigError: a value out of its range.
    """

    size: tuple[int, int] | None = None
    to_fps: float | None = None
    frame_step: int = 1
    start: int = 0
    end: int | None = None
    max_frames: int | None = None
    mask_resize: str | None = None
    mask_dilate_px: int = 0
    mask_dilate_shape: str = "box"
    mask_dilate_iterations: int = 1

    def __post_init__(self) -> None:
        if self.size is not None:
            size = tuple(self.size) if isinstance(self.size, Sequence) else ()
            if len(size) != 2 or not all(_whole(side, 1) for side in size):
                raise ConfigError(f"prepare.size={self.size}: expected [height, width] in pixels, or null.")
            object.__setattr__(self, "size", size)
        if self.to_fps is not None:
            if isinstance(self.to_fps, bool | str) or not (math.isfinite(self.to_fps) and self.to_fps > 0):
                raise ConfigError(f"prepare.to_fps={self.to_fps}: expected frames per second over 0, or null.")
            object.__setattr__(self, "to_fps", float(self.to_fps))  # 8 and 8.0 have one identity
        for name, least in (("frame_step", 1), ("start", 0), ("mask_dilate_px", 0), ("mask_dilate_iterations", 1)):
            if not _whole(getattr(self, name), least):
                raise ConfigError(f"prepare.{name}={getattr(self, name)}: expected a whole number, at least {least}.")
        for name in ("end", "max_frames"):
            if getattr(self, name) is not None and not _whole(getattr(self, name), 1):
                raise ConfigError(f"prepare.{name}={getattr(self, name)}: expected a whole number, at least 1, or null.")
        if self.end is not None and self.end <= self.start:
            raise ConfigError(f"prepare.end={self.end}: expected more than prepare.start={self.start}.")
        if self.mask_resize not in (None, "nearest"):
            raise unknown_name("prepare.mask_resize", str(self.mask_resize), ["nearest", "null"])
        if self.mask_dilate_shape not in SHAPES:
            raise unknown_name("prepare.mask_dilate_shape", self.mask_dilate_shape, SHAPES)

    @classmethod
    def of(cls, value: Preparation | Mapping[str, Any] | None) -> Preparation:
        """A preparation from what a config gives.

        Raises:
            ConfigError: an unknown key (lists the valid ones) or a value out of range.
        """
        if isinstance(value, Preparation):
            return value
        known = [field.name for field in dataclasses.fields(cls)]
        if value is not None and not isinstance(value, Mapping):
            raise ConfigError(f"benchmark.prepare={value!r}: expected a mapping with keys of: {', '.join(known)}.")
        given = dict(value or {})
        for key in given:
            if key not in known:
                raise unknown_name(f"benchmark.prepare.{key}", str(key), known)
        try:
            return cls(**given)
        except TypeError as error:
            raise ConfigError(f"benchmark.prepare={given}: {error}") from error

    def identity(self) -> str:
        """Every setting as one stable string."""
        return repr(sorted(dataclasses.asdict(self).items()))

    def step(self, fps: float) -> int:
        """Distance of the frames that are kept."""
        return self.frame_step * (max(1, int(fps // self.to_fps)) if self.to_fps else 1)

    def indices(self, frames: int, fps: float) -> list[int]:
        """Which frames of a video of ``frames`` frames are kept, so that loaders decode no others."""
        kept = range(self.start, frames if self.end is None else min(self.end, frames), self.step(fps))
        return list(kept[: self.max_frames])

    def shape(self, frames: int, height: int, width: int, fps: float) -> Shape:
        """What a video of so many frames becomes."""
        rows, columns = self.size or (height, width)
        return Shape(len(self.indices(frames, fps)), rows, columns, fps / self.step(fps))

    def masks_for(self, masks: Masks, frames: Frames, clip: str) -> Masks:
        """Bring masks to the size of their frames and check them.

        Raises:
            DataError: another count, or another size without ``mask_resize=nearest``.
        """
        height, width = frames.shape[1:3]
        if masks.shape[1:] != (height, width):
            if self.mask_resize != "nearest":
                raise DataError(
                    f"{clip}: the masks are {masks.shape[2]}x{masks.shape[1]}, the frames {width}x{height} (width x height). "
                    "If they show the same picture, allow it with benchmark.prepare.mask_resize=nearest."
                )
            masks = _nearest(masks, (height, width))
        return masks

    def apply(self, clip: Clip, *, windowed: bool = False) -> Clip:
        """Prepare a whole clip.

        Args:
            clip: as read, masks of the frames' own size.
            windowed: the loader has picked the frames with ``indices`` already.

        Raises:
            DataError: the window leaves no frame, or the mask leaves nothing to fill or nothing to see.
        """
        frames, masks, target, fps = clip.frames, clip.masks, clip.target, clip.fps
        if not windowed:
            kept = self.indices(len(frames), fps)
            if not kept:
                raise DataError(f"{clip.name}: the clip is empty: the frame window leaves none of its {len(frames)} frames.")
            if kept != list(range(len(frames))):
                frames, masks = frames[kept], masks[kept]
                target = None if target is None else target[kept]
                fps = fps / self.step(fps)
        if self.size is not None and frames.shape[1:3] != self.size:
            frames, masks = _resized(frames, self.size), _nearest(masks, self.size)
            target = None if target is None else _resized(target, self.size)
        if self.mask_dilate_px > 1:
            masks = self._dilated(masks)
        if not masks.any():
            raise DataError(
                f"{clip.name}: the mask has no hole in any frame; there is nothing to fill. Check the mask or leave the clip out."
            )
        if masks.all():
            raise DataError(f"{clip.name}: the mask is all hole in every frame; nothing is left to see. Is it inverted (white = fill)?")
        return dataclasses.replace(clip, frames=frames, masks=masks, target=target, fps=fps)

    def _dilated(self, masks: Masks) -> Masks:
        import cv2

        shape = {"box": cv2.MORPH_RECT, "cross": cv2.MORPH_CROSS, "disk": cv2.MORPH_ELLIPSE}[self.mask_dilate_shape]
        element = cv2.getStructuringElement(shape, (self.mask_dilate_px, self.mask_dilate_px))
        grown = [cv2.dilate(mask.astype(np.uint8), element, iterations=self.mask_dilate_iterations) > 0 for mask in masks]
        return np.stack(grown)


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _resized(frames: Frames, size: tuple[int, int]) -> Frames:
    from PIL import Image

    height, width = size
    result = np.empty((len(frames), height, width, 3), np.uint8)
    for t, frame in enumerate(frames):
        result[t] = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
    return result


def _nearest(masks: Masks, size: tuple[int, int]) -> Masks:
    import cv2

    return np.stack([cv2.resize(m.astype(np.uint8), (size[1], size[0]), interpolation=cv2.INTER_NEAREST_EXACT) > 0 for m in masks])
