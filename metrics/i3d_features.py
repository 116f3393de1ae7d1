"""I3D features of windows of frames, and what the metrics of sets of features share.

The features of the prediction and of the reference are separate passes, so that those of the reference are computed once for all
models; ``BothSides`` puts them beside each other. Windows are read one batch at a time, and the last frame is repeated where a clip is
shorter than its window.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from vpbench.clip import Frames
from vpbench.measuring import Arrays, Comparison, Measure, Network, Part, Region, SetMetric, SetValue
from vpbench.metrics.batching import batch_size, in_batches
from vpbench.metrics.hole_box import crop_square, hole_box
from vpbench.metrics.options import check_options
from vpbench.weights import label

if TYPE_CHECKING:
    import torch

Side = Literal["prediction", "reference"]
Crop = Literal["frame", "hole"]
Norm = Literal["eval", "instance"]
Detector = Literal["i3d", "torchscript", "videogpt"]
Resize = Literal["squash-antialias", "stylegan", "cd"]
InputRange = Literal["0-1", "-1-1"]
NETWORKS: dict[Detector, str] = {"i3d": "i3d-rgb-imagenet", "torchscript": "i3d-torchscript", "videogpt": "i3d-videogpt"}
EPS: dict[Detector, float] = {"i3d": 1e-3, "torchscript": 1e-3, "videogpt": 1e-5}  # of BatchNorm
LOW: dict[InputRange, float] = {"0-1": 0.0, "-1-1": -1.0}
WINDOW = 16  # frames, of the class scores
SIDE = 224  # pixels, of the class scores
SCORES, POOLED = 400, 1024  # dimensions
BATCH = 1  # windows of 224x224 on a CPU; more need 0.1 GB each
BYTES_PER_PIXEL = 150  # device memory of a window, per pixel and frame
Groups = NDArray[np.int64]


def cover(frames: int, window: int = WINDOW) -> list[int]:
    """Return where windows start that cover a clip evenly with the least overlap.

    >>> cover(49), cover(17), cover(9)
    ([0, 11, 22, 33], [0, 1], [0])
    """
    count = max(1, ceil((frames - window) / window) + 1)
    return [round(i * (frames - window) / (count - 1)) for i in range(count)] if count > 1 else [0]


def every(frames: int, window: int) -> list[int]:
    """Return the starts of all windows, or of one that is too long for the clip."""
    return list(range(max(1, frames - window + 1)))


def frames_of(start: int, window: int, frames: int) -> NDArray[np.int64]:
    """Return the frames of a window; the last one again where the clip has ended.

    >>> frames_of(0, 4, 3)
    array([0, 1, 2, 2])
    """
    return np.minimum(np.arange(start, start + window), frames - 1)


def as_video(frames: Frames) -> torch.Tensor:
    """Return uint8 (T, H, W, 3) as the network reads it, (3, T, H, W), without a copy where NumPy lets it be shared."""
    import torch

    return torch.from_numpy(frames if frames.flags.writeable else frames.copy()).permute(3, 0, 1, 2)


def resized(video: torch.Tensor, resize: Resize) -> torch.Tensor:
    """Return a video (3, T, H, W) as float32 (3, T, 224, 224) on the same scale.

    Args:
        video: uint8.
        resize: ``squash-antialias``: bilinear with antialiasing, aspect ratio not kept. ``cd``: the same without antialiasing, as in
            songweige/content-debiased-fvd. ``stylegan``: the shorter side to 224 without antialiasing, then the centre, as in StyleGAN-V's
            lineage (JunyaoHu/common_metrics_on_video_quality).
    """
    from torch.nn.functional import interpolate

    height, width = video.shape[2:]
    size = (SIDE, SIDE)
    if resize == "stylegan":
        scale = SIDE / min(height, width)
        size = (SIDE, ceil(width * scale)) if height < width else (ceil(height * scale), SIDE)
    images = video.transpose(0, 1).float()
    images = interpolate(images, size=size, mode="bilinear", align_corners=False, antialias=resize == "squash-antialias")
    top, left = (size[0] - SIDE) // 2, (size[1] - SIDE) // 2
    return images[:, :, top : top + SIDE, left : left + SIDE].transpose(0, 1)


@dataclass(frozen=True)
class I3dScores(Measure):
    """The measure: 400 class scores of every 16-frame window of one video at 224x224, on the scale -1 to 1.

    Arrays: ``features`` float32 (windows, 400), ``starts`` int64 (windows,) the first frame of each, ``skipped`` how many windows have no
    hole, ``repeated`` how many frames a short clip lacks.

    Attributes:
        of: whose features.
        crop: the whole ``frame``, or in every window the square around the union of its ``hole``.
        resize: see ``resized``.
        detector: ``i3d`` (rgb_imagenet.pt), ``torchscript`` (the detector of StyleGAN-V) or ``videogpt`` (the I3D of VideoGPT, TATS and
            cd-fvd, whose BatchNorm has eps 1e-5).
        source: where the weights come from, see ``Network``.
    """

    of: Side = "prediction"
    crop: Crop = "frame"
    resize: Resize = "squash-antialias"
    detector: Detector = "i3d"
    source: str = ""

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return f"i3d_scores-{label(self.networks[0])}-eps{EPS[self.detector]:g}-{self.of}-{self.crop}-{self.resize}-w{WINDOW}-fp32-v1"

    @property
    def reads(self) -> frozenset[Part]:
        """One video, and the masks for crops."""
        return frozenset((self.of, "masks")) if self.crop == "hole" else frozenset((self.of,))

    @property
    def networks(self) -> tuple[Network, ...]:
        """The detector."""
        return (Network(NETWORKS[self.detector], self.source),)

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        """Return the features of one clip."""
        import torch

        from vpbench.metrics import i3d

        frames: Frames = getattr(comparison, self.of)
        starts = cover(len(frames))
        if self.crop == "hole":
            starts = [start for start in starts if comparison.masks[start : start + WINDOW].any()]
        network = i3d.scorer(self.networks[0], comparison.device, EPS[self.detector])

        def video(start: int) -> torch.Tensor:
            part = frames[frames_of(start, WINDOW, len(frames))]
            if self.crop == "hole":
                part = crop_square(part, hole_box(np.any(comparison.masks[start : start + WINDOW], axis=0)))
            return resized(as_video(part).to(comparison.device), self.resize)

        def scores(batch: slice) -> NDArray[np.generic]:
            with i3d.arithmetic(comparison.device):
                return np.asarray(network(torch.stack([video(start) for start in starts[batch]])).cpu().numpy(), np.float32)

        size = batch_size(comparison.device, BATCH, BYTES_PER_PIXEL * WINDOW * SIDE**2)
        features = in_batches(scores, len(starts), size) if starts else np.zeros((0, SCORES), np.float32)
        return _arrays(features, starts, len(frames), WINDOW, skipped=len(cover(len(frames))) - len(starts))


@dataclass(frozen=True)
class I3dPooled(Measure):
    """The measure: Mixed_5c averaged over time and space, 1024 dimensions, of one video at its own size.

    Arrays as of ``I3dScores``, ``features`` float32 (windows, 1024).

    Attributes:
        of: whose features.
        norm: ``instance``: statistics of the window itself, which is what a network left in training mode gives; ``eval``: of the file.
        window: frames; every window with stride 1. 0: the whole clip at once, whatever its length.
        input_range: ``0-1`` or ``-1-1``.
        source: where the weights come from, see ``Network``.
    """

    of: Side = "prediction"
    norm: Norm = "instance"
    window: int = 0
    input_range: InputRange = "0-1"
    source: str = ""

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        window = f"w{self.window}" if self.window else "clip"
        return f"i3d_pooled-{label(self.networks[0])}-eps{EPS['i3d']:g}-{self.of}-{self.norm}-{window}-r{self.input_range}-fp32-v1"

    @property
    def reads(self) -> frozenset[Part]:
        """One video."""
        return frozenset((self.of,))

    @property
    def networks(self) -> tuple[Network, ...]:
        """I3D."""
        return (Network(NETWORKS["i3d"], self.source),)

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        """Return the features of one clip."""
        import torch

        from vpbench.metrics import i3d

        frames: Frames = getattr(comparison, self.of)
        model = i3d.load(self.networks[0], comparison.device, EPS["i3d"], self.norm)
        low = LOW[self.input_range]

        def pooled(videos: torch.Tensor) -> NDArray[np.generic]:
            with i3d.arithmetic(comparison.device):
                return np.asarray(model.pooled(videos, low).cpu().numpy(), np.float32)

        if not self.window:
            return _arrays(pooled(as_video(frames)[None].to(comparison.device)), [0], len(frames), 0)
        starts = every(len(frames), self.window)

        def batch(part: slice) -> NDArray[np.generic]:
            windows = (frames[frames_of(start, self.window, len(frames))] for start in starts[part])
            return pooled(torch.stack([as_video(window) for window in windows]).to(comparison.device))

        size = batch_size(comparison.device, 1, BYTES_PER_PIXEL * self.window * frames[0, :, :, 0].size)
        return _arrays(in_batches(batch, len(starts), size), starts, len(frames), self.window)


@dataclass(frozen=True)
class BothSides(Measure):
    """The measure: the features of the prediction beside those of the reference.

    Arrays: ``prediction`` and ``reference`` float32 (windows, d), row i of the same window; ``starts``, ``skipped`` and ``repeated`` as of
    the passes behind them.

    Attributes:
        features: the pass over one side.
    """

    features: I3dScores | I3dPooled

    @property
    def array_id(self) -> str:
        """The name of the stored arrays."""
        return f"{replace(self.features, of='prediction').array_id}-and-reference"

    @property
    def reads(self) -> frozenset[Part]:
        """Both videos, and what else the features read."""
        return self.features.reads | {"prediction", "reference"}

    @property
    def networks(self) -> tuple[Network, ...]:
        """Those of the features."""
        return self.features.networks

    def __call__(self, comparison: Comparison) -> dict[str, NDArray[Any]]:
        """Return the features of one clip."""
        prediction, reference = (comparison.arrays(replace(self.features, of=side)) for side in get_args(Side))
        same = {name: prediction[name] for name in ("starts", "skipped", "repeated")}
        return {"prediction": prediction["features"], "reference": reference["features"], **same}


@dataclass(frozen=True)
class FeatureMetric(SetMetric):
    """A distance between the features of the predictions and those of the references.

    In the region ``frame`` of an edit the references are the source clips: they stand for what real videos look like. In the ``hole``
    the reference must be the true answer.
    """

    direction: ClassVar[Literal["higher", "lower"]] = "lower"
    regions: ClassVar[tuple[Region, ...]] = ("frame", "hole")

    @property
    def needs_truth(self) -> bool:  # type: ignore[override]  # depends on the region
        """Whether an edit without a known result has no value."""
        return self.region != "frame"

    @abstractmethod
    def distances(self, x: NDArray[np.float32], y: NDArray[np.float32], groups: Groups) -> tuple[float, NDArray[np.float64]]:
        """The distance between (n, d) features, and the distances without each group of rows where there are at least 3 (else empty).

        ``groups`` (n,) numbers the clip of each row, from 0 and ascending.
        """

    def reduce(self, clips: Mapping[str, Arrays]) -> SetValue:
        """Return the distance over all clips, and without each where 3 or more have features; nan for fewer than 2 clips."""
        used = {clip: arrays for clip, arrays in clips.items() if len(arrays["prediction"])}
        sizes = [len(arrays["prediction"]) for arrays in used.values()]
        notes = _notes(clips)
        if len(used) < 2:
            needs = f"{self.name} compares sets: it needs features of 2 clips or more, here are {len(used)}"
            return SetValue(float("nan"), sum(sizes), reason="; ".join([needs, *notes]))
        for clip, arrays in used.items():
            if not all(np.isfinite(arrays[side]).all() for side in get_args(Side)):
                return SetValue(float("nan"), sum(sizes), reason=f"{clip}: its features are not finite")
        x, y = (np.concatenate([arrays[side] for arrays in used.values()]) for side in get_args(Side))
        if len(x) < x.shape[1]:
            notes.insert(0, f"n={len(x)} < {x.shape[1]} features: compare only equal n and clip lists")
        groups = np.repeat(np.arange(len(used)), sizes)
        distance, without = self.distances(x, y, groups)
        leave_one_out = dict(zip(used, without.tolist(), strict=True)) if len(used) > 2 else {}
        return SetValue(distance, len(x), leave_one_out, "; ".join(notes), x.shape[1])


@dataclass(frozen=True)
class ScoresMetric(FeatureMetric):
    """A distance between class scores of 16-frame windows.

    Needs 2 clips or more. In the ``frame`` of an edit the references are the source clips; the ``hole`` needs true answers.

    Attributes:
        region: ``frame``, or ``hole`` for the square around the union of the hole in each window.
        detector: ``i3d``, ``torchscript`` or ``videogpt``.
        resize: ``squash-antialias``, ``stylegan`` or ``cd``.
        weights: where the detector's weights come from, see ``Network``.

    Raises:
        ConfigError: an unknown region or option.
    """

    detector: Detector = "i3d"
    resize: Resize = "squash-antialias"
    weights: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_options(self, detector=get_args(Detector), resize=get_args(Resize))

    @property
    def variant(self) -> str:
        """The conventions of the value."""
        box = ",box=1.25" if self.region == "hole" else ""
        return f"{self.detector},eps={EPS[self.detector]:g},scores400,eval,-1-1,{self.resize},cover{WINDOW}{box}"

    @property
    def measure(self) -> BothSides:
        """The features of both sides."""
        return BothSides(I3dScores("prediction", "hole" if self.region == "hole" else "frame", self.resize, self.detector, self.weights))


def _arrays(features: NDArray[np.generic], starts: list[int], frames: int, window: int, skipped: int = 0) -> dict[str, NDArray[Any]]:
    counts = {"skipped": np.array(skipped, np.int64), "repeated": np.array(max(window - frames, 0), np.int64)}
    return {"features": features, "starts": np.array(starts, np.int64), **counts}


def _notes(clips: Mapping[str, Arrays]) -> list[str]:
    """What a reader must know of the windows."""
    skipped = sum(int(arrays["skipped"]) for arrays in clips.values())
    short = sum(int(arrays["repeated"]) > 0 for arrays in clips.values())
    return [
        *([f"{skipped} windows without a hole left out"] if skipped else []),
        *([f"{short} clips are shorter than a window: last frame repeated"] if short else []),
    ]
