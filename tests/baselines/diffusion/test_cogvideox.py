"""The CogVideoX backbone piece by piece: text, VAE, one call of the transformer, guidance, what it keeps and where it puts its networks."""

import json
import logging
import shutil

import numpy as np
import pytest

from tests.baselines.diffusion import tiny
from vpbench.baselines.diffusion.cogvideox import ATTENTION, CogVideoX, attention_kernel, guidance_at
from vpbench.baselines.diffusion.latent_blend import LatentBlend
from vpbench.baselines.diffusion.stages import Placement
from vpbench.baselines.diffusion.videopainter import VideoPainter, VideoPainterDenoiser
from vpbench.errors import ConfigError

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")
from vpbench.baselines.diffusion import denoiser, windows  # noqa: E402

# of the article's code at 50 steps and guidance 6
DYNAMIC = (
    *(2.291, 2.544, 6.974, 6.420, 2.788, 4.272, 1.038, 4.170, 1.618, 6.983, 1.005, 2.872, 6.977, 1.633, 4.330, 2.437, 6.377, 6.007, 3.448),
    *(3.198, 1.655, 6.610, 1.195, 4.295, 6.985, 1.521, 1.762, 1.058, 4.128, 1.482, 2.003, 5.948, 4.143, 6.531, 6.140, 7.000, 6.168, 1.120),
    *(2.098, 6.685, 6.999, 2.343, 6.213, 1.251, 7.000, 6.864, 1.064, 1.000, 1.000, 1.123),
)


@pytest.fixture
def cog(backbone_options):
    def make(**changes):
        return CogVideoX(**{**backbone_options, **changes})

    return make


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_dynamic_guidance_is_that_of_the_articles_code():
    np.testing.assert_allclose([guidance_at(999 - 20 * i, 50, 6.0) for i in range(50)], DYNAMIC, atol=5.1e-4)


def test_fifty_steps_are_trailing(cog):
    model = cog(steps=50)
    image = torch.zeros(tiny.LATENTS)
    times = model.denoiser(torch.from_numpy(tiny.embeddings()), image, None, None, generator()).scheduler.timesteps
    assert times.tolist() == list(range(999, 0, -20))


def test_the_loop_over_the_blocks_is_the_stock_transformer(cog):
    transformer = cog().transformer
    latents, text = torch.randn(2, 3, 32, 8, 12), torch.from_numpy(tiny.embeddings())
    rope, time = denoiser.rotary(transformer, 3, 8, 12, "cpu"), torch.tensor([499, 499])
    with torch.inference_mode():
        ours = denoiser.predict(transformer, latents, text, time, rope)
        stock = transformer(latents, text, time, image_rotary_emb=rope, return_dict=False)[0]
    torch.testing.assert_close(ours, stock, atol=1e-6, rtol=0)


def test_text_is_the_negative_prompt_then_the_caption(cog, caplog):
    model = cog(negative_prompt="snow falls")
    both, swapped = model.embed("a brown bear"), cog(negative_prompt="a brown bear").embed("snow falls")
    assert both.shape == (2, tiny.TEXT_TOKENS, tiny.TEXT_WIDTH)
    torch.testing.assert_close(both, swapped.flip(0))
    assert not torch.equal(both[0], both[1])
    with caplog.at_level(logging.WARNING):
        model.embed(tiny.CORPUS)
    assert "16 are read" in caplog.text


def test_the_text_encoder_is_t5_with_padding_attended_to(cog, checkpoints):
    from transformers import T5EncoderModel, T5Tokenizer

    tokenizer = T5Tokenizer.from_pretrained(checkpoints / "cog" / "tokenizer")
    encoder = T5EncoderModel.from_pretrained(checkpoints / "cog" / "text_encoder").eval()
    ids = tokenizer("a brown bear", return_tensors="pt").input_ids
    assert ids[0, -1] == tokenizer.eos_token_id
    padded = torch.nn.functional.pad(ids, (0, tiny.TEXT_TOKENS - ids.shape[1]), value=tokenizer.pad_token_id)
    with torch.inference_mode():
        torch.testing.assert_close(cog().embed("a brown bear")[1:], encoder(padded)[0])


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5])
def test_any_number_of_latents_decodes_to_frames_that_start_with_a_single_one(cog, length):
    latents = torch.randn(1, length, 16, 8, 12, generator=generator())
    model = cog()
    pixels = model.decode(latents)
    assert pixels.shape == (1, 3, 4 * (length - 1) + 1, tiny.HEIGHT, tiny.WIDTH)
    if length % 2 == 0:
        longer = model.decode(torch.cat([latents, latents[:, -1:]], dim=1))
        torch.testing.assert_close(pixels, longer[:, :, :-4])
    if length > 1:
        assert cog(compat="official").decode(latents).shape[2] == (4 * length if length % 2 == 0 else 4 * (length - 1) + 1)


def test_the_image_latent_is_encoded_alone(cog):
    model = cog()
    pixels = torch.rand(1, 3, 9, tiny.HEIGHT, tiny.WIDTH) * 2 - 1
    image = model.image(pixels[:, :, :1], None, generator())
    assert image.shape == tiny.LATENTS
    assert (image[:, 1:] == 0).all()
    torch.testing.assert_close(image[:, :1], model.encode(pixels[:, :, :1], generator()))
    before = torch.randn(1, 2, 16, 8, 12)
    assert torch.equal(model.image(None, before, generator())[:, :1], before[:, -1:])


def test_without_guidance_the_negative_prompt_has_no_effect(cog, backbone_options):
    text = torch.from_numpy(tiny.embeddings())
    other = torch.cat([torch.randn(1, *text.shape[1:]), text[1:]])
    image, start = torch.randn(tiny.LATENTS), torch.randn(tiny.LATENTS)
    for guidance, same in ((1.0, True), (6.0, False)):
        results = [cog(guidance=guidance).denoiser(t, image, None, None, generator()).step(start, 1) for t in (text, other)]
        assert torch.equal(*results) == same


def test_half_precision_stays_near(checkpoints, backbone_options):
    results = []
    for precision in ("float32", "bfloat16"):
        backbone = VideoPainter(**{**backbone_options, "precision": precision}, branch=str(checkpoints / "branch"))
        video, holes, first = tiny.video(9)
        made = LatentBlend(backbone).latents([first, *video[1:]], holes, windows.plan(9, 9), torch.from_numpy(tiny.embeddings()), 3)
        assert made.dtype == getattr(torch, precision)
        pixels = backbone.decode(made)
        assert torch.isfinite(pixels.float()).all()
        results.append(made.float())
    # draws differ with the precision, so only their size can be compared
    assert results[1].std() == pytest.approx(results[0].std().item(), rel=0.2)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_hidden_states_are_kept_only_for_a_window_that_looks_back(checkpoints, backbone_options, monkeypatch, weight):
    kept = []
    predict = denoiser.predict

    def seen(transformer, latents, text, timestep, rope, extras):
        result = predict(transformer, latents, text, timestep, rope, extras)
        kept.append(None if extras.keep is None else len(extras.keep))
        return result

    monkeypatch.setattr(denoiser, "predict", seen)
    backbone = VideoPainter(**{**backbone_options, "steps": 2}, branch=str(checkpoints / "branch"), previous_weight=weight)
    video, holes, first = tiny.video(17)
    LatentBlend(backbone).latents([first, *video[1:]], holes, windows.plan(17, 9), torch.from_numpy(tiny.embeddings()), 3)
    assert kept == ([None, tiny.LAYERS, None, None] if weight else [None] * 4)


def test_states_are_given_back_when_the_next_window_has_them(checkpoints, backbone_options):
    backbone = VideoPainter(**{**backbone_options, "steps": 1}, branch=str(checkpoints / "branch"), previous_weight=0.5)
    text, pixels = torch.from_numpy(tiny.embeddings()), torch.zeros(1, 3, 9, tiny.HEIGHT, tiny.WIDTH)
    arguments = (text, torch.zeros(tiny.LATENTS), pixels, pixels[:, :1], generator())
    first = backbone.denoiser(*arguments, followed=True)
    first.step(torch.zeros(tiny.LATENTS), 0)
    assert len(first.states) == tiny.LAYERS
    second = backbone.denoiser(*arguments, previous=first)
    assert first.states is None
    assert isinstance(second, VideoPainterDenoiser)
    assert len(second.previous) == tiny.LAYERS
    assert second.states is None


@pytest.mark.parametrize("name", ATTENTION)
def test_attention_kernels_can_be_chosen(name):
    from torch.nn.attention import SDPBackend

    with attention_kernel(name):
        flags = {
            "flash": torch.backends.cuda.flash_sdp_enabled(),
            "efficient": torch.backends.cuda.mem_efficient_sdp_enabled(),
            "math": torch.backends.cuda.math_sdp_enabled(),
            "cudnn": torch.backends.cuda.cudnn_sdp_enabled(),
        }
    assert SDPBackend.MATH is not None
    assert (name == "auto" and flags["math"]) or [key for key, on in flags.items() if on] == [name]


class Network:
    """Remembers where it was put."""

    def __init__(self, name, log):
        self.name, self.log = name, log

    def to(self, device):
        self.log.append(f"{self.name} {torch.device(device).type}")
        return self


def placed(offload):
    log = []
    placement = Placement("meta", offload)
    return placement, log, [Network(name, log) for name in ("text", "vae", "transformer", "branch")]


def test_what_is_brought_stays_without_offload():
    placement, log, (text, vae, transformer, branch) = placed("none")
    placement.bring(text)
    placement.put_away(text)
    for _ in range(2):
        placement.bring(vae)
        placement.bring(transformer, branch)
    assert log == ["text meta", "text cpu", "vae meta", "transformer meta", "branch meta"]


def test_one_network_at_a_time_with_offload():
    placement, log, (_, vae, transformer, branch) = placed("model")
    placement.bring(vae)
    placement.bring(transformer, branch)
    placement.bring(transformer)  # with its branch there is nothing to do
    placement.bring(vae)
    assert log == ["vae meta", "vae cpu", "transformer meta", "branch meta", "transformer cpu", "branch cpu", "vae meta"]


def test_nothing_moves_on_the_cpu():
    placement = Placement("cpu", "model")
    log = []
    network = Network("vae", log)
    placement.bring(network)
    placement.put_away(network)
    assert "vae meta" not in log
    assert placement.offload == "none"


def test_another_generation_of_the_model_is_refused(cog, checkpoints, tmp_path):
    copy = shutil.copytree(checkpoints / "cog", tmp_path / "cog")
    path = copy / "transformer" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "patch_size_t": 2}))
    with pytest.raises(ConfigError, match="CogVideoX 1"):
        _ = cog(checkpoint=str(copy)).geometry


@pytest.mark.parametrize("options", [{"hole": "white"}, {"previous_weight": 1.5}])
def test_settings_of_videopainter_that_cannot_be(options):
    with pytest.raises(ConfigError, match=r"black|0 to 1"):
        VideoPainter(**options)


def test_tiling_and_slicing_reach_the_vae(cog):
    vae = cog(vae_tiling=True, vae_slicing=True).vae
    assert (vae.use_tiling, vae.use_slicing) == (True, True)


def test_a_tokenizer_that_is_damaged_is_an_error_with_a_way_out(cog, checkpoints, tmp_path):
    copy = shutil.copytree(checkpoints / "cog", tmp_path / "cog")
    (copy / "tokenizer" / "spiece.model").write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="tokenizer"):
        cog(checkpoint=str(copy)).embed("a bear")
