"""CLIP weights and videos that are equal on every machine, and what stands in for the published networks in the tests."""

import json
from contextlib import contextmanager
from zlib import crc32

import numpy as np
import pytest

from vpbench.metrics import clip_encoder

TINY = {
    "embed_dim": 32,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 224, "layers": 2, "width": 64, "patch_size": 32},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 2},
}
LONG = "A brown dog runs along the beach while waves roll in and children build a castle of sand beside their parents. " * 4
OTHER_LONG = "Two astronauts repair a satellite above the night side of the planet; city lights glimmer far below them. " * 4
SEED = 2
SHORT = "a red bus, parked"


def state(config, sharpness=3.0):
    """The arrays of an OpenAI file by name, float32 rounded to float16.

    Attention of some sharpness chooses what it sees; with 1 all images look alike, and too much amplifies rounding layer by layer.
    """
    vision, text, embedding = config["vision_cfg"], config["text_cfg"], config["embed_dim"]
    wide, narrow, patch = vision["width"], text["width"], vision["patch_size"]
    grid = vision["image_size"] // patch
    shapes = {
        "logit_scale": (),
        "positional_embedding": (77, narrow),
        "text_projection": (narrow, embedding),
        "token_embedding.weight": (49408, narrow),
        "visual.class_embedding": (wide,),
        "visual.conv1.weight": (wide, 3, patch, patch),
        "visual.positional_embedding": (grid * grid + 1, wide),
        "visual.proj": (wide, embedding),
    }
    norms = {"ln_final": narrow, "visual.ln_pre": wide, "visual.ln_post": wide}
    for tower, width, layers in (("transformer", narrow, text["layers"]), ("visual.transformer", wide, vision["layers"])):
        for block in (f"{tower}.resblocks.{n}" for n in range(layers)):
            norms |= {f"{block}.ln_1": width, f"{block}.ln_2": width}
            shapes |= {f"{block}.attn.in_proj_weight": (3 * width, width), f"{block}.attn.in_proj_bias": (3 * width,)}
            linear = (("attn.out_proj", width, width), ("mlp.c_fc", 4 * width, width), ("mlp.c_proj", width, 4 * width))
            for name, outputs, inputs in linear:
                shapes |= {f"{block}.{name}.weight": (outputs, inputs), f"{block}.{name}.bias": (outputs,)}
    arrays = {name: _normal(name, shape) * _scale(name, shape, sharpness) for name, shape in shapes.items()}
    for name, width in norms.items():
        arrays |= {f"{name}.weight": 1 + 0.2 * _normal(f"{name}.weight", (width,)), f"{name}.bias": 0.2 * _normal(f"{name}.bias", (width,))}
    return {name: np.asarray(values, np.float32).astype(np.float16).astype(np.float32) for name, values in arrays.items()}


def transformers_names(arrays):
    """The same weights under the names of transformers' CLIPModel."""
    plain = {
        "ln_final": "text_model.final_layer_norm",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "token_embedding": "text_model.embeddings.token_embedding",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1": "vision_model.embeddings.patch_embedding",
        "visual.ln_post": "vision_model.post_layernorm",
        "visual.ln_pre": "vision_model.pre_layrnorm",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    }
    inside = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }
    found = {"text_projection.weight": arrays["text_projection"].T, "visual_projection.weight": arrays["visual.proj"].T}
    for name, values in arrays.items():
        if name in ("text_projection", "visual.proj"):
            continue
        if ".resblocks." not in name:
            stem, _, kind = name.rpartition(".")
            found[plain[name] if name in plain else f"{plain[stem]}.{kind}" if stem else name] = values
            continue
        tower, _, rest = name.partition(".resblocks.")
        number, _, rest = rest.partition(".")
        layer = f"{'vision' if tower.startswith('visual') else 'text'}_model.encoder.layers.{number}"
        if rest.startswith("attn.in_proj_"):
            for part, third in zip("qkv", np.split(values, 3), strict=True):
                found[f"{layer}.self_attn.{part}_proj.{rest.removeprefix('attn.in_proj_')}"] = third
        else:
            stem, _, kind = rest.rpartition(".")
            found[f"{layer}.{inside[stem]}.{kind}"] = values
    return found


def videos():
    """Name to frames, uint8 (T, H, W, 3), and masks, bool (T, H, W)."""
    made = {}
    for name, frames, height, width, bright in (("wide", 4, 60, 91, 255), ("tall", 3, 75, 40, 255), ("dark", 3, 50, 70, 1)):
        rng = np.random.default_rng(crc32(name.encode()))
        coarse = rng.random((height // 10 + 2, (width + 6 * frames) // 10 + 2, 3))
        texture = np.kron(coarse, np.ones((10, 10, 1)))[:height]
        moving = np.stack([texture[:, 6 * t : 6 * t + width] for t in range(frames)])
        masks = np.zeros(moving.shape[:3], bool)
        for t, mask in enumerate(masks[:-1]):  # the last frame has no hole
            mask[10 + 4 * t : 40 + 4 * t, 5 : 30 + 2 * t] = True
        made[name] = np.round(bright * moving).astype(np.uint8), masks
    return made


@contextmanager
def tiny_networks(folder):
    """While it lasts both CLIP networks have the size of ``TINY``."""
    import open_clip

    (folder / "vpbench-tiny.json").write_text(json.dumps(TINY))
    open_clip.add_model_config(folder / "vpbench-tiny.json")
    clip_encoder.load.cache_clear()
    with pytest.MonkeyPatch.context() as patch:
        for name in list(clip_encoder.NETWORKS):
            patch.setitem(clip_encoder.NETWORKS, name, "vpbench-tiny")
        yield patch
    clip_encoder.load.cache_clear()


def _normal(name, shape):
    return np.random.default_rng([SEED, crc32(name.encode())]).standard_normal(shape, np.float32)


def _scale(name, shape, sharpness):
    if name == "logit_scale":
        return 0.1
    if name == "token_embedding.weight":
        return 1.0
    if len(shape) == 1 or "embedding" in name:
        return 0.2
    return (sharpness if name.endswith("in_proj_weight") else 1) * (shape[0] if name.endswith("proj") else np.prod(shape[1:])) ** -0.5
