from __future__ import annotations

import json

import numpy as np
import pytest

from tests.metrics.clips import textured
from vpbench.clip import Clip
from vpbench.properties import properties


def moving(step: int, frames: int = 6) -> Clip:
    """A textured plane that slides by ``step`` pixels per frame, a quarter of it hole."""
    wide = textured(1, 96, 128 + step * frames)[0]
    video = np.stack([wide[:, step * t : step * t + 128] for t in range(frames)])
    masks = np.zeros(video.shape[:3], bool)
    masks[:, :48, :64] = True
    return Clip("clip", video, masks, 24.0, tags=("b", "a"), operation="inpaint")


def test_properties_are_measured() -> None:
    found = properties(moving(3))
    assert json.loads(json.dumps(found)) == found
    assert {key: found[key] for key in ("operation", "tags", "frames", "fps", "seconds", "height", "width", "coverage")} == {
        "operation": "inpaint",
        "tags": ["a", "b"],
        "frames": 6,
        "fps": 24.0,
        "seconds": 0.25,
        "height": 96,
        "width": 128,
        "coverage": 0.25,
    }


@pytest.mark.parametrize("step", [0, 2, 4])
def test_motion_is_the_speed_in_percent_of_the_diagonal(step: int) -> None:
    assert properties(moving(step))["motion"] == pytest.approx(100 * step / np.hypot(96, 128), abs=0.2)


def test_a_still_image_does_not_move() -> None:
    assert properties(moving(3, frames=1))["motion"] == 0
