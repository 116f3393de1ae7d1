"""Wan-VACE: masked video inpainting and editing from a text, in diffusers' own pipeline.

Jiang et al., "VACE: All-in-One Video Creation and Editing", ICCV 2025; Wan 2.1 of 1.3B and 14B parameters. The pipeline encodes what the
mask covers as a stream of its own, so the hole is painted mid grey before it enters: grey is how VACE was taught that something is missing,
and original pixels there would be the answer.

A clip longer than a window is made window by window: each takes the last frames of the one before as known, ``overlap`` of them, and in the
last window, which ends at the clip's last frame, as many as there are. A clip shorter than a window is a window of its own, played on
backwards until its length is what the VAE can pack.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vpbench.baselines.diffusion.backbones import caption_of, clip_seed
from vpbench.baselines.diffusion.checkpoints import pipeline_parts, read_config
from vpbench.baselines.diffusion.loading import OFFLOADS, PRECISIONS, free_memory, load_pipeline, place, shifted, torch_device, torch_dtype
from vpbench.baselines.diffusion.loras import Lora, lora_fingerprints, read_loras
from vpbench.baselines.diffusion.masks import dilate
from vpbench.baselines.diffusion.pictures import resized
from vpbench.baselines.diffusion.released import Released
from vpbench.baselines.diffusion.stages import Kept, Stages, out_of_memory
from vpbench.baselines.diffusion.windows import mirrored
from vpbench.clip import Frames, MaskedClip, Masks
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError

if TYPE_CHECKING:
    import torch

GREY = 128  # what VACE takes for missing
TEMPORAL = 4  # frames per latent of the VAE, apart from the first frame
TEXT = ("text_encoder", "tokenizer")


@dataclass
class WanVace(Released):
    """The model.

    Attributes:
        checkpoint: folder or hub id, in the layout of diffusers; one with two transformers (Wan 2.2) does too.
        height: what it works at, a multiple of 16; clips of another size are resized to it and back. Null with ``width``: the clip's own
            size, floored.
        width: see ``height``.
        window: frames made at once, 4k + 1.
        overlap: frames that a window of a longer clip takes over from the one before.
        steps: denoising steps.
        guidance: strength of the caption; 1 or less runs without guidance, at half the cost.
        negative_prompt: what guidance leads away from.
        conditioning: strength of the video and mask stream.
        flow_shift: of the scheduler, 3 for 480p and 5 for 720p; null: what the checkpoint says.
        dilate_px: side of the square by which the hole is grown, at the clip's size.
        default_caption: for clips without a caption; null: they are refused.
        loras: ``[{path: FILE, scale: 0.8}, ...]``, added to the transformer's weights.
        precision: of transformer and text encoder.
        vae_precision: of the VAE.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        offload: ``none``: transformer and VAE stay on the device, the text encoder leaves it after encoding. ``model``, ``sequential``: see
            ``loading.place``.
        vae_tiling: encode and decode in overlapping tiles: less memory, other pixels at their seams.
    """

    checkpoint: str = "Wan-AI/Wan2.1-VACE-1.3B-diffusers"
    height: int | None = 480
    width: int | None = 720
    window: int = 81
    overlap: int = 5
    steps: int = 50
    guidance: float = 5.0
    negative_prompt: str = ""
    conditioning: float = 1.0
    flow_shift: float | None = 3.0
    dilate_px: int = 0
    default_caption: str | None = None
    loras: Sequence[Any] = ()
    precision: str = "bfloat16"
    vae_precision: str = "float32"
    device: str = "auto"
    offload: str = "none"
    vae_tiling: bool = False
    _loras: tuple[Lora, ...] = field(default=(), init=False, repr=False)
    _kept: Kept = field(default_factory=Kept, init=False, repr=False)
    _stages: Stages = field(default_factory=Stages, init=False, repr=False)

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "WanVACEPipeline"

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("vae_precision", PRECISIONS), ("offload", OFFLOADS)):
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        if (self.height is None) != (self.width is None):
            raise ConfigError("height and width: give both, or null for both (the clip's own size).")
        if self.steps < 1:
            raise ConfigError(f"steps={self.steps}: expected at least 1.")
        if self.dilate_px < 0:
            raise ConfigError(f"dilate_px={self.dilate_px}: the side of a square in pixels, 0 or more.")
        chunks(1, self.window, self.overlap)
        self._loras = read_loras(self.loras)

    def __call__(self, clip: MaskedClip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3), all pixels as the model makes them; draws follow from ``seed`` and the clip's name.

        Raises:
            DataError: the clip has no caption.
            ConfigError: the checkpoint cannot be loaded, or the size does not fit it.
            ModelError: out of memory; the message has the numbers.
        """
        self._stages.clear()
        caption = caption_of(clip, self.default_caption)
        with out_of_memory(clip.name, self):
            return self._made(clip, caption, clip_seed(seed, clip.name))

    def validate(self) -> None:
        """Refuse what no clip can be made with, see ``Released.validate``.

        Raises:
            ConfigError: as there, or the size is no multiple of what the model works at.
        """
        if self.height is not None:
            self._size(self.height, self.width or self.height)
        super().validate()

    def _add_loras(self, network: Any) -> None:
        if self._loras and "transformer_2" in pipeline_parts(self._where.path()):
            raise ConfigError(f"{self.checkpoint}: has two transformers; a LoRA fits one of them only, so loras must be empty.")
        super()._add_loras(network)

    def fingerprints(self) -> dict[str, Any]:
        """Hashes of the weights.

        Raises:
            ConfigError: a file is missing or damaged.
        """
        return {"checkpoint": self._hash, "loras": lora_fingerprints(self._loras)}

    def keep_in(self, folder: Any) -> None:
        """Keep text embeddings in ``folder``."""
        self._kept.folder = folder

    def stages(self) -> dict[str, dict[str, float | int | None]]:
        """Seconds and peak memory of the last clip's stages: text, encode, denoise, decode."""
        return self._stages.record()

    def release(self) -> None:
        """Drop all networks; the next clip loads them again."""
        for name in ("_pipeline", "_text_pipeline"):
            self.__dict__.pop(name, None)
        free_memory()

    def _made(self, clip: MaskedClip, caption: str, seed: int) -> Frames:
        import torch

        text = self._text(caption)
        height, width = self._size(*clip.frames.shape[1:3])
        video, masks = prepared(clip.frames, dilate(clip.masks, self.dilate_px), height, width)
        generator = torch.Generator().manual_seed(seed)
        made = np.empty_like(video)
        done = 0
        for start, stop in chunks(len(video), self.window, self.overlap):
            frames, holes = video[start:stop].copy(), masks[start:stop].copy()
            known = (done - start - 1) // TEMPORAL * TEMPORAL + 1 if done else 0  # whole latents: one has no known and unknown frames
            frames[:known] = np.where(holes[:known, ..., None], made[start : start + known], frames[:known])
            holes[:known] = False
            made[start + known : stop] = self._window(frames, holes, text, generator)[known:]
            done = stop
        return resized(made, *clip.frames.shape[1:3])

    def _window(self, frames: Frames, holes: Masks, text: dict[str, Any], generator: torch.Generator) -> Frames:
        """One window: uint8 (T, H, W, 3) of a length that need not be 4k + 1."""
        from PIL import Image

        count = len(frames)
        indices = [mirrored(i, count) for i in range(packed_length(count))]
        pipeline = self._pipeline
        with ExitStack() as stage:
            stage.enter_context(self._stages("encode"))
            started: list[bool] = []

            def denoising(*_: Any) -> None:
                if not started:
                    started.append(True)
                    stage.close()
                    stage.enter_context(self._stages("denoise"))

            hook = pipeline.transformer.register_forward_pre_hook(denoising)
            try:
                latents = pipeline(
                    video=[Image.fromarray(frames[i]) for i in indices],
                    mask=[Image.fromarray(holes[i].astype(np.uint8) * 255) for i in indices],
                    height=frames.shape[1],
                    width=frames.shape[2],
                    num_frames=len(indices),
                    num_inference_steps=self.steps,
                    guidance_scale=self.guidance,
                    conditioning_scale=self.conditioning,
                    generator=generator,
                    output_type="latent",
                    **text,
                ).frames
            finally:
                hook.remove()
        with self._stages("decode"):
            return self._decode(latents)[:count]

    def _decode(self, latents: torch.Tensor) -> Frames:
        """Latents as the denoiser leaves them to uint8 (T, H, W, 3)."""
        import torch

        vae = self._pipeline.vae
        shape = (1, -1, 1, 1, 1)
        latents = latents.to(vae.dtype)
        mean, std = (torch.tensor(values).view(shape) for values in (vae.config.latents_mean, vae.config.latents_std))
        with torch.no_grad():
            pixels = vae.decode(latents / (1.0 / std).to(latents) + mean.to(latents), return_dict=False)[0]
        levels: NDArray[np.float32] = self._pipeline.video_processor.postprocess_video(pixels.float(), output_type="np")[0]
        return np.rint(levels * 255).astype(np.uint8)

    def _text(self, caption: str) -> dict[str, Any]:
        """Arguments of the pipeline's call that carry the text."""
        import torch

        guided = self.guidance > 1
        key = self._text_key([caption, self.negative_prompt if guided else None])

        def compute() -> dict[str, NDArray[Any]]:
            pipeline = self._text_pipeline
            target = torch_device(self.device)
            if self.offload == "none":
                pipeline.to(target)
            with torch.no_grad():
                embedded = pipeline.encode_prompt(caption, self.negative_prompt, guided, max_sequence_length=512, device=target)
            if self.offload == "none":
                pipeline.to("cpu")
            found = zip(("prompt_embeds", "negative_prompt_embeds"), embedded, strict=True)
            return {name: value.float().cpu().numpy() for name, value in found if value is not None}

        with self._stages("text"):
            arrays = self._kept.arrays("text_embeddings", key, compute)
        target = torch_device(self.device)
        return {name: torch.from_numpy(array).to(target, torch_dtype(self.precision)) for name, array in arrays.items()}

    def _size(self, height: int, width: int) -> tuple[int, int]:
        """What a clip of this size is worked on at."""
        folder = self._where.path()
        spatial = read_config(folder / "vae" / "config.json").get("scale_factor_spatial", 8)
        multiple = int(spatial) * int(read_config(folder / "transformer" / "config.json").get("patch_size", (1, 2, 2))[1])
        if self.height is not None and self.width is not None:
            if self.height % multiple or self.width % multiple:
                near = [max(1, round(size / multiple)) * multiple for size in (self.height, self.width)]
                raise ConfigError(
                    f"height={self.height} width={self.width}: both must be multiples of {multiple}, such as {near[0]} and {near[1]}."
                )
            return self.height, self.width
        if height < multiple or width < multiple:
            raise ConfigError(f"the clip is {width}x{height}, smaller than {multiple}x{multiple}; set model.height and model.width.")
        return height // multiple * multiple, width // multiple * multiple

    @cached_property
    def _text_pipeline(self) -> Any:
        pipeline = load_pipeline(self._where, self.precision, without=("transformer", "transformer_2", "vae", "scheduler"))
        if self.offload != "none":
            place(pipeline, self.device, self.offload)
        return pipeline

    @cached_property
    def _pipeline(self) -> Any:
        pipeline = load_pipeline(self._where, self.precision, {"vae": self.vae_precision}, without=TEXT)
        self._add_loras(pipeline.transformer)
        if self.flow_shift is not None:
            pipeline.scheduler = shifted(pipeline.scheduler, self.flow_shift)
        if self.vae_tiling:
            pipeline.vae.enable_tiling()
        place(pipeline, self.device, self.offload)
        return pipeline


def prepared(frames: Frames, masks: Masks, height: int, width: int) -> tuple[Frames, Masks]:
    """A clip as it enters the model: of the model's size, the hole mid grey.

    Args:
        frames: uint8 (T, H, W, 3); what the hole holds has no influence.
        masks: bool (T, H, W).
        height: wanted.
        width: wanted.

    Returns:
        uint8 (T, height, width, 3) and bool (T, height, width); a pixel is in the hole when any pixel that it stands for is.
    """
    frames = np.where(masks[..., None], np.uint8(GREY), frames)
    if frames.shape[1:3] == (height, width):
        return frames, masks.copy()
    rows, columns = _footprints(frames.shape[1], height), _footprints(frames.shape[2], width)
    small = np.stack([rows @ mask.astype(np.float32) @ columns.T > 0 for mask in masks])
    return np.where(small[..., None], np.uint8(GREY), resized(frames, height, width)), small


def _footprints(size: int, new: int) -> NDArray[np.float32]:
    """Which of ``size`` pixels each of ``new`` pixels stands for, float32 (new, size) of 0 and 1."""
    source, target = np.arange(size), np.arange(new)[:, None]
    return ((source * new < (target + 1) * size) & ((source + 1) * new > target * size)).astype(np.float32)


def packed_length(count: int) -> int:
    """The smallest length 4k + 1 that holds ``count`` frames.

    >>> [packed_length(count) for count in (1, 2, 5, 6, 81)]
    [1, 5, 5, 9, 81]
    """
    return -(-(count - 1) // TEMPORAL) * TEMPORAL + 1


def chunks(frames: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Cut a clip into windows, ``[start, stop)`` each: all of ``window`` frames (or the one of a shorter clip), the last at the clip's end.

    >>> chunks(100, 41, 5), chunks(20, 41, 5)
    ([(0, 41), (36, 77), (59, 100)], [(0, 20)])

    Raises:
        ConfigError: a window or overlap that cannot be.
    """
    if window < TEMPORAL + 1 or (window - 1) % TEMPORAL:
        raise ConfigError(f"window={window}: a window has {TEMPORAL}k + 1 frames, such as {max(1, window // TEMPORAL) * TEMPORAL + 1}.")
    if not 1 <= overlap < window or (overlap - 1) % TEMPORAL:
        raise ConfigError(f"overlap={overlap}: windows of {window} frames share {TEMPORAL}k + 1 of them, fewer than {window}: 1, 5, 9, ...")
    if frames <= window:
        return [(0, frames)]
    starts = [0]
    while starts[-1] + window < frames:
        starts.append(min(starts[-1] + window - overlap, frames - window))
    return [(start, start + window) for start in starts]
