"""Videos for the browser: H.264 previews, the hole's outline, and error heat maps.

A browser may not read the pixels of a local file, so everything that is computed from pixels is drawn here, once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Clip, Frames, MaskedClip, Masks
from vpbench.storage import beside, cannot_write

VERSION = 1  # of how previews look; part of their names
MAX_SIDE = 1280  # pixels: larger videos are shown smaller
MIN_SIDE = 128  # pixels of the longer side: smaller videos are enlarged by whole factors, because the codec halves the colour resolution
KEYFRAMES = 8  # frames from one key frame to the next, so that a single step is quick
ERROR_MAX = 64  # mean absolute difference over the channels, of 255, that gets the brightest colour
NO_TRUTH_GREY = 110
OUTLINE = (255, 214, 0)
Picture = NDArray[np.uint8]


def preview_size(height: int, width: int) -> tuple[int, int]:
    """Height and width of a preview before padding, in the proportions of the video.

    >>> preview_size(240, 432), preview_size(2160, 3840), preview_size(30, 40)
    ((240, 432), (720, 1280), (120, 160))
    """
    longer = max(height, width)
    if longer < MIN_SIDE:
        factor = -(-MIN_SIDE // longer)
        return height * factor, width * factor
    scale = min(1.0, MAX_SIDE / longer)
    return max(1, round(height * scale)), max(1, round(width * scale))


def write_preview(path: Path, pictures: Iterable[Picture], fps: float) -> None:
    """Write pictures as an H.264 video that every browser plays (yuv420p, no B-frames, index at the front), whole or not at all.

    Args:
        path: of the MP4.
        pictures: uint8 (H, W, 3) RGB, all of one size; odd sizes get their last row or column twice.
        fps: over 0; frame ``t`` is shown from ``t / fps``.

    Raises:
        StorageError: the disk is full or the folder cannot be written.
    """
    import av
    from av.video.reformatter import ColorRange, Colorspace

    temporary = beside(path).with_suffix(".tmp.mp4")
    rate = max(Fraction(fps).limit_denominator(1001), Fraction(1, 1001))
    stream = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(temporary), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
            for picture in pictures:
                even = _even(_scaled(picture))
                if stream is None:
                    stream = container.add_stream("libx264", rate=rate)
                    stream.height, stream.width = even.shape[:2]
                    stream.pix_fmt = "yuv420p"
                    stream.codec_context.flags |= 1 << 23  # bitexact: no library version in the file
                    stream.codec_context.colorspace = stream.codec_context.color_primaries = stream.codec_context.color_trc = 1  # BT.709
                    stream.codec_context.color_range = 1  # limited
                    stream.options = {"crf": "18", "preset": "veryfast", "bf": "0", "g": str(KEYFRAMES)}
                frame = av.VideoFrame.from_ndarray(even, format="rgb24")
                container.mux(
                    stream.encode(frame.reformat(format="yuv420p", dst_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.MPEG))
                )
            if stream is not None:
                container.mux(stream.encode(None))
        os.replace(temporary, path)
    except OSError as error:  # what the decoder of a source raises is not one of these: sources are read before
        raise cannot_write(path, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def _scaled(picture: Picture) -> Picture:
    size = preview_size(*picture.shape[:2])
    if size == picture.shape[:2]:
        return picture
    import cv2

    how = cv2.INTER_NEAREST if size[0] > picture.shape[0] else cv2.INTER_AREA
    return np.asarray(cv2.resize(picture, (size[1], size[0]), interpolation=how), np.uint8)


def _even(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    if height % 2 or width % 2:
        picture = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    return np.ascontiguousarray(picture)


def input_pictures(clip: Clip) -> Iterator[Picture]:
    """What a blind model is given, with the hole's outline: for ``inpaint`` the hole is black, for edits the source is there."""
    given = MaskedClip.of(clip)
    frames = given.frames if given.source is None else given.source
    for frame, mask in zip(frames, clip.masks, strict=True):
        yield outlined(_scaled(frame), mask)


def outlined(picture: Picture, mask: NDArray[np.bool_], colour: tuple[int, int, int] = OUTLINE) -> Picture:
    """A copy of a picture with a line around the hole, on the hole's own outermost pixels.

    Args:
        picture: uint8 (H, W, 3).
        mask: bool, of the picture's size or that of the video it was scaled from.
        colour: of the line, RGB.
    """
    import cv2

    height, width = picture.shape[:2]
    hole = cv2.resize(mask.astype(np.uint8), (width, height), interpolation=cv2.INTER_NEAREST_EXACT)
    thickness = max(1, round(min(height, width) / 240))
    square = np.ones((2 * thickness + 1, 2 * thickness + 1), np.uint8)
    inside = cv2.erode(hole, square, borderType=cv2.BORDER_CONSTANT, borderValue=0)  # a hole that reaches the border has a line there
    result = picture.copy()
    result[(hole > 0) & (inside == 0)] = colour
    return result


def error_pictures(prediction: Frames, reference: Frames, masks: Masks, has_truth: bool) -> Iterator[Picture]:
    """The absolute difference, mean over the channels, as colours: black for none, the brightest for ``ERROR_MAX`` and more.

    Args:
        prediction: uint8 (T, H, W, 3), as it was scored.
        reference: same shape.
        masks: bool (T, H, W).
        has_truth: False leaves the hole grey: there is nothing to compare it with.
    """
    colours = error_colours()
    for ours, theirs, mask in zip(prediction, reference, masks, strict=True):
        difference = np.abs(ours.astype(np.int16) - theirs).mean(axis=-1)
        picture = colours[np.minimum(difference * (255 / ERROR_MAX), 255).astype(np.uint8)]
        if not has_truth:
            picture[mask] = NO_TRUTH_GREY
        yield outlined(_scaled(picture), mask, (255, 255, 255))


def error_colours() -> Picture:
    """The colour of each of the 256 levels of the heat map, uint8 (256, 3) RGB: OpenCV's inferno."""
    import cv2

    levels = np.arange(256, dtype=np.uint8)[:, None]
    return np.ascontiguousarray(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO)[:, 0, ::-1])
