"""Every config that ships composes, its keys fit its targets, and its first line is the command that uses it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from tests.conftest import composed_protocol
from vpbench.configuration import MODEL_KEYS, RunConfig, check_leaf
from vpbench.plugins import register_resolver
from vpbench.scoring import Protocol
from vpbench.weights import label

CONF = Path(__file__).resolve().parent.parent / "conf"
LEAVES = sorted(CONF.glob("*/*.yaml"))
PARTS = sorted(CONF.glob("model/*/*.yaml"))  # of a model: its backbone, its image inpainter


def composed_model(*overrides: str) -> dict[str, Any]:
    """The leaf of a model, with the parts that its defaults name."""
    register_resolver()
    ConfigStore.instance().store(name="schema", node=RunConfig)
    GlobalHydra.instance().clear()
    with initialize_config_module(config_module="vpbench.conf", version_base="1.3"):
        leaf = OmegaConf.to_container(compose("config", [*overrides]).model, resolve=True)
    assert isinstance(leaf, dict)
    return {str(key): value for key, value in leaf.items()}


def check_parts(leaf: dict[str, Any], where: str, reserved: tuple[str, ...] = ()) -> None:
    check_leaf(leaf, where, reserved)
    for key, value in leaf.items():
        if isinstance(value, dict) and "_target_" in value:
            check_parts(value, f"{where}.{key}")


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_file_starts_with_its_command(path: Path) -> None:
    head = [line for line in path.read_text().splitlines()[:2] if "@package" not in line]
    gate = path.parent.name == "gate"
    assert head[0].startswith("# vpbench gate " if gate else "# vpbench run ")
    assert (f"--rules {path.stem} " if gate else f"{path.parent.name}={path.stem}") in head[0]


@pytest.mark.parametrize("path", PARTS, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_file_of_a_part_starts_with_its_command(path: Path) -> None:
    (head, *_) = path.read_text().splitlines()
    assert head.startswith(f"# vpbench run model=latent_blend model/{path.parent.name}={path.stem}")


@pytest.mark.parametrize("path", [p for p in LEAVES if p.parent.name == "benchmark"], ids=lambda p: p.stem)
def test_the_keys_of_a_benchmark_fit_its_target(path: Path) -> None:
    check_leaf(yaml.safe_load(path.read_text()), "benchmark")


@pytest.mark.parametrize("path", [p for p in LEAVES if p.parent.name == "model"], ids=lambda p: p.stem)
def test_the_keys_of_a_model_fit_its_target(path: Path) -> None:
    check_parts(composed_model(f"model={path.stem}"), "model", MODEL_KEYS)


@pytest.mark.parametrize("path", PARTS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_keys_of_a_part_fit_its_target(path: Path) -> None:
    leaf = composed_model("model=latent_blend", f"model/{path.parent.name}={path.stem}")
    check_parts(leaf, "model", MODEL_KEYS)
    assert leaf[path.parent.name]["_target_"] == yaml.safe_load(path.read_text())["_target_"]


@pytest.mark.parametrize("path", [p for p in LEAVES if p.parent.name == "protocol"], ids=lambda p: p.stem)
def test_the_protocol_builds(path: Path) -> None:
    protocol = Protocol.of(composed_protocol(path.stem))
    assert protocol.name == path.stem
    columns = [column.name for column in protocol.columns]
    assert len(columns) == len(set(columns))
    assert protocol.mean_rank
    for column in protocol.columns:
        assert column.metric.direction in ("higher", "lower")
        assert column.metric.range[0] < column.metric.range[1]
        for network in column.metric.measure.networks:
            assert network.name in label(network)
