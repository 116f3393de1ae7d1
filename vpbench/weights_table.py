"""The table of learned weights, ``conf/weights.yaml``: which files belong to which network."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

import yaml

from vpbench.errors import ConfigError

FORMATS = ("torch-state-dict", "openai-clip", "hf-clip-safetensors", "hf-clip-bin", "torchscript")
RUNS_CODE = ("openai-clip", "torchscript")  # TorchScript archives execute code when loaded, so a prefix of the hash is not enough
HUGGING_FACE = "huggingface:"
_KEYS = {"names", "urls", "sha256", "bytes", "about_bytes", "licence", "format", "cache", "note"}
_ABOUT = 0.99  # a file smaller than this part of an approximate size is too small


@dataclass(frozen=True)
class File:
    """One file that holds a network's weights.

    Attributes:
        network: whose weights.
        names: file names, the published one first.
        urls: where it can be downloaded, in this order.
        sha256: 64 hex digits, or a prefix of at least 8, or empty where no hash is known.
        size: bytes.
        exact: whether ``size`` is exact.
        licence: of the weights.
        format: how it is read, one of ``FORMATS``.
        cache: where other tools keep it: ``torch-hub``, ``clip``, ``huggingface:OWNER/NAME``, or empty.
        note: what a reader must know; may be empty.
        trusted: whether a user vouches for it; it is then not of the table.
    """

    network: str
    names: tuple[str, ...]
    urls: tuple[str, ...]
    sha256: str
    size: int
    exact: bool
    licence: str
    format: str
    cache: str = ""
    note: str = ""
    trusted: bool = False

    @property
    def name(self) -> str:
        """The published file name."""
        return self.names[0]

    @property
    def size_text(self) -> str:
        """Its size for people: ``244 MB``."""
        return ("" if self.exact else "about ") + readable(self.size)

    def too_small(self, size: int) -> bool:
        """Whether a file of ``size`` bytes cannot be the whole."""
        return size < (self.size if self.exact else self.size * _ABOUT)


@dataclass(frozen=True)
class Entry:
    """A network of the table.

    Attributes:
        use: what it is for.
        files: in order of preference.
        tensors: names and shapes that its weights have, among others, as the loader sees them.
    """

    use: str
    files: tuple[File, ...]
    tensors: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@functools.lru_cache(maxsize=1)
def table() -> Mapping[str, Entry]:
    """The table that ships, by network."""
    return read_table(resources.files("vpbench.conf").joinpath("weights.yaml").read_text(encoding="utf-8"), "conf/weights.yaml")


def read_table(text: str, origin: str) -> dict[str, Entry]:
    """Read a table.

    Args:
        text: YAML as described at the top of ``conf/weights.yaml``.
        origin: names the table in errors.

    Raises:
        ConfigError: it is not such a table; the message names network, file and key.
    """
    try:
        raw = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin}: not YAML ({error}).") from error
    if not isinstance(raw, dict) or not raw:
        raise ConfigError(f"{origin}: expected networks by name.")
    entries = {}
    for network, entry in raw.items():
        where = f"{origin}: {network}"
        if not isinstance(network, str) or not re.fullmatch(r"[A-Za-z0-9_-]+", network):
            raise ConfigError(f"{where}: a network's name consists of letters, digits, - and _.")
        if not isinstance(entry, dict) or set(entry) - {"tensors"} != {"use", "files"}:
            raise ConfigError(f"{where}: expected the keys use and files, and perhaps tensors.")
        if not isinstance(entry["files"], list) or not entry["files"]:
            raise ConfigError(f"{where}: files: expected at least one file.")
        files = tuple(_file(network, file, where) for file in entry["files"])
        entries[network] = Entry(str(entry["use"]), files, _tensors(entry.get("tensors", {}), where))
    hashes = sorted(file.sha256 for entry in entries.values() for file in entry.files if file.sha256)
    for first, second in itertools.pairwise(hashes):
        if second.startswith(first):
            raise ConfigError(f"{origin}: two files have the sha256 {first}.")
    return entries


def identify(sha256: str, files: Iterable[File]) -> File | None:
    """The file whose hash this is."""
    return next((file for file in files if file.sha256 and sha256.startswith(file.sha256)), None)


def readable(size: int) -> str:
    """A number of bytes for people: ``244 MB``, ``1.71 GB``."""
    if size >= 1_000_000_000:
        return f"{size / 1e9:.2f} GB"
    if size >= 100_000:
        return f"{size / 1e6:.{0 if size >= 10_000_000 else 1}f} MB"
    return f"{size} bytes"


def _tensors(raw: Any, where: str) -> dict[str, tuple[int, ...]]:
    shapes = list(raw.values()) if isinstance(raw, dict) else [None]
    if not all(isinstance(shape, list) and all(type(size) is int and size > 0 for size in shape) for shape in shapes):
        raise ConfigError(f"{where}: tensors: expected shapes by name, found {raw!r}.")
    return {str(name): tuple(shape) for name, shape in raw.items()}


def _file(network: str, raw: Any, where: str) -> File:
    if not isinstance(raw, dict):
        raise ConfigError(f"{where}: a file is a mapping, found {raw!r}.")
    if unknown := sorted(set(raw) - _KEYS):
        raise ConfigError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(_KEYS))}.")

    def require(good: bool, key: str, expected: str) -> None:
        if not good:
            raise ConfigError(f"{where}: {key}: expected {expected}, found {raw.get(key)!r}.")

    def texts(key: str, pattern: str, expected: str) -> tuple[str, ...]:
        given = raw.get(key)
        require(isinstance(given, list) and bool(given) and all(_matches(pattern, one) for one in given), key, expected)
        return tuple(raw[key])

    names = texts("names", r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "a list of plain file names")
    where = f"{where}: {names[0]}"
    urls = texts("urls", r"https?://\S+", "a list of http(s) addresses")
    require(raw.get("format") in FORMATS, "format", f"one of {', '.join(FORMATS)}")
    digits = 64 if raw["format"] in RUNS_CODE else 8
    sha256 = raw.get("sha256", "")
    require(sha256 is None or _matches(f"[0-9a-f]{{{digits},64}}", sha256), "sha256", f"{digits} to 64 hex digits in quotes, or null")
    size_key = "about_bytes" if "about_bytes" in raw else "bytes"
    size = raw.get(size_key)
    require(isinstance(size, int) and size > 0 and not {"bytes", "about_bytes"} <= set(raw), size_key, "bytes or about_bytes, a number")
    require(isinstance(raw.get("licence"), str), "licence", "a text")
    cache = raw.get("cache", "")
    require(_matches(rf"(torch-hub|clip|{HUGGING_FACE}[\w.-]+/[\w.-]+)?", cache), "cache", "torch-hub, clip or huggingface:OWNER/NAME")
    exact = size_key == "bytes"
    return File(network, names, urls, sha256 or "", raw[size_key], exact, raw["licence"], raw["format"], cache, str(raw.get("note", "")))


def _matches(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None
