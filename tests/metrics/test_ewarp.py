import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from torchvision.models.optical_flow import raft_large

from tests.metrics.clips import frame_scores, holes, noisy, score, textured
from vpbench.errors import ConfigError
from vpbench.measuring import Comparison, Network
from vpbench.metrics import ewarp
from vpbench.metrics.ewarp import Ewarp, RaftFlow, WarpErrorRaft, load, raft_flows
from vpbench.weights import Weights, WeightsError, forget

RANDOM = "random-0"
NETWORK = Network("raft-large", RANDOM)
HEIGHT, WIDTH = 40, 56  # padded to 128x128


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    """Frames this small gain nothing from threads, and threads that wait for each other on a busy machine cost minutes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def raft():
    return load(NETWORK, "cpu")


@pytest.fixture(scope="module")
def videos():
    reference = textured(2, HEIGHT, WIDTH, shift=1)
    return noisy(reference, 10), reference, holes(reference, top=4)  # where random weights see pixels


@pytest.fixture(scope="module")
def store():
    """What the harness keeps of passes over ``videos``: by array id."""
    return {}


@pytest.fixture(scope="module")
def arrays(videos, store):
    """``arrays(metric)`` of ``videos``, every pass at most once."""

    def stored(measure, compute):
        if measure.array_id not in store:
            store[measure.array_id] = compute()
        return store[measure.array_id]

    comparison = Comparison(*videos, stored=stored)
    return lambda metric: comparison.arrays(metric.measure, keep=False)


@pytest.fixture
def no_network(monkeypatch):
    """Flow from nowhere: what lies still is seen everywhere."""

    def still(network, frames, device):
        flow = np.zeros((len(frames) - 1, *frames.shape[1:3], 2), np.float16)
        return flow, flow

    monkeypatch.setattr(ewarp, "load", lambda network, device: None)
    monkeypatch.setattr(ewarp, "raft_flows", still)


def torchvision_flow(raft, first, second):
    """Torchvision's own network with the same weights, float16 (H, W, 2)."""
    theirs = raft_large(weights=None).eval()
    theirs.load_state_dict(raft.state_dict())
    images = [torch.from_numpy(frame.astype(np.float32)).permute(2, 0, 1)[None] / 127.5 - 1 for frame in (first, second)]
    with torch.no_grad():
        return theirs(*images, num_flow_updates=12)[-1][0].permute(1, 2, 0).numpy().astype(np.float16)


def test_flow_is_that_of_torchvision(raft):
    clip = textured(2, 128, 136, shift=2)
    forward, backward = raft_flows(raft, clip, "cpu")
    assert (forward.shape, forward.dtype) == ((1, 128, 136, 2), np.dtype(np.float16))
    assert np.ptp(forward) > 0.05
    np.testing.assert_allclose(forward[0], torchvision_flow(raft, clip[0], clip[1]), rtol=0, atol=1e-3)
    np.testing.assert_allclose(backward[0], torchvision_flow(raft, clip[1], clip[0]), rtol=0, atol=1e-3)


def test_small_frames_are_padded_with_their_border_and_the_flow_cut_off(raft, videos, arrays, store):
    arrays(Ewarp(weights=RANDOM))
    _, reference, _ = videos
    padded = [cv2.copyMakeBorder(frame, 0, 128 - HEIGHT, 0, 128 - WIDTH, cv2.BORDER_REPLICATE) for frame in reference]
    expected = torchvision_flow(raft, *padded)[:HEIGHT, :WIDTH]
    np.testing.assert_allclose(store[RaftFlow(0, "reference", NETWORK).array_id]["forward"][0], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("region", ["frame", "hole", "background"])
def test_agrees_with_a_plain_definition(videos, arrays, store, region):
    prediction, _, masks = videos
    metric = Ewarp(region, weights=RANDOM)
    value = metric.clip(arrays(metric))
    flow = store[RaftFlow(0, "reference", NETWORK).array_id]
    rows, columns = np.mgrid[:HEIGHT, :WIDTH].astype(float)
    at = [rows + flow["forward"][0, ..., 1], columns + flow["forward"][0, ..., 0]]
    found = np.stack([map_coordinates(prediction[1, ..., c] / 255, at, order=1, mode="nearest") for c in range(3)], -1)
    hole = masks[0] | (map_coordinates(masks[1].astype(float), at, order=1, mode="nearest") > 0.5)
    inside = flow["visible"][0] & {"frame": True, "hole": hole, "background": ~hole}[region]
    assert inside.sum() > 20
    assert value.value == pytest.approx(((found - prediction[0] / 255) ** 2)[inside].mean(), rel=1e-9)
    assert (value.n, value.excluded) == (1, 0)


def test_the_floor_uses_the_stored_flow_of_the_reference(videos, arrays, store):
    arrays(Ewarp(weights=RANDOM))
    before = set(store)
    floor = Ewarp(subject="reference", weights=RANDOM)
    assert np.isfinite(floor.clip(arrays(floor)).value)
    assert set(store) - before == {floor.measure.array_id}


def test_a_prediction_along_its_own_flow_is_the_floor_of_that_video(videos, arrays):
    _, reference, masks = videos
    expected = arrays(Ewarp(subject="reference", weights=RANDOM))
    asked = []
    comparison = Comparison(reference, 255 - reference, masks, stored=lambda measure, compute: asked.append(measure) or compute())
    itself = Ewarp(flow="prediction", weights=RANDOM).measure(comparison)
    for key, values in expected.items():
        np.testing.assert_array_equal(itself[key], values)
    assert not asked  # flow of a prediction is not kept


def test_equal_frames_score_zero(raft):
    black = np.zeros((2, HEIGHT, WIDTH, 3), np.uint8)
    value = score(Ewarp(weights=RANDOM), black, black, holes(black))
    assert (value.value, value.n) == (0.0, 1)


@pytest.mark.parametrize(
    ("options", "video", "errors", "needs_truth"),
    [
        ({}, "reference", {"prediction", "reference", "masks"}, True),
        ({"flow": "prediction"}, "prediction", {"prediction", "masks"}, False),
        ({"subject": "reference"}, "reference", {"reference", "masks"}, False),
    ],
    ids=["of the reference", "of the prediction", "floor"],
)
def test_passes_read_what_they_need(options, video, errors, needs_truth):
    metric = Ewarp(weights=RANDOM, **options)
    assert metric.measure.reads == errors
    assert RaftFlow(0, metric.flow, NETWORK).reads == {video}
    assert metric.measure.networks == (NETWORK,)
    assert metric.needs_truth is needs_truth


def test_variants_share_no_name():
    metrics = [Ewarp(**options) for options in ({}, {"flow": "prediction"}, {"subject": "reference"}, {"weights": RANDOM})]
    assert len({metric.measure.array_id for metric in metrics}) == 4
    assert len({metric.variant for metric in metrics[:3]}) == 3
    assert RaftFlow(0, "reference", NETWORK).array_id == "raft_flow-raft-large-random0-u12-f32-reference-pairs0-31-v1"
    assert WarpErrorRaft(network=NETWORK).array_id == "ewarp-prediction-along-reference-raft-large-random0-u12-f32-v1"


def test_one_frame_is_nan_with_a_reason(no_network):
    clip = textured(1)
    value = score(Ewarp(weights=RANDOM), clip, clip, holes(clip))
    assert np.isnan(value.value)
    assert "one frame" in value.reason


def test_pairs_without_a_hole_are_excluded_and_counted(no_network):
    clip = noisy(textured(5), 10)
    masks = holes(clip)
    masks[2:] = False
    value = score(Ewarp("hole", weights=RANDOM), clip, clip, masks)
    assert (value.n, value.excluded) == (2, 2)
    assert "hole" in value.reason
    empty = score(Ewarp("hole", weights=RANDOM), clip, clip, np.zeros_like(masks))
    assert np.isnan(empty.value)
    assert (empty.n, empty.excluded) == (0, 4)
    full = score(Ewarp("background", weights=RANDOM), clip, clip, np.ones_like(masks))
    assert np.isnan(full.value)


def test_more_flicker_scores_higher_and_the_hole_leaves_the_background_alone(no_network):
    still = np.repeat(textured(1), 4, axis=0)
    masks = np.repeat(holes(still)[:1], 4, axis=0)
    values = [score(Ewarp("hole", weights=RANDOM), noisy(still, s, where=masks), still, masks).value for s in (0, 5, 20)]
    assert values[0] == 0.0
    assert values == sorted(values)
    assert values[1] > 0.0
    assert not frame_scores(Ewarp("background", weights=RANDOM), noisy(still, 20, where=masks), still, masks).any()


def test_missing_weights_are_no_number(videos, tmp_path, monkeypatch):
    for variable in ("VPBENCH_WEIGHTS", "TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.setenv(variable, str(tmp_path))
    forget()
    with pytest.raises(WeightsError, match="raft_large_C_T_SKHT_V2"):
        score(Ewarp(), *videos)
    with pytest.raises(WeightsError, match=r"nowhere\.pth"):
        score(Ewarp(weights="nowhere.pth"), *videos)


def test_weights_come_from_the_file(raft, tmp_path, monkeypatch):
    path = tmp_path / "raft.pth"
    torch.save(raft.state_dict(), path)
    monkeypatch.setattr(ewarp, "locate", lambda network: Weights("raft-large", path, "torch-state-dict", None, "raft-large-00000000"))
    loaded = load.__wrapped__(Network("raft-large"), "cpu")
    assert not loaded.training
    for name, values in raft.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], values), name


@pytest.mark.parametrize("content", [b"not a checkpoint", None], ids=["damaged", "of another network"])
def test_weights_of_another_network_are_refused(content, tmp_path, monkeypatch):
    path = tmp_path / "other.pth"
    if content is None:
        torch.save({"conv.weight": torch.zeros(3)}, path)
    else:
        path.write_bytes(content)
    monkeypatch.setattr(ewarp, "locate", lambda network: Weights("raft-large", path, "torch-state-dict", None, "raft-large-00000000"))
    with pytest.raises(WeightsError, match=r"other\.pth: not the weights of raft-large"):
        load.__wrapped__(Network("raft-large"), "cpu")


def test_random_weights_are_those_of_their_seed_and_leave_the_generator_alone(raft):
    state = torch.get_rng_state()
    again, other = (load.__wrapped__(Network("raft-large", source), "cpu") for source in (RANDOM, "random-1"))
    assert torch.equal(torch.get_rng_state(), state)
    name = "update_block.flow_head.conv2.weight"
    assert torch.equal(again.state_dict()[name], raft.state_dict()[name])
    assert not torch.equal(other.state_dict()[name], raft.state_dict()[name])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"region": "boundary"}, "known: frame, hole, background"),
        ({"flow": "mask"}, "Valid: prediction, reference"),
        ({"subject": "mask"}, "Valid: prediction, reference"),
        ({"network": "raft-larg"}, "Did you mean 'raft-large'"),
        ({"subject": "reference", "flow": "prediction"}, "its own flow"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        Ewarp(**options)


def test_building_a_metric_imports_no_torch():
    code = "import sys; from vpbench.metrics.ewarp import Ewarp; Ewarp().measure.networks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
