"""`vpbench check` for data, experiments and this machine."""

from __future__ import annotations

import shutil
from collections import namedtuple
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.test_cli import loaded_after
from tests.test_score import pictures, video
from tests.toy import Handle, Toy
from vpbench import check_environment as environment
from vpbench.check_data import check_data
from vpbench.cli import main
from vpbench.clip import Clip
from vpbench.findings import Finding, verdict


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The VPBench layout with two rows of one video."""
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    video(
        root / "pexels/pexels/raw_video/000000001/000000001_0.mp4",
        rng.integers(0, 255, (12, 32, 48, 3), dtype=np.uint8),
        "libx264",
        "yuv420p",
    )
    labels = np.zeros((12, 32, 48), np.uint8)
    labels[:, 8:20, 8:20], labels[:, 24:, 24:] = 1, 2
    (root / "video_inpainting/pexels/000000001_0").mkdir(parents=True)
    np.savez(root / "video_inpainting/pexels/000000001_0/all_masks.npz", labels)
    rows = ["path,mask_id,start_frame,end_frame,fps,video_inpainting_prompt,image_inpainting_prompt"]
    rows += [f"000000001_0.mp4,{label},0,12,8,a video,a thing" for label in (1, 2)]
    (root / "our_video_inpaint.csv").write_text("\n".join(rows) + "\n")
    return root


def check(data: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, list[str]]:
    status = main(["check", "benchmark=vpbench", f"benchmark.root={data}", *more])
    return status, capsys.readouterr().out.splitlines()


def change(data: Path, old: str, new: str) -> None:
    path = data / "our_video_inpaint.csv"
    path.write_text(path.read_text().replace(old, new))


def test_sound_data_is_described(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = check(data, capsys)
    assert status == 0
    assert lines[-1] == "check: ok  vpbench-inpaint: 2 clips, 12 frames of 48x32 at 8 fps"
    assert [line for line in lines if line.startswith("finding")] == []
    assert any("lists 2 clips; the published split has 100" in line for line in lines)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("mp4,2,", "mp4,7,", "finding  000000001_0_m7: unreadable: "),
        ("mp4,2,0,12", "mp4,2,0,40", "the list asks for frames 0 to 40, the video has 12"),
        ("000000001_0.mp4,2", "000000001_1.mp4,2", "finding  000000001_1_m2: unreadable: "),
        (
            "12,8,a video,a thing\n000000001_0.mp4,2,0,12,8,a video",
            "12,8,a video,a thing\n000000001_0.mp4,2,0,12,8,",
            "no caption: 1 of 2 clips",
        ),
    ],
    ids=["label", "window", "file", "caption"],
)
def test_what_is_wrong_with_a_row_is_one_line_with_its_clip(
    data: Path, old: str, new: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    change(data, old, new)
    status, lines = check(data, capsys)
    findings = [line for line in lines if line.startswith("finding")]
    assert status == 1
    assert len(findings) == 1
    assert said in findings[0]
    assert lines[-1].startswith("check: FOUND  1 finding in 1 place; vpbench-inpaint: ")


def test_a_label_that_does_not_exist_is_said_with_those_that_do(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(data, "mp4,2,", "mp4,7,")
    assert "the object 7 does not occur in the 12 frames that are used; found: 0, 1, 2" in check(data, capsys)[1][0]


def test_another_rate_in_the_list_is_a_note(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(data, ",12,8,", ",12,30,")
    status, lines = check(data, capsys)
    assert status == 0
    assert sum("the list says 30 fps, " in line and line.startswith("note") for line in lines) == 2


def test_masks_of_another_count(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(data / "video_inpainting/pexels/000000001_0/all_masks.npz", np.ones((11, 32, 48), np.uint8))
    status, lines = check(data, capsys)
    assert status == 1
    assert sum("11 masks for the 12 frames" in line for line in lines) == 2


def test_missing_data_is_a_finding_and_a_missing_root_cannot_be_checked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = check(tmp_path / "nowhere", capsys)
    assert status == 1
    assert "nowhere: no such folder" in lines[0]
    assert main(["check", "benchmark=davis"]) == 2
    assert "benchmark.root is required" in capsys.readouterr().err


def test_only_some_clips(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    change(data, "mp4,2,", "mp4,7,")
    assert check(data, capsys, "limit=1")[0] == 0
    assert check(data, capsys, "clips=[000000001_0_m7]")[0] == 1
    assert main(["check", "benchmark=demo", "clips=[nobody]"]) == 2


class Odd(Handle):
    """A toy clip with something about it."""

    def load(self) -> Clip:
        clip = super().load()
        if self.salt == "upside down":
            return replace(clip, masks=~clip.masks)
        if self.salt == "no rate":
            return replace(clip, fps=0.0)
        if self.salt == "no instruction":
            return replace(clip, operation="change")
        return replace(clip, caption="") if self.salt == "silent" else clip


@pytest.mark.parametrize(
    ("salt", "fault", "note"),
    [
        ("upside down", "large hole", True),
        ("no rate", "frame rate", False),
        ("no instruction", "no instruction", False),
        ("silent", "no caption", False),
        ("", None, True),
    ],
)
def test_what_a_clip_lacks(salt: str, fault: str | None, note: bool) -> None:
    found, _ = check_data([*Toy(2), Odd("odd", salt, 4)])
    assert [(one.where, one.fault, one.note) for one in found] == ([("odd", fault, note)] if fault else [])


def test_a_benchmark_without_captions_is_no_fault() -> None:
    found, what = check_data([Odd("x", "silent", 4), Odd("y", "silent", 6), Odd("z", "silent", 9)])
    assert [(one.fault, one.note) for one in found] == [("no caption", True)]
    assert what == "3 clips, 4 to 9 frames of 40x32 at 8 fps"
    assert check_data([Handle("broken", "", 4)])[1] == "0 of 1 clips can be read"


def test_videos_of_ones_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path / "videos/a", np.random.default_rng(0).integers(0, 255, (3, 32, 48, 3), dtype=np.uint8))
    mask = np.zeros((32, 48), np.uint8)
    mask[:, :40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    call = ["check", "benchmark=folder", f"benchmark.root={tmp_path / 'videos'}", f"benchmark.mask={tmp_path / 'mask.png'}"]
    assert main(call) == 0
    assert "note  a: large hole: the hole is 83% of the picture" in capsys.readouterr().out
    (tmp_path / "videos/a/1.png").write_bytes(b"no picture")
    assert main(call) == 1


def test_an_experiment_is_checked_model_by_model(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    assert main(["check", "experiment=article_inpaint", f"benchmark.root={data}"]) == 1
    said = capsys.readouterr().out
    for model in ("videopainter_official", "cog_inp_official"):
        assert f"things that {model} needs" in said
    assert "finding  protocol vpbench-official: weights: lpips" in said
    assert "note  protocol standard: weights: fvd" in said
    assert said.splitlines()[-1] == "check: ok  vpbench-inpaint: 2 clips, 12 frames of 720x480 at 8 fps"
    assert main(["check", "experiment=article_inpaint"]) == 2, "the others are checked all the same"
    captured = capsys.readouterr()
    assert "things that videopainter_official needs" in captured.out
    assert "benchmark.root is required" in captured.err


def test_several_models_and_one_of_an_experiment(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "model=telea,blank"]) == 0
    assert capsys.readouterr().out.count("needs nothing besides vpbench") == 2
    assert main(["check", "experiment=demo", "model=telea", "protocol=pixels", "limit=1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "check: ok  telea needs nothing besides vpbench",
        "check: ok  protocol pixels",
        "check: ok  demo: 1 clip, 24 frames of 432x240 at 8 fps",
    ]
    assert main(["check", "model=telea,tela"]) == 2
    captured = capsys.readouterr()
    assert "telea needs nothing" in captured.out
    assert "tela" in captured.err


def test_help_imports_nothing_heavy(tmp_path: Path) -> None:
    assert loaded_after("from vpbench.cli import main; main(['check', '--help'])", tmp_path) == []


def faults(found: list[Finding]) -> list[Finding]:
    return [one for one in found if not one.note]


def test_the_environment_is_described(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "environment", f"out={tmp_path / 'not' / 'there'}"]) == 0
    said = capsys.readouterr().out
    for what in ("vpbench", "python", "packages", "cuda", "disk", "weights"):
        assert f"note  {what}" in said
    assert f"numpy {np.__version__}" in said
    assert main(["check", "environment", "model=telea"]) == 2
    assert "takes out=DIR alone" in capsys.readouterr().err


def test_little_disk_is_a_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1_000_000))
    found = faults(environment.check_environment(tmp_path))
    assert {one.where for one in found} == {"disk"}
    assert "0.0 GB free for runs" in found[0].evidence


def test_a_package_that_is_missing_or_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = metadata.version

    def version(name: str) -> str:
        if name == "decord":
            raise metadata.PackageNotFoundError(name)
        return "1.0" if name in ("numpy", "peft") else genuine(name)

    monkeypatch.setattr(environment.metadata, "version", version)
    found = environment.check_environment(tmp_path)
    assert {one.where: one.evidence.split(",")[0] for one in faults(found)} == {
        "decord": "decord is not installed",
        "numpy": "numpy is 1.0",
    }
    assert any("peft is 1.0" not in one.evidence or one.note for one in found)


def test_a_damaged_file_of_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "alexnet-owt-7be5be79.pth").write_bytes(b"half")
    monkeypatch.setenv("VPBENCH_WEIGHTS", str(tmp_path))
    (found,) = faults(environment.check_environment(tmp_path))
    assert found.where.endswith("alexnet-owt-7be5be79.pth")


def test_a_verdict_counts_findings_and_places() -> None:
    def one(where: str, note: bool = False) -> Finding:
        return Finding(where, "fault", "seen", "Do this", note)

    assert one("a").line() == "finding  a: fault: seen. Do this"
    assert verdict([one("a", True)], "x") == "check: ok  x"
    assert verdict([one("a"), one("a"), one("b")], "x") == "check: FOUND  3 findings in 2 places; x"
