"""The demo: eight short clips rendered from the photographs that ship inside scikit-image; nothing is downloaded.

A camera pans and zooms over one photograph while cut-outs of others move over it. Four inpainting clips have seeded random masks; four
edits (add, remove, swap, change) have a known true result, because both versions of the scene are rendered and differ only in the hole.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from vpbench.benchmarks.preparation import Preparation
from vpbench.clip import Clip, Frames, Masks, Shape
from vpbench.errors import ConfigError
from vpbench.masks import Motion, clip_seed, random_masks
from vpbench.video import read_picture

if TYPE_CHECKING:
    from collections.abc import Mapping

FPS = 8.0
MARGIN_PX = 4  # the hole of an edit reaches this far beyond what differs
FEATHER = 0.08  # of a cut-out's radius
SAUCER = (279, 222, 209, 172)  # ellipse in coffee.png: centre x, y, radius x, y in pixels
CUP_MOUTH = (292, 112, 120, 92)

Picture = NDArray[np.uint8]


@dataclass(frozen=True)
class Camera:
    """A move over a photograph, linear in time.

    ``start`` and ``end`` are (x, y, zoom): the centre of the view as a share of the photograph's size, and how much of the
    photograph's largest fitting window is seen (1 = all of it, 0.5 = half its width).
    """

    photograph: str
    start: tuple[float, float, float]
    end: tuple[float, float, float]


@dataclass(frozen=True)
class CutOut:
    """An ellipse cut out of a photograph, moving over the view, linear in time.

    ``ellipse`` is (x, y, radius x, radius y) in pixels of the photograph; ``start`` and ``end`` are (x, y, height) as shares of the view.
    """

    photograph: str
    ellipse: tuple[int, int, int, int]
    start: tuple[float, float, float]
    end: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """What a clip shows. ``before`` and ``after`` are the objects of the source and of the true result."""

    camera: Camera
    caption: str
    region_caption: str
    before: tuple[CutOut, ...] = ()
    after: tuple[CutOut, ...] | None = None
    operation: str = "inpaint"
    instruction: str = ""
    motion: Motion = "stationary"
    recolour: CutOut | None = None  # instead of ``after``: turns the hue inside this cut-out of the camera's own photograph


def _cat(start: tuple[float, float, float], end: tuple[float, float, float]) -> CutOut:
    return CutOut("chelsea.png", (225, 150, 175, 145), start, end)


def _cup(start: tuple[float, float, float], end: tuple[float, float, float]) -> CutOut:
    return CutOut("coffee.png", (278, 196, 196, 182), start, end)


GARAGE = "A red motorcycle stands in a garage full of tools and boxes"
SCENES: dict[str, Scene] = {
    "garage-pan": Scene(
        Camera("motorcycle_left.png", (0.40, 0.45, 0.62), (0.60, 0.55, 0.62)),
        caption=f"{GARAGE}; the camera pans slowly to the right.",
        region_caption="Part of a red motorcycle in front of wooden furniture and shelves.",
        motion="moving",
    ),
    "coffee-zoom": Scene(
        Camera("coffee.png", (0.50, 0.50, 0.98), (0.48, 0.48, 0.74)),
        caption="The camera moves towards a cup of espresso on a red saucer on a wooden table.",
        region_caption="A cup of espresso, a red saucer and the grain of a wooden table.",
    ),
    "launch-site": Scene(
        Camera("rocket.jpg", (0.50, 0.58, 0.92), (0.50, 0.44, 0.72)),
        caption="A rocket stands on its launch pad at dusk while a cat's face floats across the sky.",
        region_caption="A rocket on its launch pad at dusk, steel towers beside it.",
        before=(_cat((0.15, 0.30, 0.30), (0.80, 0.25, 0.36)),),
        motion="moving",
    ),
    "galaxies": Scene(
        Camera("hubble_deep_field.jpg", (0.40, 0.40, 0.60), (0.58, 0.56, 0.60)),
        caption="A cup of coffee drifts through a field of distant galaxies.",
        region_caption="Distant galaxies of many colours on a black sky.",
        before=(_cup((0.25, 0.70, 0.40), (0.60, 0.40, 0.44)),),
    ),
    "add-cat": Scene(
        Camera("motorcycle_left.png", (0.62, 0.50, 0.60), (0.45, 0.50, 0.66)),
        caption=f"{GARAGE}, and a cat's face hovers beside it.",
        region_caption="The face of a tabby cat with green eyes.",
        after=(_cat((0.70, 0.40, 0.40), (0.45, 0.45, 0.46)),),
        operation="add",
        instruction="Add a cat's face beside the motorcycle.",
    ),
    "remove-cup": Scene(
        Camera("rocket.jpg", (0.45, 0.50, 0.74), (0.56, 0.50, 0.80)),
        caption="A rocket stands on its launch pad at dusk between tall steel towers.",
        region_caption="The evening sky behind steel towers.",
        before=(_cup((0.25, 0.45, 0.42), (0.62, 0.40, 0.36)),),
        after=(),
        operation="remove",
        instruction="Remove the coffee cup.",
    ),
    "swap-cat-cup": Scene(
        Camera("hubble_deep_field.jpg", (0.62, 0.62, 0.50), (0.50, 0.50, 0.62)),
        caption="A cup of coffee on a red saucer drifts through a field of distant galaxies.",
        region_caption="A cup of coffee on a red saucer.",
        before=(_cat((0.30, 0.35, 0.44), (0.66, 0.60, 0.44)),),
        after=(_cup((0.30, 0.35, 0.44), (0.66, 0.60, 0.44)),),
        operation="swap",
        instruction="Swap the cat's face with a coffee cup.",
    ),
    "change-saucer": Scene(
        Camera("coffee.png", (0.46, 0.46, 0.90), (0.54, 0.52, 0.96)),
        caption="A blue cup of espresso stands on a blue saucer on a wooden table.",
        region_caption="A blue cup and a blue saucer.",
        operation="change",
        instruction="Change the colour of the cup and the saucer to blue.",
        recolour=CutOut("coffee.png", SAUCER, (0, 0, 0), (0, 0, 0)),
    ),
}


@dataclass(frozen=True)
class DemoHandle:
    """One clip of the demo, not yet rendered."""

    name: str
    frames: int
    height: int
    width: int
    seed: int
    prepare: Preparation

    def fingerprint(self) -> str:
        """Hex sha256 over the rendered pixels, masks and texts: two people know whether their OpenCV renders the same demo."""
        return _fingerprint(self)

    def shape(self) -> Shape:
        """The clip's size; nothing is rendered."""
        return self.prepare.shape(self.frames, self.height, self.width, FPS)

    def load(self) -> Clip:
        """Render the clip."""
        scene = SCENES[self.name]
        frames, target, masks = _render(scene, self.frames, self.height, self.width)
        if scene.operation == "inpaint":
            seed = clip_seed(self.seed, self.name)
            masks = random_masks(seed, self.frames, self.height, self.width, motion=scene.motion)
        clip = Clip(
            name=self.name,
            frames=frames,
            masks=masks,
            fps=FPS,
            caption=scene.caption,
            region_caption=scene.region_caption,
            operation=scene.operation,
            instruction=scene.instruction,
            target=None if scene.operation == "inpaint" else target,
            tags=("demo",),
        )
        return self.prepare.apply(clip)


class Demo:
    """The benchmark; building it renders nothing.

    Attributes:
        frames: frames per clip, at least 1.
        height: pixels, at least 64.
        width: pixels, at least 64.
        seed: of the random masks.
        prepare: see ``Preparation``.
    """

    def __init__(
        self,
        frames: int = 24,
        height: int = 240,
        width: int = 432,
        seed: int = 0,
        prepare: Preparation | Mapping[str, Any] | None = None,
        name: str = "demo",
    ) -> None:
        """Raises ConfigError for sizes that cannot be rendered."""
        if frames < 1 or min(height, width) < 64:
            raise ConfigError(f"demo: {frames} frames of {width}x{height}; at least 1 frame of 64x64 can be rendered.")
        self.name = name
        preparation = Preparation.of(prepare)
        self._handles = [DemoHandle(clip, frames, height, width, seed, preparation) for clip in SCENES]

    def __len__(self) -> int:
        return len(self._handles)

    def __iter__(self) -> Iterator[DemoHandle]:
        return iter(self._handles)


@functools.lru_cache(maxsize=256)
def _fingerprint(handle: DemoHandle) -> str:
    clip = handle.load()
    digest = hashlib.sha256()
    for array in (clip.frames, clip.masks, clip.reference):
        digest.update(repr((array.shape, str(array.dtype))).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    texts = (clip.name, clip.fps, clip.caption, clip.region_caption, clip.operation, clip.instruction, handle.prepare.identity())
    digest.update(repr(texts).encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=8)
def _photograph(name: str) -> Picture:
    """A photograph of scikit-image's wheel, uint8 (H, W, 3) RGB; at most 8 are kept."""
    with resources.as_file(resources.files("skimage").joinpath("data", name)) as file:
        return read_picture(file)


def _between(start: tuple[float, float, float], end: tuple[float, float, float], t: float) -> tuple[float, float, float]:
    a, b, c = (s + (e - s) * t for s, e in zip(start, end, strict=True))
    return a, b, c


def _render(scene: Scene, frames: int, height: int, width: int) -> tuple[Frames, Frames, Masks]:
    """Return source, true result (both uint8 (T, H, W, 3)) and where they may differ, bool (T, H, W)."""
    import cv2

    source = np.empty((frames, height, width, 3), np.uint8)
    target = np.empty_like(source)
    masks = np.zeros((frames, height, width), bool)
    grow = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * MARGIN_PX + 1,) * 2)
    for i in range(frames):
        t = i / max(frames - 1, 1)
        view, matrix = _view(scene.camera, t, height, width)
        source[i], touched = _paste(view, scene.before, t)
        if scene.recolour is not None:
            target[i], changed = _recoloured(view, scene.recolour, matrix)
        elif scene.after is not None:
            target[i], changed = _paste(view, scene.after, t)
        else:
            target[i], changed = source[i], np.zeros((height, width), bool)
        if scene.operation != "inpaint":
            masks[i] = cv2.dilate((touched | changed).astype(np.uint8), grow) > 0
    return source, target, masks


def _view(camera: Camera, t: float, height: int, width: int) -> tuple[Picture, NDArray[np.float64]]:
    """The camera's picture at time ``t`` (0 to 1) and the 2x3 matrix from the photograph to it."""
    photograph = _photograph(camera.photograph)
    rows, columns = photograph.shape[:2]
    x, y, share = _between(camera.start, camera.end, t)
    window = min(columns, rows * width / height) * share  # pixels of the photograph that the view is wide
    scale = width / window
    x = min(max(x * columns, window / 2), columns - window / 2)
    tall = window * height / width
    y = min(max(y * rows, tall / 2), rows - tall / 2)
    matrix = np.array([[scale, 0, width / 2 - 0.5 - scale * x], [0, scale, height / 2 - 0.5 - scale * y]])
    return _warp(photograph, matrix, height, width), matrix


def _warp(picture: Picture, matrix: NDArray[np.float64], height: int, width: int) -> Picture:
    """Move a picture; shrinking is low-pass filtered first."""
    import cv2

    scale = matrix[0, 0]
    if scale < 1:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.5 * (1 / scale**2 - 1) ** 0.5 + 0.01)
    moved = cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(moved, np.uint8)


def _ellipse(cut: CutOut, photograph: Picture) -> Picture:
    """Opacity of a cut-out, uint8 (H, W), soft at the edge."""
    rows, columns = np.indices(photograph.shape[:2])
    x, y, rx, ry = cut.ellipse
    radius = np.hypot((columns - x) / rx, (rows - y) / ry)
    opacity = np.rint(255 * np.clip((1 - radius) / FEATHER, 0, 1))
    return np.asarray(opacity, np.uint8)


def _blend(below: Picture, above: Picture, opacity: Picture) -> Picture:
    """``above`` over ``below`` in integers, rounded; exactly ``below`` where the opacity is 0."""
    weight = opacity[..., None].astype(np.int32)
    return ((above.astype(np.int32) * weight + below.astype(np.int32) * (255 - weight) + 127) // 255).astype(np.uint8)


def _paste(view: Picture, cuts: tuple[CutOut, ...], t: float) -> tuple[Picture, NDArray[np.bool_]]:
    """Put cut-outs over a view; also where they touch it."""
    height, width = view.shape[:2]
    touched = np.zeros((height, width), bool)
    for cut in cuts:
        photograph = _photograph(cut.photograph)
        x, y, tall = _between(cut.start, cut.end, t)
        scale = tall * height / (2 * cut.ellipse[3])
        matrix = np.array([[scale, 0, x * width - scale * cut.ellipse[0]], [0, scale, y * height - scale * cut.ellipse[1]]])
        opacity = _opacity(_ellipse(cut, photograph), matrix, height, width)
        view = _blend(view, _warp(photograph, matrix, height, width), opacity)
        touched |= opacity > 0
    return view, touched


def _opacity(ellipse: Picture, matrix: NDArray[np.float64], height: int, width: int) -> Picture:
    import cv2

    moved = cv2.warpAffine(ellipse, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=0)
    return np.asarray(moved, np.uint8)


def _recoloured(view: Picture, cut: CutOut, matrix: NDArray[np.float64], hue: Literal[110] = 110) -> tuple[Picture, NDArray[np.bool_]]:
    """Turn what is red inside the cut-out, but not in the cup's mouth, to another hue (OpenCV's scale, 0-179), gradually towards grey.

    Also returns where it may turn: one region with smooth borders, as a person would mark it.
    """
    import cv2

    photograph = _photograph(cut.photograph)
    opacity = _opacity(_ellipse(cut, photograph), matrix, *view.shape[:2])
    mouth = _opacity(_ellipse(CutOut(cut.photograph, CUP_MOUTH, cut.start, cut.end), photograph), matrix, *view.shape[:2])
    opacity = np.where(mouth > 0, 0, opacity)
    hsv = cv2.cvtColor(view, cv2.COLOR_RGB2HSV)
    from_red = np.abs((hsv[..., 0].astype(np.float64) + 90) % 180 - 90)
    red = np.clip((14 - from_red) / 5, 0, 1) * np.clip((hsv[..., 1] - 90.0) / 60, 0, 1)
    hsv[..., 0] = hue
    turned = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    return _blend(view, turned, np.rint(opacity * red).astype(np.uint8)), opacity > 0
