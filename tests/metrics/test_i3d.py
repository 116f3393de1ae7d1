import numpy as np
import pytest

from vpbench import weights
from vpbench.measuring import Network
from vpbench.weights import Weights, WeightsError

torch = pytest.importorskip("torch")
from vpbench.metrics import i3d  # noqa: E402

RANDOM = Network("i3d-rgb-imagenet", "random-0")


def videos(count, frames=12, height=40, width=48, seed=0):
    """Coloured noise of different contrast, uint8 (N, 3, T, H, W)."""
    rng = np.random.default_rng(seed)
    contrast = 255 / np.arange(1, count + 1).reshape(-1, 1, 1, 1, 1)
    return torch.from_numpy((contrast * rng.random((count, 3, frames, height, width))).astype(np.uint8))


@pytest.fixture(scope="module")
def network():
    return i3d.load(RANDOM, "cpu", 1e-3, "eval")


@pytest.fixture(scope="module")
def instance():
    return i3d.load(RANDOM, "cpu", 1e-3, "instance")


def saved(network, path, change=lambda state: state):
    """The network as the published file holds it: without the counters of BatchNorm."""
    state = {name: values for name, values in network.state_dict().items() if "num_batches" not in name}
    torch.save(change(state), path)
    return path


def test_has_the_published_names_and_sizes(network):
    state = network.state_dict()
    assert len([name for name in state if "num_batches" not in name]) == 287
    assert sum(values.numel() for values in network.parameters()) == 12_697_264
    assert state["Mixed_4e.b1b.conv3d.weight"].shape == (288, 144, 3, 3, 3)


def test_reads_a_file_with_the_published_names(network, tmp_path):
    other = i3d.I3D()
    i3d.read(other, saved(network, tmp_path / "rgb_imagenet.pt"))
    clip = videos(1)
    with torch.inference_mode():
        assert torch.equal(other.eval().pooled(clip, 0.0), network.pooled(clip, 0.0))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda state: {name: state[name] for name in list(state)[:-1]}, id="a name is missing"),
        pytest.param(lambda state: state | {"more": state["logits.conv3d.bias"]}, id="a name is unknown"),
        pytest.param(lambda state: state | {"logits.conv3d.bias": torch.zeros(157)}, id="another number of classes"),
        pytest.param(lambda state: [1, 2], id="no state"),
    ],
)
def test_weights_of_another_network_are_one_clear_error(network, tmp_path, change):
    path = saved(network, tmp_path / "other.pt", change)
    with pytest.raises(WeightsError, match=r"other\.pt: not weights of I3D"):
        i3d.read(i3d.I3D(), path)


@pytest.mark.parametrize("keep", [0, 100, 100_000])
def test_a_damaged_file_is_one_clear_error(network, tmp_path, keep):
    path = saved(network, tmp_path / "cut.pt")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(WeightsError, match=r"cut\.pt: not weights of I3D"):
        i3d.read(i3d.I3D(), path)


def test_missing_weights_are_an_error_and_no_number(tmp_path):
    with pytest.raises(WeightsError):
        i3d.load(Network("i3d-rgb-imagenet", str(tmp_path / "nothing.pt")), "cpu", 1e-3, "eval")


def test_random_weights_are_reproducible_and_leave_the_global_generator_alone(network):
    i3d.load.cache_clear()
    before = torch.get_rng_state()
    again = i3d.load(RANDOM, "cpu", 1e-3, "eval")
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(again.logits.conv3d.weight, network.logits.conv3d.weight)
    other = i3d.load(Network("i3d-rgb-imagenet", "random-1"), "cpu", 1e-3, "eval")
    assert not torch.equal(other.logits.conv3d.weight, network.logits.conv3d.weight)


def test_random_weights_keep_activations_alive(network):
    with torch.inference_mode():
        pooled = network.pooled(videos(1), -1.0)
    assert 0.1 < pooled.std() < 10
    assert (pooled > 0).float().mean() > 0.5


# Statistics of few positions amplify rounding (channels that are almost constant are divided by almost nothing), layer by layer.
DEEP = {"eval": 1e-5, "instance": 1e-3}


@pytest.mark.parametrize("norm", ["eval", "instance"])
def test_a_batch_gives_what_each_video_gives_alone(norm, network, instance):
    model = instance if norm == "instance" else network
    clips = videos(2, 9, 33, 47)
    with torch.inference_mode():
        together = model.pooled(clips, 0.0)
        alone = torch.cat([model.pooled(clip[None], 0.0) for clip in clips])
    assert (together - alone).abs().max() < DEEP[norm] * alone.abs().max()
    assert (alone[0] - alone[1]).abs().max() > 1e-2 * alone.abs().max()


@pytest.mark.parametrize("norm", ["eval", "instance"])
def test_pieces_over_time_give_what_the_whole_gives(norm, network, instance, monkeypatch):
    model = instance if norm == "instance" else network
    clip = videos(1, 21)
    with torch.inference_mode():
        whole = model.activations(clip, 0.0, ("Mixed_3c", "Mixed_5c"))
        monkeypatch.setattr(i3d, "PIECE", 2**14)
        pieces = model.activations(clip, 0.0, ("Mixed_3c", "Mixed_5c"))
    for tap, tolerance in (("Mixed_3c", 1e-5), ("Mixed_5c", DEEP[norm])):
        assert (whole[tap] - pieces[tap]).abs().max() < tolerance * whole[tap].abs().max()


def test_taps_do_not_change_what_follows(network):
    clip = videos(1)
    taps = ("Conv3d_2c_3x3", "Mixed_3c", "Mixed_4f", "Mixed_5c")
    with torch.inference_mode():
        found = network.activations(clip, 0.0, taps)
        assert [found[tap].shape[1] for tap in taps] == [192, 480, 832, 1024]
        alone = network.activations(clip, 0.0, taps[-1:])["Mixed_5c"]
    assert (found["Mixed_5c"] - alone).abs().max() < 1e-5 * alone.abs().max()


def test_class_scores_need_nine_frames(network):
    clip = videos(1, 8, 32, 32)
    with torch.inference_mode():
        with pytest.raises(ValueError, match="9 frames"):
            network.scores(clip, -1.0)
        nine = network.activations(videos(1, 9, 32, 32), -1.0, ("Mixed_5c",))["Mixed_5c"]
        assert nine.shape[2] == 2
        assert network.logits(nine.expand(1, 1024, 2, 7, 7)).shape == (1, 400)


class Detector(torch.nn.Module):
    """Refuses to be called in any other way than raw."""

    def forward(self, x: torch.Tensor, rescale: bool = True, resize: bool = True, return_features: bool = False) -> torch.Tensor:
        assert return_features
        assert not rescale
        assert not resize
        return x.flatten(1)[:, :400]


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_the_torchscript_detector_gets_minus_one_to_one_and_does_not_resize(tmp_path, monkeypatch):
    path = tmp_path / "i3d_torchscript.pt"
    torch.jit.script(Detector()).save(path)
    monkeypatch.setattr(i3d, "locate", lambda network: Weights(network.name, path, "torchscript", None, "x"))
    found = i3d.scorer(Network("i3d-torchscript"), "cpu", 1e-3)(torch.tensor([0.0, 255.0]).repeat(200).reshape(1, 400))
    np.testing.assert_allclose(found[0, :2], [-1, 1], atol=1e-6)


def test_a_torchscript_detector_of_an_unknown_hash_is_never_loaded(tmp_path):
    path = tmp_path / "i3d_torchscript.pt"
    path.write_bytes(b"code")
    with pytest.raises(WeightsError):
        i3d.scorer(Network("i3d-torchscript", str(path)), "cpu", 1e-3)


def test_the_networks_are_in_the_table_of_weights():
    from vpbench.metrics.i3d_features import NETWORKS

    assert all(weights.files_of(name) for name in NETWORKS.values())
