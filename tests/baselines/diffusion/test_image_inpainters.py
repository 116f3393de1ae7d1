"""Image inpainters against calling diffusers by hand on the same tiny checkpoints, and what they promise beside that."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
import torch
from diffusers import FluxFillPipeline, StableDiffusionInpaintPipeline
from PIL import Image
from safetensors.torch import load_file, save_file

from tests.baselines.clips import photo
from tests.baselines.diffusion.tiny_images import flux_fill, same_pictures, stable_diffusion_2
from tests.toy import toy_clip
from vpbench.baselines.diffusion import image_inpainters, loading
from vpbench.baselines.diffusion.image_inpainters import FluxFill, FolderImage, StableDiffusion2, TeleaImage, first_frame
from vpbench.baselines.diffusion.stages import Kept
from vpbench.baselines.telea import Telea
from vpbench.clip import MaskedClip
from vpbench.errors import ConfigError, DataError

FRAME = photo(32, 48)
HOLE = np.zeros((32, 48), bool)
HOLE[8:20, 12:30] = True
CALL: dict[str, Any] = {"seed": 5, "name": "bear"}


@pytest.fixture(scope="module")
def flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return flux_fill(tmp_path_factory.mktemp("flux"))


@pytest.fixture(scope="module")
def sd2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stable_diffusion_2(tmp_path_factory.mktemp("sd2"))


def tiny(cls: Any, folder: Path, **options: Any) -> Any:
    return cls(str(folder), steps=3, precision="float32", device="cpu", **options)


def images() -> dict[str, Any]:
    blanked = np.where(HOLE[..., None], np.uint8(0), FRAME)
    return {"image": Image.fromarray(blanked), "mask_image": Image.fromarray(HOLE.astype(np.uint8) * 255), "height": 32, "width": 48}


def test_flux_equals_diffusers_by_hand(flux: Path) -> None:
    pipeline = FluxFillPipeline.from_pretrained(flux)
    expected = pipeline(
        prompt="a red cat",
        **images(),
        num_inference_steps=3,
        guidance_scale=30.0,
        max_sequence_length=64,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    made = tiny(FluxFill, flux, max_tokens=64)(FRAME, HOLE, "a red cat", **CALL)
    same_pictures(made, np.asarray(expected))


def test_official_flux_draws_the_noise_first(flux: Path) -> None:
    pipeline = FluxFillPipeline.from_pretrained(flux)
    generator = torch.Generator().manual_seed(5)
    noise = torch.randn((1, 4, 16, 24), generator=generator)
    packed = FluxFillPipeline._pack_latents(noise, 1, 4, 16, 24)
    expected = pipeline(
        prompt="a red cat",
        **images(),
        num_inference_steps=3,
        guidance_scale=30.0,
        max_sequence_length=64,
        generator=generator,
        latents=packed,
    ).images[0]
    made = tiny(FluxFill, flux, max_tokens=64, compat="official")(FRAME, HOLE, "a red cat", **CALL)
    same_pictures(made, np.asarray(expected))
    assert (made != tiny(FluxFill, flux, max_tokens=64)(FRAME, HOLE, "a red cat", **CALL)).any()


def test_stable_diffusion_equals_diffusers_by_hand(sd2: Path) -> None:
    pipeline = StableDiffusionInpaintPipeline.from_pretrained(sd2, safety_checker=None)
    expected = pipeline(
        prompt="a red cat",
        negative_prompt="blur",
        **images(),
        num_inference_steps=3,
        guidance_scale=7.5,
        generator=torch.Generator().manual_seed(5),
    ).images[0]
    made = tiny(StableDiffusion2, sd2, negative_prompt="blur")(FRAME, HOLE, "a red cat", **CALL)
    same_pictures(made, np.asarray(expected))


@pytest.mark.parametrize("cls", [FluxFill, StableDiffusion2])
def test_any_size_comes_back_in_its_own(cls: Any, flux: Path, sd2: Path) -> None:
    inpainter = tiny(cls, flux if cls is FluxFill else sd2)
    made = inpainter(photo(37, 51), np.ones((37, 51), bool), "", **CALL)
    assert made.shape == (37, 51, 3)
    assert made.dtype == np.uint8
    with pytest.raises(ConfigError, match="bear: 48x1 is smaller than one patch"):
        inpainter(FRAME[:1], HOLE[:1], "", **CALL)


@pytest.mark.parametrize("cls", [FluxFill, StableDiffusion2, TeleaImage])
def test_what_the_hole_holds_has_no_influence(cls: Any, flux: Path, sd2: Path) -> None:
    inpainter = TeleaImage() if cls is TeleaImage else tiny(cls, flux if cls is FluxFill else sd2)
    other = FRAME.copy()
    other[HOLE] = 255 - other[HOLE]
    np.testing.assert_array_equal(inpainter(FRAME, HOLE, "a cat", **CALL), inpainter(other, HOLE, "a cat", **CALL))


def test_seed_and_prompt_decide(sd2: Path) -> None:
    inpainter = tiny(StableDiffusion2, sd2)
    first = inpainter(FRAME, HOLE, "a cat", **CALL)
    np.testing.assert_array_equal(inpainter(FRAME, HOLE, "a cat", **CALL), first)
    assert (inpainter(FRAME, HOLE, "a dog", **CALL) != first).any()
    assert (inpainter(FRAME, HOLE, "a cat", seed=6, name="bear") != first).any()


def test_the_network_is_loaded_once_and_again_after_release(sd2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loads = []
    load = loading.load_pipeline
    monkeypatch.setattr(image_inpainters, "load_pipeline", lambda *args, **kwargs: loads.append(1) or load(*args, **kwargs))
    inpainter = tiny(StableDiffusion2, sd2)
    assert loads == []
    first = inpainter(FRAME, HOLE, "", **CALL)
    inpainter(FRAME, HOLE, "", seed=7, name="other")
    assert loads == [1]
    inpainter.release()
    np.testing.assert_array_equal(inpainter(FRAME, HOLE, "", **CALL), first)
    assert loads == [1, 1]


def test_telea_is_the_baseline_of_that_name() -> None:
    clip = MaskedClip.of(toy_clip("a", frames=1))
    made = TeleaImage(radius_px=3)(clip.frames[0], clip.masks[0], "", seed=0, name="a")
    np.testing.assert_array_equal(made, Telea(radius_px=3)(clip, seed=0)[0])
    assert TeleaImage().needs() == []


def test_a_folder_gives_the_picture_of_the_clip(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "bear.png"), cv2.cvtColor(FRAME, cv2.COLOR_RGB2BGR))
    folder = FolderImage(str(tmp_path))
    np.testing.assert_array_equal(folder(np.zeros_like(FRAME), HOLE, "", **CALL), FRAME)
    with pytest.raises(DataError, match=r"camel\.png: there is no first frame for the clip camel"):
        folder(FRAME, HOLE, "", seed=0, name="camel")
    with pytest.raises(DataError, match=r"bear\.png: is 48x32, the clip is 40x32"):
        folder(FRAME[:, :40], HOLE[:, :40], "", **CALL)
    (tmp_path / "bear.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bear\.png: is not a picture"):
        folder(FRAME, HOLE, "", **CALL)


def test_the_fingerprint_of_a_folder_follows_its_pictures(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "bear.png"), FRAME)
    first = FolderImage(str(tmp_path)).fingerprints()
    cv2.imwrite(str(tmp_path / "bear.png"), 255 - FRAME)
    assert FolderImage(str(tmp_path)).fingerprints() != first
    assert not FolderImage(str(tmp_path / "nowhere")).needs()[0].met


class Counted(TeleaImage):
    calls: ClassVar[list[str]] = []

    def __call__(self, frame: Any, mask: Any, prompt: str, *, seed: int, name: str) -> Any:
        self.calls.append(name)
        return super().__call__(frame, mask, prompt, seed=seed, name=name)


def test_a_first_frame_is_made_once_for_the_same_inputs(tmp_path: Path) -> None:
    Counted.calls.clear()
    kept = Kept()
    kept.folder = tmp_path
    made = first_frame(Counted(), kept, FRAME, HOLE, "a cat", **CALL)
    other = FRAME.copy()
    other[HOLE] = 0
    np.testing.assert_array_equal(first_frame(Counted(), kept, other, HOLE, "a cat", **CALL), made)
    assert len(Counted.calls) == 1


@pytest.mark.parametrize("change", ["frame", "mask", "prompt", "seed", "settings"])
def test_another_input_is_another_first_frame(change: str, tmp_path: Path) -> None:
    Counted.calls.clear()
    kept = Kept()
    kept.folder = tmp_path
    first_frame(Counted(), kept, FRAME, HOLE, "a cat", **CALL)
    frame, mask = (255 - FRAME if change == "frame" else FRAME), (~HOLE if change == "mask" else HOLE)
    inpainter = Counted(radius_px=9) if change == "settings" else Counted()
    call = {**CALL, "seed": 6} if change == "seed" else CALL
    first_frame(inpainter, kept, frame, mask, "a dog" if change == "prompt" else "a cat", **call)
    assert len(Counted.calls) == 2


def test_other_weights_are_another_first_frame(sd2: Path, tmp_path: Path) -> None:
    first = tiny(StableDiffusion2, sd2).fingerprints()
    assert tiny(StableDiffusion2, sd2).fingerprints() == first
    copy = stable_diffusion_2(tmp_path / "copy")
    assert tiny(StableDiffusion2, copy).fingerprints() == first
    file = copy / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    next(iter(tensors.values())).add_(1)
    save_file(tensors, file, metadata={"format": "pt"})
    assert tiny(StableDiffusion2, copy).fingerprints() != first


def test_files_that_lack_a_tensor_are_refused(sd2: Path, tmp_path: Path) -> None:
    copy = stable_diffusion_2(tmp_path / "copy")
    file = copy / "vae" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors.pop("decoder.conv_in.bias")
    save_file(tensors, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"vae: its files lack 1 tensors of AutoencoderKL, the first is decoder\.conv_in\.bias"):
        tiny(StableDiffusion2, copy)(FRAME, HOLE, "", **CALL)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "steps=0"),
        ({"precision": "half"}, "precision: 'half' is unknown"),
        ({"device": "cuda:77"}, "device=cuda:77: cannot be used here"),
        ({"offload": "disk"}, "offload: 'disk' is unknown"),
        ({"checkpoint": "nowhere"}, "model.checkpoint=nowhere"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], said: str, sd2: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        StableDiffusion2(**{"checkpoint": str(sd2), "precision": "float32", "device": "cpu", **options})(FRAME, HOLE, "", **CALL)


def test_an_unknown_compat_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"compat: 'offical' is unknown\. Did you mean 'official'"):
        FluxFill(compat="offical")
