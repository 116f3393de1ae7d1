"""The job folder: what a program is given of a clip, and what it must leave there.

job.json           what there is to do, see ``write``
source/00000.png   RGB; for ``inpaint`` with a black hole, for edits the unedited video
mask/00000.png     one channel, 255 in the hole, 0 elsewhere
*.png              given by some models: pictures beside the clip (first_edited.png)
work/              for the program's own use
out/00000.png      made by the program: RGB, as many as in ``source`` and of their size
result.json        made by the program: {"status": "ok"}, and what should be on record
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vpbench.clip import Frames, MaskedClip
from vpbench.errors import DataError, ModelError
from vpbench.outputs import RESIZE, resized
from vpbench.storage import write_json
from vpbench.video import read_picture

SCHEMA = 1
RESULT_LIMIT = 10_000_000  # bytes of result.json that are read


@dataclass(frozen=True)
class Outcome:
    """What a program made of a clip.

    Attributes:
        frames: uint8 (N, H, W, 3) at the clip's size.
        present: which frames these are.
        result: what ``result.json`` says.
        notes: what a reader of the table must know.
    """

    frames: Frames
    present: tuple[int, ...]
    result: dict[str, Any]
    notes: tuple[str, ...]


def write(folder: Path, clip: MaskedClip, seed: int, pictures: Mapping[str, NDArray[np.uint8]] | None = None) -> None:
    """Write the job of a clip into an empty folder.

    ``job.json`` has ``schema`` (1), ``sample`` (the clip's name), ``task`` (``inpaint`` or ``edit``), ``operation``, ``width``, ``height``,
    ``fps``, ``frames``, ``seed``, ``mask_bbox_xyxy`` (what encloses the hole in all frames, in pixels, the right and lower end exclusive;
    null without a hole) and ``texts``: ``source`` (of an edit: the video as it is), ``target`` (as it shall be), ``region`` (what belongs
    into the hole) and ``instruction``; empty where the benchmark has none. ``pictures``, uint8 (H, W, 3) by file name, lie beside it.

    Raises:
        OSError: the disk is full or the folder cannot be written.
    """
    edit = clip.operation != "inpaint"
    frames, height, width = clip.masks.shape
    for part in ("source", "mask", "out", "work"):
        (folder / part).mkdir(parents=True)
    for t, (frame, mask) in enumerate(zip(clip.frames if clip.source is None else clip.source, clip.masks, strict=True)):
        Image.fromarray(frame).save(folder / "source" / f"{t:05}.png", compress_level=1)
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "mask" / f"{t:05}.png", compress_level=1)
    for name, picture in (pictures or {}).items():
        Image.fromarray(picture).save(folder / name, compress_level=1)
    write_json(
        folder / "job.json",
        {
            "schema": SCHEMA,
            "sample": clip.name,
            "task": "edit" if edit else "inpaint",
            "operation": clip.operation,
            "width": width,
            "height": height,
            "fps": clip.fps,
            "frames": frames,
            "seed": seed,
            "mask_bbox_xyxy": _box(clip),
            "texts": {
                "source": clip.source_caption if edit else clip.caption,
                "target": clip.caption,
                "region": clip.region_caption,
                "instruction": clip.instruction,
            },
        },
    )


def read(folder: Path, clip: MaskedClip, resize: str | None, allow_short: bool) -> Outcome:
    """Read what a program left.

    Args:
        folder: of the job.
        clip: that the job was written from.
        resize: filter by which frames of another size are brought to the clip's; None: they are refused.
        allow_short: whether frames may be missing.

    Raises:
        ModelError: no or a damaged ``result.json``, one that says ``failed``; frames that are missing, too many, unreadable or of another
            size.
    """
    result = _result(folder / "result.json")
    if result.get("status") != "ok":
        raise ModelError(f"the program says {result.get('status')!r} in result.json: {str(result.get('error', 'no reason given'))[:2000]}")
    paths = _pictures(folder / "out", len(clip.masks), allow_short)
    height, width = clip.masks.shape[1:]
    frames = np.empty((len(paths), height, width, 3), np.uint8)
    notes = [str(note) for note in _list(result, "notes")]
    if result.get("text_truncated"):
        notes.append("text cut: the program reads no more than the first part of the caption")
    for row, path in enumerate(paths.values()):
        try:
            picture = read_picture(path)
        except DataError as error:
            raise ModelError(str(error)) from error
        if picture.shape[:2] != (height, width):
            found = f"{picture.shape[1]}x{picture.shape[0]}"
            if resize is None:
                raise ModelError(
                    f"out/{path.name} is {found}, the clip {width}x{height}. Write frames of the clip's size, or let them be resized: "
                    f"model.resize={'|'.join(RESIZE)}."
                )
            picture = resized(picture[None], width, height, resize)[0]
            notes.append(f"resized: {found} to {width}x{height}, {resize}")
        frames[row] = picture
    return Outcome(frames, tuple(paths), result, tuple(dict.fromkeys(notes)))


def reason(folder: Path) -> str:
    """What ``result.json`` gives as the reason of a failure; empty where it says nothing."""
    try:
        return str(_result(folder / "result.json").get("error", ""))[:2000]
    except ModelError:
        return ""


def _box(clip: MaskedClip) -> list[int] | None:
    if not clip.masks.any():
        return None
    rows, columns = (np.flatnonzero(clip.masks.any(axis=(0, axis))) for axis in (2, 1))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _result(path: Path) -> dict[str, Any]:
    need = '; a program that is done writes it, at least {"status": "ok"}'
    if not path.is_file():
        raise ModelError(f"there is no {path.name}{need}")
    if path.stat().st_size > RESULT_LIMIT:
        raise ModelError(f"{path.name} has {path.stat().st_size} bytes; at most {RESULT_LIMIT} are read")
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path.name} is no JSON ({error}){need}") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path.name} holds a {type(found).__name__}, expected an object{need}")
    return found


def _list(result: dict[str, Any], key: str) -> list[Any]:
    found = result.get(key) or []
    if not isinstance(found, list):
        raise ModelError(f"result.json: {key} is a {type(found).__name__}; expected a list")
    return found


def _pictures(folder: Path, frames: int, allow_short: bool) -> dict[int, Path]:
    """The frames by their numbers, ascending."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    expected = {f"{t:05}.png": t for t in range(frames)}
    if strange := [name for name in names if name not in expected]:
        raise ModelError(f"out/ has {len(names)} files for {frames} frames; {strange[0]} is not one of 00000.png to {frames - 1:05}.png")
    if not names:
        raise ModelError(f"out/ is empty; expected {frames} pictures, 00000.png to {frames - 1:05}.png")
    if len(names) < frames and not allow_short:
        first = min(set(expected) - set(names))
        raise ModelError(
            f"out/ has {len(names)} of {frames} frames, {first} is the first that is missing. A system that cannot make all of them is "
            "declared by model.allow_short=true; its row is scored on what is there, and not ranked."
        )
    return {expected[name]: folder / name for name in names}
