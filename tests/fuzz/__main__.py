"""``python -m tests.fuzz``: damaged inputs for every reader, and a table of what came of them."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.campaign import Tally, campaign
from tests.fuzz.readers import READERS

HEAD = ("reader", "inputs", "accepted", "refused", "findings", "seconds", "slowest, s", "most memory, MB")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the options ask for; returns 1 where something was found."""
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=60, metavar="N", help="per reader (default: %(default)s)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="number of the first input (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="decides all inputs (default: %(default)s)")
    parser.add_argument("--reader", default="", metavar="TEXT", help="only readers whose name holds this")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="copy inputs with findings to here")
    parser.add_argument("--refusals", action="store_true", help="also show examples of the errors")
    options = parser.parse_args(arguments)
    tallies = []
    print(_row(HEAD), _row(("---",) * len(HEAD)), sep="\n")
    for reader in READERS:
        if options.reader in reader.name:
            tally = campaign(reader.name, options.first, options.inputs, options.seed, options.keep)
            tallies.append(tally)
            print(_row(cells(tally)), flush=True)
            if options.refusals:
                for text in sorted(set(tally.examples))[:: max(1, len(set(tally.examples)) // 15)]:
                    print(f"    {text}")
            for what, numbers in tally.findings.items():
                print(f"    FOUND {len(numbers)}x, first {numbers[0]}: {what}", flush=True)
    total = [sum(column) for column in zip(*((t.inputs, t.accepted, t.refused, len(t.findings), t.seconds) for t in tallies), strict=True)]
    print(_row(("all", *map(str, total[:4]), f"{total[4]:.0f}", f"{max(t.slowest_s for t in tallies):.1f}", _megabytes(tallies))))
    return int(total[3] > 0)


def cells(tally: Tally) -> tuple[str, ...]:
    """A reader's row."""
    counts = (tally.inputs, tally.accepted, tally.refused, len(tally.findings))
    return (tally.name, *map(str, counts), f"{tally.seconds:.0f}", f"{tally.slowest_s:.1f}", _megabytes([tally]))


def _megabytes(tallies: Sequence[Tally]) -> str:
    return f"{max(tally.peak_bytes for tally in tallies) / 1e6:.0f}"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    sys.exit(main())
