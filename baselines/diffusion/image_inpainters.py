"""Image models that fill the first frame, which an image-to-video model then carries on.

FLUX.1-Fill and Stable Diffusion 2 inpainting through diffusers, Telea's method without weights, or pictures that were made elsewhere.
A network is loaded for the first frame that needs it and stays until ``release``; ``first_frame`` keeps what was made, so that a sweep
over the video model's settings makes each first frame once.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from vpbench.baselines.diffusion.loading import free_memory, load_pipeline, place
from vpbench.baselines.diffusion.pictures import resized
from vpbench.baselines.diffusion.released import Released
from vpbench.baselines.spatial import inpaint
from vpbench.check import Need
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, DataError

if TYPE_CHECKING:
    import torch

    from vpbench.baselines.diffusion.stages import Kept

Frame = NDArray[np.uint8]
Mask = NDArray[np.bool_]
COMPAT = ("none", "official")


class ImageInpainter(Protocol):
    """Fills the hole of one picture."""

    version: ClassVar[int]

    def __call__(self, frame: Frame, mask: Mask, prompt: str, *, seed: int, name: str) -> Frame:
        """Fill a hole.

        Args:
            frame: uint8 (H, W, 3) RGB; what its hole holds has no influence.
            mask: bool (H, W), True = hole.
            prompt: what the picture, or its hole, shows.
            seed: for draws.
            name: of the clip whose first frame this is.

        Returns:
            uint8 (H, W, 3). A network draws the whole picture anew, so pixels outside the hole may differ from ``frame`` a little.
        """

    def needs(self) -> list[Need]:
        """What it needs before it can run."""

    def fingerprints(self) -> dict[str, Any]:
        """Everything that decides its results, apart from the arguments of a call: settings, hashes of its weights.

        Raises:
            ConfigError: its checkpoint is missing or not whole.
        """

    def release(self) -> None:
        """Give the memory of its networks back; the next call loads them again."""


def first_frame(inpainter: ImageInpainter, kept: Kept, frame: Frame, mask: Mask, prompt: str, *, seed: int, name: str) -> Frame:
    """What ``inpainter`` makes of a frame; from the store where another run of the same inputs has left it there.

    Args:
        inpainter: asked when the store has nothing.
        kept: the store.
        frame: uint8 (H, W, 3), see ``ImageInpainter.__call__``.
        mask: bool (H, W).
        prompt: for the picture.
        seed: for draws.
        name: of the clip.

    Raises:
        ConfigError: see ``ImageInpainter.fingerprints``.
    """
    visible = np.where(mask[..., None], np.uint8(0), frame)
    key = {
        "inpainter": inpainter.fingerprints(),
        "frame": hashlib.sha256(visible.tobytes()).hexdigest(),
        "mask": hashlib.sha256(mask.tobytes()).hexdigest(),
        "shape": list(frame.shape),
        "prompt": prompt,
        "seed": seed,
        "name": name,
    }

    def compute() -> dict[str, NDArray[Any]]:
        return {"frame": inpainter(visible, mask, prompt, seed=seed, name=name)}

    made = kept.arrays("first_frames", key, compute)["frame"]
    if made.shape != frame.shape or made.dtype != np.uint8:
        raise ConfigError(f"{type(inpainter).__name__} returned {made.dtype} {made.shape}; expected uint8 {frame.shape}.")
    return np.asarray(made, np.uint8)


@dataclass(frozen=True)
class TeleaImage:
    """Telea's fast marching method (OpenCV): no weights, no prompt, no seed. A floor for first frames.

    Attributes:
        radius_px: how far around a pixel the method looks.
    """

    radius_px: float = 5.0
    version: ClassVar[int] = 1

    def __call__(self, frame: Frame, mask: Mask, prompt: str, *, seed: int, name: str) -> Frame:
        """Return ``frame`` with its hole filled."""
        return np.asarray(inpaint(frame[None], mask[None], self.radius_px, cv2.INPAINT_TELEA)[0])

    def needs(self) -> list[Need]:
        """Nothing."""
        return []

    def fingerprints(self) -> dict[str, Any]:
        """Its settings."""
        return {"image_inpainter": f"telea {self.version}", "radius_px": self.radius_px}

    def release(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class FolderImage:
    """First frames that were made elsewhere: ``<folder>/<clip>.png``, of the clip's own size.

    Attributes:
        folder: holds one picture per clip.
    """

    folder: str
    version: ClassVar[int] = 1

    def __call__(self, frame: Frame, mask: Mask, prompt: str, *, seed: int, name: str) -> Frame:
        """Return the picture of the clip.

        Raises:
            DataError: it is missing, unreadable or of another size; the message names the file.
        """
        path = Path(self.folder).expanduser() / f"{name}.png"
        if not path.is_file():
            raise DataError(f"{path}: there is no first frame for the clip {name}. Every clip needs a picture of its own.")
        read = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
        if read is None:
            raise DataError(f"{path}: is not a picture that can be read. Save it again as PNG.")
        if read.shape != frame.shape:
            raise DataError(
                f"{path}: is {read.shape[1]}x{read.shape[0]}, the clip is {frame.shape[1]}x{frame.shape[0]} (width x height). "
                "Save the first frame in the clip's own size."
            )
        return np.asarray(cv2.cvtColor(read, cv2.COLOR_BGR2RGB), np.uint8)

    def needs(self) -> list[Need]:
        """The folder."""
        folder = Path(self.folder).expanduser()
        problem = "" if any(folder.glob("*.png")) else "holds no .png" if folder.is_dir() else f"there is no folder {self.folder}"
        where, advice = self.folder if folder.is_dir() else "", "save one picture per clip there: <clip>.png"
        return [Need("folder", self.folder, where, (problem,) if problem else (), get=advice, hashed=True)]

    def fingerprints(self) -> dict[str, Any]:
        """The bytes of every picture in the folder."""
        digest = hashlib.sha256()
        for path in sorted(Path(self.folder).expanduser().glob("*.png")):
            digest.update(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return {"image_inpainter": f"folder {self.version}", "pictures": digest.hexdigest()}

    def release(self) -> None:
        """Nothing is held."""


@dataclass
class _DiffusersImage(Released, ABC):
    """An inpainting pipeline of diffusers.

    Attributes:
        checkpoint: folder or hub id, in the layout of diffusers.
        steps: denoising steps.
        guidance: strength of the prompt.
        precision: of the networks: ``bfloat16``, ``float32``, ``float16``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        offload: ``none``, ``model`` or ``sequential``, see ``loading.place``.
    """

    checkpoint: str
    steps: int = 50
    guidance: float = 0.0
    precision: str = "bfloat16"
    device: str = "auto"
    offload: str = "none"
    _pipeline: Any = field(default=None, init=False, repr=False)

    kind: ClassVar[str]
    without: ClassVar[tuple[str, ...]] = ()
    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps={self.steps}: expected at least 1.")

    def __call__(self, frame: Frame, mask: Mask, prompt: str, *, seed: int, name: str) -> Frame:
        """Fill the hole; drawn at the frame's size floored to what the network can do, then brought back to the frame's size.

        Raises:
            ConfigError: the checkpoint cannot be loaded, or the frame is smaller than one patch of the network.
        """
        import torch
        from PIL import Image

        pipeline = self._loaded()
        multiple = self._multiple(pipeline)
        height, width = (size // multiple * multiple for size in frame.shape[:2])
        if not height or not width:
            raise ConfigError(f"{name}: {frame.shape[1]}x{frame.shape[0]} is smaller than one patch of {multiple}x{multiple} pixels.")
        generator = torch.Generator().manual_seed(seed)
        with torch.inference_mode():
            result = pipeline(
                prompt=prompt,
                image=Image.fromarray(np.where(mask[..., None], np.uint8(0), frame)),
                mask_image=Image.fromarray(mask.astype(np.uint8) * 255),
                height=height,
                width=width,
                num_inference_steps=self.steps,
                guidance_scale=self.guidance,
                generator=generator,
                output_type="pil",
                **self._options(pipeline, height, width, generator),
            ).images[0]
        return np.asarray(resized(np.asarray(result.convert("RGB"))[None], *frame.shape[:2])[0])

    def fingerprints(self) -> dict[str, Any]:
        """Settings that decide the picture, and the hash of the checkpoint."""
        return {"image_inpainter": f"{self.kind} {self.version}", "weights": self._hash, **self._settings()}

    def release(self) -> None:
        """Drop the networks."""
        self._pipeline = None
        free_memory()

    def _settings(self) -> dict[str, Any]:
        return {"steps": self.steps, "guidance": self.guidance, "precision": self.precision}

    def _loaded(self) -> Any:
        if self._pipeline is None:
            pipeline = load_pipeline(self._where, self.precision, without=self.without)
            place(pipeline, self.device, self.offload)
            self._pipeline = pipeline
        return self._pipeline

    @abstractmethod
    def _multiple(self, pipeline: Any) -> int:
        """Pixels of which height and width must be multiples."""

    @abstractmethod
    def _options(self, pipeline: Any, height: int, width: int, generator: torch.Generator) -> Mapping[str, Any]:
        """Further arguments of the pipeline's call."""


@dataclass
class FluxFill(_DiffusersImage):
    """FLUX.1-Fill [dev], as the article uses it: guidance 30, 50 steps, 512 tokens, sizes floored to multiples of 16.

    Attributes:
        max_tokens: longest prompt of the T5 encoder.
        compat: ``none`` draws as diffusers does now. ``official`` draws the noise first, as the diffusers of the article's code did, so
            that a seed gives the same picture as there.
    """

    checkpoint: str = "black-forest-labs/FLUX.1-Fill-dev"
    guidance: float = 30.0
    max_tokens: int = 512
    compat: str = "none"

    kind: ClassVar[str] = "FluxFillPipeline"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compat not in COMPAT:
            raise unknown_name("compat", self.compat, COMPAT)

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "max_tokens": self.max_tokens, "compat": self.compat}

    def _multiple(self, pipeline: Any) -> int:
        return int(pipeline.vae_scale_factor) * 2

    def _options(self, pipeline: Any, height: int, width: int, generator: torch.Generator) -> Mapping[str, Any]:
        options: dict[str, Any] = {"max_sequence_length": self.max_tokens}
        if self.compat == "official":
            options["latents"] = packed_noise(pipeline, height, width, generator)
        return options


@dataclass
class StableDiffusion2(_DiffusersImage):
    """Stable Diffusion 2 inpainting: a quarter of FLUX's memory or less, trained on pictures of 512 pixels.

    Attributes:
        negative_prompt: what the picture should not show.
    """

    checkpoint: str = "stabilityai/stable-diffusion-2-inpainting"
    guidance: float = 7.5
    negative_prompt: str = ""

    kind: ClassVar[str] = "StableDiffusionInpaintPipeline"
    without: ClassVar[tuple[str, ...]] = ("safety_checker", "feature_extractor")  # they judge pictures and change none

    def _settings(self) -> dict[str, Any]:
        return {**super()._settings(), "negative_prompt": self.negative_prompt}

    def _multiple(self, pipeline: Any) -> int:
        return int(pipeline.vae_scale_factor)

    def _options(self, pipeline: Any, height: int, width: int, generator: torch.Generator) -> Mapping[str, Any]:
        return {"negative_prompt": self.negative_prompt}


def packed_noise(pipeline: Any, height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Noise as FLUX takes it, (1, h/2 * w/2, 4C): 2x2 latents per token, drawn before anything else is drawn.

    Args:
        pipeline: FLUX's.
        height: of the picture, pixels.
        width: of the picture, pixels.
        generator: drawn from once, in the precision of the text embeddings (numbers of bfloat16 are others than those of float32).
    """
    import torch

    patch = int(pipeline.vae_scale_factor) * 2
    rows, columns, channels = height // patch, width // patch, int(pipeline.vae.config.latent_channels)
    noise = torch.randn((1, channels, 2 * rows, 2 * columns), generator=generator, dtype=pipeline.text_encoder_2.dtype)
    tokens = noise.reshape(1, channels, rows, 2, columns, 2).permute(0, 2, 4, 1, 3, 5)
    return tokens.reshape(1, rows * columns, 4 * channels)
