"""The report in a real Chromium, opened from disk: what a reader sees and does."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from tests.browser.numbered import read_number

if TYPE_CHECKING:
    from playwright.sync_api import Page

Open = Callable[..., Any]
PLAYING = "document.getElementById('play').getAttribute('aria-label') === 'Pause'"
SHOWN = "[...document.querySelectorAll('video')].filter(v => v.src && v.offsetParent).map(v => Number(v.dataset.shown))"


def clip_page(report: Path, name: str) -> Path:
    (page,) = (report / "clips").glob(f"{name}*.html")
    return page


def model(report: Path, name: str) -> str:
    """How a link names a model: by its place in the table."""
    text = clip_page(report, "moving").read_text()
    return "model+" + re.search(rf'data-name="{name}" data-model="(\d+)"', text)[1]


def pages(report: Path) -> list[Path]:
    return [report.parent / "index.html", report / "clips.html", report / "compare.html", *sorted((report / "clips").glob("*.html"))]


def all_show(page: Page, frame: int) -> None:
    """Wait until every loaded player shows this frame."""
    page.wait_for_function(f"(() => {{ const s = {SHOWN}; return s.length && s.every(f => f === {frame}); }})()")


def on_screen(page: Page) -> list[int]:
    """The numbers that all players show at one instant, read from one screenshot."""
    boxes = page.evaluate("[...document.querySelectorAll('#players video')].map(v => v.getBoundingClientRect().toJSON())")
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    return [read_number(picture[round(box["top"]) : round(box["bottom"]), round(box["left"]) : round(box["right"])]) for box in boxes]


def all_display(page: Page, frame: int) -> None:
    """The same, and that it is what a screenshot shows: a browser reports a frame a moment before it is on the screen."""
    all_show(page, frame)
    for _ in range(10):
        if set(on_screen(page)) == {frame}:
            return
        page.wait_for_timeout(50)
    assert set(on_screen(page)) == {frame}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_page_loads_and_fits(report: Path, open_page: Open, width: int, scheme: str) -> None:
    for path in pages(report):
        page = open_page(path, width=width, scheme=scheme)
        page.wait_for_load_state("load")
        if path.parent.name == "clips":
            all_show(page, 0)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, path
        assert page.locator("h1").count() == 1
        light = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        assert light == (scheme == "light")


def test_every_control_has_a_name(report: Path, open_page: Open) -> None:
    for path in pages(report):
        page = open_page(path)
        for role in ("button", "slider", "combobox", "checkbox", "radio", "link"):
            for control in page.get_by_role(role).all():
                assert re.search(r"\w", control.evaluate(NAME)), control.evaluate("e => e.outerHTML")


NAME = "e => e.getAttribute('aria-label') || (e.labels && e.labels.length ? e.labels[0].textContent : e.textContent)"


def test_what_the_user_wrote_is_text(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "nasty"), width=390)
    assert page.locator("h1").inner_text() == "nasty & odd's"
    caption = page.locator(".caption").filter(has_text="Caption:").first
    assert caption.inner_text().startswith('Caption: <script>alert(1)</script> "quoted" &')
    assert "שלום" in caption.inner_text()
    assert page.locator(".caption b").filter(has_text="it").count() == 0
    assert caption.bounding_box()["height"] < 120
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@pytest.mark.parametrize("rate", [8, 60])
def test_players_stay_within_one_frame(rate: int, report: Path, fast_report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving") if rate == 8 else clip_page(fast_report, "fast"))
    all_show(page, 0)
    page.keyboard.press("Space")
    page.wait_for_function(PLAYING)
    page.wait_for_timeout(400)
    seen = []
    for _ in range(10):
        seen.append(on_screen(page))
        page.wait_for_timeout(100)
    assert all(len(numbers) == 5 for numbers in seen)
    apart = [numbers for numbers in seen if max(numbers) - min(numbers) > 1]
    assert len(apart) <= 1, seen  # one: a machine that is busy with other things may stall a player for a moment
    assert len({numbers[0] for numbers in seen}) > 2, "nothing moved"
    page.keyboard.press("Space")
    page.wait_for_function(f"!({PLAYING})")
    frame = int(page.locator("#frame").input_value())
    all_display(page, frame)


def test_a_browser_that_does_not_tell_its_frames(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"), before="delete HTMLVideoElement.prototype.requestVideoFrameCallback")
    all_display(page, 0)
    page.keyboard.press("Shift+ArrowRight")
    all_display(page, 10)
    page.keyboard.press("Space")
    page.wait_for_function(f"{PLAYING} && document.getElementById('frame').value >= 14")
    page.keyboard.press("Space")
    all_display(page, int(page.locator("#frame").input_value()))


@pytest.mark.parametrize("width", [1280, 390])
def test_unusual_sizes(sizes_report: Path, open_page: Open, width: int) -> None:
    paths = sorted((sizes_report / "clips").glob("*.html"))
    assert len(paths) == 5
    for path in paths:
        frames, height, across = map(int, path.stem.split("x"))
        page = open_page(path, width=width)
        all_show(page, 0)
        page.keyboard.press("End")
        all_show(page, frames - 1)
        page.keyboard.press("Space")
        page.wait_for_timeout(150)
        page.get_by_label("Wipe", exact=True).first.check()
        page.wait_for_function(f"{SHOWN}.length === 2 && {SHOWN}.every(Number.isFinite)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        box = page.locator("#panes video").first.bounding_box()
        assert box["height"] <= 900 * 0.75 + 1
        assert box["width"] / box["height"] == pytest.approx(across / height, rel=0.05)


def test_a_player_that_falls_behind_catches_up(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    page.keyboard.press("Space")
    page.wait_for_function(f"{PLAYING} && document.getElementById('frame').value >= 2")
    page.evaluate("document.querySelectorAll('#players video')[3].currentTime += 0.9")
    page.evaluate("document.querySelectorAll('#players video')[4].pause()")
    page.wait_for_timeout(900)
    numbers = on_screen(page)
    assert max(numbers) - min(numbers) <= 1, numbers


def test_it_starts_again_at_the_end(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    page.keyboard.press("End")
    all_show(page, 23)
    page.locator("#loop").uncheck()
    page.locator("h1").click()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    page.wait_for_function(f"!({PLAYING})")
    all_show(page, 23)
    page.locator("#loop").check()
    page.locator("h1").click()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Space")
    page.wait_for_function(f"{PLAYING} && Number(document.getElementById('frame').value) < 10")


@pytest.mark.parametrize("rate", [8, 60])
def test_every_step_shows_the_very_frame(rate: int, report: Path, fast_report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving") if rate == 8 else clip_page(fast_report, "fast"))
    all_show(page, 0)
    last = 23 if rate == 8 else 179
    keys = [("ArrowRight", 1), ("ArrowRight", 2), ("Shift+ArrowRight", 12), ("ArrowLeft", 11), ("End", last), ("ArrowRight", last)]
    for key, frame in [*keys, ("ArrowLeft", last - 1), ("Home", 0), ("ArrowLeft", 0)]:
        page.keyboard.press(key)
        all_display(page, frame)
        assert page.locator("#counter").inner_text() == f"{frame + 1} / {last + 1}"
        assert page.locator("#chart .cursor").get_attribute("data-frame") == str(frame)


def test_steps_faster_than_the_players_arrive_at_the_last_one(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    all_display(page, 9)


def test_everything_is_reached_by_keyboard(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.value || document.activeElement.tagName"))
        if page.evaluate("document.activeElement.id") == "forward":
            outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert outline == "solid"
    assert {"play", "back", "forward", "frame", "speed", "loop", "errors", "metric"} <= reached
    page.locator("#forward").focus()
    page.keyboard.press("Enter")
    all_show(page, 1)
    page.locator("#frame").focus()
    page.keyboard.press("ArrowRight")
    all_show(page, 2)


def test_the_cursor_of_the_curves_follows_and_leads(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    chart, cursor = page.locator("#chart svg"), page.locator("#chart .cursor")
    assert page.locator("#chart .curve").count() == 3
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] / 2)
    frame = int(page.locator("#frame").input_value())
    assert 10 <= frame <= 16
    all_show(page, frame)
    assert abs(float(cursor.get_attribute("x1")) - box["width"] * 0.6) < box["width"] / 23
    now = page.locator("figure[data-name=dark] .now")
    value = now.inner_text()
    page.keyboard.press("Space")
    page.wait_for_function(f"Number(document.querySelector('#chart .cursor').dataset.frame) > {frame + 2}")
    assert now.inner_text() != value
    page.keyboard.press("Space")
    page.locator("#metric").select_option("mae[hole]")
    assert "mae[hole]" in now.inner_text()


def test_the_values_beside_the_curves_are_those_of_the_run(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    page.keyboard.press("ArrowRight")
    for model in ("dark", "bright"):
        (run,) = (report.parent.parent / "runs" / "numbered").glob(f"{model}-*")
        lines = (run / "scores" / "pixels-raw" / "frames" / "moving.csv").read_text().splitlines()
        row = dict(zip(lines[0].split(","), lines[2].split(","), strict=True))
        shown = page.locator(f"figure[data-name={model}] .now").inner_text()
        assert shown == f"psnr[hole], this frame: {float(row['psnr[hole]']):.2f} dB"


def test_wipe_shows_both_sides(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"), f"#view=wipe&left={model(report, 'dark')}&right={model(report, 'bright')}&frame=6")
    all_show(page, 5)

    def levels() -> tuple[float, float]:
        box = page.locator("#panes").bounding_box()
        picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))
        width, height = box["width"], page.locator("#panes video").first.bounding_box()["height"]
        row = round(box["y"] + height * 60 / 96)  # inside the hole, which lies at 30 to 90 of 160
        return float(picture[row, round(box["x"] + width * 0.25)]), float(picture[row, round(box["x"] + width * 0.5)])

    dark, bright = 65, 175  # the levels of the two models at this frame
    page.locator("#wipe").fill("40")
    assert levels() == pytest.approx((dark, bright), abs=12)
    page.locator("#wipe").focus()
    page.keyboard.press("End")
    assert levels() == pytest.approx((dark, dark), abs=12)
    page.keyboard.press("Home")
    assert levels() == pytest.approx((bright, bright), abs=12)
    all_show(page, 5)  # the keys moved the wipe and not the frame
    box = page.locator("#panes").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.4, box["y"] + 20)
    assert levels() == pytest.approx((dark, bright), abs=12)


def test_two_players_side_by_side_keep_the_frame(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.get_by_label("Side by side").check()
    all_show(page, 3)
    assert page.evaluate(SHOWN) == [3, 3]
    page.locator("h1").click()
    page.keyboard.press("ArrowRight")
    all_show(page, 4)
    page.get_by_label("All", exact=True).check()
    all_show(page, 4)
    assert page.evaluate(SHOWN) == [4] * 5


def test_error_maps_are_dark_where_nothing_is_wrong(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    page.locator("#errors").check()
    all_show(page, 0)
    assert page.locator("#legend").is_visible()
    video = page.locator("figure[data-name=dark] video").bounding_box()
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"), float)
    part = picture[round(video["y"]) : round(video["y"] + video["height"]), round(video["x"]) : round(video["x"] + video["width"])]
    height, width = part.shape
    assert part[round(height * 0.9), width // 2] < 25
    assert part[round(height * 60 / 96), round(width * 60 / 160)] > 100


def test_colours_are_those_of_the_frames(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    box = page.locator("figure[data-name=dark] video").bounding_box()
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"), float)
    pixel = picture[round(box["y"] + box["height"] * 60 / 96), round(box["x"] + box["width"] * 60 / 160)]
    assert pixel == pytest.approx([60, 60, 60], abs=4)


def test_nothing_is_loaded_that_is_not_near_the_window(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"), width=390, height=300)
    page.wait_for_timeout(300)
    loaded = page.evaluate("[...document.querySelectorAll('#players video')].filter(v => v.src).length")
    assert loaded < 5
    page.locator("figure[data-name=bright]").scroll_into_view_if_needed()
    page.wait_for_function("document.querySelector('figure[data-name=bright] video').dataset.shown === '0'")


def test_the_index_has_no_media(report: Path, open_page: Open) -> None:
    page = open_page(report.parent / "index.html")
    assert page.locator("video, img").count() == 0
    assert page.locator("table.ranking tbody tr").count() == 3
    page.wait_for_function("document.querySelectorAll('.pareto .point').length === 3")
    page.get_by_role("link", name="All clips, worst first").click()
    page.wait_for_function("document.querySelectorAll('#clips tbody tr').length === 3")


@pytest.mark.parametrize("width", [1280, 390])
def test_a_number_stands_on_its_point_or_at_the_end_of_a_line(crowd: Path, open_page: Open, width: int) -> None:
    """Twelve models, most of them nearly the same: no number lies on another one or on another model's point, and the list names them."""
    page = open_page(crowd / "index.html", width=width)
    page.wait_for_selector(".pareto .point")
    found = page.evaluate(
        """[...document.querySelectorAll('.pareto .point')].map((point) => {
          const circles = [...point.querySelectorAll('circle')].map((c) => [Number(c.getAttribute('cx')), Number(c.getAttribute('cy'))]);
          return { dot: circles[0], number: circles.at(-1), text: point.querySelector('text').textContent,
            lines: point.querySelectorAll('line').length };
        })"""
    )
    assert [one["text"] for one in found] == [str(place + 1) for place in range(12)]
    numbers, dots = (np.array([one[what] for one in found]) for what in ("number", "dot"))
    apart = np.linalg.norm(numbers[:, None] - numbers[None], axis=2) + 99 * np.eye(12)
    assert apart.min() >= 16
    to_dots = np.linalg.norm(numbers[:, None] - dots[None], axis=2)
    assert (to_dots + 99 * np.eye(12)).min() >= 11
    assert [one["lines"] for one in found] == [int(moved) for moved in np.diag(to_dots) > 0]
    assert any(one["lines"] for one in found)
    listed = page.locator(".pareto .key li").all_inner_texts()
    assert [text.split()[0] for text in listed] == page.locator("table.ranking tbody th bdi").all_inner_texts()
    assert all(" dB, " in text for text in listed)


def test_an_exact_frame_and_its_clip_say_the_same(report: Path, open_page: Open) -> None:
    page = open_page(clip_page(report, "moving"))
    all_show(page, 0)
    page.locator("#metric").select_option("psnr[background]")
    assert page.locator("figure[data-name=dark] .now").inner_text() == "psnr[background], this frame: 100.00 dB (cap)"
    assert "capped at 100 dB" in page.locator("#cap").inner_text()
    page.locator("#metric").select_option("mae[hole]")
    assert page.locator("#cap").inner_text() == ""


def test_worst_clips_come_first_for_the_chosen_model(report: Path, open_page: Open) -> None:
    page = open_page(report / "clips.html")

    def column(model: str) -> list[float]:
        heads = page.locator("#clips thead th").all_inner_texts()
        cells = page.locator(f"#clips tbody tr > :nth-child({heads.index(model) + 1})").all_inner_texts()
        return [float(text) for text in cells if text != "–"]

    for model in ("grey", "dark"):
        page.locator("#by").select_option(label=model)
        values = column(model)
        assert values == sorted(values)
        page.locator("#metric").select_option("mae[hole]")
        values = column(model)
        assert values == sorted(values, reverse=True)
        page.locator("#metric").select_option("psnr[hole]")
    page.locator("#clips a").first.click()
    page.wait_for_selector("#players")


def test_two_models_are_compared_clip_by_clip(report: Path, open_page: Open) -> None:
    page = open_page(report / "compare.html")
    page.locator("#a").select_option(label="grey")
    page.locator("#b").select_option(label="dark")
    assert page.locator("#wins tbody tr th").first.inner_text() == "moving"  # where grey fills well
    assert "+" in page.locator("#wins tbody tr td").nth(2).inner_text()
    assert "No clip" in page.locator("#losses").inner_text()
    assert re.search(r"A is better on 2, worse on 0, equal on 0 clips", page.locator("#verdict").inner_text())
    page.locator("#a").select_option(label="dark")
    page.locator("#b").select_option(label="grey")
    assert page.locator("#losses tbody tr th").first.inner_text() == "moving"
    assert page.locator("#bars rect").count() == 2
    assert " dB, 95 % interval" in page.locator("#verdict").inner_text()
    assert page.locator("#bars rect").last.get_attribute("aria-label").startswith("moving: −")
    drawn = page.locator("#bars text").all_text_contents()
    assert {"A − B, psnr[hole] (dB) ↑", "moving"} <= set(drawn)
    assert page.locator("#losses-hint").inner_text() == "All of the clips on which A is worse: 2 of 2."
    page.locator("#losses a").first.click()
    all_show(page, 0)
    assert page.locator("#panes figcaption").all_inner_texts() == ["dark", "grey"]
    assert page.locator("input[name=view][value=wipe]").is_checked()
