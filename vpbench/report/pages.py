"""Writing a report: which runs, which clips get players, and the pages themselves."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from vpbench.configuration import unknown_name
from vpbench.errors import ConfigError, StorageError
from vpbench.report.content import Section, number, slug
from vpbench.report.players import ClipMedia, Media
from vpbench.results import Cell, Summary, load_summaries
from vpbench.storage import cannot_write, read_json, write_bytes, write_json
from vpbench.table_text import cap_of, place_text, range_text, short
from vpbench.tables import rank
from vpbench.version import __version__
from vpbench.video import probe

ASSETS = ("report.css", "charts.js", "clip.js", "tables.js")
MANIFEST = "report.json"  # names the pages that the latest report wrote, so that the next one can remove those it no longer has
WORST = 5  # clips that the first page names per table

Progress = Callable[[str, int, int], None]


@dataclass
class Report:
    """What was written.

    Attributes:
        index: the first page.
        made: videos and texts that this call made.
        kept: those that were there already.
        notes: what is not in the report, and why.
    """

    index: Path
    made: int = 0
    kept: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """Which part of the results a report shows; empty means all.

    Attributes:
        clips: names of the clips that get a page with players; or, as a number, how many of each table's worst ones.
        models: names of models.
        tracks: ``raw``, ``composite``.
        protocols: names of protocols.
    """

    clips: int | tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    tracks: tuple[str, ...] = ()
    protocols: tuple[str, ...] = ()

    def summaries(self, found: Sequence[Summary]) -> list[Summary]:
        """Those that are wanted.

        Raises:
            ConfigError: a name that no result has (lists those there are), or a combination that leaves nothing.
        """
        wanted = (("models", "model", self.models), ("track", "track", self.tracks), ("protocol", "protocol", self.protocols))
        kept = list(found)
        for option, attribute, names in wanted:
            known = {str(getattr(summary, attribute)) for summary in found}
            for name in names:
                if name not in known:
                    raise unknown_name(f"--{option}", name, known)
            kept = [summary for summary in kept if not names or getattr(summary, attribute) in names]
        if not kept:
            raise ConfigError("--models, --track and --protocol together leave no result; name fewer of them.")
        return kept

    def of(self, section: Section) -> list[str]:
        """The clips of a table that get a page, worst first."""
        if isinstance(self.clips, int):
            return section.clips[: self.clips]
        return [clip for clip in section.clips if not self.clips or clip in self.clips]

    def check(self, sections: Iterable[Section]) -> None:
        """Refuse clips that no table has.

        Raises:
            ConfigError: lists those there are.
        """
        if isinstance(self.clips, tuple):
            known = {clip for section in sections for clip in section.all_clips}
            for clip in self.clips:
                if clip not in known:
                    raise unknown_name("--clips", clip, known)


def write_report(
    runs: Sequence[Path],
    out: Path,
    selection: Selection | None = None,
    progress: Progress = lambda clip, done, total: None,
) -> Report:
    """Write the pages of runs into a folder. Videos that are there already are kept; other files of the folder are left alone.

    Args:
        runs: run folders, folders that hold them, leaderboards, files with summaries.
        out: the folder of the report.
        selection: what of it; None for all.
        progress: called with a clip's name and the counts whenever the page of a clip is written.

    Raises:
        DataError: no scores, or a damaged file.
        ConfigError: a selection that fits nothing.
        StorageError: ``out`` cannot be written.
    """
    chosen = selection or Selection()
    table = rank(chosen.summaries(load_summaries(runs)))
    sections = [Section.of(group) for group in table.groups]
    chosen.check(sections)
    return _Writer(Path(out), sections, chosen).write(progress)


class _Writer:
    def __init__(self, out: Path, sections: Sequence[Section], selection: Selection) -> None:
        self.out, self.sections, self.selection = out, sections, selection
        self.media = Media(out / "media")
        self.report = Report(out / "index.html")
        self.pages: set[str] = set()
        self.templates = Environment(
            loader=PackageLoader("vpbench.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self.templates.globals.update(version=__version__, paged={section.slug: self._paged(section) for section in sections})
        self.templates.filters.update(
            json=as_json,
            pareto=pareto_of,
            slug=slug,
            plain=plain_number,
            place=place_text,
            range=range_text,
            ends=ends_text,
            value=value_text,
        )

    def write(self, progress: Progress) -> Report:
        former = self._former()
        for name in ASSETS:
            self._copy(name)
        total = sum(len(self._paged(section)) for section in self.sections)
        done = 0
        progress("", done, total)
        for section in self.sections:
            self._tables(section)
            missing: dict[str, list[str]] = {}
            for clip in self._paged(section):
                reason = self._clip(section, clip)
                if reason:
                    missing.setdefault(reason, []).append(clip)
                done += 1
                progress(clip, done, total)
            self._note(section, missing)
        benchmarks = ", ".join(dict.fromkeys(short(section.group.benchmark) for section in self.sections))
        self._page("index.html", "index.html", sections=self.sections, benchmarks=benchmarks, notes=self.report.notes, worst=WORST)
        self._remove(former - self.pages)
        write_json(self.out / MANIFEST, {"vpbench": __version__, "pages": sorted(self.pages)})
        self.report.kept = len(self.media.used) - self.report.made
        return self.report

    def _paged(self, section: Section) -> list[str]:
        """The clips that get a page, worst first: none where there are numbers alone."""
        return self.selection.of(section) if any(section.runs) else []

    def _tables(self, section: Section) -> None:
        """The list of clips, the comparison of two models, and the values that both read."""
        self._script(f"{section.slug}/data.js", "REPORT", values_of(section, set(self._paged(section))))
        pairs = {cell.column: section.pairs(cell) for cell in section.columns}
        self._script(f"{section.slug}/pairs.js", "PAIRS", pairs)
        for name in ("clips.html", "compare.html"):
            self._page(f"{section.slug}/{name}", name, section=section, root="../")

    def _clip(self, section: Section, clip: str) -> str:
        """The page of a clip; returns why it has no input and reference, empty where it has."""
        models = list(zip(section.labels, section.runs, section.views, strict=True))
        media = self.media.clip(clip, models)
        self.report.made += media.made
        order = self._paged(section)
        place = order.index(clip)
        self._page(
            f"{section.slug}/clips/{slug(clip)}.html",
            "clip.html",
            section=section,
            clip=clip,
            media=media,
            properties=section.properties(clip),
            data=self._players(section, clip, media),
            scores=clip_scores(section, clip),
            before=order[place - 1] if place else None,
            after=order[place + 1] if place + 1 < len(order) else None,
            place=place + 1,
            colours=error_gradient(),
            root="../../",
        )
        return media.missing

    def _players(self, section: Section, clip: str, media: ClipMedia) -> dict[str, Any]:
        """What the script of a clip's page reads."""
        curves = section.curves(clip)
        shown = {cell.column: cell for cell in section.columns}
        main = section.main_column.column if section.main_column else ""
        longest = max((len(line) for lines in curves.values() for line in lines), default=0)
        found = section.properties(clip)
        return {
            "fps": float(found.get("fps") or 0) or self._rate(media),
            "frames": int(found.get("frames") or 0) or longest,
            "models": section.labels,
            "main": main if main in curves else next(iter(curves), ""),
            "columns": {name: column_of(shown[name]) for name in curves},
            "curves": curves,
        }

    def _rate(self, media: ClipMedia) -> float:
        """Frames per second of a clip whose results do not say it."""
        videos = [player.video for player in media.players if player.video]
        return probe(self.media.folder / videos[0]).fps if videos else 1.0

    def _note(self, section: Section, missing: Mapping[str, Sequence[str]]) -> None:
        title = section.title
        if not any(section.runs):
            self.report.notes.append(f"{title}: tables only. Players need run folders, and only files with numbers were given.")
        elif alone := [label for label, run in zip(section.labels, section.runs, strict=True) if run is None]:
            self.report.notes.append(f"{title}: numbers only, no players: {', '.join(alone)} (no run folder was given).")
        for reason, clips in missing.items():
            which = "all clips" if len(clips) == len(self._paged(section)) else ", ".join(clips)
            self.report.notes.append(f"{title}: no players of input, reference and errors for {which}: {reason}.")
        left_out = len(section.all_clips) - len(self._paged(section))
        if left_out and any(section.runs):
            self.report.notes.append(f"{title}: {left_out} of {len(section.all_clips)} clips have no page (--clips).")

    def _page(self, path: str, template: str, **values: Any) -> None:
        text = self.templates.get_template(template).render({"root": "", **values})
        write_bytes(self.out / path, text.encode("utf-8", "replace"))
        self.pages.add(path)

    def _script(self, path: str, name: str, value: Any) -> None:
        write_bytes(self.out / path, f"window.{name} = {as_json(value)};\n".encode())
        self.pages.add(path)

    def _copy(self, name: str) -> None:
        write_bytes(self.out / name, (Path(__file__).parent / "assets" / name).read_bytes())

    def _former(self) -> set[str]:
        """The pages of the report that the folder holds."""
        path = self.out / MANIFEST
        try:
            pages = read_json(path).get("pages", []) if path.exists() else []
        except StorageError:
            pages = []
        return {str(page) for page in pages if ".." not in Path(str(page)).parts and not Path(str(page)).is_absolute()}

    def _remove(self, pages: Iterable[str]) -> None:
        paths = [self.out / page for page in pages]
        try:
            for path in paths:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise cannot_write(self.out, error) from error
        for folder in sorted({path.parent for path in paths} - {self.out}, key=lambda folder: len(folder.parts), reverse=True):
            with contextlib.suppress(OSError):  # it holds other files
                folder.rmdir()


def as_json(value: Any) -> Markup:
    """JSON that is safe inside a ``script`` element: no character of it can end the element."""
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def column_of(cell: Cell) -> dict[str, Any]:
    """What scripts need to know of a column."""
    found = {"header": cell.header, "higher": cell.direction == "higher", "scale": cell.scale, "digits": cell.digits}
    return {**found, "unit": unit_text(cell), "cap": cap_of(cell)}


def values_of(section: Section, paged: set[str]) -> dict[str, Any]:
    """What the script of the tables reads: columns, models, clips worst first, and the value of every clip."""
    place = {clip: index for index, clip in enumerate(section.all_clips)}
    order = [place[clip] for clip in section.clips]
    values = {cell.column: section.values(cell.column)[:, order] for cell in section.clip_columns}
    return {
        "models": [{"label": label, "ranked": not row.reason} for label, row in zip(section.labels, section.rows, strict=True)],
        "columns": {cell.column: column_of(cell) for cell in section.columns},
        "main": section.main_column.column if section.main_column else "",
        "clips": [{"name": clip, "page": f"clips/{slug(clip)}.html" if clip in paged else ""} for clip in section.clips],
        "values": {name: [[number(value) for value in line] for line in lines] for name, lines in values.items()},
    }


def pareto_of(section: Section) -> dict[str, Any]:
    """What the plot of quality against seconds reads."""
    columns = [cell for cell in section.columns if any((c := r.summary.cell(cell.column)) and c.value is not None for r in section.rows)]
    cells = {cell.column: [row.summary.cell(cell.column) for row in section.rows] for cell in columns}
    return {
        "models": [{"label": label, "ranked": not row.reason} for label, row in zip(section.labels, section.rows, strict=True)],
        "seconds": [number(seconds) for seconds in section.seconds],
        "main": section.main_column.column if section.main_column else next(iter(cells), ""),
        "columns": {cell.column: column_of(cell) for cell in columns},
        "values": {name: [number(cell.value) if cell else None for cell in found] for name, found in cells.items()},
        "intervals": {name: [[number(end) for end in row.intervals.get(name, ())] for row in section.rows] for name in cells},
    }


def clip_scores(section: Section, clip: str) -> list[dict[str, Any]]:
    """The values of one clip: a row per model, a text per column with values per clip, the best of each column marked."""
    index = section.all_clips.index(clip)
    rows: list[dict[str, Any]] = [
        {"label": label, "full": row.label, "cells": []} for label, row in zip(section.labels, section.rows, strict=True)
    ]
    for cell in section.clip_columns:
        values = [float(value) for value in section.values(cell.column)[:, index]]
        rivals = [value for value, row in zip(values, section.rows, strict=True) if value == value and not row.reason]
        best = (max if cell.direction == "higher" else min)(rivals, default=None)
        for value, row, line in zip(values, section.rows, rows, strict=True):
            line["cells"].append({"text": cell_text(value, cell), "best": len(rivals) > 1 and value == best and not row.reason})
    return rows


def cell_text(value: float | None, cell: Cell) -> str:
    """A value as people read it; empty where there is none."""
    if value is None or value != value:
        return ""
    return f"{value * cell.scale:.{cell.digits}f}".replace("inf", "∞")


def unit_text(cell: Cell) -> str:
    """What follows a value in people's scale: `` dB``, `` (x1000)``, or nothing."""
    return (f" {cell.unit}" if cell.unit else "") + (f" (x{cell.scale:g})" if cell.scale != 1 else "")


def value_text(value: float, cell: Cell) -> str:
    """A value with its unit; a dash where it is undefined."""
    return f"{cell_text(value, cell)}{unit_text(cell)}" if value == value else "–"


def ends_text(interval: tuple[float, float], cell: Cell) -> str:
    """The ends of an interval as people read them."""
    return " to ".join(cell_text(end, cell) for end in interval)


def plain_number(value: float | None) -> str:
    """Three significant digits without an exponent; empty for None.

    >>> plain_number(0.01234), plain_number(1234.5), plain_number(None)
    ('0.0123', '1230', '')
    """
    if value is None:
        return ""
    text = f"{float(f'{value:.3g}'):.10f}"
    return text.rstrip("0").rstrip(".") if value else "0"


def error_gradient() -> str:
    """The heat map's colours as a CSS gradient."""
    from vpbench.report.previews import error_colours

    stops = [error_colours()[level] for level in range(0, 256, 15)]
    return "linear-gradient(to right, " + ", ".join(f"rgb({r} {g} {b})" for r, g, b in stops) + ")"
