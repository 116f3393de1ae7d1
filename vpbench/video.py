"""Reading and writing video and pictures; a video in memory is uint8 (T, H, W, 3) RGB.

PyAV decodes whole videos and everything unusual (rotation, damage, files whose index does not match their content); decord fetches a few
frames out of a long video, because it seeks. Both give the same pixels (tested).
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames, Masks
from vpbench.errors import DataError
from vpbench.storage import beside

PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP")  # of pictures, whatever their suffix: Pillow starts programs for some of the others
VIDEOS = (".mp4", ".mkv", ".mov", ".webm", ".avi", ".m4v", ".mpg", ".mpeg")
MASK_VIDEO_THRESHOLD = 127
MOST_PIXELS = 1 << 26  # of a picture or a frame, 8192 x 8192: a small file can claim any size, and memory is taken for what it claims
SPARSE = 4  # seeking pays when fewer than one frame in four is wanted
BOXES = (b"ftyp", b"moov", b"mdat", b"moof", b"styp", b"sidx", b"free", b"skip", b"wide", b"uuid", b"mfra")  # of MP4 and MOV, outermost
REMEDY = "The file is truncated or not a video: copy it again or re-encode it."


@dataclass(frozen=True)
class VideoInfo:
    """What a video holds: frames that are shown, upright width and height in pixels, average frames per second, rotation in degrees.

    ``indexed`` says whether the container's own frame count agrees with the frames found, so that seeking can be trusted.
    """

    frames: int
    width: int
    height: int
    fps: float
    rotation: int
    indexed: bool


def probe(path: Path) -> VideoInfo:
    """Read a video's header and count its packets; decodes one frame.

    Raises:
        DataError: missing, truncated, without a video stream, or empty.
    """
    import av

    with _opened(path) as container:
        if not container.streams.video:
            raise DataError(f"{path}: holds no video stream. {REMEDY}")
        stream = container.streams.video[0]
        fps = float(stream.average_rate or stream.guessed_rate or 0)
        try:
            # a cut without re-encoding leaves packets that are needed for decoding but never shown
            count = sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)
            container.seek(0)
            first = next(container.decode(stream), None)
        except av.FFmpegError as error:
            raise DataError(f"{path}: cannot be decoded ({error.strerror}). {REMEDY}") from error
        if first is None or not count:
            raise DataError(f"{path}: the clip is empty: no frame can be decoded. {REMEDY}")
        rotation = int(getattr(first, "rotation", 0)) % 360
        width, height = (first.height, first.width) if rotation in (90, 270) else (first.width, first.height)
        return VideoInfo(count, width, height, fps, rotation, stream.frames == count)


@contextlib.contextmanager
def _opened(path: Path) -> Any:
    import av

    if not Path(path).is_file():
        raise DataError(f"{path}: no such file.")
    declared, size = _declared_bytes(path), os.path.getsize(path)
    if declared > size:
        raise DataError(f"{path}: is cut off: it declares {declared} bytes and has {size}. {REMEDY}")
    try:
        container = av.open(str(path), metadata_errors="replace")  # texts of a damaged file need not be UTF-8
    except av.FFmpegError as error:
        raise DataError(f"{path}: cannot be opened ({error.strerror}). {REMEDY}") from error
    with container:
        for stream in container.streams.video:
            context = stream.codec_context
            if context is not None:
                if context.width * context.height > MOST_PIXELS:
                    claimed = f"{context.width}x{context.height}"
                    raise DataError(f"{path}: claims frames of {claimed}; at most {MOST_PIXELS} pixels are read. {REMEDY}")
                context.options = {**context.options, "max_pixels": str(MOST_PIXELS)}  # sizes may change on the way
        yield container


def _declared_bytes(path: Path) -> int:
    """How long the file says that it is, where it says so (MP4, MOV, Matroska, WebM), else 0: decoders take a cut file for a short one."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[4:8] in BOXES:
            end = 0
            while True:
                file.seek(end)
                box = file.read(16)
                length = int.from_bytes(box[8:16] if box[:4] == b"\0\0\0\1" else box[:4], "big")
                if box[4:8] not in BOXES or length < 8:  # the end, a box up to the end of the file, or what somebody appended
                    return end
                end += length
        if head[:4] == b"\x1a\x45\xdf\xa3":
            length, at = _ebml_length(head, 4)
            file.seek(at + length)
            segment = file.read(12)
            if segment[:4] == b"\x18\x53\x80\x67":
                inside, start = _ebml_length(segment, 4)
                return at + length + start + inside
    return 0


def _ebml_length(data: bytes, at: int) -> tuple[int, int]:
    """The length of a Matroska element, 0 where it is unknown, and the position after it."""
    size = 9 - data[at].bit_length() if at < len(data) else 9
    ones = (1 << 7 * size) - 1
    value = int.from_bytes(data[at : at + size], "big") & ones
    return (0 if value == ones or size > 8 else value), at + size


def read_video(path: Path, indices: Sequence[int] | None = None) -> tuple[Frames, float]:
    """Read frames of a video, upright, in the order in which they are shown; every coded frame once, whatever its duration.

    Args:
        path: the file.
        indices: which frames (from 0, increasing); None for all.

    Returns:
        uint8 (T, H, W, 3) RGB, and the average frame rate.

    Raises:
        DataError: see ``probe``; also when fewer frames can be decoded than the file declares, or an index is past the end.
    """
    info = probe(path)
    wanted = range(info.frames) if indices is None else indices
    if len(wanted) == 0:
        raise DataError(f"{path}: the clip is empty: no frame is left by the frame window (the video has {info.frames}).")
    if max(wanted) >= info.frames or min(wanted) < 0:
        raise DataError(f"{path}: frame {max(wanted)} was asked for, but the video has {info.frames} (0 to {info.frames - 1}).")
    if info.indexed and not info.rotation and len(wanted) * SPARSE < info.frames:
        with contextlib.suppress(DataError):  # decord fails on some good files (widths 16, 24, 48, 72 at least); PyAV has the last word
            return _seek(path, [int(index) for index in wanted]), info.fps
    result = np.empty((len(wanted), info.height, info.width, 3), np.uint8)
    places: dict[int, list[int]] = {}
    for position, index in enumerate(wanted):
        places.setdefault(int(index), []).append(position)
    found = 0
    last = max(wanted)
    import av

    with _opened(path) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        try:
            for index, frame in enumerate(container.decode(stream)):
                if index in places:
                    picture = frame.to_ndarray(format="rgb24")
                    if info.rotation:
                        picture = np.rot90(picture, info.rotation // 90)
                    result[places[index]] = picture
                    found += 1
                if index >= last:
                    break
        except (av.FFmpegError, ValueError) as error:
            raise DataError(f"{path}: decoding stopped after {found} frames ({error}). {REMEDY}") from error
    if found < len(places):
        raise DataError(f"{path}: only {found} of {len(places)} frames can be decoded (it declares {info.frames}). {REMEDY}")
    return result, info.fps


def _seek(path: Path, indices: list[int]) -> Frames:
    import decord

    try:
        reader = decord.VideoReader(str(path), num_threads=1)
        return np.asarray(reader.get_batch(indices).asnumpy(), np.uint8)
    except (decord.DECORDError, IndexError) as error:
        reason = str(error).strip().splitlines()
        raise DataError(f"{path}: cannot be decoded ({reason[-1] if reason else 'decord failed'}). {REMEDY}") from error


def write_lossless(path: Path, frames: Frames, fps: float) -> None:
    """Write RGB H.264 at qp 0 (lossless) into Matroska; the file appears whole or not at all, equal frames give equal bytes.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    import av

    temporary = beside(Path(path)).with_suffix(".tmp.mkv")
    try:
        with av.open(str(temporary), "w", format="matroska", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("libx264rgb", rate=Fraction(fps).limit_denominator(100_000) if fps > 0 else Fraction(8))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = "rgb24"
            stream.codec_context.flags |= 1 << 23  # bitexact: no library version in the file
            stream.options = {"qp": "0", "preset": "veryfast", "threads": "1"}
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
            container.mux(stream.encode(None))
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def read_lossless(path: Path) -> Frames:
    """Read back what ``write_lossless`` wrote, uint8 (T, H, W, 3): one pass, without the inspection that unknown files need.

    Raises:
        DataError: missing, damaged or empty.
    """
    import av

    with _opened(path) as container:
        try:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        except (av.FFmpegError, IndexError) as error:
            raise DataError(f"{path}: cannot be decoded ({error}). {REMEDY}") from error
    if not frames:
        raise DataError(f"{path}: holds no frame. {REMEDY}")
    return np.stack(frames)


def list_pictures(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order (2 before 10); hidden files are left out."""
    found = [p for p in Path(folder).iterdir() if p.suffix.lower() in PICTURES and not p.name.startswith(".") and p.is_file()]
    return sorted(found, key=lambda path: ([int(d) if d.isdigit() else d.lower() for d in re.split(r"(\d+)", path.stem)], path.name))


def read_picture(path: Path, mode: str = "RGB") -> NDArray[np.uint8]:
    """Read a picture, upright: ``RGB`` gives uint8 (H, W, 3), ``L`` brightness, uint8 (H, W).

    Pillow, not OpenCV: once decord is loaded, OpenCV's PNG decoder finds decord's zlib and fails.

    Raises:
        DataError: missing, damaged or of another format.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path, formats=FORMATS) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"it claims {picture.width}x{picture.height}; at most {MOST_PIXELS} pixels are read")
            return np.asarray(ImageOps.exif_transpose(picture).convert(mode), np.uint8)
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file.") from error
    except Exception as error:  # Pillow raises a dozen unrelated types for damaged files
        reason = str(error) or "it claims more data than fit into memory"
        raise DataError(f"{path}: cannot be decoded as a picture ({reason}); it is truncated or of another format.") from error


def read_frame_folder(folder: Path, names: Sequence[Path] | None = None) -> Frames:
    """Read the pictures of a folder as a video, uint8 (T, H, W, 3) RGB.

    Args:
        folder: holds jpg, png, ... in natural order.
        names: only these pictures, in this order.

    Raises:
        DataError: no picture, an unreadable one, or pictures of different sizes; names the file.
    """
    paths = list_pictures(folder) if names is None else list(names)
    if not paths:
        raise DataError(f"{folder}: the clip is empty: the folder holds no picture ({', '.join(PICTURES)}).")
    result: Frames | None = None
    for t, path in enumerate(paths):
        picture = read_picture(path)
        if result is None:
            result = np.empty((len(paths), *picture.shape), np.uint8)
        if picture.shape != result.shape[1:]:
            raise DataError(
                f"{path}: is {picture.shape[1]}x{picture.shape[0]}, the first picture of the folder {result.shape[2]}x{result.shape[1]}."
            )
        result[t] = picture
    assert result is not None
    return result


def read_mask_picture(path: Path, threshold: int = 0) -> NDArray[np.bool_]:
    """Read a mask picture, bool (H, W): True where its brightness is over ``threshold`` (0-255).

    Raises:
        DataError: missing or unreadable.
    """
    return read_picture(Path(path), "L") > threshold


def read_mask_video(path: Path, indices: Sequence[int] | None = None) -> Masks:
    """Read a mask video, bool (T, H, W): True where the mean of the channels is over 127 (codecs soften the edges of masks).

    Raises:
        DataError: see ``read_video``.
    """
    frames, _ = read_video(path, indices)
    return np.stack([frame.mean(axis=-1) > MASK_VIDEO_THRESHOLD for frame in frames])
