"""DAVIS in the layout that the VideoPainter evaluation reads, with its object masks or with seeded random free-form masks.

```
JPEGImages_432_240/<clip>/00000.jpg ...   test_masks/<clip>/00000.png ...   davis_caption.csv
```
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpbench.benchmarks.common import check_name, check_unique, existing_root, fingerprint, inside, read_csv, whole_number
from vpbench.benchmarks.preparation import Preparation
from vpbench.clip import Clip, Frames, Masks, Shape
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, DataError
from vpbench.masks import GENERATOR, Motion, check_manifest, clip_seed, manifest, manifest_entry, random_masks


@dataclass(frozen=True)
class DavisHandle:
    """One clip of DAVIS, not yet read."""

    name: str
    folder: Path
    masks: Path | None
    caption: str
    region_caption: str
    fps: float
    seed: int
    motion: Motion
    manifest: Path | None
    prepare: Preparation

    def fingerprint(self) -> str:
        """Hex sha256 over pictures, masks (or what generates them), texts and preparation."""
        from vpbench.video import list_pictures

        files = list_pictures(self.folder) + (list_pictures(self.masks) if self.masks else [])
        made = "disk" if self.masks else (GENERATOR, self.seed, self.motion)
        return fingerprint(files, self.name, made, self.caption, self.region_caption, self.fps, self.prepare.identity())

    def shape(self) -> Shape:
        """The clip's size, from its first picture.

        Raises:
            DataError: it has none, or that is unreadable.
        """
        from vpbench.video import list_pictures, read_frame_folder

        pictures = list_pictures(self.folder)
        _, height, width, _ = read_frame_folder(self.folder, pictures[:1]).shape
        return self.prepare.shape(len(pictures), height, width, self.fps)

    def load(self) -> Clip:
        """Read frames and masks.

        Raises:
            DataError: a picture is unreadable, or masks and frames do not fit.
        """
        from vpbench.video import list_pictures, read_frame_folder

        pictures = list_pictures(self.folder)
        kept = self.prepare.indices(len(pictures), self.fps)
        if not kept:
            raise DataError(f"{self.folder}: the clip is empty: the frame window leaves none of its {len(pictures)} pictures.")
        frames = read_frame_folder(self.folder, [pictures[i] for i in kept])
        masks = self._masks(frames, kept, len(pictures))
        fps = self.fps / self.prepare.step(self.fps)
        clip = Clip(self.name, frames, masks, fps, self.caption, self.region_caption)
        return self.prepare.apply(clip, windowed=True)

    def _masks(self, frames: Frames, kept: list[int], count: int) -> Masks:
        from vpbench.video import list_pictures, read_mask_picture

        if self.masks is None:
            masks = self.random(count, *frames.shape[1:3])
            if self.manifest is not None:
                check_manifest(self.manifest, self.name, masks)
            return masks[kept]
        files = list_pictures(self.masks)
        if len(files) != count:
            raise DataError(f"{self.masks}: {len(files)} masks for the {count} frames of {self.folder}; there must be one for every frame.")
        read = [read_mask_picture(files[i]) for i in kept]
        if len({mask.shape for mask in read}) > 1:
            raise DataError(f"{self.masks}: the masks have different sizes.")
        return self.prepare.masks_for(np.stack(read), frames, self.name)

    def random(self, count: int, height: int, width: int) -> Masks:
        """The clip's random masks at the size of its pictures, bool (T, H, W)."""
        return random_masks(self.seed, count, height, width, motion=self.motion)


class Davis:
    """The benchmark; building it lists folders and reads the captions.

    Attributes:
        name: ``davis`` with the object masks, ``davis-random`` with random ones, unless given.
    """

    def __init__(
        self,
        root: str | os.PathLike[str],
        masks: str = "disk",
        mask_seed: int = 0,
        mask_motion: Motion = "mixed",
        mask_manifest: str | None = None,
        frames_dir: str = "JPEGImages_432_240",
        masks_dir: str = "test_masks",
        captions: str = "davis_caption.csv",
        fps: float = 8.0,
        prepare: Preparation | Mapping[str, Any] | None = None,
        name: str | None = None,
    ) -> None:
        """List the clips.

        Args:
            root: the folder that holds ``frames_dir``.
            masks: ``disk`` reads ``masks_dir``, ``random`` generates.
            mask_seed: of the random mask set; a clip's own seed follows from it and the clip's name.
            mask_motion: ``stationary``, ``moving`` or ``mixed``.
            mask_manifest: a ``masks.json`` that the random masks must agree with.
            frames_dir: folder of frame folders.
            masks_dir: folder of mask folders.
            captions: CSV with Video_Index (from 1, in sorted order of the clips), Video_Caption, Masked_Target_Caption.
            fps: DAVIS states none; the official evaluation uses 8.
            prepare: see ``Preparation``. (The official loader dilates masks: mask_dilate_px=3, shape cross, 4 iterations.)
            name: shown in tables.

        Raises:
            DataError: a folder is missing, or the captions do not fit.
            ConfigError: an unknown value.
        """
        if not fps > 0:
            raise ConfigError(f"benchmark.fps={fps}: expected frames per second over 0.")
        if masks not in ("disk", "random"):
            raise unknown_name("benchmark.masks", str(masks), ["disk", "random"])
        if mask_motion not in ("stationary", "moving", "mixed"):
            raise unknown_name("benchmark.mask_motion", str(mask_motion), ["stationary", "moving", "mixed"])
        base = existing_root(root, "the DAVIS layout")
        self.name = name or ("davis" if masks == "disk" else "davis-random")
        self._random, self._seed, self._motion = masks == "random", mask_seed, mask_motion
        frames_root, masks_root = inside(base, frames_dir), inside(base, masks_dir)
        if not frames_root.is_dir():
            raise DataError(f"{frames_root}: no such folder. The DAVIS layout has {frames_dir}/<clip>/*.jpg below benchmark.root.")
        listed = masks_root if masks_root.is_dir() else frames_root
        if masks == "disk" and listed is frames_root:
            raise DataError(f"{masks_root}: no such folder. Put the masks there, or use benchmark.masks=random.")
        clips = sorted(path.name for path in listed.iterdir() if path.is_dir() and not path.name.startswith("."))
        if not clips:
            raise DataError(f"{listed}: holds no clip folder.")
        check_unique(clips, listed)
        texts = _captions(base, captions, len(clips))
        preparation = Preparation.of(prepare)
        self._handles = []
        for index, clip in enumerate(clips, 1):
            folder = frames_root / check_name(clip, listed)
            if not folder.is_dir():
                raise DataError(f"{folder}: no such folder, but {masks_root / clip} holds masks for it.")
            caption, region_caption = texts.get(index, ("", ""))
            self._handles.append(
                DavisHandle(
                    clip,
                    folder,
                    None if self._random else masks_root / clip,
                    caption,
                    region_caption,
                    float(fps),
                    clip_seed(mask_seed, clip),
                    mask_motion,
                    Path(mask_manifest) if mask_manifest and self._random else None,
                    preparation,
                )
            )

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[DavisHandle]:
        return iter(self._handles)

    def manifest(self) -> dict[str, Any] | None:
        """The manifest of the random masks, at the size of the pictures and before preparation; None for masks from disk."""
        if not self._random:
            return None
        from vpbench.video import list_pictures, read_frame_folder

        entries = []
        for handle in self._handles:
            pictures = list_pictures(handle.folder)
            height, width = read_frame_folder(handle.folder, pictures[:1]).shape[1:3]
            entries.append(manifest_entry(handle.name, handle.seed, handle.random(len(pictures), height, width)))
        return manifest(self._seed, self._motion, entries)


def _captions(root: Path, name: str, clips: int) -> dict[int, tuple[str, str]]:
    """Texts by index; empty without a file (the published tree names it without its suffix)."""
    path = inside(root, name)
    if not path.exists():
        path = path.with_suffix("")
    if not path.is_file():
        return {}
    texts = {}
    for row in read_csv(path, ("Video_Index", "Video_Caption", "Masked_Target_Caption")):
        index = whole_number(row["Video_Index"], f"{path}: Video_Index")
        if not 1 <= index <= clips:
            raise DataError(f"{path}: Video_Index {index}, but there are {clips} clips (counted from 1 in sorted order of their folders).")
        texts[index] = (row["Video_Caption"], row["Masked_Target_Caption"])
    return texts
