"""``vpbench rank``: tables of finished runs, leaderboards in git and their verification. Importing this module costs nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpbench.tables import Options

EPILOG = """\
exit status: 0 done, or verified; 1 a table or a value differs; 2 wrong use, or something cannot be read.

examples:
  vpbench rank runs
  vpbench rank runs/demo -o leaderboard
  vpbench rank runs/demo -o leaderboard --by operation --by coverage --pairs
  vpbench rank runs/demo -o paper --columns 'psnr[hole],ssim'
  vpbench rank runs/demo -o leaderboards/mine --submissions --by operation
  vpbench rank --verify leaderboards/mine
  vpbench rank runs/demo --verify leaderboards/mine --tolerance psnr=0.05
"""


def add_parser(commands: Any) -> None:
    """Add the command to argparse's sub-commands."""
    parser = commands.add_parser(
        "rank",
        help="tables of finished runs",
        description="Rank finished runs; runs with different benchmark data or signatures never share a rank.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("runs", nargs="*", type=Path, metavar="RUNS", help="run folders, folders that hold them, leaderboards, or summary.json files")
    add(
        "-o",
        "--out",
        type=Path,
        metavar="DIR",
        help="write the tables into this folder: leaderboard.csv (tidy), leaderboard.md, leaderboard.tex, leaderboard.html,"
        " leaderboard.json and leaderboard_wide.csv",
    )
    add("--by", action="append", default=[], metavar="PROPERTY", help="also by operation, coverage, motion, length or tag; may be repeated")
    add(
        "--columns",
        type=_names,
        default=(),
        metavar="all|NAME,...",
        help="columns of Markdown, HTML and LaTeX: metrics (psnr) or metrics in a region (psnr[hole]), in this order, or all"
        " (default: all in Markdown and HTML, those of the mean rank in LaTeX)",
    )
    add("--no-intervals", action="store_true", help="leave the intervals out of Markdown, LaTeX, HTML and the wide CSV")
    add("--pairs", action="store_true", help="write pairs.csv: the differences of all pairs of models, with interval and p")
    add("--submissions", action="store_true", help="store the runs in DIR/submissions and make the tables of all that lie there")
    add(
        "--verify",
        type=Path,
        metavar="DIR",
        help="make the tables of the leaderboards in DIR again and fail when they differ; with RUNS,"
        " hold these runs against the submissions of DIR too",
    )
    add(
        "--tolerance",
        action="append",
        default=[],
        metavar="[METRIC=]VALUE",
        help="how far a value of RUNS may be from its submission, in the"
        " metric's own unit; may be repeated (default: two units of the last decimal that tables show)",
    )
    parser.set_defaults(call=_rank)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _rank(given: argparse.Namespace) -> int:
    from vpbench.errors import ConfigError

    if given.verify is not None:
        if given.out or given.by or given.pairs or given.submissions or given.no_intervals or given.columns:
            raise ConfigError("--verify takes only RUNS and --tolerance: the leaderboard itself says how its tables were made.")
        if given.tolerance and not given.runs:
            raise ConfigError("--tolerance is for RUNS, and none are named: `vpbench rank RUNS --verify DIR --tolerance psnr=0.05`.")
        return _verify(given)
    if given.tolerance:
        raise ConfigError("--tolerance needs --verify DIR and RUNS.")
    if not given.runs:
        raise ConfigError("name the runs: `vpbench rank RUNS`, for example `vpbench rank runs/demo`.")
    for option in ("pairs", "submissions", "columns"):
        if given.out is None and getattr(given, option):
            raise ConfigError(f"--{option} needs -o DIR.")
    if given.out is not None and given.out.exists() and not given.out.is_dir():
        raise ConfigError(f"-o {given.out}: is a file, give a folder.")
    return _tables(given, _options(given))


def _options(given: argparse.Namespace) -> Options:
    from vpbench.slices import check_dimensions
    from vpbench.tables import Options

    return Options(check_dimensions(given.by), not given.no_intervals, given.pairs, given.columns)


def _tables(given: argparse.Namespace, options: Options) -> int:
    from rich.console import Console

    from vpbench.results import load_summaries
    from vpbench.tables import print_table, rank, write_tables

    if given.submissions:
        from vpbench.submissions import submit

        table, files = submit(given.runs, given.out, options)
        print_table(table, Console())
        print(f"submissions: {len(files)} written to {given.out / 'submissions'}")
    elif given.out is not None:
        table = write_tables(given.runs, given.out, options)
        print_table(table, Console())
    else:
        print_table(rank(load_summaries(given.runs), options.by), Console())
    if given.out is not None:
        print(f"tables: written to {given.out}")
    return 0


def _verify(given: argparse.Namespace) -> int:
    from vpbench.submissions import check_tolerances, compare, leaderboards, parse_tolerances, verify
    from vpbench.table_text import one_line

    tolerances = parse_tolerances(given.tolerance)
    found_in = leaderboards(given.verify)
    check_tolerances(tolerances, given.verify)
    failures = 0
    for leaderboard in found_in:
        differences, tables, submissions = verify(leaderboard)
        for line in differences:
            print(line)
        failures += len(differences)
        print(f"verify: {'FAIL' if differences else 'ok'}  {leaderboard}: {tables} tables from {submissions} submissions")
    if given.runs:
        found = compare(given.runs, given.verify, tolerances)
        for line in (*found.differences, *(f"note: {note}" for note in found.notes)):
            print(one_line(line))
        failures += len(found.differences)
        print(f"rerun: {'FAIL' if found.differences else 'ok'}  {found.rows} submissions, {found.values} values compared")
    return int(failures > 0)
