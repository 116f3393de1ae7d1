"""The four released files: found, whole, of this network, or the message names the file and what is wrong with it."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.baselines.cococo import tiny
from vpbench import weights
from vpbench.baselines.cococo import parts
from vpbench.baselines.cococo.model import Cococo
from vpbench.baselines.cococo.networks import load_pictures
from vpbench.baselines.cococo.unet import MOTION
from vpbench.cli import main
from vpbench.errors import ConfigError


@pytest.fixture
def own(files: Path, tmp_path: Path) -> Path:
    """Copies of the parts that a test may change."""
    return Path(shutil.copytree(files / "parts", tmp_path / "parts"))


def load(files: Path, folder: Path) -> Any:
    return load_pictures(files / "base", parts.paths(str(folder)), "float32").unet


def change(path: Path, **tensors: Any) -> str:
    """Write a part anew with its first tensor of a motion module replaced or gone; the tensor's name in the network."""
    part = torch.load(path)
    name = next(name for name in part if MOTION in name and not name.endswith(".pe"))
    if "tensor" in tensors:
        part[name] = tensors["tensor"]
    else:
        del part[name]
    torch.save(part, path)
    return str(name).removeprefix("module.")


def test_every_value_is_that_of_the_files(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Motion modules from the parts, the image network from the base but for what the parts have of it."""
    with caplog.at_level(logging.INFO):
        state = load(files, files / "parts").state_dict()
    expected = tiny.unet().state_dict()
    assert set(state) == set(expected)
    for name, tensor in expected.items():
        torch.testing.assert_close(state[name], tensor, rtol=0, atol=0)
    overwritten = sum(name.startswith(tiny.FINE_TUNED) for name in expected)
    assert f"840 tensors of motion modules; {overwritten} of 686 of the image network overwritten" in caplog.text


def test_the_networks_keep_their_precision(files: Path) -> None:
    networks = load_pictures(files / "base", parts.paths(str(files / "parts")), "bfloat16")
    assert {p.dtype for network in (networks.unet, networks.vae) for p in network.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("number", range(4))
def test_a_part_that_is_missing_is_named(files: Path, own: Path, number: int) -> None:
    (own / f"model_{number}.pth").unlink()
    with pytest.raises(ConfigError, match=f"model_{number}.pth: is missing") as raised:
        load(files, own)
    assert "github.com/zibojia/COCOCO" in str(raised.value)
    assert sum(f"model_{other}.pth: is missing" in str(raised.value) for other in range(4)) == 1


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"there is no folder .*nowhere; weights are a folder with model_0\.pth to model_3\.pth, empty"):
        parts.paths(str(tmp_path / "nowhere"))
    with pytest.raises(ConfigError, match=r"random-<seed>"):
        parts.paths("random-one")


@pytest.mark.parametrize("kept", [0, 1000, -100])
def test_a_part_that_is_cut_off_is_named_before_anything_is_loaded(own: Path, kept: int) -> None:
    path = own / "model_2.pth"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ConfigError, match=r"model_2\.pth: cut off or damaged"):
        parts.paths(str(own))


def test_a_part_that_cannot_be_read_is_named(files: Path, own: Path) -> None:
    (own / "model_1.pth").write_bytes(b"<html>sign in to your account</html>")
    with pytest.raises(ConfigError, match=r"model_1\.pth: cannot be read as tensors by name.*get it again"):
        load(files, own)


def test_nothing_that_a_part_contains_is_run(files: Path, own: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "sprung",))

    torch.save({"module.x": Trap()}, own / "model_0.pth")
    with pytest.raises(ConfigError, match=r"model_0\.pth: cannot be read"):
        load(files, own)
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("content", [[1, 2], {"step": 3}, {7: torch.ones(1)}], ids=["list", "number", "no name"])
def test_a_part_without_tensors_by_name_is_refused(files: Path, own: Path, content: Any) -> None:
    torch.save(content, own / "model_0.pth")
    with pytest.raises(ConfigError, match=r"model_0\.pth: holds no tensors by name"):
        load(files, own)


def test_weights_of_another_network_are_refused(files: Path, own: Path) -> None:
    torch.save({"module.blocks.0.weight": torch.ones(3), "module.conv_in.weight": torch.ones(3)}, own / "model_3.pth")
    with pytest.raises(ConfigError, match=r"model_3\.pth: holds 1 tensors that the network does not have, the first is blocks\.0\.weight"):
        load(files, own)


def test_a_tensor_of_another_shape_is_refused(files: Path, own: Path) -> None:
    name = change(own / "model_1.pth", tensor=torch.ones(5, 6))
    with pytest.raises(ConfigError, match=rf"model_1\.pth: {name} is 5x6, in the network "):
        load(files, own)


def test_a_tensor_that_no_part_has_is_named(files: Path, own: Path) -> None:
    name = change(own / "model_1.pth")
    with pytest.raises(ConfigError, match=rf"the 4 parts lack 1 of 840 tensors of the motion modules, the first is {name}"):
        load(files, own)


def test_a_tensor_that_two_parts_have_is_told(files: Path, own: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, last = torch.load(own / "model_0.pth"), torch.load(own / "model_3.pth")
    name = next(name for name in first if MOTION in name and not name.endswith(".pe"))
    torch.save({**last, name: first[name] + 1}, own / "model_3.pth")
    state = load(files, own).state_dict()
    assert "has 1 tensors that a part before has too" in caplog.text
    torch.testing.assert_close(state[name.removeprefix("module.")], first[name] + 1)


def test_a_base_that_is_no_inpainting_network_is_refused(files: Path, tmp_path: Path) -> None:
    from diffusers import UNet2DConditionModel

    base = Path(shutil.copytree(files / "base", tmp_path / "base"))
    UNet2DConditionModel(**{**tiny.UNET, "in_channels": 4}).save_pretrained(base / "unet")
    with pytest.raises(ConfigError, match=r"unet/config\.json: in_channels is 4, expected 9: checkpoint must be the inpainting variant"):
        load_pictures(base, parts.paths(str(files / "parts")), "float32")


def test_hashes_are_those_of_the_files(files: Path, own: Path) -> None:
    def model(folder: Path) -> Cococo:
        return Cococo(str(folder), str(files / "base"))

    first = model(files / "parts").fingerprints()
    assert set(first["weights"]) == set(parts.NAMES)
    assert model(own).fingerprints() == first
    change(own / "model_0.pth", tensor=torch.ones(1))
    second = model(own).fingerprints()
    assert second["weights"]["model_0.pth"] != first["weights"]["model_0.pth"]
    assert second["checkpoint"] == first["checkpoint"]


def test_check_says_what_is_missing_with_licence_and_place(
    files: Path, own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HF_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.delenv("VPBENCH_WEIGHTS", raising=False)
    assert main(["check", "model=cococo"]) == 1
    said = capsys.readouterr().out
    assert "model.checkpoint=benjamin-paine/stable-diffusion-v1-5-inpainting  (about 5.4 GB, CreativeML Open RAIL-M)" in said
    assert "missing  COCOCO's model_0.pth  (about 1.50 GB, none stated)" in said
    assert said.splitlines()[-1] == "check: MISSING  5 of 6 things that cococo needs"
    (own / "model_1.pth").unlink()
    options = [f"model.weights={own}", f"model.checkpoint={files / 'base'}"]
    assert main(["check", "model=cococo", *options]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "check: MISSING  1 of 6 things that cococo needs"
    options[0] = f"model.weights={files / 'parts'}"
    assert main(["check", "model=cococo", *options]) == 0
    assert main(["check", "model=cococo", "model.weights=random-0"]) == 0
    capsys.readouterr()


def test_parts_that_the_user_trusts_are_found(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No sha256 is published, so the user vouches for each; then the model needs no folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("VPBENCH_WEIGHTS", raising=False)
    weights.forget()
    for number, name in enumerate(parts.NAMES):
        assert main(["weights", "add", str(files / "parts" / name), "--network", f"cococo-{number}", "--trust"]) == 0
    capsys.readouterr()
    found = Cococo(checkpoint=str(files / "base")).fingerprints()
    assert found == Cococo(str(files / "parts"), str(files / "base")).fingerprints()
    weights.forget()
