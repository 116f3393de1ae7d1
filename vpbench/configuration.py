"""The schema of a run, and the checks that turn a composed configuration into objects.

One dataclass types the run; leaves (a model, a benchmark, a metric) are plain YAML whose keys are checked against the signature of
their ``_target_`` right after composing, before any clip is read. ``build`` is the only place that calls a ``_target_``.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from omegaconf import MISSING, OmegaConf

from vpbench.errors import ConfigError, VpbenchError

TRACKS = ("raw", "composite")
MODEL_KEYS = ("name", "needs_reference", "ranked")  # read by the harness, not passed to the model
PROTOCOL_KEYS = (
    *("name", "boundary_px", "weights", "precision", "metrics", "mean_rank"),  # the first ones are there to be interpolated
    *("average", "tracks", "quantise", "against", "mask_dilate_px", "missing"),
)


@dataclass
class RunConfig:
    """One run: a model on a benchmark, scored under a protocol.

    Attributes:
        model: leaf of the group ``model``.
        benchmark: leaf of the group ``benchmark``.
        protocol: leaf of the group ``protocol``.
        seed: passed to the model with every clip.
        track: what is scored: ``raw`` (the prediction as made), ``composite`` (known pixels pasted back), or both; null for what the
            protocol says.
        device: where networks run: ``auto`` (a CUDA device where there is one), ``cpu``, ``cuda``, ``cuda:1``, ...
        clips: names of the clips to run; null for all. The run is then partial and not ranked.
        limit: number of clips to run, in the benchmark's order; null for all. The run is then partial and not ranked.
        shard: which part of the clips this process does, 0 to ``num_shards`` - 1; None where there is one. The run is the same whoever
            does which.
        num_shards: how many parts there are.
        overlap: whether clips are scored in a process of their own while the model makes the next: ``auto`` (where there is a GPU),
            ``true``, ``false``.
        out: folder that holds the run folders.
        leaderboard: folder for the tables written at the end of a sweep; null for none.
    """

    model: Any = MISSING
    benchmark: Any = MISSING
    protocol: Any = MISSING
    seed: int = 0
    track: Any = None
    device: str = "auto"
    clips: list[str] | None = None
    limit: int | None = None
    shard: int | None = None
    num_shards: int = 1
    overlap: Any = "auto"
    out: str = "runs"
    leaderboard: str | None = "${out}/leaderboard"


def open_key(override: str) -> str:
    """An override as Hydra takes it: a custom model's arguments and a program's variables have keys of their own, and need no ``+``."""
    return re.sub(r"^model\.(?=kwargs\.|env[.=])", "++model.", override)


def unknown_name(what: str, given: str, known: Collection[str]) -> ConfigError:
    """The error for a name that does not exist: suggests the nearest one and lists all."""
    near = difflib.get_close_matches(given, list(known), n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return ConfigError(f"{what}: {given!r} is unknown.{hint} Valid: {', '.join(sorted(known)) or 'none'}.")


def import_target(path: Any, key: str) -> Any:
    """Import what a dotted path names; the current directory is importable.

    Raises:
        ConfigError: no such module or name; the message names ``key`` and lists what the module has.
    """
    if not isinstance(path, str) or not all(part.isidentifier() for part in path.split(".")) or "." not in path:
        raise ConfigError(f"{key}={path!r}: expected a dotted path such as my_file.MyModel.")
    here = os.getcwd()
    if here not in sys.path and "" not in sys.path:
        sys.path.insert(0, here)
    module_name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise ConfigError(f"{key}={path}: importing {module_name} failed: {error}. Install what it needs.") from error
        raise ConfigError(f"{key}={path}: there is no module {error.name!r} (looked in {here} and in the installed packages).") from error
    except VpbenchError:
        raise
    except Exception as error:
        raise ConfigError(f"{key}={path}: importing {module_name} failed: {type(error).__name__}: {error}") from error
    if not hasattr(module, attribute):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_") and v.__module__ == module.__name__]
        raise unknown_name(f"{key}={path} (names in {module_name})", attribute, names)
    found = getattr(module, attribute)
    if not callable(found):
        raise ConfigError(f"{key}={path}: {attribute} is a {type(found).__name__}, not a class or function.")
    return found


def check_keys(leaf: Mapping[str, Any], valid: Collection[str], where: str) -> None:
    """Refuse keys of ``leaf`` that are not in ``valid``; the message lists the valid names."""
    for key in leaf:
        if key != "_target_" and key not in valid:
            raise unknown_name(f"{where}.{key}", str(key), valid)


def parameters(target: Callable[..., Any]) -> list[str]:
    """Names that a ``_target_`` accepts as keywords."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return [name for name, parameter in inspect.signature(target).parameters.items() if parameter.kind in kinds]


def check_leaf(leaf: Any, where: str, reserved: Collection[str] = ()) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return a leaf's target and its arguments after checking every key, nested targets included.

    Raises:
        ConfigError: no ``_target_``, an unknown key, or a required one without a value; names the key and lists the valid ones.
    """
    if not isinstance(leaf, Mapping) or "_target_" not in leaf:
        raise ConfigError(f"{where}: expected a mapping with a _target_ (a dotted path), found {leaf!r}.")
    target = import_target(leaf["_target_"], f"{where}._target_")
    check_keys(leaf, [*parameters(target), *reserved], where)
    arguments = {str(key): value for key, value in leaf.items() if key != "_target_" and key not in reserved}
    for name, parameter in inspect.signature(target).parameters.items():
        if name in parameters(target) and parameter.default is inspect.Parameter.empty and name not in arguments:
            raise ConfigError(f"{where}.{name} is required: give it as {where}.{name}=VALUE.")
    return target, arguments


def build(leaf: Any, where: str, reserved: Collection[str] = (), **extra: Any) -> Any:
    """Check a leaf and call its ``_target_`` with its keys (and ``extra``); nested leaves are built first."""
    target, arguments = check_leaf(leaf, where, reserved)
    for name, value in arguments.items():
        if isinstance(value, Mapping) and "_target_" in value:
            arguments[name] = build(value, f"{where}.{name}")
    try:
        return target(**{**arguments, **extra})
    except VpbenchError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{where} ({leaf['_target_']}): {error}") from error


def resolved(config: Any) -> dict[str, Any]:
    """A composed configuration as plain containers, every interpolation resolved, checked against the schema.

    Raises:
        ConfigError: a required value is missing, or a value is out of its range.
    """
    missing = sorted(key for key in OmegaConf.missing_keys(config) if not key.startswith("hydra"))
    if missing:
        raise ConfigError(f"{missing[0]} is required: give it as {missing[0]}=VALUE.")
    plain = OmegaConf.to_container(config, resolve=True)
    assert isinstance(plain, dict)
    run = {str(key): value for key, value in plain.items() if key != "hydra"}
    if isinstance(run["track"], str):
        run["track"] = [run["track"]]
    for track in run["track"] or ():
        if track not in TRACKS:
            raise unknown_name("track", str(track), TRACKS)
    if run["track"] == []:
        raise ConfigError(f"track: name at least one of {', '.join(TRACKS)}.")
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d+)?", str(run["device"])):
        raise ConfigError(f"device={run['device']}: expected auto, cpu, mps, cuda or cuda:N.")
    if run["overlap"] not in ("auto", True, False):
        raise ConfigError(f"overlap={run['overlap']}: expected auto, true or false.")
    if run["clips"] == []:
        raise ConfigError("clips: name at least one; without clips= all are run.")
    if run["limit"] is not None and run["limit"] < 1:
        raise ConfigError(f"limit={run['limit']}: expected a number of clips, at least 1.")
    return run
