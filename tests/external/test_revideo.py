"""The adapter of ReVideo, with a checkout of our own that has the same files, functions and arguments."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.external.checkouts import PYTHON, checkout, edit, problems
from vpbench.baselines.diffusion.image_inpainters import FolderImage, TeleaImage
from vpbench.baselines.external import revideo_geometry as geometry
from vpbench.baselines.external.revideo import ReVideo
from vpbench.check import check
from vpbench.errors import ConfigError, ModelError

SCRIPT = """
    import json, os, sys
    import numpy as np
    import torch
    from PIL import Image
    from utils.tools import load_model

    if not os.path.exists("ckpt/model.ckpt"):
        raise RuntimeError("would download weights")

    def sample(input_path, path_ref, ckpt, config, num_frames, num_steps, fps_id, motion_bucket_id, cond_aug, seed, decoding_t, device,
               output_folder, save_fps, resize, s_w, e_w, s_h, e_h, ps_h, ps_w{more}):
        {track}
        torch.manual_seed(seed)
        network = load_model(config, ckpt, device, num_frames, num_steps)
        noise = torch.rand(1).item()
        given = [np.array(Image.open(os.path.join(input_path, name))) for name in sorted(os.listdir(input_path))]
        assert len(given) == num_frames
        reference = np.array(Image.open(path_ref))
        seen = {"script": __name__, "input": input_path, "frames": [int(frame[0, 0, 0]) for frame in given], "network": network,
                "reference": [list(reference.shape), int(reference[0, 0, 0]), int(reference[30, 20, 0])], "noise": noise,
                "x": [s_h, e_h], "y": [s_w, e_w], "points": [ps_h, ps_w], "ends": {ends}, "steps": num_steps, "seed": seed,
                "fixed": [fps_id, motion_bucket_id, cond_aug, decoding_t, resize], "config": os.path.isfile(config)}
        with open(os.environ["SEEN"], "a") as file:
            file.write(json.dumps(seen) + "\\n")
        folder = os.path.join("vis_im", input_path.split("/")[-1], "im_wo_track")
        os.makedirs(folder)
        for i, frame in enumerate(given):
            Image.fromarray(frame + 1).resize((1280, 832)).save(os.path.join(folder, "%04d.png" % i))
"""
TRACK = """import torch.hub
        tracker = torch.hub.load("facebookresearch/co-tracker", "cotracker2").to(device)
        assert type(tracker.model).__name__ == "CoTracker2"
"""
STAND_IN = {
    "main/inference/sample_constant_motion.py": SCRIPT.replace("{more}", "").replace("{ends}", "None").replace("{track}", TRACK),
    "main/inference/sample_single_region.py": SCRIPT.replace("{more}", ", ps_e=0, pe_w=None, pe_h=None, x_bias=None, y_bias=None")
    .replace("{ends}", "[pe_h, pe_w, x_bias, y_bias]")
    .replace("{track}", "pass"),
    "configs/inference/config_test.yaml": "model: {}\n",
    "sgm/__init__.py": "",
    "sgm/util.py": "",
    "utils/tools.py": """
        import os, torch

        def load_model(config, ckpt, device, num_frames, num_steps):
            torch.rand(1000)  # as layers draw their first weights
            with open(os.environ["SEEN"] + ".built", "a") as file:
                file.write("x")
            with open(ckpt) as file:
                return file.read()
        """,
    "ckpt/model.ckpt": "weights",
    "co-tracker/cotracker/predictor.py": "",
    "co-tracker/hubconf.py": """
        class CoTracker2:
            pass

        class Tracker:
            model = CoTracker2()

            def to(self, device):
                return self

        def cotracker2(*, pretrained=True):
            return Tracker()
        """,
}


def stand_in(folder: Path) -> Path:
    """Write what stands for a checkout and its weights."""
    return checkout(folder, STAND_IN)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return stand_in(tmp_path / "ReVideo")


@pytest.fixture
def make(code: Path, tmp_path: Path) -> Iterator[Callable[..., ReVideo]]:
    made: list[ReVideo] = []

    def model(inpainter: Any = None, **options: Any) -> ReVideo:
        made.append(ReVideo(PYTHON, str(code), inpainter or TeleaImage(), env={"SEEN": str(tmp_path / "seen")}, **options))
        made[-1].keep_in(tmp_path / "kept")
        return made[-1]

    yield model
    for one in made:
        one.release()


def seen(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "seen").read_text().splitlines()]


def test_windows_share_a_frame_and_each_begins_with_the_one_before(make: Any, tmp_path: Path) -> None:
    model = make()
    made = model(edit(49), seed=3)
    np.testing.assert_array_equal(made.frames[:, 0, 0, 0], np.arange(49) * 4 + 1)
    calls = seen(tmp_path)
    assert [[frame // 4 for frame in call["frames"]] for call in calls] == [
        list(range(14)),
        list(range(13, 27)),
        list(range(26, 40)),
        [*range(39, 49), 48, 48, 48, 48],
    ]
    assert calls[0]["reference"][0] == [60, 90, 3]
    assert [call["reference"][:2] for call in calls[1:]] == [[[832, 1280, 3], 4 * t + 1] for t in (13, 26, 39)]
    assert [Path(call["input"]).name for call in calls] == ["a_0", "a_1", "a_2", "a_3"]
    # the hole of frame t is x 10 + t to 30 + t (modulo 40), y 20 to 40: the union of each window's, 8 pixels larger
    assert [call["x"] for call in calls] == [[2, 51], [15, 64], [28, 77], [2, 77]]
    assert [call["y"] for call in calls] == [[12, 48]] * 4
    for number, call in enumerate(calls):
        left = 10 + 13 * number
        xs, ys = call["points"]
        assert len(xs) == len(ys) == 4
        assert all(left + 4 <= x < left + 16 for x in xs)
        assert all(24 <= y < 36 for y in ys)
        assert call["ends"] is None
    assert calls[0]["fixed"] == [10, 127, 0.02, 1, True]
    assert (calls[0]["steps"], calls[0]["seed"], calls[0]["config"], calls[0]["network"]) == (25, 3, True, "weights")
    said = model.stages()["program"]
    assert said["native"] == {"width": 1280, "height": 832, "frames": 14}
    assert said["windows"] == [[0, 14], [13, 27], [26, 40], [39, 49]]
    assert said["driven"][0]["rectangle_xyxy"] == [2, 12, 51, 48]
    assert model.notes == [
        "first frame: TeleaImage's, a part of this row is that model",
        "rectangle: all of it is made anew, not the hole alone",
        "windows: of 14 frames, each begins with the last frame of the one before",
        "padded: the last window of 14 frames ends with the clip's last one repeated",
        "resized: 1280x832 to 90x60, bicubic",
    ]
    assert not list((tmp_path / "ReVideo").rglob("vis_im")), "nothing is written into the checkout"


def test_the_network_is_loaded_once_and_draws_as_in_a_process_of_its_own(make: Any, tmp_path: Path) -> None:
    model = make()
    for name in "ab":
        model(edit(20, name=name), seed=3)
    assert (tmp_path / "seen.built").read_text() == "x"
    assert len({call["noise"] for call in seen(tmp_path)}) == 1
    alone = make()
    alone(edit(20, operation="remove", name="c"), seed=3)
    assert (tmp_path / "seen.built").read_text() == "xx"
    assert len({call["noise"] for call in seen(tmp_path)}) == 1
    model(edit(14, name="d"), seed=4)
    assert (tmp_path / "seen.built").read_text() == "xxx", "another seed, another draw after loading"
    assert len({call["noise"] for call in seen(tmp_path)}) == 2


def test_points_move_with_what_is_changed_and_stand_still_where_something_comes_or_goes(make: Any, tmp_path: Path) -> None:
    model = make()
    for operation in ("change", "swap", "remove", "add"):
        model(edit(14, operation=operation), seed=0)
    calls = seen(tmp_path)
    for call in calls[:2]:
        assert (call["script"], call["ends"]) == ("revideo_sample_constant_motion", None)
    for call in calls[2:]:
        assert (call["script"], call["ends"]) == ("revideo_sample_single_region", [*call["points"], [0], [0]])


def test_first_frames_come_from_a_folder_or_an_image_inpainter(make: Any, tmp_path: Path) -> None:
    folder = tmp_path / "first"
    folder.mkdir()
    Image.new("RGB", (90, 60), (77, 78, 79)).save(folder / "a.png")
    model = make(FolderImage(str(folder)))
    model(edit(14), seed=0)
    assert seen(tmp_path)[0]["reference"] == [[60, 90, 3], 77, 77]
    first = model.stages()["first_frame"]["sha256"]
    assert model.fingerprints()["image_inpainter"] != make().fingerprints()["image_inpainter"]
    telea = make()
    telea(edit(14), seed=0)
    assert telea.stages()["first_frame"]["sha256"] != first
    assert list((tmp_path / "kept/first_frames").glob("*.npz"))


def test_another_tracker_by_the_same_name_is_refused(make: Any, code: Path) -> None:
    hub = code / "co-tracker/hubconf.py"
    hub.write_text(hub.read_text().replace("CoTracker2", "CoTrackerThreeOffline"))
    with pytest.raises(ModelError, match="its cotracker2 is CoTrackerThreeOffline; ReVideo needs CoTracker2"):
        make()(edit(14), seed=0)


def test_a_picture_that_was_not_written_is_the_clips_failure(make: Any, code: Path) -> None:
    script = code / "main/inference/sample_constant_motion.py"
    script.write_text(script.read_text().replace('"im_wo_track"', '"elsewhere"'))
    with pytest.raises(ModelError, match=r"ReVideo did not write .*a_0/im_wo_track/0000.png"):
        make()(edit(14), seed=0)


@given(frames=st.integers(1, 300))
def test_windows_cover_a_clip(frames: int) -> None:
    cut = geometry.windows(frames)
    assert cut[0][0] == 0
    assert all(stop - start == 14 for start, stop in cut)
    assert all(after[0] == before[1] - 1 for before, after in itertools.pairwise(cut))
    assert cut[-1][1] >= frames
    assert len(cut) == 1 or cut[-2][1] < frames


@given(data=st.data())
def test_the_rectangle_holds_the_hole_and_points_lie_in_it(data: Any) -> None:
    height, width = data.draw(st.integers(20, 60)), data.draw(st.integers(20, 60))
    x0, y0 = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    x1, y1 = data.draw(st.integers(x0 + 1, width)), data.draw(st.integers(y0 + 1, height))
    mask = np.zeros((1, height, width), bool)
    mask[0, y0:y1, x0:x1] = True
    assert geometry.rectangle(mask) == (max(x0 - 8, 0), max(y0 - 8, 0), min(x1 + 8, width), min(y1 + 8, height))
    found = geometry.points(mask[0])
    assert 1 <= len(found) <= 4
    assert len(set(found)) == len(found)
    assert all(mask[0, y, x] for x, y in found)
    if x1 - x0 > 8 and y1 - y0 > 8:
        assert all(x0 + 4 <= x < x1 - 4 and y0 + 4 <= y < y1 - 4 for x, y in found)


def test_without_a_hole_there_is_neither() -> None:
    empty = np.zeros((2, 30, 40), bool)
    assert geometry.rectangle(empty) == (0, 0, 0, 0)
    assert geometry.points(empty[0]) == []


def test_a_hole_that_comes_later_has_a_point_that_stands_still(make: Any, tmp_path: Path) -> None:
    clip = edit(14)
    clip.masks[:5] = False
    make()(clip, seed=0)
    (call,) = seen(tmp_path)
    assert call["script"] == "revideo_sample_single_region"
    assert call["points"] == [[(7 + 51) // 2], [30]]
    assert call["reference"][1:] == [0, 0], "the source's own first frame"


def test_what_is_missing_is_said_by_name(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert problems(ReVideo(PYTHON, str(code), TeleaImage())) == ""
    for name in ("ckpt/model.ckpt", "co-tracker/hubconf.py", "sgm/util.py"):
        (code / name).unlink()
    said = problems(ReVideo(PYTHON, str(code), FolderImage(str(code / "none"))))
    for part in ("ckpt/model.ckpt: no such file", "co-tracker/hubconf.py: no such file", "sgm/util.py: no such file", "there is no folder"):
        assert part in said
    assert "Stable Video Diffusion Non-Commercial Community License" in said
    for name in ("REVIDEO_PYTHON", "REVIDEO_CODE", "REVIDEO_COTRACKER"):
        monkeypatch.delenv(name, raising=False)
    _, needs = check(["model=revideo", "model/image_inpainter=telea"])
    assert [need.key for need in needs if not need.met] == ["python", "code", "ckpt", "cotracker"]


@pytest.mark.parametrize(("options", "message"), [({"steps": 0}, "steps=0"), ({"compat": "offical"}, "official")])
def test_settings_that_cannot_work_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ReVideo(PYTHON, "x", TeleaImage(), **options)
