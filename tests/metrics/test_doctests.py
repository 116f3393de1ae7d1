import doctest
import importlib

import pytest

MODULES = ("ewarp_dis", "mae", "mse", "psnr", "region_sums", "regions", "ssim")


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name):
    module = importlib.import_module(f"vpbench.metrics.{name}")
    assert doctest.testmod(module).failed == 0
