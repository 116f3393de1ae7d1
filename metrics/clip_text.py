"""Text alignment: 100 times the cosine between CLIP's embeddings of a frame and of a caption; larger is better.

After CLIPScore (Hessel et al. 2021), without its weight of 2.5. Which square of the frame is seen (``vpbench.metrics.clip_image``) and
what happens to long captions (``vpbench.metrics.clip_tokens``) are options. The cosines of a frame's squares are averaged, then the
frames.

``crop=center``, ``tokens=unterminated``, ``clamp=True`` is the CLIP score of the VideoPainter evaluation (TencentARC/VideoPainter
``evaluate/metrics.py``), where captions of more than 77 ids all have the same embedding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vpbench import weights
from vpbench.measuring import Arrays, ClipMetric, ClipValue, Comparison, Measure, Network, Part, Region, frame_mean
from vpbench.metrics.clip_encoder import NETWORKS, PRECISIONS, Precision, cosine, load
from vpbench.metrics.clip_image import ClipImages, Crop
from vpbench.metrics.clip_tokens import TOKENS, Tokens, caption_ids
from vpbench.metrics.options import check_options

Text = Literal["caption", "region_caption"]
TEXTS: tuple[Text, ...] = get_args(Text)
CROPS_IN: dict[Region, tuple[Crop, ...]] = {"frame": ("cover", "center"), "hole": ("hole_box", "masked_center")}


@dataclass(frozen=True)
class ClipTexts(Measure):
    """The measure: ``embedding``, float32 (D,) of length 1, the renormalised mean of the chunks', and ``n_chunks``, int64 ().

    A clip without the text has ``n_chunks`` 0 and an embedding of no dimensions; no network runs.

    Attributes:
        network: ``clip-vit-l14`` or ``clip-vit-b32``.
        source: where its weights come from, see ``vpbench.measuring.Network``.
        text: ``caption`` or ``region_caption``.
        tokens: what happens to long captions, see ``vpbench.metrics.clip_tokens``.
    """

    network: str = "clip-vit-l14"
    source: str = ""
    text: Text = "caption"
    tokens: Tokens = "chunked"

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return f"clip_texts-{weights.label(self.networks[0])}-{self.text}-{self.tokens}-v1"

    @property
    def reads(self) -> frozenset[Part]:
        """The clip's texts alone."""
        return frozenset(("texts",))

    @property
    def networks(self) -> tuple[Network, ...]:
        """CLIP."""
        return (Network(self.network, self.source),)

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        """Return the embedding of one clip's text."""
        ids = caption_ids(comparison.caption if self.text == "caption" else comparison.region_caption, self.tokens)
        if not len(ids):
            return {"embedding": np.empty(0, np.float32), "n_chunks": np.array(0)}
        mean = load(self.networks[0], comparison.device).texts(ids).mean(axis=0)
        return {"embedding": mean / np.linalg.norm(mean), "n_chunks": np.array(len(ids))}


@dataclass(frozen=True)
class ClipSimilarity(Measure):
    """The measure: ``cosine``, float64 (T, K) for K squares per frame, nan for frames that are skipped, and ``n_chunks``, int64 ().

    Where the clip has no text ``n_chunks`` is 0, every cosine nan, and no frame is looked at.

    Attributes:
        images: what is seen of the frames.
        texts: the text, from the same network.
    """

    images: ClipImages
    texts: ClipTexts

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        images = f"{self.images.of}-{self.images.crop}-{self.images.precision}"
        return f"clip_similarity-{weights.label(self.networks[0])}-{images}-{self.texts.text}-{self.texts.tokens}-v1"

    @property
    def reads(self) -> frozenset[Part]:
        """What its two passes read."""
        return self.images.reads | self.texts.reads

    @property
    def networks(self) -> tuple[Network, ...]:
        """CLIP."""
        return self.images.networks

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        """Return the cosines of one comparison."""
        text = comparison.arrays(self.texts)
        if not text["n_chunks"]:
            cosines = np.full((len(comparison.prediction), 1), np.nan)
        else:
            cosines = cosine(comparison.arrays(self.images)["embeddings"], text["embedding"])
        return {"cosine": cosines, "n_chunks": text["n_chunks"]}


@dataclass(frozen=True)
class ClipText(ClipMetric):
    """Text alignment of the frame or of what lies in the hole; see the module's text.

    Attributes:
        region: ``frame`` or ``hole``.
        network: ``clip-vit-l14`` or ``clip-vit-b32``.
        weights: where its weights come from, see ``vpbench.measuring.Network``.
        text: ``caption`` or ``region_caption``.
        tokens: ``chunked``, ``truncated`` or ``unterminated``.
        crop: ``cover`` or ``center`` of the frame; ``hole_box`` or ``masked_center`` of the hole.
        clamp: negative values of a frame count as 0.
        precision: ``exact`` (float32) or ``fast`` (bfloat16 on CUDA).

    Raises:
        ConfigError: an unknown name, or a crop that does not belong to the region.
    """

    name: str = "clip_text"
    network: str = "clip-vit-l14"
    weights: str = ""
    text: Text = "caption"
    tokens: Tokens = "chunked"
    crop: Crop = "cover"
    clamp: bool = False
    precision: Precision = "exact"

    direction: ClassVar[Literal["higher", "lower"]] = "higher"
    digits: ClassVar[int] = 2
    range: ClassVar[tuple[float, float]] = (-100.0, 100.0)
    regions: ClassVar[tuple[Region, ...]] = ("frame", "hole")
    needs_truth: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, network=NETWORKS, text=TEXTS, tokens=TOKENS, crop=CROPS_IN[self.region], precision=PRECISIONS)

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        return f"frames,{self.crop},{self.text},{self.tokens}" + (",clamped" if self.clamp else "")

    @property
    def measure(self) -> ClipSimilarity:
        """The pass that gives the cosines."""
        return ClipSimilarity(
            ClipImages(self.network, self.weights, self.crop, self.precision),
            ClipTexts(self.network, self.weights, self.text, self.tokens),
        )

    def frames(self, arrays: Arrays) -> NDArray[np.float64]:
        """Return (T,) values; nan where the clip has no text, or the frame no hole to look at."""
        values: NDArray[np.float64] = 100 * arrays["cosine"].mean(axis=1)
        return np.maximum(values, 0) if self.clamp else values

    def clip(self, arrays: Arrays) -> ClipValue:
        """Return the mean over the frames."""
        values = self.frames(arrays)
        if not arrays["n_chunks"]:
            return ClipValue(float("nan"), 0, len(values), reason=f"the clip has no {self.text.replace('_', ' ')}")
        return frame_mean(values, "the hole is less than 0.05 % of the frame")
