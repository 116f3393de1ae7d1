"""Results made of arrays, for tests of the decision alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from vpbench.gate import Verdict, judge
from vpbench.gate_checks import Check
from vpbench.gate_rules import Acknowledged, Rule, Rules
from vpbench.results import Cell, Summary, clip_mean

TODAY = date(2026, 7, 1)


def cell(name: str, values: ArrayLike, **changes: Any) -> Cell:
    """A column like PSNR with these values per clip."""
    metric, _, region = name.removesuffix("]").partition("[")
    clips = np.asarray(values, np.float64)
    frames = np.asarray(changes.pop("frames", np.full(len(clips), 10.0)))
    average = changes.pop("average", "clips")
    description = {
        "metric": metric,
        "region": region or "frame",
        "column": f"{metric}[{region or 'frame'}]",
        "unit": "dB",
        "direction": "higher",
        "digits": 2,
        "scale": 1.0,
        "average": average,
        "signature": f"{name}|v1",
        "value": clip_mean(clips, frames if average == "frames" else None) if len(clips) else None,
        "n": int(np.isfinite(clips).sum()),
        "excluded": (),
        "exact_frames": 0,
        "clips": clips,
        "frames": frames,
    }
    return Cell(**{**description, **changes})


def set_cell(name: str, value: float, without: ArrayLike, **changes: Any) -> Cell:
    """A column like FVD: its value and those without each clip."""
    left = np.asarray(without, np.float64)
    found = {"average": "set", "direction": "lower", "unit": "", "value": value, "n": len(left), "without": left, **changes}
    return cell(name, [], **found)


def summary(*cells: Cell, names: Sequence[str] = (), properties: Mapping[str, Any] | None = None, **changes: Any) -> Summary:
    """A complete run of these columns, all of which count in the mean rank."""
    n = max((len(c.clips) or len(c.without) for c in cells), default=0)
    clips = tuple(names) or tuple(f"clip{i:03d}" for i in range(n))
    description: dict[str, Any] = {
        "benchmark": "demo",
        "fingerprint": "0123456789abcdef",
        "model": "model",
        "needs_reference": False,
        "may_rank": True,
        "run": "model-1a2b",
        "protocol": "pixels",
        "track": "raw",
        "ok": len(clips),
        "total": len(clips),
        "failed": 0,
        "mean_rank": tuple(c.column for c in cells),
        "cells": cells,
        "clips": clips,
        "properties": properties or {},
    }
    return Summary(**{**description, **changes})


def rules(*wanted: Rule, acknowledged: Sequence[Acknowledged] = ()) -> Rules:
    """Rules; without any the default one: every column, no tolerance, a paired test at 5 %."""
    return Rules("test", wanted or (Rule("test: rules[0]"),), tuple(acknowledged))


def rule(metric: str = "*", region: str = "*", **options: Any) -> Rule:
    return Rule("test: rules[0]", metric, region, **options)


def verdict(baseline: Summary | Cell, candidate: Summary | Cell, *wanted: Rule, acknowledged: Sequence[Acknowledged] = ()) -> Verdict:
    one, other = (side if isinstance(side, Summary) else summary(side) for side in (baseline, candidate))
    return judge(one, other, rules(*wanted, acknowledged=acknowledged), TODAY)


def check(baseline: Summary | Cell, candidate: Summary | Cell, *wanted: Rule, acknowledged: Sequence[Acknowledged] = ()) -> Check:
    (found,) = verdict(baseline, candidate, *wanted, acknowledged=acknowledged).checks
    return found
