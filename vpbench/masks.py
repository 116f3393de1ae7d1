"""Random free-form masks, their manifest, and what is measured on masks.

The generator follows the description of ProPainter's training masks (Zhou et al. 2023; the free-form masks of Chang et al. 2019 before
them): a closed outline of cubic Bezier pieces that stands still or wanders through the frame. It is independent code on one seeded NumPy
generator, so equal seeds give equal masks; the statistics agree (tests), the masks themselves do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Masks
from vpbench.errors import DataError
from vpbench.storage import read_json, write_json

GENERATOR = "freeform-1"  # counts up whenever the same seed would give other masks
CANVAS = (480, 640)  # height, width that the outline is drawn on
AXES = (80.0, 576.0, 57.6, 427.2)  # left, right, bottom, top of the drawing on it
SAMPLES = 32  # points per Bezier piece

Motion = Literal["stationary", "moving", "mixed"]


def clip_seed(set_seed: int, clip: str) -> int:
    """The seed of one clip's masks, from the set's seed and the clip's name; 0 to 2**63 - 1."""
    return int.from_bytes(hashlib.sha256(f"{set_seed}/{clip}".encode()).digest()[:8], "big") >> 1


def random_masks(seed: int, frames: int, height: int, width: int, *, motion: Motion = "mixed") -> Masks:
    """Draw one free-form region per clip, still or moving.

    Args:
        seed: decides everything.
        frames: T.
        height: H in pixels, at least 8.
        width: W in pixels, at least 8.
        motion: ``stationary``, ``moving``, or ``mixed`` (either with probability 1/2).

    Returns:
        bool (T, H, W), True = hole; at least one pixel in every frame.

    Raises:
        DataError: a size too small to hold a region.
    """
    if frames < 1 or min(height, width) < 8:
        raise DataError(f"random masks need at least 1 frame of 8x8, not {frames} of {width}x{height}.")
    rng = np.random.Generator(np.random.PCG64(seed))
    shape = _shape(rng, height, width)
    rows, columns = shape.shape
    y, x = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    speed, angle = 3.0 - 2.0 * rng.random(), rng.uniform(0, 2 * np.pi)  # speed in (1, 3] pixels a frame
    still = rng.random() < 0.5 if motion == "mixed" else motion == "stationary"
    masks = np.zeros((frames, height, width), bool)
    for t in range(frames):
        if t and not still:
            y, x = y + int(speed * np.cos(angle)), x + int(speed * np.sin(angle))
            speed, angle = speed + rng.normal(0, 1.5), angle + rng.normal(0, 0.25)
            if not (0 <= y <= height - rows and 0 <= x <= width - columns):
                speed, angle = abs(rng.normal(0, 1.5)), rng.uniform(0, 2 * np.pi)
            y, x = min(max(y, 0), height - rows), min(max(x, 0), width - columns)
        masks[t, y : y + rows, x : x + columns] = shape
    return masks


def _shape(rng: np.random.Generator, height: int, width: int) -> NDArray[np.bool_]:
    """A filled outline, cropped to its bounding box; drawn again in the rare case that nothing is left of it."""
    import cv2

    while True:
        box = (int(rng.integers(height // 3, height)), int(rng.integers(width // 3, width)))
        pieces = int(rng.integers(6, 9))
        radius = float(rng.choice([0.6, 0.7, 0.8]))
        count = 3 * pieces + 1
        radii = rng.uniform(1 - radius, 1 + radius, count)
        angles = np.linspace(0, 2 * np.pi, count)
        control = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radii[:, None]
        control[-1] = control[0]
        low, high = 1.1 * control.min(), 1.1 * control.max()
        left, right, bottom, top = AXES
        outline = (_bezier(control) - low) / (high - low)
        points = np.stack([left + outline[:, 0] * (right - left), CANVAS[0] - (bottom + outline[:, 1] * (top - bottom))], axis=1)
        canvas = np.full(CANVAS, 255, np.uint8)
        fixed = np.rint(points * 16).astype(np.int32)  # 4 fractional bits
        cv2.fillPoly(canvas, [fixed], 0, cv2.LINE_8, 4)
        cv2.polylines(canvas, [fixed], True, 0, 2, cv2.LINE_8, 4)
        filled = cv2.resize(canvas, (box[1], box[0]), interpolation=cv2.INTER_LINEAR) == 0
        rows, columns = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
        if len(rows) > 2 and len(columns) > 2:
            cropped: NDArray[np.bool_] = filled[rows[0] : rows[-1], columns[0] : columns[-1]]
            if cropped.any():
                return cropped


def _bezier(control: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points along consecutive cubic pieces that share their ends: (3n + 1, 2) -> (n * SAMPLES, 2)."""
    t = np.linspace(0, 1, SAMPLES, endpoint=False)[:, None]
    weights = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
    pieces = (control[start : start + 4] for start in range(0, len(control) - 1, 3))
    return np.concatenate([sum(w * p for w, p in zip(weights, piece, strict=True)) for piece in pieces])


def coverage(masks: Masks) -> float:
    """Share of the clip's pixels that are hole, 0 to 1."""
    return float(masks.mean(dtype=np.float64))


def mask_hash(masks: Masks) -> str:
    """Hex sha256 over the size and every pixel of a mask sequence."""
    return hashlib.sha256(repr(masks.shape).encode() + np.packbits(masks).tobytes()).hexdigest()


def manifest(set_seed: int, motion: str, entries: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The manifest of a mask set: how it was made, and seed, coverage and hash per clip."""
    return {"generator": GENERATOR, "seed": set_seed, "motion": motion, "clips": sorted(entries, key=lambda entry: str(entry["clip"]))}


def manifest_entry(clip: str, seed: int, masks: Masks) -> dict[str, Any]:
    """One clip of a manifest."""
    return {"clip": clip, "seed": seed, "frames": len(masks), "coverage": round(coverage(masks), 6), "sha256": mask_hash(masks)}


def write_manifest(path: Path, made: dict[str, Any]) -> None:
    """Write a manifest; equal mask sets give equal bytes."""
    write_json(path, made)


def check_manifest(path: Path, clip: str, masks: Masks) -> None:
    """Check one clip's masks against the manifest at ``path``.

    Raises:
        DataError: the manifest does not know the clip, or its masks were others.
    """
    try:
        known = {str(entry["clip"]): (str(entry["sha256"]), entry["coverage"]) for entry in read_json(path)["clips"]}
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: is no manifest of masks (expected clips, each with clip, sha256 and coverage). Make it again.") from error
    if clip not in known:
        raise DataError(f"{path}: does not list the clip {clip}; it belongs to another mask set.")
    stored, there = known[clip]
    if stored != mask_hash(masks):
        raise DataError(
            f"{path}: the masks of {clip} differ from the manifest (coverage {coverage(masks):.4f} here, {there} there). "
            "Use the seed, motion and size that the manifest was made with."
        )
