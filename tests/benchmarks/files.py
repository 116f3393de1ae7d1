"""Small videos, pictures and masks on disk."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np

from vpbench.clip import Frames, Masks

REPOSITORY = Path(__file__).resolve().parents[2]
REAL = REPOSITORY.parent / "shared" / "data"
SIZE = (32, 56)  # height, width


def frames(count: int, height: int = SIZE[0], width: int = SIZE[1]) -> Frames:
    """Flat pictures; frame t has the value 10 t + 20, so that frames can be told apart after a codec."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None] * 10 + 20, (count, height, width, 3)).copy()


def which(read: Frames) -> list[int]:
    """The numbers of frames made by ``frames``."""
    return [round((float(frame.mean()) - 20) / 10) for frame in read]


def holes(count: int, height: int = SIZE[0], width: int = SIZE[1]) -> Masks:
    masks = np.zeros((count, height, width), bool)
    masks[:, 8:24, 16:32] = True
    return masks


def write_video(path: Path, pictures: Frames, fps: int = 8) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps)
        stream.height, stream.width, stream.pix_fmt = pictures.shape[1], pictures.shape[2], "yuv420p"
        stream.options = {"crf": "4"}
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def write_mask_video(path: Path, masks: Masks) -> Path:
    return write_video(path, np.repeat(masks[..., None], 3, axis=3).astype(np.uint8) * 255)


def write_picture(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture[..., ::-1] if picture.ndim == 3 else picture)
    return path


def write_pictures(folder: Path, pictures: Frames) -> Path:
    for t, picture in enumerate(pictures):
        write_picture(folder / f"{t:05d}.png", picture)
    return folder


def write_masks(folder: Path, masks: Masks) -> Path:
    for t, mask in enumerate(masks):
        write_picture(folder / f"{t:05d}.png", mask.astype(np.uint8) * 255)
    return folder


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
