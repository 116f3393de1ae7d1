"""The model around the backbones: through the harness, on tiny checkpoints; what it sees, what it makes, what it refuses."""

import json
import subprocess
import sys
from dataclasses import dataclass, field

import cv2
import numpy as np
import pytest

from tests.baselines.diffusion import tiny
from tests.test_configs import composed_model
from vpbench.baselines.diffusion.cogvideox import CogVideoX
from vpbench.baselines.diffusion.image_inpainters import TeleaImage
from vpbench.baselines.diffusion.latent_blend import LatentBlend
from vpbench.baselines.diffusion.videopainter import VideoPainter
from vpbench.clip import Clip, MaskedClip
from vpbench.errors import ConfigError, DataError, ModelError
from vpbench.running import Run
from vpbench.video import read_lossless

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")


@dataclass
class Painted:
    """An image inpainter that fills with one colour and remembers what it was asked."""

    colour: tuple = (10, 200, 90)
    asked: list = field(default_factory=list)
    released: int = 0

    def __call__(self, frame, mask, prompt, *, seed, name):
        self.asked.append((name, prompt, int(mask.sum()), seed))
        return np.where(mask[..., None], np.uint8(self.colour), frame)

    def needs(self):
        return []

    def fingerprints(self):
        return {"colour": list(self.colour)}

    def release(self):
        self.released += 1


def clip(frames=9, name="bear", caption="a brown bear drinks", region_caption="a bear", height=tiny.HEIGHT, width=tiny.WIDTH, **more):
    pixels, masks, _ = tiny.video(frames, height, width)
    return Clip(name, pixels, masks, 8.0, caption, region_caption, **more)


@pytest.fixture
def cog(backbone_options):
    """A latent blend over the tiny backbone; keywords are its settings."""

    def make(image_inpainter=None, **settings):
        backbone = {**backbone_options, "steps": 2, "compat": settings.get("compat", "none"), **settings.pop("backbone", {})}
        return LatentBlend(CogVideoX(**backbone), image_inpainter or Painted(), **settings)

    return make


def run(model, of, seed=0):
    return model(MaskedClip.of(of), seed=seed)


@pytest.mark.parametrize("frames", [1, 5, 9, 10, 17, 18, 30])
def test_every_frame_of_any_length_is_made(cog, frames):
    whole = clip(30)
    part = Clip("bear", whole.frames[:frames], whole.masks[:frames], 8.0, "a bear")
    result = run(cog(), part)
    assert result.shape == part.frames.shape
    assert result.dtype == np.uint8
    if frames > 1:
        assert (np.abs(np.diff(result.astype(int), axis=0)).reshape(frames - 1, -1).max(1) > 0).all()  # nothing is repeated


def test_frames_of_the_first_window_do_not_depend_on_the_length_of_the_clip(cog):
    whole = clip(25)
    part = Clip("bear", whole.frames[:17], whole.masks[:17], 8.0, whole.caption)
    long, short = run(cog(), whole), run(cog(), part)
    np.testing.assert_array_equal(long[:5], short[:5])  # two latents; the third is averaged with the next window's


@pytest.mark.parametrize(("height", "width"), [(64, 96), (90, 120)])
def test_pasted_pixels_are_the_known_ones_outside_the_grown_hole(cog, height, width):
    of = clip(9, height=height, width=width)
    result = run(cog(paste=True, dilate_px=8), of)
    grown = np.stack([cv2.dilate(mask.astype(np.uint8), np.ones((8, 8), np.uint8)).astype(bool) for mask in of.masks])
    np.testing.assert_array_equal(result[~grown], of.frames[~grown])
    assert (result[of.masks] != of.frames[of.masks]).any()


def test_official_pasted_pixels_lose_a_level(cog):
    of = clip(9)
    result = run(cog(paste=True, compat="official", overlap=0, short="refuse"), of)
    lost = of.frames.astype(int)[~of.masks] - result[~of.masks]
    assert set(np.unique(lost)) == {0, 1}


def test_official_repeats_the_last_frame_where_windows_drift_and_says_so(cog, caplog):
    of = clip(20)
    result = run(cog(compat="official", overlap=0), of)
    assert "made 17 of 20 frames" in caplog.text
    assert (result[17:] == result[16]).all()
    assert (result[16] != result[15]).any()


def test_the_seed_follows_from_run_and_clip_not_from_the_order(cog):
    model = cog()
    first = run(model, clip(name="bear"))
    other = run(model, clip(name="cow"))
    again = run(model, clip(name="bear"))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (run(model, clip(name="bear"), seed=1) != first).any()


def test_official_has_one_seed_for_all(cog):
    model = cog(compat="official", overlap=0)
    np.testing.assert_array_equal(run(model, clip(name="bear")), run(model, clip(name="cow"), seed=5))
    assert {seed for *_, seed in model.image_inpainter.asked} == {42}


def test_texts_go_where_they_belong(cog):
    painted = Painted()
    run(cog(painted), clip(operation="swap"))
    run(cog(painted), clip(region_caption=""))
    assert [prompt for _, prompt, _, _ in painted.asked] == ["a bear", "a brown bear drinks"]


def test_captions_and_first_frames_change_the_result(cog):
    base = run(cog(), clip())
    assert (run(cog(), clip(caption="snow falls on the old bridge")) != base).any()
    assert (run(cog(Painted((250, 0, 0))), clip()) != base).any()


def test_the_hole_is_grown_before_the_first_frame_is_filled(cog):
    painted = Painted()
    of = clip()
    run(cog(painted, dilate_px=5), of)
    assert painted.asked[0][2] == int(cv2.dilate(of.masks[0].astype(np.uint8), np.ones((5, 5), np.uint8)).sum())


def test_an_empty_first_mask_needs_no_image_model(cog):
    painted = Painted()
    of = clip()
    masks = of.masks.copy()
    masks[0] = False
    run(cog(painted), Clip("bear", of.frames, masks, 8.0, "a bear"))
    assert painted.asked == []


@pytest.mark.parametrize("painter", [False, True])
def test_what_the_hole_holds_has_no_influence(cog, checkpoints, backbone_options, painter):
    of = clip()
    frames = of.frames.copy()
    frames[of.masks] = 255
    other = Clip(of.name, frames, of.masks, 8.0, of.caption, of.region_caption)
    model = cog()
    if painter:
        model = LatentBlend(VideoPainter(**{**backbone_options, "steps": 2}, branch=str(checkpoints / "branch")), TeleaImage())
    np.testing.assert_array_equal(model(of, seed=0), model(other, seed=0))


def test_the_original_video_may_lie_behind_known_latents_of_an_edit(cog):
    edit = clip(operation="remove")
    frames = edit.frames.copy()
    frames[edit.masks] = 180
    edit = Clip(edit.name, frames, edit.masks, 8.0, edit.caption, operation="remove")
    masked, original = run(cog(), edit), run(cog(known="original"), edit)
    assert (masked != original).any()
    with pytest.raises(ConfigError, match="needs_reference=true"):
        run(cog(known="original"), clip())
    assert cog(known="original")(clip(), seed=0).shape == (9, tiny.HEIGHT, tiny.WIDTH, 3)  # the whole clip, with needs_reference


def test_known_latents_are_those_of_the_known_video(cog, backbone_options):
    """With blending to the end, latents outside the hole are the encoded ones; without, they are not."""
    model = cog()
    backbone = model.backbone
    video, holes, first = tiny.video(9)
    holes[0] = False
    from vpbench.baselines.diffusion import masks, pictures, windows

    text = torch.from_numpy(tiny.embeddings())
    for blend in (True, False):
        model.blend = blend
        latents = model.latents([first, *video[1:]], holes, windows.plan(9, 9), text, 7)
        generator = torch.Generator().manual_seed(7)
        pixels = pictures.to_pixels([first, *video[1:]], tiny.HEIGHT, tiny.WIDTH)
        backbone.encode(pixels[:, :, :1], generator)
        known = backbone.encode(pixels, generator)
        hole = masks.latent_mask(pictures.mask_to_pixels(holes, tiny.HEIGHT, tiny.WIDTH)).bool().expand_as(latents)
        assert torch.equal(latents[~hole], known[~hole]) == blend
        assert not torch.equal(latents[hole], known[hole])


def leaf(checkpoints, name, *overrides):
    tiny_backbone = ["steps=2", "precision=float32", "device=cpu", f"checkpoint={checkpoints / 'cog'}"]
    if name.startswith("videopainter"):
        tiny_backbone.append(f"branch={checkpoints / 'branch'}")
    backbone = [f"model.backbone.{setting}" for setting in tiny_backbone]
    return composed_model(f"model={name}", "model/image_inpainter=telea", *backbone, *overrides)


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("latent_blend", ["model.mask_rule=area"]),
        ("cog_inp", []),
        ("videopainter", ["model.overlap=5"]),
        ("videopainter_official", ["model.short=refuse"]),
    ],
)
def test_a_run_from_the_configuration_to_scores(checkpoints, config, name, overrides):
    toy = {"_target_": "tests.toy.Toy", "count": 2, "frames": 18}
    result = Run({**config, "model": leaf(checkpoints, name, *overrides), "benchmark": toy}).execute()
    assert result.failed == {}
    assert result.ok == 2
    assert (result.folder / "scores" / "pixels-raw" / "summary.json").is_file()
    record = json.loads((result.folder / "clips" / "a.json").read_text())
    assert set(record["stages"]) == {"text", "first_frame", "encode", "denoise", "decode"}
    assert all(stage["seconds"] > 0 for stage in record["stages"].values())
    assert read_lossless(result.folder / "predictions" / "a.mkv").shape == (18, 32, 40, 3)


@pytest.mark.parametrize("name", ["cog_inp", "videopainter"])
def test_the_complete_video_behind_known_latents_is_a_setting_and_marks_the_row(checkpoints, config, name):
    model = leaf(checkpoints, name, "model.known=original", "model.needs_reference=true")
    made = Run({**config, "model": model, "benchmark": {"_target_": "tests.toy.Toy", "count": 1, "frames": 9}})
    assert made.execute().failed == {}
    summary = json.loads((made.folder / "scores" / "pixels-raw" / "summary.json").read_text())
    assert summary["model"]["needs_reference"] is True


def test_text_and_first_frames_are_kept_for_other_settings(checkpoints, config, monkeypatch):
    calls = []
    embed, paint = CogVideoX.embed, TeleaImage.__call__
    monkeypatch.setattr(CogVideoX, "embed", lambda self, caption: calls.append("text") or embed(self, caption))
    monkeypatch.setattr(TeleaImage, "__call__", lambda self, *a, **k: calls.append("first") or paint(self, *a, **k))
    toy = {"_target_": "tests.toy.Toy", "count": 2, "frames": 9}
    folders = set()
    for guidance in (6, 3):
        model = leaf(checkpoints, "cog_inp", f"model.backbone.guidance={guidance}")
        folders.add(Run({**config, "model": model, "benchmark": toy}).execute().folder)
    assert sorted(calls) == ["first", "first", "text", "text"]
    assert len(folders) == 2


def test_a_changed_checkpoint_is_another_run(checkpoints, config, tmp_path):
    import shutil

    from safetensors.torch import load_file, save_file

    copy = shutil.copytree(checkpoints / "branch", tmp_path / "branch")
    model = leaf(checkpoints, "videopainter", f"model.backbone.branch={copy}")
    before = Run({**config, "model": model}).id
    file = copy / "diffusion_pytorch_model.safetensors"
    tensors = load_file(file)
    tensors["branch_blocks.0.bias"] += 1
    save_file(tensors, file)
    assert Run({**config, "model": model}).id != before


def test_networks_are_loaded_once_per_run(cog, monkeypatch):
    from vpbench.baselines.diffusion import cogvideox

    loaded = []
    load = cogvideox.load_network
    monkeypatch.setattr(cogvideox, "load_network", lambda cls, *a: loaded.append(cls.__name__) or load(cls, *a))
    model = cog()
    for name in ("bear", "cow"):
        run(model, clip(name=name))
    assert sorted(loaded) == ["AutoencoderKLCogVideoX", "CogVideoXTransformer3DModel", "T5EncoderModel"]


@pytest.mark.parametrize("caption", ["", "  \n"])
def test_a_clip_without_caption_is_refused_unless_there_is_a_default(cog, caption):
    painted = Painted()
    with pytest.raises(DataError, match=r"bear: has no caption.*default_caption"):
        run(cog(painted), clip(caption=caption))
    assert painted.asked == []  # found before any work
    run(cog(painted, default_caption="a video"), clip(caption=caption, region_caption=""))
    assert painted.asked[0][1] == "a video"


def test_sizes_and_lengths_are_refused_on_demand(cog):
    with pytest.raises(DataError, match=r"is 90x120 \(height x width\), the model works at 64x96.*resize=stretch"):
        run(cog(resize="refuse"), clip(height=90, width=120))
    with pytest.raises(DataError, match=r"has 8 frames, the model makes 9 at once.*short=pad"):
        run(cog(short="refuse"), clip(8))
    with pytest.raises(DataError, match="compat=official refuses shorter clips"):
        run(cog(compat="official", overlap=0), clip(8))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"height": 128}, r"learned positions, which fit 64x96 \(height x width\) and 9 frames only.*resize=stretch"),
        ({"window": 13}, "9 frames only"),
    ],
)
def test_a_size_that_the_backbone_cannot_make_is_refused(cog, changes, message):
    with pytest.raises(ConfigError, match=message):
        run(cog(backbone=changes), clip())


def test_the_sizes_it_was_trained_at_are_the_same_run_named_or_not(backbone_options):
    named = CogVideoX(**backbone_options, height=tiny.HEIGHT, width=tiny.WIDTH, window=tiny.WINDOW)
    assert named.geometry == CogVideoX(**backbone_options).geometry
    assert named.fingerprints() == CogVideoX(**backbone_options).fingerprints()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask_rule": "most"}, "nearest"),
        ({"known": "all"}, "masked"),
        ({"blend_noise": "old"}, "fresh"),
        ({"short": "cut"}, "refuse"),
        ({"resize": "crop"}, "stretch"),
        ({"compat": "yes"}, "official"),
        ({"blend_until": 0.0}, "above 0"),
        ({"dilate_px": -1}, "0 or more"),
        ({"overlap": 2}, "aligned"),
        ({"backbone": {"precision": "int8"}}, "bfloat16"),
        ({"backbone": {"offload": "disk"}}, "sequential"),
        ({"backbone": {"attention": "slow"}}, "cudnn"),
        ({"backbone": {"vae_precision": "int8"}}, "bfloat16"),
        ({"backbone": {"steps": 0}}, "at least 1"),
        ({"backbone": {"compat": "official"}}, "set both"),
        ({"backbone": {"device": "cuda:77"}}, "cannot be used here"),
        ({"backbone": {"loras": [{"file": "x"}]}}, r"backbone.loras\[0\]"),
    ],
)
def test_settings_that_cannot_be(cog, settings, message):
    with pytest.raises(ConfigError, match=message):
        run(cog(**settings), clip())


def test_a_branch_for_another_backbone_is_refused(checkpoints, backbone_options, tmp_path):
    other = tiny.write_branch(tmp_path / "branch", num_attention_heads=4)
    model = LatentBlend(VideoPainter(**backbone_options, branch=str(other)), Painted())
    (need,) = [need for need in model.needs() if not need.met]
    assert need.key == "backbone.branch"
    assert "num_attention_heads is 4" in need.problems[0]
    with pytest.raises(ConfigError, match="a branch for another backbone"):
        run(model, clip())


def test_a_checkpoint_that_is_not_whole_is_refused_before_the_run(checkpoints, config, tmp_path):
    import shutil

    copy = shutil.copytree(checkpoints / "cog", tmp_path / "cog")
    (copy / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigError, match=r"vae.*diffusion_pytorch_model.safetensors: is missing"):
        Run({**config, "model": leaf(checkpoints, "cog_inp", f"model.backbone.checkpoint={copy}")})


def test_a_text_to_video_checkpoint_is_refused(cog, checkpoints, tmp_path):
    import shutil

    copy = shutil.copytree(checkpoints / "cog", tmp_path / "cog")
    path = copy / "transformer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "in_channels": 16}))
    with pytest.raises(ConfigError, match="text-to-video"):
        run(cog(backbone={"checkpoint": str(copy)}), clip())


def test_loras_stack_and_one_of_a_wrong_rank_is_refused(cog, checkpoints, tmp_path):
    first, second = tiny.write_adapter(tmp_path / "a.safetensors"), tiny.write_adapter(tmp_path / "b.safetensors", rank=2)
    base = run(cog(), clip())
    results = [base]
    for loras in ([(first, 1.0)], [(first, 0.5)], [(first, 1.0), (second, 1.0)]):
        results.append(run(cog(backbone={"loras": [{"path": str(path), "scale": scale} for path, scale in loras]}), clip()))
    assert len({result.tobytes() for result in results}) == 4
    from safetensors.torch import load_file, save_file

    broken = load_file(first)
    name = next(key for key in broken if "lora_B" in key)
    broken[name] = broken[name][:, :2].clone()
    save_file(broken, tmp_path / "wrong.safetensors")
    with pytest.raises(ConfigError, match="no common rank"):
        run(cog(backbone={"loras": [{"path": str(tmp_path / "wrong.safetensors"), "scale": 1.0}]}), clip())


@pytest.mark.parametrize(
    ("error", "numbers"),
    [
        (
            torch.OutOfMemoryError(
                "CUDA out of memory. Tried to allocate 9.20 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.20 GiB is free. More"
            ),
            "Tried to allocate 9.20 GiB. GPU 0 has a total capacity of 79.11 GiB of which 1.20 GiB is free",
        ),
        (MemoryError("Unable to allocate 9.20 GiB for an array"), "9.20 GiB"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: 9200 bytes"),
            "9200 bytes",
        ),
    ],
    ids=["device", "numpy", "host"],
)
def test_out_of_memory_fails_one_clip_with_the_numbers_and_the_run_goes_on(checkpoints, config, monkeypatch, error, numbers):
    from vpbench.baselines.diffusion.cogvideox import CogVideoXDenoiser

    step, calls = CogVideoXDenoiser.step, []

    def full(self, latents, index):
        calls.append(index)
        if len(calls) == 2:
            raise error
        return step(self, latents, index)

    monkeypatch.setattr(CogVideoXDenoiser, "step", full)
    toy = {"_target_": "tests.toy.Toy", "count": 2, "frames": 9}
    result = Run({**config, "model": leaf(checkpoints, "cog_inp"), "benchmark": toy}).execute()
    assert list(result.failed) == ["a"]
    assert result.ok == 1
    message = result.failed["a"]
    assert message.startswith("ModelError: a: out of memory")
    assert numbers in message
    assert "denoise" in message
    assert "offload=model" in message


def test_out_of_memory_releases_the_networks(cog, monkeypatch):
    painted = Painted()
    model = cog(painted)
    monkeypatch.setattr(CogVideoX, "decode", lambda self, latents: (_ for _ in ()).throw(torch.OutOfMemoryError("CUDA out of memory.")))
    with pytest.raises(ModelError):
        run(model, clip())
    assert painted.released == 1
    assert "transformer" not in vars(model.backbone)


def test_what_configurations_name_is_imported_without_torch():
    code = (
        "import sys; from vpbench.baselines.diffusion import cogvideox, image_inpainters, latent_blend, videopainter, wan, wan_vace;"
        "print([name for name in ('torch', 'diffusers', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


def test_another_error_of_torch_is_not_taken_for_memory(cog, monkeypatch):
    monkeypatch.setattr(CogVideoX, "decode", lambda self, latents: (_ for _ in ()).throw(RuntimeError("mat1 and mat2 shapes differ")))
    with pytest.raises(RuntimeError, match="mat1"):
        run(cog(), clip())
