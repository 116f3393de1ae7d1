"""COCOCO as a model: any clip, nothing of the hole, the same result for the same clip, and a clear word where it cannot."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from tests.baselines.cococo import tiny
from tests.toy import toy_clip
from vpbench.baselines.cococo.model import Cococo
from vpbench.cli import main
from vpbench.clip import MaskedClip
from vpbench.errors import ConfigError, DataError, ModelError
from vpbench.results import load_summaries


def model(files: Path, **options: Any) -> Cococo:
    settings: dict[str, Any] = {"steps": 2, "precision": "float32", "device": "cpu", **options}
    return Cococo(str(files / "parts"), str(files / "base"), **settings)


def clip(frames: int = 5, height: int = 32, width: int = 48, name: str = "a") -> MaskedClip:
    return MaskedClip.of(toy_clip(name, frames, height, width))


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 5, 9])
def test_a_clip_of_any_length_is_covered(files: Path, frames: int) -> None:
    made = model(files, steps=1, window=4, overlap=1)(clip(frames), seed=0)
    assert made.shape == (frames, 32, 48, 3)
    assert made.dtype == np.uint8
    assert all(frame.std() > 0 for frame in made)


def test_a_clip_that_fits_a_window_is_made_at_once(files: Path) -> None:
    whole = model(files, window=None)(clip(6), seed=0)
    np.testing.assert_array_equal(model(files, window=6)(clip(6), seed=0), whole)
    assert (model(files, window=4, overlap=2)(clip(6), seed=0) != whole).any()


@pytest.mark.parametrize("size", [(32, 48), (45, 70), (8, 8), (33, 9)], ids=lambda size: "x".join(map(str, size)))
def test_the_result_has_the_clips_own_size(files: Path, size: tuple[int, int]) -> None:
    assert model(files, steps=1)(clip(3, *size), seed=0).shape == (3, *size, 3)
    assert model(files, steps=1, height=40, width=24)(clip(3, *size), seed=0).shape == (3, *size, 3)


def test_a_clip_smaller_than_a_latent_is_refused_or_resized(files: Path) -> None:
    small = replace(clip(2), frames=np.zeros((2, 6, 40, 3), np.uint8), masks=np.ones((2, 6, 40), bool))
    with pytest.raises(DataError, match=r"a: is 40x6, smaller than one latent.*model\.height"):
        model(files)(small, seed=0)
    assert model(files, steps=1, height=8, width=40)(small, seed=0).shape == (2, 6, 40, 3)


def test_without_a_hole_the_clip_itself_comes_back(tmp_path: Path) -> None:
    """Also without weights: nothing is loaded."""
    whole = replace(clip(), masks=np.zeros((5, 32, 48), bool), caption="")
    made = Cococo(str(tmp_path / "nowhere"))(whole, seed=0)
    np.testing.assert_array_equal(made, whole.frames)
    assert made is not whole.frames


def test_frames_without_a_hole_are_made_with_the_others(files: Path) -> None:
    masks = clip().masks.copy()
    masks[:4] = False
    made = model(files)(replace(clip(), masks=masks), seed=0)
    assert made.shape == (5, 32, 48, 3)


def test_a_hole_that_is_everything_depends_on_text_and_seed_alone(files: Path) -> None:
    masks = np.ones((5, 32, 48), bool)
    blind, other = replace(clip(), masks=masks), replace(clip(), masks=masks, frames=255 - clip().frames)
    made = model(files)(blind, seed=0)
    np.testing.assert_array_equal(model(files)(other, seed=0), made)
    assert made.std() > 0
    assert (model(files)(replace(blind, caption="A cat."), seed=0) != made).any()


@pytest.mark.parametrize("options", [{}, {"height": 24, "width": 40}, {"compat": "official", "mask_rule": "nearest"}, {"dilate_px": 5}])
@pytest.mark.parametrize("size", [(32, 48), (45, 70)], ids=["as-is", "floored"])
def test_no_pixel_of_the_hole_reaches_the_network(
    files: Path, size: tuple[int, int], options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the hole holds does not change the result; a white hole in a white clip enters as grey, and covers what the mask covers."""
    entered: list[torch.Tensor] = []
    encode = AutoencoderKL.encode

    def watched(self: Any, pixels: torch.Tensor) -> Any:
        entered.append(pixels)
        return encode(self, pixels)

    monkeypatch.setattr(AutoencoderKL, "encode", watched)
    cococo, blind = model(files, steps=1, **options), clip(3, *size)
    inverted = replace(blind, frames=np.where(blind.masks[..., None], 255 - blind.frames, blind.frames))
    np.testing.assert_array_equal(cococo(blind, seed=0), cococo(inverted, seed=0))
    entered.clear()
    cococo(replace(blind, frames=np.full_like(blind.frames, 255)), seed=0)
    (pixels,) = entered
    hidden = (pixels[:, 0] == 0).float().mean().item()
    assert hidden >= blind.masks.mean()
    assert set(pixels.unique().tolist()) <= {0.0, 1.0} or "height" in options or size == (45, 70)


def test_the_seed_follows_from_run_and_clip_alone(files: Path) -> None:
    cococo = model(files)
    first = cococo(clip(), seed=0)
    cococo(clip(name="b"), seed=0)
    torch.manual_seed(7)
    np.testing.assert_array_equal(cococo(clip(), seed=0), first)
    np.testing.assert_array_equal(model(files)(clip(), seed=0), first)
    assert (cococo(clip(), seed=1) != first).any()
    assert (cococo(replace(clip(), name="c"), seed=0) != first).any()


def test_vae_batches_change_nothing(files: Path) -> None:
    apart = np.abs(model(files, vae_batch=1)(clip(), seed=0).astype(int) - model(files, vae_batch=5)(clip(), seed=0))
    assert apart.max() <= 1
    assert (apart > 0).mean() < 0.001


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("compat", ["none", "official"])
def test_lower_precision_makes_much_the_same(files: Path, precision: str, compat: str) -> None:
    exact = model(files, compat=compat)(clip(3), seed=0).astype(int)
    made = model(files, compat=compat, precision=precision)(clip(3), seed=0)
    limit = 30 if compat == "none" else 128  # with official, noise too is drawn in that precision
    assert np.abs(made - exact).mean() < limit


@pytest.mark.parametrize(
    "change",
    [
        {"guidance": 1.0},
        {"guidance": 3.0},
        {"negative_prompt": "trees."},
        {"quality": ""},
        {"steps": 3},
        {"mask_rule": "area"},
        {"dilate_px": 9},
        {"compat": "official"},
        {"vae_tiling": True, "height": 576, "width": 8},
    ],
    ids=lambda change: "-".join(f"{key}={value}" for key, value in change.items()),
)
def test_every_setting_has_an_effect(files: Path, change: dict[str, Any]) -> None:
    rest = {key: value for key, value in change.items() if key in ("height", "width")}
    assert (model(files, **change)(clip(2), seed=0) != model(files, **rest)(clip(2), seed=0)).any()


def test_guidance_of_one_needs_no_negative_text(files: Path) -> None:
    made = model(files, guidance=1.0)(clip(), seed=0)
    np.testing.assert_array_equal(model(files, guidance=1.0, negative_prompt="other")(clip(), seed=0), made)


def test_a_clip_without_a_caption_is_refused_or_gets_the_default(files: Path) -> None:
    silent = replace(clip(), caption=" ")
    with pytest.raises(DataError, match=r"a: has no caption.*default_caption"):
        model(files)(silent, seed=0)
    made = model(files, default_caption="a red cat")(silent, seed=0)
    np.testing.assert_array_equal(made, model(files)(replace(silent, caption="a red cat."), seed=0))


def test_a_text_that_is_too_long_is_told(files: Path, caplog: pytest.LogCaptureFixture) -> None:
    model(files)(replace(clip(), caption="long " * 40), seed=0)
    assert "tokens longer than the 77 that are read" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        model(files)(clip(), seed=0)
    assert caplog.text == ""


@pytest.mark.parametrize(
    ("frames", "height", "width", "said"),
    [(65, 8, 8, "65 frames of 8x8 at once"), (44, 360, 640, "44 frames of 640x360 at once are 11088 tokens")],
)
def test_official_has_the_limits_of_the_released_script(files: Path, frames: int, height: int, width: int, said: str) -> None:
    given = replace(clip(), frames=np.zeros((frames, height, width, 3), np.uint8), masks=np.ones((frames, height, width), bool))
    with pytest.raises(DataError, match=said):
        model(files, window=None, compat="official")(given, seed=0)


def test_without_official_there_is_no_limit_of_64_frames(files: Path) -> None:
    long = replace(clip(), frames=np.zeros((70, 8, 8, 3), np.uint8), masks=np.ones((70, 8, 8), bool))
    assert model(files, steps=1, window=None)(long, seed=0).shape == (70, 8, 8, 3)


def test_stages_are_recorded_and_released_networks_come_back(files: Path) -> None:
    cococo = model(files)
    first = cococo(clip(), seed=0)
    assert list(cococo.stages()) == ["text", "encode", "denoise", "decode"]
    assert all((stage["seconds"] or 0) > 0 and (stage["peak_memory_bytes"] or 0) > 0 for stage in cococo.stages().values())
    cococo.release()
    assert not {"_pictures", "_texts"} & set(vars(cococo))
    np.testing.assert_array_equal(cococo(clip(), seed=0), first)


def test_out_of_memory_is_told_with_the_numbers_and_the_next_clip_is_made(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cococo = model(files)
    expected = cococo(clip(), seed=0)

    def full(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.20 GiB. GPU 0")

    with monkeypatch.context() as patch:
        patch.setattr(AutoencoderKL, "decode", full)
        with pytest.raises(ModelError, match=r"b: out of memory on the device.*9\.20 GiB.*denoise [\d.]+ GB.*offload=model"):
            cococo(clip(name="b"), seed=0)
    assert "_pictures" not in vars(cococo)
    np.testing.assert_array_equal(cococo(clip(), seed=0), expected)


def test_a_kept_text_embedding_needs_no_text_encoder(files: Path, tmp_path: Path) -> None:
    first, second = model(files), model(files)
    for cococo in (first, second):
        cococo.keep_in(tmp_path)
    np.testing.assert_array_equal(second(clip(), seed=0), first(clip(), seed=0))
    assert "_texts" in vars(second)
    assert "_texts" not in vars(first)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"steps": 0}, "steps=0: expected at least 1"),
        ({"steps": 1000}, "steps=1000: there are 1000 levels of noise"),
        ({"vae_batch": 0}, "vae_batch=0"),
        ({"window": 4, "overlap": 4}, "window=4 overlap=4"),
        ({"window": 0}, "window=0 overlap=4"),
        ({"height": 64}, "height and width: give both"),
        ({"height": 60, "width": 64}, "height=60 width=64: must be multiples of 8, such as 64 and 64"),
        ({"height": 0, "width": 8}, "height=0 width=8"),
        ({"dilate_px": -1}, "dilate_px=-1"),
        ({"precision": "bf16"}, "precision: 'bf16' is unknown. Did you mean 'bfloat16'"),
        ({"offload": "disk"}, "offload: 'disk' is unknown"),
        ({"mask_rule": "all"}, "mask_rule: 'all' is unknown"),
        ({"compat": "oficial"}, "compat: 'oficial' is unknown. Did you mean 'official'"),
    ],
    ids=lambda value: "-".join(f"{k}={v}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_settings_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Cococo(**options)


def test_random_weights_need_no_file_and_follow_from_their_seed(tmp_path: Path) -> None:
    def made(weights: str) -> Any:
        return Cococo(weights, str(tmp_path / "nowhere"), steps=2, device="cpu")(clip(3, 45, 70), seed=0)

    first = made("random-0")
    assert first.shape == (3, 45, 70, 3)
    assert first.std() > 0
    np.testing.assert_array_equal(made("random-0"), first)
    assert (made("random-1") != first).any()


def test_random_weights_are_named_as_what_they_are(files: Path) -> None:
    assert Cococo("random-3").random_weights
    assert Cococo("random-3").fingerprints() == {"weights": "random-3, small networks"}
    assert [need.met for need in Cococo("random-3").needs()] == [True]
    assert not model(files).random_weights


def test_random_weights_leave_the_global_generator_alone() -> None:
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    Cococo("random-0", steps=1, device="cpu")(clip(1), seed=0)
    torch.testing.assert_close(torch.rand(1), expected)


def test_a_run_from_the_command_line(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [
        *("run", "model=cococo", f"model.weights={files / 'parts'}", f"model.checkpoint={files / 'base'}", "model.steps=1"),
        *("model.precision=float32", "model.height=32", "model.width=48", "benchmark=demo", "limit=1", "protocol=pixels"),
        f"out={tmp_path / 'runs'}",
    ]
    assert main(options) == 0
    (folder,) = (tmp_path / "runs").glob("*/cococo-*")
    (record,) = [json.loads(path.read_text()) for path in (folder / "clips").glob("*.json")]
    assert record["status"] == "ok"
    assert set(record["stages"]) == {"text", "encode", "denoise", "decode"}
    weights = json.loads((folder / "run.json").read_text())["identity"]["model"]["weights"]
    assert set(weights["weights"]) == {f"model_{number}.pth" for number in range(4)}
    assert "barred" not in json.loads((folder / "scores" / "pixels-raw" / "summary.json").read_text())["model"]
    assert "cococo" in capsys.readouterr().out


def test_a_run_with_random_weights_is_never_ranked(tmp_path: Path) -> None:
    options = [
        *("run", "model=cococo", "model.weights=random-0", "model.steps=1", "model.height=32", "model.width=48", "benchmark=demo"),
        *("limit=1", "protocol=pixels", f"out={tmp_path / 'runs'}"),
    ]
    assert main(options) == 0
    (folder,) = (tmp_path / "runs").glob("*/cococo-*")
    assert json.loads((folder / "run.json").read_text())["identity"]["model"]["weights"] == {"weights": "random-0, small networks"}
    (summary,) = load_summaries([folder])
    assert summary.barred == "seeded random weights"
    assert summary.unranked


def test_a_run_without_weights_stops_before_anything_is_made(files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = [f"model.weights={tmp_path / 'nowhere'}", f"model.checkpoint={files / 'base'}"]
    assert main(["run", "model=cococo", *options, "benchmark=demo", f"out={tmp_path / 'runs'}"]) == 2
    said = capsys.readouterr().out
    assert f"there is no folder {tmp_path / 'nowhere'}" in said
    assert not list(tmp_path.glob("runs/*/cococo*"))


def test_what_configurations_name_is_imported_without_torch() -> None:
    code = (
        "import sys; from vpbench.baselines.cococo.model import Cococo; Cococo('random-0').needs(); Cococo().needs();"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_the_tiny_clip_has_a_hole_in_every_frame() -> None:
    """On which the parity test builds."""
    _, masks = tiny.video(5, 112, 64)
    assert masks.any((1, 2)).all()
    assert not masks.all((1, 2)).any()
