"""A checkpoint is whole, or the message names the file that is not; nothing is loaded to say so."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from tests.baselines.diffusion.files import pipeline, write_json
from vpbench.baselines.diffusion.checkpoints import SHARED, Checkpoint, file_problem, mismatches, table, tensor_shapes
from vpbench.errors import ConfigError

VACE = "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
SHARD = "transformer/diffusion_pytorch_model-00002-of-00002.safetensors"


@pytest.fixture(autouse=True)
def no_hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def vace(source: Path | str) -> Checkpoint:
    return Checkpoint(str(source), "WanVACEPipeline")


def test_a_whole_folder_has_no_problem(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan")
    assert vace(folder).problems() == []
    assert vace(folder).path() == folder
    assert vace(folder).need().met


@pytest.mark.parametrize(
    "file",
    [
        SHARD,
        "vae/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "vae/config.json",
        "scheduler/scheduler_config.json",
        "model_index.json",
    ],
)
def test_a_missing_file_is_named(file: str, tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan")
    (folder / file).unlink()
    with pytest.raises(ConfigError) as raised:
        vace(folder).path()
    assert str(folder / file) in str(raised.value)
    assert len(vace(folder).problems()) == 1


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan")
    (folder / "tokenizer" / "tokenizer.json").unlink()
    (problem,) = vace(folder).problems()
    assert "tokenizer" in problem
    (folder / "tokenizer").rmdir()
    (problem,) = vace(folder).problems()
    assert problem == f"{folder / 'tokenizer'}: the folder is missing (T5TokenizerFast)"


@pytest.mark.parametrize("kept", [0, 5, 40, -1], ids=lambda kept: f"{kept}-bytes")
def test_a_file_that_is_cut_off_is_named(kept: int, tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan")
    whole = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(whole[:kept])
    (problem,) = vace(folder).problems()
    assert SHARD in problem


def test_a_pointer_of_git_lfs_is_told_apart(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan")
    (folder / SHARD).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:8d24\nsize 4919594456\n")
    (problem,) = vace(folder).problems()
    assert "git lfs pull" in problem
    assert SHARD in problem


def test_another_pipeline_is_refused_by_name(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan", kind="WanPipeline")
    (problem,) = vace(folder).problems()
    assert problem.endswith("is a WanPipeline, expected a WanVACEPipeline")


def test_a_part_left_out_on_purpose_is_not_missed(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan")
    index = (folder / "model_index.json").read_text()
    (folder / "model_index.json").write_text(index.replace("}", ', "transformer_2": [null, null]}'))
    assert vace(folder).problems() == []


def test_a_known_id_that_is_missing_says_size_licence_and_command() -> None:
    need = vace(VACE).need()
    assert not need.met
    text = "\n".join(need.lines())
    assert f"model.checkpoint={VACE}" in text
    assert "about 19.0 GB, Apache-2.0" in text
    assert f"hf download {VACE}" in text


def test_a_folder_that_is_not_there_offers_the_published_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"hf download {VACE}") as raised:
        vace(tmp_path / "nowhere").path()
    assert str(tmp_path / "nowhere") in str(raised.value)


@pytest.mark.parametrize("revision", ["main", "older"])
def test_the_copy_in_the_hubs_cache_is_found(revision: str, tmp_path: Path) -> None:
    home = tmp_path / "hub" / "models--Wan-AI--Wan2.1-VACE-1.3B-diffusers"
    snapshot = pipeline(home / "snapshots" / "abc")
    if revision == "main":
        pipeline(home / "snapshots" / "def", kind="WanPipeline")
        (home / "refs").mkdir()
        (home / "refs" / "main").write_text("abc")
    assert vace(VACE).path() == snapshot


def test_a_file_inside_a_repository_is_found(tmp_path: Path) -> None:
    inner = tmp_path / "hub" / "models--me--loras" / "snapshots" / "abc" / "style"
    inner.mkdir(parents=True)
    save_file({"a": torch.ones(2)}, inner / "one.safetensors")
    assert Checkpoint("me/loras/style/one.safetensors", "lora").path() == inner / "one.safetensors"


def test_the_fingerprint_follows_every_byte_that_decides_and_no_other(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan")
    first = vace(folder).fingerprint()
    (folder / "README.md").write_text("words")
    (folder / "transformer" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"a variant that is not loaded")
    assert vace(folder).fingerprint() == first
    assert vace(pipeline(tmp_path / "copy")).fingerprint() == first
    save_file({"blocks.1.weight": torch.full((3, 3), 1.5)}, folder / SHARD)
    second = vace(folder).fingerprint()
    assert second != first
    write_json(folder / "scheduler" / "scheduler_config.json", {"_class_name": "UniPCMultistepScheduler", "flow_shift": 5})
    assert vace(folder).fingerprint() not in (first, second)


def test_the_fingerprint_of_the_hubs_cache_reads_no_big_file(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan")
    blob = tmp_path / "blobs" / ("0" * 64)
    blob.parent.mkdir()
    os.replace(folder / SHARD, blob)
    (folder / SHARD).symlink_to(blob)
    first = vace(folder).fingerprint()
    blob.write_bytes(blob.read_bytes().replace(b"\x80?", b"\x00?"))  # the hub names a blob by its sha256: its bytes are not asked
    assert vace(folder).fingerprint() == first


def test_a_fingerprint_of_a_partial_folder_is_refused(tmp_path: Path) -> None:
    folder = pipeline(tmp_path / "wan")
    (folder / SHARD).unlink()
    with pytest.raises(ConfigError, match="is missing"):
        vace(folder).fingerprint()


def test_a_branch_for_another_backbone_is_named(tmp_path: Path) -> None:
    config = dict.fromkeys(SHARED, 16)
    backbone = pipeline(tmp_path / "cog")
    write_json(backbone / "transformer" / "config.json", config)
    write_json(tmp_path / "branch" / "config.json", config)
    assert mismatches(tmp_path / "branch", backbone) == []
    write_json(tmp_path / "branch" / "config.json", {**config, "num_attention_heads": 30})
    (problem,) = mismatches(tmp_path / "branch", backbone)
    assert "num_attention_heads is 30" in problem
    assert "is 16: a branch for another backbone" in problem
    assert str(tmp_path / "branch" / "config.json") in problem


def test_a_branch_needs_its_configuration_and_weights(tmp_path: Path) -> None:
    (tmp_path / "branch").mkdir()
    (problem,) = Checkpoint(str(tmp_path / "branch"), "branch").problems()
    assert str(tmp_path / "branch" / "config.json") in problem
    write_json(tmp_path / "branch" / "config.json", {})
    (problem,) = Checkpoint(str(tmp_path / "branch"), "branch").problems()
    assert problem == f"{tmp_path / 'branch' / 'diffusion_pytorch_model.safetensors'}: is missing"
    save_file({"a": torch.ones(2)}, tmp_path / "branch" / "diffusion_pytorch_model.safetensors")
    branch = Checkpoint(str(tmp_path / "branch"), "branch")
    assert branch.problems() == []
    assert len(branch.fingerprint()) == 64


@given(shapes=st.dictionaries(st.text("abc.", min_size=1), st.lists(st.integers(0, 4), max_size=3), max_size=5))
def test_names_and_shapes_come_from_the_header(shapes: dict[str, list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("shapes") / "x.safetensors"
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    assert tensor_shapes(path) == {name: tuple(shape) for name, shape in shapes.items()}
    assert file_problem(path) == ""


def test_the_table_is_complete() -> None:
    for source, known in table().items():
        assert known.licence
        assert known.kind
        assert known.get.startswith(f"hf download {'/'.join(source.split('/')[:2])}")
        assert sum(known.about_gb.values()) > 0.1
    assert table()["TencentARC/VideoPainter/checkpoints/branch"].get.endswith("--include 'checkpoints/branch/*'")
