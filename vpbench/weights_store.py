"""What ``vpbench weights`` does: list, get, add and verify files."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vpbench import weights_table
from vpbench.download import DownloadError, download, offline, progress_bar
from vpbench.measuring import Network
from vpbench.storage import Claim, beside, sha256_file, write_json
from vpbench.weights import Finding, WeightsError, examine, files_of, forget, hub_folder, known_files, locate, missing, places, store
from vpbench.weights_check import fault
from vpbench.weights_table import RUNS_CODE, File, identify

SUFFIXES = (".pt", ".pth", ".bin", ".safetensors")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Listed:
    """A file of the table, and what was found of it.

    Attributes:
        file: the entry.
        usable: the first good copy; None where there is none.
        bad: what lies under its name and cannot be used.
    """

    file: File
    usable: Path | None
    bad: tuple[Finding, ...]


def listing() -> list[Listed]:
    """Every file of the table and every trusted one, with the copies that were found."""
    known = known_files()
    listed = []
    for file in known:
        paths = dict.fromkeys(path for _, paths in places(file) for path in paths if path.is_file())
        # Files of two networks may have one name in one folder: such a file is bad only if it is neither.
        findings = [examine(path, _named(path, known), known) for path in paths]
        usable = (one.path for one in findings if one.state == "ok" and one.file is not None and one.file.network == file.network)
        listed.append(Listed(file, next(usable, None), tuple(one for one in findings if one.state != "ok")))
    return listed


def get(names: Sequence[str], say: Say, warn: Say) -> int:
    """Download the weights of networks that lack them; one that fails does not stop the others.

    Args:
        names: of networks, or ``all`` for those whose hash is known.
        say: told what is done.
        warn: told what could not be done.

    Returns:
        0, or 1 if one of the networks still lacks weights.

    Raises:
        WeightsError: an unknown name (before anything is downloaded), or downloads are forbidden.
    """
    forget()
    wanted = [name for name in weights_table.table() if _downloadable(name)] if "all" in names else list(dict.fromkeys(names))
    lacking = []
    for name in wanted:
        if missing(Network(name)):
            lacking.append(name)
        else:
            say(f"{name}: already there: {locate(Network(name)).path}")
    if lacking and (forbidden := offline()):
        raise WeightsError(f"{', '.join(lacking)}: not downloaded, {forbidden} forbids it; bring copies with `vpbench weights add FILE`.")
    status = 0
    for name in lacking:
        try:
            _get(name, say)
        except (WeightsError, DownloadError) as error:
            warn(str(error))
            status = 1
    return status


def add(path: Path, network: str, trust: bool, say: Say, warn: Say) -> Path:
    """Copy a file into our store, where every search finds it.

    Args:
        path: the file.
        network: whose weights it is; empty to tell by its sha256.
        trust: accept a file whose sha256 is not in the table, from now on.
        say: told what is done.
        warn: told what accepting the file means.

    Returns:
        The copy.

    Raises:
        WeightsError: unreadable, damaged, of another network, or of unknown hash without ``network`` and ``trust``; the store cannot be
            written.
    """
    known = known_files()
    expected = files_of(network) if network else _named(path, known)
    finding = examine(path, expected, known)
    if finding.state == "unreadable":
        raise WeightsError(f"{path}: {finding.detail}.")
    file = finding.file
    if file is not None and network not in ("", file.network):
        raise WeightsError(f"{path}: {finding.detail}.")
    record = None
    if file is None:
        file = _unpublished(path, network, trust, finding, expected)
        record = {"sha256": file.sha256, "file": file.name, "bytes": file.size, "format": file.format}
    target = store() / file.network / file.name
    _copy(path, target, finding.sha256)
    if record is not None:
        write_json(target.with_name(f"{file.sha256}.trusted.json"), record)
        warn(f"{network}: {path} is not in the table (sha256 {file.sha256}); it is used because you said --trust.")
        warn(f"{network}: values carry {network}-{file.sha256[:8]} and are comparable only with values of this very file.")
        if file.format in RUNS_CODE:
            warn(f"{network}: loading it executes code that it contains.")
    forget()
    say(f"{file.network}: {target}")
    return target


def verify(paths: Sequence[Path]) -> Iterator[Finding]:
    """Read weight files and say of each what it is.

    Args:
        paths: files, and folders that are searched for weight files; empty for every place where weights are looked for.

    Raises:
        WeightsError: a path that is not there, or no weight file at all.
    """
    known = known_files()
    if paths:
        found = [file for path in paths for file in _weight_files(path, known)]
    else:
        found = [path for file in known for _, candidates in places(file) for path in candidates if path.is_file()]
    if not found:
        raise WeightsError(
            f"no weight files in {', '.join(map(str, paths)) or 'any of the places (vpbench weights list)'}: nothing was checked."
        )
    for path in dict.fromkeys(found):
        yield examine(path, _named(path, known), known, fresh=True)


def _downloadable(network: str) -> list[File]:
    return [file for file in files_of(network) if file.sha256 and file.urls]


def _get(network: str, say: Say) -> None:
    files = _downloadable(network)
    if not files:
        raise WeightsError(missing(Network(network)))
    failures = []
    for file in files:
        say(f"{network}: {file.name}, {file.size_text}, licence: {file.licence}" + (f" ({file.note})" if file.note else ""))
        target = store() / network / file.name
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
        with Claim.take(target.with_name(f"{file.name}.claim")) as claim:
            if claim is None:
                raise WeightsError(f"{network}: another process is downloading {target}; wait for it.")
            try:
                with progress_bar(file.name) as progress:
                    url = download(file.urls, target, functools.partial(_fault, file), progress)
            except DownloadError as error:
                failures.append(str(error))
                continue
        forget()
        say(f"{network}: {target} (from {url})")
        return
    raise WeightsError("\n".join(failures))


def _fault(file: File, path: Path) -> str:
    sha256 = sha256_file(path)
    return "" if identify(sha256, [file]) else f"wrong hash: sha256 {sha256}, expected {file.sha256}"


def _unpublished(path: Path, network: str, trust: bool, finding: Finding, expected: Sequence[File]) -> File:
    """The entry for a file whose hash is not in the table, where it may be used.

    Raises:
        WeightsError: it is damaged or no weights of the network, or it is not trusted.
    """
    published = any(path.name in file.names and file.sha256 for file in expected)
    seen = f"{finding.state}: {finding.detail}; " if published else ""
    claimed = {network} if network else {file.network for file in expected}
    if len(claimed) == 1:
        file = _as_trusted(path, claimed.pop(), finding)
        if why := fault(path, file, run=bool(network and trust)):
            raise WeightsError(f"{path}: {seen}{why}. It is damaged, or no weights of {file.network}: fetch it again.")
        if network and trust:
            return file
    if published:
        raise WeightsError(f"{path}: {seen}it is not the published file: fetch it again.")
    add = f"`vpbench weights add {path} --network {network or 'NAME'} --trust`"
    raise WeightsError(f"{path}: sha256 {finding.sha256} is not in the table. If you trust this very file: {add}.")


def _as_trusted(path: Path, network: str, finding: Finding) -> File:
    files = weights_table.table()[network].files
    shape = next((file.format for file in files if file.name.endswith(path.suffix)), files[0].format)
    name = f"{finding.sha256[:8]}-{path.name}"
    return File(network, (name,), (), finding.sha256, path.stat().st_size, True, "not known to vpbench", shape, trusted=True)


def _copy(source: Path, target: Path, sha256: str) -> None:
    if target.exists() and target.samefile(source):
        return
    temporary = beside(target)
    try:
        with _writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, temporary)
        if sha256_file(temporary) != sha256:
            raise WeightsError(f"{source}: changed while it was copied.")
        with _writing(target):
            os.replace(temporary, target)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        why = error.strerror or error
        raise WeightsError(f"{path}: cannot be written ({why}). Free space, or choose another place with XDG_CACHE_HOME=DIR.") from error


def _weight_files(path: Path, known: Sequence[File]) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise WeightsError(f"{path}: no such file or folder.")
        return [path]
    names = {name for file in known for name in file.names}
    return sorted(one for one in path.rglob("*") if one.is_file() and (one.suffix in SUFFIXES or one.name in names))


def _named(path: Path, known: Sequence[File]) -> list[File]:
    """What a file's name says it is; folders of a cache or of our store decide between files of one name."""
    files = [file for file in known if path.name in file.names]
    folders = path.absolute().parts[:-1]
    return [file for file in files if file.network in folders or hub_folder(file) in folders] or files
