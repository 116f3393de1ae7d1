"""``vpbench check benchmark=...``: whether the data of a benchmark is there and fits together, before a model runs on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from vpbench.clip import Clip, ClipHandle
from vpbench.errors import DataError
from vpbench.findings import Finding
from vpbench.outputs import listed

LARGE_HOLE = 0.5  # share of the picture from which on the mask may be upside down


def check_data(
    handles: Sequence[ClipHandle], progress: Callable[[str, int, int], None] = lambda clip, done, total: None
) -> tuple[list[Finding], str]:
    """Read every clip.

    Args:
        handles: the clips. One that has a method ``remarks() -> list[str]`` is asked what strikes it about its files.
        progress: called with a clip's name and the counts.

    Returns:
        Findings by clip, then notes on all; and what the clips are: their number, frames, sizes and rates.
    """
    found: list[Finding] = []
    frames, sizes, rates = set(), set(), set()
    untold: list[str] = []
    told = 0
    for number, handle in enumerate(handles):
        progress(handle.name, number, len(handles))
        try:
            clip = handle.load()
            remarks = list(handle.remarks()) if hasattr(handle, "remarks") else []
        except (DataError, OSError) as error:
            found.append(Finding(handle.name, "unreadable", str(error)))
            continue
        found += [Finding(clip.name, "", remark, note=True) for remark in remarks]
        found += _of(clip)
        count, height, width = clip.masks.shape
        frames.add(count)
        sizes.add((width, height))
        rates.add(round(clip.fps, 3))
        if clip.caption.strip():
            told += 1
        else:
            untold.append(clip.name)
    if untold and told:
        found.append(
            Finding(listed(untold), "no caption", f"{len(untold)} of {len(handles)} clips have none", "Add them to the list of captions")
        )
    elif untold:
        evidence = "no clip has one; metrics of text have no value, and models that need a text make what they like"
        found.append(Finding(f"{len(untold)} clips", "no caption", evidence, note=True))
    if not frames:
        return found, f"0 of {len(handles)} clips can be read"
    pixels = [f"{width}x{height}" for width, height in sorted(sizes)]
    what = f"{_span(sorted(frames))} frames of {listed(pixels)} at {_span(sorted(rates))} fps"
    return found, f"{len(handles)} clip{'s' * (len(handles) > 1)}, {what}"


def _of(clip: Clip) -> list[Finding]:
    found = []
    if not clip.fps > 0:
        found.append(Finding(clip.name, "frame rate", f"{clip.fps:g} frames per second", "State the rate of the video"))
    share = float(clip.masks.mean())
    if share > LARGE_HOLE:
        evidence = f"the hole is {share:.0%} of the picture; if that is not meant, the mask is inverted (white is the hole)"
        found.append(Finding(clip.name, "large hole", evidence, note=True))
    if clip.operation != "inpaint" and not clip.region_caption.strip() and not clip.instruction.strip():
        evidence = f"the operation is {clip.operation}, and neither an instruction nor a region's caption says what to do"
        found.append(Finding(clip.name, "no instruction", evidence, "Add one to the list"))
    return found


def _span(values: Sequence[float]) -> str:
    """The values, or the first and last of many.

    >>> _span([8]), _span([8, 24]), _span([5, 6, 9])
    ('8', '8 or 24', '5 to 9')
    """
    if len(values) <= 2:
        return " or ".join(f"{value:g}" for value in values)
    return f"{values[0]:g} to {values[-1]:g}"
