"""Experiments whose truth is known, judged by the gate: how often it raises an alarm."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from tests.gate.made import cell, set_cell, summary, verdict
from vpbench.gate import REGRESSION
from vpbench.gate_rules import Rule
from vpbench.results import Cell

Sides = tuple[list[Cell], list[Cell]]  # the columns of the baseline and of the candidate
Draw = Callable[[np.random.Generator], Sides]
FEATURES = 16  # length of the set metric's feature vectors


def alarm_rate(draw: Draw, experiments: int = 2000, seed: int = 0, rule: Rule | None = None) -> float:
    """The share of experiments in which the gate says that the candidate is worse, under one rule or the default one."""
    rules = () if rule is None else (rule,)
    rng = np.random.default_rng(seed)
    alarms = 0
    for _ in range(experiments):
        baseline, candidate = draw(rng)
        alarms += verdict(summary(*baseline), summary(*candidate), *rules).exit_status == REGRESSION
    return alarms / experiments


def one_column(clips: int = 45, drop: float = 0.0, deviation: float = 1.0) -> Draw:
    """PSNR with a normal paired difference."""

    def draw(rng: np.random.Generator) -> Sides:
        values = rng.normal(25, 5, clips)
        return [cell("psnr", values)], [cell("psnr", values + rng.normal(-drop, deviation, clips))]

    return draw


def several_columns(clips: int = 45, columns: int = 5, correlation: float = 0.6) -> Draw:
    """Columns without a true difference, their noise correlated as that of PSNR and SSIM is."""

    def draw(rng: np.random.Generator) -> Sides:
        values = rng.normal(25, 5, (columns, clips))
        shared, own = rng.normal(0, 1, clips), rng.normal(0, 1, (columns, clips))
        noise = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
        names = [f"metric{i}" for i in range(columns)]
        pairs = zip(names, values, noise, strict=True)
        sides = [(cell(name, value), cell(name, value + error)) for name, value, error in pairs]
        return [one for one, _ in sides], [other for _, other in sides]

    return draw


def weighted(clips: int = 45) -> Draw:
    """A mean over all frames of clips of 24 to 96 frames."""

    def draw(rng: np.random.Generator) -> Sides:
        values, frames = rng.normal(25, 5, clips), rng.integers(24, 97, clips).astype(float)
        sides = [cell("psnr", v, average="frames", frames=frames) for v in (values, values + rng.normal(0, 1, clips))]
        return [sides[0]], [sides[1]]

    return draw


def set_metric(clips: int = 45) -> Draw:
    """A distance of mean features from those of the reference, for two models that are equally far from it."""
    towards = np.full(FEATURES, 0.5)

    def draw(rng: np.random.Generator) -> Sides:
        content = rng.normal(0, 0.5, (clips, FEATURES))
        sides = [content + towards + rng.normal(0, 0.5, (clips, FEATURES)) for _ in range(2)]
        cells = [set_cell("fvd", distance(side.mean(axis=0)), [distance(row) for row in without(side)]) for side in sides]
        return [cells[0]], [cells[1]]

    return draw


def skewed(clips: int = 45) -> Draw:
    """No true difference, but rare large gains against many small drops: the hard side for a t-test."""

    def draw(rng: np.random.Generator) -> Sides:
        values = rng.normal(25, 5, clips)
        return [cell("psnr", values)], [cell("psnr", values + rng.exponential(1, clips) - 1)]

    return draw


def distance(mean: NDArray[np.float64]) -> float:
    return float(np.square(mean).sum())


def without(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """The means without each clip."""
    means: NDArray[np.float64] = (features.sum(axis=0) - features) / (len(features) - 1)
    return means
