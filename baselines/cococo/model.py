"""COCOCO: video inpainting from a text with an image network that has learned to move.

Zi et al., "CoCoCo: Improving Text-Guided Video Inpainting for Better Consistency, Controllability and Compatibility", arXiv 2403.12035.
Stable Diffusion 1.5's inpainting network, whose frames look at each other through motion modules. It was taught on short clips; a longer
one is made in windows that overlap (``sampling.py``).

The network sees the frames with a grey hole, the mask, and the text. It makes whole frames, and what it makes outside of the hole is not
exactly what was there; nothing is pasted here, the track ``composite`` does that.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vpbench.baselines.cococo import parts
from vpbench.baselines.diffusion.backbones import COMPAT, caption_of, clip_seed
from vpbench.baselines.diffusion.checkpoints import Checkpoint, packages
from vpbench.baselines.diffusion.loading import OFFLOADS, PRECISIONS, free_memory, torch_device
from vpbench.baselines.diffusion.masks import RULES, dilate, latent_mask
from vpbench.baselines.diffusion.pictures import resized
from vpbench.baselines.diffusion.released import Released
from vpbench.baselines.diffusion.stages import Kept, Placement, Stages, out_of_memory
from vpbench.baselines.diffusion.wan_vace import prepared
from vpbench.check import Need
from vpbench.clip import Frames, MaskedClip, Masks
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, DataError
from vpbench.weights import random_seed

if TYPE_CHECKING:
    import torch

BASE = "benjamin-paine/stable-diffusion-v1-5-inpainting"
SPATIAL = 8  # pixels per latent, down and across
OFFICIAL_NOISE, OFFICIAL_POSTERIOR = 0, 42  # seeds of the released script
OFFICIAL_FRAMES, OFFICIAL_TOKENS = 64, 10_000  # rows of the released tables of positions

log = logging.getLogger(__name__)


@dataclass
class Cococo(Released):
    """The model.

    Attributes:
        weights: folder with ``model_0.pth`` to ``model_3.pth``; empty: the places where ``vpbench weights`` keeps them; ``random-<seed>``:
            small networks with random weights, which need no checkpoint either. Those try the plumbing and are never ranked.
        checkpoint: Stable Diffusion 1.5 inpainting, folder or hub id, in the layout of diffusers.
        height: what it works at, a multiple of 8; clips of another size are resized to it and back. Null with ``width``: the clip's own
            size, floored.
        width: see ``height``.
        window: frames made at once; null: all of them.
        overlap: frames that two windows share at least.
        steps: denoising steps.
        guidance: strength of the text; 1 or less runs without guidance, at half the cost.
        quality: what is appended to the caption, as the network was taught.
        negative_prompt: what guidance leads away from.
        mask_rule: when a latent counts as hole: ``any``, ``nearest`` or ``area``, see ``masks.latent_mask``.
        dilate_px: side of the square by which the hole is grown, at the clip's size.
        default_caption: for clips without a caption; null: they are refused.
        compat: ``official``: the released script step for step: its seeds, which are the same for all clips; drawn on the device; latents
            in the networks' precision, the masked frames' drawn from the VAE's posterior; colours cut off and not rounded; its limits.
        precision: of all networks; random ones are float32.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        offload: ``none``: UNet and VAE stay on the device, the text encoder leaves it after encoding. ``model``, ``sequential``: see
            ``stages.Placement``.
        vae_batch: frames that the VAE works on at once.
        vae_tiling: encode and decode in overlapping tiles: less memory, other pixels at their seams.
    """

    weights: str = ""
    checkpoint: str = BASE
    height: int | None = None
    width: int | None = None
    window: int | None = 16
    overlap: int = 4
    steps: int = 50
    guidance: float = 10.0
    quality: str = "best quality."
    negative_prompt: str = "worst quality. bad quality."
    mask_rule: str = "any"
    dilate_px: int = 0
    default_caption: str | None = None
    compat: str = "none"
    precision: str = "float16"
    device: str = "auto"
    offload: str = "none"
    vae_batch: int = 4
    vae_tiling: bool = False
    _kept: Kept = field(default_factory=Kept, init=False, repr=False)
    _stages: Stages = field(default_factory=Stages, init=False, repr=False)

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "StableDiffusionInpaintPipeline"

    def __post_init__(self) -> None:
        self.weights = str(self.weights or "")
        if self.guidance < 0:
            raise ConfigError(f"guidance={self.guidance}: the strength of the text, 0 or more; 1 or less runs without guidance.")
        for name, known in (("precision", PRECISIONS), ("offload", OFFLOADS), ("mask_rule", RULES), ("compat", COMPAT)):
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        for name in ("steps", "vae_batch"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}={getattr(self, name)}: expected at least 1.")
        if self.steps > 999:
            raise ConfigError(
                f"steps={self.steps}: there are 1000 levels of noise, and the first step is below the last; expected 1 to 999."
            )
        if self.window is not None and not 0 <= self.overlap < self.window:
            raise ConfigError(f"window={self.window} overlap={self.overlap}: a window has at least 1 frame and shares fewer than it has.")
        if (self.height is None) != (self.width is None):
            raise ConfigError("height and width: give both, or null for both (the clip's own size).")
        if (
            self.height is not None
            and self.width is not None
            and (min(self.height, self.width) < 1 or (self.height | self.width) % SPATIAL)
        ):
            near = [max(1, round(size / SPATIAL)) * SPATIAL for size in (self.height, self.width)]
            raise ConfigError(f"height={self.height} width={self.width}: must be multiples of {SPATIAL}, such as {near[0]} and {near[1]}.")
        if self.dilate_px < 0:
            raise ConfigError(f"dilate_px={self.dilate_px}: the side of a square in pixels, 0 or more.")

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3), all pixels as the model makes them; the clip's own frames where no mask has a hole.

        Draws follow from ``seed`` and the clip's name (not with ``compat=official``).

        Raises:
            DataError: the clip has no caption, is smaller than 8 pixels, or, with ``compat=official``, longer than the released script can.
            ConfigError: weights or checkpoint cannot be loaded.
            ModelError: out of memory; the message has the numbers.
        """
        self._stages.clear()
        if not clip.masks.any():
            return clip.frames.copy()
        text = " ".join(part for part in (_sentence(caption_of(clip, self.default_caption)), self.quality.strip()) if part)
        with out_of_memory(clip.name, self):
            return self._made(clip, text, clip_seed(seed, clip.name))

    @property
    def random_weights(self) -> bool:
        """Whether the networks have random weights."""
        return self._seed is not None

    def needs(self) -> list[Need]:
        """The packages, the base checkpoint and the four parts."""
        return [packages()] if self.random_weights else [packages(), self._where.need(), *parts.needs(self.weights)]

    def validate(self) -> None:
        """Refuse what no clip can be made with, see ``Released.validate``; of random weights that is a device that is not here."""
        if self.random_weights:
            torch_device(self.device)
        else:
            super().validate()

    def _add_loras(self, network: Any) -> None:
        from vpbench.baselines.cococo.unet import attach

        parts.load(attach(network, device="meta"), parts.paths(self.weights))

    def fingerprints(self) -> dict[str, Any]:
        """Hashes of the weights; of random ones the seed, and what they are.

        Raises:
            ConfigError: a file is missing or damaged.
        """
        if self.random_weights:
            return {"weights": f"{self.weights}, small networks"}
        return {"checkpoint": self._hash, "weights": parts.fingerprints(self.weights)}

    def keep_in(self, folder: Any) -> None:
        """Keep text embeddings in ``folder``."""
        self._kept.folder = folder

    def stages(self) -> dict[str, dict[str, float | int | None]]:
        """Seconds and peak memory of the last clip's stages: text, encode, denoise, decode."""
        return self._stages.record()

    def release(self) -> None:
        """Drop all networks; the next clip loads them again."""
        for name in ("_pictures", "_texts", "_placement"):
            self.__dict__.pop(name, None)
        free_memory()

    @property
    def _seed(self) -> int | None:
        return random_seed(self.weights)

    @property
    def _official(self) -> bool:
        return self.compat == "official"

    @property
    def _where(self) -> Checkpoint:
        return Checkpoint(self.checkpoint, self.kind, offer=BASE)

    @cached_property
    def _placement(self) -> Placement:
        return Placement(self.device, self.offload)

    @cached_property
    def _texts(self) -> Any:
        from vpbench.baselines.cococo.networks import load_text, random_text

        return load_text(self._where.path(), self.precision) if self._seed is None else random_text(self._seed)

    @cached_property
    def _pictures(self) -> Any:
        from vpbench.baselines.cococo.networks import load_pictures, random_pictures

        if self._seed is None:
            networks = load_pictures(self._where.path(), parts.paths(self.weights), self.precision)
        else:
            networks = random_pictures(self._seed)
        if self.vae_tiling:
            networks.vae.enable_tiling()
        return networks

    def _made(self, clip: MaskedClip, text: str, seed: int) -> Frames:
        import torch

        from vpbench.baselines.cococo.sampling import sample, spans

        height, width = self._size(clip)
        shape = (len(clip.frames), 4, height // SPATIAL, width // SPATIAL)
        windows = spans(len(clip.frames), self.window, self.overlap)
        if self._official:
            self._check_limits(clip.name, max(stop - start for start, stop in windows), *shape[2:])
        with torch.inference_mode():
            texts = self._text(text, clip.name)
            video, holes = prepared(clip.frames, dilate(clip.masks, self.dilate_px), height, width)
            networks, target = self._pictures, self._placement.target
            with self._stages("encode"):
                self._placement.bring(networks.vae)
                masked = self._encode(networks.vae, video, holes)
                mask = self._mask(holes)
            if self._official:
                generator = torch.Generator(target).manual_seed(OFFICIAL_NOISE)
                noise = torch.randn((1, 4, shape[0], *shape[2:]), generator=generator, device=target, dtype=networks.unet.dtype)
                noise = noise[0].transpose(0, 1)
            else:
                noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(target)
            with self._stages("denoise"):
                self._placement.bring(networks.unet)
                latents = sample(
                    networks.unet, noise, mask.to(target), masked, texts, steps=self.steps, guidance=self.guidance, windows=windows
                )
            with self._stages("decode"):
                self._placement.bring(networks.vae)
                made = self._decode(networks.vae, latents, height, width)
        return resized(made, *clip.frames.shape[1:3])

    def _text(self, text: str, clip: str) -> torch.Tensor:
        """Embeddings on the CPU, (2, 77, width): of the negative prompt and of the text; without guidance of the text alone."""
        import torch

        texts = [self.negative_prompt, text] if self.guidance > 1 else [text]

        def compute() -> dict[str, Any]:
            networks = self._texts
            length = int(networks.tokenizer.model_max_length)
            unread = max(len(networks.tokenizer(one, verbose=False).input_ids) for one in texts) - length
            if unread > 0 and self._seed is None:  # random ones read letter by letter
                log.warning("%s: the text is %d tokens longer than the %d that are read: %r", clip, unread, length, text)
            ids = networks.tokenizer(texts, padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
            self._placement.bring(networks.encoder)
            embedded = networks.encoder(ids.to(self._placement.target))[0]
            self._placement.put_away(networks.encoder)
            return {"texts": embedded.float().cpu().numpy()}

        if self._seed is None:
            key = self._text_key([*texts])
        else:
            key = {"text_encoder": f"cococo {self.version}", "weights": self.weights, "captions": texts}
        with self._stages("text"):
            embeddings: torch.Tensor = torch.from_numpy(self._kept.arrays("text_embeddings", key, compute)["texts"])
        return embeddings

    def _encode(self, vae: Any, video: Frames, holes: Masks) -> torch.Tensor:
        """Latents of the frames with a grey hole, (T, 4, h, w), scaled as the UNet wants them."""
        import torch
        from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution

        generator = torch.Generator(self._placement.target).manual_seed(OFFICIAL_POSTERIOR)
        found = []
        for start in range(0, len(video), self.vae_batch):
            batch = slice(start, start + self.vae_batch)
            pixels = 2 * (torch.from_numpy(video[batch]).permute(0, 3, 1, 2) / 255 - 0.5)
            pixels = pixels * ~torch.from_numpy(holes[batch])[:, None]
            posterior = vae.encode(pixels.to(self._placement.target, vae.dtype)).latent_dist
            if self._official:  # frame by frame: another shape would be other numbers
                frames = posterior.parameters.split(1)
                found += [DiagonalGaussianDistribution(frame).sample(generator) for frame in frames]
            else:
                found.append(posterior.mean)
        latents: torch.Tensor = torch.cat(found) * vae.config.scaling_factor
        return latents

    def _mask(self, holes: Masks) -> torch.Tensor:
        """The mask at the latents' size, on the CPU, (T, 1, h, w)."""
        import torch

        batches = (torch.from_numpy(holes[start : start + self.vae_batch]) for start in range(0, len(holes), self.vae_batch))
        return torch.cat([latent_mask(batch[None, None].float(), self.mask_rule, SPATIAL, temporal=1)[0] for batch in batches])

    def _decode(self, vae: Any, latents: torch.Tensor, height: int, width: int) -> Frames:
        """Latents (T, 4, h, w) to uint8 (T, height, width, 3)."""
        made = np.empty((len(latents), height, width, 3), np.uint8)
        for start in range(0, len(latents), self.vae_batch):
            batch = (latents[start : start + self.vae_batch] / vae.config.scaling_factor).to(vae.dtype)
            pixels = vae.decode(batch).sample
            pixels = pixels if self._official else pixels.float()
            levels = (pixels / 2 + 0.5).clamp(0, 1) * 255
            levels = levels if self._official else levels.round()
            made[start : start + self.vae_batch] = levels.float().cpu().numpy().astype(np.uint8).transpose(0, 2, 3, 1)
        return made

    def _size(self, clip: MaskedClip) -> tuple[int, int]:
        """What a clip is worked on at."""
        if self.height is not None and self.width is not None:
            return self.height, self.width
        height, width = clip.frames.shape[1:3]
        if height < SPATIAL or width < SPATIAL:
            raise DataError(
                f"{clip.name}: is {width}x{height}, smaller than one latent ({SPATIAL}x{SPATIAL}); set model.height and model.width."
            )
        return height // SPATIAL * SPATIAL, width // SPATIAL * SPATIAL

    @staticmethod
    def _check_limits(clip: str, frames: int, height: int, width: int) -> None:
        """Refuse what the released script cannot make either."""
        from vpbench.baselines.cococo.motion import tokens

        count = tokens(frames, height, width)
        if frames > OFFICIAL_FRAMES or count > OFFICIAL_TOKENS:
            raise DataError(
                f"{clip}: {frames} frames of {width * SPATIAL}x{height * SPATIAL} at once are {count} tokens; the released tables end at "
                f"{OFFICIAL_FRAMES} frames and {OFFICIAL_TOKENS} tokens. Set model.window=16, or use model=cococo, which has no limit."
            )


def _sentence(text: str) -> str:
    """A text that ends as a sentence does.

    >>> _sentence("A bear in a river"), _sentence("Trees. Snow mountains.")
    ('A bear in a river.', 'Trees. Snow mountains.')
    """
    return text if text.endswith((".", "!", "?")) else f"{text}."
