"""The players of one clip: which videos it has, made where they are missing. A video's name follows from what it was made from."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from vpbench.clip import Clip, Frames
from vpbench.errors import DataError, StorageError
from vpbench.report.previews import VERSION, Picture, error_pictures, input_pictures, write_preview
from vpbench.report.sources import Benchmarks, RunFolder
from vpbench.storage import read_json, sha256_file, sha256_json, write_json
from vpbench.video import probe, read_lossless
from vpbench.views import View

UNKNOWN_TEXTS: dict[str, Any] = {"caption": "", "region_caption": "", "instruction": "", "has_truth": None}


@dataclass(frozen=True)
class Player:
    """One video of a clip's page.

    Attributes:
        name: ``input``, ``reference``, or the model's label.
        kind: ``input``, ``reference`` or ``model``.
        video: file name in the folder of media; empty where there is none.
        error: of the error heat map; empty where there is none.
        note: what a reader must know: why there is no video, or what it shows instead.
        model: position of the model in the table; -1 for input and reference.
    """

    name: str
    kind: str
    video: str = ""
    error: str = ""
    note: str = ""
    model: int = -1


@dataclass(frozen=True)
class ClipMedia:
    """What the page of one clip shows.

    Attributes:
        players: input, reference, then the models in the order given.
        texts: ``caption``, ``region_caption``, ``instruction``, ``has_truth`` (None where the benchmark is gone).
        missing: why there is no input and reference; empty where there is.
        made: how many files this call wrote.
    """

    players: tuple[Player, ...]
    texts: dict[str, Any]
    missing: str = ""
    made: int = 0


@dataclass
class Media:
    """The folder of media, shared by all pages of a report.

    Attributes:
        folder: holds the videos and texts.
        benchmarks: where inputs and references come from.
        used: names of all files that pages refer to.
    """

    folder: Path
    benchmarks: Benchmarks = field(default_factory=Benchmarks)
    used: set[str] = field(default_factory=set)

    def clip(self, name: str, models: Sequence[tuple[str, RunFolder | None, View]]) -> ClipMedia:
        """The players of a clip; only what is missing is made.

        Args:
            name: of the clip.
            models: label, run folder (None where there are numbers alone) and view of each, in order.

        Raises:
            StorageError: the folder cannot be written.
        """
        return _ClipMaker(self, name, models).make()


class _ClipMaker:
    def __init__(self, media: Media, name: str, models: Sequence[tuple[str, RunFolder | None, View]]) -> None:
        self.media, self.name, self.models = media, name, models
        self.runs = [run for _, run, _ in models if run is not None and run.fingerprint(name)]
        self.content = self.runs[0].fingerprint(name) if self.runs else ""
        self.view = next((view for _, run, view in models if run is not None), View())
        self.made = 0
        self.missing = ""
        self._clip: Clip | None = None

    def make(self) -> ClipMedia:
        texts = self._texts()
        against = (self.content, self.view.against, self.view.quantise)
        names = {"input": self._file("input", self.content), "reference": self._file("reference", *against)}
        players = []
        for kind, file in names.items():
            if not self._has(file) and (clip := self._load()) is not None:
                pictures = input_pictures(clip) if kind == "input" else self.view.comparison(clip, clip.frames).reference
                self._write(file, pictures, clip.fps)
            if self._has(file):
                players.append(Player(kind, kind, self._use(file)))
        players += [replace(self._player(*model), model=index) for index, model in enumerate(self.models)]
        return ClipMedia(tuple(players), texts, self.missing, self.made)

    def _player(self, label: str, run: RunFolder | None, view: View) -> Player:
        if run is None:
            return Player(label, "model", note="numbers only: no run folder was given")
        record = run.record(self.name)
        if record.get("status") == "failed":
            return Player(label, "model", note=f"failed: {record.get('error', 'no reason recorded')}")
        checksum = record.get("prediction")
        if not checksum:
            return Player(label, "model", note="no prediction: the run has not done this clip")
        raw = self._file("prediction", checksum)
        scored = (self.content, view.quantise, view.mask_dilate_px)
        shown = raw if view.track == "raw" else self._file("composite", checksum, *scored)
        error = self._file("error", checksum, view.track, view.against, *scored)
        present, frames = record.get("present"), int(record.get("properties", {}).get("frames", 0))
        gaps = f"{frames - len(present)} of {frames} frames are missing, and black here" if present else ""
        note = ""
        if not (self._has(shown) and self._has(error)):
            try:
                note = self._make(run, view, record, raw, shown, error)
            except DataError as problem:
                return Player(label, "model", note=str(problem))
        if not self._has(shown):
            shown = raw
        return Player(label, "model", self._use(shown), self._use(error) if self._has(error) else "", "; ".join(filter(None, [note, gaps])))

    def _make(self, run: RunFolder, view: View, record: Mapping[str, Any], raw: str, shown: str, error: str) -> str:
        """Make what is missing of a model's videos; returns what a reader must know of what could not be made."""
        clip = self._load()
        if clip is None and self._has(raw):
            return self._without(view)
        prediction = self._prediction(run, record["prediction"])
        present = record.get("present") or range(len(prediction))
        if clip is None:
            self._write(raw, _in_place(prediction, record), probe(run.prediction(self.name)).fps)
            return self._without(view)
        comparison = view.comparison(clip.at(present), prediction)
        if not self._has(shown):
            self._write(shown, _in_place(comparison.prediction, record), clip.fps)
        if not self._has(error):
            errors = error_pictures(comparison.prediction, comparison.reference, comparison.masks, comparison.has_truth)
            self._write(error, _in_place(errors, record), clip.fps)
        return ""

    def _without(self, view: View) -> str:
        return "" if view.track == "raw" else "shown as the model made it: pasting known pixels back needs the benchmark"

    def _prediction(self, run: RunFolder, checksum: str) -> Frames:
        path = run.prediction(self.name)
        if not path.exists():
            raise DataError(f"{path} is gone")
        if sha256_file(path) != checksum:
            raise DataError(f"{path} is not the prediction that was scored")
        return read_lossless(path)

    def _texts(self) -> dict[str, Any]:
        file = self._file("texts", self.content, suffix=".json")
        path = self.media.folder / file
        if not self._has(file) and (clip := self._load()) is not None:
            texts = {"caption": clip.caption, "region_caption": clip.region_caption, "instruction": clip.instruction}
            write_json(path, {**texts, "has_truth": clip.has_truth})
            self.made += 1
        if not self._has(file):
            return UNKNOWN_TEXTS
        self._use(file)
        try:
            return {**UNKNOWN_TEXTS, **read_json(path)}
        except StorageError:
            path.unlink(missing_ok=True)  # damaged from outside: made again
            return self._texts()

    def _load(self) -> Clip | None:
        """The clip, read at most once; None where it cannot be had any more, ``missing`` then says why."""
        if self._clip is None and not self.missing:
            try:
                self._clip = self.media.benchmarks.load(self.runs, self.name)
            except DataError as error:
                self.missing = str(error)
        return self._clip

    def _file(self, kind: str, *content: Any, suffix: str = ".mp4") -> str:
        return sha256_json([VERSION, kind, *content])[:24] + suffix

    def _has(self, file: str) -> bool:
        return (self.media.folder / file).exists()

    def _use(self, file: str) -> str:
        self.media.used.add(file)
        return file

    def _write(self, file: str, pictures: Any, fps: float) -> None:
        write_preview(self.media.folder / file, pictures, fps)
        self.made += 1


def _in_place(pictures: Iterable[Picture], record: Mapping[str, Any]) -> Iterator[Picture]:
    """The pictures of a prediction, with a black one for every frame that it lacks."""
    found = iter(pictures)
    present = record.get("present")
    if not present:
        yield from found
        return
    first = next(found)
    found = itertools.chain([first], found)
    for t in range(int(record["properties"]["frames"])):
        yield next(found) if t in set(present) else np.zeros_like(first)
