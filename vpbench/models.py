"""From a configuration to a model: shipped ones by ``_target_``, a user's own by a dotted path.

A model is a callable ``(clip, *, seed) -> uint8 (T, H, W, 3)``. What it may see is decided here and not by the model:
a ``MaskedClip``, unless its configuration says ``needs_reference: true``.

A model that loads checkpoints may also have these methods; the harness calls the ones that are there:

* ``needs() -> list[Need]``: what it needs before it can run (``vpbench check``).
* ``validate()``: refuse, with a ``ConfigError``, settings that no clip can be made with; called when all needs are met. Loads no weights.
* ``expect(handles, chosen)``: told which clips the benchmark has, and which of them will come; may refuse with a ``ConfigError``.
* ``fingerprints() -> dict``: hashes of its checkpoints, part of the run's identity.
* ``keep_in(folder)``: where it may keep what other runs can use again; called once, before the first clip.
* ``stages() -> dict``: seconds and peak memory of each stage of the clip it has just made; goes into the clip's record.
* ``notes`` (list of str, or a method that returns one): what a reader of the table must know of the clip it has just made, in sentences
  that are equal for all clips they are true of (``lossy input: h264 yuv420p``). Goes into the clip's record, the summary and every table;
  what stands before a colon marks the row.
* ``allow_short`` (bool): it may return ``Short``, a prediction that lacks frames. Such a row is scored on what is there and never ranked.
* ``release()``: let go of networks and end processes; called after the last clip, also when the run ends early.
* ``name`` (str): of its row, where the configuration gives none.
* ``random_weights`` (bool): its networks have seeded random weights, for trying the plumbing. Such a row is shown and never ranked.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vpbench.clip import Clip, Frames, MaskedClip, describe
from vpbench.configuration import import_target
from vpbench.errors import ConfigError, ModelError
from vpbench.sources import digest


@dataclass(frozen=True)
class Short:
    """A prediction that may lack frames.

    Attributes:
        frames: uint8 (N, H, W, 3).
        present: which frames of the clip these are, counted from 0, ascending.
    """

    frames: Frames
    present: tuple[int, ...]


@dataclass(frozen=True)
class Model:
    """A model with what the harness knows of it.

    Attributes:
        name: shown in tables, part of the run folder's name.
        call: the model itself.
        needs_reference: it gets the whole ``Clip``; shown as "sees hole", never ranked with blind rows.
        ranked: False for floor and ceiling rows.
        identity: what decides its outputs, apart from clip and seed: configuration and implementation version.
        barred: why it is never ranked although its kind is; empty when it may be.
    """

    name: str
    call: Callable[..., Any]
    needs_reference: bool
    ranked: bool
    identity: Mapping[str, Any]
    barred: str = ""

    def predict(self, clip: Clip, seed: int) -> Short:
        """Run the model on ``clip`` and check what comes back.

        Returns:
            The prediction, and the frames that it has: all, but for a model that may leave some out.

        Raises:
            ModelError: not uint8 (T, H, W, 3) of the clip's own shape; the message says what came.
        """
        output = self.call(clip if self.needs_reference else MaskedClip.of(clip), seed=seed)
        if not isinstance(output, Short):
            return Short(check_prediction(output, clip, self.name), tuple(range(len(clip.frames))))
        wrong = f"{clip.name}: {self.name} returned the frames {output.present} of a clip of {len(clip.frames)}"
        if not getattr(self.call, "allow_short", False) and len(output.present) != len(clip.frames):
            raise ModelError(f"{wrong}; only a model with allow_short may leave some out.")
        if not output.present or list(output.present) != sorted(set(output.present) & set(range(len(clip.frames)))):
            raise ModelError(f"{wrong}; expected at least one, in ascending order.")
        return Short(check_prediction(output.frames, clip.at(output.present), self.name), output.present)


def check_prediction(output: Any, clip: Clip, model: str) -> Frames:
    """Return ``output`` when it is a prediction for ``clip``: uint8, same (T, H, W, 3).

    Raises:
        ModelError: says what came and what was expected.
    """
    expected = f"expected uint8 {clip.frames.shape}"
    if not isinstance(output, np.ndarray):
        raise ModelError(f"{clip.name}: {model} returned {describe(output)}; {expected} as a numpy array.")
    if output.dtype.kind == "f" and not np.isfinite(output).all():
        raise ModelError(f"{clip.name}: {model} returned NaN or infinite values ({output.dtype}, shape {output.shape}); {expected}.")
    if output.dtype != np.uint8:
        raise ModelError(
            f"{clip.name}: {model} returned {describe(output)}; {expected}. Convert with np.rint(np.clip(x, 0, 1) * 255).astype(np.uint8)."
        )
    if output.ndim == 4 and len(output) != len(clip.frames) and output.shape[1:] == clip.frames.shape[1:]:
        raise ModelError(f"{clip.name}: {model} returned {len(output)} frames for a clip of {len(clip.frames)}; {expected}.")
    if output.shape != clip.frames.shape:
        raise ModelError(f"{clip.name}: {model} returned {describe(output)}; {expected}.")
    return np.ascontiguousarray(output)


def notes_of(call: Callable[..., Any]) -> list[str]:
    """What a model says of the clip it has just made, see the module's text; each sentence once."""
    notes = getattr(call, "notes", None)
    return list(dict.fromkeys(map(str, (notes() if callable(notes) else notes) or ())))


def custom(target: str, kwargs: Mapping[str, Any] | None = None) -> Callable[..., Any]:
    """A user's own model: ``target`` is a dotted path (``my_file.MyModel``); the current directory is importable.

    A class is constructed with ``kwargs``; a function becomes a partial with them.

    Raises:
        ConfigError: the path does not lead to a class or function, or ``kwargs`` do not fit; the message lists what exists.
    """
    found = import_target(target, "model.target")
    options = dict(kwargs or {})
    try:
        if inspect.isclass(found):
            inspect.signature(found).bind(**options)
            instance = found(**options)
            if not callable(instance):
                raise ConfigError(f"model.target={target}: the class has no __call__(self, clip, *, seed).")
            return instance
        inspect.signature(found).bind_partial(**options)
    except TypeError as error:
        known = ", ".join(inspect.signature(found).parameters)
        raise ConfigError(f"model.kwargs={options} do not fit {target}: {error}. Its parameters: {known or 'none'}.") from error
    return functools.partial(found, **options)


def implementation_version(target: Any) -> str:
    """What stands for the code of a model in the run's identity: its ``version`` where it has one, else its files' bytes.

    These are the file that defines it and the modules beside it that it imports (``vpbench.sources``).
    """
    version = getattr(target, "version", None)
    if isinstance(version, int):
        return f"version {version}"
    try:
        return f"sha256 {digest(target.__module__, Path(inspect.getfile(target)))}"
    except (TypeError, OSError):
        return f"name {getattr(target, '__qualname__', target)}"
