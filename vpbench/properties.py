"""What is measured of a clip itself, whatever the model: tables are sliced by it."""

from __future__ import annotations

from typing import Any

import numpy as np

from vpbench.clip import Clip, Frames

PAIRS = 48  # of neighbouring frames that are looked at for motion, spread evenly over the clip
FLOW_SIDE = 256  # pixels: the longer side that motion is measured at


def properties(clip: Clip) -> dict[str, Any]:
    """Return the properties of a clip, ready for JSON.

    Returns:
        ``operation``, ``tags``, ``frames``, ``fps``, ``seconds``, ``height`` and ``width`` (pixels), ``coverage`` (mean share of the
        frame that is hole, 0-1) and ``motion`` (median over frame pairs of the mean length of the optical flow of the frames as they
        are given, in percent of the frame's diagonal per frame; 0 for a single frame; OpenCV's DIS flow, Kroeger et al. 2016).
    """
    frames, height, width = clip.frames.shape[:3]
    return {
        "operation": clip.operation,
        "tags": sorted(clip.tags),
        "frames": frames,
        "fps": float(clip.fps),
        "seconds": frames / float(clip.fps),
        "height": height,
        "width": width,
        "coverage": float(clip.masks.mean()),
        "motion": _motion(clip.frames),
    }


def _motion(frames: Frames) -> float:
    import cv2

    if len(frames) < 2:
        return 0.0
    height, width = frames.shape[1:3]
    scale = min(1.0, FLOW_SIDE / max(height, width))
    size = max(16, round(width * scale)), max(16, round(height * scale))
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    lengths = []
    for t in np.unique(np.linspace(0, len(frames) - 2, min(PAIRS, len(frames) - 1)).round().astype(int)):
        one, other = (cv2.cvtColor(cv2.resize(frames[i], size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY) for i in (t, t + 1))
        lengths.append(np.linalg.norm(flow.calc(one, other, None), axis=-1).mean())
    return float(100 * np.median(lengths) / np.hypot(*size))
