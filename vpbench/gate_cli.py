"""``vpbench gate``: its options and what it does with them. Importing this module costs nothing."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Compare a candidate's results with a baseline's under rules, and say so with the exit status.

A column regresses when a one-sided paired test over the clips is sure that it dropped by more than the tolerance; what cannot be
compared is inconclusive and never passes.
"""
EPILOG = """\
exit status: 0 pass; 1 regression; 2 usage or configuration error; 3 inconclusive; 4 the candidate run had failures.

examples:
  vpbench gate --save baseline.json runs/demo
  vpbench gate --baseline baseline.json --candidate runs/demo --junit gate.xml
  vpbench gate --baseline leaderboard/leaderboard.csv --baseline-model telea --candidate runs/demo --rules tolerance
"""


def add_parser(commands: Any) -> None:
    """Add the command to the subparsers of ``vpbench``."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "gate",
        help="verdict for CI: is a candidate worse than a baseline",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    sides = parser.add_argument_group("what is compared")
    baseline = "run folders, a saved baseline, or a leaderboard.csv (for rules without a test)"
    sides.add_argument("--baseline", nargs="+", type=Path, metavar="PATH", help=baseline)
    sides.add_argument("--candidate", nargs="+", type=Path, metavar="PATH", help="run folders, or a saved file")
    rules = "default, strict, tolerance, or a file (default: %(default)s)"
    sides.add_argument("--rules", default="default", metavar="NAME|FILE.yaml", help=rules)
    sides.add_argument("--baseline-model", default="", metavar="NAME", help="which of several: a model's name or a run's id")
    sides.add_argument("--candidate-model", default="", metavar="NAME", help="the same for the candidate")
    sides.add_argument("--protocol", default="", metavar="NAME")
    sides.add_argument("--track", default="", metavar="NAME")
    outputs = parser.add_argument_group("what is written (Markdown is also appended to $GITHUB_STEP_SUMMARY when that is set)")
    outputs.add_argument("--json", type=Path, metavar="FILE")
    outputs.add_argument("--junit", type=Path, metavar="FILE")
    outputs.add_argument("--markdown", type=Path, metavar="FILE")
    saving = parser.add_argument_group("a baseline")
    saving.add_argument("--save", type=Path, metavar="FILE", help="write the results of RUNS into one small file, and compare nothing")
    saving.add_argument("runs", nargs="*", type=Path, metavar="RUNS", help="run folders, or folders that hold them")
    parser.set_defaults(call=run)


def run(options: argparse.Namespace) -> int:
    """Do what the options ask for; a defect of ours is never taken for a regression."""
    from vpbench.errors import VpbenchError

    try:
        return _save(options) if options.save is not None else _gate(options)
    except VpbenchError:
        raise
    except Exception:
        print(f"vpbench: this is a defect of vpbench, please report it:\n{traceback.format_exc()}", file=sys.stderr)
        return 2


def _gate(options: argparse.Namespace) -> int:
    from vpbench import gate_outputs
    from vpbench.errors import ConfigError, StorageError
    from vpbench.gate import gate
    from vpbench.gate_sides import Choice
    from vpbench.storage import write_bytes, write_json

    if not options.baseline or not options.candidate or options.runs:
        raise ConfigError("gate: give --baseline PATH and --candidate PATH, or --save FILE RUNS... (vpbench gate --help).")
    choice = Choice(options.baseline_model, options.candidate_model, options.protocol, options.track)
    verdict = gate(options.baseline, options.candidate, options.rules, choice)
    if options.json is not None:
        write_json(options.json, gate_outputs.to_dict(verdict))
    if options.junit is not None:
        write_bytes(options.junit, gate_outputs.junit(verdict))
    if options.markdown is not None:
        write_bytes(options.markdown, gate_outputs.markdown(verdict).encode())
    if summary := os.environ.get("GITHUB_STEP_SUMMARY"):
        try:
            gate_outputs.append_summary(Path(summary), verdict)
        except StorageError as error:  # nobody asked for this file by name: the verdict stands
            print(f"vpbench: {error}", file=sys.stderr)
    gate_outputs.print_verdict(verdict)
    return verdict.exit_status


def _save(options: argparse.Namespace) -> int:
    from vpbench.errors import ConfigError
    from vpbench.gate import FAILED, INCONCLUSIVE
    from vpbench.gate_sides import incomplete, save

    if not options.runs or options.baseline or options.candidate:
        raise ConfigError("gate: --save FILE takes the run folders and nothing else: vpbench gate --save baseline.json RUNS...")
    summaries = save(options.save, options.runs)
    bad = incomplete(summaries)
    for summary in bad:
        print(f"vpbench: {summary.source}: {summary.ok} of {summary.total} clips, {summary.failed} failed: no baseline.", file=sys.stderr)
    if bad:
        return FAILED if any(summary.failed for summary in bad) else INCONCLUSIVE
    names = ", ".join(f"{summary.model} ({summary.protocol} {summary.track})" for summary in summaries)
    print(f"gate: saved {names} in {options.save}, {options.save.stat().st_size / 1000:.1f} kB")
    return 0
