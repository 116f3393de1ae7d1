from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from vpbench.clip import Clip
from vpbench.models import Model, Short
from vpbench.running import Result, Run

os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch on two threads is many times slower where something else uses the cores
os.environ.setdefault("VPBENCH_TRUST", "tests")  # reports and explanations read the toy benchmarks of runs
CONF = Path(__file__).resolve().parent.parent / "conf"


def composed_protocol(name: str) -> dict[str, Any]:
    """A protocol that ships, as it is composed."""
    config = OmegaConf.create({"protocol": OmegaConf.load(CONF / "protocol" / f"{name}.yaml")})
    leaf = OmegaConf.to_container(config, resolve=True)
    assert isinstance(leaf, dict)
    return dict(leaf["protocol"])


def pixels() -> dict[str, Any]:
    """The protocol ``pixels`` as it is composed."""
    return composed_protocol("pixels")


@pytest.fixture(autouse=True)
def _log_as_before() -> Iterator[None]:
    before = list(logging.root.handlers)
    yield
    logging.root.handlers[:] = before  # Hydra's write to the standard output that this test captured, and is closed after it


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
        "device": "cpu",
        "overlap": False,
    }


@pytest.fixture
def interrupted_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], AbstractContextManager[None]]:
    """While ``interrupted_at(clip)`` lasts, Ctrl-C arrives when the model begins with that clip."""

    @contextlib.contextmanager
    def interrupted(name: str) -> Iterator[None]:
        real = Model.predict

        def predict(self: Model, clip: Clip, seed: int) -> Short:
            if clip.name == name:
                raise KeyboardInterrupt
            return real(self, clip, seed)

        with monkeypatch.context() as patch:
            patch.setattr(Model, "predict", predict)
            yield

    return interrupted


@pytest.fixture
def run(config: dict[str, Any]) -> Callable[..., Result]:
    """Execute ``config`` with top-level keys replaced."""

    def execute(**changes: Any) -> Result:
        return Run({**config, **changes}).execute()

    return execute


def custom(target: str, **kwargs: Any) -> dict[str, Any]:
    """A model leaf for a function of ``tests.toy``."""
    return {"_target_": "vpbench.models.custom", "target": f"tests.toy.{target}", "kwargs": kwargs}
