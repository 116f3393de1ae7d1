from __future__ import annotations

import pytest

from tests.baselines.diffusion import tiny


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory):
    """A folder with tiny checkpoints: ``cog`` (the backbone), ``branch``, ``adapter.safetensors``."""
    root = tmp_path_factory.mktemp("checkpoints")
    tiny.write_backbone(root / "cog")
    tiny.write_branch(root / "branch")
    tiny.write_adapter(root / "adapter.safetensors")
    return root


@pytest.fixture(scope="session")
def backbone_options(checkpoints):
    """Settings of a backbone on the tiny checkpoint."""
    return {
        "checkpoint": str(checkpoints / "cog"),
        "steps": 4,
        "precision": "float32",
        "device": "cpu",
    }
