import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpbench.baselines.diffusion.windows import assemble, plan
from vpbench.errors import ConfigError


@pytest.mark.parametrize(
    ("frames", "overlap", "cover", "starts", "latents", "decoded"),
    [
        pytest.param(49, 1, True, [0], 13, 49, id="one window"),
        pytest.param(50, 1, True, [0, 48], 25, 97, id="one frame more"),
        pytest.param(97, 1, True, [0, 48], 25, 97, id="two windows exactly"),
        pytest.param(30, 1, True, [0], 13, 49, id="shorter than a window"),
        pytest.param(97, 5, True, [0, 44, 88], 35, 137, id="overlap of two latents"),
        pytest.param(49, 0, False, [0], 13, 49, id="official, one window"),
        pytest.param(473, 0, False, list(range(0, 441, 49)), 109, 433, id="official, a long row: eight frames of drift"),
        pytest.param(98, 8, False, [0, 41], 23, 89, id="official, overlap 8: starts 41 frames apart, placed 40 apart"),
    ],
)
def test_where_windows_lie(frames, overlap, cover, starts, latents, decoded):
    layout = plan(frames, 49, overlap, cover=cover)
    assert [window.frames[0] for window in layout.windows][: len(starts)] == [s if s < frames else 2 * (frames - 1) - s for s in starts]
    assert len(layout.windows) == len(starts)
    assert (layout.latents, layout.decoded) == (latents, decoded)


@pytest.mark.parametrize(("overlap", "previous", "step"), [(0, 12, 12), (1, 12, 12), (5, 11, 11), (8, 10, 10), (25, 6, 6)])
def test_the_first_frame_of_a_window_is_a_latent_of_the_one_before(overlap, previous, step):
    second = plan(200, 49, overlap, cover=False).windows[1]
    assert (second.previous, second.latent) == (previous, step)


@given(frames=st.integers(1, 400), k=st.integers(1, 12), data=st.data())
@settings(max_examples=200, deadline=None)
def test_aligned_windows_make_every_frame_from_itself(frames, k, data):
    window = 4 * k + 1
    overlap = data.draw(st.sampled_from(range(1, window, 4)))
    layout = plan(frames, window, overlap)
    assert layout.decoded >= frames
    assert layout.counts().min() >= 1
    for part in layout.windows:
        first = 1 + 4 * (part.latent - 1) if part.latent else 0  # the frame that the latent starts with in the decoded clip
        for j, frame in enumerate(part.frames):
            shown = first + j + (3 if part.latent else 0)  # a window's own first frame is the last one of the latent it falls on
            assert 0 <= frame < frames
            if shown < frames:
                assert frame == shown
    assert max(part.latent for part in layout.windows) + layout.per_window == layout.latents


def test_official_windows_drift_one_frame_each():
    layout = plan(49 * 4, 49, 0, cover=False)
    shown = [4 * window.latent for window in layout.windows]
    assert [window.frames[0] - at for window, at in zip(layout.windows, shown, strict=True)] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 48}, "4k \\+ 1"),
        ({"window": 1}, "4k \\+ 1"),
        ({"overlap": 49}, "share 0 to 48"),
        ({"overlap": -1}, "share 0 to 48"),
        ({"overlap": 0}, "compat=official"),
        ({"overlap": 8}, "aligned"),
        ({"frames": 48, "cover": False}, "48 frames"),
    ],
)
def test_windows_that_cannot_be(options, message):
    with pytest.raises(ConfigError, match=message):
        plan(**{"frames": 100, **options})


def test_latents_of_two_windows_are_averaged_where_they_meet():
    torch = pytest.importorskip("torch")
    layout = plan(17, 9, 1)
    made = [torch.full((1, 3, 2, 1, 1), float(value)) for value in (1, 5)]
    np.testing.assert_array_equal(assemble(made, layout)[0, :, 0, 0, 0], [1, 1, 3, 5, 5])
