"""The command line. Importing this module costs nothing; every command imports what it needs."""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from vpbench import check, explain, gate_cli, published, rank_cli, status
from vpbench.report import cli as report_cli
from vpbench.version import __version__

DESCRIPTION = "Evaluate video inpainting and video editing: run models on benchmarks, score them, rank them."
EXAMPLES = """\
examples:
  vpbench run experiment=demo                                  every weight-free model over the built-in demo
  vpbench run model=telea benchmark=davis benchmark.root=DIR   one model on DAVIS
  vpbench score outputs/mine benchmark=davis benchmark.root=DIR   outputs that exist
  vpbench rank runs/demo -o leaderboard                        CSV and Markdown tables of finished runs
  vpbench gate --baseline baseline.json --candidate runs/demo  verdict for CI: did a metric get worse?
"""
RUN_HELP = """\
usage: vpbench run [-m] [KEY=VALUE ...] [Hydra flags]

Generate, score and record clip by clip; the same command again does only what is missing.

  model=NAME benchmark=NAME protocol=NAME   what to run (names: vpbench list)
  model.KEY=VALUE benchmark.KEY=VALUE ...   settings of these
  experiment=NAME                           a sweep that is written down
  -m, --multirun                            sweep over comma-separated values
  seed=0  track=raw|composite|[raw,composite]  out=runs  leaderboard=DIR
  clips=[a,b]  limit=N                      only some clips (the run is then partial and unranked)
  shard=0 num_shards=4                      a part of the clips, for several processes or machines (docs/scale.md)
  --config-dir DIR                          a folder with configurations of your own (DIR/model/NAME.yaml, ...)
  --cfg job                                 print the composed configuration and stop
  --hydra-help                              Hydra's own flags

exit status: 0 all clips done; 1 a clip or job failed; 2 the configuration cannot run; 130, 143 interrupted.

examples:
  vpbench run model=telea benchmark=demo
  vpbench run -m model=telea,flow_propagation benchmark=demo limit=2
  vpbench run experiment=demo
"""
SCORE_HELP = """\
usage: vpbench score DIR [DIR ...] [KEY=VALUE ...] [Hydra flags]

Score outputs that exist: DIR holds a video (mkv, mp4, mov, webm, avi, ...) or a folder of pictures per clip, named as the clip. It
becomes a run like any other (vpbench run model=outputs model.folder=DIR); lossy files are read, and marked in every table.

  benchmark=NAME protocol=NAME              what the outputs are of, and how they are scored (names: vpbench list)
  name=NAME                                 of the row; default: the folder's name
  resize=bicubic                            outputs of another size: nearest, bilinear, bicubic, area, lanczos
  frames=by_index                           another number or rate of frames: by_index, by_time, cut, repeat_last, present (docs/outputs.md)
  pattern='{clip}/result'                   how outputs are named, where several readings are possible
  everything that vpbench run takes: clips=[a,b], track=composite, out=runs, -m protocol=a,b, ...

exit status: 0 all clips scored; 1 a clip failed; 2 something does not fit, with all that was found.

examples:
  vpbench score outputs/mine benchmark=davis benchmark.root=DIR
  vpbench score runs/demo/telea-*/predictions benchmark=demo name=telea-again
  vpbench check benchmark=demo outputs=outputs/mine                 is something wrong with them? (before scoring)
"""
SCORE_KEYS = ("name", "resize", "frames", "pattern")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] == ["run"]:  # Hydra's grammar, not argparse's
        if {"-h", "--help"} & set(given[1:]):
            print(RUN_HELP, end="")
            return 0
        from vpbench import app

        return app.main(given[1:])
    if given[:1] == ["score"]:
        return _score(given[1:])
    parser = _parser()
    options = parser.parse_args(given)
    if options.command is None:
        parser.print_help()
        return 2
    from vpbench.errors import VpbenchError

    try:
        status: int = options.call(options)
    except VpbenchError as error:
        print(f"vpbench: {error}", file=sys.stderr)
        return 2
    return status


def _score(given: list[str]) -> int:
    if not given or {"-h", "--help"} & set(given):
        print(SCORE_HELP, end="")
        return 0 if given else 2
    flags = [word for word in given if word in ("-m", "--multirun")]
    given = [word for word in given if word not in flags]
    folders = list(itertools.takewhile(lambda word: Path(word).is_dir() or not ("=" in word or word.startswith("-")), given))
    if not folders or not all(Path(folder).is_dir() for folder in folders):
        wrong = next((folder for folder in folders if not Path(folder).is_dir()), given[0])
        print(f"vpbench: {wrong}: no such folder of outputs. vpbench score DIR benchmark=NAME", file=sys.stderr)
        return 2
    from vpbench import app

    quoted = ",".join("'" + folder.replace("'", "\\'") + "'" for folder in folders)
    rest = [f"model.{_plain(word)}" if word.partition("=")[0] in SCORE_KEYS else word for word in given[len(folders) :]]
    several = ["-m"] if flags or len(folders) > 1 else []
    return app.main([*several, "model=outputs", f"model.folder={quoted}", *rest])


def _plain(word: str) -> str:
    """A pattern as people write it, in the quotes that Hydra wants around braces."""
    key, _, value = word.partition("=")
    return f"{key}='{value}'" if key == "pattern" and value[:1] not in ("'", '"') and value != "null" else word


def _parser() -> argparse.ArgumentParser:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("vpbench", description=DESCRIPTION, epilog=EXAMPLES, formatter_class=raw)
    parser.add_argument("--version", action="version", version=f"vpbench {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    commands.add_parser("run", help="generate and score (a Hydra application; vpbench run --help)", add_help=False)
    commands.add_parser("score", help="score a folder of outputs that exist (vpbench score --help)", add_help=False)

    rank_cli.add_parser(commands)

    gate_cli.add_parser(commands)

    report_cli.add_parser(commands)

    listing = commands.add_parser(
        "list",
        help="models, benchmarks, protocols and experiments that are installed",
        description="List what the names in a command can be; plug-ins are included, with the package they come from.",
        epilog="examples:\n  vpbench list\n  vpbench list model\n",
        formatter_class=raw,
    )
    listing.add_argument("group", nargs="?", choices=["model", "benchmark", "protocol", "experiment"], help="only this group")
    listing.set_defaults(call=_list)

    status.add_parser(commands)
    check.add_parser(commands)
    explain.add_parser(commands)
    published.add_parser(commands)
    _weights_parser(
        commands.add_parser(
            "weights",
            help="learned weights: where from, sha256, where they lie",
            description="Weights of the networks that metrics need. A file is used only after its sha256 was checked.",
            epilog="examples:\n  vpbench weights list\n  vpbench weights get alexnet\n  vpbench weights add Downloads/ViT-L-14.pt\n"
            "  vpbench weights verify\n",
            formatter_class=raw,
        )
    )
    return parser


def _weights_parser(parser: argparse.ArgumentParser) -> None:
    raw = argparse.RawDescriptionHelpFormatter
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)

    listing = actions.add_parser("list", help="every file, its size and licence, and where it lies")
    listing.set_defaults(call=_weights_list)

    getting = actions.add_parser(
        "get",
        help="download, with resume, into our own folder",
        description="Download what is missing into ~/.cache/vpbench/weights. VPBENCH_OFFLINE=1 or HF_HUB_OFFLINE=1 forbids it.",
        epilog="exit status: 0 all there; 1 something could not be had; 2 unknown name, or downloads are forbidden.\n\n"
        "examples:\n  vpbench weights get alexnet clip-vit-l14\n  vpbench weights get all\n",
        formatter_class=raw,
    )
    getting.add_argument("names", nargs="+", metavar="NAME", help="networks (vpbench weights list), or all")
    getting.set_defaults(call=_weights_get)

    checking = actions.add_parser(
        "verify",
        help="read files again and say of each whether it is what it should be",
        description="Verdicts: ok, truncated, swapped (another network's file), wrong hash, unknown, unreadable.",
        epilog="exit status: 0 all ok; 1 something is not; 2 something cannot be checked, or there is nothing to check.\n\n"
        "examples:\n  vpbench weights verify\n  vpbench weights verify /data/weights Downloads/alexnet-owt-7be5be79.pth\n",
        formatter_class=raw,
    )
    checking.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files and folders; default: wherever weights are looked for")
    checking.set_defaults(call=_weights_verify)

    adding = actions.add_parser(
        "add",
        help="copy a file that you have into our own folder",
        description="The sha256 says which network a file belongs to. A file that the table does not know needs --network and --trust.",
        epilog="examples:\n  vpbench weights add Downloads/ViT-L-14.pt\n"
        "  vpbench weights add i3d_pretrained_400.pt --network i3d-videogpt --trust\n",
        formatter_class=raw,
    )
    adding.add_argument("file", type=Path, metavar="FILE")
    adding.add_argument("--network", default="", metavar="NAME", help="the network it must belong to")
    adding.add_argument("--trust", action="store_true", help="use this very file although its hash is not in the table")
    adding.set_defaults(call=_weights_add)


def _list(options: argparse.Namespace) -> int:
    from vpbench import plugins

    for group in [options.group] if options.group else ["model", "benchmark", "protocol", "experiment"]:
        print(f"{group}:")
        for name, package in plugins.options(group).items():
            print(f"  {name}" + ("" if package == plugins.OWN else f"  (from {package})"))
    return 0


def _weights_list(_: argparse.Namespace) -> int:
    from vpbench.weights import absent_folders
    from vpbench.weights_store import listing

    listed = listing()
    files = [one.file for one in listed]
    rows = [("network", "file", "size", "licence"), *((file.network, file.name, file.size_text, file.licence) for file in files)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for row, where in zip(rows, ["where", *(one.usable or "-" for one in listed)], strict=True):
        print("  ".join([*(text.ljust(width) for text, width in zip(row, widths, strict=True)), str(where)]))
    for finding in dict.fromkeys(finding for one in listed for finding in one.bad):
        print(f"not used: {finding.path}: {finding.state}: {finding.detail}")
    if absent := absent_folders():
        print(absent)
    return 0


def _weights_get(options: argparse.Namespace) -> int:
    from vpbench.weights_store import get

    return get(options.names, print, _warn)


def _weights_verify(options: argparse.Namespace) -> int:
    from vpbench.weights_store import verify

    states = []
    for finding in verify(options.paths):
        print(f"{finding.state}: {finding.path} ({finding.detail})", flush=True)
        states.append(finding.state)
    good = states.count("ok")
    print(f"verify: {'ok' if good == len(states) else 'NOT OK'}  {good} of {len(states)} files are what they should be")
    return 2 if "unreadable" in states else int(good < len(states))


def _weights_add(options: argparse.Namespace) -> int:
    from vpbench.weights_store import add

    add(options.file, options.network, options.trust, print, _warn)
    return 0


def _warn(text: str) -> None:
    print(f"vpbench: {text}", file=sys.stderr)
