"""What can be wrong with an output, told from its pixels: what is known outside the hole gives most mistakes away.

Differences are mean absolute differences of 8-bit levels. A test speaks only where it has evidence: a still clip does not tell its frames
apart, a grey one not its channels, a flat hole not whether it was copied.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Clip, Frames, Masks
from vpbench.findings import Finding

Values = NDArray[np.float64]

CLEARLY = 0.5  # another reading explains an output when it differs by less than this share of what the right one does
LEVELS = 1.0  # a difference below this is not looked into
SHIFTS = (-1, 1, -2, 2, -3, 3)
SHIFTED_FRAMES = 0.25  # share of the frames that must show it
STILL = 0.1  # a frame that changed by less than this share of what the clip did is frozen
BLACK = 12  # levels; codecs leave some
BLACK_SHARE = 0.9  # of a region
DARK_SHARE = 0.5  # of a clip's background; a darker clip may have black regions
INVERTED = 8.0  # how much the background must differ where the hole is kept
DETAIL = 8.0  # difference from the mean of 5x5 pixels that nobody guesses
RECOGNISED = 10.0  # in small, an output of a clip differs from it by less
COPIED = 0.75  # detail that was copied differs by less than this share of what it is
TRACE_SHARE = 0.5  # of the background must have changed, before it is asked what changed it
ENOUGH = 200  # pixels that a judgement needs
PIXELS = 25_000  # per frame that are looked at
LOOKED_AT = 8  # frames whose holes are compared with the truth
THUMBNAIL = 24

REMEDY = {
    "wrong pairing": "Name each output after its own clip",
    "swapped channels": "Write RGB: OpenCV reads and writes BGR (cv2.cvtColor)",
    "inverted masks": "The model filled what it should have kept: True, or white, is the hole",
    "off by one": "Write the clip's frames from the first to the last, each once",
    "black": "Look for frames that the model never wrote, or floats in 0-1 that were stored as 0-255",
    "frozen": "Look for frames that were written twice, and for a model that ran on fewer frames",
    "ground truth copied": "The model saw what it had to invent: give it frames with a blanked hole, and paste only the background",
    "lossy": "Write PNG, FFV1 (bgr0) or H.264 RGB at qp 0; scored as it is, the row is marked as lossy",
    "was lossy": "Write the model's own pixels; scored as it is, the row is not marked, for these files lose nothing themselves",
}


@dataclass(frozen=True)
class Thumbnails:
    """A video in small, to find the clip that an output is of.

    Attributes:
        frames: float64 (T, 24, 24, 3).
        known: bool (T, 24, 24): cells that lie outside the hole.
    """

    frames: Values
    known: Masks

    @classmethod
    def of(cls, frames: Frames, masks: Masks | None = None) -> Thumbnails:
        """Make them small by averaging areas."""
        import cv2

        size = (THUMBNAIL, THUMBNAIL)
        small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]).astype(np.float64)
        if masks is None:
            return cls(small, np.ones(small.shape[:3], bool))
        hole = np.stack([cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA) for mask in masks])
        return cls(small, hole < 0.01)

    def difference(self, clip: Thumbnails) -> float:
        """How much this output differs from a clip outside the clip's hole, over the frames that both have and that are not black."""
        count = min(len(self.frames), len(clip.frames))
        known = clip.known[:count] & (self.frames[:count].max(axis=(1, 2, 3)) > BLACK)[:, None, None]
        if not known.any():
            return float("nan")
        return float(np.abs(self.frames[:count] - clip.frames[:count])[known].mean())


def wrong_pairings(outputs: dict[str, Thumbnails], clips: dict[str, Thumbnails]) -> dict[str, Finding]:
    """The outputs whose background is that of another clip, by the name that they bear."""
    found = {}
    for name, output in outputs.items():
        own = output.difference(clips[name])
        if not own > 2 * LEVELS:
            continue
        others = {other: output.difference(clip) for other, clip in clips.items() if other != name}
        best = min(others, key=lambda other: (np.nan_to_num(others[other], nan=np.inf), other), default="")
        if best and others[best] < min(CLEARLY * own, RECOGNISED):
            evidence = f"its background is that of {best} (difference {others[best]:.1f}), not its own ({own:.1f})"
            found[name] = Finding(name, "wrong pairing", evidence, REMEDY["wrong pairing"])
    return found


def wrong_count(clip: Clip, output: Frames, count: int) -> Finding:
    """An output of another number of frames: which of the clip's it has.

    Args:
        clip: what it should be of.
        output: its first frames.
        count: how many it has altogether.
    """
    expected = len(clip.frames)
    clip, output = _thinned(clip, output)
    means = {0: _aligned(clip, output, 0)}
    for shift in SHIFTS:
        means[shift] = _aligned(clip, output, shift)
    best = min(means, key=lambda shift: (means[shift], abs(shift)))
    first, last = max(best, 0), min(best + count, expected) - 1
    evidence = f"{count} frames, the clip has {expected}"
    if means[best] < CLEARLY * min(value for shift, value in means.items() if shift != best):
        evidence += f"; they show the clip's frames {first} to {last} (difference {means[best]:.1f})"
    return Finding(clip.name, "off by one" if abs(count - expected) == 1 else "frame count", evidence, REMEDY["off by one"])


@dataclass(frozen=True)
class Judged:
    """What the pixels of an output say.

    Attributes:
        findings: what is wrong.
        changed: share of the background's pixels that differ from the clip's.
        mean: by how much the background differs, levels; nan where other faults hide it.
    """

    findings: tuple[Finding, ...]
    changed: float = float("nan")
    mean: float = float("nan")


def judge(clip: Clip, output: Frames, lossy: str = "", resized: bool = False) -> Judged:
    """What is wrong with an output of the clip's size and number of frames, apart from its being another clip's.

    Args:
        clip: what it should be of.
        output: uint8 (T, H, W, 3).
        lossy: its coding where that loses something: ``h264 yuv420p``.
        resized: whether it was brought to this size just now.
    """
    found: list[Finding] = []

    def find(fault: str, evidence: str, kind: str = "", note: bool = False) -> None:
        found.append(Finding(clip.name, fault, evidence, "" if note else REMEDY[kind or fault], note))

    small, thin = _thinned(clip, output)
    known = ~small.masks
    outside = _per_frame(thin, small.frames, known)
    if inverted := _inverted(small, thin, outside):
        find("inverted masks", inverted)
        return Judged(tuple(found))
    black, whole = _black(small, thin), np.asarray((thin <= BLACK).all(axis=(1, 2, 3)))
    good = ~black
    if black.any():
        where = "" if whole[black].all() else "the hole or the background in "
        find("black", f"{where}{_ranges(black)} (brightness {thin[black].mean():.1f}, the clip's {small.frames[black].mean():.1f})")
    if not np.isfinite(outside[good]).any():
        return Judged(tuple(found))
    own = float(np.nanmean(outside[good]))
    swapped = float(np.nanmean(_per_frame(thin[..., ::-1], small.frames, known)[good]))
    if swapped < own and _red_is_blue(small, thin, known & good[:, None, None]):
        find("swapped channels", f"outside the hole it differs by {own:.1f}, with red and blue swapped by {swapped:.1f}")
        return Judged(tuple(found))
    if shifted := _shifted(small, thin, outside, good):
        find("off by one", shifted)
        return Judged(tuple(found))
    frozen = _frozen(small, thin) & good
    if frozen.any():
        find("frozen", f"{_ranges(frozen)} repeat{'s' if frozen.sum() == 1 else ''} the frame before, where the clip changes")
        good &= ~frozen
    mean, changed = float(np.nanmean(outside[good])), _changed(output, clip, good)
    trace = f"the file is {lossy}" if lossy else "" if resized else _trace(output, clip, good, changed)
    if trace:
        find(
            "lossy re-encoding",
            f"{trace}; {changed:.0%} of the background differ, by {mean:.1f} on average",
            "lossy" if lossy else "was lossy",
        )
    if copied := _copied(clip, output, good):
        if clip.has_truth:
            find("ground truth copied", copied)
        else:
            find("unchanged", f"the hole holds the source: {copied}", note=True)
    return Judged(tuple(found), changed, mean)


def _thinned(clip: Clip, output: Frames) -> tuple[Clip, Frames]:
    """Both with fewer rows and columns, where there are many."""
    step = max(1, round((clip.frames.shape[1] * clip.frames.shape[2] / PIXELS) ** 0.5))
    if step == 1:
        return clip, output
    target = None if clip.target is None else clip.target[:, ::step, ::step]
    thin: dict[str, Any] = {"frames": clip.frames[:, ::step, ::step], "masks": clip.masks[:, ::step, ::step], "target": target}
    return replace(clip, **thin), output[:, ::step, ::step]


def _per_frame(a: Frames, b: Frames, where: Masks) -> Values:
    """Mean absolute difference of each frame over a region; nan where a frame has none."""
    result = np.full(len(a), np.nan)
    for t, region in enumerate(where):
        if region.any():
            result[t] = np.abs(a[t][region].astype(np.int16) - b[t][region]).mean()
    return result


def _aligned(clip: Clip, output: Frames, shift: int) -> float:
    """How much frame t of the output differs from frame t + shift of the clip, outside their holes."""
    count = len(clip.frames)
    pairs = [(t, t + shift) for t in range(len(output)) if 0 <= t + shift < count]
    if not pairs:
        return float("inf")
    mine, theirs = (list(part) for part in zip(*pairs, strict=True))
    near = clip.masks[[min(t, count - 1) for t in mine]] | clip.masks[theirs]
    values = _per_frame(output[mine], clip.frames[theirs], ~near)
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("inf")


def _inverted(clip: Clip, output: Frames, outside: Values) -> str:
    """Evidence that the hole was kept and the background filled."""
    inside = _per_frame(output, clip.frames, clip.masks)
    both = np.isfinite(inside) & np.isfinite(outside)
    if not both.any():
        return ""
    hole, background = float(inside[both].mean()), float(outside[both].mean())
    if background > INVERTED and hole < CLEARLY**2 * background:
        return f"the hole holds the clip's own pixels (difference {hole:.1f}), the background does not ({background:.1f})"
    return ""


def _red_is_blue(clip: Clip, output: Frames, where: Masks) -> bool:
    """Whether red exceeds blue where the clip has it the other way round: the regression of one difference on the other is negative."""
    mine, theirs = (frames[where][:, 0].astype(np.float64) - frames[where][:, 2] for frames in (output, clip.frames))
    square = float((theirs**2).mean())
    return square > LEVELS**2 and float((mine * theirs).mean()) < -CLEARLY * square


def _black(clip: Clip, output: Frames) -> NDArray[np.bool_]:
    """Frames that are black, or whose hole or background is, where the clip is not."""
    result = np.zeros(len(output), bool)
    for t, (frame, source, mask) in enumerate(zip(output, clip.frames, clip.masks, strict=True)):
        dark = (frame <= BLACK).all(axis=-1)
        around = (source[~mask] if (~mask).any() else source.reshape(-1, 3)).max(axis=-1) <= BLACK
        for region in (np.ones_like(mask), mask, ~mask):
            if region.sum() >= ENOUGH // 4 and dark[region].mean() > BLACK_SHARE and around.mean() < DARK_SHARE:
                result[t] = True
    return result


def _shifted(clip: Clip, output: Frames, outside: Values, good: NDArray[np.bool_]) -> str:
    """Evidence that frames show the background of others."""
    count = len(output)
    if not np.nanmax(np.where(good, outside, 0.0)) > LEVELS:
        return ""
    for shift in SHIFTS:
        here = np.arange(max(0, -shift), min(count, count - shift))
        if not len(here):
            continue
        there = here + shift
        both = ~(clip.masks[here] | clip.masks[there])
        moved, own = _per_frame(output[here], clip.frames[there], both), _per_frame(output[here], clip.frames[here], both)
        with np.errstate(invalid="ignore"):
            clear = (moved < CLEARLY * own) & (own - moved > LEVELS) & good[here]
        if clear.sum() >= max(2, SHIFTED_FRAMES * good.sum()):
            where = f"{abs(shift)} frame{'s' * (abs(shift) > 1)} {'before' if shift < 0 else 'after'}"
            difference, at_home = float(moved[clear].mean()), float(own[clear].mean())
            return (
                f"{clear.sum()} of {count} frames show the background of {where} (difference {difference:.1f}, to their own {at_home:.1f})"
            )
    return ""


def _frozen(clip: Clip, output: Frames) -> NDArray[np.bool_]:
    everywhere = np.ones(clip.masks.shape, bool)[1:]
    mine, theirs = _per_frame(output[1:], output[:-1], everywhere), _per_frame(clip.frames[1:], clip.frames[:-1], everywhere)
    return np.concatenate([[False], (theirs > LEVELS) & (mine < STILL * theirs)])


def _changed(output: Frames, clip: Clip, good: NDArray[np.bool_]) -> float:
    """Share of the background's pixels that differ."""
    total = differ = 0
    for t in np.flatnonzero(good):
        known = ~clip.masks[t]
        total += int(known.sum())
        differ += int((output[t] != clip.frames[t]).any(axis=-1)[known].sum())
    return differ / total if total else 0.0


# Luma weights of red and blue, and whether black is 0: BT.601 and BT.709 as video has them, and JPEG.
LATTICES = {"BT.601": (0.299, 0.114, False), "BT.709": (0.2126, 0.0722, False), "JPEG": (0.299, 0.114, True)}


def _trace(output: Frames, clip: Clip, good: NDArray[np.bool_], changed: float) -> str:
    """Evidence that pixels went through a lossy format: chroma of 2x2 blocks, or values that 8-bit YUV alone gives."""
    if changed < TRACE_SHARE:
        return ""
    aligned, crossing, pixels = [], [], []
    for t in np.flatnonzero(good)[:: max(1, int(good.sum()) // LOOKED_AT)]:
        frame, known = output[t].astype(np.float64), ~clip.masks[t] & (output[t] != clip.frames[t]).any(axis=-1)
        blue = frame[..., 2] - frame @ np.array([0.299, 0.587, 0.114])
        steps, both = np.abs(np.diff(blue, axis=1)), known[:, 1:] & known[:, :-1]
        aligned.append(steps[:, ::2][both[:, ::2]])
        crossing.append(steps[:, 1::2][both[:, 1::2]])
        unclipped = known & ((output[t] > 3) & (output[t] < 252)).all(axis=-1)
        pixels.append(frame[unclipped][:: max(1, int(unclipped.sum()) // 4000)])
    inside, between = np.concatenate(aligned), np.concatenate(crossing)
    if len(inside) >= ENOUGH and between.mean() > 0.1 and inside.mean() < CLEARLY * between.mean():
        return f"its chroma is that of pairs of pixels, as in 4:2:0 (steps of {inside.mean():.2f} in them, {between.mean():.2f} between)"
    colours = np.concatenate(pixels)
    if len(colours) >= ENOUGH and np.ptp(colours, axis=0).max() > DETAIL:
        for name, lattice in LATTICES.items():
            share = float(_on_lattice(colours, *lattice).mean())
            if share > 0.9:
                return f"{share:.0%} of its pixels are colours of 8-bit YUV ({name}), where unspoilt ones are 15 to 35 %"
    return ""


def _on_lattice(colours: Values, red: float, blue: float, full: bool) -> NDArray[np.bool_]:
    """Which colours (N, 3) come back from 8-bit YUV as they were."""
    green = 1 - red - blue
    matrix = np.array(
        [
            [red, green, blue],
            [-red / (2 * (1 - blue)), -green / (2 * (1 - blue)), 0.5],
            [0.5, -green / (2 * (1 - red)), -blue / (2 * (1 - red))],
        ]
    )
    if not full:
        matrix *= np.array([[219.0], [224.0], [224.0]]) / 255
    offset = np.array([0.0 if full else 16.0, 128.0, 128.0])
    yuv = np.rint(colours @ matrix.T + offset)
    back = (yuv - offset) @ np.linalg.inv(matrix).T
    return np.asarray((np.rint(back) == colours).all(axis=-1))


def _copied(clip: Clip, output: Frames, good: NDArray[np.bool_]) -> str:
    """Evidence that the hole holds the truth: detail that no frame near shows there comes as exactly as the background does."""
    import cv2

    reference = clip.reference
    holes = np.flatnonzero(good & clip.masks.any(axis=(1, 2)))
    looked_at = holes[:: max(1, len(holes) // LOOKED_AT)]
    details, errors = {}, {}
    for t in looked_at:
        details[t] = np.abs(reference[t].astype(np.int16) - cv2.blur(reference[t], (5, 5))).max(axis=-1)
        errors[t] = np.abs(output[t].astype(np.int16) - reference[t]).max(axis=-1)

    def mean(values: dict[int, NDArray[np.int16]], where: dict[int, Masks]) -> float:
        chosen = np.concatenate([values[t][where[t]] for t in looked_at]) if len(looked_at) else np.zeros(0)
        return float(chosen.mean()) if len(chosen) >= ENOUGH else float("nan")

    background = mean(errors, {t: ~clip.masks[t] & (details[t] >= DETAIL) for t in looked_at})
    most = max(LEVELS, 1.25 * np.nan_to_num(background))
    detailed = {t: clip.masks[t] & (details[t] >= DETAIL) for t in looked_at}
    if not mean(errors, detailed) <= most:
        return ""
    unseen = {t: where & ~_shown_nearby(clip, t) for t, where in detailed.items()}
    hole = mean(errors, unseen)
    if not (hole <= most and hole < COPIED * mean(details, unseen)):
        return ""
    places = sum(int(where.sum()) for where in unseen.values())
    return (
        f"{places} places of detail in the hole that no frame near shows differ by {hole:.1f}, the background's detail by {background:.1f}"
    )


def _shown_nearby(clip: Clip, t: int) -> Masks:
    """Where the hole of frame t could be copied from the same place of the nearest frame, before or after, that shows it."""
    reference = clip.reference
    result = np.zeros(clip.masks.shape[1:], bool)
    for step in (-1, 1):
        open_ = clip.masks[t].copy()
        other = t + step
        while 0 <= other < len(reference) and open_.any():
            shown = open_ & ~clip.masks[other]
            close = np.abs(reference[other].astype(np.int16) - reference[t]).max(axis=-1) < DETAIL
            result |= shown & close
            open_ &= ~shown
            other += step
    return result


def _ranges(which: NDArray[np.bool_]) -> str:
    """Frames for people.

    >>> _ranges(np.array([False, True, True, False, True]))
    'frames 1-2, 4'
    """
    frames = np.flatnonzero(which)
    runs = np.split(frames, np.flatnonzero(np.diff(frames) > 1) + 1)
    spans = [f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs]
    return f"frame{'s' * (len(frames) > 1)} {', '.join(spans[:6])}" + (" and more" if len(spans) > 6 else "")
