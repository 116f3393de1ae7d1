"""Files that appear whole or not at all, checksums, and claims.

Per-clip files are the truth about a run; everything else is derived from them. Correctness never depends on a lock: a claim only
keeps two processes from doing the same clip twice.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import io
import json
import os
import re
import socket
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vpbench.errors import StorageError

HEARTBEAT_SECONDS = 5.0
RECORD: dict[str, type | tuple[type, ...]] = {  # what values of a clip's record are, where it has them
    **dict.fromkeys(("clip", "status", "error", "prediction"), str),
    "properties": dict,
    "present": list,
    "notes": list,
    "has_truth": bool,
    "seconds": (int, float),
    "score_seconds": (int, float),
}
MOST_FRAMES = 10_000_000  # of a clip that a record may speak of
LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")  # or a pair
STALE_SECONDS = 60.0  # a claim without a heartbeat for this long belongs to a process that is gone


def beside(path: Path) -> Path:
    """A temporary name in the same folder; no two machines, processes or threads share it."""
    return path.with_name(f".{path.name}.{machine()}-{os.getpid()}.{threading.get_ident()}.tmp")


@functools.cache
def machine() -> str:
    """Names where process numbers mean the same processes as here: this machine since it started, or a container on it."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):  # where there is no /proc the name of the host must do
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text(), os.readlink("/proc/self/ns/pid")]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def is_hidden(path: Path, root: Path) -> bool:
    """Whether a file, or a folder that it lies in below ``root``, has a name that begins with a dot."""
    return any(part.startswith(".") for part in path.relative_to(root).parts)


def clear_leftovers(path: Path) -> None:
    """Remove what killed processes left half written beside ``path``; only for who holds the claim on it."""
    for left in path.parent.glob(f".{glob.escape(path.name)}.*.tmp*"):
        left.unlink(missing_ok=True)


def clear_dead(folder: Path) -> None:
    """Remove what processes of this machine that are gone left half written in a folder, at any depth."""
    mine = re.compile(rf"\.{machine()}-(\d+)\.\d+\.tmp")
    for left in folder.rglob(".*.tmp*"):
        if (found := mine.search(left.name)) and not _process_exists(int(found[1])):
            with contextlib.suppress(OSError):  # a read-only folder: it is in nobody's way
                left.unlink()


def cannot_write(path: Path, error: OSError) -> StorageError:
    """The error for a full disk, a read-only folder and their like."""
    return StorageError(
        f"{path}: cannot be written ({error.strerror or error}). Free space or choose another folder, then run the "
        "same command again. Of `vpbench run` the folder is out=DIR, and finished clips are kept."
    )


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where they are not there.

    Raises:
        StorageError: the disk is full, the folder above read-only, ...
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(path, error) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` as a whole: beside it first, flushed to disk, then renamed.

    Raises:
        StorageError: the disk is full, the folder read-only, ...; ``path`` is left as it was.
    """
    temporary = beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise cannot_write(path, error) from error


def to_json(value: Any) -> bytes:
    """Serialise with sorted keys and fixed layout, so that equal values give equal bytes. Refuses nan and inf."""
    return (json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n").encode()


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as JSON, whole or not at all."""
    write_bytes(path, to_json(value))


def parse_json(data: bytes) -> Any:
    """JSON as we write it: without nan and inf, and with texts that can be written again.

    Raises:
        ValueError: it is not that.
        RecursionError: it is nested too deeply.
    """
    found = json.loads(data.decode("utf-8-sig"), parse_constant=_no_number, parse_float=_finite)  # given bytes, json lets surrogates pass
    if LONE_SURROGATE.search(data):
        json.dumps(found, ensure_ascii=False).encode()  # raises UnicodeEncodeError unless each is one half of a pair
    return found


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if value - value != 0:  # 1e999; faster than a call of isfinite
        raise ValueError(f"{text[:40]} is beyond what a float can be")
    return value


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StorageError: not readable, not JSON, or not an object.
    """
    try:
        value = parse_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise StorageError(f"{path}: cannot be read as JSON ({error}). Delete it and run the same command again.") from error
    if not isinstance(value, dict):
        raise StorageError(f"{path}: expected a JSON object, found a {type(value).__name__}. Delete it and run the same command again.")
    return value


def read_manifest(run: Path) -> dict[str, Any]:
    """Read the ``run.json`` of a run folder.

    Raises:
        StorageError: unreadable, or not what a run writes.
    """
    path = run / "run.json"
    if not path.exists():
        raise StorageError(f"{path}: is missing. Run the same command again, which writes it.")
    found = read_json(path)
    parts = {key: found.get(key) for key in ("config", "clips", "identity", "provenance")}
    parts["identity.model"] = parts["identity"].get("model") if isinstance(parts["identity"], dict) else None
    wrong = [key for key, part in parts.items() if not isinstance(part, dict)]
    if not wrong and not all(isinstance(fingerprint, str) for fingerprint in found["clips"].values()):
        wrong = ["clips"]
    if wrong:
        raise StorageError(f"{path}: {wrong[0]} is no object of what a run writes. Move the folder away and run the same command again.")
    return found


def read_record(path: Path) -> dict[str, Any]:
    """Read a run's record of a clip.

    Raises:
        StorageError: unreadable, or not what a run writes.
    """
    found = read_json(path)
    for key, kind in RECORD.items():
        if key in found and (not isinstance(found[key], kind) or (isinstance(found[key], bool) and kind is not bool)):
            raise StorageError(f"{path}: {key} is {str(found[key])[:80]!r}, which no run writes. Run the same command again.")
    frames, present = found.get("properties", {}).get("frames", 1), found.get("present", [0])
    if (
        found.get("clip") != path.stem
        or not re.fullmatch(r"[0-9a-f]{64}", found.get("prediction", "0" * 64))
        or "status" not in found
        or (found.get("status") == "ok" and not ("has_truth" in found and "frames" in found.get("properties", {})))
        or (found.get("status") == "failed" and "error" not in found)
        or not (isinstance(frames, int) and 0 < frames < MOST_FRAMES)
        or not all(isinstance(frame, int) for frame in present)
        or ("present" in found and (not present or present != sorted({frame for frame in present if 0 <= frame < frames})))
    ):
        raise StorageError(f"{path}: is not what a run writes of a clip. Run the same command again.")
    return found


def recorded(path: Path) -> dict[str, Any]:
    """A run's record of a clip; empty when there is none or it is damaged, so that the clip will be done again."""
    try:
        return read_record(path) if path.is_file() else {}
    except StorageError:
        return {}


def write_once(path: Path, value: Any) -> None:
    """Write ``value`` as JSON unless ``path`` exists; of several processes exactly one wins, and nobody sees half a file."""
    if path.exists():
        return
    temporary = beside(path)
    write_bytes(temporary, to_json(value))
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links: the last writer wins, with equal content
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays as .npz (no pickle), whole or not at all; equal arrays give equal bytes."""
    buffer = io.BytesIO()
    ordered: dict[str, Any] = {name: arrays[name] for name in sorted(arrays)}
    np.savez(buffer, **ordered)
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what ``write_arrays`` wrote.

    Raises:
        StorageError: unreadable, damaged, or holding pickled objects.
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            check_unpacked(stored.zip, path.stat().st_size)
            found = {name: stored[name] for name in stored.files}
        if other := [name for name, array in found.items() if not isinstance(array, np.ndarray)]:
            raise ValueError(f"{other[0]} is no array")
        return found
    except Exception as error:  # zipfile, numpy and the operating system raise a dozen unrelated types here
        raise StorageError(f"{path}: cannot be read as arrays ({error}). Delete it and run the same command again.") from error


def check_unpacked(archive: zipfile.ZipFile, most: int) -> None:
    """Refuse an archive that unpacks to more than ``most`` bytes. What we write is not compressed, so its own size is the most.

    Raises:
        ValueError: gives both sizes.
    """
    size = sum(part.file_size for part in archive.infolist())
    if size > most:
        raise ValueError(f"it unpacks to {size} bytes, expected at most {most}")


def cached_arrays(path: Path, compute: Callable[[], dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return the arrays at ``path``, computing and storing them when absent or damaged. Safe under concurrent use."""
    if path.exists():
        try:
            return read_arrays(path)
        except StorageError:
            pass
    arrays = compute()
    write_arrays(path, arrays)
    return arrays


def sha256_file(path: Path) -> str:
    """Hex sha256 of a file's bytes."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Hex sha256 of a value's canonical JSON."""
    return hashlib.sha256(to_json(value)).hexdigest()


class Claim:
    """A file that says "this process is at work on this clip"; a thread keeps its heartbeat.

    Use ``with Claim.take(path) as claim``: ``claim`` is None while a living process holds it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_SECONDS):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def _release(self) -> None:
        self._stop.set()
        self._thread.join()
        with contextlib.suppress(OSError):
            self.path.unlink()

    @classmethod
    @contextlib.contextmanager
    def take(cls, path: Path) -> Iterator[Claim | None]:
        """Hold the claim at ``path`` while the block runs; gives None when a living process holds it."""
        make_folder(path.parent)
        owner = {"host": socket.gethostname(), "machine": machine(), "pid": os.getpid(), "since": round(time.time())}
        if holder_is_alive(path):
            yield None
            return
        try:
            path.unlink(missing_ok=True)  # of a dead process
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        except FileExistsError:
            yield None
            return
        except OSError as error:
            raise StorageError(f"{path}: cannot be written ({error.strerror}). Choose another folder with out=DIR.") from error
        with os.fdopen(descriptor, "wb") as file:
            file.write(to_json(owner))
        claim = cls(path)
        try:
            yield claim
        finally:
            claim._release()


def clear_claim(path: Path) -> None:
    """Remove the claim at ``path`` if its holder is dead; for what is done, so that nobody will take it."""
    if path.exists() and not holder_is_alive(path):
        with contextlib.suppress(OSError):  # a read-only folder: it is in nobody's way
            path.unlink()


@dataclass(frozen=True)
class Owner:
    """Who holds a claim.

    Attributes:
        host: the name of its machine, for people.
        machine: the same for processes, see ``machine``; empty when the claim does not say.
        pid: of the process.
        since: when it took the claim, seconds since 1970.
    """

    host: str
    machine: str
    pid: int
    since: float

    def __str__(self) -> str:
        return f"{self.host}, process {self.pid}, since {time.strftime('%H:%M:%S', time.localtime(self.since))}"


def owner_of(path: Path) -> Owner | None:
    """Who holds the claim at ``path``, alive or not; None when there is none, or it is damaged or being written."""
    try:
        found = parse_json(path.read_bytes())
        owner = Owner(str(found["host"]), str(found.get("machine", "")), int(found["pid"]), float(found["since"]))
        time.localtime(owner.since)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return owner


def holder_is_alive(path: Path, mine: bool = False) -> bool:
    """Whether the claim at ``path`` belongs to a process that still works: it runs on this machine, or its heartbeat is fresh.

    Args:
        path: of the claim.
        mine: what is said of this process's own: for taking a claim it is one that was left behind.
    """
    try:
        age = time.time() - path.stat().st_mtime
    except OSError:
        return False
    owner = owner_of(path)
    if owner is None:
        return age < 2.0  # being written this moment, or damaged
    if owner.machine == machine() and not ((mine or owner.pid != os.getpid()) and _process_exists(owner.pid)):
        return False
    return age < STALE_SECONDS


def _process_exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):  # killed, and its parent has not asked how it ended: nobody works there any more
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0] not in ("Z", "X")
    return True
