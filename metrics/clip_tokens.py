"""Captions as ids for CLIP's text network, which reads at most 77 of them, the start and end id included.

What happens to longer captions is part of a score's meaning:

* ``chunked``: nothing is lost. Sentences are packed greedily into chunks of at most 75 ids, each with its own start and end id; a
  longer sentence is split.
* ``truncated``: cut to 77 ids, the last of them the end id, as ``open_clip`` and OpenAI's ``clip.tokenize(truncate=True)`` do.
* ``unterminated``: cut to 77 ids, so that the end id is lost. Both rules by which CLIP finds the end id (the largest id, and the first
  end id) then give position 0, whose state knows nothing of the words: every longer caption has the same embedding. This is what
  ``torchmetrics`` 1.x does (Lightning-AI/torchmetrics issue 2883), and with it the VideoPainter evaluation.

The vocabulary and the byte pair encoding are OpenAI's, from ``open_clip``.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from open_clip import SimpleTokenizer

CONTEXT = 77  # ids
START, END = 49406, 49407
Tokens = Literal["chunked", "truncated", "unterminated"]
TOKENS: tuple[Tokens, ...] = get_args(Tokens)
_SENTENCE_ENDS = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])|\n+")


def caption_ids(caption: str, tokens: Tokens) -> NDArray[np.int64]:
    """Return the ids of a caption, one row per chunk, padded with 0 behind the end id.

    Args:
        caption: any text.
        tokens: what happens to more than 77 ids, see the module's text.

    Returns:
        int64 (n, 77); n is 0 where the caption has no words, and 1 unless ``tokens`` is ``chunked``.

    >>> caption_ids("A dog.", "truncated")[0, :6]
    array([49406,   320,  1929,   269, 49407,     0])
    >>> caption_ids(" ", "chunked").shape
    (0, 77)
    """
    room = CONTEXT - 2
    if tokens == "chunked":
        chunks = _packed([_words(sentence) for sentence in _SENTENCE_ENDS.split(caption)], room)
        return _rows([[START, *chunk, END] for chunk in chunks])
    words = _words(caption)
    if not words:
        return _rows([])
    if tokens == "truncated":
        return _rows([[START, *words[:room], END]])
    return _rows([[START, *words, END][:CONTEXT]])


def _packed(sentences: list[list[int]], room: int) -> list[list[int]]:
    chunks: list[list[int]] = []
    for sentence in sentences:
        for part in (sentence[start : start + room] for start in range(0, len(sentence), room)):
            if chunks and len(chunks[-1]) + len(part) <= room:
                chunks[-1] = chunks[-1] + part
            else:
                chunks.append(part)
    return chunks


def _rows(rows: list[list[int]]) -> NDArray[np.int64]:
    ids = np.zeros((len(rows), CONTEXT), np.int64)
    for row, values in zip(ids, rows, strict=True):
        row[: len(values)] = values
    return ids


def _words(text: str) -> list[int]:
    # A caption that spells out a start or end marker must not end the sequence.
    return [word for word in _tokenizer().encode(text) if word < START]


@lru_cache(maxsize=1)
def _tokenizer() -> SimpleTokenizer:
    from open_clip import SimpleTokenizer

    return SimpleTokenizer()
