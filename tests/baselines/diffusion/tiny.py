"""A CogVideoX checkpoint, a VideoPainter branch and an ID adapter small enough for the CPU, with seeded random weights.

Layouts, names and file names are those of the released checkpoints; only the sizes differ. Every tensor follows from its name alone
(numpy's generator, seeded by the name), so that the same files come out wherever this runs. Everything that the released code sets to
zero or one at the start of training is random here: a zero would hide what is multiplied with it.
"""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np

HEIGHT, WIDTH, WINDOW = 64, 96, 9
LATENTS = (1, 3, 16, 8, 12)
TEXT_TOKENS, TEXT_WIDTH = 16, 32
LAYERS = 5  # odd on purpose: the first of two branch features is added after blocks 0 to 2, the second after 3 and 4
TRANSFORMER = {
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "in_channels": 32,
    "out_channels": 16,
    "patch_size": 2,
    "time_embed_dim": 8,
    "text_embed_dim": TEXT_WIDTH,
    "sample_width": 12,
    "sample_height": 8,
    "sample_frames": WINDOW,
    "max_text_seq_length": TEXT_TOKENS,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": True,
}
FULL_BRANCH = {
    "num_attention_heads": 48,
    "attention_head_dim": 64,
    "num_layers": 2,
    "in_channels": 32,
    "out_channels": 16,
    "patch_size": 2,
    "time_embed_dim": 512,
    "text_embed_dim": 4096,
    "max_text_seq_length": 226,
    "sample_width": 90,
    "sample_height": 60,
    "sample_frames": 49,
    "temporal_compression_ratio": 4,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": True,
    "wo_text": False,
    "id_pool_resample_learnable": False,
}
SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "linspace",  # as in the released file; the pipelines set "trailing"
    "set_alpha_to_one": True,
    "clip_sample": False,
    "snr_shift_scale": 1.0,
}
VAE = {
    "down_block_types": ("CogVideoXDownBlock3D",) * 4,
    "up_block_types": ("CogVideoXUpBlock3D",) * 4,
    "block_out_channels": (8, 8, 8, 8),
    "layers_per_block": 1,
    "norm_num_groups": 2,
    "latent_channels": 16,
    "temporal_compression_ratio": 4,
    "scaling_factor": 0.7,
    "sample_height": HEIGHT,
    "sample_width": WIDTH,
}
CORPUS = "a woman walks through the city at night and a brown bear drinks from the river while snow falls on the old bridge near houses"


def noise(name, shape):
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.default_rng(seed).standard_normal(shape)


def values(name, shape):
    """Random weights for a parameter: of a size that keeps activations in range."""
    drawn = noise(name, shape)
    if name.endswith("pos_embedding"):
        drawn *= 0.3
    elif len(shape) > 1:
        drawn *= (1.0 if name.startswith("vae") else 1.5) / np.sqrt(np.prod(shape[1:]))
    elif name.endswith("bias"):
        drawn *= 0.2
    else:
        drawn = 1 + 0.2 * drawn
    return drawn.astype(np.float32)


def fill(model, prefix):
    """Give every parameter and stored buffer of ``model`` its values."""
    import torch

    state = {name: torch.from_numpy(values(f"{prefix} {name}", tuple(tensor.shape))) for name, tensor in model.state_dict().items()}
    model.load_state_dict(state)
    return model.eval()


def branch_shapes(config):
    """The 71 tensors of a released branch file, as the specification lists them."""
    d = config["num_attention_heads"] * config["attention_head_dim"]
    head, time, text, channels = config["attention_head_dim"], config["time_embed_dim"], config["text_embed_dim"], config["in_channels"]
    frames = (config["sample_frames"] - 1) // 4 + 1
    tokens = config["max_text_seq_length"] + frames * (config["sample_height"] // 2) * (config["sample_width"] // 2)

    def linear(name, out, into):
        return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}

    def norm(name, size):
        return {f"{name}.weight": (size,), f"{name}.bias": (size,)}

    shapes = {
        "patch_embed.proj.weight": (d, channels + 1, 2, 2),
        "patch_embed.proj.bias": (d,),
        **linear("patch_embed.text_proj", d, text),
        "patch_embed.pos_embedding": (1, tokens, d),
        **linear("time_embedding.linear_1", time, d),
        **linear("time_embedding.linear_2", time, time),
    }
    for i in range(2):
        block = f"transformer_blocks.{i}"
        for which in ("norm1", "norm2"):
            shapes |= linear(f"{block}.{which}.linear", 6 * d, time) | norm(f"{block}.{which}.norm", d)
        for which in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= linear(f"{block}.attn1.{which}", d, d)
        shapes |= norm(f"{block}.attn1.norm_q", head) | norm(f"{block}.attn1.norm_k", head)
        shapes |= linear(f"{block}.ff.net.0.proj", 4 * d, d) | linear(f"{block}.ff.net.2", d, 4 * d)
        shapes |= linear(f"branch_blocks.{i}", d, d)
    shapes |= norm("norm_final", d) | linear("norm_out.linear", 2 * d, time) | norm("norm_out.norm", d)
    return shapes | linear("proj_out", 4 * config["out_channels"], d) | linear("branch_x_embedder", d, channels)


def branch_config(**changes):
    return {**TRANSFORMER, "num_layers": 2, "wo_text": False, "id_pool_resample_learnable": False, "_class_name": "VideoPainter", **changes}


def save(folder, config, tensors, dtype=None):
    """Write a folder with ``config.json`` and ``diffusion_pytorch_model.safetensors``."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    made = {name: torch.as_tensor(tensor).to(dtype or torch.float32) for name, tensor in tensors.items()}
    save_file(made, folder / "diffusion_pytorch_model.safetensors", metadata={"format": "pt"})
    return folder


def write_branch(folder, **changes):
    config = branch_config(**changes)
    return save(Path(folder), config, {name: values(f"branch {name}", shape) for name, shape in branch_shapes(config).items()})


def write_adapter(path, rank=4, layers=LAYERS, width=32):
    """Low-rank weights of every attention projection, named as in the released ``pytorch_lora_weights.safetensors``."""
    import torch
    from safetensors.torch import save_file

    tensors = {}
    for i in range(layers):
        for which in ("to_q", "to_k", "to_v", "to_out.0"):
            name = f"transformer.transformer_blocks.{i}.attn1.{which}"
            tensors[f"{name}.lora_A.weight"] = torch.from_numpy(values(f"adapter {name} A", (rank, width)))
            tensors[f"{name}.lora_B.weight"] = torch.from_numpy(values(f"adapter {name} B", (width, rank)))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, path)
    return path


def write_tokenizer(folder):
    """A sentencepiece unigram model of about 70 pieces in the layout of T5's tokenizer."""
    import sentencepiece

    made = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([CORPUS, *CORPUS.split()] * 4),
        model_writer=made,
        model_type="unigram",
        vocab_size=70,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(made.getvalue())
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    (folder / "tokenizer_config.json").write_text(json.dumps({**special, "extra_ids": 0, "tokenizer_class": "T5Tokenizer"}))


def write_text_encoder(folder, width=TEXT_WIDTH):
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        vocab_size=200, d_model=width, d_kv=8, d_ff=64, num_layers=2, num_heads=4, feed_forward_proj="gated-gelu", tie_word_embeddings=False
    )
    fill(T5EncoderModel(config), "t5").save_pretrained(folder)


def write_backbone(folder, text=True):
    """A checkpoint of CogVideoX's image-to-video model in the layout of diffusers."""
    from diffusers import AutoencoderKLCogVideoX, CogVideoXTransformer3DModel

    folder = Path(folder)
    fill(CogVideoXTransformer3DModel(num_layers=LAYERS, **TRANSFORMER), "transformer").save_pretrained(folder / "transformer")
    fill(AutoencoderKLCogVideoX(**VAE), "vae").save_pretrained(folder / "vae")
    if text:
        write_tokenizer(folder / "tokenizer")
        write_text_encoder(folder / "text_encoder")
    return write_index(folder, text)


def write_index(folder, text=True):
    """The scheduler's file, and the index that names all parts."""
    (folder / "scheduler").mkdir()
    scheduler = {"_class_name": "CogVideoXDDIMScheduler", **SCHEDULER}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(scheduler))
    parts = {
        "transformer": ["diffusers", "CogVideoXTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLCogVideoX"],
        "scheduler": ["diffusers", "CogVideoXDDIMScheduler"],
    }
    if text:
        parts |= {"tokenizer": ["transformers", "T5Tokenizer"], "text_encoder": ["transformers", "T5EncoderModel"]}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "CogVideoXImageToVideoPipeline", **parts}))
    return folder


def embeddings():
    """Text embeddings of the parity cases, float32 (2, tokens, width): the negative prompt's, then the caption's."""
    return noise("embeddings", (2, TEXT_TOKENS, TEXT_WIDTH)).astype(np.float32)


def video(frames, height=HEIGHT, width=WIDTH):
    """Smooth moving colours, a moving rectangle as the hole (black), and a first frame from an image inpainter.

    Returns:
        frames uint8 (T, H, W, 3) with a black hole, masks bool (T, H, W), first frame uint8 (H, W, 3).
    """
    t, y, x = np.meshgrid(np.arange(frames), np.arange(height), np.arange(width), indexing="ij")
    waves = [np.sin(x / 9 + t / 3) + np.cos(y / 7), np.sin(y / 5 - t / 4), np.cos((x + y) / 11 + t / 5)]
    pixels = np.stack([128 + 55 * wave for wave in waves], axis=-1).clip(0, 255).astype(np.uint8)
    masks = np.zeros((frames, height, width), bool)
    for i in range(frames):
        left = 20 + 2 * i % 40
        masks[i, 18:42, left : left + 31] = True
    first = pixels[0].copy()
    first[masks[0]] = (200, 90, 40)
    pixels[masks] = 0
    return pixels, masks, first
