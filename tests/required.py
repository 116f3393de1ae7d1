"""What tests need that is no Python package: skipped where it is absent, unless ``VPBENCH_REQUIRE`` names it, as CI does."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(what: str, reason: str) -> NoReturn:
    """Skip a test, or fail it where ``VPBENCH_REQUIRE=browser,slurm`` says that ``what`` must be there."""
    if what in os.environ.get("VPBENCH_REQUIRE", "").split(","):
        pytest.fail(f"VPBENCH_REQUIRE names {what}, but {reason}")
    pytest.skip(reason)
