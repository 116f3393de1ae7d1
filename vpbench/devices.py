"""The device that a name in a configuration means."""

from __future__ import annotations

from vpbench.errors import ConfigError

ANYWHERE = ("auto", "cpu")  # every machine has them


def usable_device(name: str) -> str:
    """The torch device that a name means; ``auto`` is a CUDA device where there is one, else the CPU.

    Raises:
        ConfigError: there is no such device here, or it cannot be used.
    """
    import torch

    device = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ConfigError(f"device={name}: cannot be used here ({reason}). Use device=cpu or device=auto.") from error
    return device
