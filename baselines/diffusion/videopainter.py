"""VideoPainter: CogVideoX image-to-video with a context encoder beside it, as a backbone of the latent blend.

Bian et al., "VideoPainter: Any-length Video Inpainting and Editing with Plug-and-Play Context Control", SIGGRAPH 2025. At every step the
context encoder (``branch.py``) looks at the noisy latents, the video without its hole and the mask; its two features are added to the
visual tokens of the first and the second half of the transformer, only where a token is known. The optional ID adapter (``adapter.py``)
lets the hole's tokens be attended to twice, and ``previous_weight`` lets a window look back at the one before.

Written from the article and from the behaviour of its code (TencentARC/VideoPainter, commit bbab6cd); its outputs are reproduced to 1e-4
in ``tests/baselines/diffusion/test_videopainter_parity.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from vpbench.baselines.diffusion.backbones import Geometry
from vpbench.baselines.diffusion.checkpoints import Checkpoint, mismatches
from vpbench.baselines.diffusion.cogvideox import CogVideoX, CogVideoXDenoiser
from vpbench.baselines.diffusion.loading import torch_dtype
from vpbench.baselines.diffusion.loras import Lora, fuse, lora_fingerprints
from vpbench.check import Need
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError

if TYPE_CHECKING:
    import torch

    from vpbench.baselines.diffusion.backbones import Denoiser
    from vpbench.baselines.diffusion.branch import ContextEncoder
    from vpbench.baselines.diffusion.denoiser import Extras

HOLES = ("grey", "black")


@dataclass
class VideoPainter(CogVideoX):
    """The backbone.

    Attributes:
        branch: folder or hub id of the context encoder: ``config.json`` and its weights.
        adapter: file or hub id of the ID adapter; null: none.
        adapter_scale: how much of it is added; the article's code uses 1.0, it was trained at 0.5.
        hole: what the context encoder sees in the hole: ``grey`` as the article's code, ``black`` as in training.
        previous_weight: how much a window looks back at the one before; 0: not at all. Above 0 it keeps one hidden
            state per block (9 GB), and the article's authors agree that it can blur the hole.
    """

    branch: str = "TencentARC/VideoPainter/checkpoints/branch"
    adapter: str | None = None
    adapter_scale: float = 1.0
    hole: str = "grey"
    previous_weight: float = 0.0

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hole not in HOLES:
            raise unknown_name("hole", self.hole, HOLES)
        if not 0 <= self.previous_weight <= 1:
            raise ConfigError(f"previous_weight={self.previous_weight}: expected 0 to 1.")

    def needs(self) -> list[Need]:
        """The backbone's needs, the branch and the adapter; a branch that belongs to another backbone is a problem of the branch."""
        found = super().needs()
        need = self._branch.need()
        if need.met and self._where.need().met:
            wrong = mismatches(self._branch.path(), self._folder)
            need = replace(need, problems=tuple(wrong))
        found.append(need)
        if self.adapter is not None:
            found.append(Checkpoint(self.adapter, "adapter", "adapter").need())
        return found

    def fingerprints(self) -> dict[str, Any]:
        """Settings that decide its results, and hashes of all weights."""
        return {
            **super().fingerprints(),
            "branch": self._branch.fingerprint(),
            "adapter": lora_fingerprints(self._adapter, "adapter"),
            "hole": self.hole,
            "previous_weight": self.previous_weight,
        }

    def _add_loras(self, network: Any) -> None:
        from vpbench.baselines.diffusion.branch import check_context_encoder

        super()._add_loras(network)
        check_context_encoder(self._branch.path())
        changed, blocks = fuse(network, self._adapter, key="backbone.adapter"), len(network.transformer_blocks)
        if self._adapter and changed != 4 * blocks:
            raise ConfigError(
                f"{self.adapter}: changes {changed} layers; an ID adapter changes 4 in each of the {blocks} blocks of this backbone. "
                "An ordinary LoRA belongs into model.backbone.loras."
            )

    def _sizes(self) -> Geometry:
        found = super()._sizes()
        wrong = mismatches(self._branch.path(), self._folder)
        if wrong:
            raise ConfigError("; ".join(wrong) + ". Give the branch that was trained on this backbone.")
        return found

    @cached_property
    def encoder(self) -> ContextEncoder:
        """The context encoder, on the CPU until it is brought."""
        from vpbench.baselines.diffusion.branch import load_context_encoder

        network = load_context_encoder(self._branch.path(), torch_dtype(self.precision))
        if self.compile:
            for block in network.transformer_blocks:
                block.compile()
        return network

    def prepare(self, transformer: Any) -> None:
        """Add the adapter, and let the blocks look twice where that is asked for."""
        if self._adapter:
            fuse(transformer, self._adapter, key="backbone.adapter")
        if self._adapter or self.previous_weight > 0:
            from vpbench.baselines.diffusion.adapter import Resampling

            for block in transformer.transformer_blocks:
                block.attn1.set_processor(Resampling(identity=bool(self._adapter)))
        super().prepare(transformer)

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
    ) -> VideoPainterDenoiser:
        """The denoising of one window."""
        assert previous is None or isinstance(previous, VideoPainterDenoiser)
        return VideoPainterDenoiser(self, text, image, video, mask, generator, previous, followed)

    def release(self) -> None:
        """Drop all networks."""
        self.__dict__.pop("encoder", None)
        super().release()

    @property
    def _branch(self) -> Checkpoint:
        return Checkpoint(self.branch, "branch", "branch")

    @property
    def _adapter(self) -> tuple[Lora, ...]:
        return () if self.adapter is None else (Lora(self.adapter, self.adapter_scale, "adapter"),)


class VideoPainterDenoiser(CogVideoXDenoiser):
    """The denoising of one window with the context encoder.

    Args:
        model: whose networks are used.
        text: embeddings (2, tokens, width).
        image: the first frame's condition (1, L, C, h, w).
        video: the window's known pixels (1, 3, F, H, W).
        mask: in pixels (1, 1, F, H, W).
        generator: for the posterior of the video without its hole, drawn here, and for the solver's noise.
        previous: of the window before.
        followed: whether another window follows.
    """

    def __init__(
        self,
        model: VideoPainter,
        text: torch.Tensor,
        image: torch.Tensor,
        video: torch.Tensor,
        mask: torch.Tensor,
        generator: torch.Generator,
        previous: VideoPainterDenoiser | None,
        followed: bool,
    ) -> None:
        import torch

        from vpbench.baselines.diffusion import masks, pictures

        super().__init__(model, text, image, generator)
        self.painter = model
        fill = pictures.GREY if model.hole == "grey" else pictures.BLACK
        visible = model.encode(pictures.without_hole(video, mask, fill), generator)
        hole = masks.latent_mask(mask, "nearest", model.geometry.spatial, model.geometry.temporal).to(visible)
        self.condition = self._doubled(torch.cat([visible, hole], dim=2))
        self.holes = masks.token_mask(hole, int(model.transformer_config["patch_size"]))
        self.all_holes = torch.cat([self.holes.new_zeros((1, self.text.shape[1], 1)), self.holes], dim=1)
        looks_back = model.previous_weight > 0
        self.previous = previous.states if previous is not None and looks_back else None
        self.previous_holes = previous.all_holes if previous is not None else None
        self.states: list[torch.Tensor] | None = [] if looks_back and followed else None
        if previous is not None:
            previous.states = None

    def extras(self, latents: torch.Tensor, timestep: torch.Tensor, index: int) -> Extras:
        """The context encoder's features, and what the blocks look at twice."""
        from vpbench.baselines.diffusion.denoiser import Extras

        model = self.painter
        model.placement.bring(model.transformer, model.encoder)
        features = model.encoder(latents, self.condition, self.text, timestep, self.rope)
        # the article's code looks back with the previous window's holes at the first step only, then with this window's own
        resampled = self.previous_holes if self.previous is not None and index == 0 else self.all_holes
        return Extras(
            features=features,
            holes=self.holes,
            resampled=resampled if model.adapter is not None else None,
            previous=self.previous,
            weight=model.previous_weight,
            keep=self.states if index == self.steps - 1 else None,
            keep_on="cpu" if model.offload != "none" else None,
        )
