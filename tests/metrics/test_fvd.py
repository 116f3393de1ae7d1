import re
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.metrics.clips import noisy, textured
from vpbench.errors import ConfigError
from vpbench.measuring import Comparison
from vpbench.metrics.fvd import Fvd
from vpbench.metrics.hole_box import PAD, crop_square, hole_box
from vpbench.metrics.i3d_features import BothSides, I3dPooled, I3dScores, as_video, cover, resized
from vpbench.metrics.kvd import Kvd
from vpbench.metrics.pvcs import Pvcs
from vpbench.metrics.vfid import Vfid

torch = pytest.importorskip("torch")
from vpbench.metrics import i3d  # noqa: E402

RANDOM = "random-0"
SETS = [Fvd(weights=RANDOM), Kvd(weights=RANDOM), Vfid(weights=RANDOM)]


@pytest.fixture
def quick_scores(monkeypatch):
    """Means over a coarse grid instead of the network's class scores."""

    def scores(video):
        assert video.shape[1:] == (3, 16, 224, 224)
        grid = torch.nn.functional.adaptive_avg_pool3d(video, (2, 8, 8)).flatten(1)
        return torch.nn.functional.pad(grid, (0, 400 - grid.shape[1]))

    monkeypatch.setattr(i3d, "scorer", lambda network, device, eps: scores)


def comparison(frames=17, seed=0, holes=None, **options):
    reference = textured(frames, 40, 56, seed=seed, shift=1)
    masks = np.zeros(reference.shape[:3], bool)
    if holes is not None:
        masks[holes, 10:20, 30:45] = True
    return Comparison(noisy(reference, 20, seed), reference, masks, **options)


def clips(count=5, windows=2, d=30, seed=0):
    """Arrays as of ``BothSides``."""
    rng = np.random.default_rng(seed)
    found = {}
    for i in range(count):
        reference = rng.normal(size=(windows, d)).astype(np.float32)
        prediction = reference + rng.normal(0, 0.3, reference.shape).astype(np.float32)
        zero = np.zeros((), np.int64)
        found[f"clip{i}"] = {"prediction": prediction, "reference": reference, "skipped": zero, "repeated": zero}
    return found


# Sets of clips


@pytest.mark.parametrize("metric", SETS)
def test_equal_sets_are_at_distance_zero(metric):
    same = {name: {**arrays, "prediction": arrays["reference"]} for name, arrays in clips().items()}
    value = metric.reduce(same)
    assert value.value == 0
    assert set(value.leave_one_out.values()) == {0.0}


@pytest.mark.parametrize("metric", SETS)
@pytest.mark.parametrize("count", [pytest.param(4, id="n<d"), pytest.param(40, id="n>d")])
def test_values_without_a_clip_are_those_of_the_other_clips(metric, count):
    found = clips(count)
    value = metric.reduce(found)
    assert value.n == 2 * count
    assert value.leave_one_out.keys() == found.keys()
    for name in list(found)[:4]:
        rest = {other: arrays for other, arrays in found.items() if other != name}
        assert value.leave_one_out[name] == pytest.approx(metric.reduce(rest).value, rel=1e-6)


@pytest.mark.parametrize("metric", SETS)
def test_order_of_clips_does_not_matter(metric):
    found = clips()
    assert metric.reduce(dict(reversed(found.items()))).value == pytest.approx(metric.reduce(found).value, rel=1e-10)


@pytest.mark.parametrize("metric", SETS)
@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_clips_are_refused_with_a_reason(metric, count):
    value = metric.reduce(clips(count))
    assert np.isnan(value.value)
    assert f"2 clips or more, here are {count}" in value.reason


@pytest.mark.parametrize("metric", SETS)
def test_two_clips_have_a_value_but_none_without_a_clip(metric):
    value = metric.reduce(clips(2, windows=1))
    assert np.isfinite(value.value)
    assert value.leave_one_out == {}


def test_clips_without_features_do_not_count():
    found = clips()
    empty = np.zeros((0, 30), np.float32)
    more = found | {"no hole": {**found["clip0"], "prediction": empty, "reference": empty, "skipped": np.array(4)}}
    value = Fvd("hole").reduce(more)
    assert value.value == Fvd("hole").reduce(found).value
    assert "4 windows without a hole left out" in value.reason
    assert "no hole" not in value.leave_one_out
    assert np.isnan(Fvd("hole").reduce({name: more[name] for name in ("clip0", "no hole")}).value)


def test_features_that_are_not_finite_are_no_number():
    found = clips()
    found["clip2"]["prediction"][0, 0] = np.inf
    value = Fvd().reduce(found)
    assert np.isnan(value.value)
    assert "clip2" in value.reason


def test_small_sets_say_so():
    assert "n=10 < 30 features" in Fvd().reduce(clips()).reason
    assert Fvd().reduce(clips(20)).reason == ""


def test_ddof_changes_the_value_by_its_factor():
    # Between sets of equal means the distance is proportional to 1 / (n - ddof).
    found = clips(4, windows=1)
    for side in ("prediction", "reference"):
        mean = np.mean([arrays[side] for arrays in found.values()], axis=0)
        for arrays in found.values():
            arrays[side] = arrays[side] - mean
    assert Fvd(ddof=0).reduce(found).value == pytest.approx(0.75 * Fvd().reduce(found).value, rel=1e-5)


# Windows and crops


@given(frames=st.integers(16, 400))
def test_windows_cover_the_clip_evenly(frames):
    starts = cover(frames)
    steps = np.diff(starts)
    assert starts[0] == 0
    assert starts[-1] == frames - 16
    assert all(0 < step <= 16 for step in steps)
    assert not len(steps) or steps.max() - steps.min() <= 1


@pytest.mark.usefixtures("quick_scores")
def test_a_short_clip_repeats_its_last_frame():
    short = comparison(9)
    longer = Comparison(
        *(np.concatenate([part, np.repeat(part[-1:], 7, axis=0)]) for part in (short.prediction, short.reference, short.masks))
    )
    found, expected = (Fvd(weights=RANDOM).measure(one) for one in (short, longer))
    np.testing.assert_array_equal(found["prediction"], expected["prediction"])
    assert (found["repeated"], expected["repeated"]) == (7, 0)
    assert "1 clips are shorter" in Fvd().reduce({"a": found, "b": expected}).reason


@pytest.mark.usefixtures("quick_scores")
def test_windows_without_a_hole_are_left_out_and_counted():
    found = Fvd("hole", weights=RANDOM).measure(comparison(48, holes=np.s_[20:24]))
    assert found["starts"].tolist() == [16]
    assert found["skipped"] == 2
    assert found["prediction"].shape == found["reference"].shape == (1, 400)
    found = Fvd("hole", weights=RANDOM).measure(comparison(48))
    assert found["prediction"].shape == (0, 400)
    assert found["skipped"] == 3


@pytest.mark.usefixtures("quick_scores")
def test_only_the_square_around_the_hole_counts_in_the_hole():
    reference = textured(16, 100, 160)
    masks = np.zeros(reference.shape[:3], bool)
    masks[3:8, 40:60, 100:120] = True
    top, left, side = hole_box(masks.any(axis=0))
    outside = np.ones_like(masks)
    outside[:, top : top + side, left : left + side] = False
    one, other = (
        Fvd("hole", weights=RANDOM).measure(Comparison(p, reference, masks)) for p in (reference, noisy(reference, 60, where=outside))
    )
    np.testing.assert_array_equal(one["prediction"], other["prediction"])
    changed = Fvd("hole", weights=RANDOM).measure(Comparison(noisy(reference, 60, where=masks), reference, masks))
    assert (changed["prediction"] != one["prediction"]).any()


@pytest.mark.parametrize(
    ("hole", "box"),
    [
        pytest.param(np.s_[100:180, 300:420], (65, 285, 150), id="grown and squared"),
        pytest.param(np.s_[0:10, 710:720], (0, 656, 64), id="shifted inside, at least 64"),
        pytest.param(np.s_[0:480, 300:340], (0, 80, 480), id="as high as the frame"),
        pytest.param(np.s_[:, :], (-120, 0, 720), id="the whole frame, padded to a square"),
    ],
)
def test_squares_around_holes(hole, box):
    mask = np.zeros((480, 720), bool)
    mask[hole] = True
    assert hole_box(mask) == box


def test_what_a_square_lacks_has_one_colour():
    frames = textured(2, 40, 90)
    square = crop_square(frames, (-25, 0, 90))
    assert square.shape == (2, 90, 90, 3)
    np.testing.assert_array_equal(square[:, 25:65], frames)
    assert (square[:, :25] == PAD).all()
    assert (square[:, 65:] == PAD).all()


@given(seed=st.integers(0, 999), height=st.integers(20, 200), width=st.integers(20, 200))
def test_squares_hold_the_hole_and_leave_the_frame_only_where_they_must(seed, height, width):
    rng = np.random.default_rng(seed)
    mask = np.zeros((height, width), bool)
    mask[rng.integers(height, size=3), rng.integers(width, size=3)] = True
    top, left, side = hole_box(mask)
    assert side <= max(height, width, 64)
    assert mask[max(top, 0) : top + side, max(left, 0) : left + side].sum() == mask.sum()
    for start, size in ((top, height), (left, width)):
        assert 0 <= start <= size - side or (side > size and start == -((side - size) // 2))


def test_a_mask_without_a_hole_has_no_square():
    with pytest.raises(ValueError, match="no hole"):
        hole_box(np.zeros((9, 9), bool))


def test_resizers_agree_with_other_libraries():
    functional = pytest.importorskip("torchvision.transforms.functional")
    frames = textured(2, 480, 720)
    video = as_video(frames)
    expected = functional.resize(video.transpose(0, 1).float(), [224, 224], antialias=True).transpose(0, 1)
    assert (resized(video, "squash-antialias") - expected).abs().max() < 1e-3
    plain = np.stack([cv2.resize(frame.astype(np.float32), (224, 224), interpolation=cv2.INTER_LINEAR) for frame in frames])
    np.testing.assert_allclose(resized(video, "cd").permute(1, 2, 3, 0), plain, atol=1e-2)
    plain = np.stack([cv2.resize(frame.astype(np.float32), (336, 224), interpolation=cv2.INTER_LINEAR) for frame in frames])
    np.testing.assert_allclose(resized(video, "stylegan").permute(1, 2, 3, 0), plain[:, :, 56:280], atol=1e-2)
    assert resized(video.transpose(2, 3), "stylegan").shape == (3, 2, 224, 224)


# Passes


@pytest.mark.usefixtures("quick_scores")
@pytest.mark.parametrize("region", ["frame", "hole"])
def test_features_of_the_reference_are_a_pass_of_their_own(region):
    seen = []

    def stored(measure, compute):
        seen.append(measure)
        return compute()

    comparison(holes=np.s_[:], stored=stored).arrays(Fvd(region, weights=RANDOM).measure)
    masks = {"masks"} if region == "hole" else set()
    assert [set(measure.reads) for measure in seen] == [{"prediction", "reference"} | masks, {"prediction"} | masks, {"reference"} | masks]
    assert len({measure.array_id for measure in seen}) == 3


@pytest.mark.usefixtures("quick_scores")
def test_reference_features_do_not_depend_on_the_prediction():
    one = comparison()
    other = replace(one, prediction=noisy(one.reference, 90), _derived={})
    pass_ = I3dScores("reference", source=RANDOM)
    np.testing.assert_array_equal(pass_(one)["features"], pass_(other)["features"])


def test_every_setting_has_its_own_arrays_and_signature():
    changes = [{}, {"detector": "torchscript"}, {"detector": "videogpt"}, {"resize": "cd"}, {"resize": "stylegan"}, {"region": "hole"}]
    metrics = [Fvd(weights=RANDOM, **change) for change in changes]
    metrics += [Fvd(weights="random-1"), Vfid(), Vfid(norm="eval"), Vfid(window=10), Vfid(input_range="-1-1"), Pvcs()]
    ids = [metric.measure.array_id for metric in metrics]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[A-Za-z0-9_.@-]{1,200}", name) for name in ids)
    signatures = [metric.variant for metric in (*metrics[:6], *metrics[7:], Fvd(ddof=0), Kvd())]
    assert len(set(signatures)) == len(signatures)


def test_fvd_and_kvd_share_their_pass():
    assert Fvd("hole", ddof=0).measure == Kvd("hole").measure


def test_only_the_hole_needs_a_true_answer():
    assert [metric.needs_truth for metric in (Fvd(), Kvd(), Vfid(), Fvd("hole"), Kvd("hole"))] == [False, False, False, True, True]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Fvd("background"),
        lambda: Fvd(detector="i3"),
        lambda: Kvd(resize="bicubic"),
        lambda: Fvd(ddof=2),
        lambda: Vfid("hole"),
        lambda: Vfid(norm="batch"),
        lambda: Vfid(window=-1),
        lambda: Vfid(input_range="0-255"),
        lambda: Pvcs("hole"),
    ],
)
def test_unknown_options_are_refused(wrong):
    with pytest.raises(ConfigError):
        wrong()


def test_importing_the_metrics_does_not_import_torch():
    code = (
        "import sys, vpbench.metrics.fvd, vpbench.metrics.kvd, vpbench.metrics.vfid, vpbench.metrics.pvcs; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# With the network (random weights)


def test_class_scores_of_a_short_clip():
    found = I3dScores("prediction", source=RANDOM)(comparison(1))["features"]
    assert found.dtype == np.float32
    assert found.shape == (1, 400)
    assert np.isfinite(found).all()


def test_features_of_equal_videos_are_equal_bytes():
    one = comparison(11)
    found = I3dPooled("prediction", "eval", 10, source=RANDOM)(one)["features"]
    np.testing.assert_array_equal(
        I3dPooled("reference", "eval", 10, source=RANDOM)(replace(one, reference=one.prediction))["features"], found
    )


@pytest.mark.parametrize(("norm", "window", "rows"), [("instance", 0, 1), ("eval", 10, 2)])
def test_vfid_features(norm, window, rows):
    one = comparison(11)
    one.prediction.flags.writeable = False
    found = Vfid(norm=norm, window=window, weights=RANDOM).measure(one)
    assert found["prediction"].shape == found["reference"].shape == (rows, 1024)
    assert (found["prediction"] != found["reference"]).any()


def test_short_clips_repeat_their_last_frame_for_vfid_windows():
    short = comparison(4)
    longer = replace(short, prediction=short.prediction[np.minimum(np.arange(10), 3)], _derived={})
    one, other = (I3dPooled("prediction", "eval", 10, source=RANDOM)(clip) for clip in (short, longer))
    np.testing.assert_array_equal(one["features"], other["features"])
    assert one["repeated"] == 6


def test_the_statistics_of_the_clip_remove_contrast():
    # Why VFID of networks left in training mode is small: the first normalisation undoes a factor (but for its eps).
    reference = textured(10, 40, 56) // 2 * 2
    masks = np.zeros(reference.shape[:3], bool)
    change = {}
    for norm in ("instance", "eval"):
        found = BothSides(I3dPooled(norm=norm, source=RANDOM))(Comparison(reference // 2, reference, masks))
        change[norm] = np.linalg.norm(found["prediction"] - found["reference"]) / np.linalg.norm(found["reference"])
    assert change["instance"] < change["eval"] / 3


def test_pvcs_of_equal_videos_is_zero_and_grows_with_noise():
    metric = Pvcs(weights=RANDOM)
    reference = textured(10, 40, 56)
    masks = np.zeros(reference.shape[:3], bool)
    values = [metric.clip(metric.measure(Comparison(noisy(reference, s), reference, masks))) for s in (0, 5, 40)]
    assert values[0].value == 0
    assert 0 < values[1].value < values[2].value <= 8
    assert values[0].n == 1


@pytest.mark.parametrize("frames", [1, 7])
def test_pvcs_of_a_short_clip_repeats_the_last_frame_of_each_video(frames):
    metric = Pvcs(weights=RANDOM)
    short = comparison(frames)
    grown = np.minimum(np.arange(10), frames - 1)
    longer = Comparison(short.prediction[grown], short.reference[grown], short.masks[grown])
    value = metric.clip(metric.measure(short))
    assert value.value == metric.clip(metric.measure(longer)).value > 0
    assert f"repeated {10 - frames} times" in value.reason
