"""Files from the network: resumed where they broke off, verified before they get their name."""

from __future__ import annotations

import contextlib
import http.client
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vpbench.errors import VpbenchError
from vpbench.version import __version__

CHUNK = 1 << 20  # bytes
TIMEOUT_SECONDS = 30.0  # without a byte
OFFLINE = ("VPBENCH_OFFLINE", "HF_HUB_OFFLINE")
Progress = Callable[[int, int | None], None]  # bytes so far, bytes in all where the server says it


class DownloadError(VpbenchError):
    """No address gave the file."""


def offline() -> str:
    """The environment variable that forbids downloads, as ``VPBENCH_OFFLINE=1``; empty when none does."""
    for name in OFFLINE:
        value = os.environ.get(name, "")
        if value.lower() not in ("", "0", "false", "no", "off"):
            return f"{name}={value}"
    return ""


def download(urls: Sequence[str], target: Path, fault: Callable[[Path], str], progress: Progress) -> str:
    """Download a file from the first address that gives it.

    The bytes gather in ``<target>.part``, which a later call goes on with; ``target`` appears once they are verified.

    Args:
        urls: http or https addresses, tried in order.
        target: the file to be.
        fault: what is wrong with a complete download, empty for nothing; a faulty one is deleted.
        progress: told about every piece.

    Returns:
        The address that gave it.

    Raises:
        DownloadError: none did (the reasons are in the message), downloads are forbidden, or the folder cannot be written.
    """
    if forbidden := offline():
        raise DownloadError(f"{target.name}: not downloaded, {forbidden} forbids it. Unset it, or copy the file here by other means.")
    part = target.with_name(target.name + ".part")
    failures = []
    for url in urls:
        for resumed in (_size(part) > 0, False):
            failure = _transfer(url, part, progress)
            if not failure and not (wrong := fault(part)):
                with _writing(target):
                    os.replace(part, target)
                return url
            if failure:
                failures.append(f"{url}: {failure}")
                break
            part.unlink()
            failures.append(f"{url}: {wrong}; deleted")
            if not resumed:  # else the beginning may have been another file's: once more from nothing
                break
    kept = f"\n  {_size(part)} bytes are kept; the same command goes on from there." if _size(part) else ""
    raise DownloadError(f"{target.name}: could not be downloaded." + "".join(f"\n  {failure}" for failure in failures) + kept)


@contextlib.contextmanager
def progress_bar(name: str) -> Iterator[Progress]:
    """A bar on standard error; nothing where that is not a terminal."""
    from rich import progress
    from rich.console import Console

    columns = (progress.TextColumn("{task.description}"), progress.BarColumn(), progress.DownloadColumn(), progress.TimeRemainingColumn())
    with progress.Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _transfer(url: str, part: Path, progress: Progress) -> str:
    """Get the rest of the file, going on as long as every attempt adds bytes; returns why it failed, or nothing."""
    while True:
        before = _size(part)
        try:
            if _attempt(url, part, before, progress):
                return ""
            failure = "the connection broke off"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416 and before:  # nothing is left to send: the hash decides
                return ""
            return f"HTTP {error.code} {error.reason}"
        except urllib.error.URLError as error:
            return str(error.reason)
        except (OSError, http.client.HTTPException) as error:
            failure = str(error) or type(error).__name__
        if _size(part) <= before:
            return failure


def _attempt(url: str, part: Path, before: int, progress: Progress) -> bool:
    """One request; returns whether the file is complete."""
    headers = {"User-Agent": f"vpbench/{__version__}", "Accept-Encoding": "identity"}
    if before:
        headers["Range"] = f"bytes={before}-"
    with _opener().open(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_SECONDS) as response:
        partial = response.status == 206
        if partial and not response.headers.get("Content-Range", "").startswith(f"bytes {before}-"):
            raise http.client.HTTPException("answered with another part of the file")
        done = before if partial else 0
        total = None if response.length is None else done + response.length
        with _writing(part):
            part.parent.mkdir(parents=True, exist_ok=True)
            file = open(part, "ab" if partial else "wb", buffering=0)  # noqa: SIM115
        with file:
            while chunk := response.read(CHUNK):
                with _writing(part):
                    file.write(chunk)
                done += len(chunk)
                progress(done, total)
    return total is None or done == total


def _opener() -> urllib.request.OpenerDirector:
    """An opener that knows http and https only, after redirections too."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.UnknownHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPRedirectHandler(),
        urllib.request.HTTPErrorProcessor(),
    ):
        opener.add_handler(handler)
    return opener


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise DownloadError(f"{path}: cannot be written ({error.strerror or error}). Free space, or choose another folder.") from error


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
