"""A real Chromium for the report's pages. ``VPBENCH_BROWSER=required`` makes its absence a failure, as in CI."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.browser.numbered import config
from tests.conftest import pixels
from vpbench.cli import main
from vpbench.running import Run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

NAMES = ("chromium", "chromium-browser", "google-chrome")
CLIPS = ["edit it", "moving", "nasty & odd's"]


def no_browser(reason: str) -> None:
    if os.environ.get("VPBENCH_BROWSER") == "required":
        pytest.fail(f"VPBENCH_BROWSER=required, but {reason}")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, or whatever Chromium is on the path."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        no_browser("playwright is not installed (pip install -e '.[test]')")
    path = next((found for name in NAMES if (found := shutil.which(name))), None)
    if path is None:
        no_browser("there is no Chromium (Debian: apt-get install chromium)")
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        started = playwright.chromium.launch(executable_path=path, args=arguments)
        yield started
        started.close()


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

    def opened(path: Path, hash_: str = "", width: int = 1280, height: int = 900, scheme: Any = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
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


def made(folder: Path, **benchmark: Any) -> Path:
    protocol = pixels()
    protocol["metrics"] = {name: protocol["metrics"][name] for name in ("psnr", "mae")}
    protocol["mean_rank"] = ["psnr[hole]", "mae[hole]"]
    for name, options in {"dark": {"level": 60}, "grey": {"level": 128, "strong": "moving"}, "bright": {"level": 170}}.items():
        Run(config(folder / "runs", benchmark, protocol, name, **options)).execute()
    assert main(["report", str(folder / "runs"), "-o", str(folder / "report")]) == 0
    (tables,) = (folder / "report").glob("numbered-*")
    return tables
