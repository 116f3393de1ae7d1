"""ProPainter as a model: weights, sizes, lengths, what it may see, what it holds. That it computes the right thing is in tests/parity."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.baselines.propainter import recipe
from tests.test_cli import loaded_after
from vpbench.baselines.propainter import steps, weights
from vpbench.baselines.propainter.model import ProPainter
from vpbench.cli import main
from vpbench.clip import Clip, MaskedClip
from vpbench.errors import ConfigError, DataError, ModelError
from vpbench.results import load_summaries
from vpbench.running import Run
from vpbench.tables import rank


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(recipe.write(tmp_path_factory.mktemp("propainter")))


@pytest.fixture(scope="module")
def networks(released: Path) -> weights.Networks:
    return weights.load(str(released))


@pytest.fixture
def model(networks: weights.Networks) -> Any:
    """Makes a model; the networks are loaded once for all tests."""

    def make(**options: Any) -> ProPainter:
        made = ProPainter("random-0", raft_updates=1, **options)
        made.__dict__["_networks"] = networks
        return made

    return make


def clip(count: int = 3, height: int = 128, width: int = 128, name: str = "clip", **changes: Any) -> Clip:
    video, masks = recipe.video(count, height, width)
    return Clip(name, **{"frames": video, "masks": masks, "fps": 8.0, **changes})


def test_every_released_name_and_shape_has_its_place(released: Path) -> None:
    """179, 74 and 216 entries (of RAFT ten that are copies are left out): nothing missing, nothing unexpected; load() is strict."""
    assert [len(recipe.SHAPES[network]()) for network in weights.FILES] == [179, 74, 216]
    networks = weights.load(str(released))
    for module, network in ((networks.completion, "propainter-flow-completion"), (networks.generator, "propainter")):
        assert {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()} == recipe.SHAPES[network]()
        written = recipe.state(network)
        assert all(torch.equal(tensor, written[name]) for name, tensor in module.state_dict().items())
    assert sum(p.numel() for p in networks.generator.parameters()) == 39_429_667
    assert sum(p.numel() for p in networks.completion.parameters()) == 5_079_555
    assert sum(p.numel() for p in networks.raft.parameters()) == 5_257_536


def test_files_that_are_missing_or_of_another_network(released: Path, tmp_path: Path) -> None:
    shutil.copytree(released, tmp_path / "w")
    folder = tmp_path / "w"
    shutil.copy(folder / "ProPainter.pth", folder / "recurrent_flow_completion.pth")
    with pytest.raises(ConfigError, match=r"recurrent_flow_completion\.pth: not the weights of this network: 74 tensors missing"):
        weights.load(str(folder))
    (folder / "recurrent_flow_completion.pth").write_bytes((released / "recurrent_flow_completion.pth").read_bytes()[:-1000])
    with pytest.raises(ConfigError, match=r"recurrent_flow_completion\.pth: cannot be read as tensors by name"):
        weights.load(str(folder))
    state = recipe.state("propainter-flow-completion")
    torch.save({**state, "fusion": torch.ones(1)}, folder / "recurrent_flow_completion.pth")
    with pytest.raises(ConfigError, match="1 tensors unexpected, the first is fusion"):
        weights.load(str(folder))
    torch.save({**state, "upsample.0.bias": torch.ones(3)}, folder / "recurrent_flow_completion.pth")
    with pytest.raises(ConfigError, match=r"upsample\.0\.bias is \(3,\), expected \(32,\)"):
        weights.load(str(folder))
    torch.save([1], folder / "recurrent_flow_completion.pth")
    with pytest.raises(ConfigError, match="holds no tensors by name"):
        weights.load(str(folder))
    (folder / "raft-things.pth").unlink()
    with pytest.raises(ConfigError, match=r"raft-things\.pth: is missing"):
        ProPainter(str(folder)).fingerprints()


def test_check_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str], released: Path) -> None:
    assert main(["check", "model=propainter", f"model.weights={tmp_path / 'no'}"]) == 1
    said = capsys.readouterr().out
    assert "S-Lab License 1.0 (non-commercial)" in said
    assert "vpbench weights add recurrent_flow_completion.pth --network propainter-flow-completion --trust" in said
    assert "vpbench weights get raft-things" in said
    assert main(["check", "model=propainter", f"model.weights={released}"]) == 0
    assert main(["check", "model=propainter", "model.weights=random-3"]) == 0
    assert main(["check", "model=propainter", "model.weights=null"]) == 1, "as empty"
    capsys.readouterr()
    assert main(["check", "model=propainter", "model.weights=random"]) == 2
    assert "random weights are random-<seed>" in capsys.readouterr().err


def test_files_of_another_network_stop_a_run_before_its_first_clip(
    tmp_path: Path, released: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(released, tmp_path / "w")
    shutil.copy(released / "raft-things.pth", tmp_path / "w" / "ProPainter.pth")
    assert main(["check", "model=propainter", f"model.weights={tmp_path / 'w'}"]) == 1
    assert "ProPainter.pth: not the weights of this network" in capsys.readouterr().out
    call = ["run", "model=propainter", f"model.weights={tmp_path / 'w'}", "benchmark=demo", "limit=1", f"out={tmp_path / 'runs'}"]
    assert main(call) == 2
    assert "ProPainter.pth: not the weights of this network" in capsys.readouterr().out
    assert not list(tmp_path.glob("runs/demo/*"))


def test_naming_it_imports_no_torch(tmp_path: Path) -> None:
    code = "from vpbench.baselines.propainter.model import ProPainter; ProPainter('random-0').needs()"
    assert "torch" not in loaded_after(code, tmp_path)


@pytest.mark.parametrize(("height", "width"), [(128, 128), (131, 150), (40, 56), (128, 8)])
def test_any_size_keeps_what_is_known(model: Any, height: int, width: int) -> None:
    """Padded by reflection and cut again: outside of the grown hole every pixel is the clip's own."""
    given = clip(2, height, width)
    made = model()(MaskedClip.of(given), seed=0)
    assert made.shape == given.frames.shape
    from scipy.ndimage import binary_dilation

    for t in range(2):
        known = ~binary_dilation(given.masks[t], iterations=4)
        np.testing.assert_array_equal(made[t][known], given.frames[t][known])
        assert (made[t][given.masks[t]] != 0).any()


def test_it_can_work_at_another_size(model: Any) -> None:
    given = clip(2, 200, 260)
    made = model(height=128, width=136)(MaskedClip.of(given), seed=0)
    assert made.shape == given.frames.shape
    corner = np.s_[:, :20, :20]
    np.testing.assert_array_equal(made[corner], given.frames[corner])
    assert (made != MaskedClip.of(given).frames)[given.masks].any()


def test_a_thin_hole_survives_a_smaller_size(model: Any) -> None:
    """A line of one pixel between the sampled ones: its black must not come back as a known colour."""
    given = clip(2, 256, 256, frames=np.full((2, 256, 256, 3), 200, np.uint8), masks=np.zeros((2, 256, 256), bool))
    given.masks[:, :, 100] = True
    small, holes, _ = model(height=128, width=128, dilations=0)._prepared("clip", MaskedClip.of(given).frames, given.masks)
    assert holes[:, :, 50].all()
    assert (small[~holes] == 200).all()


def test_what_the_hole_held_has_no_influence(model: Any) -> None:
    given = clip()
    other = clip(frames=np.where(given.masks[..., None], np.uint8(200), given.frames))
    unblanked = replace(MaskedClip.of(given), frames=other.frames)
    made = [model()(one, seed=0) for one in (MaskedClip.of(given), MaskedClip.of(other), unblanked)]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_of_an_edit_it_sees_the_source(model: Any) -> None:
    """As the authors use it: the object that is to go is in the frames that the flow comes from, and never in what is carried."""
    given = clip()
    edit = MaskedClip.of(clip(operation="remove"))
    assert (model()(edit, seed=0) != model()(MaskedClip.of(given), seed=0)).any()


def test_clips_without_a_hole_come_back(model: Any) -> None:
    given = clip(masks=np.zeros((3, 128, 128), bool))
    np.testing.assert_array_equal(ProPainter("nowhere")(MaskedClip.of(given), seed=0), given.frames)


def test_a_hole_that_is_everything_and_a_single_frame_are_the_generators(model: Any, caplog: pytest.LogCaptureFixture) -> None:
    everything = clip(2, masks=np.ones((2, 128, 128), bool))
    assert model()(MaskedClip.of(everything), seed=0).std() > 0
    assert "hole is all of every frame" in caplog.text
    assert model()(MaskedClip.of(clip(1)), seed=0).shape == (1, 128, 128, 3)


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({"compat": "inference"}, clip(1), "has one frame; the authors' code needs two"),
        ({"compat": "inference"}, clip(2, 127, 200), "would be worked on at 200x120"),
        ({"compat": "evaluation"}, clip(1), "has one frame"),
        ({"compat": "evaluation", "height": 132, "width": 128}, clip(2), "needs multiples of 8"),
    ],
)
def test_what_the_authors_code_cannot_do_is_refused_in_its_modes(model: Any, options: dict[str, Any], given: Clip, message: str) -> None:
    with pytest.raises(DataError, match=message):
        model(**options)(given if options["compat"] == "evaluation" else MaskedClip.of(given), seed=0)


def test_the_evaluation_without_the_reference_is_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match=r"set model\.needs_reference=true"):
        model(compat="evaluation")(MaskedClip.of(clip()), seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"compat": "official"}, "compat"),
        ({"precision": "half"}, "precision"),
        ({"neighbours": 1}, "neighbours=1"),
        ({"raft_updates": 0}, "raft_updates=0"),
        ({"subvideo": 5}, "subvideo=5"),
        ({"height": 128}, "give both"),
        ({"height": 0, "width": 8}, "height=0"),
    ],
)
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ProPainter(**options)


def test_it_draws_nothing_and_clips_do_not_depend_on_each_other(model: Any) -> None:
    one, other = MaskedClip.of(clip()), MaskedClip.of(clip(2, name="other"))
    made = model()
    first = made(one, seed=0)
    made(other, seed=1)
    np.testing.assert_array_equal(made(one, seed=2), first)


def test_stages_are_on_record(model: Any) -> None:
    made = model()
    made(MaskedClip.of(clip()), seed=0)
    found = made.stages()
    assert list(found) == ["flow", "completion", "propagation", "generation"]
    assert all(stage["seconds"] > 0 for stage in found.values())


def test_out_of_memory_is_the_clips_failure_with_numbers(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.")

    monkeypatch.setattr(steps, "completed", fail)
    with pytest.raises(ModelError, match=r"clip: out of memory on the device .*flow .* GB.*Try a smaller subvideo"):
        model()(MaskedClip.of(clip()), seed=0)


@pytest.fixture
def seen(networks: weights.Networks, monkeypatch: pytest.MonkeyPatch) -> dict[str, list[int]]:
    """How many frames each network got at once, call by call."""
    calls: dict[str, list[int]] = {"flow": [], "completion": [], "propagation": [], "encode": [], "fill": []}
    flows, complete, propagate = steps.raft.flows, steps.complete, steps.propagate
    encode, fill = networks.generator.encode, networks.generator.fill

    def spy(name: str, call: Any, position: int) -> Any:
        def called(*arguments: Any) -> Any:
            calls[name].append(len(arguments[position]))
            return call(*arguments)

        return called

    monkeypatch.setattr(steps.raft, "flows", spy("flow", flows, 1))
    monkeypatch.setattr(steps, "complete", spy("completion", complete, 2))
    monkeypatch.setattr(steps, "propagate", spy("propagation", propagate, 0))
    monkeypatch.setattr(networks.generator, "encode", spy("encode", encode, 0))
    monkeypatch.setattr(networks.generator, "fill", spy("fill", fill, 0))
    return calls


def test_no_network_ever_gets_more_than_a_piece(model: Any, seen: dict[str, list[int]]) -> None:
    made = model(neighbours=4, reference_stride=2, subvideo=6)
    made(MaskedClip.of(clip(24)), seed=0)
    bounds = {"flow": 13, "completion": 6 + 2 * steps.FLOW_CONTEXT + 1, "propagation": 6 + 2 * steps.FRAME_CONTEXT, "encode": 3, "fill": 5}
    assert all(max(found) <= bounds[name] for name, found in seen.items())
    assert sum(seen["encode"]) <= 24 + 12, "every frame is encoded once for its own windows, and once where others look at it"


def test_windows_without_a_hole_are_left_out(model: Any, seen: dict[str, list[int]]) -> None:
    given = clip(20)
    masks = given.masks.copy()
    masks[8:] = False
    made = model(neighbours=4)(MaskedClip.of(clip(20, masks=masks)), seed=0)
    assert len(seen["fill"]) == 5
    np.testing.assert_array_equal(made[10:], given.frames[10:])


def test_what_is_made_once_is_what_would_be_made_each_time(networks: weights.Networks) -> None:
    given = clip(9)
    frames = torch.from_numpy(given.frames).permute(0, 3, 1, 2).float() / 255 * 2 - 1
    masks = torch.from_numpy(given.masks)[:, None].float()
    flows = tuple(torch.from_numpy(flow) for flow in recipe.flows("cached", 9, 128, 128))
    with torch.inference_mode():
        layout = list(steps.windows(9, 4, 3, None))
        found = list(steps.filled(networks.generator, frames, (flows[0], flows[1]), masks, masks, iter(layout), torch.device("cpu"), False))
        for (local, elsewhere), (which, pixels) in zip(layout, found, strict=True):
            assert local == which
            chosen = [*local, *elsewhere]
            between = slice(local.start, local.stop - 1)
            whole = networks.generator(frames[chosen], (flows[0][between], flows[1][between]), masks[chosen], masks[chosen], len(local))
            torch.testing.assert_close(pixels, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("count", "length"), [(1, 5), (5, 5), (6, 5), (23, 5), (23, None)])
def test_pieces_own_everything_once(count: int, length: int | None) -> None:
    owned = [list(range(count))[seen][own] for seen, own in steps.pieces(count, length, 2)]
    assert [i for part in owned for i in part] == list(range(count))


def test_random_weights_are_never_ranked_and_the_evaluation_sees_the_hole(config: dict[str, Any], tmp_path: Path) -> None:
    leaf = {"_target_": "vpbench.baselines.propainter.model.ProPainter", "name": "pp", "weights": "random-0", "raft_updates": 1}
    result = Run({**config, "model": leaf}).execute()
    assert result.failed == {}
    (row,) = rank(load_summaries([result.folder])).groups[0].rows
    assert (row.place, row.reason) == (None, "not ranked: seeded random weights")
    assert json.loads((result.folder / "run.json").read_text())["identity"]["model"]["weights"] == {"weights": "random-0"}
    leaf |= {"compat": "evaluation", "needs_reference": True, "height": 128, "width": 128, "subvideo": None}
    result = Run({**config, "model": leaf, "limit": 1}).execute()
    assert result.failed == {}
    (row,) = rank(load_summaries([result.folder])).groups[0].rows
    assert row.reason == "sees hole; seeded random weights"
