"""The adapter of UniEdit, with a checkout of our own that has the same files, classes and arguments."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.external.checkouts import PYTHON, checkout, edit, problems
from vpbench.baselines.external.uniedit import SD, UniEdit
from vpbench.check import check
from vpbench.errors import ConfigError, DataError, ModelError
from vpbench.running import Run

STAND_IN = {
    "lavie_models/__init__.py": "",
    "lavie_models/unet.py": """
        import torch

        class CrossAttention(torch.nn.Module):
            def forward(self, x):
                return x

        class UNet3DConditionModel(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(1))
                self.attention = CrossAttention()

            @classmethod
            def from_pretrained_2d(cls, path, subfolder=None):
                assert subfolder == "unet"
                return cls()
        """,
    "uniedit/__init__.py": "",
    "uniedit/diffuser_utils.py": """
        import json, os, torch

        class Output:
            def __init__(self, videos):
                self.videos = videos

        class UniEditPipeline:
            def __init__(self, vae, text_encoder, tokenizer, unet, scheduler):
                self.vae, self.text_encoder, self.tokenizer, self.unet, self.scheduler = vae, text_encoder, tokenizer, unet, scheduler

            def to(self, device):
                return self

            def invert_video(self, frames, prompt, num_inference_steps=50, guidance_scale=7.5):
                assert self.unet.attention(1) == 1, "attention of the window before"
                return frames.mean((1, 3, 4))[:, :, None, None, None].expand(1, 3, 16, 40, 64).clone(), None

            def __call__(self, prompt, *, latents, height, width, video_length, uncond_embeddings_pre, **options):
                editor = self.unet.attention.forward.__self__
                seen = {"prompt": prompt, "latents": list(latents.shape), "masks": editor.masks(), "null": uncond_embeddings_pre,
                        "steps": editor.struc_ctrl_step_idx, "background": getattr(editor, "bg_enhance_step_idx", None),
                        "motion": editor.motion_editing, "weight": float(self.unet.weight), "betas": self.scheduler, **options}
                with open(os.environ["SEEN"], "a") as file:
                    file.write(json.dumps(seen) + "\\n")
                grey = self.frames if hasattr(self, "frames") else ((latents[0, 0, :, 0, 0] + 1) * 127.5)
                videos = torch.zeros(2, 3, video_length, height, width, dtype=torch.uint8)
                videos[1] = videos[1] + grey.round().to(torch.uint8)[None, :, None, None] + 1
                return Output(videos)
        """,
    "nti.py": """
        class NullInversion:
            def __init__(self, model, image_gt, NUM_DDIM_STEPS, GUIDANCE_SCALE, device, weight_dtype):
                self.model, self.frames = model, image_gt

            def invert(self, image_path, prompt, verbose=False):
                assert self.model.unet.attention(1) == 1, "attention of the window before"
                assert self.frames.shape == (1, 16, 3, 320, 512), self.frames.shape
                self.model.frames = (self.frames[0, :, 0, 0, 0] + 1) * 127.5
                return (None, None), self.frames.new_zeros(1, 4, 16, 40, 64), "null text"
        """,
    "feature_injection/__init__.py": "",
    "feature_injection/spatialctrl.py": """
        class SpatialAttentionWithMask:
            def __init__(self, mask_s=None):
                self.mask_s = mask_s

            def masks(self):
                return None if self.mask_s is None else [list(self.mask_s.shape), self.mask_s.sum((1, 2)).tolist()]

            def forward(self, x):
                return -x
        """,
    "feature_injection/spatialctrl_utils.py": """
        def regiter_attention_editor_diffusers(model, editor):
            model.unet.attention.forward = editor.forward
        """,
    # what stands for the libraries that UniEdit takes from its environment
    "diffusers/__init__.py": """
        import torch

        class AutoencoderKL(torch.nn.Module):
            @classmethod
            def from_pretrained(cls, path, subfolder=None):
                return cls()

        class DDIMScheduler:
            @classmethod
            def from_pretrained(cls, path, subfolder=None, **betas):
                return betas
        """,
    "diffusers/utils.py": "def is_xformers_available():\n    return False\n",
    "transformers/__init__.py": """
        import torch

        class CLIPTextModel(torch.nn.Module):
            @classmethod
            def from_pretrained(cls, path, subfolder=None):
                return cls()

        class CLIPTokenizer:
            @classmethod
            def from_pretrained(cls, path, subfolder=None):
                return cls()

            def __call__(self, text):
                self.input_ids = [0, *text.split(), 0]
                return self
        """,
}


def stand_in(folder: Path) -> Path:
    """Write what stands for a checkout and its weights."""
    import torch

    checkout(folder, STAND_IN)
    checkout(folder / "stable-diffusion-v1-4", {name.split("|")[0]: "{}" for name in SD})
    (folder / "LaVie").mkdir()
    torch.save({"ema": {"weight": torch.full((1,), 3.0)}}, folder / "LaVie/lavie_base.pt")
    return folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return stand_in(tmp_path / "UniEdit")


@pytest.fixture
def make(code: Path, tmp_path: Path) -> Iterator[Callable[..., UniEdit]]:
    made: list[UniEdit] = []

    def model(**options: Any) -> UniEdit:
        made.append(UniEdit(PYTHON, str(code), env={"SEEN": str(tmp_path / "seen")}, **options))
        return made[-1]

    yield model
    for one in made:
        one.release()


def seen(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]


def test_49_frames_are_four_windows_and_every_frame_is_made_once(make: Any, tmp_path: Path) -> None:
    model = make()
    clip = edit(49)
    made = model(clip, seed=0)
    assert made.present == tuple(range(49))
    np.testing.assert_array_equal(made.frames[:, 0, 0, 0], np.arange(49) * 4 + 1)
    said = model.stages()["program"]
    assert said["windows"] == [[0, 16], [16, 32], [32, 48], [33, 49]]
    assert said["native"] == {"width": 512, "height": 320, "frames": 16}
    assert said["code"] == "JianhongBai/UniEdit@unknown"
    calls = seen(tmp_path)
    assert len(calls) == 4
    assert calls[0]["prompt"] == ["", "a brown dog. a dog runs"]
    assert calls[0]["masks"] == [[16, 60, 90], [400.0] * 16]
    assert calls[0]["null"] == "null text"
    assert calls[0]["steps"] == calls[0]["background"] == list(range(25))
    assert (calls[0]["weight"], calls[0]["num_inference_steps"], calls[0]["guidance_scale"]) == (3, 50, 7.5)
    assert calls[0]["betas"] == {"beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "linear"}
    assert model.notes == [
        "windows: of 16 frames at 512x320, each edited for itself, so it may jump where they meet",
        "resized: 512x320 to 90x60, bicubic",
    ]


def test_the_network_is_loaded_once_and_each_window_is_inverted_without_the_attention_of_the_one_before(make: Any, tmp_path: Path) -> None:
    model = make(null_text=False, use_mask=False, steps=10)
    for name in "ab":
        model(edit(20, name=name), seed=0)
    calls = seen(tmp_path)
    assert len(calls) == 4
    assert calls[3]["masks"] is None
    assert calls[3]["steps"] == [0, 1, 2, 3]
    assert calls[3]["null"] is None
    assert calls[3]["betas"]["beta_end"] == 0.012
    assert "plain inversion: without null-text optimisation, which the authors use" in model.notes
    assert "no mask: the whole picture is edited" in model.notes


def test_texts_are_cut_at_a_word_and_short_clips_padded_and_that_is_said(make: Any) -> None:
    model = make()
    words = " ".join(f"word{i}" for i in range(120))
    model(edit(16, caption=words), seed=0)
    said = model.stages()["program"]
    assert said["text_used"].startswith("a brown dog. word0 ")
    assert len(said["text_used"].split()) == 75
    assert said["text_truncated"] is True
    assert any(note.startswith("text cut:") for note in model.notes)
    made = model(edit(5), seed=0)
    np.testing.assert_array_equal(made.frames[:, 0, 0, 0], np.arange(5) * 4 + 1)
    assert "padded: a clip shorter than 16 frames ends with its last one repeated" in model.notes
    assert model.stages()["program"]["text_truncated"] is False


def test_a_clip_without_a_text_is_refused_before_anything_starts(make: Any) -> None:
    with pytest.raises(DataError, match=r"a: has no caption of the edited video.*Add it to the benchmark's list"):
        make()(edit(16, caption=" "), seed=0)


def test_what_the_checkout_raises_is_the_clips_failure(make: Any, code: Path) -> None:
    (code / "nti.py").write_text("raise ValueError('not this torch')")
    with pytest.raises(ModelError, match="not this torch"):
        make()(edit(16), seed=0)


def test_what_is_missing_is_said_by_name(code: Path) -> None:
    assert problems(UniEdit(PYTHON, str(code))) == ""
    (code / "nti.py").unlink()
    (code / "stable-diffusion-v1-4/unet/diffusion_pytorch_model.bin").unlink()
    (code / "LaVie/lavie_base.pt").unlink()
    said = problems(UniEdit("/no/python", str(code)))
    for part in ("/no/python: no such program", f"{code}/nti.py: no such file", "unet/diffusion_pytorch_model.bin: no such file"):
        assert part in said
    assert f"{code}/LaVie/lavie_base.pt: no such file" in said
    assert "CreativeML OpenRAIL-M" in said
    assert "hf download Vchitect/LaVie lavie_base.pt" in said
    assert "git clone https://github.com/JianhongBai/UniEdit" in said


def test_check_says_what_is_missing_when_nothing_is_set(monkeypatch: pytest.MonkeyPatch, config: dict[str, Any]) -> None:
    monkeypatch.delenv("UNIEDIT_PYTHON", raising=False)
    monkeypatch.delenv("UNIEDIT_CODE", raising=False)
    name, needs = check(["model=uniedit"])
    assert name == "uniedit"
    assert [need.key for need in needs if not need.met] == ["python", "code", "sd", "lavie"]
    leaf = {"_target_": "vpbench.baselines.external.uniedit.UniEdit", "python": None, "code": None}
    with pytest.raises(ConfigError, match=r"model\.code is not set"):
        Run({**config, "model": leaf})


def test_code_and_weights_are_part_of_a_runs_id_and_their_place_is_not(code: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    leaf = {"_target_": "vpbench.baselines.external.uniedit.UniEdit", "python": PYTHON, "sd": "stable-diffusion-v1-4"}
    leaf["lavie"] = "LaVie/lavie_base.pt"
    first = Run({**config, "model": {**leaf, "code": str(code)}}).id
    moved = code.rename(tmp_path / "elsewhere")
    assert Run({**config, "model": {**leaf, "code": str(moved)}}).id == first
    (moved / "nti.py").write_text("# changed")
    second = Run({**config, "model": {**leaf, "code": str(moved)}}).id
    (moved / "LaVie/lavie_base.pt").write_bytes(b"others")
    assert len({first, second, Run({**config, "model": {**leaf, "code": str(moved)}}).id}) == 3


def test_fewer_than_two_steps_are_refused() -> None:
    with pytest.raises(ConfigError, match="steps=1"):
        UniEdit(PYTHON, "x", steps=1)
