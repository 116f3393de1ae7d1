"""What the networks share."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional
from torchvision.ops import deform_conv2d

GROUPS, TAPS = 16, 9  # of deformable convolutions: channels that share their offsets, and the 3 x 3 places


class Upsampled(nn.Module):
    """A picture of twice the size, then a convolution."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, out, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, out, 2 H, 2 W)."""
        return self.conv(functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True))  # type: ignore[no-any-return]


class DeformableAlignment(nn.Module):
    """A 3 x 3 convolution that reads where a small network says, up to ``reach`` pixels off."""

    def __init__(self, channels: int, out: int, condition: int, reach: float) -> None:
        super().__init__()
        self.reach = reach
        self.weight = nn.Parameter(torch.empty(out, channels, 3, 3))
        self.bias = nn.Parameter(torch.zeros(out))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.conv_offset = nn.Sequential(
            nn.Conv2d(condition, out, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(out, out, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(out, out, 3, padding=1),
            nn.LeakyReLU(0.1),
            nn.Conv2d(out, 3 * TAPS * GROUPS, 3, padding=1),
        )

    def forward(self, x: torch.Tensor, condition: torch.Tensor, flow: torch.Tensor | None = None) -> torch.Tensor:
        """Read ``x`` (N, C, H, W) at offsets from ``condition`` (N, ., H, W), on top of ``flow`` (N, 2, H, W) in pixels, x first."""
        offsets, weights = self.conv_offset(condition).split([2 * TAPS * GROUPS, TAPS * GROUPS], dim=1)
        offsets = self.reach * torch.tanh(offsets)  # y first
        if flow is not None:
            offsets = offsets + flow.to(offsets).flip(1).repeat(1, TAPS * GROUPS, 1, 1)
        return deform_conv2d(x, offsets, self.weight, self.bias, padding=1, mask=torch.sigmoid(weights))  # type: ignore[no-any-return]


def refining(channels: int, out: int, slope: float) -> nn.Sequential:
    """Two convolutions."""
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.LeakyReLU(slope), nn.Conv2d(out, out, 3, padding=1))
