"""A report of 16 models x 150 clips x 20 columns: how long it takes to make, and how fast its pages open in Chromium.

    python -m tests.speed.report                    about two minutes on 2 cores
    python -m tests.speed.report --clips 20 --keep FOLDER

Values are made up; run folders, predictions and players are real ones of 12 frames of 96x160. Every page is opened five times, each time in
a browser without a cache; the slowest counts. The exit status is 1 when the index takes 2 seconds or more.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.browser.chromium import chromium
from tests.browser.numbered import Handle, Numbered, fill
from tests.summaries import column
from vpbench.clip import MaskedClip
from vpbench.report.pages import Selection, write_report
from vpbench.results import SCHEMA
from vpbench.storage import sha256_file, sha256_json
from vpbench.video import write_lossless

FRAMES = 12
FPS = 8.0
COLUMNS = [
    f"{metric}[{region}]" for metric in ("psnr", "ssim", "mse", "mae", "lpips") for region in ("frame", "hole", "background", "boundary")
]
TIMES = 5
INDEX_SECONDS = 2.0


def make_run(root: Path, model: int, clips: list[str], rng: np.random.Generator) -> None:
    """Write one run folder as ``vpbench run`` would, with made-up values."""
    name = f"model-{model:02}"
    folder = root / "numbered" / f"{name}-{model:010x}"
    scores = folder / "scores" / "standard-raw"
    (scores / "frames").mkdir(parents=True)
    (folder / "clips").mkdir()
    (folder / "predictions").mkdir()
    clip = Handle(clips[0], FRAMES, FPS).load()
    sample = folder / "predictions" / f"{clips[0]}.mkv"
    write_lossless(sample, fill(MaskedClip.of(clip), seed=0, level=60 + 8 * model), FPS)
    properties = {"operation": "inpaint", "tags": [], "frames": FRAMES, "fps": FPS, "seconds": FRAMES / FPS, "height": 96, "width": 160}
    properties.update(coverage=0.16, motion=0.0)
    record = {"status": "ok", "prediction": sha256_file(sample), "has_truth": True, "properties": properties}
    for clip_name in clips:
        if clip_name != clips[0]:
            os.link(sample, folder / "predictions" / f"{clip_name}.mkv")
        (folder / "clips" / f"{clip_name}.json").write_text(
            json.dumps({**record, "clip": clip_name, "seconds": float(rng.gamma(4, 1 + model))})
        )
        with open(scores / "frames" / f"{clip_name}.csv", "w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["frame", *COLUMNS])
            writer.writerows([t, *row] for t, row in enumerate(rng.normal(20 + model / 10, 1, (FRAMES, len(COLUMNS))).tolist()))
    columns = [column(name, values=rng.normal(20 + model / 10, 3, len(clips)).tolist()) for name in COLUMNS]
    fingerprints = {handle.name: handle.fingerprint() for handle in Numbered(clips, FRAMES, FPS)}
    benchmark = {"_target_": "tests.browser.numbered.Numbered", "names": clips, "frames": FRAMES, "fps": FPS}
    (folder / "run.json").write_text(json.dumps({"config": {"benchmark": benchmark}, "clips": fingerprints}))
    summary: dict[str, Any] = {
        "schema": SCHEMA,
        "benchmark": {"name": "numbered", "fingerprint": sha256_json(fingerprints), "clips": len(clips)},
        "model": {"name": name, "needs_reference": False, "ranked": True},
        "run": folder.name,
        "protocol": "standard",
        "track": "raw",
        "mean_rank": COLUMNS[:6],
        "columns": columns,
    }
    found = {
        "total": len(clips),
        "ok": len(clips),
        "names": clips,
        "properties": dict.fromkeys(clips, properties),
        "failed": [],
        "missing": [],
    }
    (scores / "summary.json").write_text(json.dumps({**summary, "clips": found}))


def opened(browser: Any, path: Path, ready: str) -> tuple[float, float]:
    """Open a page in a fresh browser context; seconds until its load event, and until ``ready`` holds."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    page = context.new_page()
    begun = time.perf_counter()
    page.goto(path.as_uri(), wait_until="load")
    loaded = time.perf_counter() - begun
    page.wait_for_function(ready, polling=20)
    done = time.perf_counter() - begun
    context.close()
    return loaded, done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=int, default=16)
    parser.add_argument("--clips", type=int, default=150)
    parser.add_argument("--keep", type=Path, help="folder for the runs and the report; default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        root = options.keep or Path(temporary)
        rng = np.random.default_rng(0)
        clips = [f"clip{index:03}" for index in range(options.clips)]
        for model in range(options.models):
            make_run(root / "runs", model, clips, rng)
        print(f"{options.models} models x {options.clips} clips x {len(COLUMNS)} columns")
        for what in ("made, with all players", "made again, players kept"):
            begun = time.perf_counter()
            report = write_report([root / "runs"], root / "report", Selection())
            print(f"{what}: {time.perf_counter() - begun:.1f} s, {report.made} files for players made, {report.kept} kept", flush=True)
        return measure(root / "report")


def measure(report: Path) -> int:
    tables = next(report.glob("numbered-*"))
    visible = "[...document.querySelectorAll('#players video')].filter(v => v.src && v.getBoundingClientRect().top < innerHeight)"
    pages = {
        "index": (report / "index.html", "document.querySelectorAll('.pareto circle').length > 1"),
        "clips": (tables / "clips.html", "document.querySelectorAll('#clips tbody tr').length > 1"),
        "compare": (tables / "compare.html", "document.querySelectorAll('#wins tbody tr').length > 1"),
        "one clip": (next((tables / "clips").iterdir()), f"{visible}.length > 1 && {visible}.every(v => v.dataset.shown === '0')"),
    }
    print("| page | HTML kB | load event, s | ready, s |\n|---|--:|--:|--:|")
    slowest = {}
    with chromium() as browser:
        opened(browser, pages["index"][0], pages["index"][1])  # the browser itself starts
        for name, (path, ready) in pages.items():
            times = [opened(browser, path, ready) for _ in range(TIMES)]
            loaded, done = (max(values) for values in zip(*times, strict=True))
            slowest[name] = done
            print(f"| {name} | {path.stat().st_size / 1000:.0f} | {loaded:.2f} | {done:.2f} |", flush=True)
    good = slowest["index"] < INDEX_SECONDS
    print(f"index: {'ok' if good else 'TOO SLOW'}  {slowest['index']:.2f} s, must be under {INDEX_SECONDS:g} s")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
