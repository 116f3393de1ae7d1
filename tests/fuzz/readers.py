"""The readers of what others wrote: for each, valid files, which of them are damaged, and how they are read.

Every reader may refuse an input with a ``VpbenchError`` or take it; anything else is a finding. What a reader needs besides the damaged
files lies in the folder ``aside`` of its template, which inputs never touch.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from tests.benchmarks.files import frames, holes, write_masks, write_picture, write_pictures, write_video
from tests.conftest import composed_protocol
from tests.fuzz.hostile import scripts_in
from tests.toy import toy_clip
from vpbench.cli import main
from vpbench.clip import MaskedClip
from vpbench.errors import VpbenchError
from vpbench.storage import read_arrays, sha256_file, write_arrays, write_json

COUNT = 4  # frames of the videos


class BrokenPromiseError(Exception):
    """A reader went on, but what it left is not what it should be."""


@dataclass(frozen=True)
class Reader:
    """A reader of untrusted input.

    Attributes:
        name: in tables.
        make: writes valid files into a folder.
        read: reads the folder; the second argument is a folder that it may write to.
        damaged: glob patterns of the files that are damaged, one of them per input.
        programs: whether it may start programs.
        alone: whether the folder holds the damaged file and nothing else.
    """

    name: str
    make: Callable[[Path], None]
    read: Callable[[Path, Path], Any]
    damaged: Sequence[str]
    programs: bool = False
    alone: bool = False


def _video(path: Path, codec: str, pixels: str, options: dict[str, str] | None = None, height: int = 32, width: int = 56) -> None:
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.height, stream.width, stream.pix_fmt, stream.options = height, width, pixels, options or {}
        for picture in frames(COUNT, height, width):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


# --- benchmarks


def _vpbench(root: Path) -> None:
    head = "path,mask_id,start_frame,end_frame,fps,"
    write_video(root / "aside/pexels/pexels/raw_video/111111111/111111111_a.mp4", frames(COUNT))
    write_video(root / "aside/videovo/raw_video/22/22222.0.mp4", frames(COUNT))
    for place in ("pexels/111111111_a", "videovo/22222"):
        (root / "aside/video_inpainting" / place).mkdir(parents=True)
        np.savez(root / "aside/video_inpainting" / place / "all_masks.npz", holes(COUNT).astype(np.uint8) * 2)
    (root / "our_video_inpaint.csv").write_text(
        f"{head}video_inpainting_prompt,image_inpainting_prompt\n"
        '111111111_a.mp4,2,0,4,8,a street,a car\n22222.0.mp4,2,1,4,8.0,"a cat, asleep",a cat\n111111111_a.mp4,2,0,2,8,,\n'
    )
    (root / "our_video_edit_long.csv").write_text(
        f"{head}Edited_video_caption,Edited_image_caption,Editing_instruction,operation\n"
        "111111111_a.mp4,2,0,4,8,a street,a car,Remove the car,\n22222.0.mp4,2,0,4,8,a cat,a cat,Swap it,swap\n"
    )


def _read_vpbench(root: Path, _: Path) -> None:
    from vpbench.benchmarks.vpbench import VPBench

    for place in ("pexels", "videovo", "video_inpainting"):
        (root / place).symlink_to(root / "aside" / place)
    _all_or_error([lambda split=split: _load(VPBench(root, split)) for split in ("inpaint", "edit_long")])


def _read_vpbench_masks(root: Path, _: Path) -> None:
    from vpbench.benchmarks.vpbench import VPBench

    for place in ("pexels", "videovo"):
        (root / place).symlink_to(root / "aside" / place)
    _load(VPBench(root, csv="aside/list.csv"))


def vpbench_layout(root: Path) -> None:
    _vpbench(root)
    (root / "our_video_inpaint.csv").rename(root / "aside/list.csv")
    shutil.move(root / "aside/video_inpainting", root / "video_inpainting")
    (root / "video_inpainting/pexels/111111111_a/all_masks.npz").unlink()
    np.savez_compressed(root / "video_inpainting/pexels/111111111_a/all_masks.npz", holes(COUNT).astype(np.int32) * 2)


def _load(benchmark: Any) -> None:
    """Every clip: size, fingerprint, content; the first error only after all were tried."""
    steps: list[Callable[[], Any]] = []
    for handle in benchmark:
        steps += [handle.shape, handle.fingerprint, handle.load]
        if callable(remarks := getattr(handle, "remarks", None)):
            steps.append(remarks)
    _all_or_error(steps)


def _all_or_error(steps: Sequence[Callable[[], Any]]) -> None:
    refused: VpbenchError | None = None
    for step in steps:
        try:
            step()
        except VpbenchError as error:
            refused = refused or error
    if refused is not None:
        raise refused


def _davis(root: Path) -> None:
    for clip in ("bear", "cow"):
        write_pictures(root / "JPEGImages_432_240" / clip, frames(2))
        write_masks(root / "test_masks" / clip, holes(2))
    (root / "davis_caption.csv").write_text('Video_Index,Video_Caption,Masked_Target_Caption\n1,a bear,bear\n2,"a cow, ""brown""",cow\n')


def _read_davis(root: Path, _: Path) -> None:
    from vpbench.benchmarks.davis import Davis

    _load(Davis(root))


def _folder(root: Path) -> None:
    for clip in ("a", "b"):
        write_pictures(root / "aside" / clip, frames(2))
    write_picture(root / "aside/mask.png", holes(1)[0].astype(np.uint8) * 255)
    (root / "captions.csv").write_text(
        "clip,caption,region_caption,operation,instruction\na,a street,a car,,\nb,a cat,cat,swap,Swap the cat\n"
    )


def _read_folder(root: Path, _: Path) -> None:
    from vpbench.benchmarks.folder import Folder

    _load(Folder(str(root / "aside"), mask=str(root / "aside/mask.png"), captions=str(root / "captions.csv")))


def _pictures(root: Path) -> None:
    smooth = np.dstack([np.add.outer(np.arange(32), np.arange(56)).astype(np.uint8)] * 3)
    masks = holes(1)[0].astype(np.uint8) * 255
    for name, picture in {"a/0.png": smooth, "a/1.jpg": smooth, "masks/a/0.png": masks, "masks/a/1.jpg": masks}.items():
        write_picture(root / name, picture)
    from PIL import Image

    Image.fromarray(masks).convert("P").save(root / "masks/a/0.png")
    Image.fromarray(smooth).save(root / "a/1.jpg", progressive=True, exif=Image.Exif())


def _read_pictures(root: Path, _: Path) -> None:
    from vpbench.benchmarks.folder import Folder

    shutil.move(root / "masks", root.parent / "masks-of-input")
    try:
        _load(Folder(str(root), masks_dir=str(root.parent / "masks-of-input")))
    finally:
        shutil.rmtree(root.parent / "masks-of-input")


def _videos(root: Path) -> None:
    _video(root / "a.mp4", "libx264", "yuv420p")
    _video(root / "b.mkv", "libx264rgb", "rgb24", {"qp": "0"})
    _video(root / "c.avi", "mpeg4", "yuv420p")
    _video(root / "d.avi", "mjpeg", "yuvj420p")
    _video(root / "e.mkv", "ffv1", "bgr0")
    _video(root / "f.mp4", "libx264", "yuv420p", {"bf": "2"}, 48, 64)


def _read_videos(root: Path, _: Path) -> None:
    """The damaged one alone: whatever reads videos."""
    from vpbench.outputs import Output
    from vpbench.video import probe, read_lossless, read_mask_video, read_video

    (path,) = root.iterdir()
    steps = (lambda: probe(path), lambda: read_video(path), lambda: read_video(path, [0]), lambda: read_lossless(path))
    _all_or_error([*steps, lambda: read_mask_video(path), Output("a", path).header])


def _manifest(root: Path) -> None:
    from vpbench.masks import manifest, manifest_entry, write_manifest

    write_manifest(root / "masks.json", manifest(0, "mixed", [manifest_entry(clip, 3, holes(2)) for clip in ("a", "b")]))


def _read_manifest(root: Path, _: Path) -> None:
    from vpbench.masks import check_manifest

    _all_or_error([lambda clip=clip: check_manifest(root / "masks.json", clip, holes(2)) for clip in ("a", "b")])


# --- arrays and programs


def _arrays(root: Path) -> None:
    write_arrays(root / "a.npz", {"values": np.arange(6.0), "_prediction": np.zeros(32, np.uint8)})
    write_arrays(root / "b.npz", {"values": np.zeros((2, 3, 4), np.float32)})


def _read_arrays(root: Path, _: Path) -> None:
    _all_or_error([lambda path=path: read_arrays(path) for path in sorted(root.glob("*.npz"))])


def _job(root: Path) -> None:
    clip = MaskedClip.of(toy_clip("a", COUNT))
    write_pictures(root / "out", clip.frames)
    write_json(root / "result.json", {"status": "ok", "notes": ["half size"], "native": {"width": 8, "height": 8}, "text_truncated": True})


def _read_job(root: Path, _: Path) -> None:
    from vpbench.baselines.external import jobs

    clip = MaskedClip.of(toy_clip("a", COUNT))
    jobs.reason(root)
    found = _all_or_error([lambda resize=resize: jobs.read(root, clip, resize, True) for resize in (None, "bicubic")])
    assert found is None


WORKER = 'while read -r line; do job=${line#*\\"job\\": \\"}; job=${job%%\\"*}; cp -r aside/. "$job"; sed "s#@JOB@#$job#" answer.txt; done'


def _worker(root: Path) -> None:
    _job(root / "aside")
    (root / "answer.txt").write_text('{"job": "@JOB@", "status": "ok"}\n')


def _read_worker(root: Path, out: Path) -> None:
    from vpbench.baselines.external.command import Command

    model = Command(["sh", "-c", WORKER.replace("; done", "; exit; done")], worker=True, cwd=str(root), timeout_s=5)
    model.keep_in(out)
    try:
        made = model(MaskedClip.of(toy_clip("a", COUNT)), seed=0)
        json.dumps(model.stages())
        assert made.frames.shape == (COUNT, 32, 40, 3)
    finally:
        model.release()


# --- results


def two_runs(root: Path) -> None:
    """Two models on two clips, both tracks."""
    from vpbench.running import Run

    for clip in ("edit-a", "b"):
        write_pictures(root / "aside/benchmark" / clip, toy_clip(clip, COUNT).frames)
    write_picture(root / "aside/mask.png", toy_clip("a", 1).masks[0].astype(np.uint8) * 255)
    captions = "clip,caption,region_caption,operation,instruction\nedit-a,a,b,remove,Remove it\nb,<b>,c,,\n"
    (root / "aside/captions.csv").write_text(captions)
    for name in ("grey", "dark"):
        Run(run_config(root, name)).execute()
    record = root / "runs/.hydra/2026-01-01/.hydra/config.yaml"
    record.parent.mkdir(parents=True)
    record.write_text("protocol:\n  name: pixels\n  metrics:\n    psnr: {_target_: vpbench.metrics.psnr.Psnr, regions: [hole, frame]}\n")
    claim = next((root / "runs").glob("*/grey-*")) / "clips/b.claim"
    write_json(claim, {"host": "elsewhere", "pid": 123, "since": 1_700_000_000})
    os.utime(claim, (0, 0))  # of a process that died


def run_config(root: Path, name: str) -> dict[str, Any]:
    protocol = composed_protocol("pixels")
    protocol["metrics"] = {metric: protocol["metrics"][metric] for metric in ("psnr", "mae")}
    protocol["mean_rank"] = ["psnr[hole]", "mae[hole]"]
    level = {"grey": 120, "dark": 60}[name]
    aside = {"root": root / "aside/benchmark", "mask": root / "aside/mask.png", "captions": root / "aside/captions.csv"}
    return {
        "model": {"_target_": "vpbench.models.custom", "target": "tests.toy.grey", "kwargs": {"level": level}, "name": name},
        "benchmark": {"_target_": "vpbench.benchmarks.folder.Folder", "name": "bench", **{key: str(path) for key, path in aside.items()}},
        "protocol": protocol,
        "seed": 0,
        "track": ["raw", "composite"],
        "clips": None,
        "limit": None,
        "out": str(root / "runs"),
        "device": "cpu",
    }


RUN_FILES = (
    *("runs/*/*-*/run.json", "runs/*/*-*/clips/*.json", "runs/*/*-*/clips/*.claim", "runs/*/*-*/scores/*/summary.json"),
    *("runs/*/*-*/scores/*/clips.csv", "runs/*/*-*/scores/*/frames/*.csv", "runs/*/*-*/predictions/*.mkv", "runs/*/*-*/measures/*/*.npz"),
)


def command(*arguments: object) -> int:
    """A command as the command line calls it; what it refuses raises."""
    said, printed = io.StringIO(), io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(printed):
        status = main([str(argument) for argument in arguments])
    text = said.getvalue()
    if "defect of vpbench" in text or "Traceback" in text:
        raise BrokenPromiseError(text)
    if status == 2:
        raise VpbenchError(text)
    return status


def _read_summaries(root: Path, _: Path) -> None:
    from vpbench.results import load_summaries

    load_summaries([root / "runs"])


def _submissions(root: Path) -> None:
    """A leaderboard of two models, a saved baseline, and the tables of both."""
    from tests.summaries import Runs, fvd, mse, psnr

    (root / "aside").mkdir(parents=True)
    make = Runs(root / "aside")
    tags = {f"clip{i}": {"operation": "swap", "tags": ["x"], "coverage": 0.2 * i, "motion": 0.1, "seconds": 3.0} for i in range(4)}
    make(
        "telea",
        psnr(values=[20.0, 30.0, None, 25.0]),
        mse(values=[0.1, 0.2, 0.3, 0.4], average="frames", clip_frames=[4, 4, 2, 4]),
        properties=tags,
    )
    make("blank", psnr(values=[10.0, 12.0, 11.0, 13.0]), fvd(200.0, [1.0, 2.0, None, 4.0]), properties=tags)
    command("rank", root / "aside", "-o", root / "board", "--submissions", "--by", "operation", "--pairs")
    command("gate", "--save", root / "baseline.json", root / "aside")
    shutil.copy(next((root / "board/submissions").rglob("telea.json")), root / "aside/candidate.json")


def _rank_leaderboard(root: Path, out: Path) -> None:
    def tables() -> None:
        command(
            "rank",
            root / "board",
            "-o",
            out / "tables",
            "--by",
            "operation",
            "--by",
            "coverage",
            "--by",
            "tag",
            "--pairs",
            "--columns",
            "all",
        )

    def checked() -> None:
        if found := scripts_in(out):
            raise BrokenPromiseError("; ".join(found))
        if (out / "tables/leaderboard.json").exists():
            json.loads((out / "tables/leaderboard.json").read_bytes(), parse_constant=_no)

    verified = [lambda runs=runs: command("rank", *runs, "--verify", root / "board") for runs in ((), (root / "aside",))]
    _all_or_error([tables, checked, *verified])


def _no(text: str) -> None:
    raise BrokenPromiseError(f"{text} in JSON")


def _gate_baseline(root: Path, out: Path) -> None:
    _gate(root / "baseline.json", root / "aside/candidate.json", out)
    _gate(root / "aside/candidate.json", root / "baseline.json", out)


def _gate(baseline: Path, candidate: Path, out: Path, *more: object) -> None:
    sides = ("--baseline", baseline, "--candidate", candidate, "--baseline-model", "telea", "--candidate-model", "telea")
    files = ("--json", out / "a.json", "--junit", out / "a.xml", "--markdown", out / "a.md")
    command("gate", *sides, *files, *more)
    json.loads((out / "a.json").read_bytes(), parse_constant=_no)
    ET.fromstring((out / "a.xml").read_bytes())
    if found := scripts_in(out):
        raise BrokenPromiseError("; ".join(found))


def _rules(root: Path) -> None:
    _submissions(root / "aside")
    (root / "rules.yaml").write_text(
        "alpha: 0.05\nrules:\n  - {metric: psnr, region: hole, tolerance: 0.1, slice: operation=swap}\n"
        "  - {metric: 'mse[hole]', tolerance: 1%, test: none, alpha: 0.01}\n  - metric: '*'\n    mean_rank: true\n"
        "acknowledged:\n  - {metric: psnr, region: hole, drop: 0.5, reason: known, expires: 2030-01-31}\n"
    )
    (root / "more.yaml").write_text(
        "rules:\n  - &a {metric: psnr, tolerance: 1.0e-3}\n  - <<: *a\n    region: hole\n  - {metric: 'm?e', alpha: .1}\n"
    )


def _read_rules(root: Path, out: Path) -> None:
    base = root / "aside/aside"
    rules = sorted(root.glob("*.yaml"))
    _all_or_error([lambda rule=rule: _gate(base / "candidate.json", base / "candidate.json", out, "--rules", rule) for rule in rules])


def _gate_table(root: Path, out: Path) -> None:
    _gate(root / "board/leaderboard.csv", root / "aside/candidate.json", out, "--rules", "tolerance")


def _read_board(root: Path, _: Path) -> None:
    command("rank", "--verify", root / "board")


def _published(root: Path) -> None:
    for path in (Path(__file__).resolve().parents[2] / "leaderboards/published").glob("*.csv"):
        shutil.copy(path, root / path.name)


def _read_published(root: Path, out: Path) -> None:
    command("published", "--folder", root)
    command("published", "--folder", root, "--markdown", out / "README.md")
    if found := scripts_in(out):
        raise BrokenPromiseError("; ".join(found))


# --- commands on run folders


def _rank(root: Path, out: Path) -> None:
    command("rank", root / "runs", "-o", out / "tables", "--submissions", "--by", "length", "--by", "tag", "--columns", "all", "--pairs")
    if found := scripts_in(out):
        raise BrokenPromiseError("; ".join(found))


def _status(root: Path, _: Path) -> None:
    for claim in root.glob("runs/*/*/clips/*.claim"):
        os.utime(claim)  # of a process that lives
    command("status", root / "runs")
    command("status", root / "runs", "--json")


def _report(root: Path, out: Path) -> None:
    """The report's players are kept from one input to the next, as they are from one report to the next."""
    kept = out.parent / "kept"
    shutil.rmtree(kept / "bench-pixels-raw", ignore_errors=True)
    try:
        command("report", root / "runs", "-o", kept)
    finally:
        if found := scripts_in(kept):
            raise BrokenPromiseError("; ".join(found))
        for pages in kept.glob("*/"):
            if pages.name != "media":
                shutil.rmtree(pages)
        if len(media := sorted((kept / "media").glob("*"), key=os.path.getmtime)) > 200:
            for path in media[60:]:
                path.unlink()


def _explain(root: Path, out: Path) -> None:
    one, other = (next((root / "runs").glob(f"*/{name}-*")) for name in ("grey", "dark"))
    steps = [
        ("--track", "raw"),
        ("--track", "raw", "--other-track", "composite", "--measure"),
        ("--track", "raw", "--column", "psnr[hole]"),
    ]
    _all_or_error([lambda step=step: command("explain", one, other, *step, "--json", out / "a.json") for step in steps])


def _gate_runs(root: Path, out: Path) -> None:
    one, other = (next((root / "runs").glob(f"*/{name}-*")) for name in ("grey", "dark"))
    for sides in ((one, other), (other, one)):
        command(
            "gate", "--baseline", sides[0], "--candidate", sides[1], "--track", "raw", "--junit", out / "a.xml", "--markdown", out / "a.md"
        )
        ET.fromstring((out / "a.xml").read_bytes())


def _resume(root: Path, _: Path) -> None:
    """The same run again in a folder that somebody damaged: done again, or refused."""
    from vpbench.running import Run

    Run(run_config(root, "grey")).execute()


def _hashes(root: Path) -> None:
    from vpbench.file_hashes import _stamp

    found = {}
    for name in ("a", "b", "c"):
        path = root / name
        path.write_text(name)
        found[str(path.absolute())] = f"{_stamp(path)} {sha256_file(path)}"
    write_json(root / "hashes.json", found)


def _read_hashes(root: Path, _: Path) -> None:
    """What a damaged record says of files that are not as it says."""
    from vpbench.file_hashes import file_hash, remembered

    with remembered(root / "hashes.json"):
        found = [file_hash(root / name) for name in ("a", "b", "c")]
    assert found == [sha256_file(root / name) for name in ("a", "b", "c")]


def _outputs(root: Path) -> None:
    for clip in ("a", "b"):
        write_pictures(root / "aside/benchmark" / clip, frames(COUNT))
    write_picture(root / "aside/mask.png", holes(1)[0].astype(np.uint8) * 255)
    _video(root / "made/a.mp4", "libx264", "yuv420p")
    write_pictures(root / "made/b", frames(COUNT))
    write_picture(root / "made/b/00002.jpg", frames(1)[0])
    (root / "made/b/00002.png").unlink()


def _check_outputs(root: Path, _: Path) -> None:
    from vpbench.benchmarks.folder import Folder
    from vpbench.check_outputs import check_outputs

    handles = list(Folder(str(root / "aside/benchmark"), mask=str(root / "aside/mask.png")))
    check_outputs(handles, root / "made", resize="area", frames="present")


def _weights(root: Path) -> None:
    import torch

    (root / "aside").mkdir()
    torch.save({"features.0.weight": torch.zeros(4, 3), "bias": torch.ones(2)}, root / "a.pth")
    torch.save({"bias": torch.ones(2)}, root / "b.pth", _use_new_zipfile_serialization=False)


def _read_weights(root: Path, _: Path) -> None:
    from vpbench.baselines import weight_files
    from vpbench.weights import known_files
    from vpbench.weights_check import fault

    file = next(file for file in known_files() if file.format == "torch-state-dict")
    paths = sorted(root.glob("*.pth"))
    for path in paths:
        fault(path, file, run=False)
    _all_or_error(
        [lambda path=path, lazily=lazily: weight_files.read(path, "ProPainter", lazily) for path in paths for lazily in (False, True)]
    )


CSV_OF_BOARD = ("board/leaderboard.csv",)
READERS = (
    Reader("VPBench lists (CSV)", _vpbench, _read_vpbench, ("*.csv",)),
    Reader("DAVIS captions, frames, masks", _davis, _read_davis, ("*.csv", "*.csv", "*/*/*.png")),
    Reader("folder captions (CSV)", _folder, _read_folder, ("*.csv",)),
    Reader("mask archives (npz)", vpbench_layout, _read_vpbench_masks, ("video_inpainting/*/*/*.npz",)),
    Reader("pictures (PNG, JPEG)", _pictures, _read_pictures, ("*/*.png", "*/*.jpg", "masks/*/*.png", "masks/*/*.jpg")),
    Reader("videos (mp4, mkv, avi)", _videos, _read_videos, ("*.mp4", "*.mkv", "*.avi"), alone=True),
    Reader("mask manifests (JSON)", _manifest, _read_manifest, ("*.json",)),
    Reader("stored arrays (npz)", _arrays, _read_arrays, ("*.npz",)),
    Reader("job results (JSON, PNG)", _job, _read_job, ("result.json", "result.json", "out/*.png")),
    Reader("workers' answers", _worker, _read_worker, ("answer.txt",), programs=True),
    Reader("outputs to be scored", _outputs, _check_outputs, ("made/*.mp4", "made/*/*.png", "made/*/*.jpg")),
    Reader("weight files (torch)", _weights, _read_weights, ("*.pth",)),
    Reader("summaries (JSON)", two_runs, _read_summaries, ("runs/*/*-*/scores/*/summary.json",)),
    Reader("leaderboards: rank, verify", _submissions, _rank_leaderboard, ("board/submissions/*/*/*.json", "board/leaderboard.json")),
    Reader("saved baselines: gate", _submissions, _gate_baseline, ("baseline.json",)),
    Reader("leaderboard.csv: gate", _submissions, _gate_table, CSV_OF_BOARD),
    Reader("gate rules (YAML)", _rules, _read_rules, ("*.yaml",)),
    Reader("published numbers (CSV)", _published, _read_published, ("*.csv",)),
    Reader("run folders: rank", two_runs, _rank, RUN_FILES[:4]),
    Reader("run folders: status", two_runs, _status, RUN_FILES[:3]),
    Reader("run folders: report", two_runs, _report, (*RUN_FILES[:4], *RUN_FILES[5:7])),
    Reader("run folders: explain", two_runs, _explain, (*RUN_FILES[:4], RUN_FILES[7], "runs/.hydra/*/.hydra/config.yaml")),
    Reader("run folders: gate", two_runs, _gate_runs, (RUN_FILES[0], RUN_FILES[3], RUN_FILES[3])),
    Reader("run folders: run again", two_runs, _resume, RUN_FILES, programs=True),
    Reader("hashes of files (JSON)", _hashes, _read_hashes, ("hashes.json",)),
)
cv2.setNumThreads(1)
