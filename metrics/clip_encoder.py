"""CLIP (Radford et al. 2021): images and texts as directions in one space.

The networks are ``open_clip``'s, with the activation of OpenAI's weights (QuickGELU). Checked against Hugging Face transformers in
``tests/parity/test_clip_parity.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vpbench import weights
from vpbench.measuring import Network
from vpbench.metrics.batching import in_batches
from vpbench.metrics.clip_weights import parameters

if TYPE_CHECKING:
    import torch

NETWORKS = {"clip-vit-b32": "ViT-B-32-quickgelu", "clip-vit-l14": "ViT-L-14-quickgelu"}  # ours: open_clip's
Precision = Literal["exact", "fast"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
SIDE = 224  # pixels of the square images both networks read
MEAN = (0.48145466, 0.4578275, 0.40821073)  # of OpenAI's training images, RGB on 0-1
STD = (0.26862954, 0.26130258, 0.27577711)
TEXTS_AT_ONCE = 16


@dataclass(frozen=True)
class ClipEncoder:
    """A network on its device.

    Attributes:
        model: ``open_clip``'s CLIP, in float32, its image tower lightened (``vpbench.metrics.clip_tower``).
        device: a torch device.
    """

    model: Any
    device: str

    @property
    def width(self) -> int:
        """Dimensions of an embedding."""
        return int(self.model.text_projection.shape[1])

    def images(self, pixels: torch.Tensor, precision: Precision = "exact") -> NDArray[np.float32]:
        """Return the (N, D) embeddings, of length 1, of images, float32 (N, 3, 224, 224) on the scale that the network reads.

        On CUDA ``exact`` is float32 without TF32 and ``fast`` is bfloat16; on the CPU both are float32.
        """
        with _arithmetic(self.device, precision):
            features = self.model.encode_image(pixels.to(self.device)).float()
            return _unit(features)

    def texts(self, ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return the (N, D) embeddings, of length 1, of ids (N, 77), N at least 1; always in float32 without TF32."""
        import torch

        def encode(part: slice) -> NDArray[np.generic]:
            with _arithmetic(self.device, "exact"):
                return _unit(self.model.encode_text(torch.from_numpy(ids[part]).to(self.device)))

        return in_batches(encode, len(ids), TEXTS_AT_ONCE).astype(np.float32, copy=False)


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Return images as CLIP was trained to read them: uint8 (N, 224, 224, 3) RGB to float32 (N, 3, 224, 224)."""
    import torch

    mean, std = (torch.tensor(values, device=pixels.device).view(3, 1, 1) for values in (MEAN, STD))
    return (pixels.permute(0, 3, 1, 2).float() / 255 - mean) / std


def cosine(one: NDArray[np.floating[Any]], other: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Return the cosine between vectors along the last axis, in float64.

    >>> cosine(np.array([3.0, 4.0]), np.array([[6.0, 8.0], [4.0, -3.0]]))
    array([1., 0.])
    """
    a, b = (v / np.linalg.norm(v, axis=-1, keepdims=True) for v in (one.astype(np.float64), other.astype(np.float64)))
    values: NDArray[np.float64] = np.clip((a * b).sum(axis=-1), -1, 1)
    return values


@lru_cache(maxsize=4)
def load(network: Network, device: str) -> ClipEncoder:
    """Return the network with its weights, ready to run; loaded once per process.

    Raises:
        WeightsError: the weights are missing, damaged or of another network.
    """
    from vpbench.metrics.clip_tower import lighten

    model = plain_model(network, device)
    lighten(model.visual, device)
    return ClipEncoder(model, device)


def plain_model(network: Network, device: str) -> Any:
    """Return ``open_clip``'s CLIP as it is, with the network's weights; raises as ``load`` does."""
    import open_clip
    import torch

    located = weights.locate(network)
    with torch.device("meta"):  # neither memory nor random numbers for weights that are replaced at once
        model = open_clip.CLIP(**open_clip.get_model_config(NETWORKS[network.name]))
    model.load_state_dict(parameters(located, model), assign=True)
    length = model.context_length
    model.attn_mask = torch.full((length, length), float("-inf")).triu_(1)  # causal; not among the parameters
    return model.to(device).requires_grad_(False).eval()


def _unit(features: torch.Tensor) -> NDArray[np.float32]:
    unit: NDArray[np.float32] = (features / features.norm(dim=-1, keepdim=True)).cpu().numpy()
    return unit


@contextmanager
def _arithmetic(device: str, precision: Precision) -> Iterator[None]:
    """Run without gradients, in the precision asked for; the process's own settings come back."""
    import torch

    with torch.inference_mode():
        if not device.startswith("cuda"):
            yield
            return
        fast = precision == "fast"
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = fast
        try:
            with torch.autocast("cuda", torch.bfloat16, enabled=fast):
                yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before
