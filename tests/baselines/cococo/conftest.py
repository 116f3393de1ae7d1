from __future__ import annotations

from pathlib import Path

import pytest

from tests.baselines.cococo import tiny


@pytest.fixture(scope="session")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``base``, a tiny Stable Diffusion 1.5 inpainting, and ``parts``, the four parts of COCOCO for it. Not to be changed."""
    root = tmp_path_factory.mktemp("cococo")
    tiny.write_base(root / "base")
    tiny.write_parts(root / "parts")
    return root
