"""Outputs that exist on disk: which of them belongs to which clip, what they hold, and how they are read.

An output is a video, or a folder of pictures. Its place below the folder of outputs, without a video's suffix, is its name
(``a``, ``ours/a_result``); a pattern such as ``ours/{clip}_result`` says how names follow from those of the clips.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpbench.clip import Frames
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, DataError
from vpbench.storage import is_hidden

RESIZE = {"nearest": 0, "bilinear": 2, "bicubic": 3, "area": 4, "lanczos": 1}  # Pillow's filters
FRAMES = {
    "by_index": "frame by frame, whatever rate the file states",
    "by_time": "each frame of the clip gets the one that is shown at its time",
    "cut": "frame by frame; what is longer is cut",
    "repeat_last": "frame by frame; what is longer is cut, what is shorter ends with its last frame repeated",
    "present": "frame by frame; what is longer is cut, of what is shorter the frames that are there are scored, and the row is not ranked",
}
CLIP = "{clip}"
SAME_RATE = 0.01  # rates that differ by a smaller share are one: 23.976 and 24
# Lossless is what gives back the RGB pixels that were written: one of these codecs, and pixels that are 8-bit RGB.
LOSSLESS = (
    "apng",
    "bmp",
    "cllc",
    "ffv1",
    "ffvhuff",
    "huffyuv",
    "lagarith",
    "magicyuv",
    "png",
    "qtrle",
    "rawvideo",
    "targa",
    "tiff",
    "utvideo",
    "zlib",
)
RGB = ("rgb24", "bgr24", "gbrp", "gbrap", "rgba", "bgra", "argb", "abgr", "rgb0", "bgr0", "0rgb", "0bgr", "pal8")
LISTED = 5  # names that a message spells out


@dataclass(frozen=True)
class Header:
    """What an output holds, from its headers.

    Attributes:
        frames: how many.
        width: of the first frame, pixels, upright.
        height: of the first frame.
        fps: what the file states; 0 where it states none, as a folder of pictures does.
        coding: codec and pixel format, or the pictures' formats: ``h264 yuv420p``, ``jpeg pictures``.
        lossless: whether the pixels that were written are those that are read.
        gaps: the frames that a folder of numbered pictures lacks between its first and its last.
    """

    frames: int
    width: int
    height: int
    fps: float
    coding: str
    lossless: bool
    gaps: tuple[int, ...] = ()


@dataclass(frozen=True)
class Output:
    """A video or a folder of pictures.

    Attributes:
        name: its place below the folder of outputs, with ``/``, without the suffix of a video.
        path: the file or folder.
        pictures: of a folder, in natural order; none of a video.
    """

    name: str
    path: Path
    pictures: tuple[Path, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that it consists of."""
        return self.pictures or (self.path,)

    def header(self) -> Header:
        """Look at it without decoding more than a frame.

        Raises:
            DataError: it is damaged or empty.
        """
        from vpbench.video import probe, read_picture

        if self.pictures:
            height, width, _ = read_picture(self.pictures[0]).shape
            lossy = sorted({kind for picture in self.pictures if (kind := _lossy_picture(picture))})
            return Header(
                len(self.pictures), width, height, 0.0, f"{', '.join(lossy) or 'lossless'} pictures", not lossy, _gaps(self.pictures)
            )
        info = probe(self.path)
        coding, lossless = _coding(self.path)
        return Header(info.frames, info.width, info.height, info.fps, coding, lossless)


@dataclass(frozen=True)
class Matched:
    """Which output belongs to which clip.

    Attributes:
        of: the clips that have one.
        extra: outputs that belong to no clip.
        pattern: how names follow from those of the clips.
    """

    of: dict[str, Output]
    extra: tuple[Output, ...]
    pattern: str


@dataclass(frozen=True)
class Choice:
    """How the frames of an output become those of a clip.

    Attributes:
        indices: which of its frames are read, ascending.
        present: the frames of the clip that they are.
        notes: what a reader of the table must know.
    """

    indices: tuple[int, ...]
    present: tuple[int, ...]
    notes: tuple[str, ...] = ()


def listing(folder: Path) -> list[Output]:
    """The outputs in a folder, at any depth, by name; what is hidden is left out.

    Raises:
        DataError: there is no such folder, or no output in it.
    """
    from vpbench.video import VIDEOS, list_pictures

    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of outputs.")
    found = []
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder)
        if is_hidden(path, folder):
            continue
        if path.is_dir() and (pictures := list_pictures(path)):
            found.append(Output(place.as_posix(), path, tuple(pictures)))
        elif path.suffix.lower() in VIDEOS and path.is_file():
            found.append(Output(place.with_suffix("").as_posix(), path))
    if found:
        return found
    loose = list_pictures(folder)
    held = f"{len(loose)} pictures that belong to no clip" if loose else "no video and no folder of pictures"
    raise DataError(f"{folder}: holds {held}. Expected a video ({', '.join(VIDEOS)}) or a folder of pictures per clip, named as the clip.")


def match(outputs: Sequence[Output], clips: Iterable[str], pattern: str | None = None, folder: Path = Path()) -> Matched:
    """Find the output of each clip.

    Names that are those of clips come first; else all names must follow from those of the clips by one pattern.

    Args:
        outputs: as listed.
        clips: names of all clips of the benchmark.
        pattern: how names follow from those of the clips, with ``{clip}`` in it; None to find out.
        folder: where the outputs lie, for messages.

    Raises:
        DataError: several patterns fit, or several outputs are one clip's; the message says what was found.
    """
    names = sorted(clips, key=lambda name: (-len(name), name))
    by_pattern: dict[str, dict[str, list[Output]]] = {}
    for output in outputs:
        found, clip = (pattern, _named(output.name, pattern, names)) if pattern else _pattern(output.name, names)
        if clip:
            by_pattern.setdefault(found, {}).setdefault(clip, []).append(output)
    chosen = pattern or (CLIP if CLIP in by_pattern else "")
    if not chosen and len(by_pattern) > 1:
        examples = "; ".join(
            f"{found!r} ({len(of)} clips)" for found, of in sorted(by_pattern.items(), key=lambda item: (-len(item[1]), item[0]))[:LISTED]
        )
        raise DataError(f"{folder}: names can be read in several ways: {examples}. Say which: pattern='{next(iter(by_pattern))}'.")
    chosen = chosen or next(iter(by_pattern), CLIP)
    of = by_pattern.get(chosen, {})
    for clip, several in sorted(of.items()):
        if len(several) > 1:
            raise DataError(f"{folder}: {clip} has {len(several)} outputs: {listed(str(one.path) for one in several)}. Leave one of them.")
    matched = {clip: several[0] for clip, several in sorted(of.items())}
    taken = {output.path for output in matched.values()}
    return Matched(matched, tuple(output for output in outputs if output.path not in taken), chosen)


def choose(header: Header, frames: int, fps: float, rule: str | None) -> Choice:
    """Which frames of an output are those of a clip.

    Args:
        header: of the output.
        frames: of the clip.
        fps: of the clip.
        rule: one of ``FRAMES``; None: count and rate must be the clip's.

    Raises:
        DataError: the rule does not allow what was found.
    """
    count, all_of_them = header.frames, tuple(range(frames))
    gaps = header.gaps if count + len(header.gaps) == frames else ()
    other_rate = header.fps > 0 and abs(header.fps - fps) > SAME_RATE * fps
    if rule is None or rule == "by_index":
        if count != frames:
            allowed = "cut, by_time" if count > frames else "present, repeat_last, by_time"
            held = f"{count} frames" + (f" (without number {listed(map(str, gaps))}, counted from 0)" if gaps else "")
            raise DataError(f"has {held}, the clip {frames}. Write every frame of the clip, or say what to do with them: frames={allowed}")
        if other_rate and rule is None:
            raise DataError(
                f"states {header.fps:g} frames per second, the clip has {fps:g}. If they are the same frames, say so: frames=by_index"
            )
        return Choice(all_of_them, all_of_them, (f"other rate: {header.fps:g} fps taken for {fps:g}",) if other_rate else ())
    if rule == "by_time":
        if not header.fps > 0:
            raise DataError("states no frame rate, which frames=by_time needs; folders of pictures never do")
        places = [i * header.fps / fps for i in all_of_them]
        if places[-1] >= count:
            raise DataError(
                f"ends after {count / header.fps:.3g} s, before the clip's last frame at {places[-1] / header.fps:.3g} s; frames=present?"
            )
        taken = tuple(min(int(place + 0.5), count - 1) for place in places)
        note = f"frames by time: {count} at {header.fps:g} fps to {frames} at {fps:g}"
        return Choice(taken, all_of_them, () if taken == all_of_them and count == frames else (note,))
    if count > frames:
        return Choice(all_of_them, all_of_them, (f"frames cut: {count} to {frames}",))
    if count == frames:
        return Choice(all_of_them, all_of_them)
    if rule == "present":
        return Choice(tuple(range(count)), tuple(t for t in range(count + len(gaps)) if t not in gaps))
    if gaps:
        raise DataError(
            f"lacks number {listed(map(str, gaps))} of its pictures, counted from 0, not the last ones; frames=present scores the others"
        )
    if rule == "repeat_last":
        return Choice(tuple(min(i, count - 1) for i in all_of_them), all_of_them, (f"frames repeated: the last of {count} up to {frames}",))
    raise DataError(f"has {count} frames, the clip {frames}; frames=cut does not make more of them (frames=present, repeat_last)")


def fits(header: Header, width: int, height: int, resize: str | None) -> tuple[str, ...]:
    """The notes on an output's size.

    Raises:
        DataError: it is not the clip's, and ``resize`` does not say what to do.
    """
    if (header.width, header.height) == (width, height):
        return ()
    if resize is None:
        allowed = f"resize={'|'.join(RESIZE)}"
        raise DataError(
            f"is {header.width}x{header.height}, the clip {width}x{height}. Write frames of its size, or let them be resized: {allowed}"
        )
    return (f"resized: {header.width}x{header.height} to {width}x{height}, {resize}",)


def read(output: Output, indices: Sequence[int], width: int, height: int, resize: str | None) -> Frames:
    """Read frames of an output, uint8 (N, height, width, 3).

    Raises:
        DataError: a frame cannot be read, or is of another size than the first.
    """
    from vpbench.video import read_frame_folder, read_video

    frames = (
        read_frame_folder(output.path, [output.pictures[i] for i in indices]) if output.pictures else read_video(output.path, indices)[0]
    )
    if frames.shape[1:3] == (height, width):
        return frames
    return resized(frames, width, height, resize or "bicubic")


def resized(frames: Frames, width: int, height: int, method: str) -> Frames:
    """Frames in another size, by one of ``RESIZE``."""
    from PIL import Image

    made = np.empty((len(frames), height, width, 3), np.uint8)
    for t, frame in enumerate(frames):
        made[t] = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling(RESIZE[method])))
    return made


def check_settings(resize: Any, frames: Any, pattern: Any) -> None:
    """Refuse settings that do not exist.

    Raises:
        ConfigError: names the key and lists the valid values.
    """
    if resize is not None and resize not in RESIZE:
        raise unknown_name("resize", str(resize), list(RESIZE))
    if frames is not None and frames not in FRAMES:
        raise unknown_name("frames", str(frames), list(FRAMES))
    if pattern is not None and CLIP not in str(pattern):
        raise ConfigError(f"pattern={pattern}: expected a name with {CLIP} in it, such as '{CLIP}/result'.")


def listed(names: Iterable[str]) -> str:
    """The first names, and how many more there are."""
    every = list(names)
    return ", ".join(every[:LISTED]) + (f" and {len(every) - LISTED} more" if len(every) > LISTED else "")


def _pattern(name: str, clips: Sequence[str]) -> tuple[str, str]:
    """How a name follows from that of a clip, and the clip: the longest that stands in it, bounded by what is neither letter nor digit."""
    for clip in clips:
        bounded = rf"(?<![^\W_]){re.escape(clip)}(?![^\W_])"
        if re.search(bounded, name):
            return re.sub(bounded, CLIP, name), clip
    return "", ""


def _named(name: str, pattern: str, clips: Sequence[str]) -> str:
    """The clip whose name gives ``name`` by the pattern; empty where none does."""
    return next((clip for clip in clips if pattern.replace(CLIP, clip) == name), "")


def _gaps(pictures: Sequence[Path]) -> tuple[int, ...]:
    """The places between the first and the last of numbered pictures that have none; nothing where names are not numbers that count up."""
    numbers = [int(picture.stem) for picture in pictures if picture.stem.isdecimal()]
    if len(set(numbers)) < len(pictures):
        return ()
    there = {number - numbers[0] for number in numbers}
    return tuple(place for place in range(max(there)) if place not in there) if max(there) < 2 * len(pictures) else ()


def _coding(path: Path) -> tuple[str, bool]:
    import av

    with av.open(str(path), metadata_errors="replace") as container:
        context = container.streams.video[0].codec_context
        codec, pixels = context.codec.canonical_name, str(context.pix_fmt)
        exact = codec in LOSSLESS or (codec == "h264" and _bypasses_transform(context.extradata or b""))
    return f"{codec} {pixels}", exact and pixels in RGB


def _bypasses_transform(extradata: bytes) -> bool:
    """Whether H.264 is lossless: qpprime_y_zero_transform_bypass_flag of the sequence parameter set (ITU-T H.264, 7.3.2.1.1)."""
    found = re.search(rb"[\x27\x47\x67]\xf4", extradata)  # a sequence parameter set of the profile High 4:4:4 Predictive
    if not found:
        return False
    data = extradata[found.end() :].replace(b"\0\0\3", b"\0\0")
    bits = "".join(f"{byte:08b}" for byte in data[2:32])  # after the constraint flags and the level
    _, bits = _exp_golomb(bits)  # seq_parameter_set_id
    chroma, bits = _exp_golomb(bits)
    if chroma == 3:
        bits = bits[1:]  # separate_colour_plane_flag
    for _ in range(2):  # bit depths
        _, bits = _exp_golomb(bits)
    return bits[:1] == "1"


def _exp_golomb(bits: str) -> tuple[int, str]:
    zeros = len(bits) - len(bits.lstrip("0"))
    return int(bits[zeros : 2 * zeros + 1] or "1", 2) - 1, bits[2 * zeros + 1 :]


def _lossy_picture(path: Path) -> str:
    """The format of a picture that may have lost something; empty for one that has not."""
    from PIL import Image

    from vpbench.video import FORMATS

    try:
        with Image.open(path, formats=FORMATS) as picture:
            kind = str(picture.format or "unknown").lower()
            compression = str(picture.info.get("compression", ""))
    except Exception as error:  # as in ``video.read_picture``
        raise DataError(f"{path}: cannot be decoded as a picture ({error}); it is truncated or of another format.") from error
    if kind == "webp":
        return "" if path.open("rb").read(16)[12:] == b"VP8L" else kind
    if kind == "tiff":
        return kind if "jpeg" in compression else ""
    return "" if kind in ("png", "bmp") else kind
