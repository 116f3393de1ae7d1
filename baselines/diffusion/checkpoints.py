"""Checkpoints: where they lie, whether they are whole, what they are, how to get them. Nothing here loads a tensor or goes online.

A checkpoint is named by a folder (or file), or by its id on the Hugging Face hub, ``OWNER/NAME`` or ``OWNER/NAME/PATH``; the copy that
the hub's own tools keep is then used. Sizes and licences are data: ``conf/checkpoints.yaml``.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from vpbench.check import Need, unmet
from vpbench.errors import ConfigError
from vpbench.weights import cached_sha256, hugging_face_hub

PACKAGES = ("diffusers", "transformers", "accelerate", "safetensors", "sentencepiece")
SINGLE_FILES = ("adapter", "lora")  # kinds that are one .safetensors file
MODELS = ("branch",)  # kinds that are one network: config.json and its weights
LIBRARY_FILES = {"diffusers": "diffusion_pytorch_model", "transformers": "model"}  # how each library names a network's weights
TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "vocab.json", "vocab.txt")
HEADER_BYTES = 100 << 20  # no .safetensors header is longer
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx", ".gguf")
# what a branch shares with the backbone that it was trained on
SHARED = ("num_attention_heads", "attention_head_dim", "in_channels", "text_embed_dim", "time_embed_dim", "patch_size")


@dataclass(frozen=True)
class Known:
    """A published checkpoint, as ``conf/checkpoints.yaml`` describes it.

    Attributes:
        source: its id on the hub.
        kind: the class in its ``model_index.json``, or ``branch``, ``adapter``.
        licence: of the weights.
        about_gb: sizes of its parts, in 1e9 bytes.
        note: what a reader must know before getting it; may be empty.
        also: ids that it had before; a copy under one of them does as well.
        exclude: what of its repository is not read, as ``hf download --exclude`` takes it.
    """

    source: str
    kind: str
    licence: str
    about_gb: Mapping[str, float]
    note: str = ""
    also: Sequence[str] = ()
    exclude: Sequence[str] = ()

    @property
    def size(self) -> str:
        """The whole for people: ``about 19.0 GB``."""
        return f"about {sum(self.about_gb.values()):.1f} GB"

    @property
    def get(self) -> str:
        """The command that downloads it."""
        owner, name, *inner = self.source.split("/", 2)
        path = inner[0] if inner else ""
        include = "" if not path else f" {path}" if path.endswith(".safetensors") else f" --include '{path}/*'"
        exclude = "".join(f" --exclude '{pattern}'" for pattern in self.exclude)
        return f"hf download {owner}/{name}{include}{exclude}" + (f"  ({self.note})" if self.note else "")


@functools.lru_cache(maxsize=1)
def table() -> Mapping[str, Known]:
    """The published checkpoints, by hub id."""
    raw: dict[str, dict[str, Any]]
    raw = yaml.safe_load(resources.files("vpbench.conf").joinpath("checkpoints.yaml").read_text(encoding="utf-8"))
    return {source: Known(source, **entry) for source, entry in raw.items()}


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that a configuration names.

    Attributes:
        source: a folder, a file, or an id on the hub.
        kind: what it must be: the name of a diffusers pipeline, ``branch``, ``adapter`` or ``lora``.
        key: the key of the model's configuration that names it.
        offer: hub id of what is offered where ``source`` is none that is published; empty: the first one of the kind.
    """

    source: str
    kind: str
    key: str = "checkpoint"
    offer: str = ""

    def find(self) -> Path | None:
        """Where it lies; None when nothing of it is there."""
        local = Path(self.source).expanduser()
        if local.exists():
            return local
        known = _known(self.source)
        names = [self.source] if known is None else dict.fromkeys([self.source, known.source, *known.also])
        return next((path for name in names for path in _hub_copies(name) if path.exists()), None)

    def problems(self) -> list[str]:
        """What is missing or wrong, files by name; empty when it is whole."""
        if not self.source:
            return ["no checkpoint is named"]
        found = self.find()
        if found is None:
            if _hub_id(self.source):
                return [f"no such folder here, and no copy in the hub's cache, {hugging_face_hub()}"]
            return [f"there is no {Path(self.source).expanduser()}"]
        if self.kind in SINGLE_FILES:
            problem = file_problem(found)
            return [problem] if problem else []
        if not found.is_dir():
            return [f"{found} is a file; expected the folder that holds it"]
        return _model_problems(found, "diffusers") if self.kind in MODELS else _pipeline_problems(found, self.kind)

    def need(self) -> Need:
        """What ``vpbench check`` says of it."""
        found = self.find() if self.source else None
        named = _known(self.source)
        offers = [entry for entry in table().values() if entry.kind == self.kind]
        offer = named or table().get(self.offer) or (offers[0] if offers else None)
        return Need(
            key=self.key,
            source=self.source,
            where=str(found or ""),
            problems=tuple(self.problems()),
            size=named.size if named else "",
            licence=named.licence if named else "",
            get=_get(offer, named is None, self.key) if offer else "",
            hashed=True,
        )

    def path(self) -> Path:
        """Where it lies, when it is whole.

        Raises:
            ConfigError: it is not; the message names every file and says how to get it.
        """
        error = unmet([self.need()])
        if error is not None:
            raise error
        found = self.find()
        assert found is not None
        return found

    def fingerprint(self) -> str:
        """Hex sha256 of everything in it that decides outputs: configurations, tokenizers and weights.

        Raises:
            ConfigError: see ``path``.
        """
        root = self.path()
        digest = hashlib.sha256()
        for name, path in sorted(self._files(root)):
            digest.update(f"{name} {_file_sha256(path)}\n".encode())
        return digest.hexdigest()

    def _files(self, root: Path) -> Iterator[tuple[str, Path]]:
        if root.is_file():
            yield "", root
            return
        folders = {".": "diffusers"} if self.kind in MODELS else {name: library for name, (library, _) in pipeline_parts(root).items()}
        if self.kind not in MODELS:
            yield "model_index.json", root / "model_index.json"
        for name, library in folders.items():
            folder = root / name
            kept = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
            weights = [folder / file for file in weight_files(folder, library)]
            for path in [*(p for p in kept if p.suffix in (".json", ".txt", ".model", ".jinja")), *weights]:
                yield f"{name}/{path.name}", path


def pipeline_parts(folder: Path) -> dict[str, tuple[str, str]]:
    """The parts of a pipeline that are files: their library and class; parts left out on purpose (null) are not named.

    Raises:
        ConfigError: there is no ``model_index.json``.
    """
    index = read_config(folder / "model_index.json")
    return {
        name: (str(value[0]), str(value[1])) for name, value in index.items() if isinstance(value, list) and len(value) == 2 and all(value)
    }


def packages() -> Need:
    """The need for the Python packages of the extra ``diffusion``."""
    absent = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    return Need(
        key="",
        source="Python packages " + ", ".join(PACKAGES),
        problems=tuple(f"{name} is not installed" for name in absent),
        get="pip install -e '.[diffusion]' in the clone of vpbench, or pip install " + " ".join(absent or PACKAGES),
    )


def file_problem(path: Path) -> str:
    """What is wrong with a ``.safetensors`` file (without reading its tensors); empty when it is whole."""
    try:
        header, start = _header(path)
    except ConfigError as error:
        return str(error)
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    expected, size = start + max(ends, default=0), path.stat().st_size
    return "" if size == expected else f"{path}: cut off or damaged, {size} of {expected} bytes; get it again"


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the tensors in a ``.safetensors`` file, from its header alone.

    Raises:
        ConfigError: the file is missing or no such file.
    """
    header, _ = _header(path)
    return {name: tuple(entry["shape"]) for name, entry in header.items() if name != "__metadata__"}


def metadata(path: Path) -> dict[str, str]:
    """What a ``.safetensors`` file says of itself; empty when it says nothing.

    Raises:
        ConfigError: see ``tensor_shapes``.
    """
    header, _ = _header(path)
    return dict(header.get("__metadata__", {}))


def mismatches(branch: Path, backbone: Path) -> list[str]:
    """Why a branch does not fit a backbone: the settings that both must share; empty when it fits.

    Args:
        branch: folder of the branch, whole.
        backbone: folder of the backbone's pipeline, whole.
    """
    config, other = read_config(branch / "config.json"), read_config(backbone / "transformer" / "config.json")
    return [
        f"{branch / 'config.json'}: {key} is {config.get(key)}, that of {backbone} is {other.get(key)}: a branch for another backbone"
        for key in SHARED
        if config.get(key) != other.get(key)
    ]


def read_config(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ConfigError: missing, unreadable, or no JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not JSON ({error}); get it again") from error
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a JSON object")
    return value


def _known(source: str) -> Known | None:
    """The published checkpoint of an id, also under a name that it had before."""
    return table().get(source) or next((entry for entry in table().values() if source in entry.also), None)


def _get(known: Known, describe: bool, key: str) -> str:
    what = f"  ({known.size}, {known.licence})" if describe else ""
    return f"{known.get}{what}  or model.{key}=PATH of a copy"


def _hub_id(source: str) -> re.Match[str] | None:
    return re.fullmatch(r"(\w[\w.-]*/\w[\w.-]*)(/.+)?", source)


def _hub_copies(source: str) -> list[Path]:
    """Where the hub's tools keep a copy: the revision ``main`` first, then the others, newest first."""
    match = _hub_id(source)
    if match is None:
        return []
    home = hugging_face_hub() / ("models--" + match[1].replace("/", "--"))
    main = home / "refs" / "main"
    first = [home / "snapshots" / main.read_text().strip()] if main.is_file() else []
    others = sorted(home.glob("snapshots/*"), key=lambda path: path.stat().st_mtime, reverse=True)
    inner = (match[2] or "").strip("/")
    return [folder / inner for folder in dict.fromkeys([*first, *others])]


def _pipeline_problems(folder: Path, kind: str) -> list[str]:
    try:
        index = read_config(folder / "model_index.json")
    except ConfigError as error:
        near = [path.parent for path in (*folder.glob("*/model_index.json"), folder.parent / "model_index.json") if path.is_file()]
        return [str(error), *(f"did you mean {other}?" for other in near[:3])]
    found = index.get("_class_name")
    if found != kind:
        return [f"{folder / 'model_index.json'}: is a {found}, expected a {kind}"]
    problems = []
    for name, (library, class_name) in pipeline_parts(folder).items():
        part = folder / name
        if not part.is_dir():
            problems.append(f"{part}: the folder is missing ({class_name})")
        elif "Scheduler" in class_name:
            problems += _json_problems(part / "scheduler_config.json")
        elif "Tokenizer" in class_name:
            if not any((part / file).is_file() for file in TOKENIZER_FILES):
                problems.append(f"{part}: has none of {', '.join(TOKENIZER_FILES)}")
        elif "Processor" in class_name or "FeatureExtractor" in class_name:
            problems += _json_problems(part / "preprocessor_config.json")
        else:
            problems += _model_problems(part, library)
    return problems


def _model_problems(folder: Path, library: str) -> list[str]:
    problems = _json_problems(folder / "config.json")
    try:
        files = weight_files(folder, library)
    except ConfigError as error:
        return [*problems, str(error)]
    return [*problems, *filter(None, (file_problem(folder / file) for file in files))]


def weight_files(folder: Path, library: str) -> list[str]:
    """Names of the files that hold a network's weights: the shards of its index, or the one file."""
    base = LIBRARY_FILES.get(library)
    if base is None or not (folder / "config.json").is_file():
        return []
    index = folder / f"{base}.safetensors.index.json"
    if not index.is_file():
        return [f"{base}.safetensors"]
    shards = read_config(index).get("weight_map")
    if not isinstance(shards, dict) or not shards:
        raise ConfigError(f"{index}: has no weight_map; get it again")
    return sorted({str(file) for file in shards.values()})


def _json_problems(path: Path) -> list[str]:
    try:
        read_config(path)
    except ConfigError as error:
        return [str(error)]
    return []


def _header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a ``.safetensors`` file, and where its data begins."""
    if not path.is_file():
        raise ConfigError(f"{path}: is missing")
    try:
        with open(path, "rb") as file:
            first = file.read(8)
            length = int.from_bytes(first, "little")
            if first == b"version ":
                raise ConfigError(f"{path}: is a Git LFS pointer, not the file itself; run `git lfs pull` there")
            if len(first) < 8 or not 2 <= length <= HEADER_BYTES:
                raise ConfigError(f"{path}: is not a .safetensors file, or damaged; get it again")
            header = json.loads(file.read(length))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        raise ConfigError(f"{path}: is not a .safetensors file, or cut off; get it again") from error
    if not isinstance(header, dict):
        raise ConfigError(f"{path}: is not a .safetensors file; get it again")
    return header, 8 + length


def _file_sha256(path: Path) -> str:
    """Sha256 of a file; the hub's cache names big files by it."""
    target = path.resolve()
    if target.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", target.name):
        return target.name
    return cached_sha256(path)
