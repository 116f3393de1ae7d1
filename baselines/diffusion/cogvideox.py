"""CogVideoX-5B image-to-video as a backbone of the latent blend.

Yang et al., "CogVideoX: Text-to-Video Diffusion Models with An Expert Transformer", ICLR 2025. Networks, scheduler and checkpoint layout
are those of diffusers; the denoising loop is ours (``denoiser.py``), as the article's code runs it: v-prediction, second-order DPM solver
with trailing timesteps, dynamic guidance. The released backbone has learned positions, so it works at 480x720 and 49 frames only.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from vpbench.baselines.diffusion.backbones import COMPAT, Geometry
from vpbench.baselines.diffusion.checkpoints import read_config
from vpbench.baselines.diffusion.loading import OFFLOADS, PRECISIONS, free_memory, load_network, torch_dtype
from vpbench.baselines.diffusion.loras import Lora, fuse, lora_fingerprints, read_loras
from vpbench.baselines.diffusion.released import Released
from vpbench.baselines.diffusion.stages import Placement
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from vpbench.baselines.diffusion.backbones import Denoiser
    from vpbench.baselines.diffusion.denoiser import Extras

SIZES = ("height", "width", "window")
ATTENTION = ("auto", "flash", "cudnn", "efficient", "math")
log = logging.getLogger(__name__)


@dataclass
class CogVideoX(Released):
    """The backbone.

    Attributes:
        checkpoint: folder or hub id, in the layout of diffusers.
        height: of its frames; null: as the checkpoint was trained. One with learned positions allows nothing else.
        width: of its frames; null likewise.
        window: frames that it makes at once; null likewise.
        steps: denoising steps.
        guidance: strength of the caption; 1 or less runs without guidance, at half the cost.
        dynamic_guidance: let the strength change from step to step, as the article does.
        negative_prompt: what guidance leads away from.
        loras: ``[{path: FILE, scale: 0.8}, ...]``, added to the transformer's weights.
        precision: of all networks: ``bfloat16``, ``float32``, ``float16``.
        vae_precision: of the VAE alone; null: as ``precision``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        offload: ``none``: transformer and VAE stay on the device, the text encoder leaves it after encoding. ``model``: one network at a
            time. ``sequential``: one layer at a time, slow.
        vae_tiling: encode and decode in overlapping tiles: less memory, other pixels at their seams.
        vae_slicing: one video of a batch at a time.
        compile: compile the transformer's blocks (the first window takes minutes longer).
        attention: kernel: ``auto`` leaves the choice to torch; ``flash``, ``cudnn``, ``efficient`` and ``math`` force one.
        compat: ``official`` makes the same random draws as the article's code and decodes as it does; ``none`` does what is right.
    """

    checkpoint: str = "zai-org/CogVideoX-5b-I2V"
    height: int | None = None
    width: int | None = None
    window: int | None = None
    steps: int = 50
    guidance: float = 6.0
    dynamic_guidance: bool = True
    negative_prompt: str = ""
    loras: Sequence[Any] = ()
    precision: str = "bfloat16"
    vae_precision: str | None = None
    device: str = "auto"
    offload: str = "none"
    vae_tiling: bool = False
    vae_slicing: bool = False
    compile: bool = False
    attention: str = "auto"
    compat: str = "none"
    _loras: tuple[Lora, ...] = field(default=(), init=False, repr=False)

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "CogVideoXImageToVideoPipeline"

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("offload", OFFLOADS), ("attention", ATTENTION), ("compat", COMPAT)):
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        if self.vae_precision not in (None, *PRECISIONS):
            raise unknown_name("vae_precision", str(self.vae_precision), PRECISIONS)
        if self.steps < 1:
            raise ConfigError(f"steps={self.steps}: expected at least 1.")
        self._loras = read_loras(self.loras, "backbone.loras")

    def fingerprints(self) -> dict[str, Any]:
        """Settings that decide its results, and hashes of the weights."""
        names = (
            *("steps", "guidance", "dynamic_guidance", "negative_prompt", "precision", "vae_precision"),
            *("vae_tiling", "attention", "compile", "compat"),
        )
        settings = {name: getattr(self, name) for name in names} | {name: getattr(self.geometry, name) for name in SIZES}
        return {
            "backbone": f"{type(self).__name__} {self.version}",
            "weights": self._hash,
            "loras": lora_fingerprints(self._loras),
            **settings,
        }

    def text_key(self, caption: str) -> dict[str, Any]:
        """Everything that decides what ``embed`` returns."""
        return self._text_key([self.negative_prompt, caption])

    @cached_property
    def geometry(self) -> Geometry:
        """Sizes it works on.

        Raises:
            ConfigError: the checkpoint is missing, is another generation of CogVideoX, or has learned positions for another size.
        """
        return self._sizes()

    def _sizes(self) -> Geometry:
        folder = self._where.path()
        path = folder / "transformer" / "config.json"
        config, vae = read_config(path), read_config(folder / "vae" / "config.json")
        if config.get("patch_size_t") or config.get("ofs_embed_dim"):
            raise ConfigError(
                f"{path}: a CogVideoX 1.5 transformer; the 1.0 image-to-video model is needed (patch_size_t and ofs_embed_dim null)."
            )
        if config.get("in_channels") != 2 * vae.get("latent_channels", 16):
            raise ConfigError(
                f"{path}: takes {config.get('in_channels')} channels, an image-to-video model takes {2 * vae.get('latent_channels', 16)} "
                "(noisy latents and the first frame). A text-to-video checkpoint does not do here."
            )
        temporal = int(vae.get("temporal_compression_ratio", 4))
        spatial = 2 ** (len(vae.get("block_out_channels", (0,) * 4)) - 1)
        trained = (config["sample_height"] * spatial, config["sample_width"] * spatial, config["sample_frames"])
        height, width, window = wanted = tuple(
            size if getattr(self, name) is None else getattr(self, name) for name, size in zip(SIZES, trained, strict=True)
        )
        if config.get("use_learned_positional_embeddings") and wanted != trained:
            raise ConfigError(
                f"{path}: has learned positions, which fit {trained[0]}x{trained[1]} (height x width) and {trained[2]} frames only, "
                f"not {height}x{width} and {window} frames. Leave height, width and window at null; "
                "clips of any size are resized to it and back with resize=stretch."
            )
        if height % (2 * spatial) or width % (2 * spatial):
            raise ConfigError(f"height={height} width={width}: both must be multiples of {2 * spatial}.")
        return Geometry(height, width, window, spatial, temporal, int(vae.get("latent_channels", 16)))

    def embed(self, caption: str) -> torch.Tensor:
        """Text embeddings (2, tokens, width) on the CPU: of the negative prompt, then of ``caption``; padding is attended to."""
        import torch

        tokenizer, encoder = self._text_parts
        limit = int(self.transformer_config["max_text_seq_length"])
        options = {"padding": "max_length", "max_length": limit, "truncation": True, "add_special_tokens": True, "return_tensors": "pt"}
        tokens = tokenizer([self.negative_prompt, caption], **options).input_ids
        whole = len(tokenizer(caption).input_ids)
        if whole > limit:
            log.warning("a caption has %d tokens, %d are read: %s ...", whole, limit, caption[:60])
        self.placement.bring(encoder)
        with torch.inference_mode():
            embedded: torch.Tensor = encoder(tokens.to(self.placement.target))[0].to("cpu", self.dtype)
        self.placement.put_away(encoder)
        return embedded

    def encode(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Pixels (1, 3, F, H, W) to scaled latents (1, L, C, h, w): a sample of the posterior, drawn from ``generator``."""
        import torch

        self.placement.bring(self.vae)
        with torch.inference_mode():
            posterior = self.vae.encode(pixels.to(self.placement.target, self.vae.dtype)).latent_dist
            latents: torch.Tensor = posterior.sample(generator) * self.vae.config.scaling_factor
        return latents.to(self.dtype).permute(0, 2, 1, 3, 4)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents (1, L, C, h, w) to pixels (1, 3, 4(L - 1) + 1, H, W).

        The VAE decodes two latents at a time and makes four frames of the first latent when their number is even; one more latent is
        put behind then and its frames are cut off (``official``: 4L frames, as they come).
        """
        import torch

        count = latents.shape[1]
        if count % 2 == 0 and self.compat != "official":
            latents = torch.cat([latents, latents[:, -1:]], dim=1)
        self.placement.bring(self.vae)
        with torch.inference_mode():
            scaled = (1 / self.vae.config.scaling_factor * latents.permute(0, 2, 1, 3, 4)).to(self.placement.target, self.vae.dtype)
            pixels: torch.Tensor = self.vae.decode(scaled).sample
        return pixels if self.compat == "official" else pixels[:, :, : self.geometry.temporal * (count - 1) + 1]

    def noise(self, generator: torch.Generator) -> torch.Tensor:
        """Unit noise, (1, L, C, h, w)."""
        from diffusers.utils.torch_utils import randn_tensor

        drawn: torch.Tensor = randn_tensor(self.geometry.latents, generator=generator, device=self.placement.target, dtype=self.dtype)
        return drawn

    def image(self, first: torch.Tensor | None, previous: torch.Tensor | None, generator: torch.Generator) -> torch.Tensor:
        """The first frame's latent with nothing behind it, (1, L, C, h, w): encoded alone, or the latent of the window before as it is."""
        import torch

        if previous is None:
            assert first is not None
            latent = self.encode(first, generator)
        else:
            latent = previous[:, -1:]
        return torch.cat([latent, latent.new_zeros((1, self.geometry.latents[1] - 1, *latent.shape[2:]))], dim=1)

    def denoiser(
        self,
        text: torch.Tensor,
        image: torch.Tensor,
        video: torch.Tensor,
        mask: torch.Tensor,
        generator: torch.Generator,
        *,
        previous: Denoiser | None = None,
        followed: bool = False,
    ) -> CogVideoXDenoiser:
        """The denoising of one window; the backbone alone does not look at ``video`` and ``mask``."""
        if self.compat == "official":
            self.draw_posterior(generator)  # of the video without its hole, which the article's code encodes and then does not use
        return CogVideoXDenoiser(self, text, image, generator)

    def release(self) -> None:
        """Drop all networks."""
        for name in ("transformer", "vae", "_text_parts", "placement"):
            self.__dict__.pop(name, None)
        free_memory()

    def draw_posterior(self, generator: torch.Generator) -> None:
        """Move ``generator`` on by what encoding a window would draw."""
        import torch

        _, length, channels, height, width = self.geometry.latents
        torch.randn((1, channels, length, height, width), generator=generator, dtype=torch_dtype(self.vae_precision or self.precision))

    @property
    def dtype(self) -> torch.dtype:
        """Precision of latents and text embeddings."""
        return torch_dtype(self.precision)

    @cached_property
    def placement(self) -> Placement:
        """Which networks are on the device."""
        return Placement(self.device, self.offload)

    @cached_property
    def transformer_config(self) -> dict[str, Any]:
        """What the checkpoint says of its transformer."""
        return read_config(self._where.path() / "transformer" / "config.json")

    @cached_property
    def transformer(self) -> Any:
        """The transformer, with its LoRAs, on the CPU until it is brought."""
        from diffusers import CogVideoXTransformer3DModel

        network = load_network(CogVideoXTransformer3DModel, self._folder / "transformer", self.precision)
        network.requires_grad_(False)
        if self._loras:
            fuse(network, self._loras, "backbone.loras")
        self.prepare(network)
        return network

    @cached_property
    def vae(self) -> Any:
        """The VAE, on the CPU until it is brought."""
        from diffusers import AutoencoderKLCogVideoX

        network: Any = load_network(AutoencoderKLCogVideoX, self._folder / "vae", self.vae_precision or self.precision)
        if self.vae_tiling:
            network.enable_tiling()
        if self.vae_slicing:
            network.enable_slicing()
        return network.requires_grad_(False)

    def prepare(self, transformer: Any) -> None:
        """Change the loaded transformer before its first use."""
        if self.compile:
            for block in transformer.transformer_blocks:
                block.compile()

    @cached_property
    def _text_parts(self) -> tuple[Any, Any]:
        from transformers import T5EncoderModel, T5Tokenizer

        folder = self._folder
        encoder = load_network(T5EncoderModel, folder / "text_encoder", self.precision).requires_grad_(False)
        try:
            tokenizer = T5Tokenizer.from_pretrained(folder / "tokenizer", local_files_only=True)
        except (OSError, ValueError, TypeError, ImportError) as error:
            raise ConfigError(
                f"{folder / 'tokenizer'}: cannot be read as T5's tokenizer ({error}). It needs the packages sentencepiece and protobuf: "
                "pip install -e '.[diffusion]' in the clone of vpbench."
            ) from error
        return tokenizer, encoder

    @property
    def _folder(self) -> Path:
        return self._where.path()


class CogVideoXDenoiser:
    """The denoising of one window.

    Args:
        model: whose networks are used.
        text: embeddings (2, tokens, width).
        image: the first frame's condition, (1, L, C, h, w).
        generator: for the solver's noise.
    """

    def __init__(self, model: CogVideoX, text: torch.Tensor, image: torch.Tensor, generator: torch.Generator) -> None:
        from diffusers import CogVideoXDPMScheduler

        from vpbench.baselines.diffusion.denoiser import rotary

        self.model, self.generator = model, generator
        self.guided = model.guidance > 1
        device = model.placement.target
        self.text = (text if self.guided else text[1:]).to(device, model.dtype)
        self.image = self._doubled(image)
        settings = read_config(model._folder / "scheduler" / "scheduler_config.json")
        solver: Any = CogVideoXDPMScheduler
        self.scheduler = solver.from_config(settings, timestep_spacing="trailing")
        self.scheduler.set_timesteps(model.steps, device=device)
        self.old: torch.Tensor | None = None  # the solver's memory: what it took for the clean video a step ago
        self.rope = rotary(model.transformer, image.shape[1], image.shape[3], image.shape[4], device)

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.scheduler.timesteps)

    def step(self, latents: torch.Tensor, index: int) -> torch.Tensor:
        """Latents (1, L, C, h, w) at the level of timestep ``index`` to that of the next."""
        import torch

        from vpbench.baselines.diffusion.denoiser import predict

        times = self.scheduler.timesteps
        time = times[index]
        with torch.inference_mode(), attention_kernel(self.model.attention):
            doubled = self._doubled(latents)
            timestep = time.expand(len(doubled))
            extras = self.extras(doubled, timestep, index)
            self.model.placement.bring(self.model.transformer)
            inputs = torch.cat([doubled, self.image], dim=2)
            velocity = predict(self.model.transformer, inputs, self.text, timestep, self.rope, extras).float()
            if self.guided:
                without, with_caption = velocity.chunk(2)
                velocity = without + self.strength(int(time)) * (with_caption - without)
            before = times[index - 1] if index else None
            latents, self.old = self.scheduler.step(velocity, self.old, time, before, latents, generator=self.generator, return_dict=False)
        return latents.to(self.model.dtype)

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, index: int) -> torch.Tensor:
        """Clean latents at the noise level of timestep ``index``."""
        noisy: torch.Tensor = self.scheduler.add_noise(clean, noise, self.scheduler.timesteps[index : index + 1])
        return noisy

    def extras(self, latents: torch.Tensor, timestep: torch.Tensor, index: int) -> Extras | None:
        """What else goes into the call of step ``index``; nothing for the backbone alone."""
        return None

    def strength(self, time: int) -> float:
        """Guidance at a timestep."""
        return guidance_at(time, self.steps, self.model.guidance) if self.model.dynamic_guidance else self.model.guidance

    def _doubled(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.repeat(2, 1, 1, 1, 1) if self.guided else latents


def guidance_at(time: int, steps: int, guidance: float) -> float:
    """Dynamic guidance, 1 to ``guidance + 1``.

    The formula compares the timestep (999 to 0) with the number of steps, so that its argument is huge and the strength jumps about; it is
    kept because the published results come from it, here and in diffusers.

    >>> [round(guidance_at(t, 50, 6.0), 3) for t in (999, 979, 959)]
    [2.291, 2.544, 6.974]
    """
    return 1 + guidance * (1 - math.cos(math.pi * ((steps - time) / steps) ** 5.0)) / 2


def attention_kernel(name: str) -> Any:
    """A context in which torch uses one attention kernel, or chooses by itself for ``auto``."""
    import contextlib

    from torch.nn.attention import SDPBackend, sdpa_kernel

    if name == "auto":
        return contextlib.nullcontext()
    kernels = {"flash": "FLASH_ATTENTION", "cudnn": "CUDNN_ATTENTION", "efficient": "EFFICIENT_ATTENTION", "math": "MATH"}
    return sdpa_kernel(getattr(SDPBackend, kernels[name]))
