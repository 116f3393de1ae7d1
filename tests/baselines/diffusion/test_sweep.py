"""All diffusion models in one command, over both kinds of splits, on tiny checkpoints that lie where the hub's tools would keep them."""

import pandas as pd
import pytest

from tests.benchmarks.test_vpbench import PEXELS, add_clip, labels, listed
from vpbench.cli import main

pytest.importorskip("diffusers")
from tests.baselines.diffusion import hub

MODELS = ("videopainter", "cog_inp", "latent_blend", "wan_vace")


def test_one_command_makes_and_scores_all_models_on_both_splits(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(hub.write(tmp_path / "hub")))
    data = tmp_path / "data"
    add_clip(data, PEXELS, labels())
    listed(data, f"{PEXELS},4,0,6,25,a beach,sand\n", "inpaint")
    listed(data, f"{PEXELS},4,0,6,25,a beach,a beach at night,sand,Change the sand\n", "edit")
    sweep = [f"model={','.join(MODELS)}", "benchmark=vpbench", "benchmark.split=inpaint,edit", "limit=1"]
    assert main(["run", "-m", *sweep, f"benchmark.root={data}", "protocol=pixels", f"out={tmp_path / 'runs'}"]) == 0
    for split in ("inpaint", "edit"):
        runs = tmp_path / "runs" / f"vpbench-{split}"
        assert sorted(path.name.rsplit("-", 1)[0] for path in runs.glob("*-*") if path.is_dir()) == sorted(MODELS)
        assert len(list(runs.glob("*/predictions/*.mkv"))) == len(MODELS)
        scores = [pd.read_csv(path) for path in runs.glob("*/scores/pixels-raw/clips.csv")]
        assert len(scores) == len(MODELS)
        assert all(table["psnr[background]"].notna().all() for table in scores)
