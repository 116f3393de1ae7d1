"""Videos come in as they are shown, predictions go out without losing a bit, and damage is an error that names the file."""

from __future__ import annotations

import errno
import os
from fractions import Fraction
from pathlib import Path

import av
import decord
import numpy as np
import pytest

from vpbench import video
from vpbench.clip import Frames
from vpbench.errors import DataError


def noise(*shape: int) -> Frames:
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)


def smooth(frames: int, height: int = 48, width: int = 64) -> Frames:
    ramp = np.linspace(0, 200, width)[None, None, :, None] + np.arange(frames)[:, None, None, None] * 2
    return np.broadcast_to(ramp, (frames, height, width, 3)).astype(np.uint8)


def write_mp4(path: Path, frames: Frames, *, rotate: int = 0, pts: list[int] | None = None, faststart: bool = False) -> Path:
    """An ordinary H.264 file as phones and downloads give it."""
    options = {"avoid_negative_ts": "disabled"}  # frames before time 0 are hidden by an edit list
    if faststart:
        options["movflags"] = "faststart"
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream("libx264", rate=10)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 1000)
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.thread_count = 1  # its rate control looks ahead in threads: the same frames, other bytes now and then
        for i, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts = pts[i] if pts else i * 100
            frame.time_base = Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    if rotate:
        data = bytearray(path.read_bytes())
        at = data.index(b"tkhd") + 4 + 40  # the display matrix of the track header, version 0
        one = (1 << 16).to_bytes(4, "big", signed=True)
        minus = (-(1 << 16)).to_bytes(4, "big", signed=True)
        zero = bytes(4)
        matrix = {90: [zero, one, zero, minus, zero, zero], 180: [minus, zero, zero, zero, minus, zero]}[rotate]
        data[at : at + 24] = b"".join(matrix)
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("shape", [(5, 48, 64), (1, 16, 16), (3, 33, 47), (2, 7, 5)], ids=str)
def test_predictions_come_back_bit_for_bit(tmp_path: Path, shape: tuple[int, ...]) -> None:
    frames = noise(*shape)
    path = tmp_path / "p.mkv"
    video.write_lossless(path, frames, 8.0)
    np.testing.assert_array_equal(video.read_lossless(path), frames)
    again, fps = video.read_video(path)
    np.testing.assert_array_equal(again, frames)
    assert fps == 8.0
    assert os.listdir(tmp_path) == ["p.mkv"]


def test_equal_frames_give_equal_files(tmp_path: Path) -> None:
    for name in "ab":
        video.write_lossless(tmp_path / f"{name}.mkv", noise(6, 64, 80), 23.976)
    assert (tmp_path / "a.mkv").read_bytes() == (tmp_path / "b.mkv").read_bytes()


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(video.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        video.write_lossless(tmp_path / "p.mkv", noise(2, 16, 16), 8.0)
    assert os.listdir(tmp_path) == []


def test_the_decoders_agree(tmp_path: Path) -> None:
    path = write_mp4(tmp_path / "a.mp4", smooth(12))
    frames, _ = video.read_video(path)
    expected = decord.VideoReader(str(path)).get_batch(range(12)).asnumpy()
    np.testing.assert_array_equal(frames, expected)


def test_some_frames_are_those_of_the_whole(tmp_path: Path) -> None:
    path = write_mp4(tmp_path / "a.mp4", smooth(40))
    whole, fps = video.read_video(path)
    assert fps == pytest.approx(10)
    for indices in ([3], [0, 17, 39], list(range(5, 30))):
        np.testing.assert_array_equal(video.read_video(path, indices)[0], whole[indices])


def test_a_frame_past_the_end_is_an_error(tmp_path: Path) -> None:
    path = write_mp4(tmp_path / "a.mp4", smooth(5))
    with pytest.raises(DataError, match=r"a\.mp4: frame 5 was asked for, but the video has 5"):
        video.read_video(path, [0, 5])
    with pytest.raises(DataError, match="the clip is empty"):
        video.read_video(path, [])


def test_rotated_videos_come_out_upright(tmp_path: Path) -> None:
    frames = smooth(3)
    plain, _ = video.read_video(write_mp4(tmp_path / "plain.mp4", frames))
    for degrees, shape in ((90, (3, 64, 48, 3)), (180, (3, 48, 64, 3))):
        path = write_mp4(tmp_path / f"{degrees}.mp4", frames, rotate=degrees)
        turned, _ = video.read_video(path)
        assert turned.shape == shape
        info = video.probe(path)
        assert (info.height, info.width) == shape[1:3]
        # dark is left in the file: a display matrix of 90 degrees clockwise brings it to the top, 180 to the right
        dark = {90: turned[0, 0], 180: turned[0, :, -1]}[degrees]
        assert dark.mean() < plain[0].mean() / 4


def test_a_variable_frame_rate_gives_every_coded_frame_once(tmp_path: Path) -> None:
    pts = [0, 100, 500, 520, 1500, 1600]
    path = write_mp4(tmp_path / "v.mp4", smooth(6) * 1, pts=pts)
    frames, fps = video.read_video(path)
    assert len(frames) == 6
    assert (np.diff(frames.mean(axis=(1, 2, 3))) > 0.5).all(), "in order, none twice"
    assert 2 < fps < 6


@pytest.mark.parametrize("faststart", [False, True])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_a_truncated_file_is_an_error_that_names_it(tmp_path: Path, faststart: bool, share: float) -> None:
    path = write_mp4(tmp_path / "t.mp4", noise(20, 64, 64), faststart=faststart)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"t\.mp4.*truncated"):
        video.read_video(path)


@pytest.mark.parametrize("suffix", ["mp4", "mkv"])
def test_the_first_part_of_a_video_is_not_taken_for_a_short_video(tmp_path: Path, suffix: str) -> None:
    """Matroska decodes up to the cut without complaint, and so does MP4 when only early frames are wanted."""
    path = tmp_path / f"t.{suffix}"
    if suffix == "mp4":
        write_mp4(path, noise(60, 64, 64), faststart=True)
    else:
        video.write_lossless(path, noise(60, 64, 64), 10)
    data = path.read_bytes()
    for size in (len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        for read in (video.probe, lambda p: video.read_video(p, [0, 8]), video.read_lossless):
            with pytest.raises(DataError, match=rf"t\.{suffix}: is cut off: it declares {len(data)} bytes and has {size}.*truncated"):
                read(path)
    path.write_bytes(data + bytes(10))
    assert len(video.read_video(path)[0]) == 60, "appended bytes do no harm"


def test_frames_hidden_by_an_edit_list_are_left_out(tmp_path: Path) -> None:
    """A cut without re-encoding begins at a keyframe, and an edit list hides what lies before the cut (decord returns that too)."""
    whole, _ = video.read_video(write_mp4(tmp_path / "whole.mp4", smooth(40)))
    path = write_mp4(tmp_path / "cut.mp4", smooth(40), pts=[100 * (i - 5) for i in range(40)])
    assert video.probe(path).frames == 35
    np.testing.assert_array_equal(video.read_video(path)[0], whole[5:])
    np.testing.assert_array_equal(video.read_video(path, [0, 30])[0], whole[[5, 35]])


@pytest.mark.parametrize("content", [b"", b"not a video at all", b"\x00" * 4096])
def test_what_is_no_video_is_an_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"x\.mp4"):
        video.read_video(path)
    with pytest.raises(DataError, match="no such file"):
        video.read_video(tmp_path / "missing.mp4")


def test_pictures_are_read_in_natural_order(tmp_path: Path) -> None:
    import cv2

    for number in (10, 2, 1):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((8, 8, 3), (number, 0, 255), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    frames = video.read_frame_folder(tmp_path)
    assert frames[:, 0, 0].tolist() == [[255, 0, 1], [255, 0, 2], [255, 0, 10]], "RGB, 1 2 10"


def test_pictures_are_read_after_decord_was_loaded(tmp_path: Path) -> None:
    """Their libraries get into each other's way; see ``read_picture``."""
    from PIL import Image

    assert decord.__version__
    picture = noise(1, 40, 50)[0]
    Image.fromarray(picture).save(tmp_path / "0.png")
    np.testing.assert_array_equal(video.read_frame_folder(tmp_path)[0], picture)


def test_pictures_of_another_size_or_damaged_are_named(tmp_path: Path) -> None:
    import cv2

    cv2.imwrite(str(tmp_path / "0.png"), np.zeros((8, 8, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((8, 9, 3), np.uint8))
    with pytest.raises(DataError, match=r"1\.png: is 9x8, the first picture of the folder 8x8"):
        video.read_frame_folder(tmp_path)
    (tmp_path / "1.png").write_bytes((tmp_path / "0.png").read_bytes()[:20])
    with pytest.raises(DataError, match=r"1\.png: cannot be decoded"):
        video.read_frame_folder(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the clip is empty"):
        video.read_frame_folder(tmp_path / "empty")


def test_masks_are_true_where_bright(tmp_path: Path) -> None:
    import cv2

    picture = np.array([[0, 1, 4], [5, 128, 255]], np.uint8)
    cv2.imwrite(str(tmp_path / "m.png"), picture)
    np.testing.assert_array_equal(video.read_mask_picture(tmp_path / "m.png"), picture > 0)
    np.testing.assert_array_equal(video.read_mask_picture(tmp_path / "m.png", threshold=4), picture > 4)
    half = np.zeros((3, 48, 64, 3), np.uint8)
    half[:, :, 32:] = 255
    masks = video.read_mask_video(write_mp4(tmp_path / "m.mp4", half))
    np.testing.assert_array_equal(masks, half[..., 0] > 127)
