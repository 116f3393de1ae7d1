"""The generator: fills what propagation left, from the features of neighbours and of frames far away.

Its parts are called one by one, so that what belongs to a single frame (``encode``, ``split``) is made once, however many windows in time
the frame is in. Attribute names are those of the tensors in ``ProPainter.pth``. Tensors are (T, C, H, W); 1 is the hole.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional

from vpbench.baselines.propainter.layers import DeformableAlignment, Upsampled, refining
from vpbench.baselines.propainter.propagation import Flows, agree, passes, warp
from vpbench.baselines.propainter.transformer import PATCH, WIDTH, Transformer, grid

CHANNELS = 128  # of the feature map, at a quarter of the size
SCALE = 4
REACH_PX = 3.0


class Generator(nn.Module):
    """The network."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Encoder()
        self.decoder = nn.Sequential(
            Upsampled(CHANNELS, 128),
            nn.LeakyReLU(0.2),
            nn.Conv2d(128, 64, 3, padding=1),
            nn.LeakyReLU(0.2),
            Upsampled(64, 64),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 3, 3, padding=1),
        )
        self.ss = Split()
        self.sc = Join()
        self.feat_prop_module = FeaturePropagation()
        self.transformers = Transformer()

    def encode(self, frames: torch.Tensor, masks: torch.Tensor, left: torch.Tensor) -> torch.Tensor:
        """Features of frames, each by itself.

        Args:
            frames: (N, 3, H, W) in [-1, 1], after propagation; H and W multiples of 4.
            masks: (N, 1, H, W), the hole before propagation.
            left: (N, 1, H, W), the hole after it.

        Returns:
            (N, 128, H/4, W/4).
        """
        return self.encoder(torch.cat([frames, masks, left], dim=1))  # type: ignore[no-any-return]

    def split(self, features: torch.Tensor) -> torch.Tensor:
        """Tokens of features, (N, rows, columns, 512)."""
        return self.ss(features)  # type: ignore[no-any-return]

    def fill(
        self, features: torch.Tensor, references: Sequence[torch.Tensor], flows: Flows, masks: torch.Tensor, left: torch.Tensor
    ) -> torch.Tensor:
        """Make the pixels of consecutive frames.

        Args:
            features: (L, 128, H/4, W/4) of the L frames.
            references: tokens of frames elsewhere, (rows, columns, 512) each; may be empty.
            flows: completed, between the L frames, each (L - 1, 2, H, W).
            masks: (L, 1, H, W), the hole before propagation.
            left: (L, 1, H, W), the hole after it.

        Returns:
            (L, 3, H, W) in (-1, 1).
        """
        small = tuple(_quarter(flow).to(features.dtype) for flow in flows)
        holes = torch.cat([masks, left], dim=1)[..., ::SCALE, ::SCALE].to(features.dtype)
        features = self.feat_prop_module(features, (small[0], small[1]), holes)
        tokens = torch.cat([self.split(features), *(one[None] for one in references)])
        touched = functional.max_pool2d(holes[:, :1], **PATCH)
        tokens = self.transformers(tokens, touched, tuple(features.shape[-2:]))
        return torch.tanh(self.decoder(features + self.sc(tokens, tuple(features.shape[-2:]))))

    def forward(self, frames: torch.Tensor, flows: Flows, masks: torch.Tensor, left: torch.Tensor, local: int) -> torch.Tensor:
        """One window in time without anything made before: the first ``local`` frames are made, the others are looked at."""
        features = self.encode(frames, masks, left)
        references = list(self.split(features[local:])) if local < len(frames) else []
        return self.fill(features[:local], references, flows, masks[:local], left[:local])


class Encoder(nn.Module):
    """Nine convolutions; the later ones read the fourth one's output too, group by group."""

    groups = (1, 2, 4, 8, 1)

    def __init__(self) -> None:
        super().__init__()
        into = (5, 64, 64, 128, 256, 640, 768, 640, 512)
        out = (64, 64, 128, 256, 384, 512, 384, 256, 128)
        stride = (2, 1, 2, 1, 1, 1, 1, 1, 1)
        groups = (1, 1, 1, 1, *self.groups)
        convolutions = [nn.Conv2d(into[i], out[i], 3, stride=stride[i], padding=1, groups=groups[i]) for i in range(len(into))]
        self.layers = nn.ModuleList(layer for conv in convolutions for layer in (conv, nn.LeakyReLU(0.2)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 5, H, W) to (N, 128, H/4, W/4)."""
        pairs = list(zip(self.layers[::2], self.layers[1::2], strict=True))
        for convolution, activation in pairs[:4]:
            x = activation(convolution(x))
        early = x
        for (convolution, activation), groups in zip(pairs[4:], self.groups, strict=True):
            if x is not early:
                both = [part.reshape(len(part), groups, -1, *part.shape[2:]) for part in (early, x)]
                x = torch.cat(both, dim=2).flatten(1, 2)
            x = activation(convolution(x))
        return x


class FeaturePropagation(nn.Module):
    """Carries features along the flows, from the end and from the start, aligned by deformable convolutions."""

    def __init__(self) -> None:
        super().__init__()
        names = ("backward_1", "forward_1")
        self.deform_align = nn.ModuleDict({name: DeformableAlignment(CHANNELS, CHANNELS, 2 * CHANNELS + 5, REACH_PX) for name in names})
        self.backbone = nn.ModuleDict({name: refining(2 * CHANNELS + 2, CHANNELS, 0.2) for name in names})
        self.fuse = refining(2 * CHANNELS + 2, CHANNELS, 0.2)

    def forward(self, x: torch.Tensor, flows: Flows, holes: torch.Tensor) -> torch.Tensor:
        """(L, 128, h, w) to the same; ``holes`` (L, 2, h, w) before and after the propagation of pixels."""
        current = list(torch.split(x, 1))
        made: list[list[torch.Tensor]] = []
        for name, (order, flow, reverse) in zip(self.backbone, passes(len(x), flows), strict=True):
            agreed = agree(flow, reverse).to(x.dtype) if len(flow) else flow
            shift = 0 if order.step < 0 else -1
            carried = current[order[0]]
            out = list(current)
            for step, i in enumerate(order):
                if step:
                    along, hole = flow[i + shift, None], holes[i, None]
                    condition = torch.cat([current[i], warp(carried, along), along, agreed[i + shift, None], hole], dim=1)
                    carried = self.deform_align[name](carried, condition, along)
                carried = carried + self.backbone[name](torch.cat([current[i], carried, holes[i, None]], dim=1))
                out[i] = carried
            current = out
            made.append(out)
        return self.fuse(torch.cat([torch.cat(made[0]), torch.cat(made[1]), holes], dim=1)) + x  # type: ignore[no-any-return]


class Split(nn.Module):
    """Overlapping patches of a feature map as tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(49 * CHANNELS, WIDTH)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, 128, h, w) to (N, rows, columns, 512)."""
        tokens = self.embedding(functional.unfold(x, **PATCH).transpose(1, 2))
        made: torch.Tensor = tokens.reshape(len(x), *grid(*x.shape[-2:]), WIDTH)
        return made


class Join(nn.Module):
    """Tokens as overlapping patches of a feature map, added up."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(WIDTH, 49 * CHANNELS)
        self.bias_conv = nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)

    def forward(self, tokens: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
        """(N, rows, columns, 512) to (N, 128, h, w)."""
        patches = self.embedding(tokens.flatten(1, 2)).transpose(1, 2)
        return self.bias_conv(functional.fold(patches, size, **PATCH))  # type: ignore[no-any-return]


def _quarter(flow: torch.Tensor) -> torch.Tensor:
    """A flow at a quarter of the size, in pixels of that size."""
    height, width = flow.shape[-2:]
    if not len(flow):
        return flow.new_zeros(0, 2, height // SCALE, width // SCALE)
    return functional.interpolate(flow, scale_factor=1 / SCALE, mode="bilinear", align_corners=False) / SCALE
