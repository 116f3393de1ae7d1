"""The seam between the blend loop and an image-to-video model.

``latent_blend.fill`` steers any model that can do what ``Backbone`` lists. Two ship: CogVideoX (``cogvideox.py``) and Wan 2.1
(``wan.py``); VideoPainter is CogVideoX with a context encoder beside it (``videopainter.py``).

Latents are ``(1, L, C, h, w)`` everywhere, scaled as the denoiser wants them. Pixels and masks are as in ``pictures.py``. Every random draw
is made on the CPU from the generator that is passed, in the order in which the loop calls, so that a clip's result does not depend on
the device that it runs on more than arithmetic does.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from vpbench.clip import Clip, MaskedClip
from vpbench.errors import DataError

if TYPE_CHECKING:
    import torch

    from vpbench.check import Need

COMPAT = ("none", "official")


@dataclass(frozen=True)
class Geometry:
    """What a backbone works on.

    Attributes:
        height: of its frames, pixels.
        width: of its frames, pixels.
        window: frames that it makes at once.
        spatial: pixels per latent, down and across.
        temporal: frames per latent, apart from the first frame, which has one of its own.
        channels: of a latent.
    """

    height: int
    width: int
    window: int
    spatial: int = 8
    temporal: int = 4
    channels: int = 16

    @property
    def latents(self) -> tuple[int, int, int, int, int]:
        """Shape of one window's latents, (1, L, C, h, w)."""
        length = (self.window - 1) // self.temporal + 1
        return (1, length, self.channels, self.height // self.spatial, self.width // self.spatial)


class Denoiser(Protocol):
    """The denoising of one window: its conditions, its timesteps and the memory of its solver."""

    @property
    def steps(self) -> int:
        """Number of steps; step ``i`` starts at the noise level of timestep ``i``."""

    def step(self, latents: torch.Tensor, index: int) -> torch.Tensor:
        """Take step ``index``: latents at the level of timestep ``index + 1``, after the last step without noise."""

    def add_noise(self, clean: torch.Tensor, noise: torch.Tensor, index: int) -> torch.Tensor:
        """Bring clean latents to the noise level of timestep ``index``."""


class Backbone(Protocol):
    """An image-to-video diffusion model. Building one loads nothing; ``geometry`` and everything below it load what they need."""

    @property
    def geometry(self) -> Geometry:
        """Sizes it works on.

        Raises:
            ConfigError: the checkpoint is missing or does not fit the configured size.
        """

    def needs(self) -> list[Need]:
        """What it needs before it can run."""

    def fingerprints(self) -> dict[str, Any]:
        """Everything that decides its results, apart from the arguments of calls: settings, hashes of its weights.

        Raises:
            ConfigError: its checkpoint is missing or not whole.
        """

    def text_key(self, caption: str) -> dict[str, Any]:
        """The part of that which decides what ``embed`` returns for ``caption``, so that embeddings can be kept."""

    def embed(self, caption: str) -> torch.Tensor:
        """Text embeddings on the CPU, (2, tokens, width): row 0 of the negative prompt, row 1 of ``caption``. Draws nothing."""

    def encode(self, pixels: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Pixels of any number of frames ``temporal * k + 1`` to latents."""

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents of any length L to pixels, (1, 3, temporal * (L - 1) + 1, H, W), about [-1, 1]."""

    def noise(self, generator: torch.Generator) -> torch.Tensor:
        """Unit noise of the shape ``geometry.latents``, what denoising starts from."""

    def image(self, first: torch.Tensor | None, previous: torch.Tensor | None, generator: torch.Generator) -> Any:
        """What the model needs to know of a window's first frame; passed on to ``denoiser``.

        Args:
            first: pixels of the frame (1, 3, 1, H, W) for the first window; None for the others.
            previous: latents of the window before, up to and with the one that holds this window's first frame; None for the first window.
            generator: for draws.
        """

    def denoiser(
        self,
        text: torch.Tensor,
        image: Any,
        video: torch.Tensor,
        mask: torch.Tensor,
        generator: torch.Generator,
        *,
        previous: Denoiser | None = None,
        followed: bool = False,
    ) -> Denoiser:
        """Set up the denoising of one window.

        Args:
            text: from ``embed``.
            image: from ``image``.
            video: the window's known pixels (1, 3, F, H, W); what its hole holds must not reach the result.
            mask: the window's mask in pixels (1, 1, F, H, W).
            generator: for the draws of every step.
            previous: the denoiser of the window before.
            followed: whether another window follows, so that there is a reason to keep anything for it.
        """

    def release(self) -> None:
        """Give the memory of all networks back; the next use loads them again."""


def clip_seed(seed: int, clip: str) -> int:
    """A seed for one clip, from the run's seed and the clip's name; neither order nor choice of clips changes it.

    >>> clip_seed(0, "bear") == clip_seed(0, "bear"), clip_seed(0, "bear") == clip_seed(1, "bear")
    (True, False)
    """
    return int.from_bytes(hashlib.sha256(f"{seed} {clip}".encode()).digest()[:4], "big")


def caption_of(clip: MaskedClip | Clip, default: str | None) -> str:
    """The clip's caption, or the one for all clips without.

    Raises:
        DataError: there is neither.
    """
    caption = clip.caption.strip() or (default or "").strip()
    if not caption:
        raise DataError(
            f"{clip.name}: has no caption, which the model needs. Captions stand in the benchmark's list (DAVIS: davis_caption.csv; "
            "folder: benchmark.captions=FILE); one for all clips without: model.default_caption='...'"
        )
    return caption
