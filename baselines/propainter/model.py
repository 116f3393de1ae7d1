"""ProPainter: what is visible at another time is carried into the hole along the optical flow, a transformer fills the rest. No text.

Zhou et al., "ProPainter: Improving Propagation and Transformer for Video Inpainting", ICCV 2023. Written from the description of its
parts; weights are those of its release. Checked against outputs of the authors' code in ``tests/parity/test_propainter_*.py``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from vpbench.baselines.diffusion.stages import Placement, Stages, out_of_memory
from vpbench.baselines.propainter import weights as released
from vpbench.check import Need
from vpbench.clip import Clip, Frames, MaskedClip, Masks
from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, DataError
from vpbench.outputs import resized
from vpbench.weights import random_seed

if TYPE_CHECKING:
    import torch

MULTIPLE, SMALLEST = 8, 128  # of the sizes that the networks work at
COMPAT = ("none", "inference", "evaluation")
PRECISIONS = ("float32", "float16")
PIECES = ((640, 12), (720, 8), (1280, 4))  # widths up to which RAFT gets so many frames at once
LEAST_PIECE, EVALUATION_PIECE = 2, 60

log = logging.getLogger(__name__)


@dataclass
class ProPainter:
    """The model.

    Attributes:
        weights: folder with the three released files; empty: the places where ``vpbench weights`` keeps them; ``random-<seed>``: random
            weights, which try the plumbing and are never ranked.
        height: what it works at; null with ``width``: the clip's own size. It is padded to multiples of 8 and to 128 (``compat=inference``
            floors it to multiples of 8 and resizes).
        width: see ``height``.
        dilations: how often the hole is grown by a cross of 3 x 3 pixels, at the size that it works at.
        raft_updates: how often RAFT refines the flow.
        neighbours: frames that a window makes at once, about.
        reference_stride: of the frames elsewhere that windows look at.
        subvideo: frames of a piece of a longer clip; null: the whole clip is one.
        precision: of what follows RAFT, on a CUDA device: ``float32`` or ``float16``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ...
        compat: ``none``; ``inference``: the authors' command line step for step: sizes floored to multiples of 8, colours cut off, each
            window mixed half and half with what was there before. ``evaluation``: their evaluation script, with flow of the complete
            frames, for which the configuration needs ``needs_reference=true``.
    """

    weights: str = ""
    height: int | None = None
    width: int | None = None
    dilations: int = 4
    raft_updates: int = 20
    neighbours: int = 10
    reference_stride: int = 10
    subvideo: int | None = 80
    precision: str = "float32"
    device: str = "auto"
    compat: str = "none"
    _stages: Stages = field(default_factory=Stages, init=False, repr=False)

    version: ClassVar[int] = 1

    def __post_init__(self) -> None:
        self.weights = str(self.weights or "")
        for name, known in (("precision", PRECISIONS), ("compat", COMPAT)):
            if getattr(self, name) not in known:
                raise unknown_name(name, str(getattr(self, name)), known)
        for name, least in (("dilations", 0), ("raft_updates", 1), ("neighbours", 2), ("reference_stride", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name}={getattr(self, name)}: expected at least {least}.")
        if self.subvideo is not None and self.subvideo < max(2, self.reference_stride):
            raise ConfigError(f"subvideo={self.subvideo}: expected at least reference_stride={self.reference_stride}, or null.")
        if (self.height is None) != (self.width is None):
            raise ConfigError("height and width: give both, or null for both (the clip's own size).")
        if self.height is not None and self.width is not None and min(self.height, self.width) < 1:
            raise ConfigError(f"height={self.height} width={self.width}: expected pixels.")

    def __call__(self, clip: MaskedClip | Clip, *, seed: int) -> Frames:
        """Return uint8 (T, H, W, 3): the clip with its (grown) hole filled; its own frames where no mask has a hole. Draws nothing.

        Raises:
            DataError: with ``compat``, a size below 128 or a clip of one frame, which the authors' code cannot do.
            ConfigError: weights cannot be loaded; ``compat=evaluation`` without ``needs_reference=true``.
            ModelError: out of memory; the message has the numbers.
        """
        self._stages.clear()
        if self.compat == "evaluation" and not isinstance(clip, Clip):
            raise ConfigError(
                "compat=evaluation computes flow on complete frames: set model.needs_reference=true (never ranked with others)."
            )
        source = _visible(clip)
        if not clip.masks.any():
            return source.copy()
        with out_of_memory(clip.name, self, "a smaller subvideo or neighbours, a smaller height and width, or precision=float16"):
            return self._made(clip.name, source, clip.masks)

    @property
    def random_weights(self) -> bool:
        """Whether the networks have random weights."""
        return random_seed(self.weights) is not None

    def needs(self) -> list[Need]:
        """The three files."""
        return [] if self.random_weights else released.needs(self.weights)

    def validate(self) -> None:
        """Refuse a device that is not here and files of another network; loads the networks, which are small.

        Raises:
            ConfigError: it names the device, or the file and the first tensor that is wrong.
        """
        from vpbench.baselines.diffusion.loading import torch_device

        if torch_device(self.device).type == "cpu" and self.precision != "float32":
            log.warning("precision=%s: without effect on the CPU, which works in float32", self.precision)
        if not self.random_weights:
            assert self._networks is not None

    def fingerprints(self) -> dict[str, Any]:
        """Hashes of the weights; of random ones the seed.

        Raises:
            ConfigError: a file is missing.
        """
        return {"weights": self.weights if self.random_weights else released.fingerprints(self.weights)}

    def stages(self) -> dict[str, dict[str, float | int | None]]:
        """Seconds and peak memory of the last clip's stages: flow, completion, propagation, generation."""
        return self._stages.record()

    def release(self) -> None:
        """Drop all networks; the next clip loads them again."""
        from vpbench.baselines.diffusion.loading import free_memory

        for name in ("_networks", "_placement"):
            self.__dict__.pop(name, None)
        free_memory()

    @cached_property
    def _placement(self) -> Placement:
        return Placement(self.device)

    @cached_property
    def _networks(self) -> released.Networks:
        seed = random_seed(self.weights)
        networks = released.load(self.weights) if seed is None else released.random(seed)
        if self.precision == "float16" and self._placement.target.type == "cuda":
            networks.completion.half()
            networks.generator.half()
        return networks

    def _made(self, name: str, source: Frames, masks: Masks) -> Frames:
        import torch

        from vpbench.baselines.propainter import steps

        frames, holes, restore = self._prepared(name, source, masks)
        if holes.all():
            log.warning("%s: the grown hole is all of every frame: nothing can be propagated, the generator makes it up", name)
        networks, device = self._networks, self._placement.target
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 * 2 - 1
        mask = torch.from_numpy(holes)[:, None].float()
        subvideo = None if self.compat == "evaluation" else self.subvideo
        with torch.inference_mode():
            with self._stages("flow"):
                self._placement.bring(networks.raft)
                flow = steps.flows(networks.raft, pixels, self._piece(frames.shape[2]), self.raft_updates, device)
            with self._stages("completion"):
                self._placement.bring(networks.completion)
                flow = steps.completed(networks.completion, flow, mask, subvideo, device)
            with self._stages("propagation"):
                pixels, left = steps.propagated(pixels, flow, mask, subvideo, device)
            with self._stages("generation"):
                self._placement.bring(networks.generator)
                layout = steps.windows(len(frames), self.neighbours, self.reference_stride, subvideo)
                made = steps.filled(networks.generator, pixels, flow, mask, left, layout, device, idle=self.compat == "none")
                mix = _averaged if self.compat == "none" else _mixed(cut=self.compat == "inference")
                filled = mix(frames, holes, made)
        return restore(filled)

    def _piece(self, width: int) -> int:
        """Frames that RAFT gets at once."""
        if self.compat == "evaluation":
            return EVALUATION_PIECE
        return next((frames for widest, frames in PIECES if width <= widest), LEAST_PIECE)

    def _prepared(self, name: str, frames: Frames, masks: Masks) -> tuple[Frames, Masks, Callable[[Frames], Frames]]:
        """Frames and grown masks at the size that the networks work at, and the way back."""
        import cv2

        height, width = frames.shape[1:3]
        filters: tuple[int | None, int]
        if self.compat != "none" and len(frames) < 2:
            raise DataError(f"{name}: has one frame; the authors' code needs two. model.compat=none can do it.")
        if self.compat == "evaluation":
            wanted, filters = (self.height or height, self.width or width), (cv2.INTER_LINEAR, cv2.INTER_LINEAR)
            if min(wanted) < SMALLEST or any(size % MULTIPLE for size in wanted):
                raise DataError(f"{name}: {wanted[1]}x{wanted[0]}; compat=evaluation needs multiples of {MULTIPLE}, at least {SMALLEST}.")
        elif self.compat == "inference":
            asked = (self.height or height, self.width or width)
            wanted, filters = (asked[0] // MULTIPLE * MULTIPLE, asked[1] // MULTIPLE * MULTIPLE), (None, cv2.INTER_CUBIC)
            if min(wanted) < SMALLEST:
                raise DataError(
                    f"{name}: would be worked on at {wanted[1]}x{wanted[0]}; the authors' code needs {SMALLEST} pixels across and down. "
                    "Give model.height and model.width, or model.compat=none, which pads."
                )
        else:
            wanted, filters = (self.height or height, self.width or width), (cv2.INTER_AREA, cv2.INTER_CUBIC)
        small = _resized(frames, wanted, filters[0])
        holes = _grown(_nearest(masks, wanted) if self.compat != "none" else _touched(masks, wanted), self.dilations)
        if self.compat != "none":
            back = (height, width)
            return small, holes, lambda filled: _resized(filled, back, filters[1])
        padding = [(0, max(SMALLEST, -(-size // MULTIPLE) * MULTIPLE) - size) for size in wanted]
        padded = np.pad(small, [(0, 0), *padding, (0, 0)], mode="reflect"), np.pad(holes, [(0, 0), *padding], mode="reflect")

        def restore(filled: Frames) -> Frames:
            inner = filled[:, : wanted[0], : wanted[1]]
            if wanted == (height, width):
                return np.ascontiguousarray(inner)
            hole = masks | _nearest(holes, (height, width))
            return np.where(hole[..., None], _resized(inner, (height, width), filters[1]), frames)

        return padded[0], padded[1], restore


def _visible(clip: MaskedClip | Clip) -> Frames:
    """What the model gets: of a whole clip all, of an edit the source, else the frames with a black hole, whatever the hole holds."""
    if isinstance(clip, Clip):
        return clip.frames
    return np.where(clip.masks[..., None], np.uint8(0), clip.frames) if clip.source is None else clip.source


def _averaged(frames: Frames, holes: Masks, made: Any) -> Frames:
    """The mean of all windows inside the hole, rounded once."""
    filled = frames.copy()
    sums: dict[int, tuple[np.ndarray[Any, Any], int]] = {}

    def settle(before: int) -> None:
        for i in sorted(i for i in sums if i < before):
            total, count = sums.pop(i)
            level = np.rint(np.clip(total / count, 0, 255)).astype(np.uint8)
            filled[i][holes[i]] = level[holes[i]]

    for local, pixels in made:
        settle(local.start)
        for i, levels in zip(local, _levels(pixels), strict=True):
            total, count = sums.get(i, (0.0, 0))
            sums[i] = (total + levels, count + 1)
    settle(len(frames))
    return filled


def _mixed(cut: bool) -> Callable[[Frames, Masks, Any], Frames]:
    """As the authors do it: each window half and half with what was there, in the order of the windows.

    Args:
        cut: cut decimals off after every window (their command line), instead of once at the end (their evaluation, whose floats are
            rounded here, since predictions are uint8).
    """

    def mix(frames: Frames, holes: Masks, made: Any) -> Frames:
        found: dict[int, np.ndarray[Any, Any]] = {}
        for local, pixels in made:
            for i, levels in zip(local, _levels(pixels), strict=True):
                one = np.where(holes[i][..., None], levels.astype(np.uint8), frames[i])
                if i in found:
                    one = found[i].astype(np.float32) * 0.5 + one.astype(np.float32) * 0.5
                found[i] = one.astype(np.uint8) if cut else one
        return np.stack([np.rint(found[i]).astype(np.uint8) for i in range(len(frames))])

    return mix


def _levels(pixels: torch.Tensor) -> np.ndarray[Any, Any]:
    """(L, 3, H, W) in [-1, 1] as float32 (L, H, W, 3), 0 to 255."""
    levels: np.ndarray[Any, Any] = (((pixels + 1) / 2).float().cpu().permute(0, 2, 3, 1) * 255).numpy()
    return levels


def _grown(masks: Masks, times: int) -> Masks:
    from scipy.ndimage import binary_dilation

    return np.stack([binary_dilation(mask, iterations=times) for mask in masks]) if times else masks.copy()


def _nearest(masks: Masks, size: tuple[int, int]) -> Masks:
    """Masks at another size, by Pillow's nearest pixel, as the authors' code does it."""
    from PIL import Image

    if masks.shape[1:] == size:
        return masks
    return np.stack([np.asarray(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST)) for mask in masks])


def _touched(masks: Masks, size: tuple[int, int]) -> Masks:
    """Masks at another size, where a pixel is hole as soon as a part of what it stands for is: no black of the hole is taken for known."""
    import cv2

    if masks.shape[1:] == size:
        return masks
    return np.stack([cv2.resize(mask.astype(np.float32), size[::-1], interpolation=cv2.INTER_AREA) > 0 for mask in masks])


def _resized(frames: Frames, size: tuple[int, int], kind: int | None) -> Frames:
    """Frames at another size, by a filter of OpenCV; None: by Pillow's bicubic one."""
    if frames.shape[1:3] == size:
        return frames
    if kind is None:
        return resized(frames, size[1], size[0], "bicubic")
    import cv2

    return np.stack([np.asarray(cv2.resize(frame, size[::-1], interpolation=kind), np.uint8) for frame in frames])
