"""Every config that ships composes, its keys fit its targets, and its first line is the command that uses it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.conftest import composed_protocol
from vpbench.configuration import MODEL_KEYS, check_leaf
from vpbench.scoring import Protocol
from vpbench.weights import label

CONF = Path(__file__).resolve().parent.parent / "conf"
LEAVES = sorted(CONF.glob("*/*.yaml"))


@pytest.mark.parametrize("path", LEAVES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_file_starts_with_its_command(path: Path) -> None:
    head = [line for line in path.read_text().splitlines()[:2] if "@package" not in line]
    gate = path.parent.name == "gate"
    assert head[0].startswith("# vpbench gate " if gate else "# vpbench run ")
    assert (f"--rules {path.stem} " if gate else f"{path.parent.name}={path.stem}") in head[0]


@pytest.mark.parametrize("path", [p for p in LEAVES if p.parent.name in ("model", "benchmark")], ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_the_keys_fit_the_target(path: Path) -> None:
    leaf = yaml.safe_load(path.read_text())
    check_leaf(leaf, path.parent.name, MODEL_KEYS if path.parent.name == "model" else ())


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
