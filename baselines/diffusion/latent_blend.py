"""The general baseline: an image model fills the first frame, an image-to-video model carries it on, known latents are blended back.

Blended latent diffusion (Avrahami et al., "Blended Latent Diffusion", SIGGRAPH 2023) around any image-to-video model: after each denoising
step the latents outside the hole are replaced by those of the known video, brought to the same noise level. With CogVideoX-5B-I2V and FLUX
this is the "Cog-Inp" of Bian et al., "VideoPainter", SIGGRAPH 2025 (``conf/model/cog_inp.yaml``); with the context encoder in the backbone
it is VideoPainter itself (``videopainter.py``). Any length, through windows (``windows.py``).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vpbench.baselines.diffusion import image_inpainters, masks, windows
from vpbench.baselines.diffusion.backbones import COMPAT, Backbone, caption_of, clip_seed
from vpbench.baselines.diffusion.image_inpainters import ImageInpainter
from vpbench.baselines.diffusion.stages import Kept, Stages, out_of_memory
from vpbench.check import Need
from vpbench.clip import Clip, Frames, MaskedClip, Masks
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch

    from vpbench.baselines.diffusion.backbones import Denoiser

OFFICIAL_SEED = 42
BLEND_NOISE = ("fixed", "fresh")
KNOWN = ("masked", "original")
SHORT = ("pad", "refuse")
RESIZE = ("stretch", "refuse")
log = logging.getLogger(__name__)


@dataclass
class LatentBlend:
    """The model.

    Attributes:
        backbone: the image-to-video model.
        image_inpainter: fills the first frame, which then counts as known; null: the first frame goes to the backbone with its hole.
        overlap: frames that two windows share, 4k + 1; any with ``official``, whose own 0 drifts, see ``windows``.
        blend: replace known latents after each step.
        blend_noise: for bringing them to a noise level: ``fixed``, the noise that denoising started from, or ``fresh`` at each step.
        blend_until: share of the steps after which blending stops; 1 for all.
        mask_rule: when a latent counts as hole: ``nearest``, ``any``, ``area``, see ``masks.latent_mask``.
        dilate_px: the hole is grown by a square of this many pixels, in the clip's own size, before anything else.
        known: what lies behind the known latents: ``masked``, the video with a black hole, or ``original``, the complete source, for
            which edits have one and inpainting needs ``needs_reference=true``.
        paste: put the known pixels back at the end. Scoring does that by itself on the track ``composite``.
        short: a clip shorter than a window: ``pad`` (played backwards at its end, then cut) or ``refuse``.
        resize: a clip of another size than the backbone's: ``stretch`` to it and back, or ``refuse``.
        default_caption: for clips without a caption; null: they are refused.
        compat: ``official`` reproduces the article's code: one seed for all clips, windows that drift, pixels cut off and not rounded, and
            the backbone's own part. ``none`` does what is right.
    """

    backbone: Backbone
    image_inpainter: ImageInpainter | None = None
    overlap: int = 1
    blend: bool = True
    blend_noise: str = "fixed"
    blend_until: float = 1.0
    mask_rule: str = "nearest"
    dilate_px: int = 0
    known: str = "masked"
    paste: bool = False
    short: str = "pad"
    resize: str = "stretch"
    default_caption: str | None = None
    compat: str = "none"
    _kept: Kept = field(default_factory=Kept, init=False, repr=False)
    _stages: Stages = field(default_factory=Stages, init=False, repr=False)

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        for name, known in (
            *(("blend_noise", BLEND_NOISE), ("mask_rule", masks.RULES), ("known", KNOWN)),
            *(("short", SHORT), ("resize", RESIZE), ("compat", COMPAT)),
        ):
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        if not 0 < self.blend_until <= 1:
            raise ConfigError(f"blend_until={self.blend_until}: a share of the steps, above 0 and at most 1.")
        if self.dilate_px < 0:
            raise ConfigError(f"dilate_px={self.dilate_px}: the side of a square in pixels, 0 or more.")
        own = getattr(self.backbone, "compat", self.compat)
        if own != self.compat:
            raise ConfigError(f"compat={self.compat} and backbone.compat={own}: set both to the same value.")

    def __call__(self, clip: MaskedClip | Clip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3), the whole video as decoded.

        Raises:
            DataError: the clip has no caption, is too short or of another size (as configured).
            ModelError: out of memory; the message has the numbers.
        """
        import torch

        self._stages.clear()
        caption = caption_of(clip, self.default_caption)
        geometry = self.backbone.geometry
        count, height, width = clip.masks.shape
        if (height, width) != (geometry.height, geometry.width) and self.resize == "refuse":
            raise DataError(
                f"{clip.name}: is {height}x{width} (height x width), the model works at {geometry.height}x{geometry.width}. "
                "model.resize=stretch resizes it and the result back."
            )
        if count < geometry.window and (self.short == "refuse" or self.official):
            remedy = (
                "compat=official refuses shorter clips, as the article's code does; compat=none pads them. More frames come of a lower "
                "benchmark.prepare.frame_step or a higher to_fps."
                if self.official
                else "model.short=pad goes on with the clip played backwards and cuts the result."
            )
            raise DataError(f"{clip.name}: has {count} frames, the model makes {geometry.window} at once. {remedy}")
        seed = OFFICIAL_SEED if self.official else clip_seed(seed, clip.name)
        with out_of_memory(clip.name, self), torch.inference_mode():
            return self._made(clip, caption, seed)

    def needs(self) -> list[Need]:
        """What backbone and image inpainter need."""
        found = [need.under("backbone") for need in self.backbone.needs()]
        if self.image_inpainter is not None:
            found += [need.under("image_inpainter") for need in self.image_inpainter.needs()]
        return list(dict.fromkeys(found))

    def validate(self) -> None:
        """Refuse what no clip can be made with, see ``Released.validate``.

        Raises:
            ConfigError: of the backbone or the image inpainter, or an overlap that does not fit the backbone's windows.
        """
        geometry = self.backbone.geometry
        windows.plan(geometry.window, geometry.window, self.overlap, geometry.temporal, cover=not self.official)
        for part in (self.backbone, self.image_inpainter):
            if callable(validate := getattr(part, "validate", None)):
                validate()

    def fingerprints(self) -> dict[str, Any]:
        """What decides the results of backbone and image inpainter.

        Raises:
            ConfigError: a checkpoint is missing or not whole.
        """
        image = None if self.image_inpainter is None else self.image_inpainter.fingerprints()
        return {"backbone": self.backbone.fingerprints(), "image_inpainter": image}

    def keep_in(self, folder: Path) -> None:
        """Keep text embeddings and first frames in ``folder``."""
        self._kept.folder = folder

    def stages(self) -> dict[str, dict[str, float | int | None]]:
        """Seconds and peak memory of each stage of the last clip; loading a network belongs to the stage that first needs it."""
        return self._stages.record()

    @property
    def official(self) -> bool:
        """Whether the article's code is reproduced."""
        return self.compat == "official"

    def release(self) -> None:
        """Drop all networks."""
        self.backbone.release()
        if self.image_inpainter is not None:
            self.image_inpainter.release()

    def _made(self, clip: MaskedClip | Clip, caption: str, seed: int) -> Frames:
        from vpbench.baselines.diffusion import pictures

        geometry = self.backbone.geometry
        grown = masks.dilate(clip.masks, self.dilate_px)
        known = self._known(clip)
        layout = windows.plan(len(known), geometry.window, self.overlap, geometry.temporal, cover=not self.official)
        with self._stages("text"):
            text = self._text(caption)
        seen, holes = list(known), grown.copy()
        if self.image_inpainter is not None:
            with self._stages("first_frame"):
                seen[0] = self._first(clip, known[0], grown[0], seed)
            holes[0] = False
        latents = self.latents(seen, holes, layout, text, seed)
        with self._stages("decode"):
            pixels = self.backbone.decode(latents)
            made = pictures.to_frames(pixels, official=self.official)[: len(known)]
            if self.paste and self.official:
                made = self._pasted_official(made, known, grown)
        if len(made) < len(known):
            log.warning("%s: compat=official made %d of %d frames; the last one is repeated", clip.name, len(made), len(known))
            made = np.concatenate([made, np.repeat(made[-1:], len(known) - len(made), axis=0)])
        made = pictures.resized(made, *known.shape[1:3])
        if self.paste and not self.official:
            made = np.where(grown[..., None], made, known)
        return made

    def latents(self, seen: list[Any], holes: Masks, layout: windows.Plan, text: torch.Tensor, seed: int) -> torch.Tensor:
        """Denoise all windows.

        Args:
            seen: the known video, uint8 (H, W, 3) per frame; the first frame is what the backbone starts from.
            holes: bool (T, H, W).
            layout: the windows.
            text: embeddings of the caption.
            seed: of all draws.

        Returns:
            (1, L, C, h, w), L as in ``layout``.
        """
        import torch

        from vpbench.baselines.diffusion import pictures

        geometry = self.backbone.geometry
        generator = torch.Generator().manual_seed(seed)
        made: list[torch.Tensor] = []
        denoiser: Denoiser | None = None
        for number, window in enumerate(layout.windows):
            with self._stages("encode"):
                video = pictures.to_pixels([seen[i] for i in window.frames], geometry.height, geometry.width)
                mask = pictures.mask_to_pixels([holes[i] for i in window.frames], geometry.height, geometry.width)
                before = None if window.previous is None else made[-1][:, : window.previous + 1]
                image = self.backbone.image(video[:, :, :1] if before is None else None, before, generator)
                clean = self.backbone.encode(video, generator) if self.blend or self.official else None
                noise = self.backbone.noise(generator)
                followed = number + 1 < len(layout.windows)
                denoiser = self.backbone.denoiser(text, image, video, mask, generator, previous=denoiser, followed=followed)
            with self._stages("denoise"):
                hole = masks.latent_mask(mask, self.mask_rule, geometry.spatial, geometry.temporal).to(noise)
                made.append(self._denoised(denoiser, noise, clean, hole, generator))
        return windows.assemble(made, layout)

    def _denoised(
        self, denoiser: Denoiser, noise: torch.Tensor, clean: torch.Tensor | None, hole: torch.Tensor, generator: torch.Generator
    ) -> torch.Tensor:
        """Denoise one window; known latents go back in after each step."""
        latents, steps = noise, denoiser.steps
        for index in range(steps):
            latents = denoiser.step(latents, index)
            if self.blend and clean is not None and index < self.blend_until * steps:
                level = clean
                if index + 1 < steps:
                    level = denoiser.add_noise(clean, noise if self.blend_noise == "fixed" else self.backbone.noise(generator), index + 1)
                latents = (1 - hole) * level + hole * latents
        return latents

    def _known(self, clip: MaskedClip | Clip) -> Frames:
        """The video behind the known latents: the hole black, or the complete source."""
        source = clip.frames if isinstance(clip, Clip) else clip.source
        if self.known == "masked":
            return np.where(clip.masks[..., None], np.uint8(0), clip.frames)
        if source is None:
            raise ConfigError(
                f"{clip.name}: model.known=original needs the complete video: set model.needs_reference=true (never ranked with others)."
            )
        return source

    def _text(self, caption: str) -> torch.Tensor:
        import torch

        def compute() -> dict[str, Any]:
            return {"text": self.backbone.embed(caption).float().numpy()}

        return torch.from_numpy(self._kept.arrays("text", self.backbone.text_key(caption), compute)["text"])

    def _first(self, clip: MaskedClip | Clip, frame: Any, hole: Any, seed: int) -> Any:
        assert self.image_inpainter is not None
        if not hole.any() and not self.official:
            return frame
        prompt = clip.region_caption.strip() or clip.caption.strip() or str(self.default_caption)
        return image_inpainters.first_frame(self.image_inpainter, self._kept, frame, hole, prompt, seed=seed, name=clip.name)

    def _pasted_official(self, made: Frames, known: Frames, grown: Masks) -> Frames:
        """Known pixels put back at the backbone's size, where the article's code does it: they, too, are cut off and not rounded."""
        from vpbench.baselines.diffusion import pictures

        height, width = made.shape[1:3]
        original = pictures.to_frames(pictures.to_pixels(known[: len(made)], height, width), official=True)
        hole = pictures.mask_to_pixels(grown[: len(made)], height, width)[0, 0].bool().numpy()
        return np.where(hole[..., None], made, original)
