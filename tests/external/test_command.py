"""``model=command``: programs that do their job, and every way in which they do not."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser.numbered import config as numbered_config
from tests.conftest import custom, pixels
from tests.toy import toy_clip
from vpbench.baselines.external import processes
from vpbench.baselines.external.command import Command
from vpbench.clip import MaskedClip
from vpbench.errors import ConfigError, ModelError
from vpbench.report.content import read_frames
from vpbench.report.pages import write_report
from vpbench.results import load_summaries
from vpbench.running import Result, Run
from vpbench.tables import rank
from vpbench.video import read_video

GREY = """
import vpbench_worker
from PIL import Image
import numpy as np

def fill(job):
    {before}
    for source, mask, out in zip(job.sources, job.masks, job.outs):
        pixels = np.array(Image.open(source))
        pixels[np.array(Image.open(mask)) > 0] = 128
        Image.fromarray(pixels).save(out)
    {after}

vpbench_worker.run(fill)
"""
BOTH = pytest.mark.parametrize("worker", [pytest.param(False, id="process per clip"), pytest.param(True, id="worker")])


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Path]:
    """Writes an adapter; ``before`` and ``after`` are lines around what it does to a clip."""

    def write(text: str = GREY, before: str = "pass", after: str = "return None", name: str = "adapter.py") -> Path:
        path = tmp_path / name
        indented = {
            key: textwrap.indent(textwrap.dedent(value).strip(), "    ").strip() for key, value in (("before", before), ("after", after))
        }
        path.write_text(text.replace("{before}", indented["before"]).replace("{after}", indented["after"]))
        return path

    return write


@pytest.fixture
def command(tmp_path: Path) -> Any:
    """Makes the model; ends what it started when the test is over."""
    made: list[Command] = []

    def make(path: Path, **options: Any) -> Command:
        made.append(Command([sys.executable, str(path)], **options))
        made[-1].keep_in(tmp_path / "kept")
        return made[-1]

    yield make
    for model in made:
        model.release()


def masked(name: str = "a") -> MaskedClip:
    return MaskedClip.of(toy_clip(name))


def expected(clip: MaskedClip) -> Any:
    frames = clip.frames.copy()
    frames[clip.masks] = 128
    return frames


def survivors(text: str) -> list[str]:
    """Command lines of the processes that still run and have ``text`` in theirs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in line and int(path.parent.name) != os.getpid():
            found.append(line)
    return found


@BOTH
def test_a_program_fills_the_hole(script: Any, command: Any, worker: bool) -> None:
    model = command(script(), worker=worker)
    for name in "abc":
        clip = masked(name)
        made = model(clip, seed=1)
        np.testing.assert_array_equal(made.frames, expected(clip))
        assert made.present == (0, 1, 2, 3)


def test_a_worker_is_started_once_and_a_program_per_clip_for_each(script: Any, command: Any) -> None:
    path = script(after="import os\nreturn {'pid': os.getpid()}")
    for worker, count in ((True, 1), (False, 3)):
        model = command(path, worker=worker)
        pids = set()
        for name in "abc":
            model(masked(name), seed=1)
            pids.add(model.stages()["program"]["pid"])
        assert len(pids) == count


def test_the_job_says_everything_and_hides_the_hole(script: Any, command: Any, tmp_path: Path) -> None:
    seen = tmp_path / "seen.json"
    before = f"""
    import json
    whole = [np.array(Image.open(s))[np.array(Image.open(m)) > 0].tolist() for s, m in zip(job.sources, job.masks)]
    json.dump([job.data, whole, sorted(__import__('os').listdir(job.folder))], open({str(seen)!r}, 'w'))
    """
    model = command(script(before=before))
    clip = masked("b")
    model(clip, seed=7)
    job, hole, listed = json.loads(seen.read_text())
    rows, columns = np.nonzero(clip.masks.any(axis=0))
    box = [int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1]
    texts = {"source": clip.caption, "target": clip.caption, "region": clip.region_caption, "instruction": ""}
    what = {"schema": 1, "sample": "b", "task": "inpaint", "operation": "inpaint", "seed": 7}
    assert job == {**what, "width": 40, "height": 32, "fps": clip.fps, "frames": 4, "mask_bbox_xyxy": box, "texts": texts}
    assert not np.concatenate([np.array(frame).ravel() for frame in hole]).any()
    assert listed == ["job.json", "log.txt", "mask", "out", "source", "work"]
    edit = MaskedClip.of(toy_clip("e", operation="swap"))
    made = model(edit, seed=7)
    job, hole, _ = json.loads(seen.read_text())
    assert (job["task"], job["operation"]) == ("edit", "swap")
    assert edit.source is not None
    np.testing.assert_array_equal(np.array(hole[0]), edit.source[0][edit.masks[0]])
    np.testing.assert_array_equal(made.frames[~edit.masks], edit.source[~edit.masks])


FAULTS = {  # what goes wrong when the pictures are written, and what is said
    "raises": ("raise ValueError('no memory for the clip')", "no memory for the clip"),
    "crashes": ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "SIGSEGV"),
    "exits": ("import os\nos._exit(3)", "exit status 3"),
    "other size": ("Image.new('RGB', (8, 8)).save(job.outs[2])", "00002.png is 8x8, the clip 40x32"),
    "too few": ("import os\nos.remove(job.outs[3])", "out/ has 3 of 4 frames, 00003.png is the first that is missing"),
    "none": ("import os\nfor out in job.outs: os.remove(out)", "out/ is empty; expected 4 pictures, 00000.png to 00003.png"),
    "too many": ("open(job.folder + '/out/00004.png', 'w')", "out/ has 5 files for 4 frames; 00004.png is not one of"),
    "no picture": ("open(job.outs[1], 'w').write('x')", "00001.png: cannot be decoded"),
}


@BOTH
@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_the_clips_failure_and_the_next_clip_still_comes(script: Any, command: Any, fault: str, worker: bool) -> None:
    fails, message = FAULTS[fault]
    after = f"import sys; print('what went on', file=sys.stderr)\nif job.sample == 'b':\n{textwrap.indent(fails, '    ')}"
    model = command(script(after=after), worker=worker)
    with pytest.raises(ModelError) as raised:
        model(masked("b"), seed=0)
    assert message in str(raised.value)
    assert str(raised.value).startswith(f"b: {sys.executable}: ")
    assert "what went on" in str(raised.value), "the end of its log"
    clip = masked("c")
    np.testing.assert_array_equal(model(clip, seed=0).frames, expected(clip))


def test_the_log_of_a_failed_clip_is_kept_and_its_pictures_are_not(script: Any, command: Any, tmp_path: Path) -> None:
    model = command(script(before="raise ValueError"))
    with pytest.raises(ModelError) as raised:
        model(masked("b"), seed=0)
    (folder,) = (tmp_path / "kept/jobs").glob("b-*")
    assert sorted(path.name for path in folder.iterdir()) == ["job.json", "log.txt", "result.json"]
    assert str(folder / "log.txt") in str(raised.value)
    model = command(script(), keep_jobs=True)
    model(masked("c"), seed=0)
    (folder,) = (tmp_path / "kept/jobs").glob("c-*")
    assert len(list((folder / "out").iterdir())) == 4


@BOTH
def test_a_program_that_hangs_is_ended_with_all_that_it_started(script: Any, command: Any, worker: bool, tmp_path: Path) -> None:
    mark = f"mark{os.getpid()}{worker}"
    before = f"""
    import signal, subprocess, sys, time
    code = 'import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)  # {mark}'
    subprocess.Popen([sys.executable, '-c', code])
    subprocess.Popen([sys.executable, '-c', code], start_new_session=True)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(1)
    open({str(tmp_path / "hangs")!r}, 'w')
    time.sleep(600)
    """
    model = command(script(before=before), worker=worker, timeout_s=3)
    processes_before = processes.PATIENCE_S
    processes.PATIENCE_S = 0.5
    try:
        with pytest.raises(ModelError, match=r"took more than timeout_s=3 and was ended"):
            model(masked("a"), seed=0)
    finally:
        processes.PATIENCE_S = processes_before
    assert (tmp_path / "hangs").exists()
    assert survivors(mark) == []


@pytest.mark.parametrize("worker", [False, True])
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_no_process(script: Any, tmp_path: Path, sent: signal.Signals, worker: bool) -> None:
    mark = f"mark{os.getpid()}{sent}{worker}"
    started = tmp_path / "started"
    code = f"import time; time.sleep(600)  # {mark}"
    lines = ["import subprocess, sys, time", f"subprocess.Popen([sys.executable, '-c', {code!r}])", f"open({str(started)!r}, 'w')"]
    path = script(before="\n".join([*lines, "time.sleep(600)"]))
    line = [sys.executable, "-m", "vpbench", "run", "model=command", f"model.argv=[{sys.executable},{path}]", f"model.worker={worker}"]
    line += ["benchmark=demo", "protocol=pixels", "limit=1", f"out={tmp_path / 'runs'}"]
    reset = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    run = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path, preexec_fn=reset)
    deadline = time.time() + 60
    while not started.exists() and time.time() < deadline:
        time.sleep(0.05)
    assert survivors(mark)
    run.send_signal(sent)
    run.communicate(timeout=60)
    assert run.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143}[sent]
    assert survivors(mark) == []


@BOTH
def test_what_children_leave_behind_is_ended_after_a_good_clip_too(script: Any, command: Any, worker: bool) -> None:
    mark = f"left{os.getpid()}{worker}"
    code = f"import time; time.sleep(600)  # {mark}"
    model = command(
        script(after=f"import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', {code!r}], start_new_session=True)"), worker=worker
    )
    model(masked("a"), seed=0)
    model.release()
    assert survivors(mark) == []


@BOTH
def test_noise_on_standard_output_and_much_on_standard_error_do_no_harm(script: Any, command: Any, worker: bool) -> None:
    before = "import os, sys\nprint('{\"job\": 1}' * 1000)\nos.write(1, b'from a library')\nsys.stderr.write('x' * 10_000_000)"
    model = command(script(before=before), worker=worker)
    for name in "ab":
        clip = masked(name)
        np.testing.assert_array_equal(model(clip, seed=0).frames, expected(clip))


def test_a_worker_that_answers_something_else_fails_the_clip(script: Any, command: Any) -> None:
    answers = ("loading weights...", '{"job": "elsewhere", "status": "ok"}', "[1]", "[" * 3000)
    for answer in answers:
        path = script(f"import sys\nfor line in sys.stdin:\n    print({answer!r}, flush=True)")
        with pytest.raises(ModelError, match="on its standard output, which is for answers alone"):
            command(path, worker=True)(masked(), seed=0)
    path = script("import sys\nsys.stdin.readline()\nwhile True:\n    sys.stdout.write('x' * 100000)")
    with pytest.raises(ModelError, match="a line of more than 1000000 bytes"):
        command(path, worker=True)(masked(), seed=0)


RESULTS = {
    "no file": (None, "there is no result.json"),
    "cut": ("{", "result.json is no JSON"),
    "deep": ("[" * 100_000, "result.json is no JSON"),
    "a list": ("[]", "result.json holds a list, expected an object"),
    "failed": ('{"status": "failed", "error": "no face found"}', "no face found"),
    "no status": ("{}", "the program says None in result.json"),
    "notes of another kind": ('{"status": "ok", "notes": "one"}', "notes is a str; expected a list"),
}


@pytest.mark.parametrize("kind", RESULTS)
def test_a_result_that_is_no_result_fails_the_clip(script: Any, command: Any, kind: str) -> None:
    text, message = RESULTS[kind]
    lines = ["import os, shutil, sys", "job = sys.argv[-1]", "for name in os.listdir(job + '/source'):"]
    lines += ["    shutil.copy(job + '/source/' + name, job + '/out')"]
    if text is not None:
        lines += [f"open(job + '/result.json', 'w').write({text!r})"]
    with pytest.raises(ModelError, match=None) as raised:
        command(script("\n".join(lines)))(masked(), seed=0)
    assert message in str(raised.value)


def test_a_program_has_its_own_folder_variables_and_arguments(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "inside").mkdir()
    monkeypatch.setenv("PYTHONPATH", "/ours")
    after = "import os, sys\nreturn {'cwd': os.getcwd(), 'env': [os.environ['COLOUR'], os.environ['PYTHONPATH']], 'argv': sys.argv[1:]}"
    path = script(after=after)
    model = Command(
        [sys.executable, str(path), "$HOME;", "--job={job}", "{job}"],
        cwd=str(tmp_path / "inside"),
        env={"COLOUR": 3, "PYTHONPATH": "/theirs"},
    )
    model(masked(), seed=0)
    said = model.stages()["program"]
    assert said["cwd"] == str(tmp_path / "inside")
    assert said["env"] == ["3", f"{Path(processes.__file__).parent}:/theirs"]
    assert said["argv"][0] == "$HOME;", "no shell"
    assert said["argv"][1] == f"--job={said['argv'][2]}"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits the memory of a process")
@BOTH
def test_a_program_that_takes_too_much_memory_fails_the_clip(script: Any, command: Any, worker: bool) -> None:
    model = command(script(before="if job.sample == 'b':\n    np.ones(int(3e8))"), worker=worker, memory_gb=1.5)
    with pytest.raises(ModelError, match="MemoryError"):
        model(masked("b"), seed=0)
    model(masked("c"), seed=0)


def test_another_size_is_resized_where_that_is_said_and_noted(script: Any, command: Any) -> None:
    path = script(after="for out in job.outs:\n    Image.open(out).resize((20, 16)).save(out)\nreturn {'notes': ['made in halves']}")
    model = command(path, resize="bicubic", notes=["never sees the source"])
    assert model(masked(), seed=0).frames.shape == (4, 32, 40, 3)
    assert model.notes == ["never sees the source", "made in halves", "resized: 20x16 to 40x32, bicubic"]


def test_frames_may_be_missing_where_that_is_said(script: Any, command: Any, config: dict[str, Any]) -> None:
    half = ", ".join(f"job.{name}[::2]" for name in ("sources", "masks", "outs"))
    path = script(before=f"if job.sample in 'bd':\n    job.sources, job.masks, job.outs = {half}")
    with pytest.raises(ModelError, match=r"2 of 4 frames, 00001.png is the first that is missing.*allow_short"):
        command(path)(masked("b"), seed=0)
    made = command(path, allow_short=True)(masked("b"), seed=0)
    assert made.present == (0, 2)
    leaf = {
        "_target_": "vpbench.baselines.external.command.Command",
        "name": "mine",
        "argv": [sys.executable, str(path)],
        "allow_short": True,
    }
    result = Run({**config, "model": leaf}).execute()
    assert (result.ok, result.failed) == (5, {})
    whole = Run({**config, "model": custom("grey")}).execute()
    table = rank(load_summaries([result.folder, whole.folder]))
    rows = {row.label: row for row in table.groups[0].rows}
    assert (rows["mine"].place, rows["mine"].reason) == (None, "not ranked: short: 16 of 20 frames")
    ours, theirs = (rows[name].summary.cell("psnr[hole]") for name in ("mine", "grey"))
    assert ours is not None
    assert theirs is not None
    for i, name in enumerate("abcde"):
        assert (ours.clips[i] == theirs.clips[i]) == (name not in "bd")
    frames = (result.folder / "scores/pixels-raw/frames/b.csv").read_text().splitlines()
    other = (whole.folder / "scores/pixels-raw/frames/b.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in frames[1:]] == ["0", "2"]
    column = frames[0].split(",").index("psnr[hole]")
    assert [line.split(",")[column] for line in frames[1:]] == [other[i].split(",")[column] for i in (1, 3)]
    again = Run({**config, "model": leaf}).execute()
    assert again.generated == []


def test_the_report_shows_missing_frames_black_and_keeps_their_places(script: Any, tmp_path: Path) -> None:
    path = script(
        before="if job.sample == 'plain':\n    job.sources, job.masks, job.outs = job.sources[::2], job.masks[::2], job.outs[::2]"
    )
    protocol = pixels()
    protocol["metrics"], protocol["mean_rank"] = {"psnr": protocol["metrics"]["psnr"]}, ["psnr[hole]"]
    options = numbered_config(tmp_path / "runs", {"names": ["edit", "plain"], "frames": 5}, protocol, "mine", track=["raw", "composite"])
    leaf = {
        "_target_": "vpbench.baselines.external.command.Command",
        "name": "mine",
        "argv": [sys.executable, str(path)],
        "allow_short": True,
    }
    result = Run({**options, "model": leaf}).execute()
    assert result.failed == {}
    write_report([tmp_path / "runs"], tmp_path / "report")
    columns = read_frames(result.folder / "scores/pixels-raw/frames/plain.csv")
    values = columns["psnr[frame]"]
    assert [value is None for value in values] == [False, True, False, True, False]
    page = next((tmp_path / "report").rglob("*plain*.html")).read_text()
    assert "2 of 5 frames are missing, and black here" in page
    dark = [read_video(file)[0].max(axis=(1, 2, 3)) < 30 for file in (tmp_path / "report").rglob("*.mp4")]
    assert sum(shown.tolist() == [False, True, False, True, False] for shown in dark) >= 2, "the prediction and its composite"


def test_a_model_that_does_not_say_so_may_leave_no_frame_out(config: dict[str, Any]) -> None:
    result = Run({**config, "model": custom("short"), "limit": 1}).execute()
    assert "only a model with allow_short may leave some out" in result.failed["a"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"argv": "python x.py"}, "a list of the program and its arguments"),
        ({"argv": []}, "a list of the program and its arguments"),
        ({"argv": ["x"], "timeout_s": 0}, "timeout_s=0"),
        ({"argv": ["x"], "resize": "cubic"}, "bicubic"),
        ({"argv": ["x"], "memory_gb": -1}, "memory_gb=-1"),
        ({"argv": ["x", "{job}"], "worker": True}, "has no meaning for a worker"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Command(**options)


def test_what_is_missing_is_said_before_the_first_clip(tmp_path: Path, config: dict[str, Any]) -> None:
    leaf = {
        "_target_": "vpbench.baselines.external.command.Command",
        "argv": ["/no/such/python"],
        "cwd": "/no/such",
        "files": ["/no/weights"],
    }
    with pytest.raises(ConfigError) as raised:
        Run({**config, "model": leaf})
    for part in ("/no/such/python: no such program", "/no/such: no such folder", "/no/weights: no such file"):
        assert part in str(raised.value)


def test_a_changed_script_is_another_run(script: Any, config: dict[str, Any]) -> None:
    path = script()
    leaf = {"_target_": "vpbench.baselines.external.command.Command", "argv": [sys.executable, str(path)]}
    first = Run({**config, "model": leaf})
    assert Run({**config, "model": leaf}).id == first.id
    script(before="1")
    assert Run({**config, "model": leaf}).id != first.id


def test_a_worker_ends_with_its_run(script: Any, config: dict[str, Any]) -> None:
    path = script(name=f"worker{os.getpid()}.py")
    leaf = {"_target_": "vpbench.baselines.external.command.Command", "argv": [sys.executable, str(path)], "worker": True}
    result: Result = Run({**config, "model": leaf}).execute()
    assert result.ok == 5
    assert survivors(path.name) == []
    record = json.loads((result.folder / "clips/a.json").read_text())
    assert record["stages"]["program"]["seconds"] > 0
    assert not list(result.folder.parent.glob(".kept/jobs/*"))


def test_the_helper_runs_on_old_pythons() -> None:
    """Syntax of Python 3.8, and nothing imported but the standard library."""
    import ast

    source = (Path(processes.__file__).parent / "vpbench_worker.py").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {str(node.module) for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert imported <= {"__future__", "json", "os", "sys", "time", "traceback", "typing"}
