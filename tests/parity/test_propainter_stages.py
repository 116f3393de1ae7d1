"""ProPainter's four stages, each against the authors' own on the same weights and inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.baselines.propainter import recipe
from vpbench.baselines.propainter import completion, generator, layers, propagation, raft, transformer, weights

FIXTURE = Path(__file__).parent / "fixtures" / "propainter_stages.npz"
EXACT, CLOSE = 2e-6, 1e-4  # the convolutions of two versions of torch may differ in the last bits


@pytest.fixture(scope="module")
def upstream() -> dict[str, Any]:
    with np.load(FIXTURE) as file:
        return dict(file)


@pytest.fixture(scope="module")
def networks() -> weights.Networks:
    made = weights.build()
    made.raft.load_state_dict(raft.converted(recipe.state("raft-things")))
    made.completion.load_state_dict(recipe.state("propainter-flow-completion"))
    made.generator.load_state_dict(recipe.state("propainter"))
    return made


def flows(name: str, frames: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    forward, backward = (torch.from_numpy(flow) for flow in recipe.flows(name, frames, height, width))
    return forward, backward


def apart(ours: Any, theirs: Any) -> float:
    return float(np.abs(recipe.sampled(ours) - theirs).max())


@torch.inference_mode()
def flow_apart(networks: weights.Networks, upstream: dict[str, Any], name: str, updates: int = recipe.UPDATES) -> float:
    frames, height, width = recipe.RAFT[name]
    found = raft.flows(networks.raft, torch.from_numpy(recipe.levels(f"raft {name}", (frames, 3, height, width))), updates)
    return max(apart(ours, theirs) for ours, theirs in zip(found, upstream[f"raft_{name}"], strict=True))


@torch.inference_mode()
def completion_apart(networks: weights.Networks, upstream: dict[str, Any], name: str) -> float:
    frames, height, width = recipe.COMPLETION[name]
    masks = torch.from_numpy(recipe.some_masks("box", frames, height, width))
    found = completion.complete(networks.completion, flows(f"completion {name}", frames, height, width), masks)
    return max(apart(ours, theirs) for ours, theirs in zip(found, upstream[f"completion_{name}"], strict=True))


@torch.inference_mode()
def propagation_apart(upstream: dict[str, Any], name: str) -> float:
    frames, height, width = recipe.PROPAGATION[name]
    masks = torch.from_numpy(recipe.some_masks(name, frames, height, width))
    pixels = torch.from_numpy(recipe.levels(f"frames {name}", (frames, 3, height, width))) * (1 - masks)
    made, left = propagation.propagate(pixels, flows(f"propagation {name}", frames, height, width), masks)
    assert 0 < left.mean() < masks.mean(), "something was found, and not everything"
    return max(apart(made, upstream[f"propagation_{name}_frames"]), apart(left, upstream[f"propagation_{name}_left"]))


@torch.inference_mode()
def generator_apart(networks: weights.Networks, upstream: dict[str, Any], name: str) -> float:
    height, width, frames, local, kind = recipe.GENERATOR[name]
    masks = torch.from_numpy(recipe.some_masks(kind, frames, height, width))
    left = masks * torch.from_numpy(recipe.levels("left", masks.shape) > 0)
    pixels = torch.from_numpy(recipe.levels(f"generator {name}", (frames, 3, height, width)))
    made = networks.generator(pixels, flows(f"generator {name}", local, height, width), masks, left, local)
    assert made.shape == (local, 3, height, width)
    return apart(made, upstream[f"generator_{name}"])


@pytest.mark.parametrize("name", recipe.RAFT)
def test_flow(networks: weights.Networks, upstream: dict[str, Any], name: str) -> None:
    assert flow_apart(networks, upstream, name) < CLOSE


@pytest.mark.parametrize("name", recipe.COMPLETION)
def test_completion(networks: weights.Networks, upstream: dict[str, Any], name: str) -> None:
    assert completion_apart(networks, upstream, name) < EXACT


@pytest.mark.parametrize("name", recipe.PROPAGATION)
def test_propagation(upstream: dict[str, Any], name: str) -> None:
    assert propagation_apart(upstream, name) < EXACT


@pytest.mark.parametrize("name", recipe.GENERATOR)
def test_generator(networks: weights.Networks, upstream: dict[str, Any], name: str) -> None:
    """Windows that fit the grid and that do not, with and without a hole, with and without frames elsewhere, a single frame."""
    assert generator_apart(networks, upstream, name) < CLOSE


def other_warp(values: torch.Tensor, flow: torch.Tensor, mode: str = "bilinear") -> torch.Tensor:
    return WARP(values, flow, "bilinear" if mode == "nearest" else "nearest")


def other_half(x: torch.Tensor, *arguments: Any, **options: Any) -> torch.Tensor:
    return QUARTER(x) * generator.SCALE


def no_ring(down: int, across: int, kept: torch.Tensor) -> Any:
    own, ringed = TABLES(down, across, kept)
    return own, ringed.roll(1, 0)


def all_touched(masks: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(TOUCHED(masks))


def sum_of_patches(size: Any, device: torch.device) -> torch.Tensor:
    return torch.ones_like(OVERLAPS(size, device))


def one_way(count: int, both: propagation.Flows) -> Any:
    first, _ = PASSES(count, both)
    yield first
    yield first


WARP, QUARTER, TABLES, TOUCHED = propagation.warp, generator._quarter, transformer.tables, transformer._touched
OVERLAPS, PASSES = transformer.overlaps, propagation.passes
PROPAGATION: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "pixels between pixels": lambda patch: patch.setattr(propagation, "warp", other_warp),
    "backwards twice": lambda patch: patch.setattr(propagation, "passes", one_way),
    "a stricter agreement": lambda patch: patch.setattr(propagation, "ABSOLUTE", 0.05),
    "no relative agreement": lambda patch: patch.setattr(propagation, "RELATIVE", 0.0),
    "half a hole is none": lambda patch: patch.setattr(propagation, "ANY", 0.6),
}
GENERATOR: dict[str, tuple[str, Callable[[pytest.MonkeyPatch], None]]] = {
    "flow of the whole size": ("box", lambda patch: patch.setattr(generator, "_quarter", other_half)),
    "another ring": ("box", lambda patch: patch.setattr(transformer, "tables", no_ring)),
    "every window looks around": ("box", lambda patch: patch.setattr(transformer, "_touched", all_touched)),
    "patches are added up": ("random", lambda patch: patch.setattr(transformer, "overlaps", sum_of_patches)),
    "keys of all frames": ("random", lambda patch: patch.setattr(transformer, "EVERY", 1)),
    "backwards twice": ("random", lambda patch: patch.setattr(generator, "passes", one_way)),
}


@pytest.mark.parametrize("name", PROPAGATION)
def test_every_deviation_of_the_propagation_is_seen(upstream: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PROPAGATION[name](monkeypatch)
    assert max(propagation_apart(upstream, kind) for kind in recipe.PROPAGATION) > 0.01


@pytest.mark.parametrize("name", GENERATOR)
def test_every_deviation_of_the_generator_is_seen(
    networks: weights.Networks, upstream: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, change = GENERATOR[name]
    change(monkeypatch)
    assert generator_apart(networks, upstream, kind) > 10 * CLOSE


@pytest.mark.parametrize(
    ("part", "attribute"), [("deform_align", "reach"), ("completion", "reach")], ids=["reach of the generator", "reach of the completion"]
)
def test_how_far_deformable_convolutions_reach_is_seen(
    networks: weights.Networks, upstream: dict[str, Any], part: str, attribute: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = networks.generator if part == "deform_align" else networks.completion
    for layer in module.modules():
        if isinstance(layer, layers.DeformableAlignment):
            monkeypatch.setattr(layer, attribute, 4.0)
    far = generator_apart(networks, upstream, "box") if part == "deform_align" else completion_apart(networks, upstream, "small")
    assert far > 10 * CLOSE


def test_one_update_less_is_seen(networks: weights.Networks, upstream: dict[str, Any]) -> None:
    assert flow_apart(networks, upstream, "square", recipe.UPDATES - 1) > 10 * CLOSE
