"""The run loop: generate, store, score and record clip by clip.

Generation and scoring have the disk between them. Whatever stops a run, the same command goes on from the clips that are missing;
a failing clip is recorded with its traceback and the run goes on.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import re
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vpbench import provenance
from vpbench.beside import Beside
from vpbench.check import needs, unmet
from vpbench.clip import Benchmark, Clip, ClipHandle
from vpbench.configuration import MODEL_KEYS, build, check_leaf, import_target, unknown_name
from vpbench.errors import ConfigError, DataError, StorageError
from vpbench.file_hashes import remembered
from vpbench.models import Model, implementation_version, notes_of
from vpbench.prefetch import prefetched
from vpbench.properties import properties
from vpbench.run_folder import Passes, RunFolder
from vpbench.scoring import Scored, derived, has_tables, scores_folder, write_scores
from vpbench.storage import (
    Claim,
    clear_claim,
    clear_dead,
    holder_is_alive,
    make_folder,
    owner_of,
    read_manifest,
    sha256_json,
    to_json,
    write_json,
    write_once,
)
from vpbench.views import View

RUN_SCHEMA = 1
CLAIM_POLL_SECONDS = 0.5
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run left behind.

    Attributes:
        folder: the run folder.
        scores: folders with ``clips.csv`` and ``summary.json``, one per track.
        total: clips of the benchmark; of a shard while clips of others are to come, its own.
        ok: those of them that are scored.
        generated: clips whose prediction this call made (the others were there already).
        failed: clip name and reason of the clips that were to be done here and failed.
        absent: columns whose weights are missing, with the reason.
    """

    folder: Path
    scores: list[Path]
    total: int
    ok: int
    generated: list[str]
    failed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def build_model(leaf: Mapping[str, Any]) -> Model:
    """Build a model from its leaf; weights are not read here but on its first clip.

    Raises:
        ConfigError: an unknown key, a value that the model refuses, or something that it needs is missing.
    """
    call = build(leaf, "model", MODEL_KEYS)
    target: Any = import_target(leaf["_target_"], "model._target_")
    name = leaf.get("name")
    arguments = {key: value for key, value in leaf.items() if key not in MODEL_KEYS}
    if "target" in leaf and leaf["_target_"] == "vpbench.models.custom":
        target = import_target(leaf["target"], "model.target")
        name = name or str(leaf["target"]).rpartition(".")[2]
    name = str(name or getattr(call, "name", "") or str(leaf["_target_"]).rpartition(".")[2].lower())
    if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or name.startswith("."):
        raise ConfigError(f"model.name={name!r}: use letters, digits, '-', '_' and '.'; it names a folder.")
    needs_reference = bool(leaf.get("needs_reference", False))
    wanted = needs(call)
    if error := unmet(wanted):
        raise error
    identity = {
        "config": placeless(without(arguments, {need.key for need in wanted if need.hashed and need.key})),
        "needs_reference": needs_reference,
        "implementation": implementation_version(target),
    }
    if callable(validate := getattr(call, "validate", None)):
        validate()
    if callable(weights := getattr(call, "fingerprints", None)):
        identity["weights"] = weights()
    barred = "seeded random weights" if getattr(call, "random_weights", False) else ""
    return Model(name, call, needs_reference, bool(leaf.get("ranked", True)), identity, barred)


def without(config: Mapping[str, Any], keys: Iterable[str]) -> dict[str, Any]:
    """A copy of a configuration without these keys.

    >>> without({"steps": 5, "loras": [{"path": "a", "scale": 1}]}, ["loras[0].path"])
    {'steps': 5, 'loras': [{'scale': 1}]}
    >>> without({"steps": 5}, ["checkpoint", "loras[0].path"])
    {'steps': 5}
    """
    made: dict[str, Any] = copy.deepcopy(dict(config))
    for key in keys:
        *parents, last = (int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", key))
        place: Any = made
        with contextlib.suppress(LookupError):  # a configuration may leave a key at its default
            for part in parents:
                place = place[part]
            del place[last]
    return made


def placeless(config: Any) -> Any:
    """A copy of a configuration without the devices that it names at any depth: where a model runs is no part of what it is.

    >>> placeless({"steps": 5, "device": "cuda:1", "backbone": {"device": "cuda:1", "loras": [{"scale": 1}]}})
    {'steps': 5, 'backbone': {'loras': [{'scale': 1}]}}
    """
    if isinstance(config, Mapping):
        return {key: placeless(value) for key, value in config.items() if key != "device"}
    return [placeless(value) for value in config] if isinstance(config, list) else config


def select(handles: Sequence[ClipHandle], clips: Sequence[str] | None, limit: int | None) -> list[ClipHandle]:
    """The handles to run, in the benchmark's order.

    Raises:
        ConfigError: ``clips`` names one that the benchmark does not have.
    """
    chosen = list(handles)
    if clips is not None:
        known = [handle.name for handle in handles]
        for name in clips:
            if name not in known:
                raise unknown_name("clips", name, known)
        wanted = set(clips)
        chosen = [handle for handle in handles if handle.name in wanted]
    return chosen[:limit]


def sharded(handles: Sequence[ClipHandle], shard: int | None, num_shards: int) -> list[ClipHandle]:
    """The handles of one shard, in their order: every ``num_shards``-th by the hash of its name, so that long clips that stand together
    in a list are spread, and shards differ by one clip at most.

    Raises:
        ConfigError: there is no such shard.
    """
    if shard is None and num_shards > 1:
        raise ConfigError(
            f"num_shards={num_shards}: which of them is this? shard=0 to {num_shards - 1}; with -m 'shard=range(0,{num_shards})'."
        )
    shard = shard or 0
    if not 0 <= shard < num_shards:
        given = f"shard={shard} num_shards={num_shards}"
        if num_shards < 1:
            raise ConfigError(f"{given}: num_shards is how many processes share the clips: 1 or more.")
        forgotten = " How many there are is num_shards=N." if num_shards == 1 else ""
        raise ConfigError(f"{given}: shards are counted from 0, so 0 to {num_shards - 1}.{forgotten}")
    by_hash = sorted((handle.name for handle in handles), key=lambda name: hashlib.sha256(name.encode()).digest())
    mine = set(by_hash[shard::num_shards])
    return [handle for handle in handles if handle.name in mine]


class Run:
    """One model on one benchmark, in its folder."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        """Build everything that ``config`` names and open the run folder; no clip is read.

        Raises:
            ConfigError: see ``build``, ``Protocol.of``, ``Protocol.absent``, ``build_model``.
            DataError: the benchmark's lists cannot be read.
            StorageError: the folder cannot be written or belongs to another configuration.
        """
        check_leaf(config["model"], "model", MODEL_KEYS)
        self.passes = Passes(config)
        self.model = build_model(config["model"])
        self.benchmark: Benchmark = build(config["benchmark"], "benchmark")
        self.handles = list(self.benchmark)
        chosen = select(self.handles, config["clips"], config["limit"])
        self.selected = sharded(chosen, config.get("shard"), int(config.get("num_shards", 1)))
        mine = {handle.name for handle in self.selected}
        self._others = [handle.name for handle in chosen if handle.name not in mine]  # clips of other shards
        if callable(expect := getattr(self.model.call, "expect", None)):
            expect(self.handles, self.selected)
        self.seed = int(config["seed"])
        self._config = config
        root = Path(str(config["out"])) / self.benchmark.name
        with remembered(root / ".hashes.json"):
            self.fingerprints = _fingerprints(self.handles)
        self.fingerprint = sha256_json(self.fingerprints)
        self.identity = {
            "model": dict(self.model.identity),
            "benchmark": self.fingerprint,
            "seed": self.seed,
        }
        self.id = sha256_json(self.identity)[:10]
        self.folder: Path = root / f"{self.model.name}-{self.id}"
        self.files = RunFolder(self.folder)
        self._open(config)
        if callable(keep_in := getattr(self.model.call, "keep_in", None)):
            keep_in(root / ".kept")

    def _open(self, config: Mapping[str, Any]) -> None:
        path = self.folder / "run.json"
        write_once(
            path,
            {
                "schema": RUN_SCHEMA,
                "identity": self.identity,
                "config": {key: config[key] for key in ("model", "benchmark", "protocol", "seed")},
                "clips": {name: self.fingerprints[name] for name in sorted(self.fingerprints)},
                "provenance": provenance.collect(),
            },
        )
        found = read_manifest(self.folder).get("identity")
        if to_json(found) != to_json(self.identity):
            raise StorageError(
                f"{path}: this folder was made by another configuration ({_first_difference(found, self.identity)}). "
                "Move it away or choose another folder with out=DIR; nothing in it was changed."
            )

    def is_done(self, clip: str) -> bool:
        """Whether the clip is generated and every pass of this protocol and these tracks that can run is stored."""
        record = self.files.record(clip)
        if record is None or record["status"] != "ok" or not self.files.is_generated(clip):
            return False
        return self._is_measured(record)

    def execute(self, progress: Callable[[str, int, int], None] = lambda clip, done, total: None) -> Result:
        """Do what is missing and derive the scores.

        Args:
            progress: called with a clip's name and the counts whenever a clip is finished.

        Raises:
            StorageError: the disk is full or gone; finished clips are kept.
        """
        for folder in (self.folder, self.folder.parent / ".reference"):
            clear_dead(folder)
        for view in self.passes.views:
            make_folder(scores_folder(self.folder, self.passes.protocol, view))  # begun: without a summary it is not done
        try:
            return self.score(self._generate(progress))
        finally:
            if callable(release := getattr(self.model.call, "release", None)):
                release()

    def _generate(self, progress: Callable[[str, int, int], None]) -> list[str]:
        generated: list[str] = []
        waiting: list[ClipHandle] = []
        for handle in self.selected:
            if self.is_done(handle.name):
                clear_claim(self.files.claim_path(handle.name))  # of a process that was killed just after it was done
            else:
                waiting.append(handle)
        done = len(self.selected) - len(waiting)
        progress("", done, len(self.selected))

        def finished(name: str) -> None:
            nonlocal done
            done += 1
            progress(name, done, len(self.selected))

        if len(waiting) > 1 and _wants_overlap(self._config.get("overlap", "auto")):
            with Beside(self._config, self.folder) as beside:
                waiting = self._round(waiting, generated, finished, beside)
                for name in beside.drain():
                    finished(name)
                waiting += beside.left()
        told: set[str] = set()
        while waiting:
            waiting = self._round(waiting, generated, finished)
            if waiting:
                self._tell(waiting, told)
                time.sleep(CLAIM_POLL_SECONDS)
            for handle in list(waiting):
                if self.is_done(handle.name):
                    waiting.remove(handle)
                    finished(handle.name)
        return generated

    def _round(
        self, waiting: Sequence[ClipHandle], generated: list[str], finished: Callable[[str], None], beside: Beside | None = None
    ) -> list[ClipHandle]:
        """Generate and score clips, or leave the scoring to the process ``beside``; returns those that another process works on."""
        later = []

        def free() -> Iterator[ClipHandle]:
            for handle in waiting:
                if holder_is_alive(self.files.claim_path(handle.name)):
                    later.append(handle)  # without reading it in vain
                else:
                    yield handle

        for handle, clip in prefetched(free()):
            scored = True
            with Claim.take(self.files.claim_path(handle.name)) as claim:
                if claim is None:
                    later.append(handle)
                    continue
                if not self.is_done(handle.name):  # another process may have finished it since
                    scored = self._clip(handle.name, clip, generated, score=beside is None or not beside.alive)
            if beside is not None:
                for name in beside.finished():
                    finished(name)
                if not scored:
                    beside.put(handle, self.fingerprints[handle.name])
            if scored:
                finished(handle.name)
        return later

    def _tell(self, waiting: Iterable[ClipHandle], told: set[str]) -> None:
        """Say once who is waited for."""
        for handle in waiting:
            text = f"{handle.name}: {owner}" if (owner := owner_of(self.files.claim_path(handle.name))) else ""
            if text and text not in told:
                told.add(text)
                log.info("waiting for %s", text)

    def _clip(self, name: str, clip: Clip | Exception, generated: list[str], score: bool) -> bool:
        """Generate what is not generated and score it; False where the scoring alone is left to do."""
        stage = "load"
        record: dict[str, Any] = {"clip": name}
        started = time.perf_counter()
        try:
            if isinstance(clip, Exception):
                raise clip
            record.update(has_truth=clip.has_truth, properties=properties(clip))
            known = self.files.record(name)
            if known is not None and self.files.is_generated(name):
                if not score:
                    return False
                record, stored = {**known, **record}, self.files.stored(name)
            else:
                if known is not None and known["status"] == "ok":
                    log.warning("%s: its prediction is gone or is not the one that was scored, by checksum; it is made again", name)
                stage = "generate"
                made = self.model.predict(clip, self.seed)
                if len(made.present) < len(clip.frames):
                    record["present"] = list(made.present)
                record["seconds"] = time.perf_counter() - started
                record["peak_memory_bytes"] = provenance.peak_memory_bytes()
                if callable(stages := getattr(self.model.call, "stages", None)):
                    record["stages"] = stages()
                if notes := notes_of(self.model.call):
                    record["notes"] = notes
                stage = "store"
                record["prediction"], stored = self.files.store(name, made.frames, clip.fps)
                self.files.write_record({**record, "status": "generated"})
                generated.append(name)
                del made
                if not score:
                    return False
            stage = "score"
            self.passes.score(self.files, self.fingerprints[name], record, clip, stored)
        except StorageError:
            raise
        except Exception as error:  # a model may raise anything; one bad clip never ends a run
            message = f"{type(error).__name__}: {error}"
            log.error("%s failed (%s): %s", name, stage, message)
            text = "".join(traceback.format_exception(error))
            self.files.write_record({**record, "status": "failed", "stage": stage, "error": message, "traceback": text})
        return True

    def score(self, generated: Sequence[str] = ()) -> Result:
        """Derive the scores of every clip that is done, by whatever process, and say how the run stands.

        What another process finished meanwhile is taken in, so that of many processes the last one leaves the scores of all clips. A
        shard derives none while clips of other shards are to come, or when those that lie there are of all clips already: that would
        read all files of all clips once per shard.
        """
        if self._others_are_to_come():
            return self._left_to_others(generated)
        records = self._records()
        if self._others and (result := self._already_derived(records, generated)):
            return result
        while True:
            measured = self._measured(records)
            if measured is None:
                return self._left_to_others(generated)
            result = self._score(records, measured, generated)
            before, records = records, self._records()
            if records == before:
                return result

    def _others_are_to_come(self) -> bool:
        """Whether a clip of another shard is neither done nor failed, as its record says."""
        records = map(self.files.record, self._others)
        return any(record is None or record["status"] not in ("ok", "failed") for record in records)

    def _left_to_others(self, generated: Sequence[str]) -> Result:
        log.info("%s: clips of other shards are to come; whoever does the last one writes the scores", self.folder)
        mine = [record for handle in self.selected if (record := self.files.record(handle.name))]
        failed = {record["clip"]: str(record["error"]) for record in mine if record["status"] == "failed"}
        ok = sum(record["status"] == "ok" for record in mine)
        return Result(self.folder, [], len(self.selected), ok, list(generated), failed, self.passes.absent)

    def _already_derived(self, records: Mapping[str, dict[str, Any]], generated: Sequence[str]) -> Result | None:
        """How the run stands where its scores are of all clips and no clip's record is as young; None where they must be derived."""
        paths = [scores_folder(self.folder, self.passes.protocol, view) / "summary.json" for view in self.passes.views]
        try:
            youngest = max(self.files.record_path(name).stat().st_mtime_ns for name in records)
            if min(path.stat().st_mtime_ns for path in paths) <= youngest:
                return None
        except (OSError, ValueError):  # no scores or no records yet
            return None
        ok = {name for name, record in records.items() if record["status"] == "ok"}
        failed = {name: str(record["error"]) for name, record in records.items() if record["status"] == "failed"}
        for view in self.passes.views:
            found = derived(self.folder, self.passes.protocol, view)
            if found is None or found.clips != ok or found.failed != set(failed) or not found.absent <= set(self.passes.absent):
                return None
            if not has_tables(self.folder, self.passes.protocol, view, ok):
                return None
        log.info("%s: the scores of all clips that are done are there", self.folder)
        return self._result([path.parent for path in paths], len(ok), failed, generated)

    def _records(self) -> dict[str, dict[str, Any]]:
        return {name: record for name in sorted(self.fingerprints) if (record := self.files.record(name)) is not None}

    def _measured(self, records: Mapping[str, dict[str, Any]]) -> list[dict[str, Scored]] | None:
        """The clips that are done and whose passes are stored, for each view; None for a shard while one of another shard is not."""
        others = set(self._others)
        measured: list[dict[str, Scored]] = [{} for _ in self.passes.views]
        for name in sorted(records, key=lambda name: name not in others):  # others first: one of them may be enough to know
            record = records[name]
            if record["status"] != "ok":
                continue
            for store, done in zip(self.passes.stores(self.files, self.fingerprints[name], record), measured, strict=True):
                if self.passes.is_stored(store):
                    has_truth = bool(record["has_truth"]) or store.view.against == "source"
                    done[name] = Scored(store, has_truth, dict(record.get("properties", {})), record.get("present", ()))
                elif name in others:
                    return None
        return measured

    def _score(self, records: Mapping[str, dict[str, Any]], measured: Sequence[Mapping[str, Scored]], generated: Sequence[str]) -> Result:
        protocol, absent = self.passes.protocol, self.passes.absent
        failed = {name: str(record["error"]) for name, record in records.items() if record["status"] == "failed"}
        names = list(self.fingerprints)
        scores = []
        for view, done in zip(self.passes.views, measured, strict=True):
            if self._covers_more(view, done, records):
                scores.append(scores_folder(self.folder, protocol, view))
            else:
                header = self._header({name: records[name] for name in done})
                scores.append(write_scores(self.folder, header, protocol, view, done, failed, names, absent))
        self._write_manifest()
        return self._result(scores, len(set.intersection(*map(set, measured))), failed, generated)

    def _covers_more(self, view: View, done: Mapping[str, Scored], records: Mapping[str, dict[str, Any]]) -> bool:
        """Whether the scores that lie there are of more clips, all of which are done or only lack passes that were added since."""
        unmeasured = {name for name, record in records.items() if record["status"] == "ok" and name not in done}
        found = derived(self.folder, self.passes.protocol, view) if unmeasured else None
        if found is None or len(found.clips) <= len(done) or not found.clips <= unmeasured | done.keys():
            return False
        folder = scores_folder(self.folder, self.passes.protocol, view)
        log.info("%s: stays as it is, of %d clips, until as many have all passes (now %d)", folder, len(found.clips), len(done))
        return True

    def _header(self, done: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """What a summary says about the run, given the records of the clips that are scored."""
        header: dict[str, Any] = {
            "benchmark": {"name": self.benchmark.name, "fingerprint": self.fingerprint, "clips": len(self.handles)},
            "model": {"name": self.model.name, "needs_reference": self.model.needs_reference, "ranked": self.model.ranked},
            "run": self.folder.name,
        }
        if barred := "; ".join(filter(None, [self.model.barred, _short(done.values())])):
            header["model"]["barred"] = barred
        if notes := _by_note(done):
            header["model"]["notes"] = notes
        return header

    def _result(self, scores: list[Path], ok: int, failed: Mapping[str, str], generated: Sequence[str]) -> Result:
        mine = {handle.name for handle in self.selected}
        here = {name: why for name, why in failed.items() if name in mine}
        return Result(self.folder, scores, len(self.handles), ok, list(generated), here, self.passes.absent)

    def _is_measured(self, record: Mapping[str, Any]) -> bool:
        return self.passes.are_stored(self.files, self.fingerprints[record["clip"]], record)

    def _write_manifest(self) -> None:
        """Write the benchmark's mask manifest beside the runs, where it has one."""
        manifest = getattr(self.benchmark, "manifest", None)
        path = self.folder / "masks.json"
        if callable(manifest) and not path.exists() and (made := manifest()) is not None:
            write_json(path, made)


def _fingerprints(handles: Iterable[ClipHandle]) -> dict[str, str]:
    """The fingerprint of every clip's content, which is part of what a run is.

    Raises:
        DataError: files are missing or cannot be read; names the first and how many clips there are of this kind.
    """
    found, wrong = {}, []
    for handle in handles:
        try:
            found[handle.name] = handle.fingerprint()
        except DataError as error:
            wrong.append(str(error))
    if wrong:
        more = f" So are the files of {len(wrong) - 1} more clips." if len(wrong) > 1 else ""
        raise DataError(f"{wrong[0]}{more} The content of all clips is part of what a run is: get them, or take them from the list.")
    return found


def _short(records: Iterable[Mapping[str, Any]]) -> str:
    """How many frames the predictions lack; empty where they have all."""
    present = total = 0
    for record in records:
        frames = int(record["properties"]["frames"])
        total += frames
        present += len(record.get("present", range(frames)))
    return f"short: {present} of {total} frames" if present < total else ""


def _by_note(done: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What stands in the records of the clips that a reader of the table must know, sorted, with the clips that it is true of."""
    clips: dict[str, list[str]] = {}
    for name, record in done.items():
        for note in record.get("notes", ()):
            clips.setdefault(str(note), []).append(name)
    return [{"note": note, "clips": sorted(clips[note])} for note in sorted(clips)]


def _wants_overlap(overlap: Any) -> bool:
    """Whether clips are scored in a process of their own; ``auto``: where there is a GPU, which the model would leave idle meanwhile."""
    return bool(overlap) if overlap != "auto" else any(Path("/dev").glob("nvidia[0-9]*")) or Path("/dev/kfd").exists()


def _first_difference(found: Any, expected: Any, where: str = "") -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted({*found, *expected}):
            if found.get(key) != expected.get(key):
                return _first_difference(found.get(key), expected.get(key), f"{where}.{key}" if where else str(key))
    return f"{where}: {found!r} there, {expected!r} here"
