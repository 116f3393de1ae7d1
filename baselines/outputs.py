"""A folder of outputs as a model: what any system has made is scored like a run of ours (``vpbench score``)."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from vpbench import outputs
from vpbench.benchmarks.common import fingerprint
from vpbench.check import Need
from vpbench.clip import ClipHandle, MaskedClip
from vpbench.errors import ConfigError, DataError, ModelError
from vpbench.models import Short

log = logging.getLogger(__name__)


@dataclass
class Outputs:
    """The model: reads the output of a clip instead of making one.

    Attributes:
        folder: holds a video or a folder of pictures per clip, named as the clip; see ``vpbench.outputs``.
        resize: filter by which outputs of another size are brought to the clip's; None: they are refused.
        frames: what to do with another number or rate of frames (``vpbench.outputs.FRAMES``); None: they are refused.
        pattern: how outputs are named, with ``{clip}`` in it; None to find out.
    """

    folder: str
    resize: str | None = None
    frames: str | None = None
    pattern: str | None = None
    notes: list[str] = field(default_factory=list, init=False)
    _listed: list[outputs.Output] | None = field(default=None, init=False, repr=False)
    _matched: outputs.Matched | None = field(default=None, init=False, repr=False)

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        outputs.check_settings(self.resize, self.frames, self.pattern)

    @property
    def name(self) -> str:
        """The folder's name, in letters that can name a row."""
        return re.sub(r"[^\w.-]", "-", self._folder.resolve().name, flags=re.ASCII).lstrip(".") or "outputs"

    @property
    def allow_short(self) -> bool:
        """Whether outputs may lack frames."""
        return self.frames == "present"

    def needs(self) -> list[Need]:
        """The folder; its place does not count, its files do."""
        try:
            return [Need("folder", self.folder, f"{self._folder}: {len(self._outputs())} outputs", hashed=True)]
        except DataError as error:
            return [Need("folder", self.folder, problems=(str(error),), hashed=True)]

    def fingerprints(self) -> dict[str, str]:
        """Hex sha256 over the files of every output, by its name."""
        return {output.name + output.path.suffix * (not output.pictures): fingerprint(output.files) for output in self._outputs()}

    def expect(self, handles: Sequence[ClipHandle], chosen: Sequence[ClipHandle]) -> None:
        """Find the output of every clip, and look at their headers.

        Raises:
            ConfigError: clips of ``chosen`` have none or one that cannot be scored; the message names all of them.
        """
        try:
            self._matched = matched = outputs.match(self._outputs(), [handle.name for handle in handles], self.pattern, self._folder)
        except DataError as error:
            raise ConfigError(str(error)) from error
        extra = [output.name for output in matched.extra]
        problems = []
        if missing := [handle.name for handle in chosen if handle.name not in matched.of]:
            spare = f"; without a clip: {outputs.listed(extra)}" if extra else ""
            problems.append(
                f"no output for {len(missing)} of {len(chosen)} clips: {', '.join(missing)} (looked for '{matched.pattern}'{spare})"
            )
            if there := [handle.name for handle in chosen if handle.name in matched.of]:
                problems.append(f"to score those that are there alone: 'clips=[{','.join(there)}]'")
        for handle in chosen:
            if handle.name in matched.of and (problem := self._problem(handle, matched.of[handle.name])):
                problems.append(problem)
        if problems:
            raise ConfigError("\n".join([f"{self._folder}: these outputs cannot be scored:", *(f"  {problem}" for problem in problems)]))
        if extra:
            log.warning("%s: %d outputs belong to no clip and are not scored: %s", self._folder, len(extra), outputs.listed(extra))

    def __call__(self, clip: MaskedClip, *, seed: int) -> Short:
        """Return what the output of ``clip`` holds; ``seed`` has no effect.

        Raises:
            ModelError: it is missing, damaged, or of another size or length than the settings allow.
        """
        matched = self._matched or outputs.match(self._outputs(), [clip.name], self.pattern, self._folder)
        output = matched.of.get(clip.name)
        if output is None:
            raise ModelError(f"{clip.name}: {self._folder} holds no output for it (looked for '{matched.pattern}').")
        count, height, width = clip.masks.shape
        try:
            header = output.header()
            sized = outputs.fits(header, width, height, self.resize)
            choice = outputs.choose(header, count, clip.fps, self.frames)
            frames = outputs.read(output, choice.indices, width, height, self.resize)
        except DataError as error:
            raise ModelError(_about(clip.name, output, error)) from error
        self.notes = [*([] if header.lossless else [f"lossy input: {header.coding}"]), *sized, *choice.notes]
        return Short(frames, choice.present)

    @property
    def _folder(self) -> Path:
        return Path(self.folder).expanduser()

    def _outputs(self) -> list[outputs.Output]:
        if self._listed is None:
            self._listed = outputs.listing(self._folder)
        return self._listed

    def _problem(self, handle: ClipHandle, output: outputs.Output) -> str:
        """What is wrong with an output as far as headers tell; empty when nothing is, or when the benchmark tells no sizes beforehand."""
        try:
            header = output.header()
            if callable(shape := getattr(handle, "shape", None)):
                count, height, width, fps = shape()
                outputs.fits(header, width, height, self.resize)
                outputs.choose(header, count, fps, self.frames)
        except DataError as error:
            return _about(handle.name, output, error)
        return ""


def _about(clip: str, output: outputs.Output, error: DataError) -> str:
    said = str(error)
    return f"{clip}: {said}" if said.startswith(str(output.path)) else f"{clip}: {output.path} {said}"
