"""The Hydra application behind ``vpbench run``: composes, checks, runs; at the end of a sweep prints the ranked table.

Hydra 1.3 skips its end-of-sweep callback when a job raises, so a job never raises: its outcome goes to ``outcome.json`` in the job's
own folder, the callback reads all of them, and the command sets the exit status.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from vpbench.configuration import RunConfig, open_key, resolved, unknown_name
from vpbench.errors import ConfigError, DataError, VpbenchError
from vpbench.plugins import register_resolver
from vpbench.storage import read_json, write_json

OUTCOME = "outcome.json"
LINE_SECONDS = 5.0  # between lines of progress where there is no terminal
OK, FAILED, USAGE = 0, 1, 2
log = logging.getLogger(__name__)
SWEEP = "VPBENCH_SWEEP"  # in the environment: the process that runs the sweep
GRACE_SECONDS = 10.0
_exit_status = OK
_watched = False
_sweep: Path | None = None  # the folder of the sweep that goes on


def run_job(config: DictConfig) -> None:
    """Run one composed configuration; never raises for what can go wrong in a run (see the module's docstring)."""
    from vpbench.running import Run

    outcome: dict[str, Any] = {"status": "ok", "run": None, "failed": {}, "absent": {}, "message": ""}
    _end_with_sweep()
    try:
        _check_launcher()
        with contextlib.suppress(FileNotFoundError):  # on a cluster's machine that has no such folder
            os.chdir(HydraConfig.get().runtime.cwd)  # workers of a cluster start elsewhere; paths are meant from where the user is
        plain = resolved(config)
        outcome["of"] = (
            f"{plain['model'].get('name') or plain['model'].get('target', 'model')} under {plain['protocol'].get('name', 'protocol')}"
        )
        try:
            run = Run(plain)
        except DataError as error:  # the benchmark's folders and lists, named by the configuration; no clip was read
            raise ConfigError(str(error)) from error
        outcome["run"] = str(run.folder)
        with progress_bar(f"{run.model.name} on {run.benchmark.name}") as progress:
            result = run.execute(progress)
        outcome.update(failed=result.failed, absent=result.absent)
        if result.failed:
            outcome["status"] = "failed"
            outcome["message"] = f"{len(result.failed)} of {result.total} clips failed"
        log.info("%s: %d of %d clips scored, %d generated now", result.folder, result.ok, result.total, len(result.generated))
    except ConfigError as error:
        outcome.update(status="usage", message=str(error))
    except VpbenchError as error:
        outcome.update(status="error", message=str(error))
    except Exception as error:
        outcome.update(status="error", message=f"{type(error).__name__}: {error}")
        log.error("this is a defect of vpbench, please report it:\n%s", traceback.format_exc())
    write_json(Path(HydraConfig.get().runtime.output_dir) / OUTCOME, outcome)


def _end_with_sweep() -> None:
    """In a worker that a sweep on this machine started: end when that is gone (kill -9), and not go on for nobody."""
    global _watched
    sweep = os.getppid()
    if _watched or os.environ.get(SWEEP) != str(sweep):
        return
    _watched = True
    signal.signal(signal.SIGTERM, _terminate)

    def watch() -> None:
        while os.getppid() == sweep:
            time.sleep(1.0)
        os.kill(os.getpid(), signal.SIGTERM)  # gives its claim back, and ends programs that it started
        time.sleep(GRACE_SECONDS)
        os._exit(FAILED)

    threading.Thread(target=watch, name="vpbench-sweep", daemon=True).start()


def _check_launcher() -> None:
    """Refuse a launcher where there is no sweep: Hydra would not use it and say nothing."""
    hydra = HydraConfig.get()
    if hydra.mode == RunMode.RUN and not _is_basic(hydra.launcher):
        named = f"hydra/launcher={hydra.runtime.choices['hydra/launcher']}"
        raise ConfigError(f"{named} starts the jobs of a sweep, and this is none: add -m, or leave the launcher away.")


def _is_basic(launcher: DictConfig) -> bool:
    return str(launcher._target_).endswith(".BasicLauncher")


@contextlib.contextmanager
def progress_bar(title: str) -> Iterator[Any]:
    """A progress bar with the time left on standard error; where that is not a terminal, a plain line every few seconds."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[clip]}", markup=False),
    )
    console = Console(stderr=True)
    if not console.is_terminal:
        yield progress_lines(title)
        return
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(title, total=None, clip="")

        def update(clip: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, clip=clip)

        yield update


def progress_lines(title: str, seconds: float = LINE_SECONDS) -> Callable[[str, int, int], None]:
    """Progress as plain lines on standard error: the first and the last clip, and between them at most a line every ``seconds``."""
    printed = -math.inf

    def update(clip: str, done: int, total: int) -> None:
        nonlocal printed
        now = time.monotonic()
        if done == total or now - printed >= seconds:
            printed = now
            print(f"{title}: {done} of {total} clips" + (f", {clip}" if clip else ""), file=sys.stderr, flush=True)

    return update


class Tables(Callback):
    """Hydra callback: after a run or sweep prints the ranked table and every failure with its log."""

    def on_run_end(self, config: DictConfig, **kwargs: Any) -> None:
        """After a single run."""
        self._finish([Path(config.hydra.run.dir)], None)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before a sweep: jobs that other machines start leave their outcome where this process looks for it.

        Workers of this machine learn whose they are, see ``_end_with_sweep``.
        """
        global _sweep
        os.environ[SWEEP] = str(os.getpid())
        _sweep = Path(config.hydra.sweep.dir).absolute()
        if not _is_basic(config.hydra.launcher):
            config.hydra.sweep.dir = str(Path(config.hydra.sweep.dir).absolute())
            quoted = config.hydra.sweep.dir.replace("'", "\\'")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")  # of which the jobs' configurations are composed

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """After a sweep, whichever launcher ran it."""
        sweep = Path(config.hydra.sweep.dir)
        jobs = [folder.parent for folder in sweep.glob("*/.hydra")]
        jobs.sort(key=lambda folder: (not folder.name.isdigit(), int(folder.name) if folder.name.isdigit() else 0, folder.name))
        leaderboard = OmegaConf.select(config, "leaderboard")
        self._finish(jobs, Path(leaderboard) if leaderboard else None)

    def _finish(self, jobs: Sequence[Path], leaderboard: Path | None) -> None:
        global _exit_status
        outcomes = [self._outcome(job) for job in jobs]
        _exit_status = worst(outcomes)
        if not jobs:
            print("vpbench: no job left anything in this sweep's folder; do all machines see the same disk under out=?", file=sys.stderr)
        try:
            show(jobs, outcomes, leaderboard)
        except VpbenchError as error:
            print(f"vpbench: {error}", file=sys.stderr)
            _exit_status = max(_exit_status, FAILED)

    @staticmethod
    def _outcome(job: Path) -> dict[str, Any]:
        try:
            return read_json(job / OUTCOME)
        except VpbenchError:
            return {"status": "error", "run": None, "failed": {}, "absent": {}, "message": "the job ended without an outcome (killed?)"}


def worst(outcomes: Sequence[dict[str, Any]]) -> int:
    """The exit status of a set of jobs: 0 only when every clip of every job is done; 2 when a configuration cannot run; else 1."""
    found = {outcome["status"] for outcome in outcomes}
    if "usage" in found:
        return USAGE
    return OK if found == {"ok"} else FAILED


def show(jobs: Sequence[Path], outcomes: Sequence[dict[str, Any]], leaderboard: Path | None) -> None:
    """Print the ranked table of all jobs, then what failed and where its log is."""
    from rich.console import Console

    from vpbench.results import load_summaries
    from vpbench.tables import absent_metrics, print_table, rank, write_tables

    runs = list(dict.fromkeys(Path(outcome["run"]) for outcome in outcomes if outcome["run"] and any_scores(Path(outcome["run"]))))
    console = Console()
    if runs:
        print_table(rank(load_summaries(runs)), console)
        if leaderboard is not None:
            write_tables(runs, leaderboard)
            console.print(f"tables: written to {leaderboard}", markup=False, highlight=False, soft_wrap=True)
    absent = dict(line for outcome in outcomes for line in outcome["absent"].items())
    for metric, reason in absent_metrics(absent).items():
        console.print(f"absent: {metric}: {reason}", markup=False, highlight=False, soft_wrap=True)
    for job, outcome in zip(jobs, outcomes, strict=True):
        if outcome["status"] == "ok":
            continue
        lines = [f"FAILED {outcome['run'] or job} ({outcome.get('of', 'nothing composed')}): {outcome['message']}"]
        lines += [f"  {clip}: {reason}" for clip, reason in sorted(outcome["failed"].items())]
        lines += [f"  log: {log_file}" for log_file in sorted(job.glob("*.log"))]
        if outcome["failed"]:
            lines.append(f"  tracebacks: {Path(outcome['run']) / 'clips'}")
        console.print("\n".join(lines), markup=False, highlight=False, soft_wrap=True)


def any_scores(run: Path) -> bool:
    """Whether a run folder holds scores."""
    return any(run.glob("scores/*/summary.json"))


def main(arguments: Sequence[str]) -> int:
    """Run ``vpbench run`` with Hydra overrides and flags; returns the exit status.

    0: every clip of every job is done; 1: a job or clip failed; 2: the configuration cannot run; 130, 143: interrupted.
    """
    global _exit_status, _sweep
    _exit_status, _sweep = OK, None
    register_resolver()
    ConfigStore.instance().store(name="schema", node=RunConfig)
    wrapped = hydra.main(version_base="1.3", config_path="pkg://vpbench.conf", config_name="config")(run_job)
    saved_arguments, saved_debug = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    # Hydra's parser wants its flag before or after all overrides, not among them
    flags = [argument for argument in arguments if argument in ("-m", "--multirun")]
    arguments = [*flags[:1], *(argument for argument in arguments if argument not in flags)]
    sys.argv = ["vpbench run", *map(open_key, per_job(arguments))]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # composition errors come to us as exceptions, and we print them
    previous = signal.signal(signal.SIGTERM, _terminate)
    try:
        wrapped()
    except (HydraException, OmegaConfBaseException, VpbenchError) as error:
        print(f"vpbench: {explain(error, arguments)}", file=sys.stderr)
        return USAGE
    except ConnectionError as error:  # to a cluster
        return _broken(error)
    except OSError as error:  # where Hydra keeps what jobs leave
        print(
            f"vpbench: {error.filename or 'a file'}: {error.strerror or error}. Choose another folder with out=DIR, or make room.",
            file=sys.stderr,
        )
        return USAGE
    except KeyboardInterrupt:
        print("vpbench: interrupted; the same command goes on from here.", file=sys.stderr)
        return 130
    except SystemExit as ending:
        if ending.code == 128 + signal.SIGTERM:
            print("vpbench: ended by SIGTERM; the same command goes on from here.", file=sys.stderr)
            return 128 + signal.SIGTERM
        raise
    except Exception as error:  # of a launcher: jobs themselves raise nothing
        if saved_debug:
            traceback.print_exc()
        return _broken(error)
    finally:
        signal.signal(signal.SIGTERM, previous)
        os.environ.pop(SWEEP, None)
        sys.argv = saved_arguments
        if saved_debug is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = saved_debug
    return _exit_status


def _broken(error: Exception) -> int:
    """Say that a launcher gave up: it refuses its settings, a worker was killed, a cluster cannot be reached, ..."""
    what = f"{type(error).__name__}: {' '.join(str(error).split())}"
    where = "HYDRA_FULL_ERROR=1 shows where it happened."
    if _sweep is not None and not isinstance(error, ConnectionError) and not any(_sweep.glob("*/.hydra")):
        print(
            f"vpbench: no job of the sweep began ({what}). If a setting of the launcher is the reason, give another "
            f"(hydra.launcher.KEY=VALUE; --cfg hydra -p hydra.launcher prints them all). {where}",
            file=sys.stderr,
        )
        return USAGE
    print(
        f"vpbench: the sweep was given up ({what}). What is done is kept, and the same command goes on from there; jobs that a cluster "
        f"has go on by themselves: see vpbench status. {where}",
        file=sys.stderr,
    )
    return FAILED


def per_job(arguments: Sequence[str]) -> list[str]:
    """Make settings below a swept group part of the sweep: ``-m model=a,b model.x=1`` becomes ``-m model=a,b model.x=choice(1)``.

    Hydra composes a sweep once without what is swept, and refuses there every key that only the swept options have.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser

    if not {"-m", "--multirun"} & set(arguments):
        return list(arguments)
    parser = OverridesParser.create()
    parsed: dict[str, Any] = {}
    for argument in arguments:
        with contextlib.suppress(HydraException):
            parsed[argument] = parser.parse_override(argument)
    swept = [override.key_or_group.replace("/", ".") + "." for override in parsed.values() if override.is_sweep_override()]
    changed = []
    for argument in arguments:
        override = parsed.get(argument)
        below = override is not None and override.key_or_group.replace("/", ".").startswith(tuple(swept))
        if override is not None and below and not (override.is_sweep_override() or override.is_delete()):
            key, _, value = argument.partition("=")
            argument = f"{key}=choice({value})" if value else argument
        changed.append(argument)
    return changed


def _terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """A composition error in our words: for an unknown key, the valid names beside it."""
    text = str(error)
    if isinstance(error, VpbenchError):
        return text
    match = re.search(r"Could not override '([^']+)'", text)
    if match:
        with contextlib.suppress(HydraException, OmegaConfBaseException):
            hydras = match.group(1).startswith("hydra.")
            models = _models(arguments)[: 1 if hydras else None]  # Hydra's own keys are the same for all
            for model in models:
                if problem := unknown_key(match.group(1), [*_groups(arguments), model]):
                    sweep = (
                        f"{model.partition('=')[2]}: {problem} Settings in a sweep go to every model: docs/extending.md says what to do."
                    )
                    return problem if len(models) == 1 else sweep
    if home := next((a for a in arguments if "=~" in a), ""):
        return f"{home}: '~' is not expanded here; write {home.replace('=~', '=$HOME', 1)}."
    if (alone := re.match(r"Error merging override (\w+)=(.*)", text)) and "is not a ListConfig" in str(error.__cause__):
        return f"{alone[1]}={alone[2]}: expected a list, '{alone[1]}=[{alone[2]}]'."
    cause = f": {str(error.__cause__).splitlines()[0]}" if error.__cause__ and text.startswith("Error merging") else ""
    return text.partition("\nConfig search path:")[0].strip() + cause


def unknown_key(key: str, overrides: Sequence[str]) -> str:
    """What is wrong with a dotted key in the configuration that overrides compose; empty when it is there.

    Names the valid keys beside the first part that does not exist, and where else the same model has a key of that name.
    """
    from hydra import compose, initialize_config_module
    from hydra.core.global_hydra import GlobalHydra

    GlobalHydra.instance().clear()
    try:
        with initialize_config_module(config_module="vpbench.conf", version_base="1.3"):
            config = compose(config_name="config", overrides=list(overrides), return_hydra_config=key.startswith("hydra."))
    finally:
        GlobalHydra.instance().clear()
    node: Any = config
    parts = key.split(".")
    for number, part in enumerate(parts):
        if not isinstance(node, DictConfig) or part not in node:
            valid = [str(name) for name in node] if isinstance(node, DictConfig) else []
            elsewhere = (
                [f"{parts[0]}.{found}" for found in _places(config.get(parts[0]), parts[-1])] if number and parts[0] != "hydra" else []
            )
            hint = f" This model has {' and '.join(elsewhere)}." if elsewhere else ""
            return str(unknown_name(".".join(parts[: number + 1]), part, valid)) + hint
        node = node._get_node(part)
    return ""


def _places(node: Any, name: str) -> Iterator[str]:
    """Dotted keys below ``node`` that end in ``name``."""
    for key in map(str, node) if isinstance(node, DictConfig) else ():
        below = node._get_node(key)
        if key == name:
            yield key
        yield from (f"{key}.{found}" for found in _places(below, name))


def _groups(arguments: Sequence[str]) -> list[str]:
    """What picks configurations other than the model, the first of a sweep's each."""
    picked = ("benchmark", "protocol", "experiment")
    return [a.split(",")[0] for a in arguments if "=" in a and (a.partition("=")[0] in picked or a.startswith(("model/", "hydra/")))]


def _models(arguments: Sequence[str]) -> list[str]:
    """``model=NAME`` of every model of a sweep; none where an experiment picks it."""
    found = [f"model={name}" for a in arguments if a.startswith("model=") for name in a.partition("=")[2].split(",")]
    return found or ["model=blank"] * (not any(a.startswith("experiment=") for a in arguments))
