import doctest
import importlib
import pkgutil

import pytest

import vpbench.metrics

MODULES = [module.name for module in pkgutil.iter_modules(vpbench.metrics.__path__)]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings_hold(name):
    module = importlib.import_module(f"vpbench.metrics.{name}")
    assert doctest.testmod(module).failed == 0
