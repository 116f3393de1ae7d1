"""VPBench (VideoPainter, arXiv 2503.05639): four lists of clips with label-map masks and texts.

```
our_video_<split>.csv      pexels/pexels/raw_video/...   videovo/raw_video/...   video_inpainting/{pexels,videovo}/<base>/all_masks.npz
```

Rows are addressed by row, not by path: two objects of one video are two clips. Differences from the official loader are listed in
``docs/benchmarks.md``.
"""

from __future__ import annotations

import logging
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vpbench.benchmarks.common import check_columns, check_name, check_unique, existing_root, fingerprint, inside, read_csv, whole_number
from vpbench.benchmarks.preparation import Preparation
from vpbench.clip import OPERATIONS, Clip, Masks, Shape
from vpbench.configuration import unknown_name
from vpbench.errors import DataError
from vpbench.storage import check_unpacked

if TYPE_CHECKING:
    from vpbench.video import VideoInfo

MOST_TIMES = 16  # as many pixels as a video's frames that its masks may have
ROWS = {"inpaint": 100, "inpaint_long": 16, "edit": 45, "edit_long": 9}  # as published
COMMON = ("path", "mask_id", "start_frame", "end_frame", "fps")
INPAINT = ("video_inpainting_prompt", "image_inpainting_prompt")
CAPTION = "caption"  # all that VPData's own lists say of a clip
EDIT = ("Edited_video_caption", "Edited_image_caption", "Editing_instruction")
VERBS = {
    "add": ("add", "insert"),
    "remove": ("remove", "delete", "erase"),
    "swap": ("swap", "replace"),
    "change": ("change", "turn", "make"),
}
log = logging.getLogger(__name__)


def operation_of(instruction: str) -> str:
    """The operation that an instruction's first word names; ``other`` when it is none of the known verbs."""
    words = re.findall(r"[a-z]+", instruction.lower())
    return next((name for name, verbs in VERBS.items() if words and words[0] in verbs), "other")


@dataclass(frozen=True)
class VPBenchHandle:
    """One row of a list, not yet read."""

    name: str
    video: Path
    masks: Path
    mask_id: int
    start: int
    end: int
    fps: float
    caption: str
    region_caption: str
    operation: str
    instruction: str
    prepare: Preparation
    source_caption: str = ""

    def fingerprint(self) -> str:
        """Hex sha256 over video, masks, the row and the preparation."""
        row = (self.name, self.mask_id, self.start, self.end, self.fps, self.caption, self.region_caption, self.operation, self.instruction)
        more = [self.source_caption] if self.source_caption else []
        return fingerprint([self.video, self.masks], row, self.prepare.identity(), *more)

    def shape(self) -> Shape:
        """The clip's size, from the list and the video's header.

        Raises:
            DataError: the video is missing or damaged, or the window is outside of it.
        """
        info = self._probe()
        return self.prepare.shape(self.end - self.start, info.height, info.width, self.fps)

    def remarks(self) -> list[str]:
        """What strikes one about the video: a rate that is not the list's."""
        from vpbench.video import probe

        fps = probe(self.video).fps
        return (
            [] if abs(fps - self.fps) <= 0.01 * self.fps else [f"the list says {self.fps:g} fps, {self.video} {fps:g}; the list's is used"]
        )

    def load(self) -> Clip:
        """Read the row's frames and the masks of its object.

        Raises:
            DataError: a file is missing or damaged, the window is outside the video, or the object does not occur.
        """
        from vpbench.video import read_video

        info = self._probe()
        kept = [self.start + index for index in self.prepare.indices(self.end - self.start, self.fps)]
        frames, _ = read_video(self.video, kept)
        labels = self._labels(info)
        masks: Masks = labels[kept] == self.mask_id
        if not masks.any():
            present = ", ".join(map(str, np.unique(labels[kept])))
            raise DataError(
                f"{self.masks}: the object {self.mask_id} does not occur in the {len(kept)} frames that are used; found: {present}. "
                "There is nothing to fill."
            )
        masks = self.prepare.masks_for(masks, frames, self.name)
        fps = self.fps / self.prepare.step(self.fps)
        texts = (self.caption, self.region_caption, self.operation, self.instruction)
        clip = Clip(self.name, frames, masks, fps, *texts, source_caption=self.source_caption)
        return self.prepare.apply(clip, windowed=True)

    def _probe(self) -> VideoInfo:
        from vpbench.video import probe

        info = probe(self.video)
        if not 0 <= self.start < self.end <= info.frames:
            raise DataError(f"{self.video}: the list asks for frames {self.start} to {self.end}, the video has {info.frames}.")
        return info

    def _labels(self, video: VideoInfo) -> np.ndarray[Any, Any]:
        try:
            with np.load(self.masks, allow_pickle=False) as stored:
                check_unpacked(stored.zip, 8 * MOST_TIMES * video.frames * video.height * video.width)
                labels: np.ndarray[Any, Any] = stored["arr_0"]
        except Exception as error:  # zipfile, numpy and the operating system raise many unrelated types here
            raise DataError(f"{self.masks}: cannot be read ({error}); expected an .npz with an array arr_0 of object ids.") from error
        if not isinstance(labels, np.ndarray):
            raise DataError(f"{self.masks}: arr_0 is no array; expected integers (T, H, W).")
        if labels.ndim != 3 or labels.dtype.kind not in "bui":
            raise DataError(f"{self.masks}: arr_0 is {labels.dtype} {labels.shape}; expected integers (T, H, W).")
        if len(labels) != video.frames:
            raise DataError(
                f"{self.masks}: {len(labels)} masks for the {video.frames} frames of {self.video}; there must be one for every frame."
            )
        return labels


class VPBench:
    """The benchmark; building it reads one CSV file.

    Attributes:
        name: ``vpbench-<split>`` unless given.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        split: str = "inpaint",
        csv: str | None = None,
        prepare: Preparation | Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        """List the clips.

        Args:
            root: the folder that holds the CSV files, ``pexels/``, ``videovo/`` and ``video_inpainting/``.
            split: ``inpaint``, ``inpaint_long``, ``edit`` or ``edit_long``.
            csv: another list below ``root``, with the columns of the split or, for inpainting, of VPData's own lists (``caption`` in place
                of the two prompts, so that regions have no text).
            prepare: see ``Preparation``; None takes the official time base of the split: thinned to about 8 fps (not for ``edit_long``),
                at most 49 frames for the two standard splits.
            name: shown in tables.

        Raises:
            DataError: the list is missing or lacks a column, or a path leaves ``root``.
            ConfigError: an unknown split.
        """
        if split not in ROWS:
            raise unknown_name("benchmark.split", str(split), list(ROWS))
        base = existing_root(root, "the VPBench layout")
        self.name = name or f"vpbench-{split}"
        path = inside(base, csv or f"our_video_{split}.csv")
        if not path.is_file():
            davis = " This looks like DAVIS: use benchmark=davis." if (base / "JPEGImages_432_240").is_dir() else ""
            raise DataError(
                f"{path}: no such file. The VPBench layout has our_video_<split>.csv, pexels/, videovo/ and video_inpainting/ below "
                f"benchmark.root.{davis}"
            )
        edit = split.startswith("edit")
        rows = read_csv(path, COMMON)
        if not rows:
            raise DataError(f"{path}: lists no clip.")
        if edit or CAPTION not in rows[0]:
            check_columns(path, rows[0], EDIT if edit else INPAINT)
        self._remarks = []
        if csv is None and len(rows) != ROWS[split]:
            self._remarks.append(f"{path} lists {len(rows)} clips; the published split has {ROWS[split]}")
            log.info(self._remarks[0])
        preparation = with_time_base(Preparation.of(prepare), split)
        self._handles = [self._row(base, path, number, row, edit, preparation) for number, row in enumerate(rows)]
        self._make_unique(path)

    def _row(self, base: Path, path: Path, number: int, row: dict[str, str], edit: bool, prepare: Preparation) -> VPBenchHandle:
        where = f"{path}, row {number + 1}"
        cell = {key: whole_number(row[key], f"{where}: {key}") for key in ("mask_id", "start_frame", "end_frame")}
        try:
            fps = float(row["fps"])
        except ValueError:
            fps = 0.0
        if not 0 < fps < 1000:
            raise DataError(f"{where}: fps is {row['fps']!r}; expected frames per second over 0.")
        video, masks, stem = _paths(base, row["path"], where)
        instruction = row["Editing_instruction"] if edit else ""
        operation = row.get("operation", "").strip() or (operation_of(instruction) if edit else "inpaint")
        if operation not in OPERATIONS:
            raise DataError(f"{where}: operation is {operation!r}; known: {', '.join(OPERATIONS)}.")
        if edit:
            caption, region = row["Edited_video_caption"], row["Edited_image_caption"]
        else:
            caption, region = row.get(INPAINT[0], row.get(CAPTION, "")), row.get(INPAINT[1], "")
        return VPBenchHandle(
            name=check_name(f"{stem}_m{cell['mask_id']}", path),
            video=video,
            masks=masks,
            mask_id=cell["mask_id"],
            start=cell["start_frame"],
            end=cell["end_frame"],
            fps=fps,
            caption=caption,
            region_caption=region,
            operation=operation,
            instruction=instruction,
            prepare=prepare,
            source_caption=row.get("Original_video_caption", "") if edit else "",
        )

    def _make_unique(self, path: Path) -> None:
        """Give clips whose names clash, without regard to case, the number of their row."""
        counts = Counter(handle.name.casefold() for handle in self._handles)
        for row, handle in enumerate(self._handles):
            if counts[handle.name.casefold()] > 1:
                self._handles[row] = replace(handle, name=f"{handle.name}_r{row}")
        check_unique((handle.name for handle in self._handles), path)

    def remarks(self) -> list[str]:
        """What strikes one about the list."""
        return list(self._remarks)

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[VPBenchHandle]:
        return iter(self._handles)


def with_time_base(prepare: Preparation, split: str) -> Preparation:
    """Fill ``to_fps`` and ``max_frames`` that are not set with the official time base of a split."""
    to_fps = prepare.to_fps if prepare.to_fps is not None or split == "edit_long" else 8.0
    max_frames = prepare.max_frames if prepare.max_frames is not None or split.endswith("long") else 49
    return replace(prepare, to_fps=to_fps, max_frames=max_frames)


def _paths(root: Path, name: str, where: str) -> tuple[Path, Path, str]:
    """Video, mask file and stem of a row's ``path``, joined by the official rules (not by replacing text)."""
    inside(root, name)
    if "/" in name or "\\" in name:
        raise DataError(f"{where}: path is {name!r}; expected a bare file name, which must not leave {root}.")
    if not name.lower().endswith(".mp4"):
        raise DataError(f"{where}: path is {name!r}; expected the name of an .mp4 file.")
    stem = name.split(".", 1)[0]
    if name.endswith(".0.mp4"):
        return root / "videovo/raw_video" / stem[:-3] / name, root / "video_inpainting/videovo" / stem / "all_masks.npz", stem
    return root / "pexels/pexels/raw_video" / stem[:9] / name, root / "video_inpainting/pexels" / stem / "all_masks.npz", stem
