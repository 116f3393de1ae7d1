import copy
import subprocess
import sys
import warnings
from types import SimpleNamespace

import lpips
import numpy as np
import pytest
import torch
import torchvision
from torchmetrics.functional.image.lpips import _LPIPS

from tests.metrics.clips import frame_scores, holes, noisy, score, textured
from vpbench.errors import ConfigError
from vpbench.measuring import Comparison, Network
from vpbench.metrics import lpips as ours
from vpbench.metrics import lpips_network
from vpbench.metrics.lpips import NETWORKS, SMALLEST, VARIANTS, Lpips, LpipsPass
from vpbench.weights import Weights, WeightsError, forget, locate

SOURCE = "random-3"
NETS = list(NETWORKS)
RTOL = 1e-5


def network(net):
    return lpips_network.load(net, locate(Network(NETWORKS[net], SOURCE)), "cpu")


def tensor(frames):
    return torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255 * 2 - 1


def package(net, module=lpips.LPIPS, **options):
    """The implementation of a package with our random features and its own heads: (frames, frames) -> (T,)."""
    features = copy.deepcopy(network(net).features).to(memory_format=torch.contiguous_format)
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(torchvision.models, NETWORKS[net], lambda **_: SimpleNamespace(features=features))
        model = module(net=net, pnet_rand=True, **options)

    def distance(one, other):
        with torch.inference_mode():
            return model(tensor(one), tensor(other)).flatten().double().numpy()

    return distance


@pytest.fixture(scope="module")
def packages():
    return {net: package(net, verbose=False) for net in NETS}


def expected(distance, prediction, reference, masks):
    """The four variants as they are defined, with whole passes of a package."""
    hole, share = masks[..., None], masks.mean(axis=(1, 2))

    def divided(values, share):
        return np.where(share > 0, values / np.maximum(share, 0.05), np.nan)

    return {
        "frame": distance(reference, prediction),
        "hole": divided(distance(reference, np.where(hole, prediction, reference)), share),
        "background": divided(distance(reference, np.where(hole, reference, prediction)), 1 - share),
        "onesided": distance(reference, prediction * ~hole),
    }


def arrays_of(prediction, reference, masks, net="squeeze", variants=VARIANTS):
    return LpipsPass(net, SOURCE, variants)(Comparison(prediction, reference, masks))


def assert_as_defined(distance, prediction, reference, masks, net):
    arrays = arrays_of(prediction, reference, masks, net)
    for variant, values in expected(distance, prediction, reference, masks).items():
        # The packages' own rounding in float32 is of the order of 1e-11 here, before the division by a small share.
        np.testing.assert_allclose(arrays[variant], values, rtol=RTOL, atol=1e-9, err_msg=variant)


def box_mask(frames, size, top, bottom, left, right):
    masks = np.zeros((frames, *size), bool)
    masks[:, top:bottom, left:right] = True
    return masks


@pytest.fixture(scope="module")
def clip():
    return textured(3)


@pytest.fixture(scope="module")
def result(clip):
    return noisy(clip, 20)


@pytest.mark.parametrize("strength", [pytest.param(2, id="faint"), pytest.param(40, id="strong")])
@pytest.mark.parametrize("net", NETS)
def test_agrees_with_lpips_and_torchmetrics(packages, clip, net, strength):
    prediction = noisy(clip, strength)
    values = frame_scores(Lpips(net=net, weights=SOURCE), prediction, clip, holes(clip))
    np.testing.assert_allclose(values, packages[net](clip, prediction), rtol=RTOL)
    np.testing.assert_allclose(values, package(net, _LPIPS)(clip, prediction), rtol=RTOL)


@pytest.mark.parametrize("net", NETS)
def test_variants_are_as_defined_for_any_hole(packages, net):
    rng = np.random.default_rng(7)
    for seed in range(8):
        size = rng.integers(SMALLEST[net], 50 if net == "vgg" else 110, 2)
        top, left = (rng.integers(0, n) for n in size)
        bottom, right = (rng.integers(start, n) + 1 for start, n in zip((top, left), size, strict=True))
        reference = textured(1, *size, seed=seed)
        assert_as_defined(packages[net], noisy(reference, 25), reference, box_mask(1, size, top, bottom, left, right), net)


@pytest.mark.parametrize("net", ["alex", "squeeze"])
@pytest.mark.parametrize(
    ("size", "box"),
    [
        pytest.param((160, 231), (0, 9, 0, 14), id="top left"),
        pytest.param((175, 192), (164, 175, 186, 192), id="bottom right"),
        pytest.param((208, 223), (100, 117, 120, 133), id="middle"),
        pytest.param((177, 190), (97, 98, 131, 132), id="one pixel"),
        pytest.param((162, 205), (161, 162, 204, 205), id="last pixel"),
        pytest.param((190, 161), (60, 62, 0, 161), id="row"),
    ],
)
def test_variants_are_as_defined_where_most_of_the_frame_is_spared(packages, size, box, net):
    reference = textured(1, *size)
    assert_as_defined(packages[net], noisy(reference, 60), reference, box_mask(1, size, *box), net)


@pytest.mark.parametrize("net", NETS)
def test_variants_are_as_defined_for_full_empty_and_scattered_holes(packages, clip, result, net):
    masks = np.zeros(clip.shape[:3], bool)
    masks[1] = True
    masks[2] = np.random.default_rng(0).random(clip.shape[1:3]) < 0.03
    assert_as_defined(packages[net], result, clip, masks, net)


@pytest.mark.parametrize("net", NETS)
def test_variants_are_as_defined_when_the_background_is_exact(packages, clip, net):
    masks = holes(clip)
    masks[2] = True
    assert_as_defined(packages[net], noisy(clip, 20, where=masks), clip, masks, net)


@pytest.mark.parametrize(("net", "side", "spared"), [("alex", 260, 0.25), ("squeeze", 260, 0.25), ("vgg", 70, 0)])
def test_a_change_is_computed_only_where_it_is_seen(net, side, spared):
    clip, at = textured(1, side, side + 9), side // 2
    images, wanted = lpips_network.to_tensor(noisy(clip, 9), "cpu"), lpips_network.to_tensor(clip, "cpu")
    box = slice(at, at + 3), slice(at - 4, at + 2)
    other = images.clone()
    other[:, :, box[0], box[1]] = 0.5
    one = network(net)
    reference = one.reference(wanted)
    before, whole = one.compare(images, reference), one.compare(other, reference)
    maps = one.changed(before, other[:, :, box[0], box[1]], box, reference)
    shares = []
    for changed, old, full in zip(maps, before.maps, whole.maps, strict=True):
        np.testing.assert_allclose(changed, full, rtol=1e-4, atol=1e-7)
        shares.append((changed == old).float().mean())
    assert shares[0] > 0.9
    assert shares[-1] >= spared


def test_equal_frames_are_exactly_zero_in_every_region(clip):
    for net in NETS:
        for region in ("frame", "hole", "background"):
            assert score(Lpips(region, net=net, weights=SOURCE), clip, clip, holes(clip)).value == 0


@pytest.mark.parametrize("batch", [1, 3])
def test_a_perfect_region_is_exactly_zero(clip, monkeypatch, batch):
    monkeypatch.setattr(ours, "BATCH", batch)
    masks = holes(clip)
    prediction = noisy(clip, 20, where=masks)
    prediction[1] = noisy(clip, 20, where=~masks)[1]
    arrays = arrays_of(prediction, clip, masks)
    assert [list(arrays[region] == 0) for region in ("background", "hole")] == [[True, False, True], [False, True, False]]
    assert (arrays["frame"] > 0).all()


@pytest.mark.parametrize("net", NETS)
def test_content_of_the_hole_changes_no_bit_of_the_background(clip, result, net):
    masks = holes(clip)
    masks[1, :, 35:] = True
    scrambled = np.where(masks[..., None], np.random.default_rng(5).integers(0, 256, clip.shape, np.uint8), result)
    one, other = (arrays_of(prediction, clip, masks, net) for prediction in (result, scrambled))
    for variant in ("background", "onesided"):
        np.testing.assert_array_equal(one[variant], other[variant])
    for variant in ("frame", "hole"):
        assert (one[variant] != other[variant]).all()


@pytest.mark.parametrize("net", NETS)
def test_content_of_the_background_changes_no_bit_of_the_hole(clip, result, net):
    masks = holes(clip)
    scrambled = np.where(masks[..., None], result, np.random.default_rng(5).integers(0, 256, clip.shape, np.uint8))
    exact = np.where(masks[..., None], result, clip)
    one, other, third = (arrays_of(prediction, clip, masks, net) for prediction in (result, scrambled, exact))
    np.testing.assert_array_equal(one["hole"], other["hole"])
    np.testing.assert_array_equal(one["hole"], third["hole"])
    assert (one["background"] != other["background"]).all()


def test_onesided_is_the_distance_to_the_reference_itself_where_there_is_no_hole(clip, result):
    arrays = arrays_of(result, clip, np.zeros(clip.shape[:3], bool))
    np.testing.assert_array_equal(arrays["onesided"], arrays["frame"])
    np.testing.assert_array_equal(arrays["background"], arrays["frame"])


def test_onesided_punishes_a_perfect_background(clip):
    metric = Lpips("background", net="squeeze", weights=SOURCE, onesided=True, variants=("onesided",))
    assert score(metric, clip, clip, holes(clip)).value > 0.01


def test_the_frame_is_symmetric_in_reference_and_prediction(clip, result):
    metric = Lpips(weights=SOURCE)
    one, other = score(metric, result, clip, holes(clip)).value, score(metric, clip, result, holes(clip)).value
    assert one == pytest.approx(other, rel=RTOL)


def test_more_noise_scores_higher(clip):
    for region in ("frame", "hole", "background"):
        metric = Lpips(region, weights=SOURCE)
        values = [score(metric, noisy(clip, strength), clip, holes(clip)).value for strength in (1, 2, 4, 8, 16, 32)]
        assert values == sorted(values)
        assert values[0] > 0


@pytest.mark.parametrize("net", NETS)
def test_the_batch_size_does_not_matter(clip, result, net, monkeypatch):
    masks = holes(clip)
    masks[1] = False
    one = arrays_of(result, clip, masks, net)
    monkeypatch.setattr(ours, "BATCH", 2)
    other = arrays_of(result, clip, masks, net)
    for variant in VARIANTS:
        np.testing.assert_allclose(other[variant], one[variant], rtol=RTOL)


def test_equal_inputs_give_equal_bytes_whatever_else_is_asked_for(clip, result):
    every = arrays_of(result, clip, holes(clip))
    for variant in VARIANTS:
        np.testing.assert_array_equal(arrays_of(result, clip, holes(clip), variants=(variant,))[variant], every[variant])


def test_one_frame(clip, result):
    value = score(Lpips("hole", weights=SOURCE), result[:1], clip[:1], holes(clip)[:1])
    assert (value.n, value.excluded) == (1, 0)
    assert value.value > 0


def test_frames_with_an_empty_region_are_excluded_and_counted(clip, result):
    masks = holes(clip)
    masks[1], masks[2] = False, True
    hole, background, frame = (score(Lpips(region, weights=SOURCE), result, clip, masks) for region in ("hole", "background", "frame"))
    assert (hole.n, hole.excluded, hole.reason) == (2, 1, "the hole is empty in 1 of 3 frames")
    assert (background.n, background.excluded) == (2, 1)
    assert (frame.n, frame.excluded) == (3, 0)


def test_an_empty_region_is_nan_not_zero(clip, result):
    masks = np.zeros(clip.shape[:3], bool)
    assert np.isnan(score(Lpips("hole", weights=SOURCE), result, clip, masks).value)
    assert np.isnan(score(Lpips("background", weights=SOURCE), result, clip, ~masks).value)


@pytest.mark.parametrize("net", NETS)
def test_frames_too_small_for_the_network_are_nan_with_a_reason(packages, net):
    smallest = SMALLEST[net]
    reference = textured(1, smallest, 80)
    metric = Lpips(net=net, weights=SOURCE)
    assert np.isfinite(score(metric, noisy(reference, 9), reference, np.zeros((1, smallest, 80), bool)).value)
    reference = textured(1, 80, smallest - 1)
    value = score(metric, noisy(reference, 9), reference, np.zeros((1, 80, smallest - 1), bool))
    assert np.isnan(value.value)
    assert value.reason == f"the frames are smaller than {smallest} px, which the network needs"
    with pytest.raises(RuntimeError):
        packages[net](reference, reference)


def test_a_checkpoint_of_torchvision_is_loaded(tmp_path, clip, result):
    torch.manual_seed(1)
    model = torchvision.models.squeezenet1_1(weights=None).eval()
    path = tmp_path / "squeezenet.pth"
    torch.save(model.state_dict(), path)
    loaded = lpips_network.load("squeeze", Weights("squeezenet1_1", path, "torch-state-dict", None, "x"), "cpu")
    with torch.inference_mode():
        values = loaded.reference(lpips_network.to_tensor(clip, "cpu")).values
        shift, scale = (torch.tensor(one)[:, None, None] for one in (lpips_network.SHIFT, lpips_network.SCALE))
        np.testing.assert_allclose(values[-1], model.features((tensor(clip) - shift) / scale), rtol=1e-4, atol=1e-5)


def test_a_file_of_another_network_is_refused(tmp_path):
    path = tmp_path / "alexnet.pth"
    torch.save(torchvision.models.squeezenet1_1(weights=None).state_dict(), path)
    for net in ("alex", "vgg"):
        with pytest.raises(WeightsError, match=rf"alexnet.pth: not weights of {NETWORKS[net]}"):
            lpips_network.load(net, Weights(NETWORKS[net], path, "torch-state-dict", None, "x"), "cpu")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint"])
def test_a_damaged_file_is_refused(tmp_path, content):
    path = tmp_path / "alexnet.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"alexnet.pth"):
        lpips_network.load("alex", Weights("alexnet", path, "torch-state-dict", None, "x"), "cpu")


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_code_in_a_file_is_not_run(tmp_path):
    path, written = tmp_path / "alexnet.pth", tmp_path / "written"
    torch.save({"features.0.weight": Code(written)}, path)
    with pytest.raises(WeightsError, match=r"alexnet.pth: not a state dict"):
        lpips_network.load("alex", Weights("alexnet", path, "torch-state-dict", None, "x"), "cpu")
    assert not written.exists()


def test_heads_with_another_hash_are_refused(monkeypatch):
    monkeypatch.setitem(lpips_network.HEADS, "alex", "0" * 64)
    with pytest.raises(WeightsError, match=r"alex.pth: sha256 df73285e35b22355.*expected 0000"):
        lpips_network.load("alex", Weights("alexnet", None, "random", 99, "x"), "cpu")


def test_missing_weights_are_an_error(tmp_path, monkeypatch, clip, result):
    for name in ("HOME", "XDG_CACHE_HOME", "TORCH_HOME", "VPBENCH_WEIGHTS"):
        monkeypatch.setenv(name, str(tmp_path))
    forget()
    with pytest.raises(WeightsError, match="alexnet"):
        score(Lpips(), result, clip, holes(clip))


def test_random_weights_leave_the_global_generators_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    lpips_network.load("vgg", Weights("vgg16", None, "random", 12, "x"), "cpu")
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])


def test_metrics_with_equal_options_share_one_pass_and_others_do_not():
    passes = [Lpips(region, weights=SOURCE).measure for region in ("frame", "hole", "background")]
    assert len(set(passes)) == 1
    assert passes[0].array_id == "lpips-alexnet-random3-frame.hole.background-fp32-v1"
    other = [LpipsPass("squeeze", SOURCE), LpipsPass("alex", "random-4"), LpipsPass("alex", SOURCE, ("frame",))]
    assert len({one.array_id for one in (*passes, *other)}) == 4
    assert LpipsPass("alex", SOURCE, ("hole", "frame")) == LpipsPass("alex", SOURCE, ("frame", "hole"))


def test_variants_may_come_as_a_list_from_yaml():
    metric = Lpips("background", net="squeeze", onesided=True, variants=["frame", "onesided"])
    assert metric.measure == LpipsPass("squeeze", "", ("frame", "onesided"))
    assert hash(metric) is not None


def test_every_convention_has_its_own_variant():
    metrics = [Lpips(), Lpips("background"), Lpips("background", onesided=True, variants=VARIANTS), Lpips(net="vgg")]
    assert len({metric.variant for metric in metrics}) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"net": "resnet"}, "unknown net 'resnet'; known: alex, squeeze, vgg"),
        ({"region": "boundary"}, "unknown region 'boundary'"),
        ({"variants": ("frame", "holes")}, "unknown variants.*holes"),
        ({"variants": ()}, "at least one"),
        ({"region": "hole", "variants": ("frame",)}, "lack 'hole'"),
        ({"onesided": True, "variants": VARIANTS}, "onesided is defined in the background alone"),
        ({"region": "background", "onesided": True}, "lack 'onesided'"),
    ],
)
def test_impossible_options_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Lpips(**options)


def test_importing_the_metric_does_not_import_torch():
    subprocess.run([sys.executable, "-c", "import sys, vpbench.metrics.lpips; assert 'torch' not in sys.modules"], check=True)
