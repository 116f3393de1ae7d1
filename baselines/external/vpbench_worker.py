"""Makes a function the worker that ``model=command`` of vpbench talks to. One file, Python 3.8 or later, nothing to install.

vpbench puts it on the PYTHONPATH of the programs that it starts; elsewhere, copy the file. An adapter:

    import vpbench_worker

    def fill(job):
        for source, mask, out in zip(job.sources, job.masks, job.outs):
            ...  # read the pictures `source` and `mask`, write the picture `out` (RGB PNG of the same size)

    vpbench_worker.run(fill)

``fill`` may return a dictionary, which goes into ``result.json``: ``notes`` (a list of sentences that stand under the table), ``native``
(width, height and frames that the system works at), ``text_used``, ``peak_gpu_bytes``, and whatever else should be on record.

Load networks before ``run``, or on the first call: with ``model.worker=true`` the program is started once and handed one job after another.
What is printed goes to the log, and so does what libraries print: the channel to vpbench is put out of their way.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from typing import Any, Callable  # noqa: UP035 (Python 3.8)


class Job:
    """One clip.

    Attributes:
        folder: the job's folder.
        data: what ``job.json`` says.
        sources: paths of the RGB pictures, one per frame. For the task ``inpaint`` the hole is black.
        masks: paths of the pictures of the hole, 255 inside, 0 outside.
        outs: where the results must be written, one per frame.
        work: a folder for what the adapter needs meanwhile.
    """

    def __init__(self, folder: str) -> None:
        """Read ``job.json`` of a job's folder."""
        self.folder = folder
        with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
            self.data = json.load(file)
        names = [f"{frame:05}.png" for frame in range(self.data["frames"])]
        self.sources, self.masks, self.outs = ([os.path.join(folder, part, name) for name in names] for part in ("source", "mask", "out"))
        self.work = os.path.join(folder, "work")

    def __getattr__(self, name: str) -> Any:
        """What ``job.json`` says under ``name``: task, operation, width, height, fps, frames, seed, texts, ..."""
        if name == "data" or name not in self.data:
            raise AttributeError(f"job.json has no {name!r}")
        return self.data[name]


def run(fill: Callable[[Job], dict[str, Any] | None]) -> None:
    """Do one job when the last argument of the program is its folder; else the jobs that come in as lines of JSON, until they end.

    Args:
        fill: called with a ``Job``. It writes ``job.outs``; what it raises is that clip's failure, and the next job still comes.
    """
    if len(sys.argv) > 1 and os.path.isfile(os.path.join(sys.argv[-1], "job.json")):
        sys.exit(0 if _do(fill, sys.argv[-1])["status"] == "ok" else 1)
    channel = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what is printed from here on goes to the log
    sys.stdout = sys.stderr
    for line in sys.stdin:
        if line.strip():
            folder = json.loads(line)["job"]
            answer = _do(fill, folder)
            channel.write(json.dumps({"job": folder, "status": answer["status"]}) + "\n")
            channel.flush()


def _do(fill: Callable[[Job], Any], folder: str) -> dict[str, Any]:
    started = time.time()
    try:
        made = fill(Job(folder)) or {}
        answer = dict(made, status="ok", seconds=time.time() - started)
        text = json.dumps(answer)
    except Exception as error:
        traceback.print_exc()
        answer = {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        text = json.dumps(answer)
    temporary = os.path.join(folder, "result.json.tmp")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, os.path.join(folder, "result.json"))
    return answer
