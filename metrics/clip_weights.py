"""Files of CLIP weights as the parameters of ``open_clip``'s network.

Three formats: ``openai-clip``, the ``.pt`` files of openai/CLIP (a TorchScript archive, of which only the parameters are used, or a
plain state dict); ``hf-clip-safetensors`` and ``hf-clip-bin``, the files of Hugging Face transformers' ``CLIPModel``.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vpbench.weights import Weights, WeightsError
from vpbench.weights_check import is_torchscript

if TYPE_CHECKING:
    from torch import Tensor, nn

OPENAI_SCALARS = ("input_resolution", "context_length", "vocab_size")  # in the archives beside the parameters

# Names of transformers' CLIPModel, to those of openai/CLIP and open_clip.
_LAYER = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_IN_LAYER = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_TOWERS = {"text": "transformer", "vision": "visual.transformer"}
_QKV = ("q", "k", "v")
_ELSEWHERE = {
    "logit_scale": "logit_scale",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
}
_TRANSPOSED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}


def parameters(weights: Weights, network: nn.Module) -> dict[str, Tensor]:
    """Return the parameters of ``network``, float32, from a file or drawn at random.

    Args:
        weights: where they come from.
        network: ``open_clip``'s CLIP, whose names and shapes they must have.

    Raises:
        WeightsError: the file cannot be read or belongs to another network.
    """
    wanted = network.state_dict()
    if weights.seed is not None:
        return _random(wanted, weights.seed)
    assert weights.path is not None
    found = read(weights.path, weights.format)
    problems = [
        _some("it lacks", wanted.keys() - found.keys()),
        _some("it has unknown", found.keys() - wanted.keys()),
        _some("other shapes:", [name for name in wanted.keys() & found.keys() if wanted[name].shape != found[name].shape]),
    ]
    if any(problems):
        raise WeightsError(
            f"{weights.path}: not the weights of {weights.network} in the format {weights.format} ("
            + "; ".join(problem for problem in problems if problem)
            + "). Name the file of that network."
        )
    return {name: value.float() for name, value in found.items()}


def read(path: Path, form: str) -> dict[str, Tensor]:
    """Return what a file holds, under the names of ``open_clip``.

    Args:
        path: the file.
        form: ``openai-clip``, ``hf-clip-safetensors`` or ``hf-clip-bin``.

    Raises:
        WeightsError: it cannot be read.
    """
    import torch

    try:
        if form == "hf-clip-safetensors":
            from safetensors.torch import load_file

            return dict(_renamed(load_file(path)))
        if form == "hf-clip-bin":
            return dict(_renamed(torch.load(path, map_location="cpu", weights_only=True)))
        if is_torchscript(path):
            jit: Any = torch.jit  # without annotations in torch
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FutureWarning)  # the format is deprecated, but OpenAI's files have no other
                state: Mapping[str, Tensor] = jit.load(path, map_location="cpu").state_dict()
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
        return {name: value for name, value in state.items() if name not in OPENAI_SCALARS}
    except Exception as error:  # zipfile, pickle, torch and safetensors raise a dozen unrelated types here
        raise WeightsError(f"{path}: cannot be read as {form} ({error}). Fetch the file again.") from error


def _renamed(state: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters of transformers' CLIPModel under the names of ``open_clip``; unknown ones keep theirs."""
    import torch

    for name, value in state.items():
        layer = _LAYER.fullmatch(name)
        if name in _TRANSPOSED:
            yield _TRANSPOSED[name], value.t().contiguous()
        elif layer and layer[3] in _IN_LAYER:
            yield f"{_TOWERS[layer[1]]}.resblocks.{layer[2]}.{_IN_LAYER[layer[3]]}.{layer[4]}", value
        elif layer and layer[3] == "self_attn.q_proj":
            parts = [name.replace("q_proj", f"{part}_proj") for part in _QKV]
            if all(part in state for part in parts):
                yield f"{_TOWERS[layer[1]]}.resblocks.{layer[2]}.attn.in_proj_{layer[4]}", torch.cat([state[part] for part in parts])
        elif layer and layer[3] in ("self_attn.k_proj", "self_attn.v_proj"):
            continue  # with q_proj
        elif not name.endswith(".position_ids"):  # a counter from 0 in files of older versions
            yield _ELSEWHERE.get(name, name), value


def _some(what: str, names: Any) -> str:
    listed = sorted(names)
    if not listed:
        return ""
    return f"{what} {', '.join(listed[:2])}" + (f" and {len(listed) - 2} more" if len(listed) > 2 else "")


def _random(wanted: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Draw parameters under which activations are O(1) and depend on the input; for tests."""
    import torch

    generator = torch.Generator().manual_seed(seed)

    def drawn(name: str, like: Tensor) -> Tensor:
        noise = torch.randn(like.shape, generator=generator)
        if name.endswith("logit_scale"):
            return torch.tensor(math.log(100.0))
        if "ln_" in name and name.endswith("weight"):
            return 1 + 0.2 * noise
        if name.endswith(("bias", "class_embedding", "positional_embedding")):
            return 0.2 * noise
        if name == "token_embedding.weight":
            return noise
        inputs = like.shape[0] if name.endswith(("text_projection", "visual.proj")) else like[0].numel()
        return noise / math.sqrt(inputs)

    return {name: drawn(name, like) for name, like in wanted.items()}
