"""Configs that other packages bring.

A package joins by an entry point in the group ``vpbench.configs`` whose value is the dotted name of a package of YAML files laid out
like ours (``model/``, ``benchmark/``, ``protocol/``, ``experiment/``). A broken entry point warns; the rest load.
"""

from __future__ import annotations

import importlib
import logging
from importlib import metadata, resources

from omegaconf import OmegaConf

GROUP = "vpbench.configs"
OWN = "vpbench.conf"
log = logging.getLogger(__name__)
_warned: set[str] = set()  # broken plug-ins that were named already; a sweep composes many times


def config_packages() -> list[str]:
    """Dotted names of the config packages of installed plug-ins, sorted."""
    packages = []
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda entry: entry.value):
        try:
            importlib.import_module(entry.value)
        except Exception as error:  # somebody else's package: name it and go on
            if entry.value not in _warned:
                _warned.add(entry.value)
                log.warning("plug-in %s (%s) cannot be imported and is left out: %s", entry.name, entry.value, error)
            continue
        packages.append(entry.value)
    return packages


def register_resolver() -> None:
    """Let ``hydra.searchpath`` read the plug-ins: ``${vpbench_plugins:}``."""
    OmegaConf.register_new_resolver("vpbench_plugins", lambda: [f"pkg://{name}" for name in config_packages()], replace=True)


def options(group: str) -> dict[str, str]:
    """Every option of a config group with the package it comes from; ours win over a plug-in's of the same name."""
    found: dict[str, str] = {}
    for package in [OWN, *config_packages()]:
        folder = resources.files(package).joinpath(group)
        if not folder.is_dir():
            continue
        for file in folder.iterdir():
            if file.name.endswith(".yaml"):
                found.setdefault(file.name[: -len(".yaml")], package)
    return dict(sorted(found.items()))
