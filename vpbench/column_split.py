"""The difference of one column of two results, split into parts.

``B - A`` is the sum of: what every setting in which the two differ does when it alone is turned, starting from A; what they do together
beyond that; what the clips do that only one of them has; and the rest, which is the predictions and whatever could not be measured.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vpbench.results import Cell
from vpbench.switches import FIXED, Settings, UnmeasuredError, Workbench, check, mean

NAMES = 5  # clips that a line names before it counts
SIGNATURE = ("region", "variant", "arrays", "view", "average", "metric version")  # the parts of a signature, in order
FRAME_AVERAGES = ("frame_means", "frames")
ROUNDING = 1e-12  # relative: less is the order of additions
REST = "the rest"
CLIPS = "clips that only"
DIFFERENT = "different quantities: their difference means nothing"
TOGETHER = "together, beyond the sum of these"


@dataclass(frozen=True)
class Part:
    """Something in which the two may differ.

    Attributes:
        name: what it is, e.g. ``average``.
        a: how A has it.
        b: how B has it.
        effect: what turning it from A's to B's does to the value, in its natural unit; None where that is not measured.
        why: what must be said of it, or why it is not measured.
    """

    name: str
    a: str
    b: str
    effect: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Difference:
    """One column of A beside one of B.

    Attributes:
        a: the cell of A.
        b: the cell of B.
        difference: B less A, in the natural unit; None where one of them has no value.
        parts: in order of measured effect, those without one last. The effects add up to ``difference``.
        why: why there is nothing to split; empty where there is.
    """

    a: Cell
    b: Cell
    difference: float | None
    parts: tuple[Part, ...]
    why: str = ""

    @property
    def equal(self) -> bool:
        """Whether both have a value, and value and signature are the same."""
        same = (self.a.value, self.a.signature, self.a.excluded) == (self.b.value, self.b.signature, self.b.excluded)
        return same and not self.unmeasured

    @property
    def unmeasured(self) -> bool:
        """Whether neither has a value: they are neither equal nor do they differ."""
        return self.a.value is None and self.b.value is None


def split(a: Workbench, b: Workbench, one: Cell, other: Cell, common: Sequence[str], same: bool) -> Difference:
    """Split the difference of a column of B and one of A.

    Args:
        a: the run or file behind A; settings are turned over its arrays.
        b: that behind B.
        one: the column of A.
        other: that of B.
        common: clips that both scored, at least one.
        same: whether the predictions of these clips are known to be the same.
    """
    if one.value is None and other.value is None:
        reasons = _no_value(one), _no_value(other)
        why = reasons[0] if reasons[0] == reasons[1] else "; ".join(f"{side}: {reason}" for side, reason in zip("AB", reasons, strict=True))
        return Difference(one, other, None, (), f"no value on either side: {why}")
    if not alike(one, other):
        return Difference(one, other, None, (), DIFFERENT)
    bench, back = _Turning(a, one, b, other), _Turning(b, other, b, other)
    if one.value is None or other.value is None:
        why = "; ".join(f"{side} has no value: {_no_value(cell)}" for side, cell in (("A", one), ("B", other)) if cell.value is None)
        return Difference(one, other, None, tuple(Part(key, *texts) for key, texts in bench.keys.items()), why)
    parts, turned = _alone(bench)
    ours, theirs = bench.clips, back.clips
    if not bench.known:  # a clip that is left out in one of them is not there; where settings are turned, they leave it out
        ours, theirs = bench.valued, back.valued
        common = [clip for clip in ours if clip in theirs]
    clips: Sequence[str] = bench.clips
    if lost := [clip for clip in ours if clip not in common]:
        parts.append(_effect(f"{CLIPS} A has", named(lost), "-", lambda: bench.value((), common) - bench.start))
        clips = common if parts[-1].effect is not None else clips
    together, whole = _together(bench, parts, turned, clips)
    covered = [part.name for part in parts if not part.name.startswith(CLIPS)] if whole else []
    parts += together
    reached = one.value + math.fsum(part.effect for part in parts if part.effect is not None)
    there = other.value
    if gained := [clip for clip in theirs if clip not in common]:
        parts.append(_effect(f"{CLIPS} B has", "-", named(gained), lambda: back.start - back.value((), common)))
        there -= parts[-1].effect or 0.0
    parts.sort(key=lambda part: -math.inf if part.effect is None else abs(part.effect), reverse=True)
    rest = there - reached
    if abs(rest) <= ROUNDING * max(abs(one.value), abs(other.value)):
        rest = 0.0
    unmeasured = [part.name for part in parts if part.effect is None and part.name not in covered]
    return Difference(one, other, other.value - one.value, (*parts, *_rest(rest, unmeasured, same)))


def alike(one: Cell, other: Cell) -> bool:
    """Whether a difference of the two columns means anything."""
    return (one.unit, one.direction) == (other.unit, other.direction)


def named(clips: Sequence[str]) -> str:
    """Clips by name, the first few of many."""
    more = f" and {len(clips) - NAMES} more" if len(clips) > NAMES else ""
    return ", ".join(clips[:NAMES]) + more


def shown(value: Any) -> str:
    """A setting as YAML would show it."""
    return value if isinstance(value, str) else json.dumps(value, default=str)


class _Turning:
    """A's column with some settings as B has them.

    Attributes:
        start: A's value.
        keys: the settings in which the two differ, with A's and B's as text. Where the settings of one are not known: the parts of the
            signature that differ.
    """

    def __init__(self, a: Workbench, one: Cell, b: Workbench, other: Cell) -> None:
        self.start = math.nan if one.value is None else one.value
        self._bench, self._cell = a, one
        self._settings: Settings | None = None
        self._target: Settings | None = None
        self._unknown = UnmeasuredError()  # why the settings are not known
        self._average = one.average  # that of B
        self._baseline: str | None = None  # why the arrays are not those of the summary; empty when they are; None before the first look
        self.keys: dict[str, tuple[str, str]] = {}
        if one.signature == other.signature:
            return
        try:
            self._settings, self._target = a.settings(one), b.settings(other)
            self.keys = _differing(self._settings, self._target)
        except UnmeasuredError as reason:
            self._unknown, self._average = reason, other.average
            self.keys = {part.name: (part.a, part.b) for part in _of_signatures(one, other)}

    @property
    def clips(self) -> tuple[str, ...]:
        """The clips that A scored."""
        return self._bench.summary.clips

    @property
    def valued(self) -> tuple[str, ...]:
        """Those for which the column is defined."""
        left_out = {clip for clip, _ in self._cell.excluded}
        return tuple(clip for clip in self.clips if clip not in left_out)

    @property
    def known(self) -> bool:
        """Whether the two differ in settings that can be turned."""
        return self._target is not None

    def possible(self, keys: Iterable[str]) -> bool:
        """Whether A's settings with these of B's go together."""
        return self._target is None or check(self._turned(keys))

    def whole(self, keys: Iterable[str]) -> float:
        """``value`` of all clips that A scored."""
        return self.value(keys, self.clips)

    def value(self, keys: Iterable[str], clips: Sequence[str]) -> float:
        """A's value of these clips with these settings as B has them.

        Raises:
            UnmeasuredError: it cannot be had from what A stores.
        """
        keys = list(keys)
        if not keys or self._target is None:
            try:
                return self._of_summary(keys, clips)
            except UnmeasuredError:
                if keys:
                    raise
        if self._settings is None:
            self._settings = self._bench.settings(self._cell)
        self._check_baseline(self._settings)
        return self._bench.value(self._turned(keys), clips)

    def _turned(self, keys: Iterable[str]) -> Settings:
        assert self._settings is not None
        turned = dict(self._settings)
        for key in keys:
            assert self._target is not None
            if key == "metric":  # another class has options of its own
                turned = {k: v for k, v in turned.items() if k in FIXED} | {k: v for k, v in self._target.items() if k not in FIXED}
            turned[key] = self._target[key]
        return turned

    def _check_baseline(self, settings: Settings) -> None:
        """Raise unless the stored arrays give the value that the summary states."""
        if self._baseline is None:
            found = self._bench.value(settings, self._bench.summary.clips)
            fits = math.isclose(found, self.start, rel_tol=1e-9, abs_tol=1e-12)
            self._baseline = "" if fits else f"the stored arrays give {found:.6g}, the summary says {self.start:.6g}: score the run again"
        if self._baseline:
            raise UnmeasuredError(self._baseline)

    def _of_summary(self, keys: Sequence[str], clips: Sequence[str]) -> float:
        """What the values per clip tell alone: other clips, and other weights of the same means of frames."""
        cell, summary = self._cell, self._bench.summary
        average = cell.average
        if keys:
            if keys != ["average"] or not {average, self._average} <= set(FRAME_AVERAGES):
                raise self._unknown
            average = self._average
        elif len(clips) == len(summary.clips):
            return self.start
        if not len(cell.clips):
            raise UnmeasuredError("a set metric has no values per clip; name the run folder")
        used = np.isin(summary.clips, list(clips))
        return mean(cell.clips[used], cell.frames[used], average)


def _differing(one: Settings, other: Settings) -> dict[str, tuple[str, str]]:
    """Settings in which the two differ; where the class of the metric does, its options count as part of it."""
    keys = [key for key in FIXED if one[key] != other[key]]
    if "metric" not in keys:
        keys += [key for key in one if key not in FIXED and one[key] != other.get(key)]
    return {key: (shown(one[key]), shown(other[key])) for key in keys}


def _of_signatures(one: Cell, other: Cell) -> list[Part]:
    """What the signatures alone tell."""
    ones, others = one.signature.split("|"), other.signature.split("|")
    if len(ones) != len(SIGNATURE) or len(others) != len(SIGNATURE):
        return [Part("signature", one.signature, other.signature)] if ones != others else []
    ones[0], others[0] = one.region, other.region  # the name of a column is not part of its meaning
    texts = ([text.removeprefix("mean=").removeprefix("track=") for text in side] for side in (ones, others))
    return [Part(name, a, b) for name, a, b in zip(SIGNATURE, *texts, strict=True) if a != b]


def _effect(name: str, a: str, b: str, call: Callable[[], float]) -> Part:
    try:
        return Part(name, a, b, call())
    except UnmeasuredError as reason:
        return Part(name, a, b, None, str(reason))


def _alone(bench: _Turning) -> tuple[list[Part], set[str]]:
    """The effect of every setting turned alone, and the settings whose effect is measured.

    One that does not go with A's other settings is turned after the fewest others that make it possible, and where those are not possible
    without it either, together with them.
    """
    parts: list[Part] = []
    measured: set[str] = set()

    def add(name: str, keys: Sequence[str], after: Sequence[str] = ()) -> None:
        texts = [", ".join(bench.keys[key][side] for key in keys) for side in (0, 1)]
        parts.append(_effect(name, texts[0], texts[1], lambda: bench.whole([*after, *keys]) - bench.whole(after)))
        if parts[-1].effect is not None:
            measured.update(keys)

    waiting = [key for key in bench.keys if not bench.possible([key])]
    for key in bench.keys:
        if key not in waiting:
            add(key, [key])
    while waiting:
        key = waiting.pop(0)
        needed = next((list(others) for others in _subsets(bench.keys, key) if bench.possible([*others, key])), None)
        if needed is None:
            parts.append(Part(key, *bench.keys[key], why="does not go together with A's other settings"))
        elif bench.possible(needed):
            add(f"{key}, after {' and '.join(needed)}", [key], needed)
        else:
            add(" and ".join([key, *needed]), [key, *needed])
            waiting = [other for other in waiting if other not in needed]
    return parts, measured


def _subsets(keys: Iterable[str], but: str) -> Iterator[tuple[str, ...]]:
    """Sets of keys without one of them, the small ones first."""
    others = [key for key in keys if key != but]
    for size in range(1, len(others) + 1):
        yield from itertools.combinations(others, size)


def _together(bench: _Turning, parts: Sequence[Part], measured: set[str], clips: Sequence[str]) -> tuple[list[Part], bool]:
    """What the parts do together beyond the sum of their effects, and whether all settings are in it or the measured ones alone."""
    if not bench.keys or len(parts) < 2:
        return [], False
    so_far = bench.start + math.fsum(part.effect for part in parts if part.effect is not None)
    reason = ""
    for keys in (list(bench.keys), [key for key in bench.keys if key in measured]):
        if not keys or not bench.possible(keys):
            continue
        try:
            effect = bench.value(keys, clips) - so_far
        except UnmeasuredError as error:
            reason = reason or str(error)
            continue
        left = [key for key in keys if key not in measured]
        name = f"together, with {' and '.join(left)}" if left else TOGETHER
        return [Part(name, "", "", 0.0 if abs(effect) <= ROUNDING * abs(bench.start) else effect)], len(keys) == len(bench.keys)
    return ([Part(TOGETHER, "", "", None, reason)] if measured else []), False


def _rest(rest: float, unmeasured: Sequence[str], same: bool) -> list[Part]:
    """What no part explains."""
    if same and not rest and not unmeasured:
        return []
    if same:
        return [Part(f"{REST}, of the same predictions", "", "", rest, ", ".join(unmeasured) or "weights, versions or machine")]
    return [Part(f"{REST}: other predictions", "", "", rest, f"and what is not measured: {', '.join(unmeasured)}" if unmeasured else "")]


def _no_value(cell: Cell) -> str:
    """Why a cell is empty."""
    if cell.absent:
        return cell.absent
    if infinite := int(np.isinf(cell.clips).sum()):
        return f"infinite, {infinite} clips hold frames that equal the reference exactly"
    reasons = dict.fromkeys(reason for _, reason in cell.excluded)
    return "; ".join(reasons) or "undefined"
