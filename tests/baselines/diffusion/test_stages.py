import json
import time

import numpy as np
import pytest

from vpbench.baselines.diffusion.stages import Kept, Stages
from vpbench.running import Run

pytest.importorskip("torch")


def test_a_stage_that_is_entered_again_adds_up():
    stages = Stages()
    for _ in range(2):
        with stages("denoise"):
            time.sleep(0.02)
    with stages("decode"):
        pass
    record = stages.record()
    assert list(record) == ["denoise", "decode"]
    assert 0.04 <= record["denoise"]["seconds"] < 1
    assert record["denoise"]["peak_memory_bytes"] > 0
    stages.clear()
    assert stages.record() == {}


def test_a_stage_that_fails_is_recorded_too():
    stages = Stages()
    with pytest.raises(MemoryError), stages("denoise"):
        raise MemoryError
    assert "denoise" in stages.record()


def test_arrays_are_computed_once_per_key(tmp_path):
    kept, calls = Kept(), []

    def compute():
        calls.append(1)
        return {"x": np.arange(3)}

    kept.arrays("text", {"caption": "a"}, compute)
    kept.arrays("text", {"caption": "a"}, compute)
    assert len(calls) == 2  # without a folder nothing is kept
    kept.folder = tmp_path
    for caption in ("a", "a", "b", "a"):
        np.testing.assert_array_equal(kept.arrays("text", {"caption": caption}, compute)["x"], np.arange(3))
    assert len(calls) == 4
    kept.arrays("first", {"caption": "a"}, compute)
    assert len(calls) == 5


class Staged:
    """A model with everything that the harness may ask for."""

    def __init__(self, weights="w1"):
        self.weights = weights

    def __call__(self, clip, *, seed):
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{clip.name}.txt").write_text("kept")
        return clip.frames

    def fingerprints(self):
        return {"checkpoint": self.weights}

    def keep_in(self, folder):
        self.folder = folder

    def stages(self):
        return {"denoise": {"seconds": 1.5, "peak_memory_bytes": 2}}


def test_the_harness_records_stages_and_gives_a_folder_to_keep_things_in(config):
    leaf = {"_target_": "vpbench.models.custom", "target": "tests.baselines.diffusion.test_stages.Staged", "kwargs": {}}
    run = Run({**config, "model": leaf, "limit": 1})
    result = run.execute()
    record = json.loads((result.folder / "clips" / "a.json").read_text())
    assert record["stages"]["denoise"]["seconds"] == 1.5
    assert (result.folder.parent / ".kept" / "a.txt").read_text() == "kept"
    other = Run({**config, "model": {**leaf, "kwargs": {"weights": "w2"}}})
    assert run.identity["model"]["weights"] == {"checkpoint": "w1"}
    assert run.id != other.id
