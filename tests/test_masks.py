"""Random masks: the statistics that their description gives, and two people who can tell whether theirs are the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vpbench import masks
from vpbench.errors import DataError

DRAWS = 400


@pytest.fixture(scope="module")
def drawn() -> list[np.ndarray]:
    return [masks.random_masks(seed, 20, 240, 432) for seed in range(DRAWS)]


def test_the_statistics_are_those_of_the_description(drawn: list[np.ndarray]) -> None:
    """Described (240x432, 20 frames): area 0.075-0.079, half of them still, boxes of about 162x90 pixels."""
    first = [m[0] for m in drawn]
    area = np.array([m.mean() for m in first])
    width = np.array([np.ptp(np.flatnonzero(m.any(axis=0))) + 1 for m in first])
    height = np.array([np.ptp(np.flatnonzero(m.any(axis=1))) + 1 for m in first])
    fill = np.array([m.sum() for m in first]) / (width * height)
    still = np.array([(m == m[0]).all() for m in drawn])
    assert area.mean() == pytest.approx(0.077, abs=0.008)
    assert np.percentile(area, [5, 95]) == pytest.approx([0.031, 0.148], abs=0.02)
    assert width.mean() == pytest.approx(162.5, abs=10)
    assert height.mean() == pytest.approx(90, abs=6)
    assert fill.mean() == pytest.approx(0.547, abs=0.03)
    assert still.mean() == pytest.approx(0.5, abs=0.08)


def test_moving_masks_move_a_few_pixels_a_frame(drawn: list[np.ndarray]) -> None:
    steps = []
    for m in drawn:
        corner = np.array([[np.flatnonzero(f.any(axis=a))[0] for a in (1, 0)] for f in m])
        if (m != m[0]).any():
            steps.append(np.hypot(*np.diff(corner, axis=0).T).mean())
    assert np.mean(steps) == pytest.approx(2.6, abs=0.5)


def test_the_shape_stays_the_same_while_it_moves() -> None:
    m = masks.random_masks(3, 30, 120, 200, motion="moving")
    assert len({int(f.sum()) for f in m}) == 1
    assert (m != m[0]).any()


def test_equal_seeds_give_equal_masks_and_others_do_not() -> None:
    one, two, other = (masks.random_masks(seed, 5, 64, 96) for seed in (7, 7, 8))
    np.testing.assert_array_equal(one, two)
    assert masks.mask_hash(one) == masks.mask_hash(two) != masks.mask_hash(other)


def test_the_generator_is_pinned() -> None:
    """The same seed must give the same masks in every release; a change needs another ``GENERATOR``."""
    assert masks.GENERATOR == "freeform-1"
    assert masks.mask_hash(masks.random_masks(0, 4, 120, 216)) == "76e52655ee706ac567db60cbae8ad5789d35d36c5c284c70e02c7681d57ad421"


@pytest.mark.parametrize("size", [(8, 8), (9, 200), (240, 16)])
def test_small_sizes_never_give_an_empty_mask(size: tuple[int, int]) -> None:
    for seed in range(20):
        m = masks.random_masks(seed, 3, *size)
        assert m.any(axis=(1, 2)).all()


def test_too_small_is_an_error() -> None:
    with pytest.raises(DataError, match="at least 1 frame of 8x8"):
        masks.random_masks(0, 1, 7, 100)


def test_a_clips_seed_follows_from_the_set_and_the_name() -> None:
    assert masks.clip_seed(0, "bear") == masks.clip_seed(0, "bear")
    assert len({masks.clip_seed(s, n) for s in (0, 1) for n in ("bear", "camel")}) == 4


def test_the_hash_knows_the_size() -> None:
    assert masks.mask_hash(np.zeros((1, 8, 16), bool)) != masks.mask_hash(np.zeros((1, 16, 8), bool))


def test_a_manifest_finds_the_first_difference(tmp_path: Path) -> None:
    mine, theirs = masks.random_masks(1, 4, 64, 64), masks.random_masks(2, 4, 64, 64)
    path = tmp_path / "masks.json"
    masks.write_manifest(path, masks.manifest(0, "mixed", [masks.manifest_entry("bear", 1, theirs)]))
    with pytest.raises(DataError, match=r"masks\.json: the masks of bear differ from the manifest"):
        masks.check_manifest(path, "bear", mine)
    with pytest.raises(DataError, match="does not list the clip camel"):
        masks.check_manifest(path, "camel", mine)
    masks.check_manifest(path, "bear", theirs)
