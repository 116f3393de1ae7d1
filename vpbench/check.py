"""``vpbench check``: what a model needs before it can run, and what of that is missing; the data, outputs and this machine.

A model that needs more than its own code has a method ``needs() -> list[Need]``; what it names is looked at, not read into memory.
The same text is what a run says when it cannot start (``unmet``).
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpbench.errors import ConfigError, DataError, VpbenchError
from vpbench.findings import Finding, verdict

if TYPE_CHECKING:
    from omegaconf import DictConfig

OK, MISSING, USAGE = 0, 1, 2
OF_OUTPUTS = ("outputs", "resize", "frames", "pattern")
ENVIRONMENT = "environment"
USES = """\
name a model: vpbench check model=NAME  (names: vpbench list model); or benchmark=NAME for its data, benchmark=NAME outputs=DIR for outputs,
experiment=NAME for all of these, environment for this machine."""


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
    from vpbench.devices import ANYWHERE, usable_device

    if not any(override.partition("=")[0] == "model" for override in overrides):
        raise ConfigError(USES)
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
    if config.device not in ANYWHERE:
        try:
            usable_device(config.device)
        except ConfigError as error:
            found.append(Need("", "device", config.device, (str(error),)))
    if not unmet(found) and callable(validate := getattr(model, "validate", None)):
        try:
            validate()
        except ConfigError as error:
            found.append(Need("", "settings", "settings", (str(error),)))
    return name, found


def check_benchmark(overrides: Sequence[str], config_dir: Path | None = None) -> tuple[str, list[Finding]]:
    """Compose a benchmark as ``vpbench run`` does, and read all its clips (``clips`` and ``limit`` choose some).

    Args:
        overrides: Hydra's, ``benchmark=NAME`` or an experiment among them.
        config_dir: a folder with more configurations.

    Returns:
        What its data is, and what was found.

    Raises:
        ConfigError: no such benchmark or key, or one that is required.
    """
    from vpbench.app import progress_bar
    from vpbench.check_data import check_data

    try:
        benchmark, chosen = _benchmark(overrides, config_dir)
    except DataError as error:
        return "the data cannot be listed", [Finding("benchmark", "missing", str(error), "docs/data.md says where to get it")]
    with progress_bar(f"data of {benchmark.name}") as progress:
        found, what = check_data(chosen, progress)
    remarks = [Finding(benchmark.name, "", said, note=True) for said in (benchmark.remarks() if hasattr(benchmark, "remarks") else ())]
    return f"{benchmark.name}: {what}", [*remarks, *found]


def check_protocol(overrides: Sequence[str], config_dir: Path | None = None) -> tuple[str, list[Finding]]:
    """Say which weights the metrics of a protocol lack.

    Returns:
        The protocol's name, and findings where it refuses to run without them, else notes.
    """
    from vpbench.scoring import Protocol
    from vpbench.tables import absent_metrics

    leaf = _leaf(overrides, config_dir, "protocol")
    protocol = replace(Protocol.of(leaf), missing="skip")
    name, strict = f"protocol {protocol.name}", leaf.get("missing", "skip") == "error"
    absent = absent_metrics(protocol.absent())
    return name, [Finding(name, "weights", f"{metric}: {reason}", note=not strict) for metric, reason in absent.items()]


def check_folder(overrides: Sequence[str], config_dir: Path | None, folder: Path, settings: dict[str, str]) -> tuple[str, list[Finding]]:
    """Compare a folder of outputs with a benchmark, see ``check_outputs``.

    Returns:
        What was compared, and what was found.
    """
    from vpbench.app import progress_bar
    from vpbench.check_outputs import check_outputs

    benchmark, chosen = _benchmark(overrides, config_dir)
    with progress_bar(f"outputs of {benchmark.name}") as progress:
        found = check_outputs(list(benchmark), folder, chosen=chosen, progress=progress, **settings)
    return f"{len(chosen)} outputs of {benchmark.name}", found


def add_parser(commands: Any) -> None:
    """Add ``check`` to the commands of the command line."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "check",
        help="what a model needs, whether data and outputs are sound, what this machine has",
        description="Say what a model needs (checkpoints, packages) and what of it is missing or damaged; nothing is loaded.\n"
        "With benchmark=, read all its data. With outputs=, compare a folder of outputs with it: missing, extra and mixed-up clips,\n"
        "frames, channels, masks, sizes, lossy files, truth in the hole, black and frozen frames. Each finding is one line.",
        epilog="exit status: 0 nothing wrong, notes at most; 1 something is; 2 it cannot be checked: no such model, setting or folder.\n\n"
        "examples:\n  vpbench check model=telea\n  vpbench check model=wan_vace\n"
        "  vpbench check model=wan_vace model.checkpoint=/data/Wan2.1-VACE-14B\n"
        "  vpbench check benchmark=demo limit=2\n"
        "  vpbench check benchmark=davis benchmark.root=DIR outputs=DIR resize=bicubic frames=cut    settings as for vpbench score\n"
        "  vpbench check experiment=article_inpaint benchmark.root=DIR                               models, data and weights\n"
        "  vpbench check environment                                                                 versions, GPU, disk, weights\n",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config-dir", type=Path, metavar="DIR", help="a folder with configurations of your own, as for vpbench run")
    parser.add_argument(
        "overrides", nargs="*", metavar="KEY=VALUE", help="as for vpbench run: model=NAME model.KEY=VALUE ...; or environment"
    )
    parser.set_defaults(call=_command)


def _benchmark(overrides: Sequence[str], config_dir: Path | None) -> tuple[Any, list[Any]]:
    """The benchmark, and the clips that are chosen of it."""
    from vpbench.configuration import build
    from vpbench.running import select

    leaf, top = _leaf(overrides, config_dir, "benchmark"), _leaf(overrides, config_dir, "")
    benchmark = build(leaf, "benchmark")
    return benchmark, select(list(benchmark), top["clips"], top["limit"])


def _leaf(overrides: Sequence[str], config_dir: Path | None, group: str) -> dict[str, Any]:
    """The composed configuration of a group; of none the settings of the run itself."""
    from hydra.errors import HydraException
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    from vpbench.app import explain

    named = any(override.partition("=")[0] in ("model", "experiment") for override in overrides)
    overrides = overrides if named else [*overrides, "model=blank"]
    try:
        config = _composed(overrides, config_dir)
        if not group:
            return {"clips": OmegaConf.to_object(config.clips) if config.clips is not None else None, "limit": config.limit}
        missing = sorted(key for key in OmegaConf.missing_keys(config) if key.startswith(f"{group}."))
        if missing:
            raise ConfigError(f"{missing[0]} is required: give it as {missing[0]}=VALUE.")
        leaf = OmegaConf.to_container(config[group], resolve=True)
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error
    assert isinstance(leaf, dict)
    return {str(key): value for key, value in leaf.items()}


def _composed(overrides: Sequence[str], config_dir: Path | None, hydra: bool = False) -> DictConfig:
    from hydra import compose, initialize_config_module
    from hydra.core.config_store import ConfigStore
    from hydra.core.global_hydra import GlobalHydra

    from vpbench.configuration import RunConfig, open_key
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
            return compose("config", [open_key(override) for override in overrides], return_hydra_config=hydra)
    finally:
        GlobalHydra.instance().clear()


def _command(options: argparse.Namespace) -> int:
    given: list[str] = options.overrides
    settings = {key: value.strip("'\"") for key, _, value in (word.partition("=") for word in given) if key in OF_OUTPUTS}
    overrides = [word for word in given if word.partition("=")[0] not in OF_OUTPUTS]
    groups = {word.partition("=")[0] for word in overrides}
    if ENVIRONMENT in given:
        return _environment([word for word in given if word != ENVIRONMENT])
    if settings:
        if "outputs" not in settings:
            raise ConfigError(f"{next(iter(settings))} belongs to outputs=DIR.")
        if "benchmark" not in groups or "model" in groups:
            raise ConfigError("outputs are compared with a benchmark: vpbench check benchmark=NAME outputs=DIR")
        return _say(*check_folder(overrides, options.config_dir, Path(settings.pop("outputs")).expanduser(), settings))
    if not groups & {"model", "benchmark", "experiment", "protocol"}:
        raise ConfigError(USES)
    choices = _choices(overrides, options.config_dir)
    parts: list[Callable[[], int]] = []
    for group, part in (("model", _model), ("protocol", _protocol), ("benchmark", _data)):
        if groups & {group, "experiment"}:
            parts += [functools.partial(part, job, options.config_dir) for job in _jobs(choices, group)]
    return max(_tried(part) for part in parts) if len(parts) > 1 else parts[0]()


def _tried(part: Callable[[], int]) -> int:
    """A part of several: what it cannot do is said, and the others go on."""
    try:
        return part()
    except VpbenchError as error:
        sys.stderr.write(f"vpbench: {error}\n")
        return USAGE


def _protocol(overrides: Sequence[str], config_dir: Path | None) -> int:
    return _say(*check_protocol(overrides, config_dir))


def _data(overrides: Sequence[str], config_dir: Path | None) -> int:
    return _say(*check_benchmark(overrides, config_dir))


def _model(overrides: Sequence[str], config_dir: Path | None) -> int:
    name, found = check(overrides, config_dir)
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


def _environment(rest: Sequence[str]) -> int:
    from vpbench.check_environment import check_environment

    keys = dict(word.partition("=")[::2] for word in rest)
    if unknown := [key for key in keys if key != "out"]:
        raise ConfigError(f"{unknown[0]}: vpbench check environment takes out=DIR alone.")
    return _say("this machine", check_environment(Path(keys.get("out", "runs"))))


def _say(what: str, found: Sequence[Finding]) -> int:
    """Print findings before notes, and the verdict."""
    ordered = sorted(found, key=lambda one: one.note)
    sys.stdout.write("\n".join([*(one.line() for one in ordered), verdict(found, what)]) + "\n")
    return OK if all(one.note for one in found) else MISSING


def _choices(overrides: Sequence[str], config_dir: Path | None) -> list[list[str]]:
    """For each override, and for what an experiment sweeps over besides, the overrides that the jobs of a sweep get of it."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from vpbench.app import explain

    def options(word: str) -> list[str]:
        override = parser.parse_override(word)
        return [f"{word.partition('=')[0]}={one}" for one in override.sweep_string_iterator()] if override.is_sweep_override() else [word]

    parser = OverridesParser.create()
    try:
        choices = [options(word) for word in overrides]
        if any(word.startswith("experiment=") for word in overrides):
            given = {word.partition("=")[0] for word in overrides}
            config = _composed([one[0] for one in choices], config_dir, hydra=True)
            choices += [options(f"{key}={value}") for key, value in (config.hydra.sweeper.params or {}).items() if key not in given]
    except (HydraException, OmegaConfBaseException) as error:
        raise ConfigError(explain(error, overrides)) from error
    return choices


def _jobs(choices: Sequence[Sequence[str]], group: str) -> list[list[str]]:
    """The overrides of the jobs of a sweep that differ in a group of the configuration."""
    of = [one if re.split("[=./]", one[0].lstrip("+~"), maxsplit=1)[0] == group else one[:1] for one in choices]
    return [list(job) for job in itertools.product(*of)]
