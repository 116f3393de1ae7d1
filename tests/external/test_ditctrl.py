"""The adapter of DiTCtrl, with a checkout of our own that has the same files, functions and arguments."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.external.checkouts import PYTHON, Edits, checkout, edit, problems
from vpbench.baselines.external.ditctrl import WEIGHTS, DiTCtrl
from vpbench.check import check
from vpbench.errors import ConfigError, DataError, ModelError
from vpbench.results import load_summaries
from vpbench.running import Run
from vpbench.tables import rank

STAND_IN = {
    "sat/configs/cogvideox_2b.yaml": "model: {}\n",
    "sat/configs/inference.yaml": "args: {seed: 42}\n",
    "sat/arguments.py": """
        import os, sys, yaml

        class Node(dict):
            def __getattr__(self, name):
                if name.startswith("__"):
                    raise AttributeError(name)
                return self.setdefault(name, Node())
            __setattr__ = dict.__setitem__

        class Args:
            pass

        def get_args(args_list):
            assert args_list[:4] == ["--base", "configs/cogvideox_2b.yaml", "configs/inference.yaml", "--custom-config"], args_list
            assert os.path.isfile(args_list[1]), "started in sat/"
            assert [os.environ[name] for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE")] == list("1001")
            args = Args()
            args.deepspeed_config = {}
            args.case = args_list[4]
            with open(args.case) as file:
                args.__dict__.update(yaml.safe_load(file)["args"])
            args.model_config = Node(conditioner_config=Node(params=Node(emb_models=[Node(params=Node())])))
            return args
        """,
    "sat/sample_video_edit.py": """
        import json, os
        import cv2
        import numpy as np

        class SATVideoDiffusionEngine:
            pass

        class Text:
            max_length = 226

            def tokenizer(self, text):
                self.input_ids = text.split()
                return self

        class Network:
            def __init__(self, args):
                self.built = os.getpid()
                self.conditioner = self
                self.embedders = [Text()]

        def get_model(args, kind):
            assert kind is SATVideoDiffusionEngine
            with open(os.environ["SEEN"] + ".built", "a") as file:
                file.write("x")
            return Network(args)

        def sampling_main(args, model_cls):
            assert isinstance(model_cls, Network)
            seen = {k: v for k, v in vars(args).items() if k != "model_config"}
            config = args.model_config
            seen["vae"] = config.first_stage_config.params.ckpt_path
            seen["t5"] = config.conditioner_config.params.emb_models[0].params.model_dir
            sampler = config.loss_fn_config.params.sigma_sampler_config.params
            seen["set"] = [config.first_stage_config.params.cp_size, sampler.uniform_sampling]
            with open(os.environ["SEEN"], "a") as file:
                file.write(json.dumps(seen) + "\\n")
            os.makedirs(args.output_dir, exist_ok=True)
            path = os.path.join(args.output_dir, "editing_frames49.mp4")
            film = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*"mp4v"), args.sampling_fps, (1440, 480))
            for t in range(49):
                frame = np.zeros((480, 1440, 3), np.uint8)
                frame[:, :720] = 250
                frame[:, 720:, 2] = 4 * t  # red
                film.write(frame)
            film.release()
        """,
}


def stand_in(folder: Path) -> Path:
    """Write what stands for a checkout and its weights."""
    checkout(folder / "sat/CogVideoX-2b-sat", {name.split("|")[0]: "x" for name in WEIGHTS})
    return checkout(folder, STAND_IN)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return stand_in(tmp_path / "DiTCtrl")


@pytest.fixture
def model(code: Path, tmp_path: Path) -> Iterator[DiTCtrl]:
    made = DiTCtrl(PYTHON, str(code), env={"SEEN": str(tmp_path / "seen")})
    made.keep_in(tmp_path / "kept")
    yield made
    made.release()


def test_the_right_half_is_taken_and_frames_after_49_are_missing(model: DiTCtrl, tmp_path: Path, code: Path) -> None:
    made = model(edit(60, source_caption="ein Kätzchen läuft"), seed=7)
    assert made.present == tuple(range(49))
    assert made.frames.shape == (49, 60, 90, 3)
    np.testing.assert_allclose(made.frames[:, 30, 40, 0], 4 * np.arange(49), atol=6)
    assert made.frames[..., 1:].max() < 30, "nothing of the left half"
    said = model.stages()["program"]
    assert said["native"] == {"width": 720, "height": 480, "frames": 49}
    assert said["text_used"] == "a dog runs"
    assert said["conditioned_on_source"] is said["text_truncated"] is False
    assert model.notes == [
        "never sees the source: made from the two captions alone, neither the clip nor its mask goes in",
        "lossy output: its own program writes H.264",
        "resized: 720x480 to 90x60, bicubic",
    ]
    short = model(edit(20, name="b", caption="word " * 300), seed=7)
    assert short.present == tuple(range(20))
    assert any(note.startswith("text cut:") for note in model.notes)
    first, second = (json.loads(line) for line in (tmp_path / "seen").read_text().splitlines())
    assert first["prompts"] == ["ein Kätzchen läuft", "a dog runs"]
    assert (first["is_edit"], first["sampling_fps"], first["seed"]) == (True, 8, 7)
    assert [first[name] for name in ("start_step", "end_step", "start_layer", "end_layer")] == [2, 25, 25, 30]
    weights = code / "sat/CogVideoX-2b-sat"
    assert (first["load"], first["vae"], first["t5"]) == (f"{weights}/transformer", f"{weights}/vae/3d-vae.pt", f"{weights}/t5-v1_1-xxl")
    assert first["set"] == [1, False]
    assert Path(first["output_dir"]).parts[-2:] == ("work", "out_raw")
    assert first["output_dir"] != second["output_dir"]
    assert (tmp_path / "seen.built").read_text() == "x", "networks are built once"


def test_both_captions_are_needed(model: DiTCtrl) -> None:
    with pytest.raises(DataError, match=r"a: has no caption of the unedited video \(VPBench: Original_video_caption\)"):
        model(edit(16, source_caption=""), seed=0)


def test_a_run_is_shown_unranked_with_what_was_bent(code: Path, tmp_path: Path, config: dict[str, Any]) -> None:
    leaf = {"_target_": "vpbench.baselines.external.ditctrl.DiTCtrl", "name": "ditctrl", "python": PYTHON, "code": str(code)}
    leaf |= {"weights": "sat/CogVideoX-2b-sat", "env": {"SEEN": str(tmp_path / "seen")}}
    result = Run({**config, "model": leaf, "benchmark": {"_target_": f"{Edits.__module__}.Edits", "frames": 52}}).execute()
    assert result.failed == {}
    table = rank(load_summaries([result.folder]))
    (row,) = table.groups[0].rows
    assert row.place is None
    assert row.reason == "not ranked: short: 49 of 52 frames"
    record = json.loads((result.folder / "clips/edit.json").read_text())
    assert any(note.startswith("never sees the source:") for note in record["notes"])


def test_a_film_that_was_not_written_is_the_clips_failure(model: DiTCtrl, code: Path) -> None:
    script = code / "sat/sample_video_edit.py"
    script.write_text(script.read_text().replace("editing_frames49.mp4", "other.mp4"))
    with pytest.raises(ModelError, match=r"out/ is empty"):
        model(edit(16), seed=0)


def test_what_is_missing_is_said_by_name(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(DiTCtrl(PYTHON, str(code))) == ""
    (code / "sat/sample_video_edit.py").unlink()
    (code / "sat/CogVideoX-2b-sat/vae/3d-vae.pt").unlink()
    (code / "sat/CogVideoX-2b-sat/transformer/1000/mp_rank_00_model_states.pt").unlink()
    said = problems(DiTCtrl(PYTHON, str(code)))
    for part in ("sat/sample_video_edit.py: no such file", "vae/3d-vae.pt: no such file", "1/mp_rank_00_model_states.pt: no such file"):
        assert part in said
    monkeypatch.delenv("DITCTRL_PYTHON", raising=False)
    monkeypatch.delenv("DITCTRL_CODE", raising=False)
    _, needs = check(["model=ditctrl"])
    assert [need.key for need in needs if not need.met] == ["python", "code", "weights"]


def test_ranges_that_are_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"share_steps=\[25, 2\]"):
        DiTCtrl(PYTHON, "x", share_steps=[25, 2])
