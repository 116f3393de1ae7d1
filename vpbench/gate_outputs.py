"""A gate's verdict as text, JSON, JUnit XML and Markdown."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from vpbench.errors import StorageError
from vpbench.gate import FAILED, PASS, Verdict
from vpbench.gate_checks import Check, Status
from vpbench.results import Summary
from vpbench.statistics import LEVEL
from vpbench.version import __version__

SCHEMA = 1  # of the JSON
SUMMARY_BYTES = 1024 * 1024  # GitHub shows no larger step summary
ROOM = 200  # bytes kept for the line that says what was left out
NUMBERS = ("baseline", "candidate", "drop", f"{LEVEL:.0%} interval", "tolerance", "p (Holm)", "clips")  # columns of the Markdown
SHOWN: tuple[Status, ...] = ("regression", "inconclusive", "acknowledged", "pass", "skipped")  # the order of every output
STYLES = {"regression": "bold red", "inconclusive": "yellow", "acknowledged": "cyan", "pass": "green", "skipped": "dim"}


def ordered(verdict: Verdict) -> list[Check]:
    """The checks, regressions first."""
    return sorted(verdict.checks, key=lambda check: SHOWN.index(check.status))


def headline(verdict: Verdict) -> str:
    """The verdict in one line."""
    counts = ", ".join(f"{n} {status}" for status in SHOWN if (n := verdict.count(status)))
    return f"gate: {verdict.name}  {counts or 'nothing was compared'} (exit status {verdict.exit_status})"


def styled_lines(verdict: Verdict) -> Iterator[tuple[str, str]]:
    """The verdict for a terminal: lines with a style of rich; the last one is the headline."""
    for side, summary in (("baseline ", verdict.baseline), ("candidate", verdict.candidate)):
        if summary is not None:
            yield f"{side}  {_side(summary)}", "dim"
    yield from ((problem.text, "bold red" if problem.status == FAILED else "yellow") for problem in verdict.problems)
    yield from ((f"    {clip}: {reason}", "") for clip, reason in verdict.failed)
    for check in ordered(verdict):
        yield f"{check.status:<12}  {check.name}  {sentence(check)}", STYLES[check.status]
        if check.status == "regression":
            yield from ((f"    {line}", "") for line in worst(check))
    yield from ((f"note: {note}", "dim") for note in verdict.notes)
    yield headline(verdict), f"bold {'green' if verdict.exit_status == PASS else 'red'}"


def as_text(verdict: Verdict) -> str:
    """The verdict as a terminal shows it, without styles."""
    return "\n".join(one_line(line) for line, _ in styled_lines(verdict))


def print_verdict(verdict: Verdict) -> None:
    """Print the verdict to standard output: coloured on a terminal, plain and never cut in a file or pipe."""
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for line, style in styled_lines(verdict):
        console.print(Text(one_line(line), style=style), soft_wrap=True)


def one_line(text: str) -> str:
    """Text on one line, without what a terminal would obey."""
    kept = re.sub(r"[\t\n\r\v\f\x85\u2028\u2029]", " ", text)
    return "".join(character for character in kept if character.isprintable())


def _side(summary: Summary) -> str:
    clips = f"{summary.ok}/{summary.total} clips"
    return f"{summary.model} ({summary.run}) · {summary.benchmark} · {summary.protocol} · {summary.track} · {clips} · {summary.source}"


def number(value: float) -> str:
    """A value as people read it.

    >>> number(27.9461), number(-0.0000031), number(float("nan"))
    ('27.95', '-3.1e-06', '-')
    """
    return "-" if math.isnan(value) else f"{value:.4g}"


def sentence(check: Check) -> str:
    """What a check found: values, drop, interval and test; or why there is nothing."""
    if math.isnan(check.drop):
        return check.reason
    unit = f" {check.unit}" if check.unit else ""
    change = f"drop {number(check.drop)}" if check.drop > 0 else f"gain {number(abs(check.drop))}"
    parts = [f"{change}{unit}"]
    if not math.isnan(check.low):
        parts.append(f"{LEVEL:.0%} interval of the drop {number(check.low)} to {number(check.high)}")
    parts.append(f"tolerance {check.limit}")
    if not math.isnan(check.p_holm):
        parts.append(f"p = {check.p:.2g}, {check.p_holm:.2g} after Holm")
    elif check.test == "none":
        parts.append("no test")
    parts.append(f"{check.n} clip{'' if check.n == 1 else 's'}")
    reason = f" - {why}" if (why := remark(check)) else ""
    return f"{number(check.baseline)} -> {number(check.candidate)}{unit} ({', '.join(parts)}){reason}"


def remark(check: Check) -> str:
    """Why there is no verdict, what was acknowledged, or that a pass is a drop which the test could not prove; empty for none of these."""
    if not check.unproven:
        return check.reason
    unit = f" {check.unit}" if check.unit else ""
    return f"dropped {number(check.drop)}{unit}, more than the tolerance, but not significant: {check.n} clips do not prove it"


def worst(check: Check) -> list[str]:
    """The clips that dropped most, one line each."""
    return [f"{c.clip}: {number(c.baseline)} -> {number(c.candidate)} (drop {number(c.drop)})" for c in check.worst]


def to_dict(verdict: Verdict) -> dict[str, Any]:
    """The verdict for JSON: numbers unrounded, null where there are none."""
    return {
        "schema": SCHEMA,
        "vpbench": __version__,
        "verdict": verdict.name,
        "exit_status": verdict.exit_status,
        "rules": verdict.rules,
        "baseline": _summary(verdict.baseline),
        "candidate": _summary(verdict.candidate),
        "problems": [{"exit_status": problem.status, "text": problem.text} for problem in verdict.problems],
        "failed": [{"clip": clip, "reason": reason} for clip, reason in verdict.failed],
        "checks": [_check(check) for check in ordered(verdict)],
        "notes": list(verdict.notes),
    }


def _summary(summary: Summary | None) -> dict[str, Any] | None:
    if summary is None:
        return None
    names = ("benchmark", "fingerprint", "model", "run", "protocol", "track", "ok", "total", "failed")
    return {**{name: getattr(summary, name) for name in names}, "source": str(summary.source)}


def _check(check: Check) -> dict[str, Any]:
    found = {name: _plain(getattr(check, name)) for name in check.__dataclass_fields__ if name != "worst"}
    return {**found, "worst": [{name: _plain(value) for name, value in vars(clip).items()} for clip in check.worst]}


def _plain(value: Any) -> Any:
    """JSON knows neither nan nor infinity: they become null and text."""
    if not isinstance(value, float):
        return value
    return None if math.isnan(value) else value if math.isfinite(value) else repr(value)


def junit(verdict: Verdict) -> bytes:
    """JUnit XML: a test case per check and per problem; regressions are failures, what is inconclusive is an error."""
    suite = ElementTree.Element("testsuite", name="vpbench gate")
    for problem in verdict.problems:
        text = "\n".join([problem.text, *(f"{clip}: {reason}" for clip, reason in verdict.failed if problem.status == FAILED)])
        name = "the candidate run is complete" if problem.status == FAILED else "the results can be compared"
        _case(suite, "gate", name, "error", problem.text, text)
    kinds: dict[Status, str] = {"regression": "failure", "inconclusive": "error", "skipped": "skipped"}
    group = f"gate.{verdict.candidate.model}" if verdict.candidate else "gate"
    for check in ordered(verdict):
        text = "\n".join([sentence(check), *worst(check)])
        _case(suite, group, check.name, kinds.get(check.status, ""), sentence(check), text)
    cases = suite.findall("testcase")
    suite.set("tests", str(len(cases)))
    for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(attribute, str(sum(case.find(tag) is not None for case in cases)))
    suite.set("time", "0")
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _case(suite: ElementTree.Element, group: str, name: str, kind: str, message: str, text: str) -> None:
    case = ElementTree.SubElement(suite, "testcase", classname=_xml(group), name=_xml(name), time="0")
    if kind == "skipped":
        ElementTree.SubElement(case, "skipped", message=_xml(message))
    elif kind:
        ElementTree.SubElement(case, kind, message=_xml(message), type=kind).text = _xml(text)
    else:
        ElementTree.SubElement(case, "system-out").text = _xml(text)


def _xml(text: str) -> str:
    """Text without the characters that XML cannot hold; ElementTree escapes the rest."""
    return re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def markdown(verdict: Verdict, limit: int = SUMMARY_BYTES) -> str:
    """The verdict as Markdown of at most ``limit`` bytes; what does not fit is cut at a line, and a line says so."""
    lines = [f"### {_escape(headline(verdict))}", ""]
    for side, summary in (("baseline", verdict.baseline), ("candidate", verdict.candidate)):
        if summary is not None:
            lines.append(f"* {side}: {_escape(_side(summary))}")
    lines += [f"* **{_escape(problem.text)}**" for problem in verdict.problems]
    lines += [f"* failed: {_escape(clip)}: {_escape(reason)}" for clip, reason in verdict.failed]
    if verdict.checks:
        titles = ("check", "status", *NUMBERS, "worst clips, reason")
        lines += ["", f"| {' | '.join(titles)} |", f"|:--|:--|{'--:|' * len(NUMBERS)}:--|", *(_line(check) for check in ordered(verdict))]
    lines += ["", *(f"* note: {_escape(note)}" for note in verdict.notes)]
    return _capped(lines, limit)


def _line(check: Check) -> str:
    interval = "" if math.isnan(check.low) else f"{number(check.low)} to {number(check.high)}"
    p = "" if math.isnan(check.p_holm) else f"{check.p_holm:.2g}"
    why = "; ".join([*([why] if (why := remark(check)) else []), *(worst(check) if check.status == "regression" else [])])
    status = f"**{check.status}**" if check.status == "regression" else check.status
    name = f"{check.name} ({check.unit})" if check.unit else check.name
    numbers = [number(check.baseline), number(check.candidate), number(check.drop), interval, check.limit, p, str(check.n)]
    return f"| {_escape(name)} | {status} | {' | '.join(map(_escape, numbers))} | {_escape(why)} |"


def _capped(lines: list[str], limit: int) -> str:
    room, kept = limit - ROOM, []
    for index, line in enumerate(lines):
        room -= len(line.encode()) + 1
        if room < 0:
            kept += ["", f"*{len(lines) - index} lines were left out: the summary would be too large. The JSON has everything.*"]
            break
        kept.append(line)
    text = "\n".join(kept) + "\n"
    return text if len(text.encode()) <= limit else ""


def _escape(text: str) -> str:
    """Text as Markdown in a table cell: no HTML, no borders, no links, mentions or emphasis, one line."""
    return re.sub(r"([\\`*\[\]_|~#@])", r"\\\1", html.escape(one_line(text), quote=False))


def append_summary(file: Path, verdict: Verdict) -> None:
    """Append the Markdown to a CI system's summary, within what is left of its size.

    Raises:
        StorageError: it cannot be written.
    """
    try:
        written = file.stat().st_size if file.exists() else 0
        with open(file, "ab") as stream:
            stream.write(markdown(verdict, SUMMARY_BYTES - written).encode())
    except OSError as error:
        raise StorageError(f"{file}: cannot be written ({error.strerror or error}).") from error
