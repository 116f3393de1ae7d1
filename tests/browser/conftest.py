"""A real Chromium for the report's pages. ``VPBENCH_REQUIRE=browser`` makes its absence a failure, as in CI."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.chromium import NoBrowserError, chromium
from tests.browser.numbered import config
from tests.conftest import pixels
from tests.required import missing
from tests.summaries import Runs, clip_names, psnr
from vpbench.cli import main
from vpbench.running import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CLIPS = ["edit it", "moving", "nasty & odd's"]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """See ``chromium``; where there is none, the test is skipped, or fails if it is required."""
    try:
        with chromium() as started:
            yield started
    except NoBrowserError as reason:
        missing("browser", str(reason))


class Seen:
    """A page with what it must never do: console errors, exceptions, requests that leave the disk."""

    def __init__(self, page: Page) -> None:
        self.page, self.problems = page, list[str]()
        page.on("console", lambda message: self._add(message.type in ("error", "warning"), f"console: {message.text}"))
        page.on("pageerror", lambda error: self._add(True, f"exception: {error}"))
        page.on("request", lambda request: self._add(not request.url.startswith(("file:", "data:")), f"request: {request.url}"))
        page.on(
            "requestfailed", lambda request: self._add("ABORTED" not in str(request.failure), f"failed: {request.url} {request.failure}")
        )

    def _add(self, bad: bool, text: str) -> None:
        if bad:
            self.problems.append(text)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Opens a file in a page of its own; at the end of the test no page may have had a problem."""
    seen: list[Seen] = []

    def opened(path: Path, hash_: str = "", width: int = 1280, height: int = 900, scheme: Any = "light", before: str = "") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
        context.add_init_script(before)
        seen.append(Seen(context.new_page()))
        seen[-1].page.goto(path.as_uri() + hash_)
        return seen[-1].page

    yield opened
    for one in seen:
        one.page.context.close()
    assert [problem for one in seen for problem in one.problems] == []


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models on three clips at 8 frames per second; the folder of the report's pages of clips and tables."""
    return made(tmp_path_factory.mktemp("report"), names=CLIPS)


@pytest.fixture(scope="session")
def fast_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same models on one clip at 60 frames per second."""
    return made(tmp_path_factory.mktemp("fast"), names=["fast"], frames=180, fps=60.0)


@pytest.fixture(scope="session")
def sizes_report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clips of unusual sizes."""
    return made(tmp_path_factory.mktemp("sizes"), _target_="tests.browser.numbered.Sizes")


@pytest.fixture(scope="session")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of twelve models, nine of them nearly the same in quality and seconds."""
    folder = tmp_path_factory.mktemp("crowd")
    make = Runs(folder)
    for index in range(12):
        spread = 0.01 if index < 9 else 1.0
        run = make(f"model{index:02}", psnr(values=[20 + spread * index, 22 + spread * index]))
        (run / "run.json").write_text('{"config": {"benchmark": {}}, "clips": {}, "identity": {"model": {}}, "provenance": {}}')
        (run / "clips").mkdir()
        for clip in clip_names(2):
            record = {"clip": clip, "status": "ok", "has_truth": True, "seconds": 10 + spread * index, "properties": {"frames": 100}}
            (run / "clips" / f"{clip}.json").write_text(json.dumps(record))
    assert main(["report", str(folder), "-o", str(folder / "report")]) == 0
    return folder / "report"


def made(folder: Path, **benchmark: Any) -> Path:
    protocol = pixels()
    protocol["metrics"] = {name: protocol["metrics"][name] for name in ("psnr", "mae")}
    protocol["mean_rank"] = ["psnr[hole]", "mae[hole]"]
    for name, options in {"dark": {"level": 60}, "grey": {"level": 128, "strong": "moving"}, "bright": {"level": 170}}.items():
        Run(config(folder / "runs", benchmark, protocol, name, **options)).execute()
    assert main(["report", str(folder / "runs"), "-o", str(folder / "report")]) == 0
    (tables,) = (folder / "report").glob("*-pixels-raw-*")
    return tables
