"""The files of a run, clip by clip, and the passes over them: what generating and scoring share."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from vpbench.clip import Clip, Frames
from vpbench.devices import ANYWHERE, usable_device
from vpbench.errors import DataError, StorageError
from vpbench.scoring import ClipStore, Protocol, clip_store, measure_clip
from vpbench.storage import cannot_write, clear_leftovers, make_folder, read_record, sha256_file, write_json
from vpbench.views import View

log = logging.getLogger(__name__)


class RunFolder:
    """Predictions and records of the clips of one run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._damaged: set[str] = set()  # what was said already

    def prediction_path(self, clip: str) -> Path:
        """Where the prediction of one clip lies."""
        return self.path / "predictions" / f"{clip}.mkv"

    def record_path(self, clip: str) -> Path:
        """Where the record of one clip lies."""
        return self.path / "clips" / f"{clip}.json"

    def claim_path(self, clip: str) -> Path:
        """Where a process says that it works on one clip."""
        return self.record_path(clip).with_suffix(".claim")

    def record(self, clip: str) -> dict[str, Any] | None:
        """The record of one clip; None when there is none or it is damaged."""
        path = self.record_path(clip)
        try:
            return read_record(path) if path.exists() else None
        except StorageError:
            if clip not in self._damaged:
                self._damaged.add(clip)
                log.warning("%s is damaged; the clip is done again", path)
            return None

    def write_record(self, record: Mapping[str, Any]) -> None:
        """Replace the record of the clip that it names."""
        write_json(self.record_path(record["clip"]), record)

    def is_generated(self, clip: str) -> bool:
        """Whether the prediction is on disk and is the one recorded, by checksum."""
        record = self.record(clip)
        path = self.prediction_path(clip)
        return record is not None and "prediction" in record and path.exists() and sha256_file(path) == record["prediction"]

    def store(self, clip: str, prediction: Frames, fps: float) -> tuple[str, Frames]:
        """Store a prediction losslessly; returns the checksum of its file and the frames as read back from it.

        Raises:
            StorageError: it cannot be written, or reading back gives other pixels.
        """
        from vpbench.video import write_lossless

        path = self.prediction_path(clip)
        make_folder(path.parent)
        clear_leftovers(path)
        try:
            write_lossless(path, prediction, fps)
        except OSError as error:
            raise cannot_write(path, error) from error
        stored = self.stored(clip)
        if not np.array_equal(stored, prediction):
            path.unlink()
            raise StorageError(f"{path}: reading back gave other pixels than were written; check the disk and the installed av package.")
        return sha256_file(path), stored

    def stored(self, clip: str) -> Frames:
        """The prediction of one clip, read from its file.

        Raises:
            StorageError: it cannot be read.
        """
        from vpbench.video import read_lossless

        try:
            return read_lossless(self.prediction_path(clip))
        except DataError as error:
            raise StorageError(str(error)) from error


class Passes:
    """What a protocol measures of every clip, for each track.

    Attributes:
        protocol: the reductions.
        absent: columns whose weights are missing, with the reason.
        measures: the passes that can run, by array id.
        views: a view per track.
        device: where networks run, a torch device.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Build the protocol that a resolved configuration names.

        Raises:
            ConfigError: see ``Protocol.of`` and ``Protocol.absent``; or the device cannot be used.
        """
        self.protocol = Protocol.of(config["protocol"])
        self.absent = self.protocol.absent()
        self.measures = self.protocol.measures(without=self.absent)
        self.views: list[View] = [replace(self.protocol.view, track=track) for track in config["track"] or self.protocol.tracks]
        device = str(config["device"])
        networks = any(measure.networks for measure in self.measures.values())
        self.device = usable_device(device) if networks or device not in ANYWHERE else "cpu"

    def stores(self, files: RunFolder, fingerprint: str, record: Mapping[str, Any]) -> list[ClipStore]:
        """Where the arrays of a clip lie, for each view; ``fingerprint`` is of the clip's content."""
        return [clip_store(files.path, fingerprint, record, view) for view in self.views]

    def are_stored(self, files: RunFolder, fingerprint: str, record: Mapping[str, Any]) -> bool:
        """Whether every pass that can run is stored for a clip."""
        return all(map(self.is_stored, self.stores(files, fingerprint, record)))

    def is_stored(self, store: ClipStore) -> bool:
        """Whether every pass that can run is stored for a clip and view."""
        return all(map(store.has, self.measures.values()))

    def score(self, files: RunFolder, fingerprint: str, record: dict[str, Any], clip: Clip, prediction: Frames) -> None:
        """Run the passes that are missing for a clip whose prediction is stored, and record that it is done."""
        begun = time.perf_counter()
        if "present" in record:
            clip = clip.at(record["present"])
        for store in self.stores(files, fingerprint, record):
            measure_clip(store, clip, prediction, self.measures, self.device)
        kept = {key: record[key] for key in record if key not in ("error", "stage", "traceback")}
        files.write_record({**kept, "score_seconds": time.perf_counter() - begun, "status": "ok"})
