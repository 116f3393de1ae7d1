"""Damage to files, by seed: bytes, text, JSON, archives and pictures, each in the ways that its readers can be fooled.

A mutation takes the bytes of a valid file and a random generator and gives other bytes. Which ones fit a file follows from its suffix.
"""

from __future__ import annotations

import functools
import io
import json
import pickle
import random
import re
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Mutation = Callable[[bytes, random.Random], bytes]

NUMBERS = (
    *("0", "-1", "1", "0.5", "-0.0", "255", "65535", "65536", "1000000", "2147483647", "2147483648", "4294967296", "-9223372036854775809"),
    *("1e15", "1e300", "1e400", "-1e400", "1e-320", "nan", "NaN", "inf", "Infinity", "-Infinity", "0x10", "1_000", "9" * 400, "9" * 5000),
)
TEXTS = (
    *("", " ", "\0", "\n", ",", '"', "'", "\\", "..", "../../../../etc/passwd", "/etc/passwd", "C:\\x", "a/b", ".hidden", "CON"),
    *("<script>alert(1)</script>", "</script><script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)"),
    *("${oc.env:HOME}", "${a}", "{{7*7}}", "{job}", "%s%n", "=1+1", "\ud800", "\u202e", "\U0001f600", "é" * 300, "x" * 300, "x" * 70_000),
)
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 2**31, 2**63, -(2**64), 10**30, 10**400, [], {}, [[]], [None], {"": 0}),
    *("1", "inf", "nan"),
    *({"_target_": "os.system", "command": "false"}, {"_target_": "os.getcwd"}, ["a", "a"], [1, "a", None, {}], *TEXTS[:-1]),
)
BAD_JSON = ("[" * 100_000, '{"a":' * 100_000, "null", "[]", '"x"', "3", "", "{", "1" * 5000, "NaN", "\ufeff{}", "{} {}")
INTEGERS = (0, 1, 2, 3, 7, 8, 16, 255, 256, 32767, 32768, 65535, 100_000, 2**24, 2**31 - 1, 2**31, 2**32 - 1)
EXTREMES = (*INTEGERS, 2**40, 2**63 - 1, 2**63, 2**64 - 1)
DTYPES = ("|b1", "|i1", "<i2", "<i8", "<u8", "<f8", "<c16", "|O", "<U9", "|S5", "|V1000000", "<M8[s]", ">i4", "|S0", "[('a', '<i4')]")
SHAPES = ((), (0,), (1,), (3, 4), (1, 1, 1), (100_000, 100_000, 100), (2**40, 1, 1), (-1, 4, 4), (2**62, 2**62, 4), (0, 0, 0), (1, 0, 5))


def mutate(data: bytes, name: str, others: Sequence[bytes], rng: random.Random) -> bytes:
    """Damage a file one to three times.

    Args:
        data: a valid file.
        name: its name; the suffix says how it can be damaged.
        others: other valid files of its kind, parts of which may be put in.
        rng: decides everything.
    """
    suffix = name.rpartition(".")[2].lower()
    own = BY_SUFFIX.get(suffix, ())
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        if own and rng.random() < 0.7:
            data = rng.choice(own)(data, rng)
        elif others and rng.random() < 0.15:
            data = spliced(data, rng.choice(others), rng)
        else:
            data = rng.choice(BYTES)(data, rng)
    return data


def _span(data: bytes, rng: random.Random, most: int = 64) -> tuple[int, int]:
    start = rng.randrange(len(data) + 1)
    return start, min(len(data), start + rng.choice((1, 2, 4, 8, rng.randint(1, most))))


def flipped(data: bytes, rng: random.Random) -> bytes:
    """One to eight bytes changed."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8) if rng.random() < 0.5 else rng.randrange(1, 256)
    return bytes(changed)


def cut(data: bytes, rng: random.Random) -> bytes:
    """The end is missing; now and then everything."""
    return data[: rng.choice((0, rng.randrange(len(data) + 1), max(0, len(data) - rng.randint(1, 16))))]


def removed(data: bytes, rng: random.Random) -> bytes:
    """A part is missing."""
    start, end = _span(data, rng, 4096)
    return data[:start] + data[end:]


def inserted(data: bytes, rng: random.Random) -> bytes:
    """Something stands where nothing should."""
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((rng.randbytes(rng.randint(1, 64)), b"\0" * 32, b"\xff" * 32, b"\n", b'"')) + data[at:]


def doubled(data: bytes, rng: random.Random) -> bytes:
    """A part stands twice, or a hundred times."""
    start, end = _span(data, rng, 4096)
    return data[:end] + data[start:end] * rng.choice((1, 1, 100)) + data[end:]


def spliced(data: bytes, other: bytes, rng: random.Random) -> bytes:
    """The beginning of one file and the end of another."""
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def integer(data: bytes, rng: random.Random) -> bytes:
    """An extreme number of two, four or eight bytes, most often where a small one was."""
    size, order = rng.choice((2, 4, 4, 8)), rng.choice("<>")
    if len(data) < size:
        return data
    small = [at for at in (rng.randrange(len(data) - size + 1) for _ in range(32)) if not any(data[at : at + size // 2])]
    at = small[0] if small and rng.random() < 0.8 else rng.randrange(len(data) - size + 1)
    number = rng.choice(EXTREMES) % (1 << 8 * size)
    return data[:at] + struct.pack(order + {2: "H", 4: "I", 8: "Q"}[size], number) + data[at + size :]


BYTES: tuple[Mutation, ...] = (flipped, cut, removed, inserted, doubled, integer)


def _token(data: bytes, pattern: bytes, new: str, rng: random.Random) -> bytes:
    found = list(re.finditer(pattern, data))
    if not found:
        return data
    match = rng.choice(found)
    return data[: match.start()] + new.encode("utf-8", "surrogatepass") + data[match.end() :]


def number(data: bytes, rng: random.Random) -> bytes:
    """An extreme number in place of one in a text."""
    return _token(data, rb"-?\d+(\.\d+)?(e-?\d+)?", rng.choice(NUMBERS), rng)


def word(data: bytes, rng: random.Random) -> bytes:
    """A hostile text in place of a word."""
    return _token(data, rb"[A-Za-z_][\w.\[\]]*", rng.choice(TEXTS), rng)


def line(data: bytes, rng: random.Random) -> bytes:
    """Lines that are missing, doubled, or in another order."""
    lines = data.split(b"\n")
    at = rng.randrange(len(lines))
    how = rng.randrange(3)
    if how == 0:
        del lines[at]
    elif how == 1:
        lines[at:at] = [lines[at]] * rng.choice((1, 1, 100))
    else:
        rng.shuffle(lines)
    return b"\n".join(lines)


def cell(data: bytes, rng: random.Random) -> bytes:
    """A cell of a CSV file that is hostile, an extreme number, missing, or one too many."""
    return _token(data, rb"[^,\n]*", rng.choice((*NUMBERS, *TEXTS, ",", ",,,,", '"a\nb"', '"')), rng)


def value(data: bytes, rng: random.Random) -> bytes:
    """A value of a JSON document of another type, missing, doubled, hostile or extreme, or a key that is; now and then another document."""
    if rng.random() < 0.03:
        return rng.choice(BAD_JSON).encode()
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        return rng.choice(BYTES)(data, rng)
    places = list(_places(found))
    if not places:
        return rng.choice(BAD_JSON).encode()
    holder, key = rng.choice(places)
    how = rng.random()
    if how < 0.5:
        holder[key] = rng.choice(VALUES)
    elif how < 0.65:
        del holder[key]
    elif how < 0.75 and isinstance(holder, list):
        holder.extend([holder[key]] * rng.choice((1, 1, 100)))
    elif how < 0.85 and isinstance(holder, dict):
        holder[str(rng.choice((*TEXTS[:-1], "x")))] = holder.pop(key)
    else:
        other, place = rng.choice(places)
        holder[key] = json.loads(json.dumps(other.get(place) if isinstance(other, dict) else other[place] if place < len(other) else None))
    return json.dumps(found).encode()


def _places(found: Any) -> Any:
    pairs = found.items() if isinstance(found, dict) else enumerate(found) if isinstance(found, list) else ()
    for key, inside in list(pairs):
        yield found, key
        yield from _places(inside)


def array(data: bytes, rng: random.Random) -> bytes:
    """An archive of arrays whose parts lie about type or size, are missing, doubled, pickled, or unpack to much more than they are."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(part.file_size for part in archive.infolist()) > 10_000_000:
                return rng.choice(BYTES)(data, rng)
            parts = [(name, archive.read(name)) for name in archive.namelist()]
    except Exception:  # damaged before
        return rng.choice(BYTES)(data, rng)
    at = rng.randrange(len(parts)) if parts else 0
    name, content = parts[at] if parts else ("arr_0.npy", b"")
    compression = rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2))
    how = rng.randrange(9)
    if how == 0:
        parts[at : at + 1] = [(name, header(rng.choice(DTYPES), rng.choice(SHAPES)) + content[128:])]
    elif how == 1:
        parts[at : at + 1] = [(name, header("|O", (1,)) + pickle.dumps(Pickled()))]
    elif how == 2:
        parts[at : at + 1] = [(name, pickle.dumps(Pickled()))]
    elif how == 3:
        return bomb(re.sub("[\0\ud800]", "_", name)[:100] or "_")
    elif how == 4:
        parts[at : at + 1] = [(rng.choice((*TEXTS[:20], "arr_1.npy", "x")), content)]
    elif how == 5:
        parts += parts[at : at + 1]
    elif how == 6:
        del parts[at : at + 1]
    elif how == 7:
        parts[at : at + 1] = [(name, rng.choice(BYTES)(content, rng))]
    else:
        made = np.zeros(rng.choice(((0, 3, 4), (2, 3), (3, 32, 56), (1, 1, 1))), rng.choice(("?", "i4", "f4", "u1", "c8", "i8")))
        buffer = io.BytesIO()
        np.save(buffer, made)
        parts[at : at + 1] = [(name, buffer.getvalue())]
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", compression) as archive:
        warnings.simplefilter("ignore", UserWarning)  # of a name that occurs twice
        for part, content in parts:
            archive.writestr(re.sub("[\0\ud800]", "_", part)[:60_000] or "_", content)
    return buffer.getvalue()


@functools.cache
def bomb(name: str) -> bytes:
    """An archive of some MB with an array of 600 MB."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive, archive.open(name, "w") as part:
        part.write(header("|u1", (600, 1000, 1000)))
        for _ in range(60):
            part.write(bytes(10_000_000))
    return buffer.getvalue()


@functools.cache
def _packed_zeros() -> bytes:
    return b"x\0\0" + zlib.compress(bytes(50_000_000), 1)


class Pickled:
    """What gives itself away when somebody unpickles it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (exec, ("from tests.fuzz.guards import unpickled; unpickled()",))


def header(dtype: str, shape: tuple[int, ...]) -> bytes:
    """The head of an .npy file that claims this."""
    text = f"{{'descr': {dtype if dtype.startswith('[') else repr(dtype)}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


def png_chunk(data: bytes, rng: random.Random) -> bytes:
    """A PNG with a head that lies, or with chunks missing, doubled or in another order; checksums are right."""
    chunks, at = [], 8
    while at + 12 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return rng.choice(BYTES)(data, rng)
    how = rng.randrange(4)
    place = rng.randrange(len(chunks))
    if how == 0 and len(chunks[0][1]) == 13:
        width, height, *rest = struct.unpack(">IIBBBBB", chunks[0][1])
        pick = rng.choice((*INTEGERS, width)), rng.choice((*INTEGERS, height))
        rest = [rng.choice((0, 1, 2, 3, 4, 6, 8, 16, 255)) if rng.random() < 0.2 else old for old in rest]
        chunks[0] = (b"IHDR", struct.pack(">IIBBBBB", *pick, *rest))
    elif how == 1:
        kind = rng.choice((b"zTXt", b"iTXt", b"iCCP", b"tEXt", b"eXIf", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"fdAT"))
        chunks.insert(rng.randint(1, len(chunks)), (kind, _packed_zeros() if rng.random() < 0.3 else rng.randbytes(rng.randint(0, 40))))
    elif how == 2:
        chunks[place] = (chunks[place][0], rng.choice(BYTES)(chunks[place][1], rng))
    elif rng.random() < 0.5:
        del chunks[place]
    else:
        chunks.insert(rng.randrange(len(chunks)), chunks[place])
    made = [struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks]
    return data[:8] + b"".join(made)


def jpeg_size(data: bytes, rng: random.Random) -> bytes:
    """A JPEG that claims another size."""
    at = next((i for kind in (b"\xff\xc0", b"\xff\xc2") if (i := data.find(kind)) >= 0), -1)
    if at < 0:
        return rng.choice(BYTES)(data, rng)
    return data[: at + 5] + struct.pack(">HH", rng.choice(INTEGERS) % 65536, rng.choice(INTEGERS) % 65536) + data[at + 9 :]


def other_format(data: bytes, rng: random.Random) -> bytes:
    """A file of a format that the name does not say; one of them would start a program."""
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(touched) (w) file closefile\nshowpage\n"
    huge = b"P6 100000 100000 255\n" + bytes(64)
    return rng.choice((script, huge, b"GIF89a" + rng.randbytes(40), b"BM" + rng.randbytes(60), b"II*\0" + rng.randbytes(60), data))


def box(data: bytes, rng: random.Random) -> bytes:
    """A video whose boxes or elements claim extreme numbers: sizes, counts, width and height."""
    marks = (b"tkhd", b"avc1", b"stts", b"stsz", b"stco", b"stsc", b"stss", b"mvhd", b"mdhd", b"elst", b"moov", b"mdat", b"ftyp", b"ctts")
    marks += (
        b"\xb0\x81",
        b"\xba\x81",
        b"\x2a\xd7\xb1",
        b"\x1f\x43\xb6\x75",
        b"\x16\x54\xae\x6b",
        b"avih",
        b"strh",
        b"strf",
        b"movi",
        b"idx1",
    )
    places = [match.start() for mark in marks for match in re.finditer(re.escape(mark), data)]
    if not places:
        return integer(data, rng)
    at = max(0, rng.choice(places) + rng.choice((-4, 1, 2, 4, 8, 12, *range(4, 100, 2))))
    size = rng.choice((1, 2, 4, 4))
    return data[:at] + (rng.choice(EXTREMES) % (1 << 8 * size)).to_bytes(size, rng.choice(("big", "little"))) + data[at + size :]


TEXT: tuple[Mutation, ...] = (number, number, word, line)
PICTURE: tuple[Mutation, ...] = (jpeg_size, other_format, integer)
VIDEO: tuple[Mutation, ...] = (box, box, integer)
BY_SUFFIX: dict[str, tuple[Mutation, ...]] = {
    "csv": (cell, cell, number, word, line),
    "yaml": (*TEXT, cell),
    "json": (value, value, value, value, number, word),
    "claim": (value, value, number),
    "npz": (array,),
    "png": (png_chunk, png_chunk, other_format),
    "jpg": PICTURE,
    "mp4": VIDEO,
    "mkv": VIDEO,
    "avi": VIDEO,
    "txt": (value, number, word),
    "pth": (array, integer),
}
