"""Wan 2.1 image-to-video as a backbone of the latent blend: the second, which shows that the first is not special.

Wan Team, "Wan: Open and Advanced Large-Scale Video Generative Models", 2025. Networks, scheduler and checkpoint layout are those of
diffusers' ``WanImageToVideoPipeline``; without blending, a window equals a call of it (``tests/baselines/diffusion/test_wan.py``).
Unlike CogVideoX it is a rectified flow (noise is mixed in, not added), reads the first frame through CLIP as well, and takes any size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from vpbench.baselines.diffusion.backbones import Geometry
from vpbench.baselines.diffusion.checkpoints import read_config
from vpbench.baselines.diffusion.loading import OFFLOADS, PRECISIONS, free_memory, load_pipeline, shifted, torch_dtype
from vpbench.baselines.diffusion.loras import Lora, fuse, lora_fingerprints, read_loras
from vpbench.baselines.diffusion.pictures import to_frames
from vpbench.baselines.diffusion.released import Released
from vpbench.baselines.diffusion.stages import Placement
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from vpbench.baselines.diffusion.backbones import Denoiser

TEXT_PARTS = ("text_encoder", "tokenizer")
VIDEO_PARTS = ("transformer", "vae", "scheduler", "image_encoder", "image_processor")
TOKENS = 512  # of a caption; the pipeline's default


@dataclass
class WanImageToVideo(Released):
    """The backbone.

    Attributes:
        checkpoint: folder or hub id, in the layout of diffusers; of Wan 2.1.
        height: of its frames, a multiple of 16.
        width: of its frames.
        window: frames that it makes at once, 4k + 1.
        steps: denoising steps.
        guidance: strength of the caption; 1 or less runs without guidance, at half the cost.
        negative_prompt: what guidance leads away from.
        flow_shift: of the scheduler, 3 for 480p and 5 for 720p; null: what the checkpoint says.
        loras: ``[{path: FILE, scale: 0.8}, ...]``, added to the transformer's weights.
        precision: of transformer and text encoder: ``bfloat16``, ``float32``, ``float16``.
        vae_precision: of the VAE and the image encoder.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        offload: ``none``, ``model`` or ``sequential``, see ``stages.Placement``.
        vae_tiling: encode and decode in overlapping tiles: less memory, other pixels at their seams.
    """

    checkpoint: str = "Wan-AI/Wan2.1-I2V-14B-480P-Diffusers"
    height: int = 480
    width: int = 720
    window: int = 81
    steps: int = 50
    guidance: float = 5.0
    negative_prompt: str = ""
    flow_shift: float | None = 3.0
    loras: Sequence[Any] = ()
    precision: str = "bfloat16"
    vae_precision: str = "float32"
    device: str = "auto"
    offload: str = "none"
    vae_tiling: bool = False
    _loras: tuple[Lora, ...] = field(default=(), init=False, repr=False)

    version: ClassVar[int] = 1
    kind: ClassVar[str] = "WanImageToVideoPipeline"

    def __post_init__(self) -> None:
        for name, known in (("precision", PRECISIONS), ("vae_precision", PRECISIONS), ("offload", OFFLOADS)):
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        if self.steps < 1:
            raise ConfigError(f"steps={self.steps}: expected at least 1.")
        self._loras = read_loras(self.loras)

    def fingerprints(self) -> dict[str, Any]:
        """Settings that decide its results, and hashes of the weights."""
        names = (
            *("height", "width", "window", "steps", "guidance", "negative_prompt", "flow_shift", "precision", "vae_precision"),
            "vae_tiling",
        )
        return {
            "backbone": f"{type(self).__name__} {self.version}",
            "weights": self._hash,
            "loras": lora_fingerprints(self._loras),
            **{name: getattr(self, name) for name in names},
        }

    def text_key(self, caption: str) -> dict[str, Any]:
        """Everything that decides what ``embed`` returns."""
        return self._text_key([self.negative_prompt, caption])

    @cached_property
    def geometry(self) -> Geometry:
        """Sizes it works on.

        Raises:
            ConfigError: the checkpoint is missing, is of Wan 2.2 or no image-to-video model, or the size is no multiple of its patches.
        """
        folder = self._where.path()
        index, config = read_config(folder / "model_index.json"), read_config(folder / "transformer" / "config.json")
        vae = read_config(folder / "vae" / "config.json")
        if index.get("boundary_ratio") or index.get("expand_timesteps"):
            raise ConfigError(f"{folder}: a checkpoint of Wan 2.2 (two experts, or a time of its own per frame); this backbone is Wan 2.1.")
        channels = int(vae.get("z_dim", 16))
        temporal, spatial = int(vae.get("scale_factor_temporal", 4)), int(vae.get("scale_factor_spatial", 8))
        expected = 2 * channels + temporal
        if config.get("in_channels") != expected or not config.get("image_dim"):
            raise ConfigError(
                f"{folder / 'transformer' / 'config.json'}: in_channels={config.get('in_channels')}, image_dim={config.get('image_dim')}; "
                f"the image-to-video model has in_channels={expected} and an image_dim."
            )
        multiple = spatial * int(config["patch_size"][1])
        if self.height % multiple or self.width % multiple:
            near = [max(1, round(size / multiple)) * multiple for size in (self.height, self.width)]
            raise ConfigError(
                f"height={self.height} width={self.width}: both must be multiples of {multiple}, such as {near[0]} and {near[1]}."
            )
        return Geometry(self.height, self.width, self.window, spatial, temporal, channels)

    def embed(self, caption: str) -> torch.Tensor:
        """Text embeddings (2, tokens, width) on the CPU: of the negative prompt, then of ``caption``; zeros behind each text's end."""
        import torch

        pipeline = self._text_pipeline
        self.placement.bring(pipeline.text_encoder)
        with torch.no_grad():
            found = pipeline.encode_prompt(caption, self.negative_prompt, True, max_sequence_length=TOKENS, device=torch.device("cpu"))
        self.placement.put_away(pipeline.text_encoder)
        return torch.cat([found[1], found[0]])

    def encode(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Pixels (1, 3, F, H, W) to normalised latents (1, L, C, h, w): the posterior's mode, as the pipeline takes it; draws nothing."""
        import torch

        vae = self._pipeline.vae
        self.placement.bring(vae)
        with torch.no_grad():
            latents: torch.Tensor = vae.encode(pixels.to(self.placement.target, vae.dtype)).latent_dist.mode().float()
        mean, deviation = self._statistics(latents)
        return ((latents - mean) / deviation).permute(0, 2, 1, 3, 4)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Normalised latents (1, L, C, h, w) to pixels (1, 3, 4(L - 1) + 1, H, W) in [-1, 1]."""
        import torch

        vae = self._pipeline.vae
        self.placement.bring(vae)
        scaled = latents.permute(0, 2, 1, 3, 4).to(self.placement.target, vae.dtype)
        mean, deviation = self._statistics(scaled)
        with torch.no_grad():
            pixels: torch.Tensor = vae.decode(scaled * deviation + mean, return_dict=False)[0]
        return pixels

    def noise(self, generator: torch.Generator) -> torch.Tensor:
        """Unit noise, (1, L, C, h, w), in the order in which the pipeline draws it."""
        from diffusers.utils.torch_utils import randn_tensor

        _, length, channels, height, width = self.geometry.latents
        drawn: torch.Tensor = randn_tensor((1, channels, length, height, width), generator=generator, device=self.placement.target)
        return drawn.permute(0, 2, 1, 3, 4)

    def image(self, first: torch.Tensor | None, previous: torch.Tensor | None, generator: torch.Generator) -> WanImage:
        """The first frame for the transformer: beside the latents and as an embedding of CLIP. Later windows start from decoded pixels."""
        import torch
        from PIL import Image

        if previous is not None:
            first = self.decode(previous)[:, :, -1:]
        assert first is not None
        pipeline, target, size = self._pipeline, self.placement.target, self.geometry
        self.placement.bring(pipeline.vae)
        with torch.no_grad():
            _, condition = pipeline.prepare_latents(
                *(first[:, :, 0].to(target, torch.float32), 1, size.channels, size.height, size.width, size.window, torch.float32, target),
                latents=torch.zeros(1),  # our own noise is drawn elsewhere
            )
            self.placement.bring(pipeline.image_encoder)
            embedding = pipeline.encode_image(Image.fromarray(to_frames(first)[0]), target)
        return WanImage(condition, embedding)

    def denoiser(
        self,
        text: torch.Tensor,
        image: WanImage,
        video: torch.Tensor,
        mask: torch.Tensor,
        generator: torch.Generator,
        *,
        previous: Denoiser | None = None,
        followed: bool = False,
    ) -> WanDenoiser:
        """The denoising of one window; the model does not look at ``video`` and ``mask``."""
        return WanDenoiser(self, text, image)

    def release(self) -> None:
        """Drop all networks."""
        for name in ("_pipeline", "_text_pipeline", "placement"):
            self.__dict__.pop(name, None)
        free_memory()

    @cached_property
    def placement(self) -> Placement:
        """Which networks are on the device."""
        return Placement(self.device, self.offload)

    @property
    def transformer(self) -> Any:
        """The transformer, with its LoRAs, on the CPU until it is brought."""
        return self._pipeline.transformer

    def scheduler(self) -> Any:
        """A scheduler that has taken no step, with its timesteps set."""
        pipeline = self._pipeline
        fresh = type(pipeline.scheduler).from_config(pipeline.scheduler.config)
        fresh.set_timesteps(self.steps, device=self.placement.target)
        return fresh

    def _statistics(self, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation of each channel of the VAE's latents, (1, C, 1, 1, 1)."""
        import torch

        config = self._pipeline.vae.config
        mean, deviation = (torch.tensor(values).view(1, -1, 1, 1, 1).to(latents) for values in (config.latents_mean, config.latents_std))
        return mean, deviation

    @cached_property
    def _pipeline(self) -> Any:
        pipeline = load_pipeline(
            self._where,
            self.precision,
            {"vae": self.vae_precision, "image_encoder": self.vae_precision},
            without=TEXT_PARTS,
        )
        if self._loras:
            fuse(pipeline.transformer, self._loras)
        if self.flow_shift is not None:
            pipeline.scheduler = shifted(pipeline.scheduler, self.flow_shift)
        if self.vae_tiling:
            pipeline.vae.enable_tiling()
        return pipeline

    @cached_property
    def _text_pipeline(self) -> Any:
        return load_pipeline(self._where, self.precision, without=VIDEO_PARTS)


@dataclass(frozen=True)
class WanImage:
    """A first frame as the transformer takes it.

    Attributes:
        condition: mask of what is given (4 channels) and latents of the frame with nothing behind it, (1, 4 + C, L, h, w).
        embedding: of CLIP, (1, tokens, width).
    """

    condition: torch.Tensor
    embedding: torch.Tensor


class WanDenoiser:
    """The denoising of one window.

    Args:
        model: whose networks are used.
        text: embeddings (2, tokens, width).
        image: the first frame.
    """

    def __init__(self, model: WanImageToVideo, text: torch.Tensor, image: WanImage) -> None:
        self.model = model
        self.dtype = torch_dtype(model.precision)
        device = model.placement.target
        self.text = text.to(device, self.dtype)
        self.condition, self.embedding = image.condition, image.embedding.to(device, self.dtype)
        self.solver = model.scheduler()

    @property
    def steps(self) -> int:
        """Number of steps."""
        return len(self.solver.timesteps)

    def step(self, latents: torch.Tensor, index: int) -> torch.Tensor:
        """Latents (1, L, C, h, w) at the level of timestep ``index`` to that of the next."""
        import torch

        time = self.solver.timesteps[index]
        channels_first = latents.permute(0, 2, 1, 3, 4)
        inputs = torch.cat([channels_first, self.condition], dim=1).to(self.dtype)
        self.model.placement.bring(self.model.transformer)
        with torch.no_grad():
            velocity = self._predict(inputs, time, self.text[1:])
            if self.model.guidance > 1:
                without = self._predict(inputs, time, self.text[:1])
                velocity = without + self.model.guidance * (velocity - without)
            stepped: torch.Tensor = self.solver.step(velocity, time, channels_first, return_dict=False)[0]
        return stepped.permute(0, 2, 1, 3, 4)

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, index: int) -> torch.Tensor:
        """Clean latents at the noise level of timestep ``index``: ``(1 - sigma) clean + sigma noise``."""
        sigma = float(self.solver.sigmas[index])
        return (1 - sigma) * clean + sigma * noise

    def _predict(self, inputs: torch.Tensor, time: torch.Tensor, text: torch.Tensor) -> Any:
        return self.model.transformer(
            hidden_states=inputs,
            timestep=time.expand(1),
            encoder_hidden_states=text,
            encoder_hidden_states_image=self.embedding,
            return_dict=False,
        )[0]
