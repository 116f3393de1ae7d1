"""Windows: every frame is made, no window has more frames than it may, and one window is the loop without any."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.baselines.cococo import tiny
from tests.baselines.cococo.live import Live
from vpbench.baselines.cococo import sampling
from vpbench.baselines.cococo.sampling import ddim, sample, shares, spans


@given(frames=st.integers(1, 300), window=st.integers(1, 40), overlap=st.integers(0, 39))
def test_windows_cover_a_clip_without_a_gap(frames: int, window: int, overlap: int) -> None:
    overlap = min(overlap, window - 1)
    found = spans(frames, window, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == frames
    assert all(stop - start == min(window, frames) for start, stop in found)
    for (start, stop), (later, end) in itertools.pairwise(found):
        assert later > start
        assert end > stop
        assert stop - later >= overlap
    total = np.zeros(frames)
    for (start, stop), share in zip(found, shares(frames, found), strict=True):
        assert (share > 0).all()
        total[start:stop] += share
    np.testing.assert_allclose(total, 1, rtol=1e-6)


def test_a_frame_counts_less_near_a_windows_end() -> None:
    first, second = shares(12, [(0, 8), (4, 12)])
    np.testing.assert_allclose(first, [1, 1, 1, 1, 4 / 5, 3 / 5, 2 / 5, 1 / 5], rtol=1e-6)
    np.testing.assert_allclose(second, first[::-1], rtol=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 50, 333, 500, 999])
def test_steps_lie_within_the_levels_that_were_taught(steps: int) -> None:
    timesteps = ddim(steps).timesteps
    assert len(timesteps) == steps
    assert timesteps.min() >= 1
    assert timesteps.max() <= 999


def run(frames: int, windows: Any, texts: int = 2) -> torch.Tensor:
    shapes = {"noise": (frames, 4, 4, 4), "mask": (frames, 1, 4, 4), "masked": (frames, 4, 4, 4), "texts": (texts, 5, 8)}
    unet = torch.nn.Linear(1, 1)
    unet.dtype = torch.float32  # type: ignore[assignment]
    drawn = {name: tiny.drawn(name, shape) for name, shape in shapes.items()}
    return sample(unet, **drawn, steps=3, guidance=5.0, windows=windows)


def test_memory_does_not_grow_with_the_clip_but_for_its_latents() -> None:
    """Beyond the first window, a frame more costs what a few copies of its latents take; without windows it costs far more."""

    def peak(frames: int, window: int | None) -> int:
        clip = {name: torch.zeros(frames, count, 8, 12) for name, count in (("noise", 4), ("mask", 1), ("masked", 4))}
        texts = torch.zeros(1, 77, tiny.TEXT)
        with torch.inference_mode(), Live() as live:
            sample(unet, **clip, texts=texts, steps=1, guidance=1.0, windows=spans(frames, window, 1))
        return live.peak

    unet = tiny.unet()
    latents = 4 * 8 * 12 * 4  # bytes of one frame's
    assert 0 < peak(40, 4) - peak(20, 4) <= 20 * 12 * latents
    assert peak(40, None) - peak(20, None) > 20 * 100 * latents


def test_windows_agree_where_frames_do_not_depend_on_one_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a network that sees frame by frame, cutting into windows changes nothing; and each window is asked with each text."""
    asked: list[int] = []

    def predict(unet: Any, given: torch.Tensor, timestep: Any, words: torch.Tensor) -> torch.Tensor:
        asked.append(len(given))
        return 0.3 * given[:, :4] + 0.1 * given[:, 4:5] - 0.2 * given[:, 5:] + words.mean()

    monkeypatch.setattr(sampling, "predict", predict)
    whole = run(11, [(0, 11)])
    assert asked == [11] * 6
    torch.testing.assert_close(run(11, spans(11, 4, 2)), whole)
    asked.clear()
    run(11, spans(11, 4, 2), texts=1)
    assert asked == [4] * len(spans(11, 4, 2)) * 3
