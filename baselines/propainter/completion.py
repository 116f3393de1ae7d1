"""Flow completion: what the flow would be inside the hole. A recurrent network over the flows of one direction.

Attribute names are those of the tensors in ``recurrent_flow_completion.pth``.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from vpbench.baselines.propainter.layers import DeformableAlignment, Upsampled, refining
from vpbench.baselines.propainter.propagation import Flows

CHANNELS = 128  # of the features that are propagated, at an eighth of the size
REACH_PX = 5.0


class FlowCompletion(nn.Module):
    """The network."""

    def __init__(self) -> None:
        super().__init__()
        self.downsample = nn.Sequential(
            nn.Conv3d(3, 32, (1, 5, 5), stride=(1, 2, 2), padding=(0, 2, 2), padding_mode="replicate"), nn.LeakyReLU(0.2)
        )
        self.encoder1 = nn.Sequential(P3D(32, 32, 1), nn.LeakyReLU(0.2), P3D(32, 64, 2), nn.LeakyReLU(0.2))
        self.encoder2 = nn.Sequential(P3D(64, 64, 1), nn.LeakyReLU(0.2), P3D(64, CHANNELS, 2), nn.LeakyReLU(0.2))
        dilated = [nn.Conv3d(CHANNELS, CHANNELS, (1, 3, 3), padding=(0, d, d), dilation=(1, d, d)) for d in (3, 2, 1)]
        self.mid_dilation = nn.Sequential(*(layer for conv in dilated for layer in (conv, nn.LeakyReLU(0.2))))
        self.feat_prop_module = FeaturePropagation()
        self.decoder2 = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1), nn.LeakyReLU(0.2), Upsampled(CHANNELS, 64), nn.LeakyReLU(0.2)
        )
        self.decoder1 = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.LeakyReLU(0.2), Upsampled(64, 32), nn.LeakyReLU(0.2))
        self.upsample = nn.Sequential(nn.Conv2d(32, 32, 3, padding=1), nn.LeakyReLU(0.2), Upsampled(32, 2))
        self.edgeDetector = EdgeDetector()

    def forward(self, flows: torch.Tensor, masks: torch.Tensor) -> torch.Tensor:
        """Predict flows everywhere.

        Args:
            flows: (B, T, 2, H, W), 0 in the hole, in the order of the recurrence; H and W multiples of 8.
            masks: (B, T, 1, H, W) of the frames that the flows start from, 1 = hole.

        Returns:
            (B, T, 2, H, W).
        """
        x = torch.cat([flows, masks], dim=2).transpose(1, 2)  # (B, 3, T, H, W)
        shallow = self.encoder1(self.downsample(x))
        deep = self.mid_dilation(self.encoder2(shallow)).transpose(1, 2)  # (B, T, 128, H/8, W/8)
        deep = self.feat_prop_module(deep)
        up = self.decoder2(deep.flatten(0, 1)) + shallow.transpose(1, 2).flatten(0, 1)
        predicted: torch.Tensor = self.upsample(self.decoder1(up))
        return predicted.view(*flows.shape[:2], *predicted.shape[1:])


def complete(network: nn.Module, flows: Flows, masks: torch.Tensor) -> Flows:
    """Replace the flow inside the hole, in both directions at once.

    Args:
        network: ``FlowCompletion``.
        flows: forward and backward, each (T - 1, 2, H, W).
        masks: (T, 1, H, W), 1 = hole.

    Returns:
        Forward and backward, each float32 (T - 1, 2, H, W).
    """
    forward, backward = flows
    known = torch.stack([forward * (1 - masks[:-1]), (backward * (1 - masks[1:])).flip(0)])
    holes = torch.stack([masks[:-1], masks[1:].flip(0)])
    dtype = next(network.parameters()).dtype
    predicted = network(known.to(dtype), holes.to(dtype)).float()
    found = predicted * holes + known
    return found[0], found[1].flip(0)


class P3D(nn.Module):
    """A convolution over space, then one over time."""

    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv3d(channels, out, (1, 3, 3), stride=(1, stride, stride), padding=(0, 1, 1)), nn.LeakyReLU(0.2))
        self.conv2 = nn.Sequential(nn.Conv3d(out, out, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, C, T, H, W) to (B, out, T, H / stride, W / stride)."""
        return self.conv2(self.conv1(x))  # type: ignore[no-any-return]


class FeaturePropagation(nn.Module):
    """Carries features through time, backwards and then forwards, each from the two steps before."""

    def __init__(self) -> None:
        super().__init__()
        names = ("backward_", "forward_")
        self.deform_align = nn.ModuleDict({name: DeformableAlignment(2 * CHANNELS, CHANNELS, 3 * CHANNELS, REACH_PX) for name in names})
        self.backbone = nn.ModuleDict({name: refining((2 + i) * CHANNELS, CHANNELS, 0.1) for i, name in enumerate(names)})
        self.fusion = nn.Conv2d(2 * CHANNELS, CHANNELS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, 128, h, w) to the same."""
        inputs = x.unbind(1)
        back = self._run("backward_", [(one,) for one in reversed(inputs)])[::-1]
        both = self._run("forward_", list(zip(inputs, back, strict=True)))
        fused = [self.fusion(torch.cat(pair, dim=1)) for pair in zip(back, both, strict=True)]
        return torch.stack(fused, dim=1) + x

    def _run(self, name: str, steps: Sequence[tuple[torch.Tensor, ...]]) -> list[torch.Tensor]:
        """One pass; a step has the frame's own feature first."""
        zero = torch.zeros_like(steps[0][0])
        made: list[torch.Tensor] = []
        for step in steps:
            aligned = zero
            if made:
                last, before = made[-1], made[-2] if len(made) > 1 else zero
                condition = torch.cat([last, step[0], before], dim=1)
                aligned = self.deform_align[name](torch.cat([last, before], dim=1), condition)
            made.append(aligned + self.backbone[name](torch.cat([*step, aligned], dim=1)))
        return made


class EdgeDetector(nn.Module):
    """A part that training alone uses; here it only takes its tensors."""

    def __init__(self) -> None:
        super().__init__()
        self.projection = nn.Sequential(nn.Conv2d(2, 16, 3, padding=1), nn.LeakyReLU(0.2))
        self.mid_layer_1 = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.LeakyReLU(0.2))
        self.mid_layer_2 = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1))
        self.out_layer = nn.Conv2d(16, 1, 1)
