"""``vpbench check``: what a model needs before it can run, and what of that is missing. Nothing is loaded.

A model that needs more than its own code has a method ``needs() -> list[Need]``; what it names is looked at, not read into memory.
The same text is what a run says when it cannot start (``unmet``).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpbench.errors import ConfigError

if TYPE_CHECKING:
    from omegaconf import DictConfig

OK, MISSING = 0, 1


@dataclass(frozen=True)
class Need:
    """One thing that a model needs.

    Attributes:
        key: which key of the model's configuration names it, e.g. ``image_inpainter.checkpoint``; empty where none does (a package).
        source: what that key says, or the package's name.
        where: where it lies; empty when nothing was found.
        problems: what is missing or wrong, one line each, files by name; empty when all is there.
        size: for people: ``19.0 GB``; empty when unknown.
        licence: of the weights; empty when unknown.
        get: how to get it: a command, or a sentence.
        hashed: whether its content is part of a run's id, so that its place is not.
    """

    key: str
    source: str
    where: str = ""
    problems: tuple[str, ...] = ()
    size: str = ""
    licence: str = ""
    get: str = ""
    hashed: bool = False

    @property
    def met(self) -> bool:
        """Whether it is all there."""
        return not self.problems

    def under(self, key: str) -> Need:
        """The same need of a part that the model's configuration holds under ``key``."""
        if not self.key:
            return self
        return replace(self, key=f"{key}.{self.key}", get=self.get.replace(f"model.{self.key}=", f"model.{key}.{self.key}="))

    def lines(self) -> list[str]:
        """For people: the verdict, then what is wrong and what to do."""
        named = f"model.{self.key}={self.source}" if self.key else self.source
        if self.met:
            return [f"ok       {named}" + (f"  ({self.where})" if self.where and self.where != self.source else "")]
        what = ", ".join(part for part in (self.size, self.licence) if part)
        lines = [f"{'wrong  ' if self.where else 'missing'}  {named}" + (f"  ({what})" if what else "")]
        lines += [f"           {problem}" for problem in self.problems]
        return [*lines, *([f"           get it: {self.get}"] if self.get else [])]


def needs(model: Callable[..., Any]) -> list[Need]:
    """What a model says that it needs; nothing for one that does not say."""
    ask = getattr(model, "needs", None)
    return list(ask()) if callable(ask) else []


def unmet(found: Iterable[Need]) -> ConfigError | None:
    """The error for what is missing; None when nothing is."""
    lines = [line for need in found if not need.met for line in need.lines()]
    return ConfigError("\n".join(["the model cannot run:", *(f"  {line}" for line in lines)])) if lines else None


def check(overrides: Sequence[str], config_dir: Path | None = None) -> tuple[str, list[Need]]:
    """Compose a configuration as ``vpbench run`` does, and ask its model what it needs.

    Args:
        overrides: Hydra's, ``model=NAME`` among them.
        config_dir: a folder with more configurations.

    Returns:
        The model's name, and its needs.

    Raises:
        ConfigError: no such model or key, or a value that the model refuses.
    """
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from vpbench.app import explain
    from vpbench.configuration import MODEL_KEYS, build

    if not any(override.partition("=")[0] == "model" for override in overrides):
        raise ConfigError("name a model: vpbench check model=NAME  (names: vpbench list model).")
    try:
        config = _composed(overrides, config_dir)
        missing = sorted(key for key in OmegaConf.missing_keys(config) if key.startswith("model."))
        if missing:
            raise ConfigError(f"{missing[0]} is required: give it as {missing[0]}=VALUE.")
        leaf = OmegaConf.to_container(config.model, resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error
    assert isinstance(leaf, dict)
    name = str(leaf.get("name") or leaf["_target_"])
    model = build(leaf, "model", MODEL_KEYS)
    found = needs(model)
    if not unmet(found) and callable(validate := getattr(model, "validate", None)):
        try:
            validate()
        except ConfigError as error:
            found.append(Need("", "settings", "settings", (str(error),)))
    return name, found


def add_parser(commands: Any) -> None:
    """Add ``check`` to the commands of the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="what a model needs before it can run: files, sizes, licences, how to get them",
        description="Say what a model needs (checkpoints, packages) and what of it is missing or damaged. Nothing is loaded or downloaded.",
        epilog="exit status: 0 all there; 1 something is missing; 2 no such model or setting.\n\n"
        "examples:\n  vpbench check model=telea\n  vpbench check model=wan_vace\n"
        "  vpbench check model=wan_vace model.checkpoint=/data/Wan2.1-VACE-14B\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder with configurations of your own, as for vpbench run")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as for vpbench run: model=NAME model.KEY=VALUE ...")
    parser.set_defaults(call=_command)


def _composed(overrides: Sequence[str], config_dir: Path | None) -> DictConfig:
    from hydra import compose, initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    from vpbench.configuration import RunConfig
    from vpbench.plugins import config_packages, register_resolver

    if config_dir is not None:
        if not config_dir.is_dir():
            raise ConfigError(f"--config-dir {config_dir}: no such folder.")
        places = [config_dir.absolute().as_uri(), *(f"pkg://{name}" for name in config_packages())]
        overrides = [*overrides, f"hydra.searchpath={json.dumps(places)}"]
    register_resolver()
    ConfigStore.instance().store(name="schema", node=RunConfig)
    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(config_module="vpbench.conf", version_base="1.3"):
            # as in vpbench run: no key of a custom model's arguments can be known beforehand
            return compose("config", [re.sub(r"^model\.kwargs\.", "++model.kwargs.", override) for override in overrides])
    finally:
        GlobalHydra.instance().clear()


def _command(options: argparse.Namespace) -> int:
    name, found = check(options.overrides, options.config_dir)
    lines = [line for need in found for line in need.lines()]
    absent = sum(not need.met for need in found)
    if not found:
        verdict = f"check: ok  {name} needs nothing besides vpbench"
    elif absent:
        verdict = f"check: MISSING  {absent} of {len(found)} things that {name} needs"
    else:
        verdict = f"check: ok  {name} has all {len(found)} things that it needs"
    sys.stdout.write("\n".join([*lines, verdict]) + "\n")
    return MISSING if absent else OK
