"""The article's tables as experiments, whole: every model that they name, on small checkpoints that lie where each looks for its own."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf

from tests.benchmarks.files import REAL, frames, holes, write_masks, write_pictures
from tests.benchmarks.test_vpbench import PEXELS, add_clip, labels, listed
from tests.conftest import CONF
from vpbench import weights
from vpbench.cli import main

pytest.importorskip("diffusers")
from tests.baselines.cococo import tiny as cococo
from tests.baselines.diffusion import hub
from tests.baselines.propainter import recipe
from tests.external import test_ditctrl, test_revideo, test_uniedit

SMALL = ["limit=1", "benchmark.prepare.size=[128,128]", "benchmark.prepare.max_frames=9", "device=cpu", "protocol.missing=skip"]
INPAINT = ["cococo", "cog_inp_official", "propainter_official", "videopainter_official"]
EDIT = ["ditctrl", "revideo", "uniedit", "videopainter_official"]


@pytest.fixture(scope="module", autouse=True)
def everything(tmp_path_factory: pytest.TempPathFactory) -> object:
    """All that the experiments need, in the places that their users would have it."""
    root = tmp_path_factory.mktemp("article")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(root / "cache"))
        patch.setenv("HF_HUB_CACHE", str(hub.write(root / "hub")))
        patch.setenv("SEEN", str(root / "seen"))
        for name, test in (("UNIEDIT", test_uniedit), ("DITCTRL", test_ditctrl), ("REVIDEO", test_revideo)):
            patch.setenv(f"{name}_PYTHON", test_uniedit.PYTHON)
            patch.setenv(f"{name}_CODE", str(test.stand_in(root / name)))
        weights.forget()
        files = {network: recipe.write(root / "propainter") / file for network, file in recipe.FILES.items()}
        files |= {f"cococo-{n}": cococo.write_parts(root / "cococo") / f"model_{n}.pth" for n in range(4)}
        for network, file in files.items():
            assert main(["weights", "add", str(file), "--network", network, "--trust"]) == 0
        yield
    weights.forget()


def made(root: Path) -> dict[str, Path]:
    """Benchmarks of one small clip, by layout."""
    base = root / "vpbench"
    add_clip(base, PEXELS, labels(), fps=8)
    for long in ("", "_long"):
        listed(base, f"{PEXELS},4,0,20,8,a beach,sand\n", f"inpaint{long}")
        listed(base, f"{PEXELS},4,0,20,8,a beach,a beach at night,sand,Change the sand\n", f"edit{long}")
    write_pictures(root / "davis/JPEGImages_432_240/bear", frames(9))
    write_masks(root / "davis/test_masks/bear", holes(9))
    (root / "davis/davis_caption.csv").write_text("Video_Index,Video_Caption,Masked_Target_Caption\n1,a bear walks,a bear\n")
    return {"vpbench": base, "davis": root / "davis"}


def swept(experiment: str, folder: Path) -> list[str]:
    """The models that an experiment names, with COCOCO for few steps and in numbers that a CPU is fast with: a leaf of the user's own."""
    (folder / "model").mkdir(parents=True)
    leaf = {"defaults": ["cococo", "_self_"], "steps": 2, "precision": "float32"}
    OmegaConf.save(leaf, folder / "model/quick_cococo.yaml")
    named = OmegaConf.load(CONF / f"experiment/{experiment}.yaml").hydra.sweeper.params.model
    return ["--config-dir", str(folder), f"model={named.replace('cococo', 'quick_cococo')}"]


@pytest.mark.parametrize(
    ("experiment", "layout", "models"),
    [
        ("article_inpaint", "vpbench", INPAINT),
        ("article_inpaint_long", "vpbench", INPAINT),
        ("article_davis_random", "davis", INPAINT),
        ("article_edit", "vpbench", EDIT),
        ("article_edit_long", "vpbench", EDIT),
    ],
)
def test_an_experiment_makes_and_scores_a_clip_with_every_model(
    experiment: str, layout: str, models: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = REAL / f"{layout}_layout" if REAL.is_dir() else made(tmp_path)[layout]
    asked = [*swept(experiment, tmp_path / "conf"), f"experiment={experiment}", f"benchmark.root={root}", *SMALL]
    assert main(["check", *asked]) == 0, capsys.readouterr().out
    assert main(["run", *asked, f"out={tmp_path / 'runs'}"]) == 0, capsys.readouterr().out
    assert main(["rank", str(tmp_path / "runs")]) == 0
    for protocol in ("vpbench-official", "standard"):
        tables = [pd.read_csv(path) for path in (tmp_path / "runs").glob(f"*/*/scores/{protocol}-raw/clips.csv")]
        assert len(tables) == len(models)
        assert all(len(table) == 1 and table.filter(like="psnr").notna().any(axis=None) for table in tables)
