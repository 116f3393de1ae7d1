"""The code that the documentation shows runs."""

from __future__ import annotations

import re
import sys
import types
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.toy import toy_clip
from vpbench.measuring import ClipMetric, Comparison, Measure, frame_mean
from vpbench.scoring import Protocol

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_the_metric_of_the_extension_guide(monkeypatch: pytest.MonkeyPatch) -> None:
    (code,) = re.findall(r"```python\n(@dataclass.*?)```", (DOCS / "extending.md").read_text(), re.DOTALL)
    module = types.ModuleType("my_file")
    module.__dict__.update(dataclass=dataclass, Measure=Measure, ClipMetric=ClipMetric, frame_mean=frame_mean, np=np)
    monkeypatch.setitem(sys.modules, "my_file", module)
    exec(compile(code, "docs/extending.md", "exec"), module.__dict__)
    leaf = {"name": "mine", "metrics": {"brightness": {"_target_": "my_file.BrightnessError", "regions": ["frame"]}}}
    (column,) = Protocol.of(leaf).columns
    clip = toy_clip("a")
    arrays = column.metric.measure(Comparison(clip.frames // 2, clip.frames, clip.masks))
    expected = clip.frames.mean(axis=(1, 2, 3)) - (clip.frames // 2).mean(axis=(1, 2, 3))
    assert column.clip(arrays, True).value == pytest.approx(expected.mean(), rel=1e-12)
