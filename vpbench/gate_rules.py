"""The rules of a gate: which columns must not get worse, by how much, and how sure one must be.

A YAML file with the keys of ``Rules``; those that ship lie in ``conf/gate``. Every key is checked when the file is read.
"""

from __future__ import annotations

import datetime
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from vpbench.configuration import check_keys, unknown_name
from vpbench.errors import ConfigError
from vpbench.slices import ALL
from vpbench.statistics import ALPHA

TESTS = ("paired", "none")
RULE_KEYS = ("metric", "region", "mean_rank", "slice", "tolerance", "test", "alpha")
ACKNOWLEDGED_KEYS = ("metric", "region", "slice", "drop", "reason", "expires")
KEYS = ("alpha", "rules", "acknowledged")


@dataclass(frozen=True)
class Rule:
    """Columns that must not get worse.

    Attributes:
        where: the file and the rule's place in it, for messages.
        metric: name of the metric; ``*`` and ``?`` stand for any text and any character.
        region: the same for the region.
        mean_rank: only columns that count in the protocol's mean rank.
        slice: the clips it looks at, a name of ``vpbench.slices`` such as ``operation=swap``; empty for all.
        absolute: the tolerated drop in the metric's unit, at least 0.
        relative: the tolerated drop as a share of the baseline's value, at least 0.
        test: ``paired`` (a drop counts when the paired test is sure of it) or ``none`` (any drop beyond the tolerance counts).
        alpha: level of the test, after Holm's correction over all tests of the gate.
    """

    where: str
    metric: str = "*"
    region: str = "*"
    mean_rank: bool = False
    slice: str = ""
    absolute: float = 0.0
    relative: float = 0.0
    test: str = "paired"
    alpha: float = ALPHA

    @property
    def exact(self) -> bool:
        """Whether it names one column, which must then be there."""
        return not self.mean_rank and not set("*?") & set(self.metric + self.region)

    @property
    def tolerance(self) -> str:
        """The tolerance as the file has it."""
        return f"{100 * self.relative:g}%" if self.relative else f"{self.absolute:g}"


@dataclass(frozen=True)
class Acknowledged:
    """A drop that is known and accepted for a while.

    Attributes:
        where: the file and its place in it, for messages.
        drop: as far as it is accepted, in the metric's unit; takes the place of a smaller tolerance.
        reason: why.
        expires: the last day on which it counts.
    """

    where: str
    metric: str
    region: str
    slice: str
    drop: float
    reason: str
    expires: datetime.date


@dataclass(frozen=True)
class Rules:
    """What a gate checks; where two rules name a column (in one slice), the later one holds.

    Attributes:
        name: of the file.
        rules: at least one.
        acknowledged: drops that do not count until they expire.
    """

    name: str
    rules: tuple[Rule, ...]
    acknowledged: tuple[Acknowledged, ...] = ()


def load_rules(given: str) -> Rules:
    """Read the rules ``given``: a path that ends in .yaml or .yml, or the name of one in ``conf/gate``.

    Raises:
        ConfigError: no such file or name, no YAML, an unknown key, a value out of its range; names the file and the key.
    """
    if given.endswith((".yaml", ".yml")):
        return _rules(Path(given), given)
    shipped = resources.files("vpbench.conf") / "gate"
    names = sorted(file.name.removesuffix(".yaml") for file in shipped.iterdir() if file.name.endswith(".yaml"))
    if given not in names:
        raise unknown_name("--rules (a name, or a path that ends in .yaml)", given, names)
    with resources.as_file(shipped / f"{given}.yaml") as file:
        return _rules(file, given)


def _rules(file: Path, name: str) -> Rules:
    try:
        found = OmegaConf.to_container(OmegaConf.load(file), resolve=True)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror or error}). --rules wants one of ours or a YAML file.") from error
    except (OmegaConfBaseException, YAMLError, ValueError) as error:
        raise ConfigError(f"{file}: is no YAML of rules ({' '.join(str(error).split())}).") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{file}: expected a mapping with the keys {', '.join(KEYS)}, found a {type(found).__name__}.")
    leaf = {str(key): value for key, value in found.items()}
    check_keys(leaf, KEYS, name)
    alpha = _alpha(leaf.get("alpha", ALPHA), f"{name}: alpha")
    rules = [_rule(part, f"{name}: rules[{i}]", alpha) for i, part in enumerate(_list(leaf, "rules", name))]
    if not rules:
        raise ConfigError(f"{name}: rules is empty: name at least one, e.g. {{metric: psnr, region: hole, tolerance: 0.1}}.")
    known = [_acknowledged(part, f"{name}: acknowledged[{i}]") for i, part in enumerate(_list(leaf, "acknowledged", name))]
    return Rules(name, tuple(rules), tuple(known))


def _list(leaf: Mapping[str, Any], key: str, name: str) -> Sequence[Any]:
    found = leaf.get(key)
    if found is None:
        return ()
    if not isinstance(found, list):
        raise ConfigError(f"{name}: {key}: expected a list, found {found!r}.")
    return found


def _mapping(found: Any, where: str, keys: Sequence[str]) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise ConfigError(f"{where}: expected a mapping with the keys {', '.join(keys)}, found {found!r}.")
    leaf = {str(key): value for key, value in found.items()}
    check_keys(leaf, keys, where)
    return leaf


def _rule(found: Any, where: str, alpha: float) -> Rule:
    leaf = _mapping(found, where, RULE_KEYS)
    if "metric" not in leaf:
        raise ConfigError(f"{where}.metric is required: a name, or '*' for all.")
    metric, region = _column(leaf, where)
    mean_rank = leaf.get("mean_rank", False)
    if not isinstance(mean_rank, bool):
        raise ConfigError(f"{where}.mean_rank={mean_rank!r}: expected true or false.")
    test = leaf.get("test", "paired")
    if test not in TESTS:
        raise unknown_name(f"{where}.test", str(test), TESTS)
    absolute, relative = _tolerance(leaf.get("tolerance", 0), f"{where}.tolerance")
    own = _alpha(leaf.get("alpha", alpha), f"{where}.alpha")
    return Rule(where, metric, region, mean_rank, _slice(leaf, where), absolute, relative, test, own)


def _acknowledged(found: Any, where: str) -> Acknowledged:
    leaf = _mapping(found, where, ACKNOWLEDGED_KEYS)
    for key in ("metric", "drop", "reason", "expires"):
        if leaf.get(key) in (None, ""):
            raise ConfigError(f"{where}.{key} is required: an acknowledged drop says how large it may be, why, and until when.")
    metric, region = _column(leaf, where)
    try:
        expires = datetime.date.fromisoformat(str(leaf["expires"]))
    except ValueError as error:
        raise ConfigError(f"{where}.expires={leaf['expires']!r}: expected a date such as 2026-12-31.") from error
    drop = _number(leaf["drop"], f"{where}.drop")
    return Acknowledged(where, metric, region, _slice(leaf, where), drop, _text(leaf["reason"], f"{where}.reason"), expires)


def _column(leaf: Mapping[str, Any], where: str) -> tuple[str, str]:
    """Metric and region; ``metric: psnr[hole]`` says both."""
    metric = _text(leaf["metric"], f"{where}.metric")
    both = re.fullmatch(r"([^\[\]]+)\[([^\[\]]+)\]", metric)
    if both is None:
        return metric, _text(leaf.get("region", "*"), f"{where}.region")
    if "region" in leaf:
        raise ConfigError(f"{where}: metric={metric!r} names a region already; leave out region, or write metric: {both[1]}.")
    return both[1], both[2]


def _slice(leaf: Mapping[str, Any], where: str) -> str:
    name = _text(leaf.get("slice", ALL), f"{where}.slice")
    return "" if name == ALL else name


def _text(found: Any, where: str) -> str:
    if not isinstance(found, str):
        raise ConfigError(f"{where}={found!r}: expected text.")
    return found


def _tolerance(found: Any, where: str) -> tuple[float, float]:
    """The absolute and the relative tolerance; one of them is 0."""
    if isinstance(found, str) and (share := re.fullmatch(r"(\d+\.?\d*|\.\d+) ?%", found.strip())):
        return 0.0, _number(float(share[1]), where) / 100
    return _number(found, where, ", or a share of the baseline's value such as 1%"), 0.0


def _number(found: Any, where: str, alternative: str = "") -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 <= found <= sys.float_info.max:
        raise ConfigError(f"{where}={found!r}: expected a number of at least 0, in the metric's unit{alternative}.")
    return float(found)


def _alpha(found: Any, where: str) -> float:
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found <= 0.5:
        raise ConfigError(f"{where}={found!r}: expected a level above 0 and at most 0.5.")
    return float(found)
