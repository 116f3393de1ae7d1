"""Results cut down to some of their clips: by operation, tag, and the measured properties of ``vpbench.properties``.

Bins are fixed, so that tables of different people can be compared; a bin holds its lower end. Values are recomputed from the values per
clip that a summary stores. A set metric is one value over all clips and has none in a slice.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpbench.errors import ConfigError, DataError
from vpbench.results import Cell, Note, Summary, advice, clip_mean

ALL = "all"
UNKNOWN = "unknown"  # the slice of the clips without the property
OF_SET = "it is one value over all clips and has none in a slice"
NO_VALUES = "its values per clip are not stored"


@dataclass(frozen=True)
class Bins:
    """Ranges of a measured property that is never negative: below the first edge, between neighbours, from the last on.

    Attributes:
        key: the property's name.
        edges: rising, in ``unit``.
        unit: as names of slices show it.
        scale: from the stored property to ``unit``.
    """

    key: str
    edges: tuple[float, ...]
    unit: str
    scale: float = 1.0

    @property
    def names(self) -> list[str]:
        """All ranges, in rising order.

        >>> Bins("coverage", (10, 30), "%").names
        ['0-10%', '10-30%', '30%+']
        """
        starts = (0.0, *self.edges)
        return [*(f"{low:g}-{high:g}{self.unit}" for low, high in zip(starts, self.edges, strict=False)), f"{self.edges[-1]:g}{self.unit}+"]

    def name(self, value: float) -> str:
        """The range that a stored property lies in."""
        return self.names[sum(value * self.scale >= edge for edge in self.edges)]


BINS = {
    "coverage": Bins("coverage", (10, 30, 50), "%", scale=100),  # of the frame that is hole
    "motion": Bins("motion", (0.1, 0.5, 1.5), "%"),  # of the diagonal per frame
    "length": Bins("seconds", (2, 5, 10, 30), "s"),
}
DIMENSIONS = ("operation", *BINS, "tag")


def check_dimensions(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once.

    Raises:
        ConfigError: one is unknown; suggests the nearest and lists all.
    """
    found = tuple(dict.fromkeys(names))
    for name in found:
        if name not in DIMENSIONS:
            from vpbench.configuration import unknown_name

            raise ConfigError(str(unknown_name("--by", name, DIMENSIONS)))
    return found


def slices(summaries: Sequence[Summary], dimensions: Sequence[str]) -> list[list[Summary]]:
    """Cut the summaries of one table down, once per slice; every summary is in every slice.

    A clip belongs to a slice of the table as soon as one summary has it there, so a row that lacks it shows fewer clips than there are.

    Args:
        summaries: of equal benchmark data, protocol and track.
        dimensions: of ``DIMENSIONS``.

    Returns:
        Slices in the order of the dimensions, within one in rising order or by name, unknown last; ``Summary.slice`` names them,
        e.g. ``operation=swap`` or ``coverage=10-30%``.
    """
    found = []
    for dimension in dimensions:
        members = [{clip: _labels(summary, clip, dimension) for clip in summary.clips} for summary in summaries]
        labels = {label for clips in members for names in clips.values() for label in names}
        for label in sorted(labels, key=lambda label: _order(dimension, label)):
            inside = [[clip for clip, names in clips.items() if label in names] for clips in members]
            total = len(set().union(*inside))
            name = f"{dimension}={label}"
            found.append([_cut(summary, clips, name, total) for summary, clips in zip(summaries, inside, strict=True)])
    return found


def _labels(summary: Summary, clip: str, dimension: str) -> list[str]:
    properties = summary.properties.get(clip, {})
    if dimension == "tag":
        tags = properties.get("tags") or []
        if not isinstance(tags, list):
            raise _damaged(summary, clip, "tags", tags)
        return list(dict.fromkeys(map(str, tags))) or [UNKNOWN]
    if dimension == "operation":
        return [str(properties.get("operation") or UNKNOWN)]
    bins = BINS[dimension]
    value = properties.get(bins.key)
    if value is None:
        return [UNKNOWN]
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= sys.float_info.max:
        raise _damaged(summary, clip, bins.key, value)
    return [bins.name(value)]


def _damaged(summary: Summary, clip: str, key: str, value: Any) -> DataError:
    return DataError(f"{summary.source}: {key} of clip {clip} is {value!r}. {advice(summary.source)}")


def _order(dimension: str, label: str) -> tuple[bool, int, str]:
    names = BINS[dimension].names if dimension in BINS else []
    return (label == UNKNOWN, names.index(label) if label in names else 0, label)


def _cut(summary: Summary, clips: Sequence[str], name: str, total: int) -> Summary:
    keep = set(clips)
    index = np.array([position for position, clip in enumerate(summary.clips) if clip in keep], dtype=np.intp)
    properties: Mapping[str, Mapping[str, Any]] = {clip: summary.properties[clip] for clip in clips if clip in summary.properties}
    whole = summary.ok == summary.total
    return dataclasses.replace(
        summary,
        clips=tuple(clips),
        properties=properties,
        cells=tuple(_cut_cell(cell, index, keep) for cell in summary.cells),
        ok=len(clips),
        total=total,
        failed=0,
        slice=name,
        partial="" if whole else f"{summary.ok}/{summary.total} clips in all",
        notes=tuple(Note(note.text, left) for note in summary.notes if (left := tuple(clip for clip in note.clips if clip in keep))),
    )


def _cut_cell(cell: Cell, index: np.ndarray[Any, np.dtype[np.intp]], keep: set[str]) -> Cell:
    if cell.absent:
        return dataclasses.replace(cell, excluded=())
    if cell.average == "set" or not len(cell.clips):
        gone = OF_SET if cell.average == "set" else NO_VALUES
        nothing = np.empty(0)
        return dataclasses.replace(cell, value=None, n=0, excluded=(), exact_frames=0, absent=gone, note="", clips=nothing, without=nothing)
    clips = cell.clips[index]
    frames = cell.frames[index] if len(cell.frames) else cell.frames
    weights = frames if cell.average == "frames" else None
    excluded = tuple((clip, reason) for clip, reason in cell.excluded if clip in keep)
    return dataclasses.replace(
        cell,
        value=clip_mean(clips, weights),
        n=int(np.isfinite(clips).sum()),
        excluded=excluded,
        exact_frames=0,  # stored for the whole run only
        note="",
        clips=clips,
        frames=frames,
    )
