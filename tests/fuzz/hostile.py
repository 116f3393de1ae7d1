"""Whether pages that we wrote can run what was in their data."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import urlsplit

ASSETS = ("charts.js", "clip.js", "tables.js", "data.js", "pairs.js")
LINKS = ("href", "src", "data-video", "data-error", "action", "formaction", "poster", "xlink:href", "srcdoc")
TAGS = ("iframe", "object", "embed", "form", "img", "svg", "base", "applet", "frame", "math", "template")


class _Page(HTMLParser):
    def __init__(self, where: str) -> None:
        super().__init__(convert_charrefs=True)
        self.where, self.found = where, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag in TAGS:
            self.found.append(f"{self.where}: <{tag}>")
        if tag == "script" and given.get("type") != "application/json" and (given.get("src") or "").rpartition("/")[2] not in ASSETS:
            self.found.append(f"{self.where}: a script that is not ours: {attrs}")
        for name, text in attrs:
            if name.startswith("on") or (name == "style" and re.search(r"url\(|expression|@import", text or "")):
                self.found.append(f"{self.where}: {name}={text!r}")
            if name in LINKS and (urlsplit(text or "").scheme not in ("", "data") or (text or "").startswith("//")):
                self.found.append(f"{self.where}: {name}={text!r}")


def scripts_in(folder: Path) -> list[str]:
    """What in the pages below a folder could run or load something that is not ours; empty where nothing can."""
    found: list[str] = []
    for path in sorted(folder.rglob("*.html")):
        page = _Page(path.name)
        page.feed(path.read_text(encoding="utf-8"))
        page.close()
        found += page.found
    for path in (path for path in folder.rglob("*.js") if path.name in ("data.js", "pairs.js")):
        text = path.read_text(encoding="utf-8")
        if "<" in text or not re.match(r"window\.(REPORT|PAIRS) = ", text) or text.count("\n") != 1:
            found.append(f"{path.name}: more than data")
    for path in folder.rglob("*.md"):
        if re.search(r"<\s*(script|img|iframe|svg)|\]\(\s*javascript:", path.read_text(encoding="utf-8"), re.IGNORECASE):
            found.append(f"{path.name}: markup of somebody else's")
    return found
