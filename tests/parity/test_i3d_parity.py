"""I3D and what is computed from it, beside the outputs of the original code (fixtures/i3d_upstream.txt says how they were made)."""

from pathlib import Path

import numpy as np
import pytest

from tests.parity.i3d_recipe import pair, state, video
from vpbench import weights
from vpbench.measuring import Comparison
from vpbench.metrics.fvd import Fvd
from vpbench.metrics.pvcs import Pvcs
from vpbench.metrics.vfid import Vfid

torch = pytest.importorskip("torch")
from vpbench.metrics import i3d, i3d_features  # noqa: E402

FIXTURE = Path(__file__).parent / "fixtures" / "i3d_upstream.npz"
# Name, frames, height and width of the recipe's videos.
LOGITS = ("logits", 17, 224, 224)
ODD = ("odd", 13, 93, 107)
PVCS = ("pvcs", 12, 64, 64)
VFID = (("vfid 0", 10, 80, 96), ("vfid 1", 11, 80, 96), ("vfid 2", 10, 80, 96))
CDFVD = tuple((f"cdfvd {i}", 16, 60, 90) for i in range(3))


@pytest.fixture(scope="module")
def upstream():
    with np.load(FIXTURE, allow_pickle=False) as file:
        return dict(file)


@pytest.fixture(scope="module", autouse=True)
def recipe_weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("i3d") / "rgb_imagenet.pt"
    torch.save({name: torch.from_numpy(values) for name, values in state().items()}, path)
    found = weights.Weights("i3d", path, "torch-state-dict", None, "i3d-recipe")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(i3d, "locate", lambda network: found)
        i3d.load.cache_clear()
        yield path
    i3d.load.cache_clear()


def network(path, eps=1e-3, norm="eval"):
    model = i3d.I3D(eps, norm)
    i3d.read(model, path)
    return model.eval().requires_grad_(False)


def seen(frames):
    return torch.from_numpy(frames).permute(3, 0, 1, 2)[None]


def arrays(metric, shapes):
    found = {}
    for shape in shapes:
        prediction, reference = pair(*shape)
        found[shape[0]] = metric.measure(Comparison(prediction, reference, np.zeros(reference.shape[:3], bool)))
    return found


def error(ours, theirs):
    return np.abs(ours - theirs).max() / np.abs(theirs).max()


def test_class_scores_agree_with_pytorch_i3d(recipe_weights, upstream):
    ours = network(recipe_weights).scores(seen(video(*LOGITS)), low=-1.0)
    assert error(ours.numpy(), upstream["logits"]) < 1e-5


def test_pooled_features_agree_with_pytorch_i3d(recipe_weights, upstream):
    ours = network(recipe_weights).pooled(seen(video(*ODD)), low=0.0)
    assert error(ours.numpy(), upstream["pooled_eval"]) < 1e-5


@pytest.mark.parametrize("piece", [pytest.param(2**25, id="at once"), pytest.param(2**15, id="in pieces")])
def test_instance_norm_agrees_with_pytorch_i3d_in_training_mode(recipe_weights, upstream, piece, monkeypatch):
    monkeypatch.setattr(i3d, "PIECE", piece)
    ours = network(recipe_weights, norm="instance").pooled(seen(video(*ODD)), low=0.0)
    assert error(ours.numpy(), upstream["pooled_train"]) < 1e-4


def test_vfid_agrees_with_videopainter(upstream):
    found = arrays(Vfid(), VFID)
    for side in ("prediction", "reference"):
        ours = np.concatenate([clip[side] for clip in found.values()])
        assert error(ours, upstream[f"vfid_{side}"]) < 1e-4
    assert Vfid().reduce(found).value == pytest.approx(float(upstream["vfid"]), rel=1e-4)


@pytest.mark.parametrize(("window", "name"), [(0, "devil_vfid"), (10, "devil_vfid_clips")])
def test_vfid_in_eval_mode_agrees_with_devil(upstream, window, name):
    metric = Vfid(norm="eval", window=window)
    assert metric.reduce(arrays(metric, VFID)).value == pytest.approx(float(upstream[name]), rel=1e-4)


def test_pvcs_agrees_with_devil(upstream):
    found = arrays(Pvcs(), [PVCS])["pvcs"]
    np.testing.assert_allclose(Pvcs().frames(found), upstream["pvcs"], rtol=1e-5)
    assert Pvcs().clip(found).value == pytest.approx(upstream["pvcs"].mean(), rel=1e-5)


@pytest.fixture(scope="module")
def cdfvd_arrays(recipe_weights):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(i3d_features, "label", lambda network: "i3d-recipe")
        return arrays(Fvd(detector="videogpt", resize="cd", ddof=0), CDFVD)


@pytest.mark.parametrize("side", ["prediction", "reference"])
def test_class_scores_of_resized_windows_agree_with_cdfvd(cdfvd_arrays, upstream, side):
    ours = np.concatenate([clip[side] for clip in cdfvd_arrays.values()])
    assert error(ours, upstream[f"cdfvd_{side}"]) < 1e-5


def test_fvd_agrees_with_cdfvd(cdfvd_arrays, upstream):
    value = Fvd(detector="videogpt", resize="cd", ddof=0).reduce(cdfvd_arrays).value
    assert value == pytest.approx(float(upstream["cdfvd"]), rel=1e-4)
    assert Fvd(detector="videogpt", resize="cd").reduce(cdfvd_arrays).value != pytest.approx(value, rel=1e-3)
