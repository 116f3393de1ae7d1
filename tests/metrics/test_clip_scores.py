import subprocess
import sys

import numpy as np
import pytest
import torch

from tests.metrics.clips import holes, noisy, textured
from tests.parity.clip_recipe import LONG, OTHER_LONG, SHORT, TINY, state, tiny_networks
from vpbench.errors import ConfigError
from vpbench.measuring import Comparison, Network
from vpbench.metrics import clip_encoder
from vpbench.metrics.clip_image import IMAGES_AT_ONCE, ClipImages
from vpbench.metrics.clip_tc import ClipTc
from vpbench.metrics.clip_text import ClipSimilarity, ClipText, ClipTexts
from vpbench.weights import Weights, WeightsError

SOURCE = "random-4"
EVERY = [
    pytest.param(ClipText(weights=SOURCE), id="clip_text"),
    pytest.param(ClipText(weights=SOURCE, crop="center", tokens="unterminated"), id="official score"),
    pytest.param(ClipText("hole", weights=SOURCE, crop="hole_box", text="region_caption"), id="clip_hole"),
    pytest.param(ClipText("hole", weights=SOURCE, crop="masked_center", text="region_caption"), id="official masked score"),
    pytest.param(ClipTc(weights=SOURCE), id="clip_tc"),
    pytest.param(ClipTc(weights=SOURCE, value="vbench"), id="vbench"),
    pytest.param(ClipTc(weights=SOURCE, preprocessing="vpbench-official"), id="official consistency"),
    pytest.param(ClipTc("hole", weights=SOURCE, preprocessing="vpbench-official"), id="official masked consistency"),
]


@pytest.fixture(scope="module", autouse=True)
def _tiny(tmp_path_factory):
    with tiny_networks(tmp_path_factory.mktemp("tiny")):
        yield


def compared(frames=4, height=72, width=110, **changes):
    """A prediction with a noisy hole beside its reference."""
    clip = textured(frames, height, width, shift=5)
    masks = holes(clip)
    values = {"prediction": noisy(clip, 60, where=masks), "reference": clip, "masks": masks, "caption": LONG, "region_caption": SHORT}
    return Comparison(**(values | changes))


def value(metric, comparison):
    return metric.clip(comparison.arrays(metric.measure))


@pytest.mark.parametrize("metric", EVERY)
def test_the_clips_value_is_the_mean_of_its_frames_and_in_range(metric):
    comparison = compared()
    frames = metric.frames(comparison.arrays(metric.measure))
    assert frames.shape == ((4,) if isinstance(metric, ClipText) else (3,))
    assert np.ptp(frames) > 0, "frames that differ have different values"
    assert value(metric, comparison).value == pytest.approx(frames.mean())
    low, high = metric.range
    assert ((low <= frames) & (frames <= high)).all()


@pytest.mark.parametrize("metric", EVERY)
def test_equal_inputs_give_equal_bits(metric):
    one, other = (metric.measure(compared()) for _ in range(2))
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("crop", ["cover", "hole_box", "masked_squash"])
def test_embeddings_do_not_depend_on_the_batch(crop, monkeypatch):
    found = []
    for size in (1, 3, 16):
        monkeypatch.setitem(IMAGES_AT_ONCE, "clip-vit-l14", size)
        found.append(ClipImages(source=SOURCE, crop=crop)(compared(5))["embeddings"])
    assert found[0].dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found[0], axis=-1), 1, rtol=1e-6)
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, rtol=0, atol=2e-6)


def test_cosines_are_those_of_the_network_run_by_hand():
    comparison = compared(2)
    model = clip_encoder.plain_model(Network("clip-vit-l14", SOURCE), "cpu")
    from vpbench.metrics.clip_image import seen
    from vpbench.metrics.clip_tokens import caption_ids

    with torch.inference_mode():
        chunks = model.encode_text(torch.from_numpy(caption_ids(LONG, "chunked")), normalize=True)
        text = torch.nn.functional.normalize(chunks.mean(dim=0), dim=0)
        expected = []
        for frame, mask in zip(comparison.prediction, comparison.masks, strict=True):
            squares = torch.from_numpy(np.stack([seen("cover", frame, mask, k) for k in range(2)]))
            expected.append(100 * (model.encode_image(clip_encoder.normalised(squares), normalize=True) @ text).mean())
    assert len(chunks) > 1
    metric = ClipText(weights=SOURCE)
    np.testing.assert_allclose(metric.frames(metric.measure(comparison)), torch.stack(expected), rtol=0, atol=1e-4)


def test_long_captions_differ_unless_their_end_is_lost():
    for tokens, same in (("chunked", False), ("truncated", False), ("unterminated", True)):
        one, other = (value(ClipText(weights=SOURCE, tokens=tokens), compared(2, caption=caption)).value for caption in (LONG, OTHER_LONG))
        assert (one == other) == same


def test_what_comes_after_77_ids_counts_only_in_chunks():
    for tokens, same in (("chunked", False), ("truncated", True)):
        one, other = (ClipTexts(source=SOURCE, tokens=tokens)(compared(1, caption=LONG + end)) for end in ("", OTHER_LONG))
        assert np.array_equal(one["embedding"], other["embedding"]) == same
    assert one["n_chunks"] == 1


def test_short_captions_are_the_same_under_every_rule():
    values = {
        value(ClipText(weights=SOURCE, tokens=tokens), compared(2, caption=SHORT)).value
        for tokens in ("chunked", "truncated", "unterminated")
    }
    assert len(values) == 1


@pytest.mark.parametrize(("text", "reason"), [("caption", "the clip has no caption"), ("region_caption", "the clip has no region caption")])
def test_a_clip_without_the_text_is_undefined_and_runs_no_network(text, reason, monkeypatch):
    monkeypatch.setattr(clip_encoder, "load", None)
    found = value(ClipText(weights=SOURCE, text=text), compared(caption="", region_caption=" \n"))
    assert np.isnan(found.value)
    assert (found.n, found.excluded, found.reason) == (0, 4, reason)


def test_frames_without_a_hole_are_skipped_and_counted():
    metric = ClipText("hole", weights=SOURCE, crop="hole_box")
    comparison = compared()
    comparison.masks[1] = False
    comparison.masks[2] = False
    comparison.masks[2, 3, :3] = True  # 3 of 7920 pixels: less than 0.05 %
    found = value(metric, comparison)
    assert (found.n, found.excluded) == (2, 2)
    assert "less than 0.05 %" in found.reason
    assert np.isnan(metric.frames(comparison.arrays(metric.measure))).tolist() == [False, True, True, False]
    nothing = value(metric, compared(masks=np.zeros((4, 72, 110), bool)))
    assert np.isnan(nothing.value)
    assert "in every frame" in nothing.reason


def test_official_masked_score_also_counts_frames_without_a_hole():
    found = value(ClipText("hole", weights=SOURCE, crop="masked_center"), compared(masks=np.zeros((4, 72, 110), bool)))
    assert (found.n, found.excluded) == (4, 0)
    assert np.isfinite(found.value)


@pytest.mark.parametrize("crop", ["hole_box", "masked_center"])
def test_what_is_far_from_the_hole_does_not_change_its_value(crop):
    comparison = compared()
    far = comparison.prediction.copy()
    far[:, -4:] = 255 - far[:, -4:]
    metric, whole = ClipText("hole", weights=SOURCE, crop=crop), ClipText(weights=SOURCE)
    assert value(metric, comparison).value == value(metric, compared(prediction=far)).value
    assert value(whole, comparison).value != value(whole, compared(prediction=far)).value


def test_clamping_counts_negative_frames_as_zero():
    plain, clamped = (ClipText(weights=SOURCE, clamp=clamp) for clamp in (False, True))
    arrays = {"cosine": np.array([[-0.5, 0.1], [0.2, 0.4]]), "n_chunks": np.array(1)}
    np.testing.assert_allclose(plain.frames(arrays), [-20, 30])
    np.testing.assert_allclose(clamped.frames(arrays), [0, 30])
    assert clamped.clip(arrays).value == pytest.approx(15)


@pytest.mark.parametrize("preprocessing", ["clip", "vpbench-official"])
@pytest.mark.parametrize("shade", [0, 1, 200])
def test_a_frozen_video_is_exactly_consistent(preprocessing, shade):
    frozen = np.repeat(textured(1, 72, 110), 5, axis=0) if shade == 200 else np.full((5, 72, 110, 3), shade, np.uint8)
    found = value(ClipTc(weights=SOURCE, preprocessing=preprocessing), compared(5, prediction=frozen))
    assert found.value == pytest.approx(1, abs=1e-6)


def test_consistency_falls_when_frames_are_shuffled_or_flicker():
    steady = compared(6)
    flicker = steady.prediction.copy()
    flicker[1::2] = 255 - flicker[1::2]
    for value_ in ("consistency", "vbench"):
        metric = ClipTc(weights=SOURCE, value=value_)
        assert value(metric, compared(6, prediction=flicker)).value < value(metric, steady).value


def test_delta_is_the_difference_of_two_consistencies():
    comparison = compared()
    both = [value(ClipTc(weights=SOURCE), compared(prediction=clip)).value for clip in (comparison.prediction, comparison.reference)]
    assert value(ClipTc(weights=SOURCE, value="delta"), comparison).value == pytest.approx(both[0] - both[1], abs=1e-12)
    assert value(ClipTc(weights=SOURCE, value="delta"), compared(prediction=comparison.reference)).value == 0


def test_vbench_is_the_mean_with_the_first_frame_and_never_negative():
    metric = ClipTc(value="vbench")
    arrays = {"next": np.array([0.8, -0.2]), "first": np.array([0.8, 0.4])}
    np.testing.assert_allclose(metric.frames(arrays), [0.8, 0.2])


@pytest.mark.parametrize("metric", EVERY[4:])
def test_one_frame_has_no_consistency(metric):
    found = value(metric, compared(1))
    assert np.isnan(found.value)
    assert found.reason == "a single frame has no pair of consecutive frames"


@pytest.mark.parametrize("metric", EVERY)
def test_small_and_black_videos_have_values(metric):
    small = compared(2, 40, 50)
    assert np.isfinite(value(metric, small).value)
    assert np.isfinite(value(metric, compared(2, 40, 50, prediction=np.zeros_like(small.prediction))).value)


def test_images_are_embedded_once_for_all_texts_and_rules():
    passes = []

    def stored(measure, compute):
        passes.append(type(measure).__name__)
        return compute()

    comparison = compared(2, stored=stored)
    for text in ("caption", "region_caption"):
        for tokens in ("chunked", "truncated"):
            value(ClipText(weights=SOURCE, text=text, tokens=tokens), comparison)
    assert (passes.count("ClipImages"), passes.count("ClipTexts"), passes.count("ClipSimilarity")) == (1, 4, 4)


def test_a_pass_reads_only_what_it_needs():
    assert ClipTexts(source=SOURCE).reads == {"texts"}
    assert ClipImages(source=SOURCE, crop="cover").reads == {"prediction"}
    assert ClipImages(source=SOURCE, crop="hole_box", of="reference").reads == {"reference", "masks"}
    assert ClipText(weights=SOURCE).measure.reads == {"prediction", "texts"}
    assert ClipTc(weights=SOURCE).measure.reads == {"prediction"}
    assert ClipTc("hole", weights=SOURCE, preprocessing="vpbench-official", value="delta").measure.reads == {
        "prediction",
        "reference",
        "masks",
    }


def test_every_setting_that_changes_the_arrays_is_in_their_name():
    images = [ClipImages(network, SOURCE, crop, precision, of) for network in clip_encoder.NETWORKS for crop in ("cover", "squash")
              for precision in ("exact", "fast") for of in ("prediction", "reference")]  # fmt: skip
    texts = [ClipTexts("clip-vit-l14", source, text, tokens) for source in (SOURCE, "random-5") for text in ("caption", "region_caption")
             for tokens in ("chunked", "truncated", "unterminated")]  # fmt: skip
    similar = [ClipSimilarity(image, text) for image in images[:2] for text in texts[:2]]
    names = [measure.array_id for measure in (*images, *texts, *similar)]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789_-") for name in names)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ClipText("background"), "background"),
        (lambda: ClipText("hole"), "hole_box, masked_center"),
        (lambda: ClipText("frame", crop="hole_box"), "center, cover"),
        (lambda: ClipText(tokens="cut"), "chunked"),
        (lambda: ClipText(text="title"), "region_caption"),
        (lambda: ClipText(network="clip-vit-b16"), "clip-vit-b32"),
        (lambda: ClipText(precision="half"), "exact, fast"),
        (lambda: ClipTc("hole"), "vpbench-official"),
        (lambda: ClipTc("boundary"), "boundary"),
        (lambda: ClipTc(value="ratio"), "delta"),
        (lambda: ClipTc(preprocessing="none"), "vpbench-official"),
    ],
)
def test_options_that_do_not_exist_or_do_not_belong_together_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_random_weights_leave_the_random_numbers_of_the_process_alone():
    before = torch.random.get_rng_state()
    clip_encoder.load.__wrapped__(Network("clip-vit-b32", "random-9"), "cpu")
    assert torch.equal(before, torch.random.get_rng_state())


def test_on_the_cpu_fast_is_exact_under_another_name():
    exact, fast = (ClipText(weights=SOURCE, precision=precision) for precision in ("exact", "fast"))
    assert value(exact, compared(2)).value == value(fast, compared(2)).value
    assert exact.measure.array_id != fast.measure.array_id


def save(arrays, path):
    torch.save({name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}, path)
    return path


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda arrays: arrays.pop("ln_final.bias"), "lacks ln_final.bias"),
        (lambda arrays: arrays.update({"visual.extra": np.zeros(1)}), "unknown visual.extra"),
        (lambda arrays: arrays.update({"visual.proj": np.zeros((64, 33))}), "other shapes: visual.proj"),
    ],
)
def test_weights_of_another_network_are_one_clear_error(spoil, message, tmp_path, monkeypatch):
    arrays = state(TINY)
    spoil(arrays)
    path = save(arrays, tmp_path / "ViT-B-32.pt")
    monkeypatch.setattr("vpbench.weights.locate", lambda network: Weights(network.name, path, "openai-clip", None, "x"))
    with pytest.raises(WeightsError, match=message) as caught:
        clip_encoder.load.__wrapped__(Network("clip-vit-b32"), "cpu")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["openai-clip", "hf-clip-bin", "hf-clip-safetensors"])
def test_a_file_that_cannot_be_read_is_a_clear_error(form, tmp_path, monkeypatch):
    path = tmp_path / "weights"
    path.write_bytes(b"not weights")
    monkeypatch.setattr("vpbench.weights.locate", lambda network: Weights(network.name, path, form, None, "x"))
    with pytest.raises(WeightsError, match="cannot be read"):
        clip_encoder.load.__wrapped__(Network("clip-vit-b32"), "cpu")


def test_importing_the_metrics_does_not_import_torch():
    code = "import sys, vpbench.metrics.clip_text, vpbench.metrics.clip_tc; sys.exit('torch' in sys.modules or 'open_clip' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
