"""What everything that is made from a released checkpoint has in common."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

from vpbench.baselines.diffusion.checkpoints import Checkpoint, packages
from vpbench.baselines.diffusion.loras import Lora, fuse, lora_needs
from vpbench.check import Need


class Released:
    """A base for what loads a pipeline of diffusers.

    Attributes:
        checkpoint: folder or hub id, in the layout of diffusers.
        precision: of its networks.
        device: where they run.
        kind: the pipeline's class.
        version: counts up whenever the same checkpoint and inputs would give another result.
    """

    checkpoint: str
    precision: str
    device: str
    kind: ClassVar[str]
    version: ClassVar[int]
    _loras: tuple[Lora, ...] = ()

    def needs(self) -> list[Need]:
        """The packages, the checkpoint and the LoRAs."""
        return [packages(), self._where.need(), *lora_needs(self._loras)]

    def validate(self) -> None:
        """Refuse what no clip can be made with; called when all needs are met. Files' headers are read, and LoRAs; no other weights.

        Raises:
            ConfigError: there is no such device here, the checkpoint's files lack tensors, or a LoRA belongs to another network.
        """
        from vpbench.baselines.diffusion.loading import skeleton, torch_device

        torch_device(self.device)
        self._add_loras(skeleton(self._where.path()))

    def _add_loras(self, network: Any) -> None:
        """Add the LoRAs to the network that denoises; to validate, it is on the meta device.

        Raises:
            ConfigError: they belong to another network.
        """
        fuse(network, self._loras)

    @property
    def _where(self) -> Checkpoint:
        return Checkpoint(self.checkpoint, self.kind)

    @cached_property
    def _hash(self) -> str:
        return self._where.fingerprint()

    def _text_key(self, captions: list[str | None]) -> dict[str, Any]:
        """Everything that decides the embeddings of texts."""
        return {"text_encoder": f"{self.kind} {self.version}", "weights": self._hash, "precision": self.precision, "captions": captions}
