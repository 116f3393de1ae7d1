"""What no clip can be made with is found before the first one: by `vpbench check`, and by a run before it reads anything."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from tests.baselines.diffusion import tiny, tiny_wan
from vpbench.cli import main
from vpbench.running import build_model


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("checkpoints")
    tiny_wan.wan_vace(root / "wan")
    tiny.write_backbone(root / "cog")
    tiny.write_branch(root / "branch")
    tiny.write_adapter(root / "adapter.safetensors")
    tiny.write_adapter(root / "one_layer.safetensors", layers=1)
    tiny.write_adapter(root / "wider.safetensors", width=64)
    (root / "frames").mkdir()
    return root


def wan(root: Path) -> list[str]:
    return ["model=wan_vace", f"model.checkpoint={root / 'wan'}", "model.precision=float32"]


def painter(root: Path) -> list[str]:
    keys = ["model=videopainter", "model/image_inpainter=telea", f"model.backbone.checkpoint={root / 'cog'}"]
    return [*keys, f"model.backbone.branch={root / 'branch'}"]


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (wan, ["model.height=470"], "height=470 width=720: both must be multiples of 16, such as 464 and 720"),
        (wan, ["model.device=cuda:7"], "device=cuda:7: cannot be used here"),
        (wan, ["model.loras=[{path: {root}/adapter.safetensors}]"], "are not LoRA matrices of this network"),
        (painter, ["model.overlap=3"], "overlap=3: windows stay aligned with the clip only when they share 4k + 1 frames"),
        (painter, ["model.overlap=0"], "compat=official"),
        (painter, ["model.backbone.device=cuda:7"], "device=cuda:7: cannot be used here"),
        (painter, ["model.backbone.height=96"], "has learned positions"),
        (painter, ["model.backbone.loras=[{path: {root}/wider.safetensors}]"], "a LoRA for another network"),
        (painter, ["model.backbone.adapter={root}/one_layer.safetensors"], "belongs into model.backbone.loras"),
        (painter, ["model/image_inpainter=folder", "model.image_inpainter.folder={root}/frames"], "holds no .png"),
    ],
    ids=lambda value: value[-1].replace("{root}/", "") if isinstance(value, list) else "",
)
def test_settings_that_no_clip_can_be_made_with(
    checkpoints: Path, tmp_path: Path, model: Any, settings: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    overrides = [*model(checkpoints), *(setting.replace("{root}", str(checkpoints)) for setting in settings)]
    assert main(["check", *overrides]) == 1
    said = capsys.readouterr().out
    assert message in said
    assert "wrong " in said
    assert main(["run", *overrides, "benchmark=demo", "limit=1", f"out={tmp_path / 'runs'}"]) == 2
    assert message in capsys.readouterr().out
    assert not list(tmp_path.glob("runs/*/*/clips"))


def test_settings_that_work_pass(checkpoints: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adapter = f"model.backbone.adapter={checkpoints / 'adapter.safetensors'}"
    lora = f"model.backbone.loras=[{{path: {checkpoints / 'one_layer.safetensors'}}}]"
    for overrides in (wan(checkpoints), [*painter(checkpoints), adapter, lora]):
        assert main(["check", *overrides]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("fault", ["lacks one", "another shape"])
@pytest.mark.parametrize("part", ["wan/transformer", "cog/transformer", "branch"])
def test_a_checkpoint_whose_tensors_are_not_those_of_its_configuration(
    checkpoints: Path, tmp_path: Path, part: str, fault: str, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "copy"
    shutil.copytree(checkpoints, root)
    file = root / part / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    name = sorted(name for name in tensors if name.endswith("weight") and "blocks" in name)[0]
    if fault == "lacks one":
        del tensors[name]
    else:
        tensors[name] = tensors[name][..., :-1].clone()
    save_file(tensors, file)
    assert main(["check", *(wan if part.startswith("wan") else painter)(root)]) == 1
    assert name in capsys.readouterr().out


def leaf(root: Path) -> dict[str, Any]:
    entry = {"path": str(root / "one_layer.safetensors"), "scale": 0.5}
    backbone = {
        "_target_": "vpbench.baselines.diffusion.videopainter.VideoPainter",
        "checkpoint": str(root / "cog"),
        "branch": str(root / "branch"),
        "loras": [entry],
    }
    return {"_target_": "vpbench.baselines.diffusion.latent_blend.LatentBlend", "name": "vp", "backbone": backbone}


def test_a_checkpoint_at_another_place_is_the_same_run(checkpoints: Path, tmp_path: Path) -> None:
    shutil.copytree(checkpoints, tmp_path / "moved")
    here, there = (json.dumps(build_model(leaf(root)).identity, sort_keys=True) for root in (checkpoints, tmp_path / "moved"))
    assert here == there
    other = leaf(checkpoints)
    other["backbone"]["loras"][0]["scale"] = 1.0
    assert json.dumps(build_model(other).identity, sort_keys=True) != here
    file = tmp_path / "moved" / "branch" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    save_file({name: tensor + 1 for name, tensor in tensors.items()}, file)
    assert json.dumps(build_model(leaf(tmp_path / "moved")).identity, sort_keys=True) != here
