"""``vpbench report``: its options, and what it prints."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

EXAMPLES = """\
examples:
  vpbench report runs/demo -o report
  vpbench report runs/demo -o report --clips 20 --models telea,flow_propagation
"""


def add_parser(commands: Any) -> None:
    """Add ``report`` to the sub-commands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "report",
        help="static pages with players, curves and comparisons",
        description="Write static pages of finished runs: ranked tables, a page with players per clip, comparisons of two models. Open "
        "DIR/index.html from disk; nothing is loaded from a network. Videos that DIR holds already are kept, so the same command again "
        "makes only what is missing.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUNS", help="run folders, folders that hold them, leaderboards, or summaries"
    )
    parser.add_argument("-o", "--out", type=Path, metavar="DIR", required=True, help="folder of the report")
    parser.add_argument("--clips", default="", metavar="N|NAMES", help="pages for the N worst clips of a table, or for these (a,b)")
    parser.add_argument("--models", default="", metavar="NAMES", help="only these models (a,b)")
    parser.add_argument("--track", default="", metavar="NAMES", help="only this track: raw, composite")
    parser.add_argument("--protocol", default="", metavar="NAMES", help="only these protocols (a,b)")
    parser.set_defaults(call=_report)


def _report(options: argparse.Namespace) -> int:
    from vpbench.app import progress_bar
    from vpbench.errors import ConfigError
    from vpbench.report.pages import Selection, write_report

    clips: int | tuple[str, ...] = int(options.clips) if options.clips.removeprefix("-").isdecimal() else _names(options.clips)
    if isinstance(clips, int) and clips < 1:
        raise ConfigError(f"--clips {clips}: give a number of clips, at least 1, or names.")
    selection = Selection(clips, _names(options.models), _names(options.track), _names(options.protocol))
    with progress_bar("report") as progress:
        report = write_report(options.runs, options.out, selection, progress)
    for note in report.notes:
        print(f"vpbench: {note}", file=sys.stderr)
    print(f"report: {report.index}  ({report.made} files for players made now, {report.kept} kept)")
    return 0


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
