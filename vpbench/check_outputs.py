"""``vpbench check benchmark=... outputs=DIR``: what is wrong with outputs, before hours are spent on scoring them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vpbench import output_faults, outputs
from vpbench.clip import Clip, ClipHandle, Frames
from vpbench.errors import DataError
from vpbench.findings import Finding
from vpbench.output_faults import Judged, Thumbnails

MORE_FRAMES = 8  # of an output with too many, beyond the clip's, that are looked at


@dataclass(frozen=True)
class _Looked:
    """What was found of one output; ``thumbnails`` are of its frames and of its clip."""

    judged: Judged
    thumbnails: Thumbnails | None = None


def check_outputs(
    handles: Sequence[ClipHandle],
    folder: Path,
    *,
    resize: str | None = None,
    frames: str | None = None,
    pattern: str | None = None,
    chosen: Sequence[ClipHandle] | None = None,
    progress: Callable[[str, int, int], None] = lambda clip, done, total: None,
) -> list[Finding]:
    """Compare outputs with the clips of a benchmark.

    Args:
        handles: the benchmark's clips.
        folder: holds the outputs; how they are named: ``vpbench.outputs``.
        resize: as for scoring.
        frames: as for scoring.
        pattern: as for scoring.
        chosen: the clips to look at; None for all.
        progress: called with a clip's name and the counts.

    Returns:
        Findings by clip, in the benchmark's order; last the notes on all of them.

    Raises:
        ConfigError: a setting that does not exist.
        DataError: there are no outputs, or it cannot be told whose they are.
    """
    outputs.check_settings(resize, frames, pattern)
    chosen = handles if chosen is None else chosen
    matched = outputs.match(outputs.listing(folder), [handle.name for handle in handles], pattern, folder)
    looked: dict[str, _Looked] = {}
    clips: dict[str, Thumbnails] = {}
    for number, handle in enumerate(chosen):
        progress(handle.name, number, len(chosen))
        output = matched.of.get(handle.name)
        try:
            clip = handle.load()
        except (DataError, OSError) as error:
            looked[handle.name] = _only(
                Finding(handle.name, "the clip cannot be read", str(error), "vpbench check benchmark=... looks at the data")
            )
            continue
        clips[handle.name] = Thumbnails.of(clip.frames, clip.masks)
        if output is None:
            evidence = f"{folder} holds no output named '{matched.pattern.replace(outputs.CLIP, clip.name)}'"
            looked[handle.name] = _only(
                Finding(handle.name, "missing clip", evidence, "Make it, or score the others alone with clips=[...]")
            )
            continue
        looked[handle.name] = _look(clip, output, resize, frames)
    thumbnails = {name: one.thumbnails for name, one in looked.items() if one.thumbnails is not None}
    wrong = output_faults.wrong_pairings(thumbnails, clips)
    found: list[Finding] = []
    for name, one in looked.items():
        found += [wrong[name]] if name in wrong else one.judged.findings
    for extra in matched.extra:
        found.append(
            Finding(
                extra.name, "extra clip", f"{extra.path} belongs to no clip of the benchmark", "Rename it after its clip, or move it away"
            )
        )
    return [*found, *_backgrounds({name: one.judged for name, one in looked.items() if name not in wrong})]


def _only(finding: Finding) -> _Looked:
    return _Looked(Judged((finding,)))


def _look(clip: Clip, output: outputs.Output, resize: str | None, frames: str | None) -> _Looked:
    """One output: what its header says, then what its pixels say."""
    count, height, width = clip.masks.shape
    try:
        header = output.header()
        try:
            sized = outputs.fits(header, width, height, resize)
        except DataError as error:
            small = outputs.read(output, range(header.frames), header.width, header.height, None)
            return _Looked(Judged((Finding(clip.name, "resized", f"{output.path} {error}"),)), Thumbnails.of(small))
        try:
            choice = outputs.choose(header, count, clip.fps, frames)
        except DataError as error:
            if header.frames == count:
                return _only(Finding(clip.name, "frame rate", f"{output.path} {error}"))
            some = outputs.read(output, range(min(header.frames, count + MORE_FRAMES)), width, height, resize)
            return _Looked(Judged((output_faults.wrong_count(clip, some, header.frames),)), Thumbnails.of(some))
        read: Frames = outputs.read(output, choice.indices, width, height, resize)
    except DataError as error:
        return _only(Finding(clip.name, "unreadable", str(error)))
    clip = clip.at(choice.present) if len(choice.present) < count else clip
    judged = output_faults.judge(clip, read, "" if header.lossless else header.coding, resized=bool(sized))
    notes = tuple(Finding(clip.name, "", note, note=True) for note in (*sized, *choice.notes))
    return _Looked(Judged((*judged.findings, *notes), judged.changed, judged.mean), Thumbnails.of(read))


def _backgrounds(judged: dict[str, Judged]) -> list[Finding]:
    """Whether backgrounds are the clips' own, one line for all that are and one for all that are not."""
    known = {name: one for name, one in judged.items() if np.isfinite(one.changed)}
    pasted = [name for name, one in known.items() if one.changed == 0]
    altered = {name: one.mean for name, one in known.items() if one.changed > 0}
    notes = []
    if pasted:
        evidence = "it is the clip's own to the last bit"
        notes.append(Finding(f"{len(pasted)} of {len(judged)} clips", "background pasted", evidence, note=True))
    if altered:
        most = max(altered, key=lambda name: altered[name])
        evidence = f"by {min(altered.values()):.2f} to {altered[most]:.2f} levels on average, most in {most}"
        notes.append(Finding(f"{len(altered)} of {len(judged)} clips", "background altered", evidence, note=True))
    return notes
