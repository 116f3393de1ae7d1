"""Read the next clip while the present one is worked on."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator

from vpbench.clip import Clip, ClipHandle

AHEAD_BYTES = 512 * 2**20  # a clip larger than this is worked on before the next one is read


def prefetched(handles: Iterable[ClipHandle]) -> Iterator[tuple[ClipHandle, Clip | Exception]]:
    """Yield every handle with its clip, or with the exception that reading it raised.

    One thread reads ahead by exactly one clip, so at most two are in memory: the one being worked on and the next; beside a clip of
    more than ``AHEAD_BYTES`` there is no other.
    """
    ready: queue.Queue[tuple[ClipHandle, Clip | Exception] | None] = queue.Queue()
    wanted = threading.Semaphore(1)
    stop = threading.Event()

    def read() -> None:
        for handle in handles:
            wanted.acquire()
            if stop.is_set():
                return
            try:
                ready.put((handle, handle.load()))
            except Exception as error:  # whatever it is, it belongs to this clip and is recorded there
                ready.put((handle, error))
        ready.put(None)

    threading.Thread(target=read, name="vpbench-prefetch", daemon=True).start()
    try:
        while (entry := ready.get()) is not None:
            large = _size(entry[1]) > AHEAD_BYTES
            if not large:
                wanted.release()
            yield entry
            del entry  # before the next one is asked for, or three clips would be alive
            if large:
                wanted.release()
    finally:
        stop.set()
        wanted.release()


def _size(clip: Clip | Exception) -> int:
    if isinstance(clip, Exception):
        return 0
    return clip.frames.nbytes + clip.masks.nbytes + (0 if clip.target is None else clip.target.nbytes)
