"""ProPainter from frames to frames, against outputs of the authors' two scripts on the same weights and clips."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.baselines.propainter import recipe
from vpbench.baselines.propainter import model as model_module
from vpbench.baselines.propainter import propagation, raft, steps
from vpbench.baselines.propainter.model import ProPainter
from vpbench.clip import Clip, Frames, MaskedClip

FIXTURE = Path(__file__).parent / "fixtures" / "propainter_end_to_end.npz"
KEPT = 20_000  # values of each clip that are kept, of those in the hole
NAMES = {"neighbor_length": "neighbours", "ref_stride": "reference_stride", "subvideo_length": "subvideo"}
FEW = 1e-3  # share of values that float32 may push over a level


def inside(name: str, values: Any) -> Any:
    """Values of a clip's hole, thinned."""
    frames, height, width, _ = recipe.CLIPS[name]
    _, masks = recipe.video(frames, height, width)
    found = values[masks].reshape(-1)
    return found[:: max(1, len(found) // KEPT)]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(recipe.write(tmp_path_factory.mktemp("propainter")))


@pytest.fixture(scope="module")
def upstream() -> dict[str, Any]:
    with np.load(FIXTURE) as file:
        return dict(file)


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def made(name: str, weights: Path, **changes: Any) -> Frames:
    frames, height, width, settings = recipe.CLIPS[name]
    video, masks = recipe.video(frames, height, width)
    clip = Clip(name, video, masks, fps=8.0)
    evaluation = name == "evaluation"
    options: dict[str, Any] = {"raft_updates": 4, "compat": "evaluation" if evaluation else "inference"}
    options |= {NAMES[key]: value for key, value in settings.items()} | changes
    return ProPainter(str(weights), **options)(clip if evaluation else MaskedClip.of(clip), seed=0)


def differences(name: str, ours: Frames, upstream: dict[str, Any]) -> Any:
    return np.abs(inside(name, ours).astype(float) - np.rint(upstream[name].astype(float)))


@pytest.mark.parametrize("name", recipe.CLIPS)
def test_the_authors_scripts(name: str, weights: Path, upstream: dict[str, Any]) -> None:
    """More and fewer frames than a window and than a subvideo; sizes that are multiples of 8 and one that is not."""
    apart = differences(name, made(name, weights), upstream)
    assert apart.max() <= 1
    assert (apart > 0).mean() < FEW


def rounded(pixels: torch.Tensor) -> Any:
    return np.rint(LEVELS(pixels))


def other_pieces(count: int, length: int | None, context: int) -> Any:
    return PIECES(count, length, 0)


def no_overlap(network: Any, frames: torch.Tensor, length: int, updates: int, device: torch.device) -> Any:
    return FLOWS(network, frames.flip(0), length, updates, device)


def masked_once(frames: torch.Tensor, along: Any, masks: torch.Tensor, length: int | None, device: torch.device) -> Any:
    found, _ = PROPAGATED(frames, along, masks, length, device)
    return found, masks


def unlimited(count: int, neighbours: int, stride: int, length: int | None) -> Any:
    return WINDOWS(count, neighbours, stride, None)


def square(masks: Any, times: int) -> Any:
    from scipy.ndimage import binary_dilation

    return np.stack([binary_dilation(mask, np.ones((3, 3)), iterations=times) for mask in masks])


LEVELS, PIECES, FLOWS, PROPAGATED, WINDOWS = model_module._levels, steps.pieces, steps.flows, steps.propagated, steps.windows
DEVIATIONS: dict[str, tuple[str, Callable[..., Any] | None, dict[str, Any]]] = {
    "the mean of windows": ("windows", None, {"compat": "none"}),
    "one update less": ("short", None, {"raft_updates": 3}),
    "a hole that is grown by squares": ("short", lambda patch: patch.setattr(model_module, "_grown", square), {}),
    "rounded levels": ("short", lambda patch: patch.setattr(model_module, "_levels", rounded), {}),
    "the other way round in time": ("short", lambda patch: patch.setattr(steps, "flows", no_overlap), {}),
    "what is left is what was there": ("short", lambda patch: patch.setattr(steps, "propagated", masked_once), {}),
    "pieces without context": ("subclips", lambda patch: patch.setattr(steps, "pieces", other_pieces), {}),
    "frames of the whole clip": ("subclips", lambda patch: patch.setattr(steps, "windows", unlimited), {}),
    "another threshold of agreement": ("short", lambda patch: patch.setattr(propagation, "ABSOLUTE", 5.0), {}),
    "flow of the blanked frames": ("evaluation", "blank", {}),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("name", DEVIATIONS)
def test_every_deviation_is_seen(name: str, weights: Path, upstream: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    clip, change, settings = DEVIATIONS[name]
    if change == "blank":
        flows = steps.flows
        frames, height, width, _ = recipe.CLIPS[clip]
        holes = torch.from_numpy(recipe.video(frames, height, width)[1])[:, None]
        monkeypatch.setattr(steps, "flows", lambda network, pixels, *rest: flows(network, pixels * ~holes, *rest))
    elif change is not None:
        change(monkeypatch)
    apart = differences(clip, made(clip, weights, **settings), upstream)
    assert (apart > 0).mean() > 5 * FEW


def test_the_released_names_of_raft_are_torchvisions_by_this_table() -> None:
    names = [raft.renamed(name) for name in recipe.raft_shapes() if not raft.COPY.search(name)]
    assert sorted(names) == sorted(raft.build().state_dict())
