"""The context encoder's file: names and shapes at full size, and files that are not its own."""

import json

import pytest

from tests.baselines.diffusion import tiny
from vpbench.errors import ConfigError

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from safetensors.torch import load_file, save_file  # noqa: E402

from vpbench.baselines.diffusion.branch import UNUSED, ContextEncoder, check_tensors, load_context_encoder  # noqa: E402
from vpbench.baselines.diffusion.denoiser import rotary  # noqa: E402

NAME = "diffusion_pytorch_model.safetensors"


def test_the_released_file_at_full_size_fits_by_name_and_shape(tmp_path):
    shapes = tiny.branch_shapes(tiny.FULL_BRANCH)
    assert len(shapes) == 71
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == pytest.approx(356.2e6, rel=1e-3)
    with torch.device("meta"):
        encoder = ContextEncoder(tiny.FULL_BRANCH)
        stored = {name: torch.empty(shape) for name, shape in shapes.items() if not name.startswith(UNUSED)}
    check_tensors(tmp_path, {name: tensor.shape for name, tensor in stored.items()}, encoder)
    result = encoder.load_state_dict(stored, strict=True, assign=True)
    assert (result.missing_keys, result.unexpected_keys) == ([], [])


def test_full_size_runs_on_the_meta_device():
    with torch.device("meta"):
        encoder = ContextEncoder(tiny.FULL_BRANCH).to(torch.bfloat16)
        latents, condition = torch.empty(2, 13, 16, 60, 90, dtype=torch.bfloat16), torch.empty(2, 13, 17, 60, 90, dtype=torch.bfloat16)
        text, time = torch.empty(2, 226, 4096, dtype=torch.bfloat16), torch.full((2,), 999)
        rope = (torch.empty(17550, 64), torch.empty(17550, 64))
        with torch.inference_mode():
            features = encoder(latents, condition, text, time, rope)
    assert [tuple(feature.shape) for feature in features] == [(2, 17550, 3072)] * 2


def test_rotary_positions_at_full_size_are_whole_numbers():
    class Transformer:
        class config:  # noqa: N801 - as in diffusers
            patch_size, attention_head_dim = 2, 64

    cosines, sines = rotary(Transformer, 13, 60, 90, "cpu")
    assert cosines.shape == sines.shape == (17550, 64)
    # axes have 16, 24 and 24 numbers; the first pair of each turns by one radian per position
    token = (5 * 30 + 7) * 45 + 11
    assert torch.allclose(cosines[token, [0, 16, 40]], torch.tensor([5.0, 7.0, 11.0]).cos(), atol=1e-5)


def test_loaded_in_the_precision_that_is_asked_for(checkpoints):
    encoder = load_context_encoder(checkpoints / "branch", torch.bfloat16)
    assert {tensor.dtype for tensor in encoder.state_dict().values()} == {torch.bfloat16}
    assert not any(parameter.requires_grad for parameter in encoder.parameters())


def test_shards_are_read_together(checkpoints, tmp_path):
    tensors = load_file(checkpoints / "branch" / NAME)
    names = sorted(tensors)
    (tmp_path / "config.json").write_text((checkpoints / "branch" / "config.json").read_text())
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: tensors[name] for name in part}, tmp_path / f"part-{number}.safetensors")
    weight_map = {name: f"part-{number}.safetensors" for number, part in enumerate((names[::2], names[1::2])) for name in part}
    (tmp_path / f"{NAME}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    loaded, whole = load_context_encoder(tmp_path).state_dict(), load_context_encoder(checkpoints / "branch").state_dict()
    assert all(torch.equal(loaded[name], whole[name]) for name in whole)


def without(tensors, name):
    return {key: tensor for key, tensor in tensors.items() if key != name}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: without(t, "branch_blocks.1.bias"), "1 tensors missing, the first is branch_blocks.1.bias"),
        (lambda t: {**t, "extra.weight": torch.zeros(1)}, "1 tensors unexpected, the first is extra.weight"),
        (lambda t: {**t, "branch_blocks.0.weight": torch.zeros(3, 3)}, r"branch_blocks.0.weight is \(3, 3\), expected \(32, 32\)"),
    ],
)
def test_a_file_that_is_not_whole_is_refused_by_name(checkpoints, tmp_path, change, message):
    (tmp_path / "config.json").write_text((checkpoints / "branch" / "config.json").read_text())
    save_file(change(load_file(checkpoints / "branch" / NAME)), tmp_path / NAME)
    with pytest.raises(ConfigError, match=message):
        load_context_encoder(tmp_path)
