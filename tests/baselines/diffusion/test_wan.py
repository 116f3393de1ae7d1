"""Wan 2.1 image-to-video as a backbone: diffusers' own pipeline without blending, and a rectified flow in every part of the seam."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import UniPCMultistepScheduler, WanImageToVideoPipeline
from PIL import Image
from safetensors.torch import save_file

from tests.baselines.diffusion.tiny_images import same_pictures
from tests.baselines.diffusion.tiny_wan import wan_image_to_video, wan_vace
from tests.toy import toy_clip
from vpbench.baselines.diffusion.backbones import clip_seed
from vpbench.baselines.diffusion.image_inpainters import TeleaImage
from vpbench.baselines.diffusion.latent_blend import LatentBlend
from vpbench.baselines.diffusion.pictures import to_pixels
from vpbench.baselines.diffusion.wan import WanImageToVideo
from vpbench.cli import main
from vpbench.clip import MaskedClip
from vpbench.errors import ConfigError

H, W = 32, 48


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return wan_image_to_video(tmp_path_factory.mktemp("wan_i2v"))


def backbone(checkpoint: Path, **options: Any) -> WanImageToVideo:
    settings: dict[str, Any] = {"height": H, "width": W, "window": 9, "steps": 3, "precision": "float32", "device": "cpu", **options}
    return WanImageToVideo(str(checkpoint), **settings)


def clip(frames: int = 9) -> MaskedClip:
    return MaskedClip.of(toy_clip("a", frames, H, W))


def by_hand(checkpoint: Path, image: Any, caption: str, **options: Any) -> Any:
    pipeline = WanImageToVideoPipeline.from_pretrained(checkpoint)
    pipeline.scheduler = UniPCMultistepScheduler.from_config(pipeline.scheduler.config, flow_shift=3.0)
    made = pipeline(
        image=Image.fromarray(image),
        prompt=caption,
        height=H,
        width=W,
        num_frames=9,
        num_inference_steps=3,
        output_type="np",
        **{"negative_prompt": "", "guidance_scale": 5.0, "generator": torch.Generator().manual_seed(clip_seed(3, "a")), **options},
    ).frames[0]
    return np.rint(made * 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ({}, {}),
        ({"negative_prompt": "blur"}, {"negative_prompt": "blur"}),
        ({"guidance": 1.0}, {"guidance_scale": 1.0}),
    ],
    ids=["default", "negative-prompt", "no-guidance"],
)
def test_without_blending_a_window_equals_the_pipeline(checkpoint: Path, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    blind = clip()
    model = LatentBlend(backbone(checkpoint, **ours), blend=False)
    same_pictures(model(blind, seed=3), by_hand(checkpoint, blind.frames[0], blind.caption, **theirs))


def test_blending_keeps_the_known_and_only_that(checkpoint: Path) -> None:
    """In the end the known latents are those of the known video, whatever the network made."""
    blind = clip()
    model = LatentBlend(backbone(checkpoint), TeleaImage(), mask_rule="any")
    seen: list[Any] = list(blind.frames)
    seen[0] = TeleaImage()(blind.frames[0], blind.masks[0], "", seed=0, name="a")
    expected = model.backbone.encode(to_pixels(seen, H, W), torch.Generator())[0]
    plain = LatentBlend(backbone(checkpoint), TeleaImage(), blend=False)
    captured: dict[str, Any] = {}
    for name, one in (("blended", model), ("plain", plain)):
        decode = one.backbone.decode

        def kept(latents: Any, name: str = name, decode: Any = decode) -> Any:
            captured[name] = latents.clone()
            return decode(latents)

        one.backbone.decode = kept  # type: ignore[method-assign]
        one(blind, seed=0)
    known = ~torch.nn.functional.max_pool2d(torch.from_numpy(blind.masks[:1]).float()[None], 8)[0, 0].bool()  # the hole stands still
    hole = ~known
    torch.testing.assert_close(captured["blended"][0, 0], expected[0])  # the first frame is known as a whole
    for latent in (1, 2):
        torch.testing.assert_close(captured["blended"][0, latent][:, known], expected[latent][:, known])
        assert (captured["blended"][0, latent][:, hole] - expected[latent][:, hole]).abs().max() > 0.1
        assert (captured["plain"][0, latent][:, known] - expected[latent][:, known]).abs().max() > 0.1


def test_encoding_and_decoding_are_the_pipelines(checkpoint: Path) -> None:
    model = backbone(checkpoint)
    pixels = to_pixels(clip().frames, H, W)
    latents = model.encode(pixels, torch.Generator())
    assert latents.shape == model.geometry.latents == (1, 3, 16, 4, 6)
    vae = WanImageToVideoPipeline.from_pretrained(checkpoint).vae
    mean, deviation = (torch.tensor(values).view(1, -1, 1, 1, 1) for values in (vae.config.latents_mean, vae.config.latents_std))
    with torch.no_grad():
        expected = ((vae.encode(pixels).latent_dist.mode() - mean) / deviation).permute(0, 2, 1, 3, 4)
        torch.testing.assert_close(latents, expected)
        decoded = vae.decode(expected.permute(0, 2, 1, 3, 4) * deviation + mean).sample
    torch.testing.assert_close(model.decode(latents), decoded)
    assert model.decode(latents[:, :2]).shape == (1, 3, 5, H, W)


def test_noise_is_mixed_in_as_the_scheduler_does(checkpoint: Path) -> None:
    model = backbone(checkpoint)
    image = model.image(to_pixels(clip().frames[:1], H, W), None, torch.Generator())
    denoiser = model.denoiser(model.embed("a cat"), image, torch.empty(0), torch.empty(0), torch.Generator())
    clean, noise = torch.randn(model.geometry.latents), torch.randn(model.geometry.latents)
    for index in range(denoiser.steps):
        expected = model.scheduler().add_noise(clean, noise, denoiser.solver.timesteps[index : index + 1])
        torch.testing.assert_close(denoiser.add_noise(clean, noise, index), expected)
    torch.testing.assert_close(denoiser.add_noise(clean, noise, denoiser.steps), clean)  # behind the last step: no noise


def test_text_embeddings_are_the_pipelines_and_padded_with_zeros(checkpoint: Path) -> None:
    pipeline = WanImageToVideoPipeline.from_pretrained(checkpoint)
    caption, negative = pipeline.encode_prompt("a red cat", "blur", max_sequence_length=512)
    embedded = backbone(checkpoint, negative_prompt="blur").embed("a red cat")
    torch.testing.assert_close(embedded, torch.cat([negative, caption]))
    assert not embedded[1, 20:].any()


def test_a_later_window_starts_from_what_the_one_before_ended_with(checkpoint: Path) -> None:
    model = backbone(checkpoint)
    latents = torch.randn(model.geometry.latents, generator=torch.Generator().manual_seed(0))
    found = model.image(None, latents, torch.Generator())
    expected = model.image(model.decode(latents)[:, :, -1:], None, torch.Generator())
    torch.testing.assert_close(found.condition, expected.condition)
    torch.testing.assert_close(found.embedding, expected.embedding)


@pytest.mark.parametrize("frames", [4, 9, 10, 20])
def test_clips_of_any_length_and_size(checkpoint: Path, frames: int) -> None:
    blind = MaskedClip.of(toy_clip("a", frames, 45, 70))
    made = LatentBlend(backbone(checkpoint, steps=1), TeleaImage())(blind, seed=0)
    assert made.shape == (frames, 45, 70, 3)
    assert all(frame.std() > 0 for frame in made)


def test_released_networks_come_back(checkpoint: Path) -> None:
    model = LatentBlend(backbone(checkpoint, steps=1), TeleaImage())
    first = model(clip(), seed=0)
    model.release()
    np.testing.assert_array_equal(model(clip(), seed=0), first)


def test_a_lora_and_every_setting_are_part_of_the_fingerprint(checkpoint: Path, tmp_path: Path) -> None:
    layer = "transformer.blocks.0.attn1.to_q"
    file = tmp_path / "lora.safetensors"
    save_file({f"{layer}.lora_A.weight": torch.ones(2, 24), f"{layer}.lora_B.weight": torch.ones(24, 2)}, file)
    changes: list[dict[str, Any]] = [{"loras": [{"path": str(file)}]}, {"steps": 4}, {"guidance": 2.0}, {"flow_shift": 5.0}, {"window": 13}]
    found = [json.dumps(backbone(checkpoint, **change).fingerprints(), sort_keys=True) for change in [{}, *changes, {"device": "cpu"}]]
    assert len(set(found)) == len(changes) + 1
    assert found[0] == found[-1]
    plain = LatentBlend(backbone(checkpoint))(clip(), seed=0)
    assert (LatentBlend(backbone(checkpoint, loras=[{"path": str(file)}]))(clip(), seed=0) != plain).any()


def test_a_run_from_the_command_line(checkpoint: Path, tmp_path: Path) -> None:
    options = [
        *("run", "model=latent_blend", "model/backbone=wan", "model/image_inpainter=telea", f"model.backbone.checkpoint={checkpoint}"),
        *("model.backbone.steps=1", "model.backbone.precision=float32", f"model.backbone.height={H}", f"model.backbone.width={W}"),
        *("model.backbone.window=9", "benchmark=demo", "limit=1", "protocol=pixels", f"out={tmp_path / 'runs'}"),
    ]
    assert main(options) == 0
    (folder,) = (tmp_path / "runs").glob("*/latent_blend-*")
    (record,) = [json.loads(path.read_text()) for path in (folder / "clips").glob("*.json")]
    assert record["status"] == "ok"
    assert json.loads((folder / "run.json").read_text())["identity"]["model"]["weights"]["backbone"]["backbone"] == "WanImageToVideo 1"


def changed(folder: Path, file: str, **values: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_other_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a WanVACEPipeline, expected a WanImageToVideoPipeline"):
        _ = backbone(wan_vace(tmp_path / "vace")).geometry
    folder = wan_image_to_video(tmp_path / "wan")
    changed(folder, "model_index.json", boundary_ratio=0.9)
    with pytest.raises(ConfigError, match=r"Wan 2\.2"):
        _ = backbone(folder).geometry
    changed(folder, "model_index.json", boundary_ratio=None)
    changed(folder, "transformer/config.json", in_channels=16)
    with pytest.raises(ConfigError, match="in_channels=16"):
        _ = backbone(folder).geometry


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"height": 40}, "both must be multiples of 16, such as 32 and 48"),
        ({"steps": 0}, "steps=0"),
        ({"precision": "bf16"}, "precision: 'bf16' is unknown"),
        ({"loras": [{"file": "x"}]}, r"model\.loras\[0\]"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_are_refused(checkpoint: Path, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        _ = backbone(checkpoint, **options).geometry
