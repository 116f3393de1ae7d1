"""A cache of the hub with one small copy of everything that configurations name, where the hub's tools would keep it."""

from __future__ import annotations

from pathlib import Path

from tests.baselines.cococo.tiny import write_base
from tests.baselines.diffusion import tiny
from tests.baselines.diffusion.tiny_images import flux_fill
from tests.baselines.diffusion.tiny_wan import wan_vace

WRITERS = {
    "zai-org/CogVideoX-5b-I2V": tiny.write_backbone,
    "TencentARC/VideoPainter": lambda copy: tiny.write_branch(copy / "checkpoints" / "branch"),
    "black-forest-labs/FLUX.1-Fill-dev": flux_fill,
    "Wan-AI/Wan2.1-VACE-1.3B-diffusers": wan_vace,
    "benjamin-paine/stable-diffusion-v1-5-inpainting": write_base,
}


def write(root: Path) -> Path:
    """Write them; ``root`` is what HF_HUB_CACHE must name."""
    for name, writer in WRITERS.items():
        writer(root / f"models--{name.replace('/', '--')}" / "snapshots" / "1")
    return root
