"""Where the pictures of a report come from: run folders and the benchmarks that they name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpbench.clip import Clip, ClipHandle
from vpbench.configuration import build
from vpbench.errors import DataError
from vpbench.results import Summary
from vpbench.storage import read_manifest, recorded
from vpbench.trust import check_stored
from vpbench.views import View


@dataclass(frozen=True)
class RunFolder:
    """A run folder as a report reads it; nothing in it is changed."""

    path: Path
    manifest: dict[str, Any] = field(repr=False)

    @classmethod
    def of(cls, summary: Summary) -> RunFolder | None:
        """The run folder that a summary lies in; None for a submission or a saved baseline, which hold numbers alone.

        Raises:
            StorageError: ``run.json`` is damaged.
        """
        path = summary.source.parent.parent.parent
        if summary.source.parent.parent.name != "scores" or not (path / "run.json").exists():
            return None
        return cls(path, read_manifest(path))

    @property
    def benchmark(self) -> Any:
        """The benchmark's leaf, as it was composed."""
        return self.manifest["config"].get("benchmark")

    def fingerprint(self, clip: str) -> str:
        """The fingerprint of a clip's content; empty where the run does not know the clip."""
        return str(self.manifest["clips"].get(clip, ""))

    def record(self, clip: str) -> dict[str, Any]:
        """The record of a clip (status, seconds, checksum); empty where there is none or it is damaged."""
        return recorded(self.path / "clips" / f"{clip}.json")

    def prediction(self, clip: str) -> Path:
        """Where the prediction of a clip lies."""
        return self.path / "predictions" / f"{clip}.mkv"

    def seconds_per_frame(self, summary: Summary) -> float | None:
        """Seconds of generation per frame over the clips that recorded them; None where none did."""
        seconds, frames = [], 0
        for clip in summary.clips:
            record = self.record(clip)
            count = record.get("properties", {}).get("frames", 0)
            if isinstance(record.get("seconds"), int | float) and count:
                seconds.append(float(record["seconds"]))
                frames += int(count)
        return math.fsum(seconds) / frames if frames else None

    @property
    def machine(self) -> str:
        """Where it ran, as far as it says so."""
        found = self.manifest.get("provenance", {})
        parts = [found.get("processor"), f"{found['cores']} cores" if found.get("cores") else None, found.get("platform")]
        return ", ".join(str(part) for part in parts if part)


def view_of(summary: Summary) -> View:
    """What was scored, as far as it shows in pictures: read from the track and from the ``track=`` part of the signatures."""
    tags = "-".join(part for cell in summary.cells for part in cell.signature.split("|") if part.startswith("track="))
    words = tags.replace("=", "-").split("-")
    dilated = [int(word[6:]) for word in words if word.startswith("dilate") and word[6:].isdigit()]
    return View(
        track=summary.track,
        quantise="vpbench-official" if "vpbench-official" in tags else "exact",
        against="source" if "source" in words else "truth",
        mask_dilate_px=max(dilated, default=0),
    )


class Benchmarks:
    """The benchmarks of runs, each built at most once, and only when one of its clips is wanted."""

    def __init__(self) -> None:
        self._built: dict[str, dict[str, ClipHandle] | DataError] = {}

    def load(self, runs: Sequence[RunFolder], clip: str) -> Clip:
        """Read a clip from the first benchmark that still has it, unchanged.

        Raises:
            DataError: none of the runs' benchmarks can be built, or their data is not what the runs saw; says why.
        """
        reasons: list[str] = []
        for run in runs:
            try:
                return self._load(run, clip)
            except DataError as error:
                reasons.append(str(error))
        raise DataError("; ".join(dict.fromkeys(reasons)) or "no run folder names the benchmark")

    def _load(self, run: RunFolder, clip: str) -> Clip:
        key = json.dumps(run.benchmark, sort_keys=True)
        if key not in self._built:
            try:
                check_stored(run.benchmark, f"{run.path / 'run.json'}: config.benchmark")
                self._built[key] = {handle.name: handle for handle in build(run.benchmark, "benchmark")}
            except Exception as error:  # a benchmark may be anybody's code; whatever it raises, its players are left out
                self._built[key] = DataError(f"the benchmark cannot be built any more ({_line(error)})")
        handles = self._built[key]
        if isinstance(handles, DataError):
            raise handles
        if clip not in handles:
            raise DataError("the benchmark does not have the clip any more")
        try:
            if handles[clip].fingerprint() != run.fingerprint(clip):
                raise DataError("the clip's data is not what the run saw")
            return handles[clip].load()
        except DataError:
            raise
        except Exception as error:  # as above
            raise DataError(f"the clip cannot be read any more ({_line(error)})") from error


def _line(error: Exception) -> str:
    return " ".join(f"{error}".split()) or type(error).__name__
