"""The demo: rendered the same every time, with a true result for every edit."""

from __future__ import annotations

import numpy as np
import pytest

from vpbench.benchmarks.demo import Demo
from vpbench.clip import Clip
from vpbench.errors import ConfigError


@pytest.fixture(scope="module")
def clips() -> list[Clip]:
    return [handle.load() for handle in Demo()]


def test_eight_clips_of_every_operation(clips: list[Clip]) -> None:
    assert [clip.operation for clip in clips] == ["inpaint"] * 4 + ["add", "remove", "swap", "change"]
    assert {clip.frames.shape for clip in clips} == {(24, 240, 432, 3)}
    for clip in clips:
        assert clip.caption
        assert clip.region_caption
        assert bool(clip.instruction) == (clip.operation != "inpaint")


def test_the_true_result_differs_only_in_the_hole(clips: list[Clip]) -> None:
    for clip in clips[4:]:
        assert clip.target is not None
        differs = (clip.target != clip.frames).any(axis=-1)
        assert not (differs & ~clip.masks).any(), clip.name
        assert differs.mean() > 0.02, clip.name


def test_the_hole_reaches_a_few_pixels_beyond_what_differs(clips: list[Clip]) -> None:
    import cv2

    for clip in clips[4:]:
        assert clip.target is not None
        differs = (clip.target != clip.frames).any(axis=-1).astype(np.uint8)
        grown = np.stack([cv2.dilate(d, np.ones((5, 5), np.uint8)) for d in differs]) > 0
        assert not (grown & ~clip.masks).any(), clip.name


def test_every_clip_moves_and_has_holes_of_an_ordinary_size(clips: list[Clip]) -> None:
    for clip in clips:
        change = np.abs(np.diff(clip.frames.astype(int), axis=0)).mean(axis=(1, 2, 3))
        assert change.min() > 0.2, clip.name
        assert 0.02 < clip.masks.mean() < 0.5, clip.name
        assert clip.frames.std() > 15, clip.name


def test_moving_and_still_masks_occur(clips: list[Clip]) -> None:
    assert {bool((clip.masks == clip.masks[0]).all()) for clip in clips[:4]} == {True, False}


def test_rendering_is_deterministic(clips: list[Clip]) -> None:
    for clip, handle in zip(clips, Demo(), strict=True):
        again = handle.load()
        np.testing.assert_array_equal(again.frames, clip.frames)
        np.testing.assert_array_equal(again.masks, clip.masks)
        np.testing.assert_array_equal(again.reference, clip.reference)


def test_the_fingerprint_follows_from_the_content() -> None:
    whole = [handle.fingerprint() for handle in Demo(frames=3)]
    assert len(set(whole)) == 8
    assert whole == [handle.fingerprint() for handle in Demo(frames=3)]
    others = (Demo(frames=4), Demo(frames=3, height=120, width=216), Demo(frames=3, prepare={"max_frames": 2}))
    for other in others:
        assert not set(whole) & {handle.fingerprint() for handle in other}
    seeded = [handle.fingerprint() for handle in Demo(frames=3, seed=1)]
    assert not set(whole[:4]) & set(seeded[:4]), "random masks follow the seed"
    assert whole[4:] == seeded[4:], "the holes of edits do not"


def test_building_renders_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vpbench.benchmarks.demo._render", lambda *_: pytest.fail("rendered"))
    assert len(list(Demo())) == 8


def test_sizes_that_cannot_be_rendered_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1 frame of 64x64"):
        Demo(height=10)
