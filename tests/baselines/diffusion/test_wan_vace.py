"""Wan-VACE against calling diffusers' pipeline by hand on the same tiny checkpoint, and what it promises beside that."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLWan, UniPCMultistepScheduler, WanVACEPipeline
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file

from tests.baselines.diffusion.tiny_images import same_pictures
from tests.baselines.diffusion.tiny_wan import wan_vace
from tests.toy import toy_clip
from vpbench.baselines.diffusion.backbones import clip_seed
from vpbench.baselines.diffusion.wan_vace import WanVace, chunks, packed_length, prepared
from vpbench.cli import main
from vpbench.clip import Clip, MaskedClip
from vpbench.errors import ConfigError, DataError, ModelError

SIZE = {"height": 32, "width": 48}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wan_vace(tmp_path_factory.mktemp("wan_vace"))


def model(checkpoint: Path, **options: Any) -> WanVace:
    settings: dict[str, Any] = {"window": 9, "overlap": 1, "steps": 2, "precision": "float32", "device": "cpu", **SIZE, **options}
    return WanVace(str(checkpoint), **settings)


def clip(frames: int = 9, height: int = 32, width: int = 48, name: str = "a") -> Clip:
    return toy_clip(name, frames, height, width)


def by_hand(checkpoint: Path, frames: Any, masks: Any, caption: str, generator: torch.Generator, **options: Any) -> Any:
    pipeline = WanVACEPipeline.from_pretrained(checkpoint)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=3.0)
    made = pipeline(
        prompt=caption,
        video=[Image.fromarray(np.where(mask[..., None], np.uint8(128), frame)) for frame, mask in zip(frames, masks, strict=True)],
        mask=[Image.fromarray(mask.astype(np.uint8) * 255) for mask in masks],
        num_frames=len(frames),
        num_inference_steps=2,
        generator=generator,
        output_type="np",
        **{"guidance_scale": 5.0, "negative_prompt": "", **SIZE, **options},
    ).frames[0]
    return np.rint(made * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"negative_prompt": "blur"}, {"negative_prompt": "blur"}),
        ({"guidance": 1.0}, {"guidance_scale": 1.0}),
        ({"conditioning": 0.5}, {"conditioning_scale": 0.5}),
    ],
    ids=["default", "negative-prompt", "no-guidance", "conditioning"],
)
def test_equals_the_pipeline_called_by_hand(checkpoint: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    given_clip = clip()
    expected = by_hand(
        checkpoint, given_clip.frames, given_clip.masks, given_clip.caption, torch.Generator().manual_seed(clip_seed(3, "a")), **theirs
    )
    same_pictures(model(checkpoint, **ours)(MaskedClip.of(given_clip), seed=3), expected)


def test_two_windows_equal_two_calls_by_hand(checkpoint: Path) -> None:
    """The second window takes the end of the first as known: its own pixels in the hole, the clip's outside."""
    given_clip = clip(13)
    frames, masks = given_clip.frames, given_clip.masks
    generator = torch.Generator().manual_seed(clip_seed(3, "a"))
    first = by_hand(checkpoint, frames[:9], masks[:9], given_clip.caption, generator)
    window, holes = frames[4:].copy(), masks[4:].copy()
    window[:5] = np.where(masks[4:9, ..., None], first[4:], frames[4:9])
    holes[:5] = False
    second = by_hand(checkpoint, window, holes, given_clip.caption, generator)
    made = model(checkpoint)(MaskedClip.of(given_clip), seed=3)
    same_pictures(made[:9], first)
    same_pictures(made[9:], second[5:])


@pytest.mark.parametrize("frames", [1, 2, 5, 8, 9, 10, 17, 22])
def test_a_clip_of_any_length_is_covered(checkpoint: Path, frames: int) -> None:
    made = model(checkpoint, steps=1)(MaskedClip.of(clip(frames)), seed=0)
    assert made.shape == (frames, 32, 48, 3)
    assert all(frame.std() > 0 for frame in made)


@pytest.mark.parametrize("frames", [9, 12])
@pytest.mark.parametrize("size", [(32, 48), (45, 70)], ids=["as-is", "resized"])
def test_no_pixel_of_the_hole_reaches_the_pipeline(
    checkpoint: Path, frames: int, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hole holds does not change the result, and what enters the pipeline under the mask is grey, in every window."""
    entered: list[tuple[Any, Any]] = []
    call = WanVACEPipeline.__call__

    def watched(self: Any, **kwargs: Any) -> Any:
        entered.append((np.stack([np.asarray(f) for f in kwargs["video"]]), np.stack([np.asarray(m) for m in kwargs["mask"]])))
        return call(self, **kwargs)

    monkeypatch.setattr(WanVACEPipeline, "__call__", watched)
    given_clip = clip(frames, *size)
    blind = MaskedClip.of(given_clip)
    peeking = replace(blind, frames=given_clip.frames)
    inverted = replace(blind, frames=np.where(given_clip.masks[..., None], 255 - given_clip.frames, given_clip.frames))
    vace = model(checkpoint, steps=1)
    results = [vace(one, seed=0) for one in (blind, peeking, inverted)]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])
    for video, mask in entered:
        assert (mask > 0).any()
        assert (video[mask > 0] == 128).all()


@given(st.integers(8, 40), st.integers(8, 40), st.integers(8, 40), st.integers(8, 40), st.integers(0, 2**16))
def test_a_resized_hole_covers_every_pixel_it_had(height: int, width: int, new_height: int, new_width: int, seed: int) -> None:
    masks = np.random.default_rng(seed).random((1, height, width)) < 0.02
    frames = np.zeros((1, height, width, 3), np.uint8)
    video, small = prepared(frames, masks, new_height, new_width)
    assert video.shape == (1, new_height, new_width, 3)
    assert (video[small] == 128).all()
    for y, x in np.argwhere(masks[0]):
        assert small[0, int((y + 0.5) * new_height / height), int((x + 0.5) * new_width / width)]


def test_the_result_has_the_clips_own_size(checkpoint: Path) -> None:
    made = model(checkpoint, steps=1)(MaskedClip.of(clip(5, 45, 70)), seed=0)
    assert made.shape == (5, 45, 70, 3)
    own = model(checkpoint, steps=1, height=None, width=None)(MaskedClip.of(clip(5, 45, 70)), seed=0)
    assert own.shape == (5, 45, 70, 3)
    assert (own != made).any()


def test_the_seed_follows_from_run_and_clip_alone(checkpoint: Path) -> None:
    vace = model(checkpoint, steps=1)
    one, other = MaskedClip.of(clip(5)), MaskedClip.of(clip(5, name="b"))
    first = vace(one, seed=0)
    vace(other, seed=0)
    np.testing.assert_array_equal(vace(one, seed=0), first)
    assert (vace(one, seed=1) != first).any()
    assert (vace(replace(one, name="c"), seed=0) != first).any()


def test_grown_holes_leave_less_known(checkpoint: Path) -> None:
    blind = MaskedClip.of(clip(5))
    assert (model(checkpoint, steps=1, dilate_px=9)(blind, seed=0) != model(checkpoint, steps=1)(blind, seed=0)).any()


def test_a_kept_text_embedding_needs_no_text_encoder(checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blind = MaskedClip.of(clip(5))
    first = model(checkpoint)
    first.keep_in(tmp_path)
    expected = first(blind, seed=0)
    monkeypatch.setattr(
        WanVACEPipeline, "encode_prompt", lambda *args, **kwargs: (kwargs["prompt_embeds"], kwargs["negative_prompt_embeds"])
    )
    second = model(checkpoint)
    second.keep_in(tmp_path)
    np.testing.assert_array_equal(second(blind, seed=0), expected)
    assert "_text_pipeline" not in vars(second)


def test_stages_are_recorded_and_released_networks_come_back(checkpoint: Path) -> None:
    vace = model(checkpoint)
    first = vace(MaskedClip.of(clip(12)), seed=0)
    assert list(vace.stages()) == ["text", "encode", "denoise", "decode"]
    assert all(stage["seconds"] > 0 and stage["peak_memory_bytes"] > 0 for stage in vace.stages().values())
    vace.release()
    np.testing.assert_array_equal(vace(MaskedClip.of(clip(12)), seed=0), first)


def test_out_of_memory_is_told_with_the_numbers_and_the_next_clip_is_made(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vace = model(checkpoint)
    expected = vace(MaskedClip.of(clip(5)), seed=0)

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.20 GiB. GPU 0")

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderKLWan, "decode", full)
        with pytest.raises(ModelError, match=r"b: out of memory on the device.*9\.20 GiB.*encode [\d.]+ GB.*offload=model"):
            vace(MaskedClip.of(clip(5, name="b")), seed=0)
    assert "_pipeline" not in vars(vace)
    np.testing.assert_array_equal(vace(MaskedClip.of(clip(5)), seed=0), expected)


def test_a_lora_changes_the_result_and_scale_zero_does_not(checkpoint: Path, tmp_path: Path) -> None:
    layer = "transformer.blocks.0.attn1.to_q"
    save_file({f"{layer}.lora_A.weight": torch.ones(2, 24), f"{layer}.lora_B.weight": torch.ones(24, 2)}, tmp_path / "lora.safetensors")
    blind = MaskedClip.of(clip(5))
    plain = model(checkpoint)(blind, seed=0)
    lora = str(tmp_path / "lora.safetensors")
    np.testing.assert_array_equal(model(checkpoint, loras=[{"path": lora, "scale": 0}])(blind, seed=0), plain)
    assert (model(checkpoint, loras=[{"path": lora}])(blind, seed=0) != plain).any()
    assert model(checkpoint, loras=[{"path": lora}]).fingerprints() != model(checkpoint).fingerprints()


def test_two_transformers_take_no_lora(tmp_path: Path) -> None:
    folder = wan_vace(tmp_path / "two", experts=2)
    made = model(folder)(MaskedClip.of(clip(5)), seed=0)
    assert made.shape == (5, 32, 48, 3)
    save_file({"transformer.a.lora_A.weight": torch.ones(2, 24)}, tmp_path / "lora.safetensors")
    with pytest.raises(ConfigError, match="two transformers"):
        model(folder, loras=[{"path": str(tmp_path / "lora.safetensors")}])(MaskedClip.of(clip(5)), seed=0)


def test_a_clip_without_a_caption_is_refused_or_gets_the_default(checkpoint: Path) -> None:
    silent = replace(MaskedClip.of(clip(5)), caption=" ")
    with pytest.raises(DataError, match=r"a: has no caption.*default_caption"):
        model(checkpoint)(silent, seed=0)
    made = model(checkpoint, default_caption="a red cat")(silent, seed=0)
    np.testing.assert_array_equal(made, model(checkpoint)(replace(silent, caption="a red cat"), seed=0))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"window": 10}, "window=10: a window has 4k \\+ 1 frames, such as 9"),
        ({"overlap": 3}, "overlap=3"),
        ({"overlap": 9}, "overlap=9"),
        ({"height": None}, "height and width: give both"),
        ({"steps": 0}, "steps=0"),
        ({"dilate_px": -1}, "dilate_px=-1"),
        ({"precision": "bf16"}, "precision: 'bf16' is unknown. Did you mean 'bfloat16'"),
        ({"offload": "disk"}, "offload: 'disk' is unknown"),
        ({"loras": ["file"]}, r"model\.loras\[0\]"),
        ({"height": 40}, "both must be multiples of 16, such as 32 and 48"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_are_refused(checkpoint: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        model(checkpoint, **options)(MaskedClip.of(clip(5)), seed=0)


@given(frames=st.integers(1, 200), k=st.integers(1, 20), j=st.integers(0, 19))
def test_windows_cover_a_clip_without_a_gap(frames: int, k: int, j: int) -> None:
    window, overlap = 4 * k + 1, 4 * min(j, k - 1) + 1
    found = chunks(frames, window, overlap)
    assert found[0][0] == 0
    assert found[-1][1] == frames
    for (_, stop), (start, end) in itertools.pairwise(found):
        assert stop - start >= overlap
        assert end > stop
    assert all(stop - start == min(window, frames) for start, stop in found)
    assert packed_length(min(window, frames)) <= window


def test_a_run_from_the_command_line(checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        *("run", "model=wan_vace", f"model.checkpoint={checkpoint}", "model.steps=1", "model.precision=float32"),
        *("model.height=32", "model.width=48", "model.window=9", "model.overlap=1", "benchmark=demo", "limit=1", "protocol=pixels"),
        f"out={tmp_path / 'runs'}",
    ]
    assert main(options) == 0
    (folder,) = (tmp_path / "runs").glob("*/wan_vace-*")
    (record,) = [json.loads(path.read_text()) for path in (folder / "clips").glob("*.json")]
    assert record["status"] == "ok"
    assert list(record["stages"]) == ["decode", "denoise", "encode", "text"]  # sorted as every file of a run
    assert (folder / "scores" / "pixels-raw" / "summary.json").exists()
    assert json.loads((folder / "run.json").read_text())["identity"]["model"]["weights"]["checkpoint"]
    assert "wan_vace" in capsys.readouterr().out


def test_a_run_without_its_checkpoint_stops_before_anything_is_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nowhere = tmp_path / "nowhere"
    assert main(["run", "model=wan_vace", f"model.checkpoint={nowhere}", "benchmark=demo", f"out={tmp_path / 'runs'}"]) == 2
    said = capsys.readouterr().out
    assert f"model.checkpoint={nowhere}" in said
    assert "hf download Wan-AI/Wan2.1-VACE-1.3B-diffusers" in said


def test_the_vae_is_the_published_one() -> None:
    """Frames per latent and pixels per latent, on which windows and sizes build."""
    vae = AutoencoderKLWan(base_dim=3, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True])
    assert vae.config.scale_factor_temporal == 4
    assert vae.config.scale_factor_spatial == 8
