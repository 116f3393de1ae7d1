"""My own videos: a folder of videos or frame folders, with one mask for all frames, mask videos, or mask folders.

```
root/a.mp4  root/b/*.png                  with benchmark.mask=FILE (a picture, a mask video, or a folder of mask pictures) for every clip
root/a.mp4  root/b/*.png                  with benchmark.masks_dir=DIR holding a.png, a.mp4, a/*.png, ... by the clip's name
root/a/video.mp4  root/a/mask.mp4         a folder per clip (video and mask may each be a file or a folder)
```
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpbench.benchmarks.common import check_name, check_unique, existing_root, fingerprint, read_csv
from vpbench.benchmarks.preparation import Preparation
from vpbench.clip import OPERATIONS, Clip, Frames, Masks, Shape
from vpbench.errors import ConfigError, DataError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderHandle:
    """One video and its mask, not yet read."""

    name: str
    video: Path
    mask: Path
    caption: str
    region_caption: str
    operation: str
    instruction: str
    fps: float
    threshold: int
    prepare: Preparation

    def fingerprint(self) -> str:
        """Hex sha256 over video, mask, texts and preparation."""
        texts = (self.name, self.caption, self.region_caption, self.operation, self.instruction)
        fps = self.fps if self.video.is_dir() else None
        return fingerprint([*_files(self.video), *_files(self.mask)], texts, fps, self.threshold, self.prepare.identity())

    def shape(self) -> Shape:
        """The clip's size, from the video's header or its first picture.

        Raises:
            DataError: it is damaged or empty.
        """
        from vpbench.video import list_pictures, probe, read_frame_folder

        if self.video.is_dir():
            pictures = list_pictures(self.video)
            _, height, width, _ = read_frame_folder(self.video, pictures[:1]).shape
            return self.prepare.shape(len(pictures), height, width, self.fps)
        info = probe(self.video)
        return self.prepare.shape(info.frames, info.height, info.width, info.fps or self.fps)

    def load(self) -> Clip:
        """Read frames and masks.

        Raises:
            DataError: a file is unreadable, or masks and frames do not fit.
        """
        frames, fps, kept, count = self._frames()
        masks = self.prepare.masks_for(self._masks(kept, count), frames, self.name)
        fps /= self.prepare.step(fps)
        clip = Clip(self.name, frames, masks, fps, self.caption, self.region_caption, self.operation, self.instruction)
        return self.prepare.apply(clip, windowed=True)

    def _frames(self) -> tuple[Frames, float, list[int], int]:
        from vpbench.video import list_pictures, probe, read_frame_folder, read_video

        if self.video.is_dir():
            pictures = list_pictures(self.video)
            kept = self.prepare.indices(len(pictures), self.fps)
            if not kept:
                raise DataError(f"{self.video}: the clip is empty: the frame window leaves none of its {len(pictures)} pictures.")
            return read_frame_folder(self.video, [pictures[i] for i in kept]), self.fps, kept, len(pictures)
        info = probe(self.video)
        kept = self.prepare.indices(info.frames, info.fps or self.fps)
        return read_video(self.video, kept)[0], info.fps or self.fps, kept, info.frames

    def _masks(self, kept: list[int], count: int) -> Masks:
        """Masks of the frames that are kept; one picture serves all frames."""
        from vpbench.video import list_pictures, probe, read_mask_picture, read_mask_video

        if self.mask.is_file() and not is_video(self.mask):
            one = read_mask_picture(self.mask, self.threshold)
            return np.repeat(one[None], len(kept), axis=0)
        pictures = [] if self.mask.is_file() else list_pictures(self.mask)
        found = probe(self.mask).frames if self.mask.is_file() else len(pictures)
        if found != count:
            raise DataError(f"{self.mask}: {found} masks for the {count} frames of {self.video}; there must be one for every frame.")
        if self.mask.is_file():
            return read_mask_video(self.mask, kept)
        read = [read_mask_picture(pictures[i], self.threshold) for i in kept]
        if len({mask.shape for mask in read}) > 1:
            raise DataError(f"{self.mask}: the masks have different sizes.")
        return np.stack(read)


class Folder:
    """The benchmark; building it lists folders and reads the captions.

    Attributes:
        name: ``folder-<name of the root>`` unless given.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        mask: str | None = None,
        masks_dir: str | None = None,
        captions: str | None = None,
        fps: float = 8.0,
        mask_threshold: int = 0,
        prepare: Preparation | Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        """List the clips.

        Args:
            root: folder of videos, frame folders or clip folders (see the module's text); or one video file.
            mask: picture, mask video or mask folder for every clip.
            masks_dir: folder with a mask picture, mask video or mask folder named after each clip.
            captions: CSV with the columns clip, caption, region_caption, and where wanted operation and instruction.
            fps: of frame folders, which state none.
            mask_threshold: mask pictures are hole where their brightness (0-255) is over this.
            prepare: see ``Preparation``.
            name: shown in tables.

        Raises:
            DataError: a file or folder is missing, a clip has no mask, a caption no clip.
            ConfigError: both ``mask`` and ``masks_dir``.
        """
        if mask is not None and masks_dir is not None:
            raise ConfigError("benchmark.mask and benchmark.masks_dir are both given; use one.")
        if not fps > 0:
            raise ConfigError(f"benchmark.fps={fps}: expected frames per second over 0.")
        base = existing_root(root, "the videos")
        self.name = name or f"folder-{base.stem if base.is_file() else base.resolve().name}"
        check_name(self.name, base)
        for given, key in ((mask, "mask"), (masks_dir, "masks_dir")):
            if given is not None and not Path(given).expanduser().exists():
                raise DataError(f"{given}: no such file or folder (benchmark.{key}).")
        clips = _list_clips(base, [Path(given).expanduser().resolve() for given in (mask, masks_dir) if given is not None])
        check_unique((clip for clip, _, _ in clips), base)
        texts = _captions(Path(captions).expanduser(), [clip for clip, _, _ in clips]) if captions else {}
        preparation = Preparation.of(prepare)
        self._handles = []
        for clip, video, own in clips:
            row = texts.get(clip, {})
            operation = row.get("operation", "").strip() or "inpaint"
            if operation not in OPERATIONS:
                raise DataError(f"{captions}: operation of {clip} is {operation!r}; known: {', '.join(OPERATIONS)}.")
            self._handles.append(
                FolderHandle(
                    name=check_name(clip, base),
                    video=video,
                    mask=_mask_of(clip, own, mask, masks_dir, video),
                    caption=row.get("caption", ""),
                    region_caption=row.get("region_caption", ""),
                    operation=operation,
                    instruction=row.get("instruction", ""),
                    fps=float(fps),
                    threshold=int(mask_threshold),
                    prepare=preparation,
                )
            )

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[FolderHandle]:
        return iter(self._handles)


def is_video(path: Path) -> bool:
    """Whether a file is a video by its suffix."""
    from vpbench.video import VIDEOS

    return path.suffix.lower() in VIDEOS


def _files(path: Path) -> list[Path]:
    from vpbench.video import list_pictures

    return list_pictures(path) if path.is_dir() else [path]


def _list_clips(root: Path, masks: list[Path]) -> list[tuple[str, Path, Path | None]]:
    """Name, video and own mask of every clip, in order of name. Pictures directly in the root and ``masks`` are no clips."""
    from vpbench.video import VIDEOS, list_pictures

    if root.is_file():
        if not is_video(root):
            raise DataError(f"{root}: is neither a folder nor a video ({', '.join(VIDEOS)}).")
        return [(root.stem, root, None)]
    clips: list[tuple[str, Path, Path | None]] = []
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or path.resolve() in masks:
            continue
        if path.is_file() and is_video(path):
            clips.append((path.stem, path, None))
        elif path.is_dir():
            video = _named(path, "video")
            if video is not None:
                clips.append((path.name, video, _named(path, "mask")))
            elif list_pictures(path):
                clips.append((path.name, path, None))
            else:
                log.info("%s holds no pictures and no video.*; it is no clip", path)
    if not clips:
        raise DataError(f"{root}: holds no video, no folder of pictures and no folder with a video.* in it.")
    return clips


def _named(folder: Path, stem: str) -> Path | None:
    """The video, picture or folder called ``stem`` in a folder."""
    from vpbench.video import PICTURES, VIDEOS

    candidates = [folder / stem] if (folder / stem).is_dir() else []
    candidates += sorted(p for p in folder.iterdir() if p.stem == stem and p.is_file() and p.suffix.lower() in (*VIDEOS, *PICTURES))
    return candidates[0] if candidates else None


def _mask_of(clip: str, own: Path | None, mask: str | None, masks_dir: str | None, video: Path) -> Path:
    if mask is not None:
        return Path(mask).expanduser()
    if masks_dir is not None:
        found = _named(Path(masks_dir).expanduser(), clip)
        if found is None:
            raise DataError(f"{masks_dir}: holds no mask for the clip {clip} (looked for {clip}/, {clip}.png, {clip}.mp4, ...).")
        return found
    if own is None:
        raise DataError(
            f"{video}: has no mask. Give one for all clips (benchmark.mask=FILE), a folder with one for each (benchmark.masks_dir=DIR), "
            "or put each clip into a folder of its own as video.* and mask.*."
        )
    return own


def _captions(path: Path, clips: list[str]) -> dict[str, dict[str, str]]:
    texts: dict[str, dict[str, str]] = {}
    for row in read_csv(path, ("clip", "caption")):
        if row["clip"] not in clips:
            raise DataError(f"{path}: has a caption for {row['clip']!r}, which is no clip; clips: {', '.join(clips)}.")
        if row["clip"] in texts:
            raise DataError(f"{path}: has two rows for the clip {row['clip']!r}; leave one.")
        texts[row["clip"]] = row
    return texts
