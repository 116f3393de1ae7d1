import json
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from tests.parity.clip_recipe import LONG, OTHER_LONG, SHORT, TINY, state, tiny_networks, transformers_names, videos
from vpbench import weights
from vpbench.measuring import Comparison, Network
from vpbench.metrics import clip_encoder, clip_tower
from vpbench.metrics.clip_image import seen
from vpbench.metrics.clip_tc import ClipTc
from vpbench.metrics.clip_text import ClipText
from vpbench.metrics.clip_tokens import END, START, caption_ids
from vpbench.weights import Weights

OFFICIAL = Path(__file__).parent / "fixtures" / "clip_official.json"
TEXTS = ("short", "long", "other long")
SIZES = [(480, 720), (240, 432), (60, 91), (75, 40), (224, 224), (30, 400)]
CAPTIONS = [
    SHORT,
    LONG,
    OTHER_LONG,
    "It's 3 o'clock: a CAFÉ, 20 % off!",
    "一只狗在海滩上奔跑。",
    "собака бежит 😀🏖️",
    "multiple   blanks\nand lines",
    "a",
    "",
]
FORMATS = {"hf-clip-safetensors": "model.safetensors", "hf-clip-bin": "pytorch_model.bin", "openai-clip": "ViT-B-32.pt"}


def save_for_transformers(config, arrays, folder):
    """Write the weights as transformers does."""

    def tower(width, layers, **more):
        return {
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": width // 64,
            **more,
        }

    vision, text = config["vision_cfg"], config["text_cfg"]
    pytest.importorskip("transformers").CLIPConfig(
        text_config=tower(text["width"], text["layers"]),
        vision_config=tower(vision["width"], vision["layers"], patch_size=vision["patch_size"], image_size=224),
        projection_dim=config["embed_dim"],
    ).save_pretrained(folder)
    values = {name: np.array(array, order="C") for name, array in transformers_names(arrays).items()}
    save_file(values, folder / FORMATS["hf-clip-safetensors"], metadata={"format": "pt"})
    return values


def oracle(folder):
    """transformers' CLIP with the weights in a folder."""

    class Model(pytest.importorskip("transformers").CLIPModel):
        """Gives features as tensors, as transformers 4 did and torchmetrics expects."""

        def get_image_features(self, *inputs):
            return super().get_image_features(*inputs).pooler_output

        def get_text_features(self, *inputs):
            return super().get_text_features(*inputs).pooler_output

    model, report = Model.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return model.eval().requires_grad_(False)


def tokenizer():
    """transformers' own byte pair encoding, with the vocabulary from ``open_clip``."""
    transformers = pytest.importorskip("transformers")
    words = open_clip.SimpleTokenizer()
    vocabulary = {word: number for word, number in words.encoder.items() if number < START}
    vocabulary |= {"<|startoftext|>": START, "<|endoftext|>": END}
    merges = [pair for pair in sorted(words.bpe_ranks, key=words.bpe_ranks.get) if len(pair) == 2]
    return transformers.CLIPTokenizer(vocab=vocabulary, merges=merges)


def pillow(**options):
    """transformers' image processor on Pillow."""
    return pytest.importorskip("transformers.models.clip.image_processing_pil_clip").CLIPImageProcessorPil(**options)


def processor():
    return pytest.importorskip("transformers").CLIPProcessor(pillow(), tokenizer())


def picture(height, width):
    rng = np.random.default_rng(height)
    coarse = np.kron(rng.random((height // 6 + 1, width // 6 + 1, 3)), np.ones((6, 6, 1)))[:height, :width]
    return np.clip(255 * coarse + rng.normal(0, 10, coarse.shape), 0, 255).astype(np.uint8)


def ours_of(path, form, name="clip-vit-b32"):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(weights, "locate", lambda network: Weights(network.name, path, form, None, "test"))
        return clip_encoder.load.__wrapped__(Network(name), "cpu")


@pytest.fixture(scope="module")
def vit_b32(tmp_path_factory):
    """A folder with the same weights in every format, inputs, and transformers' features of them."""
    folder = tmp_path_factory.mktemp("vit-b32")
    config = open_clip.get_model_config("ViT-B-32-quickgelu")
    arrays = state(config, sharpness=1.5)
    renamed = {name: torch.from_numpy(values) for name, values in save_for_transformers(config, arrays, folder).items()}
    torch.save(renamed | {"vision_model.embeddings.position_ids": torch.arange(50)[None]}, folder / FORMATS["hf-clip-bin"])
    model = oracle(folder)
    half = {name: torch.from_numpy(values).half() for name, values in arrays.items()}
    torch.save(half | {"input_resolution": torch.tensor(224)}, folder / FORMATS["openai-clip"])
    pixels = clip_encoder.normalised(
        torch.from_numpy(np.stack([picture(224, 224), videos()["wide"][0][0].repeat(4, 0)[:224].repeat(3, 1)[:, :224]]))
    )
    ids = torch.from_numpy(np.concatenate([caption_ids(caption, "truncated") for caption in (SHORT, LONG)]))
    with torch.inference_mode():
        features = [model.get_image_features(pixels), model.get_text_features(ids)]
    yield folder, pixels, ids, [(value / value.norm(dim=-1, keepdim=True)).numpy() for value in features]
    for name in FORMATS.values():
        (folder / name).unlink()


@pytest.mark.parametrize("form", FORMATS)
def test_features_agree_with_transformers_from_every_format(vit_b32, form):
    folder, pixels, ids, (image, text) = vit_b32
    assert abs(image[0] @ image[1]) < 0.99, "the inputs must differ for the comparison to mean something"
    encoder = ours_of(folder / FORMATS[form], form)
    np.testing.assert_allclose(encoder.images(pixels), image, rtol=0, atol=1e-5 * np.abs(image).max())
    np.testing.assert_allclose(encoder.texts(ids.numpy()), text, rtol=0, atol=1e-5 * np.abs(text).max())


@pytest.mark.parametrize("archive", [False, True], ids=["plain", "TorchScript"])
def test_openai_files_load_as_open_clip_loads_them(tmp_path, archive):
    values = {name: torch.from_numpy(array).half() for name, array in state(TINY).items()}
    path = tmp_path / "tiny.pt"
    if archive:
        save_archive(values | {"input_resolution": torch.tensor(224)}, path)
    else:
        torch.save(values, path)
    expected = open_clip.load_openai_model(str(path), precision="fp32", device="cpu").eval()
    with tiny_networks(tmp_path):
        encoder = ours_of(path, "openai-clip")
    pixels = torch.from_numpy(picture(224, 224)).permute(2, 0, 1)[None] / 255
    with torch.inference_mode():
        torch.testing.assert_close(encoder.model.encode_image(pixels), expected.encode_image(pixels), rtol=0, atol=1e-5)
        ids = torch.from_numpy(caption_ids(LONG, "chunked"))
        torch.testing.assert_close(encoder.model.encode_text(ids), expected.encode_text(ids), rtol=0, atol=1e-5)


def save_archive(values, path):
    root = torch.nn.Module()
    for name, value in values.items():
        *modules, last = name.split(".")
        at = root
        for module in modules:
            if not hasattr(at, module):
                at.add_module(module, torch.nn.Module())
            at = getattr(at, module)
        at.register_buffer(last, value)
    torch.jit.script(root).save(str(path))


@pytest.mark.parametrize(
    ("name", "tensors", "numbers"), [("ViT-B-32-quickgelu", 302, 151_277_313), ("ViT-L-14-quickgelu", 446, 427_616_513)]
)
def test_the_networks_have_the_published_size(name, tensors, numbers):
    with torch.device("meta"):
        values = open_clip.CLIP(**open_clip.get_model_config(name)).state_dict().values()
    assert (len(values), sum(value.numel() for value in values)) == (tensors, numbers)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_pixels_are_those_of_transformers_on_pillow(size):
    frame = picture(*size)
    whole = np.ones(size, bool)
    theirs = pillow(do_rescale=False, do_normalize=False)(frame, return_tensors="np")["pixel_values"][0]
    np.testing.assert_array_equal(seen("center", frame, whole).transpose(2, 0, 1), theirs)
    ready = clip_encoder.normalised(torch.from_numpy(seen("center", frame, whole))[None])[0]
    np.testing.assert_allclose(ready, pillow()(frame, return_tensors="np")["pixel_values"][0], rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", SIZES[:-1], ids=str)
def test_pixels_are_within_one_level_of_transformers_on_torchvision(size):
    processing = pytest.importorskip("transformers.models.clip.image_processing_clip").CLIPImageProcessor
    theirs = processing(do_rescale=False, do_normalize=False)(torch.from_numpy(picture(*size)).permute(2, 0, 1), return_tensors="np")
    ours = seen("center", picture(*size), np.ones(size, bool)).astype(int)
    assert np.abs(ours.transpose(2, 0, 1) - theirs["pixel_values"][0]).max() <= 1


@pytest.mark.parametrize("size", [(480, 720), (75, 40), (224, 224)], ids=str)
def test_pixels_are_those_of_open_clip_where_the_margin_is_even(size):
    transform = open_clip.image_transform(224, is_train=False, mean=clip_encoder.MEAN, std=clip_encoder.STD)
    ours = clip_encoder.normalised(torch.from_numpy(seen("center", picture(*size), np.ones(size, bool)))[None])[0]
    torch.testing.assert_close(ours, transform(Image.fromarray(picture(*size))), rtol=0, atol=1e-6)


@pytest.mark.parametrize("caption", CAPTIONS[:-1])
def test_ids_are_those_of_transformers(caption):
    theirs = tokenizer()([caption], truncation=True, max_length=77)["input_ids"][0]
    ours = caption_ids(caption, "truncated")[0]
    assert ours[: len(theirs)].tolist() == theirs
    assert not ours[len(theirs) :].any()
    whole = tokenizer()([caption])["input_ids"][0][:77]  # what torchmetrics keeps
    assert caption_ids(caption, "unterminated")[0, : len(whole)].tolist() == whole


def test_ids_are_those_of_open_clip():
    np.testing.assert_array_equal(
        np.concatenate([caption_ids(caption, "truncated") for caption in CAPTIONS[:-1]]), open_clip.tokenize(CAPTIONS[:-1]).numpy()
    )


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The recipe's weights wherever weights are asked for."""
    folder = tmp_path_factory.mktemp("tiny")
    torch.save({name: torch.from_numpy(array) for name, array in state(TINY).items()}, folder / "tiny.pt")
    with tiny_networks(folder) as patch:
        patch.setattr(weights, "locate", lambda network: Weights(network.name, folder / "tiny.pt", "openai-clip", None, "tiny"))
        patch.setattr(weights, "label", lambda network: "tiny")
        yield


def compared(name, caption=""):
    frames, masks = videos()[name]
    return Comparison(frames, frames, masks, caption=caption, region_caption=caption)


@pytest.mark.parametrize("name", videos())
@pytest.mark.parametrize(("region", "column"), [("frame", "consistency"), ("hole", "masked consistency")])
def test_temporal_consistency_is_the_official_one(tiny, name, region, column):
    metric = ClipTc(region, preprocessing="vpbench-official")
    value = metric.clip(metric.measure(compared(name))).value
    assert value == pytest.approx(json.loads(OFFICIAL.read_text())[f"{name} {column}"], abs=1e-6)


@pytest.mark.parametrize("name", videos())
@pytest.mark.parametrize(("region", "crop", "masked"), [("frame", "center", ""), ("hole", "masked_center", "masked ")])
def test_clip_score_is_the_official_one(tiny, name, region, crop, masked):
    metric = ClipText(region, crop=crop, tokens="unterminated", clamp=True)
    expected = json.loads(OFFICIAL.read_text())
    for text, caption in zip(TEXTS, (SHORT, LONG, OTHER_LONG), strict=True):
        values = metric.frames(metric.measure(compared(name, caption)))
        np.testing.assert_allclose(values, expected[f"{name} {masked}{text}"], rtol=0, atol=1e-4)


def test_official_clip_score_does_not_depend_on_a_long_caption(tiny, tmp_path):
    """The signature of the official quirk, with torchmetrics itself beside ours."""
    scorer = pytest.importorskip("torchmetrics.multimodal.clip_score").CLIPScore
    save_for_transformers(TINY, state(TINY), tmp_path)
    theirs = scorer(lambda: (oracle(tmp_path), processor()))
    frames = videos()["wide"][0]
    official = ClipText(crop="center", tokens="unterminated", clamp=True)
    found = {caption: official.frames(official.measure(compared("wide", caption))) for caption in (LONG, OTHER_LONG)}
    np.testing.assert_array_equal(found[LONG], found[OTHER_LONG])
    for caption, values in found.items():
        with pytest.warns(UserWarning, match="longer than"):
            expected = [float(theirs(torch.from_numpy(frame).permute(2, 0, 1), caption)) for frame in frames]
        np.testing.assert_allclose(values, expected, rtol=0, atol=1e-4)
    for tokens in ("chunked", "truncated"):
        metric = ClipText(crop="center", tokens=tokens)
        one, other = (metric.clip(metric.measure(compared("wide", caption))).value for caption in (LONG, OTHER_LONG))
        assert abs(one - other) > 0.1


@pytest.mark.parametrize("onednn", [True, False], ids=["oneDNN", "without oneDNN"])
def test_the_lightened_tower_gives_the_plain_networks_embeddings(tmp_path, monkeypatch, onednn):
    if onednn and not clip_tower._has_onednn():
        pytest.skip("this build of torch has no oneDNN")
    monkeypatch.setattr(clip_tower, "_has_onednn", lambda: onednn)
    with tiny_networks(tmp_path):
        network = Network("clip-vit-b32", "random-3")
        encoder, plain = clip_encoder.load.__wrapped__(network, "cpu"), clip_encoder.plain_model(network, "cpu")
        pixels = clip_encoder.normalised(torch.from_numpy(np.stack([picture(224, 224), picture(225, 224)[1:]])))
        with torch.inference_mode():
            expected = torch.nn.functional.normalize(plain.encode_image(pixels), dim=-1)
        *blocks, last = encoder.model.visual.transformer.resblocks
        assert len(blocks) + 1 == len(plain.visual.transformer.resblocks)
        for block in (*blocks, last.block):  # the last one sees the class token alone
            for layer in (block.mlp.c_fc, block.mlp.c_proj):
                assert isinstance(layer, torch.nn.Linear) is not onednn
        np.testing.assert_allclose(encoder.images(pixels), expected, rtol=0, atol=2e-6)
