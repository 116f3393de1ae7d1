"""Which code a stored configuration may name.

What a user composes may name any code: it is the user's own command. A run folder may come from anybody, and reading it must not run what
somebody wrote into it. Its benchmark and its metrics are built only when they are ours, of an installed plug-in, or of a module that
``VPBENCH_TRUST`` names.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from vpbench.configuration import import_target
from vpbench.errors import ConfigError

VARIABLE = "VPBENCH_TRUST"  # modules, separated by commas
OWN = ("vpbench.benchmarks.", "vpbench.metrics.")


def check_stored(leaf: Any, where: str) -> None:
    """Refuse a stored leaf that names code that nobody has vouched for, in itself or in what it holds.

    Args:
        leaf: of a run's stored configuration.
        where: the file and the key, for messages.

    Raises:
        ConfigError: names the code, and how to vouch for it.
    """
    if isinstance(leaf, Mapping):
        if "_target_" in leaf and not _is_trusted(leaf["_target_"]):
            module = str(leaf["_target_"]).partition(".")[0]
            raise ConfigError(
                f"{where} names {leaf['_target_']!r}, which is neither a benchmark or metric of vpbench nor of an installed plug-in; "
                f"a stored configuration runs no other code. If it is yours, say so: {VARIABLE}={module}"
            )
        for key, value in leaf.items():
            check_stored(value, f"{where}.{key}")
    elif isinstance(leaf, list):
        for value in leaf:
            check_stored(value, where)


def _is_trusted(target: Any) -> bool:
    if not isinstance(target, str):
        return False
    if target.startswith(OWN):  # not what these modules import for themselves
        found = import_target(target, "_target_")
        return isinstance(found, type) and found.__module__ == target.rpartition(".")[0]
    from vpbench.plugins import config_packages

    named = [name.strip() for name in os.environ.get(VARIABLE, "").split(",")]
    return target.partition(".")[0] in {*filter(None, named), *(package.partition(".")[0] for package in config_packages())} - {"vpbench"}
