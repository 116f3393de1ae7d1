"""Weights are what they claim to be, or there are none: the table, the search, and what the commands say."""

from __future__ import annotations

import hashlib
import http.server
import io
import json
import os
import re
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest
import torch

from vpbench import download, weights, weights_table
from vpbench.cli import main
from vpbench.errors import ConfigError
from vpbench.measuring import Network
from vpbench.weights import WeightsError, label, locate, missing
from vpbench.weights_table import read_table, table

ALEX = b"alexnet's weights " * 500
VGG = b"vgg16's weights, which are longer " * 500
CLIP_PT, CLIP_SAFE, CLIP_BIN, B32_BIN = (name * 400 for name in (b"ViT-L-14.pt ", b"safetensors ", b"L-14 bin ", b"B-32 bin "))
SCRIPT = b"this would run code " * 300
TENSORS = {"conv.weight": [4, 3], "bias": [4]}  # of the small table's vgg16 and i3d-videogpt


def state_dict(seed: int = 0, shapes=TENSORS, **options) -> bytes:
    """A file of torch.save with tensors of these shapes."""
    generator, buffer = torch.Generator().manual_seed(seed), io.BytesIO()
    torch.save({name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}, buffer, **options)
    return buffer.getvalue()


UNPUBLISHED, MINE = state_dict(0), state_dict(1)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def small_table(base: str = "http://127.0.0.1:9") -> str:
    """A table like ours over files small enough to write; JSON is YAML."""

    def file(names, data, shape, cache="", sha256=None, urls=None):
        return {
            "names": names,
            "urls": urls or [f"{base}/{names[0]}"],
            "sha256": digest(data) if sha256 is None else sha256,
            "bytes": len(data),
            "licence": "BSD-3-Clause",
            "format": shape,
            **({"cache": cache} if cache else {}),
        }

    hub = "huggingface:openai/clip-vit-large-patch14"
    unpublished = {**file(["i3d_pretrained_400.pt"], UNPUBLISHED, "torch-state-dict"), "sha256": None, "note": "git blob a867"}
    files = {
        "alexnet": [file(["alexnet.pth"], ALEX, "torch-state-dict", "torch-hub", sha256=digest(ALEX)[:8])],
        "vgg16": [file(["vgg16.pth"], VGG, "torch-state-dict", "torch-hub")],
        "clip-vit-l14": [
            file(["ViT-L-14.pt"], CLIP_PT, "openai-clip", "clip"),
            file(["model.safetensors"], CLIP_SAFE, "hf-clip-safetensors", hub),
            file(["pytorch_model.bin"], CLIP_BIN, "hf-clip-bin", hub),
        ],
        "clip-vit-b32": [file(["pytorch_model.bin"], B32_BIN, "hf-clip-bin", "huggingface:openai/clip-vit-base-patch32")],
        "i3d-torchscript": [file(["i3d_torchscript.pt", "i3d.pt"], SCRIPT, "torchscript")],
        "i3d-videogpt": [unpublished],
    }
    tensors = {"vgg16": TENSORS, "i3d-videogpt": TENSORS}
    return json.dumps({name: {"use": "tests", "tensors": tensors.get(name, {}), "files": entries} for name, entries in files.items()})


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """An empty home, the small table, nothing remembered."""
    for name in (*weights.VARIABLES, *download.OFFLINE):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(weights_table, "table", lambda: read_table(small_table(), "small table"))
    weights.forget()
    yield tmp_path / "home"
    weights.forget()


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    weights.forget()
    return path


def run(*arguments: object) -> int:
    return main(["weights", *map(str, arguments)])


# ---------------------------------------------------------------------------------------------------------------- the table that ships

NETWORKS = [
    *("alexnet", "squeezenet1_1", "vgg16", "clip-vit-l14", "clip-vit-b32", "i3d-rgb-imagenet", "i3d-torchscript", "i3d-videogpt"),
    *("raft-large", "raft-things", "raft-small"),
]


def test_the_table_has_every_network_that_metrics_name():
    assert [name for name, entry in table().items() if not entry.use.startswith("model ")] == NETWORKS


def test_hashes_agree_with_those_that_publishers_write_into_names_and_addresses():
    in_names = 0
    for entry in table().values():
        for file in entry.files:
            for written in re.findall(r"-([0-9a-f]{8})\.pth|/([0-9a-f]{64})/", " ".join((file.name, *file.urls))):
                in_names += 1
                assert file.sha256.startswith("".join(written)), file.name
    assert in_names >= 12


def test_sizes_agree_with_torchvision():
    models = pytest.importorskip("torchvision.models")
    flow = pytest.importorskip("torchvision.models.optical_flow")
    theirs = {
        "alexnet": models.AlexNet_Weights.IMAGENET1K_V1,
        "squeezenet1_1": models.SqueezeNet1_1_Weights.IMAGENET1K_V1,
        "vgg16": models.VGG16_Weights.IMAGENET1K_V1,
        "raft-large": flow.Raft_Large_Weights.C_T_SKHT_V2,
        "raft-small": flow.Raft_Small_Weights.C_T_V2,
    }
    for name, published in theirs.items():
        file = table()[name].files[0]
        assert file.urls == (published.url,)
        assert file.size / 2**20 == pytest.approx(published.meta["_file_size"], abs=6e-4)


def test_files_that_run_code_are_known_by_their_full_hash():
    for entry in table().values():
        for file in entry.files:
            if file.format in weights_table.RUNS_CODE:
                assert len(file.sha256) == 64


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sha256": "7be5be7"}, "alexnet: alexnet.pth: sha256: expected 8 to 64 hex digits"),
        ({"sha256": 12345678}, "sha256"),
        ({"sha256": "7BE5BE79"}, "sha256"),
        ({"urls": ["ftp://host/file"]}, "urls: expected a list of http"),
        ({"urls": []}, "urls"),
        ({"names": ["../alexnet.pth"]}, "names: expected a list of plain file names"),
        ({"format": "pickle"}, "format: expected one of torch-state-dict"),
        ({"format": "torchscript"}, "expected 64 to 64 hex digits"),
        ({"bytes": "9 KB"}, "bytes"),
        ({"about_bytes": 9}, "about_bytes"),
        ({"licence": None}, "licence"),
        ({"cache": "elsewhere"}, "cache: expected torch-hub, clip or huggingface"),
        ({"md5": "x"}, "unknown key 'md5'"),
    ],
)
def test_a_broken_entry_is_named(change, complaint):
    raw = json.loads(small_table())
    raw["alexnet"]["files"][0].update(change)
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        read_table(json.dumps(raw), "my table")


@pytest.mark.parametrize("tensors", [["a"], {"a": "64x3"}, {"a": [64, 0]}, {"a": [64, True]}, {"a": 3}, None])
def test_broken_shapes_are_named(tensors):
    raw = json.loads(small_table())
    raw["alexnet"]["tensors"] = tensors
    with pytest.raises(ConfigError, match="my table: alexnet: tensors: expected shapes by name"):
        read_table(json.dumps(raw), "my table")


@pytest.mark.parametrize(
    "text", ["", "[1, 2]", "a: [", "alexnet: {files: []}", "alexnet: {use: x, files: [3]}", "'../x': {use: x, files: []}"]
)
def test_what_is_no_table_is_refused(text):
    with pytest.raises(ConfigError, match="my table"):
        read_table(text, "my table")


def test_one_hash_cannot_mean_two_files():
    raw = json.loads(small_table())
    raw["vgg16"]["files"][0]["sha256"] = digest(ALEX)
    with pytest.raises(ConfigError, match="two files have the sha256"):
        read_table(json.dumps(raw), "my table")


# ------------------------------------------------------------------------------------------------------------------------- the search


def test_nothing_anywhere_is_one_line_for_tables_and_a_full_report_for_people(home):
    line = missing(Network("vgg16"))
    assert line == f"vgg16: vgg16.pth ({len(VGG)} bytes, BSD-3-Clause) not found; `vpbench weights get vgg16` or `vpbench weights add FILE`"
    with pytest.raises(WeightsError) as caught:
        locate(Network("vgg16"))
    message = str(caught.value)
    places = (
        "VPBENCH_WEIGHTS (not set): nothing",
        home / ".cache/vpbench/weights/vgg16: nothing",
        home / ".cache/torch/hub/checkpoints: nothing",
    )
    for part in ("vgg16.pth", f"{len(VGG)} bytes", "BSD-3-Clause", digest(VGG), *places, "weights get vgg16", "weights add FILE"):
        assert str(part) in message


def test_labels_can_be_read_without_weights():
    assert label(Network("vgg16")) == f"vgg16-{digest(VGG)[:8]}"
    assert label(Network("alexnet")) == f"alexnet-{digest(ALEX)[:8]}"
    assert label(Network("clip-vit-l14")) == f"clip-vit-l14-{digest(CLIP_PT)[:8]}"
    assert label(Network("i3d-videogpt")) == "i3d-videogpt-unknown"


def test_the_full_sha256_stands_behind_every_label(home, tmp_path):
    assert weights.sha256(Network("vgg16")) == digest(VGG)
    assert weights.sha256(Network("alexnet")) == digest(ALEX)[:8], "all that the table knows"
    put(home / ".cache/torch/hub/checkpoints/alexnet.pth", ALEX)
    assert weights.sha256(Network("alexnet")) == digest(ALEX)
    assert weights.sha256(Network("clip-vit-l14", str(put(tmp_path / "x", CLIP_BIN)))) == digest(CLIP_BIN)
    assert weights.sha256(Network("alexnet", "random-7")) == "random-7"
    for unknown in (Network("i3d-videogpt"), Network("vgg16", str(tmp_path / "nothing"))):
        assert weights.sha256(unknown) == ""
        assert label(unknown).endswith("-unknown")


def test_random_weights_need_no_file_and_say_so():
    found = locate(Network("alexnet", "random-7"))
    assert (found.path, found.format, found.seed, found.label) == (None, "random", 7, "alexnet-random7")
    assert missing(Network("alexnet", "random-7")) == ""
    assert label(Network("alexnet", "random-7")) == "alexnet-random7"


@pytest.mark.parametrize("ask", [label, missing, locate])
def test_an_unknown_network_lists_the_known_ones(ask):
    with pytest.raises(WeightsError, match="no network is called 'resnet'; known: alexnet, vgg16"):
        ask(Network("resnet"))


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        pytest.param({"VPBENCH_WEIGHTS": "w"}, "w", id="VPBENCH_WEIGHTS"),
        pytest.param({"VPBENCH_WEIGHTS": f"nowhere{os.pathsep}w"}, "w/vgg16", id="several-and-laid-out-like-a-store"),
        pytest.param({}, "home/.cache/vpbench/weights/vgg16", id="our-store"),
        pytest.param({"XDG_CACHE_HOME": "x"}, "x/vpbench/weights/vgg16", id="our-store-moved"),
        pytest.param({}, "home/.cache/torch/hub/checkpoints", id="torch-hub"),
        pytest.param({"XDG_CACHE_HOME": "x"}, "x/torch/hub/checkpoints", id="torch-hub-follows-xdg"),
        pytest.param({"TORCH_HOME": "t"}, "t/hub/checkpoints", id="TORCH_HOME"),
    ],
)
def test_places(variables, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    path = put(tmp_path / folder / "vgg16.pth", VGG)
    found = locate(Network("vgg16"))
    assert found.path is not None
    assert found.path.samefile(path)
    assert (found.network, found.format, found.seed, found.label) == ("vgg16", "torch-state-dict", None, f"vgg16-{digest(VGG)[:8]}")


@pytest.mark.parametrize(
    ("variables", "hub"),
    [
        ({}, "home/.cache/huggingface/hub"),
        ({"XDG_CACHE_HOME": "x"}, "x/huggingface/hub"),
        ({"HF_HOME": "h"}, "h/hub"),
        ({"HF_HUB_CACHE": "c", "HF_HOME": "h"}, "c"),
    ],
)
def test_the_hugging_face_cache_of_the_right_repository(variables, hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    put(tmp_path / hub / "models--openai--clip-vit-base-patch32/snapshots/r/pytorch_model.bin", B32_BIN)
    assert missing(Network("clip-vit-l14"))
    blob = put(tmp_path / hub / "models--openai--clip-vit-large-patch14/blobs/abc", CLIP_BIN)
    link = blob.parent.parent / "snapshots" / "r2" / "pytorch_model.bin"
    link.parent.mkdir(parents=True)
    link.symlink_to(blob)
    weights.forget()
    assert locate(Network("clip-vit-l14")).format == "hf-clip-bin"
    assert locate(Network("clip-vit-b32")).label == f"clip-vit-b32-{digest(B32_BIN)[:8]}"


def test_the_preferred_file_wins_wherever_it_lies_and_the_label_tells_which_it_was(home, tmp_path, monkeypatch):
    monkeypatch.setenv("VPBENCH_WEIGHTS", str(tmp_path / "w"))
    put(tmp_path / "w" / "model.safetensors", CLIP_SAFE)
    assert label(Network("clip-vit-l14")) == f"clip-vit-l14-{digest(CLIP_SAFE)[:8]}"
    put(home / ".cache/clip/ViT-L-14.pt", CLIP_PT)
    found = locate(Network("clip-vit-l14"))
    assert (found.format, found.label) == ("openai-clip", f"clip-vit-l14-{digest(CLIP_PT)[:8]}")


def test_a_wrong_file_is_never_used_and_the_search_goes_on(home, tmp_path, monkeypatch):
    monkeypatch.setenv("VPBENCH_WEIGHTS", str(tmp_path / "w"))
    bad = put(tmp_path / "w" / "vgg16.pth", VGG[:100])
    put(home / ".cache/vpbench/weights/vgg16/vgg16.pth", ALEX)
    with pytest.raises(WeightsError) as caught:
        locate(Network("vgg16"))
    assert f"{tmp_path / 'w'} (VPBENCH_WEIGHTS): vgg16.pth: truncated: 100 of {len(VGG)} bytes" in str(caught.value)
    assert "vgg16.pth: swapped: is alexnet.pth of alexnet, not of vgg16" in str(caught.value)
    assert f"{bad}: truncated: 100 of {len(VGG)} bytes" in missing(Network("vgg16"))
    assert "\n" not in missing(Network("vgg16"))
    good = put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)
    assert locate(Network("vgg16")).path == good


def test_a_file_of_the_right_size_with_other_bytes_is_refused(home):
    put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG[:-1] + b"?")
    assert "wrong hash" in missing(Network("vgg16"))
    with pytest.raises(WeightsError):
        locate(Network("vgg16"))


def test_a_named_file_may_have_any_name_and_its_network_is_told_by_its_hash(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = put(tmp_path / "my copy.bin", CLIP_PT)
    for source in (str(path), "my copy.bin"):
        assert locate(Network("clip-vit-l14", source)).path == path
    assert locate(Network("clip-vit-l14", str(path))).format == "openai-clip"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (ALEX, "swapped: is alexnet.pth of alexnet, not of vgg16"),
        (VGG[:-1], f"truncated: {len(VGG) - 1} of {len(VGG)} bytes"),
        (VGG + b"!", "wrong hash: sha256"),
        (None, "unreadable: No such file or directory"),
    ],
)
def test_a_named_file_that_is_something_else(data, says, tmp_path, home):
    put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)  # never used instead
    path = tmp_path / "mine.pth"
    if data is not None:
        put(path, data)
    network = Network("vgg16", str(path))
    assert says in missing(network)
    assert "\n" not in missing(network)
    assert label(network) == "vgg16-unknown"
    with pytest.raises(WeightsError, match=re.escape(says)):
        locate(network)


def test_a_named_file_of_unknown_hash_says_how_to_trust_it(tmp_path):
    path = put(tmp_path / "mine.pth", UNPUBLISHED)
    assert f"`vpbench weights add {path} --network i3d-videogpt --trust`" in missing(Network("i3d-videogpt", str(path)))


def test_one_process_sees_one_answer(home):
    assert missing(Network("vgg16"))
    path = home / ".cache/torch/hub/checkpoints/vgg16.pth"
    path.parent.mkdir(parents=True)
    path.write_bytes(VGG)
    assert missing(Network("vgg16"))
    weights.forget()
    assert locate(Network("vgg16")).path == path
    os.utime(path, (1, 1))
    assert locate(Network("vgg16")).path == path
    path.write_bytes(ALEX)
    with pytest.raises(WeightsError, match="has changed since"):
        locate(Network("vgg16"))


@pytest.mark.parametrize(
    ("variable", "place"),
    [
        ("VPBENCH_WEIGHTS", "model.safetensors"),
        ("XDG_CACHE_HOME", "vpbench/weights/clip-vit-l14/model.safetensors"),
        ("HOME", ".cache/clip/ViT-L-14.pt"),
        ("HF_HOME", "hub/models--openai--clip-vit-large-patch14/snapshots/r/model.safetensors"),
        ("HF_HUB_CACHE", "models--openai--clip-vit-large-patch14/snapshots/r/model.safetensors"),
        ("HUGGINGFACE_HUB_CACHE", "models--openai--clip-vit-large-patch14/snapshots/r/model.safetensors"),
    ],
)
def test_another_environment_is_another_answer(variable, place, tmp_path, monkeypatch):
    put(tmp_path / "w" / place, CLIP_PT if place.endswith(".pt") else CLIP_SAFE)
    assert missing(Network("clip-vit-l14"))
    monkeypatch.setenv(variable, str(tmp_path / "w"))
    assert missing(Network("clip-vit-l14")) == ""


# ---------------------------------------------------------------------------------------------------------- hashes that are kept on disk


@pytest.fixture
def reads(monkeypatch):
    """Which files were read in full; all count as big."""
    seen: list[Path] = []
    real = weights.sha256_file
    monkeypatch.setattr(weights, "BIG", 0)
    monkeypatch.setattr(weights, "sha256_file", lambda path: seen.append(path) or real(path))
    return seen


def test_a_big_file_is_read_once_until_it_changes(home, reads):
    path = put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)
    for _ in range(3):
        weights.forget()
        locate(Network("vgg16"))
    assert len(reads) == 1
    put(path, VGG[::-1])
    assert "wrong hash" in missing(Network("vgg16"))
    assert len(reads) == 2


def test_a_file_replaced_by_one_of_equal_size_and_time_is_noticed(home, tmp_path, reads):
    path = put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)
    locate(Network("vgg16"))
    other = put(tmp_path / "other", VGG[::-1])
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    os.replace(other, path)
    weights.forget()
    assert "wrong hash" in missing(Network("vgg16"))


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b"not json"])
def test_a_damaged_record_is_ignored(damage, home, reads):
    put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)
    locate(Network("vgg16"))
    (record,) = (weights.store() / "hashes").iterdir()
    put(record, damage)
    assert locate(Network("vgg16")).label == f"vgg16-{digest(VGG)[:8]}"
    assert len(reads) == 2


def test_a_store_that_cannot_be_written_breaks_nothing(home, tmp_path, monkeypatch, reads):
    put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)
    monkeypatch.setenv("TORCH_HOME", str(home / ".cache/torch"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(put(tmp_path / "a file", b"")))
    assert locate(Network("vgg16")).label == f"vgg16-{digest(VGG)[:8]}"
    assert len(reads) == 1


def test_many_processes_search_at_once(home):
    put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)
    (home / "table.yaml").write_text(small_table())
    code = (
        "import pathlib; from vpbench import weights, weights_table; weights.BIG = 0\n"
        f"text = pathlib.Path({str(home / 'table.yaml')!r}).read_text()\n"
        "weights_table.table = lambda: weights_table.read_table(text, 't')\n"
        "print(weights.label(weights.Network('vgg16')))"
    )
    running = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(4)]
    assert {process.communicate(timeout=60)[0] for process in running} == {f"vgg16-{digest(VGG)[:8]}\n"}
    assert len(list((weights.store() / "hashes").iterdir())) == 1


# ------------------------------------------------------------------------------------------------------------------------- the commands


def test_verify_on_a_good_a_truncated_and_a_swapped_file_says_exactly_that(tmp_path, capsys):
    good = put(tmp_path / "w" / "alexnet.pth", ALEX)
    truncated = put(tmp_path / "w" / "i3d_torchscript.pt", SCRIPT[:50])
    swapped = put(tmp_path / "w" / "vgg16.pth", ALEX)
    put(tmp_path / "w" / "notes.txt", b"no weights")
    assert run("verify", tmp_path / "w") == 1
    assert capsys.readouterr().out.splitlines() == [
        f"ok: {good} (alexnet, by 8 digits of its sha256)",
        f"truncated: {truncated} (50 of {len(SCRIPT)} bytes)",
        f"swapped: {swapped} (is alexnet.pth of alexnet, not of vgg16)",
        "verify: NOT OK  1 of 3 files are what they should be",
    ]


def test_verify_of_good_files_is_ok_whatever_their_names(tmp_path, capsys):
    files = [put(tmp_path / "w" / name, data) for name, data in (("renamed.pth", VGG), ("i3d.pt", SCRIPT), ("pytorch_model.bin", B32_BIN))]
    assert run("verify", *files) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "verify: ok  3 of 3 files are what they should be"


@pytest.mark.parametrize(("name", "data"), [("vgg16.pth", b"x" * 99999), ("other.pt", b"?"), ("i3d_pretrained_400.pt", UNPUBLISHED)])
def test_verify_tells_wrong_from_unknown(name, data, tmp_path, capsys):
    path = put(tmp_path / name, data)
    assert run("verify", path) == 1
    state = "wrong hash" if name == "vgg16.pth" else "unknown"
    assert capsys.readouterr().out.startswith(f"{state}: {path} (sha256 {digest(data)[:16]}...")


def test_verify_tells_files_of_one_name_apart_by_their_cache_folder(home, capsys):
    path = put(home / ".cache/huggingface/hub/models--openai--clip-vit-large-patch14/snapshots/r/pytorch_model.bin", B32_BIN)
    assert run("verify") == 1
    assert f"swapped: {path} (is pytorch_model.bin of clip-vit-b32, not of clip-vit-l14)" in capsys.readouterr().out


def test_verify_without_paths_looks_wherever_weights_are_looked_for(home, capsys):
    files = [put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG), put(home / ".cache/clip/ViT-L-14.pt", CLIP_PT)]
    assert run("verify") == 0
    assert [line.split(" (")[0] for line in capsys.readouterr().out.splitlines()[:-1]] == [f"ok: {path}" for path in files]


@pytest.mark.parametrize("where", ["empty", "absent", None])
def test_verify_that_checks_nothing_is_not_a_success(where, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert run("verify", *([tmp_path / where] if where else [])) == 2
    assert capsys.readouterr().err.startswith("vpbench: ")


def test_verify_reads_the_file_even_if_its_hash_is_on_record(home, capsys, monkeypatch):
    monkeypatch.setattr(weights, "BIG", 0)
    path = put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)
    assert run("verify", path) == 0
    (record,) = (weights.store() / "hashes").iterdir()
    put(record, json.dumps({**json.loads(record.read_text()), "sha256": digest(b"bits rotted silently")}).encode())
    assert missing(Network("vgg16"))
    assert run("verify", path) == 0
    weights.forget()
    assert missing(Network("vgg16")) == ""


def test_verify_of_an_unreadable_file_cannot_tell(home, tmp_path, capsys, monkeypatch):
    path = put(tmp_path / "vgg16.pth", VGG)
    monkeypatch.setattr(weights, "sha256_file", lambda _: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    assert run("verify", path) == 2
    assert f"unreadable: {path} (Permission denied)" in capsys.readouterr().out


def test_add_tells_the_network_by_the_hash(tmp_path, capsys):
    assert missing(Network("vgg16"))
    assert run("add", put(tmp_path / "download(1).pth", VGG)) == 0
    path = weights.store() / "vgg16" / "vgg16.pth"
    assert capsys.readouterr().out == f"vgg16: {path}\n"
    assert locate(Network("vgg16")).path == path
    assert path.read_bytes() == VGG
    assert [file.name for file in path.parent.iterdir()] == ["vgg16.pth"]
    assert run("add", path) == 0
    assert path.read_bytes() == VGG


@pytest.mark.parametrize(
    ("data", "options", "says"),
    [
        (ALEX, ("--network", "vgg16", "--trust"), "is alexnet.pth of alexnet, not of vgg16"),
        (UNPUBLISHED, (), "--network NAME --trust"),
        (UNPUBLISHED, ("--trust",), "--network NAME --trust"),
        (UNPUBLISHED, ("--network", "i3d-videogpt"), "--network i3d-videogpt --trust"),
        (UNPUBLISHED, ("--network", "resnet", "--trust"), "no network is called 'resnet'"),
        (None, (), "No such file"),
    ],
)
def test_add_refuses(data, options, says, tmp_path, capsys):
    path = tmp_path / "file.pt"
    if data is not None:
        put(path, data)
    assert run("add", path, *options) == 2
    assert says in capsys.readouterr().err
    assert not weights.store().exists()


def test_trusted_weights_are_found_and_say_what_they_are(tmp_path, capsys):
    path = put(tmp_path / "i3d_pretrained_400.pt", UNPUBLISHED)
    assert run("add", path, "--network", "i3d-videogpt", "--trust") == 0
    assert "i3d-videogpt-" + digest(UNPUBLISHED)[:8] in capsys.readouterr().err
    found = locate(Network("i3d-videogpt"))
    assert found.label == f"i3d-videogpt-{digest(UNPUBLISHED)[:8]}"
    assert found.format == "torch-state-dict"
    assert locate(Network("i3d-videogpt", str(path))).path == path
    assert missing(Network("vgg16", str(path)))  # trusted for one network only
    assert run("verify", weights.store()) == 0
    assert "trusted by you" in capsys.readouterr().out
    found.path.write_bytes(UNPUBLISHED[::-1])
    assert run("verify", weights.store()) == 1


def test_trusted_weights_never_replace_those_of_the_table(tmp_path, home, capsys):
    mine = put(tmp_path / "vgg16.pth", MINE)
    assert run("add", mine, "--network", "vgg16", "--trust") == 0
    assert label(Network("vgg16")) == f"vgg16-{digest(MINE)[:8]}"
    put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)
    assert label(Network("vgg16")) == f"vgg16-{digest(VGG)[:8]}"
    assert label(Network("vgg16", str(mine))) == f"vgg16-{digest(MINE)[:8]}"


def flipped(data: bytes) -> bytes:
    """One bit of the tensors' own bytes turned, where torch reads over it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        values = archive.read(next(name for name in archive.namelist() if name.endswith("/data/0")))
    at = data.index(values)
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


DAMAGED = {
    "a few bytes": (VGG[:9], "not readable as torch-state-dict"),
    "nothing": (b"", "not readable as torch-state-dict"),
    "cut": (MINE[:-200], "not readable as torch-state-dict"),
    "cut, of the older format": (state_dict(_use_new_zipfile_serialization=False)[:-4], "not readable as torch-state-dict"),
    "one bit": (flipped(MINE), "damaged at archive/data/0"),
    "no dictionary": (state_dict(shapes={"bias": [4]}), "it has no tensor conv.weight"),
    "another shape": (state_dict(shapes={"conv.weight": [4, 3, 1], "bias": [4]}), "its tensor conv.weight is 4x3x1, not 4x3"),
}


@pytest.mark.parametrize("trust", [(), ("--trust",)], ids=["", "trusted"])
@pytest.mark.parametrize("network", [(), ("--network", "vgg16")], ids=["by its name", "by --network"])
@pytest.mark.parametrize("case", DAMAGED)
def test_add_refuses_what_cannot_be_weights_of_the_network_trusted_or_not(case, network, trust, tmp_path, capsys):
    data, says = DAMAGED[case]
    path = put(tmp_path / ("mine.pth" if network else "vgg16.pth"), data)
    assert run("add", path, *network, *trust) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"vpbench: {path}: {'' if network else f'truncated: {len(data)} of {len(VGG)} bytes; '}{says}")
    assert line.endswith("fetch it again.")
    assert "--trust" not in line
    assert not weights.store().exists()


def test_a_changed_copy_of_a_published_file_is_not_offered_for_trust_and_can_be_trusted(tmp_path, capsys):
    path = put(tmp_path / "vgg16.pth", MINE)
    assert run("add", path, "--network", "vgg16") == 2
    assert capsys.readouterr().err.endswith("it is not the published file: fetch it again.\n")
    assert run("add", put(tmp_path / "mine.pth", MINE), "--network", "vgg16") == 2
    assert "--network vgg16 --trust" in capsys.readouterr().err
    assert run("add", path, "--network", "vgg16", "--trust") == 0
    assert locate(Network("vgg16")).label == f"vgg16-{digest(MINE)[:8]}"


class Detector(torch.nn.Module):
    """As little as passes for StyleGAN-V's detector."""

    def __init__(self, scores: int):
        super().__init__()
        self.scores = scores

    def forward(self, video: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> torch.Tensor:
        return video.new_zeros([video.shape[0], self.scores])


def archive(scores: int) -> bytes:
    """A TorchScript archive."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(Detector(scores)), buffer)
    return buffer.getvalue()


def test_trusting_a_file_that_runs_code_says_so_and_only_then_it_runs(tmp_path, capsys, monkeypatch):
    loaded = []
    load = torch.jit.load
    monkeypatch.setattr(torch.jit, "load", lambda *given, **options: loaded.append(given) or load(*given, **options))
    path = put(tmp_path / "mine.pt", archive(400))
    assert run("add", path, "--network", "i3d-torchscript") == 2
    assert "--network i3d-torchscript --trust" in capsys.readouterr().err
    assert not loaded
    assert run("add", path, "--network", "i3d-torchscript", "--trust") == 0
    assert "executes code" in capsys.readouterr().err
    assert loaded


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (archive(1000), "gives (1, 1000) for one video, not (1, 400)"),
        (archive(400)[:-100], "not a TorchScript archive"),
        (state_dict(), "not a TorchScript archive"),
        (b"?", "not a TorchScript archive"),
    ],
)
def test_what_is_no_detector_cannot_be_trusted(data, says, tmp_path, capsys):
    assert run("add", put(tmp_path / "mine.pt", data), "--network", "i3d-torchscript", "--trust") == 2
    assert says in capsys.readouterr().err
    assert not weights.store().exists()


def test_tensors_of_the_table_are_those_that_the_networks_have():
    import open_clip
    import torchvision
    from torchvision.models.optical_flow import raft_large, raft_small

    from vpbench.metrics.clip_encoder import NETWORKS as CLIP
    from vpbench.metrics.i3d import I3D

    with torch.device("meta"):
        models = {
            "alexnet": torchvision.models.alexnet(),
            "squeezenet1_1": torchvision.models.squeezenet1_1(),
            "vgg16": torchvision.models.vgg16(init_weights=False),
            "i3d-rgb-imagenet": I3D(),
            "i3d-videogpt": I3D(),
            "raft-large": raft_large(weights=None, progress=False),
            "raft-small": raft_small(weights=None, progress=False),
            **{name: open_clip.CLIP(**open_clip.get_model_config(theirs)) for name, theirs in CLIP.items()},
        }
    assert set(NETWORKS) - set(models) == {"i3d-torchscript", "raft-things"}, "a format of its own; names of the RAFT authors"
    for name, model in models.items():
        shapes = {key: tuple(value.shape) for key, value in model.state_dict().items()}
        tensors = table()[name].tensors
        assert len(tensors) >= 2
        assert tensors == {key: shapes[key] for key in tensors}, name
        others = [one for other, one in models.items() if other != name and not (name.startswith("i3d") and other.startswith("i3d"))]
        for other in others:
            theirs = {key: tuple(value.shape) for key, value in other.state_dict().items()}
            assert any(theirs.get(key) != shape for key, shape in tensors.items()), f"{name} is told from the others"


def test_list_shows_size_licence_and_place_and_what_is_there_but_bad(home, capsys):
    path = put(home / ".cache/torch/hub/checkpoints/vgg16.pth", VGG)
    bad = put(home / ".cache/torch/hub/checkpoints/alexnet.pth", VGG)
    cut = put(weights.store() / "vgg16" / "vgg16.pth", VGG[:7])
    assert run("list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["network", "file", "size", "licence", "where"]
    assert [line.split()[0] for line in lines[1:9]] == [
        "alexnet",
        "vgg16",
        *["clip-vit-l14"] * 3,
        "clip-vit-b32",
        "i3d-torchscript",
        "i3d-videogpt",
    ]
    assert lines[2].split() == ["vgg16", "vgg16.pth", str(len(VGG)), "bytes", "BSD-3-Clause", str(path)]
    assert lines[1].endswith(" -")
    assert lines[9:] == [
        f"not used: {bad}: swapped: is vgg16.pth of vgg16, not of alexnet",
        f"not used: {cut}: truncated: 7 of {len(VGG)} bytes",
    ]


def test_a_file_whose_name_two_networks_share_is_bad_for_neither(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("VPBENCH_WEIGHTS", str(tmp_path))
    path = put(tmp_path / "pytorch_model.bin", B32_BIN)
    assert run("list") == 0
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines() if line.endswith(str(path))] == ["clip-vit-b32"]
    assert "not used" not in out
    put(path, B32_BIN[:-1])
    assert run("list") == 0
    assert [line.split(": ")[2] for line in capsys.readouterr().out.splitlines() if line.startswith("not used")] == ["truncated"]


def test_a_folder_of_VPBENCH_WEIGHTS_that_is_not_there_is_told(tmp_path, monkeypatch, capsys):  # noqa: N802
    folder = tmp_path / "w"
    monkeypatch.setenv("VPBENCH_WEIGHTS", f"{folder}{os.pathsep}{tmp_path}")
    assert run("list") == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"VPBENCH_WEIGHTS: no such folder: {folder}"
    assert f"(VPBENCH_WEIGHTS: no such folder: {folder})" in missing(Network("vgg16"))
    with pytest.raises(WeightsError, match=re.escape(f"searched {folder} (VPBENCH_WEIGHTS, no such folder): nothing")):
        locate(Network("vgg16"))
    folder.mkdir()
    weights.forget()
    assert "no such folder" not in missing(Network("vgg16"))


@pytest.mark.parametrize("arguments", [["list"], ["verify"], ["--help"], ["get", "--help"]])
def test_commands_import_nothing_heavy(arguments, home):
    code = (
        "import sys; from vpbench.cli import main\ntry:\n    main(" + repr(["weights", *arguments]) + ")\nexcept SystemExit:\n    pass\n"
        "assert not {'torch', 'cv2', 'scipy', 'pandas', 'skimage'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------------------------------------------ the download


class Server(http.server.ThreadingHTTPServer):
    """Serves ``files`` with ranges and remembers requests; ``breaks`` is how many answers stop half-way."""

    files: dict[str, bytes]
    breaks = 0
    ranges = True
    redirect = ""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.seen = {}, []


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server, name, asked = self.server, self.path.lstrip("/"), self.headers.get("Range")
        server.seen.append((name, asked))
        if server.redirect:
            self.send_response(302)
            self.send_header("Location", server.redirect)
            self.end_headers()
            return
        if name not in server.files:
            self.send_error(404)
            return
        body, start = server.files[name], 0
        if asked and server.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(body):
                self.send_error(416)
                return
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        rest = body[start:]
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if server.breaks:
            server.breaks -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    with Server() as one:
        thread = threading.Thread(target=one.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        raw = json.loads(small_table(f"http://127.0.0.1:{one.server_port}"))
        raw["i3d-torchscript"]["files"][0]["urls"].append(f"http://127.0.0.1:{one.server_port}/mirror")
        monkeypatch.setattr(weights_table, "table", lambda: read_table(json.dumps(raw), "small table"))
        yield one
        one.shutdown()
        thread.join()


def in_store(network: str) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (weights.store() / network).iterdir()}


def test_get_downloads_verifies_and_names_the_licence_first(server, capsys):
    server.files["vgg16.pth"] = VGG
    assert run("get", "vgg16") == 0
    out = capsys.readouterr()
    assert out.out.splitlines()[0] == f"vgg16: vgg16.pth, {len(VGG)} bytes, licence: BSD-3-Clause"
    assert out.err == ""  # no bar where there is no terminal
    assert in_store("vgg16") == {"vgg16.pth": VGG}
    assert locate(Network("vgg16")).path == weights.store() / "vgg16" / "vgg16.pth"
    assert run("get", "vgg16") == 0
    assert "already there" in capsys.readouterr().out
    assert len(server.seen) == 1


def test_get_goes_on_with_what_an_earlier_call_left(server):
    server.files["vgg16.pth"] = VGG
    put(weights.store() / "vgg16" / "vgg16.pth.part", VGG[:5000])
    assert run("get", "vgg16") == 0
    assert server.seen == [("vgg16.pth", "bytes=5000-")]
    assert in_store("vgg16") == {"vgg16.pth": VGG}


def test_get_goes_on_by_itself_when_the_connection_breaks_off(server):
    server.files["vgg16.pth"], server.breaks = VGG, 2
    assert run("get", "vgg16") == 0
    assert [asked for _, asked in server.seen] == [None, f"bytes={len(VGG) // 2}-", f"bytes={len(VGG) // 2 + len(VGG) // 4}-"]
    assert in_store("vgg16") == {"vgg16.pth": VGG}


def test_get_from_a_server_without_ranges_starts_over(server):
    server.files["vgg16.pth"], server.ranges = VGG, False
    put(weights.store() / "vgg16" / "vgg16.pth.part", VGG[:5000])
    assert run("get", "vgg16") == 0
    assert len(server.seen) == 1
    assert in_store("vgg16") == {"vgg16.pth": VGG}


@pytest.mark.parametrize("left", [VGG, VGG + b"more", ALEX], ids=["complete", "too long", "another file's"])
def test_get_with_a_strange_beginning_ends_with_the_right_file(left, server):
    server.files["vgg16.pth"] = VGG
    put(weights.store() / "vgg16" / "vgg16.pth.part", left)
    assert run("get", "vgg16") == 0
    assert in_store("vgg16") == {"vgg16.pth": VGG}


def test_get_of_a_wrong_file_deletes_and_reports_it(server, capsys):
    server.files["vgg16.pth"] = VGG[::-1]
    assert run("get", "vgg16") == 1
    err = capsys.readouterr().err
    assert f"wrong hash: sha256 {digest(VGG[::-1])}, expected {digest(VGG)}; deleted" in err
    assert in_store("vgg16") == {}


def test_get_tries_every_address_and_every_file(server, capsys):
    server.files |= {"i3d_torchscript.pt": b"an error page", "mirror": SCRIPT, "model.safetensors": CLIP_SAFE}
    assert run("get", "i3d-torchscript", "clip-vit-l14") == 0
    assert [name for name, _ in server.seen] == ["i3d_torchscript.pt", "mirror", "ViT-L-14.pt", "model.safetensors"]
    assert locate(Network("clip-vit-l14")).format == "hf-clip-safetensors"


def test_get_all_takes_what_has_a_hash_and_reports_what_failed(server, capsys):
    server.files |= {"alexnet.pth": ALEX, "i3d_torchscript.pt": SCRIPT}
    assert run("get", "all") == 1
    names = {name for name, _ in server.seen}
    assert "i3d_pretrained_400.pt" not in names
    assert {"alexnet.pth", "vgg16.pth", "i3d_torchscript.pt"} <= names
    assert "vgg16.pth: HTTP 404" in capsys.readouterr().err
    assert missing(Network("alexnet")) == missing(Network("i3d-torchscript")) == ""


def test_get_without_a_known_hash_downloads_nothing(server, capsys):
    server.files["i3d_pretrained_400.pt"] = UNPUBLISHED
    assert run("get", "i3d-videogpt") == 1
    assert server.seen == []
    assert "vpbench weights add FILE --network i3d-videogpt --trust" in capsys.readouterr().err


def test_get_of_an_unknown_name_downloads_nothing(server, capsys):
    assert run("get", "vgg16", "resnet") == 2
    assert server.seen == []


@pytest.mark.parametrize("variable", ["VPBENCH_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_is_one_clear_refusal(variable, server, capsys, monkeypatch):
    monkeypatch.setenv(variable, "1")
    assert run("get", "vgg16") == 2
    assert (
        capsys.readouterr().err
        == f"vpbench: vgg16: not downloaded, {variable}=1 forbids it; bring copies with `vpbench weights add FILE`.\n"
    )
    assert server.seen == []
    monkeypatch.setenv(variable, "0")
    assert run("get", "vgg16") == 1
    assert len(server.seen) == 1


def test_anything_but_http_is_refused_also_after_a_redirection(server, tmp_path):
    local = put(tmp_path / "vgg16.pth", VGG).as_uri()
    server.redirect = local
    for url in (local, f"http://127.0.0.1:{server.server_port}/vgg16.pth"):
        with pytest.raises(download.DownloadError, match="could not be downloaded"):
            download.download([url], tmp_path / "got", lambda _: "", lambda *_: None)
    assert not (tmp_path / "got").exists()


def test_a_server_that_says_nothing_times_out(monkeypatch, tmp_path):
    import socket

    monkeypatch.setattr(download, "TIMEOUT_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/x"
        with pytest.raises(download.DownloadError, match="timed out"):
            download.download([url], tmp_path / "x", lambda _: "", lambda *_: None)


def test_a_folder_that_cannot_be_written_is_one_error(server, tmp_path, monkeypatch, capsys):
    server.files["vgg16.pth"] = VGG
    monkeypatch.setenv("XDG_CACHE_HOME", str(put(tmp_path / "a file", b"")))
    assert run("get", "vgg16") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert run("add", put(tmp_path / "vgg16.pth", VGG)) == 2
    assert "cannot be written" in capsys.readouterr().err
