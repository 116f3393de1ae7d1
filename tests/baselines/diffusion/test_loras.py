"""LoRAs fused into weights equal diffusers with peft, add up, and are refused by name when they belong elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import CogVideoXImageToVideoPipeline, CogVideoXTransformer3DModel
from safetensors.torch import save_file

from vpbench.baselines.diffusion.loras import Lora, fuse, lora_fingerprints, lora_needs, read_loras
from vpbench.errors import ConfigError

LAYERS = [f"transformer_blocks.{block}.attn1.{name}" for block in range(2) for name in ("to_q", "to_k", "to_v", "to_out.0")]
WIDTH, RANK = 32, 4


def transformer(dtype: torch.dtype = torch.float32) -> CogVideoXTransformer3DModel:
    torch.manual_seed(0)
    return CogVideoXTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=16,
        in_channels=4,
        out_channels=4,
        time_embed_dim=8,
        text_embed_dim=16,
        num_layers=2,
        sample_width=8,
        sample_height=8,
        sample_frames=9,
        max_text_seq_length=6,
        use_rotary_positional_embeddings=False,
    ).to(dtype)


def output(network: torch.nn.Module) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    latents, text = torch.randn((1, 3, 4, 8, 8), generator=generator), torch.randn((1, 6, 16), generator=generator)
    with torch.no_grad():
        found: torch.Tensor = network(latents, text, torch.tensor([500]), return_dict=False)[0]
    return found


def matrices(seed: int = 0, rank: int = RANK, width: int = WIDTH, prefix: str = "transformer.") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    found = {}
    for layer in LAYERS:
        found[f"{prefix}{layer}.lora_A.weight"] = torch.randn((rank, width), generator=generator) / 4
        found[f"{prefix}{layer}.lora_B.weight"] = torch.randn((width, rank), generator=generator) / 4
    return found


def written(path: Path, tensors: dict[str, torch.Tensor], **adapter: Any) -> Lora:
    said = {"lora_adapter_metadata": json.dumps({f"transformer.{key}": value for key, value in adapter.items()})} if adapter else {}
    save_file(tensors, path, metadata={"format": "pt", **said})
    return Lora(str(path))


@pytest.mark.parametrize("scale", [1.0, 0.3, -0.5])
def test_a_fused_lora_equals_peft(scale: float, tmp_path: Path) -> None:
    lora = written(tmp_path / "one.safetensors", matrices())
    loaded = transformer()
    CogVideoXImageToVideoPipeline.load_lora_into_transformer(matrices(), loaded, adapter_name="one")
    loaded.set_adapters("one", scale)
    fused = transformer()
    assert fuse(fused, [Lora(lora.path, scale)]) == len(LAYERS)
    torch.testing.assert_close(output(fused), output(loaded), rtol=1e-4, atol=1e-5)
    assert (output(fused) - output(transformer())).abs().max() > 1e-2


@pytest.mark.parametrize("adapter", [{"lora_alpha": 2}, {"lora_alpha": 2, "alpha_pattern": {"attn1.to_k": 8}}], ids=["alpha", "pattern"])
def test_alpha_of_the_files_header_is_used(adapter: dict[str, Any], tmp_path: Path) -> None:
    lora = written(tmp_path / "one.safetensors", matrices(), **adapter)
    expected = transformer()
    for block in range(2):
        for name in ("to_q", "to_k", "to_v", "to_out.0"):
            layer = f"transformer_blocks.{block}.attn1.{name}"
            alpha = 8 if name == "to_k" and "alpha_pattern" in adapter else 2
            down, up = (matrices()[f"transformer.{layer}.lora_{which}.weight"] for which in "AB")
            expected.get_submodule(layer).weight.data += up @ down * alpha / RANK
    fused = transformer()
    fuse(fused, [lora])
    torch.testing.assert_close(output(fused), output(expected))


def test_an_alpha_beside_the_matrices_is_used(tmp_path: Path) -> None:
    with_alpha = {**matrices(), **{f"transformer.{layer}.alpha": torch.tensor(RANK / 2) for layer in LAYERS}}
    half, whole = transformer(), transformer()
    fuse(half, [written(tmp_path / "alpha.safetensors", with_alpha)])
    fuse(whole, [Lora(written(tmp_path / "plain.safetensors", matrices()).path, 0.5)])
    torch.testing.assert_close(output(half), output(whole))


def test_loras_add_up_and_are_rounded_once(tmp_path: Path) -> None:
    first, second = (written(tmp_path / f"{seed}.safetensors", matrices(seed)) for seed in (0, 1))
    network = transformer(torch.bfloat16)
    before = {layer: network.get_submodule(layer).weight.float().clone() for layer in LAYERS}
    fuse(network, [first, Lora(second.path, 0.5)])
    for layer in LAYERS:
        change = sum(
            scale * matrices(seed)[f"transformer.{layer}.lora_B.weight"] @ matrices(seed)[f"transformer.{layer}.lora_A.weight"]
            for seed, scale in ((0, 1.0), (1, 0.5))
        )
        weight = network.get_submodule(layer).weight
        assert weight.dtype == torch.bfloat16
        torch.testing.assert_close(weight, (before[layer] + change).bfloat16(), rtol=0, atol=0)


def test_a_prefix_is_not_needed(tmp_path: Path) -> None:
    one, other = transformer(), transformer()
    fuse(one, [written(tmp_path / "with.safetensors", matrices())])
    fuse(other, [written(tmp_path / "without.safetensors", matrices(prefix=""))])
    torch.testing.assert_close(output(one), output(other), rtol=0, atol=0)


def without(tensors: dict[str, torch.Tensor], part: str) -> dict[str, torch.Tensor]:
    dropped = next(name for name in tensors if part in name)
    return {name: tensor for name, tensor in tensors.items() if name != dropped}


@pytest.mark.parametrize(
    ("tensors", "rank", "said"),
    [
        pytest.param(matrices(rank=8), 4, "attn1.to_. has rank 8, expected 4", id="rank"),
        pytest.param({**matrices(), f"transformer.{LAYERS[0]}.lora_B.weight": torch.ones(WIDTH, 3)}, None, "no common rank", id="pair"),
        pytest.param(matrices(width=64), None, "for a layer of 64x64, this network's is 32x32", id="width"),
        pytest.param(without(matrices(), "lora_B"), None, "lora_A without lora_B", id="no-B"),
        pytest.param(without(matrices(), "lora_A"), None, "lora_B without lora_A", id="no-A"),
        pytest.param({"diffusion_model.blocks.0.self_attn.q.lora_A.weight": torch.ones(4, 32)}, None, "1 keys are not LoRA", id="names"),
        pytest.param({f"transformer.{LAYERS[0]}.weight": torch.ones(4, 32)}, None, "1 keys are not LoRA", id="no-lora"),
        pytest.param({}, None, "holds no LoRA matrices", id="empty"),
    ],
)
def test_a_lora_that_does_not_fit_is_named_and_changes_nothing(
    tensors: dict[str, torch.Tensor], rank: int | None, said: str, tmp_path: Path
) -> None:
    good = written(tmp_path / "good.safetensors", matrices())
    bad = written(tmp_path / "bad.safetensors", tensors)
    network = transformer()
    with pytest.raises(ConfigError, match=said) as raised:
        fuse(network, [good, bad], rank=rank)
    assert bad.path in str(raised.value)
    torch.testing.assert_close(output(network), output(transformer()), rtol=0, atol=0)


def test_a_missing_file_is_named_with_its_key(tmp_path: Path) -> None:
    good = written(tmp_path / "good.safetensors", matrices())
    loras = read_loras([{"path": good.path}, {"path": str(tmp_path / "nowhere.safetensors"), "scale": 0.5}])
    assert [need.met for need in lora_needs(loras)] == [True, False]
    with pytest.raises(ConfigError, match=r"model\.loras\[1\]\.path=.*nowhere"):
        fuse(transformer(), loras)
    with pytest.raises(ConfigError, match=r"model\.loras\[1\]\.path"):
        lora_fingerprints(loras)


def test_a_fingerprint_follows_file_and_scale(tmp_path: Path) -> None:
    first = written(tmp_path / "one.safetensors", matrices())
    assert lora_fingerprints([first]) == lora_fingerprints([written(tmp_path / "copy.safetensors", matrices())])
    assert lora_fingerprints([first]) != lora_fingerprints([Lora(first.path, 0.5)])
    assert lora_fingerprints([first]) != lora_fingerprints([written(tmp_path / "other.safetensors", matrices(1))])


@pytest.mark.parametrize(
    "entry", ["file", {}, {"path": ""}, {"path": "a", "scale": "b"}, {"path": "a", "weight": 1}, {"path": "a", "scale": True}]
)
def test_an_entry_that_is_none_is_refused(entry: Any) -> None:
    with pytest.raises(ConfigError, match=r"model\.loras\[1\]"):
        read_loras([{"path": "good", "scale": 1}, entry])
