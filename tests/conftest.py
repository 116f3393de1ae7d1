from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from vpbench.running import Result, Run

CONF = Path(__file__).resolve().parent.parent / "conf"


def pixels() -> dict[str, Any]:
    """The protocol ``pixels`` as it is composed."""
    leaf: dict[str, Any] = yaml.safe_load((CONF / "protocol" / "pixels.yaml").read_text())
    for metric in leaf["metrics"].values():
        if "boundary_px" in metric:
            metric["boundary_px"] = leaf["boundary_px"]
    return leaf


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """A run of a grey fill over the toy benchmark."""
    return {
        "model": {"_target_": "vpbench.models.custom", "target": "tests.toy.grey", "kwargs": {}, "name": "grey"},
        "benchmark": {"_target_": "tests.toy.Toy"},
        "protocol": pixels(),
        "seed": 0,
        "track": ["raw"],
        "clips": None,
        "limit": None,
        "out": str(tmp_path / "runs"),
    }


@pytest.fixture
def run(config: dict[str, Any]) -> Callable[..., Result]:
    """Execute ``config`` with top-level keys replaced."""

    def execute(**changes: Any) -> Result:
        return Run({**config, **changes}).execute()

    return execute


def custom(target: str, **kwargs: Any) -> dict[str, Any]:
    """A model leaf for a function of ``tests.toy``."""
    return {"_target_": "vpbench.models.custom", "target": f"tests.toy.{target}", "kwargs": kwargs}
