"""Learned weights: where they come from, where they lie, and that they are what they claim to be.

The table (``vpbench.weights_table``) says which files belong to a network. A file is used only after its sha256 was checked; a network
without such a file has no weights, and then no metric returns a number. What the commands do (``vpbench weights``) is in
``vpbench.weights_store``; people's documentation is ``docs/weights.md``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from vpbench import weights_table
from vpbench.errors import ConfigError, StorageError, VpbenchError
from vpbench.measuring import Network
from vpbench.storage import read_json, sha256_file, write_json
from vpbench.weights_table import HUGGING_FACE, File, identify

BIG = 16 << 20  # bytes; reading a smaller file again is as quick as looking its sha256 up
VARIABLES = ("VPBENCH_WEIGHTS", "XDG_CACHE_HOME", "TORCH_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HOME")


Stamp = tuple[int, int, int]  # size and times of a file; a file with another stamp is read again


class WeightsError(VpbenchError):
    """Weights that are missing, damaged or of another network."""


@dataclass(frozen=True)
class Weights:
    """Weights that may be loaded.

    Attributes:
        network: as in the table.
        path: the verified file; None for random weights.
        format: how the file is read, see the table; ``random`` for random weights.
        seed: of random weights; None for a file.
        label: short name for array ids: ``alexnet-7be5be79``, ``alexnet-random0``.
    """

    network: str
    path: Path | None
    format: str
    seed: int | None
    label: str


def label(network: Network) -> str:
    """Short name of the weights for array ids, also where they are missing: network and 8 hex digits of the sha256.

    Where nothing is found it names the table's first file, so that arrays of a finished run can still be read; ``<name>-unknown`` stands
    for weights that were named by a path and are not there, and for a file whose hash nobody published.

    Raises:
        WeightsError: no network of this name.
    """
    return _search(network).label


def sha256(network: Network) -> str:
    """Hex sha256 of the weights that ``label`` names, ``random-<seed>`` for random ones; empty where the label says ``unknown``.

    Where the table has a prefix only and the file is not found, that prefix.

    Raises:
        WeightsError: no network of this name.
    """
    return _search(network).sha256


def missing(network: Network) -> str:
    """Why the weights cannot be used, with the command that mends it, in one line; empty when they can.

    Raises:
        WeightsError: no network of this name.
    """
    return _search(network).note


def locate(network: Network) -> Weights:
    """Find and verify the weights.

    One process sees one answer: what was found (or not) at first stays so until ``forget``.

    Raises:
        WeightsError: no network of this name, or no usable weights: file, size, licence, hash, every place that was searched and what was
            wrong there, and the commands that help. Also when a file changed since it was verified.
    """
    outcome = _search(network)
    if outcome.weights is None:
        raise WeightsError(outcome.message)
    path = outcome.weights.path
    if path is not None and not _is_still(path, outcome):
        raise WeightsError(f"{network.name}: {path} has changed since this process verified it. Start the command again.")
    return outcome.weights


def forget() -> None:
    """Search anew from now on: weights were added or removed."""
    _search_in.cache_clear()


def store() -> Path:
    """Our own folder of weights, one sub-folder per network; need not exist."""
    return _cache_home() / "vpbench" / "weights"


def places(file: File) -> list[tuple[str, list[Path]]]:
    """Where a file is looked for, in this order: the place for people, and the paths there."""
    own = store() / file.network
    if file.trusted:
        return [(str(own), [own / file.name])]
    found: list[tuple[str, list[Path]]] = []
    given = given_folders()
    for folder in given:
        what = f"{folder} (VPBENCH_WEIGHTS{'' if folder.is_dir() else ', no such folder'})"
        found.append((what, [at / name for at in (folder, folder / file.network) for name in file.names]))
    if not given:
        found.append(("VPBENCH_WEIGHTS (not set)", []))
    found.append((str(own), [own / name for name in file.names]))
    if file.cache == "torch-hub":
        home = Path(os.environ.get("TORCH_HOME") or _cache_home() / "torch").expanduser() / "hub" / "checkpoints"
        found.append((str(home), [home / name for name in file.names]))
    elif file.cache == "clip":
        home = Path("~/.cache/clip").expanduser()
        found.append((str(home), [home / name for name in file.names]))
    elif file.cache.startswith(HUGGING_FACE):
        home = hugging_face_hub() / hub_folder(file)
        found.append((str(home), [path for name in file.names for path in sorted(home.glob(f"snapshots/*/{name}"))]))
    return found


def given_folders() -> list[Path]:
    """The folders that VPBENCH_WEIGHTS names."""
    return [Path(folder).expanduser() for folder in os.environ.get("VPBENCH_WEIGHTS", "").split(os.pathsep) if folder]


def absent_folders() -> str:
    """What is wrong with VPBENCH_WEIGHTS, in one line: folders that are not there; empty when nothing is."""
    absent = [str(folder) for folder in given_folders() if not folder.is_dir()]
    return f"VPBENCH_WEIGHTS: no such folder: {', '.join(absent)}" if absent else ""


def hub_folder(file: File) -> str:
    """The folder of a file's repository in the Hugging Face cache."""
    return "models--" + file.cache.removeprefix(HUGGING_FACE).replace("/", "--")


def random_seed(source: str) -> int | None:
    """The seed of ``random-<seed>``; None for everything else that names weights.

    Raises:
        ConfigError: it begins like that and is neither.
    """
    if found := re.fullmatch(r"random-(\d+)", source):
        return int(found[1])
    if source.startswith("random") and not Path(source).expanduser().exists():
        raise ConfigError(f"weights={source}: random weights are random-<seed>, such as random-0.")
    return None


def files_of(network: str) -> tuple[File, ...]:
    """The files that may be used for a network, in order of preference: the table's, then those that the user trusts.

    Raises:
        WeightsError: no network of this name.
    """
    try:
        entry = weights_table.table()[network]
    except KeyError:
        raise WeightsError(f"no network is called {network!r}; known: {', '.join(weights_table.table())}.") from None
    return (*entry.files, *(_read_trusted(record, network) for record in sorted((store() / network).glob("*.trusted.json"))))


def known_files() -> list[File]:
    """The files of every network."""
    return [file for network in weights_table.table() for file in files_of(network)]


@dataclass(frozen=True)
class Finding:
    """What a file turned out to be.

    Attributes:
        path: the file.
        state: the verdict.
        detail: the rest of the verdict for people, e.g. ``100 of 553433881 bytes``.
        sha256: of the file; empty when it is unreadable.
        file: what it is by its hash; None when that is unknown.
        stamp: of the file when it was examined.
    """

    path: Path
    state: Literal["ok", "truncated", "swapped", "wrong hash", "unknown", "unreadable"]
    detail: str
    sha256: str = ""
    file: File | None = None
    stamp: Stamp | None = None


def examine(path: Path, expected: Sequence[File], known: Iterable[File], *, fresh: bool = False) -> Finding:
    """Say what a file is.

    Args:
        path: the file.
        expected: what it should be one of (by its name, say); empty for anything known.
        known: what it may turn out to be.
        fresh: read the file even if its sha256 is on record.
    """
    try:
        stamp = _stamp(path)
        sha256 = cached_sha256(path, fresh=fresh)
    except OSError as error:
        return Finding(path, "unreadable", str(error.strerror or error))
    file = identify(sha256, known)
    networks = list(dict.fromkeys(one.network for one in expected))
    if file is not None and (not expected or file.network in networks):
        by = "trusted by you" if file.trusted else f"by {len(file.sha256)} digits of its sha256" if len(file.sha256) < 64 else ""
        return Finding(path, "ok", f"{file.network}, {by}" if by else file.network, sha256, file, stamp)
    if file is not None:
        return Finding(path, "swapped", f"is {file.name} of {file.network}, not of {' or '.join(networks)}", sha256, file, stamp)
    hashed = [one for one in expected if one.sha256]
    if short := [one for one in hashed if one.too_small(stamp[0])]:
        whole = min(short, key=lambda one: one.size)
        return Finding(path, "truncated", f"{stamp[0]} of {'' if whole.exact else 'about '}{whole.size} bytes", sha256)
    if hashed:
        return Finding(
            path, "wrong hash", f"sha256 {_digits(sha256)}, expected {' or '.join(_digits(one.sha256) for one in hashed)}", sha256
        )
    return Finding(
        path, "unknown", f"sha256 {_digits(sha256)}" + (f", none is published for {' or '.join(networks)}" if expected else ""), sha256
    )


def hugging_face_hub() -> Path:
    """The cache of the Hugging Face hub; need not exist."""
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(named or Path(os.environ.get("HF_HOME") or _cache_home() / "huggingface") / "hub").expanduser()


def cached_sha256(path: Path, *, fresh: bool = False) -> str:
    """Sha256 of a file; of a big one it is kept on record, one small file each, so that processes cannot disturb each other."""
    path = path.resolve()
    stamp = _stamp(path)
    record = store() / "hashes" / f"{hashlib.sha256(str(path).encode()).hexdigest()[:32]}.json"
    if stamp[0] >= BIG and not fresh:
        with contextlib.suppress(StorageError):
            kept = read_json(record)
            if kept.get("path") == str(path) and kept.get("stamp") == list(stamp) and isinstance(kept.get("sha256"), str):
                return str(kept["sha256"])
    sha256 = sha256_file(path)
    if _stamp(path) != stamp:
        raise OSError("changes while it is read")
    if stamp[0] >= BIG:
        with contextlib.suppress(StorageError):  # a read-only store: it is read again next time
            write_json(record, {"path": str(path), "stamp": list(stamp), "sha256": sha256})
    return sha256


@dataclass(frozen=True)
class _Outcome:
    """A finished search: weights with what is known of their file, or the ``note`` (one line) and the ``message`` that say why not.

    ``sha256`` is that of the weights behind the label, found or not; of random ones the source.
    """

    label: str
    weights: Weights | None = None
    sha256: str = ""
    stamp: Stamp | None = None
    note: str = ""
    message: str = ""


def _search(network: Network) -> _Outcome:
    return _search_in(network, (os.getcwd(), *(os.environ.get(name) for name in VARIABLES)))


@functools.lru_cache(maxsize=1024)
def _search_in(network: Network, environment: tuple[str | None, ...]) -> _Outcome:
    """Search; ``environment`` is everything else that the answer depends on, so that it is part of the cache's key."""
    files = files_of(network.name)
    if random := re.fullmatch(r"random-(\d+)", network.source):
        seed = int(random[1])
        name = f"{network.name}-random{seed}"
        return _Outcome(name, Weights(network.name, None, "random", seed, name), network.source)
    return _named_file(network, files) if network.source else _table_files(network.name, files)


def _named_file(network: Network, files: Sequence[File]) -> _Outcome:
    path = Path(network.source).expanduser().absolute()
    named = [file for file in files if path.name in file.names]
    finding = examine(path, named or files, known_files())
    if finding.state == "ok" and finding.file is not None:
        return _found(finding, finding.file)
    why = f"{network.name}: {path}: {finding.state}: {finding.detail}"
    if finding.state == "unreadable":
        why += "; weights are the path of a file, empty (search), or random-<seed> (tests)"
    elif named and finding.state in ("truncated", "wrong hash"):
        why += "; fetch it again"
    elif finding.state != "swapped":
        why += f"; fetch it again, or, if you trust this file: `vpbench weights add {path} --network {network.name} --trust`"
    return _Outcome(f"{network.name}-unknown", note=why, message=why)


def _table_files(network: str, files: Sequence[File]) -> _Outcome:
    known = known_files()
    unusable: list[Finding] = []
    report: list[str] = []
    for file in files:
        sha256 = "unknown" if not file.sha256 else file.sha256 + (" (prefix)" if len(file.sha256) < 64 else "")
        report.append(f"  {file.name}: {file.size_text}, licence {file.licence}, sha256 {sha256}" + (f"; {file.note}" if file.note else ""))
        for place, paths in places(file):
            findings = [examine(path, [file], known) for path in paths if path.is_file()]
            for finding in findings:
                if finding.state == "ok" and finding.file is not None:
                    return _found(finding, finding.file)
            unusable += findings
            text = "; ".join(f"{finding.path.name}: {finding.state}: {finding.detail}" for finding in findings)
            report.append(f"    searched {place}: {text or 'nothing'}")
    first = files[0]
    get = f"`vpbench weights get {network}` or " if any(file.sha256 and file.urls for file in files) else ""
    add = "`vpbench weights add FILE" + ("`" if get else f" --network {network} --trust`")
    what = (
        "; ".join(f"{bad.path}: {bad.state}: {bad.detail}" for bad in unusable)
        or f"{first.name} ({first.size_text}, {first.licence}) not found"
    )
    if absent := absent_folders():
        what += f" ({absent})"
    message = [f"{network}: no usable weights.", *report, f"  help: {get}{add} (a copy that you have)"]
    known_hash = next((file.sha256 for file in files if file.sha256), "")
    name = f"{network}-{known_hash[:8] or 'unknown'}"
    return _Outcome(name, sha256=known_hash, note=f"{network}: {what}; {get}{add}", message="\n".join(message))


def _found(finding: Finding, file: File) -> _Outcome:
    name = f"{file.network}-{finding.sha256[:8]}"
    return _Outcome(name, Weights(file.network, finding.path, file.format, None, name), finding.sha256, finding.stamp)


def _is_still(path: Path, outcome: _Outcome) -> bool:
    try:
        return _stamp(path) == outcome.stamp or cached_sha256(path) == outcome.sha256
    except OSError:
        return False


def _read_trusted(record: Path, network: str) -> File:
    raw = read_json(record)
    sha256, name, size, shape = (raw.get(key) for key in ("sha256", "file", "bytes", "format"))
    if not (isinstance(sha256, str) and len(sha256) == 64 and isinstance(name, str) and isinstance(size, int) and isinstance(shape, str)):
        raise StorageError(f"{record}: not a record of trusted weights. Delete it and add the file again.")
    return File(network, (name,), (), sha256, size, True, "not known to vpbench", shape, trusted=True)


def _digits(sha256: str) -> str:
    return sha256 if len(sha256) <= 16 else f"{sha256[:16]}..."


def _cache_home() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _stamp(path: Path) -> Stamp:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns
