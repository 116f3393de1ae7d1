"""The networks of LPIPS: features of torchvision's AlexNet, SqueezeNet 1.1 and VGG16, with the linear heads of the package ``lpips``.

Two passes that see almost the same image need not both run in full: a layer gives the same features wherever its windows see the
same values. ``Network.changed`` computes every layer only where a change in a box of pixels reaches, and takes the values around it
from the pass before. Sizes, strides and padding at the edges of the image are those of the full pass, so nothing is approximated.

This module imports torch; others import it inside functions.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.squeezenet import Fire

from vpbench.weights import Weights, WeightsError

Box = tuple[slice, slice]  # rows and columns
BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "alex": torchvision.models.alexnet,
    "squeeze": torchvision.models.squeezenet1_1,
    "vgg": partial(torchvision.models.vgg16, init_weights=False),
}
# Index in torchvision's ``features`` after which a distance is taken.
TAPS = {"alex": (1, 4, 7, 9, 11), "squeeze": (1, 4, 7, 9, 10, 11, 12), "vgg": (3, 8, 15, 22, 29)}
# sha256 of the heads of version 0.1.
HEADS = {
    "alex": "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0",
    "squeeze": "4a5350f23600cb79923ce65bb07cbf57dca461329894153e05a1346bd531cf76",
    "vgg": "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868",
}
# Of images on the scale -1 to 1, per channel.
SHIFT = (-0.030, -0.088, -0.188)
SCALE = (0.458, 0.448, 0.450)
EPS = 1e-10  # keeps features that are all zero at zero
STRIP = 2**22  # values of a layer that are compared at once: 16 MB


@dataclass(frozen=True)
class Layer:
    """One step of a network whose outputs each see a square window of its input.

    Attributes:
        call: ``(input, padding) -> output``.
        kernel: side of the window.
        stride: between windows.
        padding: zeros around the input.
        tap: whether a distance is taken of its output.
    """

    call: Callable[[Tensor, int], Tensor]
    kernel: int = 1
    stride: int = 1
    padding: int = 0
    tap: bool = False

    def reach(self, box: Box, size: Sequence[int]) -> Box:
        """Where outputs see the box, in an output of ``size`` rows and columns; may be empty."""
        rows, columns = (
            slice(
                max(-((self.kernel - 1 - self.padding - span.start) // self.stride), 0),
                min((span.stop - 1 + self.padding) // self.stride + 1, steps),
            )
            for span, steps in zip(box, size, strict=True)
        )
        return rows, columns

    def window(self, box: Box) -> Box:
        """What the outputs in the box see; may exceed the input on both sides."""
        rows, columns = (
            slice(span.start * self.stride - self.padding, (span.stop - 1) * self.stride - self.padding + self.kernel) for span in box
        )
        return rows, columns


@dataclass(frozen=True)
class Pass:
    """What the network gave for images.

    Attributes:
        values: the input of every layer and the output of the last one, each (N, C, H', W').
        maps: of every tap the distance to the reference, (N, H', W').
    """

    values: list[Tensor]
    maps: list[Tensor]


class Network:
    """A network with its heads; images are compared with a fixed reference.

    Args:
        features: torchvision's, with their weights, on the device.
        taps: indices after which a distance is taken.
        heads: the weights of each tap's channels, (C,).
    """

    def __init__(self, features: nn.Sequential, taps: Sequence[int], heads: Sequence[Tensor]):
        self.features = features
        self.layers = list(_layers(features, taps))
        self.heads = list(heads)

    def reference(self, images: Tensor) -> Reference:
        """Return the pass of the images that others are compared with."""
        values = self._values(images)
        features = [value for layer, value in zip(self.layers, values[1:], strict=True) if layer.tap]
        return Reference(
            values, [value.new_zeros(len(value), *value.shape[2:]) for value in features], features, [_inverse_norm(f) for f in features]
        )

    def compare(self, images: Tensor, reference: Reference) -> Pass:
        """Return the pass of other images of the same size."""
        values = self._values(images)
        features = (value for layer, value in zip(self.layers, values[1:], strict=True) if layer.tap)
        whole = slice(None), slice(None)
        return Pass(values, [self._distance(reference, tap, whole, feature) for tap, feature in enumerate(features)])

    def changed(self, before: Pass, pixels: Tensor, box: Box, reference: Reference) -> list[Tensor]:
        """Return the maps after the images of a pass changed inside a box.

        Args:
            before: the pass.
            pixels: the new pixels in the box, (N, 3, h, w).
            box: rows and columns, not empty.
            reference: what the images are compared with.
        """
        maps = list(before.maps)
        tap = 0
        new = pixels
        for layer, inputs, outputs in zip(self.layers, before.values, before.values[1:], strict=False):
            seen = layer.reach(box, outputs.shape[2:])
            if any(span.start >= span.stop for span in seen):
                break  # the change lies beyond the last window
            new = layer.call(_patched(inputs, new, box, layer, layer.window(seen)), 0)
            box = seen
            if layer.tap:
                maps[tap] = maps[tap].clone()
                maps[tap][:, box[0], box[1]] = self._distance(reference, tap, box, new)
                tap += 1
        return maps

    def _values(self, images: Tensor) -> list[Tensor]:
        values = [images]
        for layer in self.layers:
            values.append(layer.call(values[-1], layer.padding))
        return values

    def _distance(self, reference: Reference, tap: int, box: Box, feature: Tensor) -> Tensor:
        """Weighted squared difference of the features, each of length 1, to those of the reference in the box: (N, h, w)."""
        wanted = reference.features[tap].permute(0, 2, 3, 1)[:, box[0], box[1]]
        inverse = reference.inverse_norms[tap][:, box[0], box[1]]
        feature = feature.permute(0, 2, 3, 1)
        found = feature.new_empty(feature.shape[:3])
        for rows in _strips(feature):
            difference = wanted[:, rows] * inverse[:, rows]
            part = feature[:, rows]
            difference.addcmul_(part, _inverse(part), value=-1).square_()
            found[:, rows] = difference @ self.heads[tap]
        return found


@dataclass(frozen=True)
class Reference(Pass):
    """The pass of the images that others are compared with; its maps are zero.

    Attributes:
        features: of every tap, (N, C, H', W').
        inverse_norms: of every tap 1 over the length of the features, (N, H', W', 1).
    """

    features: list[Tensor]
    inverse_norms: list[Tensor]


def total(maps: Sequence[Tensor]) -> NDArray[np.float64]:
    """The distance of every image: the sum of the means of the maps, (N,)."""
    means: NDArray[np.float64] = torch.stack([one.double().mean(dim=(1, 2)) for one in maps]).sum(dim=0).cpu().numpy()
    return means


def to_tensor(frames: NDArray[np.uint8], device: str) -> Tensor:
    """Frames (N, H, W, 3) uint8 RGB as the networks see them: float32 (N, 3, H, W), channels last in memory."""
    images = torch.from_numpy(np.ascontiguousarray(frames)).to(device).permute(0, 3, 1, 2).float()
    shift, scale = (torch.tensor(values, device=device)[:, None, None] for values in (SHIFT, SCALE))
    return images.div_(255).mul_(2).sub_(1).sub_(shift).div_(scale)


@lru_cache(maxsize=4)
def load(net: str, weights: Weights, device: str) -> Network:
    """Return a network ready for inference.

    Args:
        net: ``alex``, ``squeeze`` or ``vgg``.
        weights: of its features, from ``vpbench.weights.locate``.
        device: a torch device.

    Raises:
        WeightsError: the file cannot be read or belongs to another network; the heads are missing or not those of version 0.1.
    """
    with torch.device("meta"):
        features = BUILDERS[net](weights=None).get_submodule("features")
    assert isinstance(features, nn.Sequential)
    if weights.seed is not None:
        state = _random(features.state_dict(), weights.seed)
    else:
        assert weights.path is not None
        state = _read(weights.path)
    try:
        features.load_state_dict(state, assign=True)
    except RuntimeError as error:
        why = " ".join(str(error).split())[:200]
        raise WeightsError(f"{weights.path}: not weights of {weights.network} as torchvision stores them: {why} ...") from error
    features = features.float().to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return Network(features, TAPS[net], [head.to(device) for head in _heads(net)])


def _read(path: Path) -> dict[str, Tensor]:
    """The parameters of ``features`` in a checkpoint of torchvision."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        prefix = "features."
        return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    except (AttributeError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise WeightsError(f"{path}: not a state dict saved by torch ({error}). Fetch the file again.") from error


def _random(wanted: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """Random parameters under which activations neither vanish nor explode; for tests."""
    generator = torch.Generator().manual_seed(seed)

    def drawn(like: Tensor) -> Tensor:
        std = 0.1 if like.dim() == 1 else math.sqrt(2 / like[0].numel())
        return std * torch.randn(like.shape, generator=generator)

    return {name: drawn(like) for name, like in wanted.items()}


def _heads(net: str) -> list[Tensor]:
    try:
        path = Path(str(distribution("lpips").locate_file(f"lpips/weights/v0.1/{net}.pth")))  # a module lpips.py of a user cannot hide it
    except PackageNotFoundError as error:
        raise WeightsError("LPIPS: its linear heads come with the Python package lpips, which is missing: pip install lpips") from error
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: {error.strerror}. Install the Python package lpips again.") from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != HEADS[net]:
        raise WeightsError(f"{path}: sha256 {sha256[:16]}..., expected {HEADS[net][:16]}... (LPIPS v0.1). Install lpips 0.1.4 again.")
    state: dict[str, Tensor] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return [state[f"lin{tap}.model.1.weight"].flatten() for tap in range(len(TAPS[net]))]


def _layers(features: nn.Sequential, taps: Sequence[int]) -> Iterator[Layer]:
    """The layers up to the last tap. A ReLU belongs to the convolution before it; a Fire module is two layers."""
    for index, module in enumerate(features[: taps[-1] + 1]):
        if isinstance(module, nn.Conv2d):
            tap = index + 1 in taps
            yield Layer(partial(_convolution, module), module.kernel_size[0], module.stride[0], int(module.padding[0]), tap)
        elif isinstance(module, nn.MaxPool2d):
            assert isinstance(module.kernel_size, int)
            assert isinstance(module.stride, int)
            yield Layer(partial(_pool, module), module.kernel_size, module.stride)
        elif isinstance(module, Fire):
            yield Layer(partial(_convolution, module.squeeze))
            yield Layer(partial(_expand, module), 3, 1, 1, index in taps)


def _convolution(module: nn.Conv2d, x: Tensor, padding: int) -> Tensor:
    return functional.conv2d(x, module.weight, module.bias, module.stride, padding).relu_()


def _pool(module: nn.MaxPool2d, x: Tensor, padding: int) -> Tensor:
    return functional.max_pool2d(x, module.kernel_size, module.stride, padding, ceil_mode=module.ceil_mode)


def _expand(module: Fire, x: Tensor, padding: int) -> Tensor:
    """Both halves of a Fire module's output; without padding ``x`` has one more value on each side."""
    small, large = module.expand1x1, module.expand3x3
    inner = x if padding else x[:, :, 1:-1, 1:-1]
    halves = functional.conv2d(inner, small.weight, small.bias), functional.conv2d(x, large.weight, large.bias, padding=padding)
    return torch.cat(halves, dim=1).relu_()


def _patched(values: Tensor, new: Tensor, box: Box, layer: Layer, window: Box) -> Tensor:
    """A copy of the window of a layer's input, with ``new`` in the box and zeros where the layer's padding lies."""
    size = values.shape[2:]
    # A window of a maximum with ceil_mode exceeds the input and has no padding: there the layer itself cuts it.
    inside = [slice(max(span.start, 0), min(span.stop, n)) for span, n in zip(window, size, strict=True)]
    before = [max(-span.start, 0) for span in window]
    after = [min(max(span.stop - n, 0), layer.padding) for span, n in zip(window, size, strict=True)]
    patch = functional.pad(values[:, :, inside[0], inside[1]], (before[1], after[1], before[0], after[0]))
    common = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(box, inside, strict=True)]
    to, of = (
        [slice(span.start - at.start, span.stop - at.start) for span, at in zip(common, origin, strict=True)] for origin in (window, box)
    )
    patch[:, :, to[0], to[1]] = new[:, :, of[0], of[1]]
    return patch


def _inverse(features: Tensor) -> Tensor:
    """1 over the length of the features, which lie along the last axis: (..., 1)."""
    return features.square().sum(dim=-1, keepdim=True).sqrt_().add_(EPS).reciprocal_()


def _inverse_norm(features: Tensor) -> Tensor:
    """1 over the length of the features (N, C, H', W'): (N, H', W', 1)."""
    last = features.permute(0, 2, 3, 1)
    found = last.new_empty(*last.shape[:3], 1)
    for rows in _strips(last):
        found[:, rows] = _inverse(last[:, rows])
    return found


def _strips(values: Tensor) -> Iterator[slice]:
    """Rows of (N, h, w, C) values that are worked on at once."""
    height = values.shape[1]
    rows = max(1, STRIP * height // values.numel())
    for start in range(0, height, rows):
        yield slice(start, start + rows)
