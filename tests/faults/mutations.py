"""Ways in which a file comes to be damaged, or is made to do damage. Each is a function of the file's bytes and a generator."""

from __future__ import annotations

import io
import json
import random
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from bench.core.sealed import KEY, sealed

Draw = random.Random


@dataclass(frozen=True)
class Mutant:
    """A changed file. ``forged``: its checksums were made anew or taken out, so that to read another value of it is no fault."""

    content: bytes
    forged: bool = False


Mutate = Callable[[bytes, Draw], Mutant]

EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 62, (1 << 64) - 1)


def some_bytes(content: bytes, draw: Draw) -> Mutant:
    """Bits flipped, bytes put in, left out, doubled, cut off, or fields set to extremes; mostly near the beginning."""
    data = bytearray(content)
    for _ in range(draw.choice((1, 1, 1, 2, 4))):
        if not data:
            break
        near = draw.random() < 0.6
        at = min(int(draw.expovariate(1 / 150)), len(data) - 1) if near else draw.randrange(len(data))
        kind = draw.randrange(8)
        if kind <= 1:
            data[at] ^= 1 << draw.randrange(8)
        elif kind == 2:
            data[at] = draw.randrange(256)
        elif kind == 3:
            del data[at : at + draw.choice((1, 4, 100))]
        elif kind == 4:
            data[at:at] = data[at : at + draw.choice((1, 8, 100))] or b"\0"
        elif kind == 5:
            data[at:at] = draw.choice((b"9" * 30, b"\xff" * 8, b"[" * 50, b"\0", b"\n", b"\xed\xa0\x80"))
        elif kind == 6:
            del data[draw.choice((at, draw.randrange(len(data)))) :]
        else:
            size = draw.choice("BHIQ")
            value = struct.pack(draw.choice("<>") + size, draw.choice(EXTREMES) & (256 ** struct.calcsize(size) - 1))
            data[at : at + len(value)] = value
    return Mutant(bytes(data))


# Structure of texts ---------------------------------------------------------------------------------------------------

NASTY = (
    *("null", "true", "0", "-1", "1.5", "1e308", "1e999", "NaN", "9" * 25, "9" * 400, "9" * 5000, "[]", "{}", '""'),
    *(
        '"\\ud800"',
        '"a\\u0000b"',
        '"../../../x"',
        f'"{"x" * 5000}"',
        '"a\\nb"',
        '"2026-13-45"',
        "[" * 3000 + "]" * 3000,
    ),
    *(
        '{"a": ' * 300 + "1" + "}" * 300,
        "[null, null]",
        '{"": null}',
        '"\\u202e\\u001b[31m"',
        "[" + "1, " * 9999 + "1]",
    ),
)
"""Values that no one meant, as JSON writes them."""
NASTY_YAML = (
    *NASTY,
    *(
        "2026-13-45",
        "2026-01-01",
        "0x" + "f" * 5000,
        "1:2:3",
        ".inf",
        ".nan",
        "~",
        "!!python/object/apply:os.system ['x']",
    ),
    *(
        "&a [*a, *a]",
        "&a {b: *a}",
        "!!binary '='",
        "!!timestamp x",
        "!!int x",
        "!!set {a, b}",
        "{[1]: 2}",
        "<<",
        "|\n  x",
        "'\0'",
    ),
)
HERE = "@@here@@"


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in an object of JSON, and each key or number in it."""
    if isinstance(content, (dict, list)):
        for key in list(content) if isinstance(content, dict) else range(len(content)):
            yield content, key
            yield from places(content[key])


def restructured(content: Any, draw: Draw) -> Any:
    """An object of JSON with a value replaced by :data:`HERE`, left out, renamed, doubled or put in."""
    content = json.loads(json.dumps(content))
    positions = list(places(content))
    if not positions:
        return HERE
    inside, key = draw.choice(positions)
    kind = draw.randrange(6)
    if kind <= 2 or isinstance(inside, list):
        inside[key] = HERE
    elif kind == 3:
        del inside[key]
    elif kind == 4:
        inside[f"{key}{draw.choice(('', 's', 'x' * 3000))}"] = HERE
    else:
        inside[draw.choice(("", "extra", "-1", "__class__"))] = inside.pop(key)
    return content if draw.random() < 0.97 else HERE


def a_json(content: bytes, draw: Draw) -> Mutant:
    """Bytes, or structure; of what is sealed the seal is left, or made anew, or goes with the rest of the file."""
    if draw.random() < 0.5:
        return some_bytes(content, draw)
    changed = restructured(original := json.loads(content), draw)
    text = json.dumps(changed, indent=1, sort_keys=True).replace(f'"{HERE}"', draw.choice(NASTY))
    if isinstance(original, dict) and KEY in original and draw.random() < 0.5:
        try:
            unsealed = {key: value for key, value in json.loads(text).items() if key != KEY}
            return Mutant(json.dumps(sealed(unsealed)).encode(), forged=True)
        except (ValueError, AttributeError, RecursionError):
            pass
    return Mutant(text.encode(), forged=isinstance(original, dict) and KEY in original and KEY not in text)


def json_lines(content: bytes, draw: Draw) -> Mutant:
    """One line of several as :func:`a_json`, or lines in another order."""
    lines = content.splitlines()
    number = draw.randrange(len(lines))
    mutant = a_json(lines[number], draw)
    lines[number] = mutant.content
    return Mutant(b"\n".join(lines) + b"\n", mutant.forged)


def a_yaml(content: bytes, draw: Draw) -> Mutant:
    """Bytes, or structure."""
    if draw.random() < 0.4:
        return some_bytes(content, draw)
    text = yaml.safe_dump(restructured(yaml.safe_load(content), draw), sort_keys=False)
    return Mutant(text.replace(f"'{HERE}'", HERE).replace(HERE, draw.choice(NASTY_YAML)).encode())


def a_word(content: bytes, draw: Draw) -> Mutant:
    """A value of an option."""
    return Mutant(draw.choice(NASTY_YAML).encode()) if draw.random() < 0.5 else some_bytes(content, draw)


def a_csv(content: bytes, draw: Draw) -> Mutant:
    """Bytes, or a cell replaced."""
    if draw.random() < 0.5:
        return some_bytes(content, draw)
    lines = [line.split(b",") for line in content.split(b"\n")]
    line = draw.choice(lines)
    nasty = (
        b"",
        b"-1",
        b"9" * 400,
        b"x" * 200_000,
        b"\0",
        b"\xff",
        '"é"'.encode(),
        b'"',
        b"1.5",
        b"\r",
        b"a,b",
        b"nan",
    )
    line[draw.randrange(len(line))] = draw.choice(nasty)
    return Mutant(b"\n".join(b",".join(line) for line in lines))


# Structure of binary files --------------------------------------------------------------------------------------------


def a_png(content: bytes, draw: Draw) -> Mutant:
    """Bytes; or a chunk changed, left out or doubled, its checksum made anew."""
    if draw.random() < 0.6:
        return some_bytes(content, draw)
    chunks, at = [], 8
    while at + 12 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        chunks.append((content[at + 4 : at + 8], content[at + 8 : at + 8 + size]))
        at += 12 + size
    number, kind = draw.randrange(len(chunks)), draw.randrange(5)
    name, body = chunks[0] if kind <= 2 else chunks[number]
    if kind <= 2:
        field = draw.choice((0, 4))
        side = struct.pack(">I", draw.choice((0, 1, 2, 100, 40_000, 1 << 16, 1 << 24, (1 << 31) - 1, (1 << 32) - 1)))
        changed = (
            body[:field] + side + body[field + 4 :] if kind < 2 else body[:8] + bytes(draw.choices(range(17), k=5))
        )
        chunks[0] = name, changed
    elif kind == 3:
        chunks[number] = name, some_bytes(body, draw).content if body else b"\0"
    else:
        chunks[number : number + 1] = draw.choice(([], [(name, body)] * 2))
    return Mutant(content[:8] + b"".join(map(_chunk, *zip(*chunks, strict=True))) if chunks else b"", forged=True)


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


SHAPES = (
    *("(0,)", "()", "(1000000, 1000000)", "(-1, -5)", "(True,)", "(1.5,)", "(4, 4, 4, 4, 4, 4)", f"({9**99},)", "'x'"),
    *("(99999999999,)", "[1]", "(1,) * 3"),
)
KINDS = ("|O", "<f8", "<c16", "|V4", "<U9", "|S0", "<U0", "<M8[s]", "x", ">i2", "|u1", "[('a', '<f8')]")


def an_npy(content: bytes, draw: Draw) -> Mutant:
    """Bytes, or other words in the header."""
    if draw.random() < 0.5:
        return some_bytes(content, draw)
    size = int.from_bytes(content[8:10], "little")
    text, body = content[10 : 10 + size].decode(), content[10 + size :]
    if draw.random() < 0.5:
        text = re.sub(r"\([\d, ]*\)", lambda _: draw.choice(SHAPES), text, count=1)
    else:
        text = re.sub(r"'descr': '[^']*'", lambda _: f"'descr': '{draw.choice(KINDS)}'", text, count=1)
    text = text.rstrip() + " " * (-(len(text.rstrip()) + 11) % 64) + "\n"
    return Mutant(content[:8] + struct.pack("<H", len(text)) + text.encode() + body)


def an_npz(content: bytes, draw: Draw) -> Mutant:
    """Bytes, or one of the arrays as :func:`an_npy` and packed anew; or one that unpacks to a gigabyte."""
    if draw.random() < 0.6:
        return some_bytes(content, draw)
    packed, chosen = io.BytesIO(), draw.random()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as after:
        names = before.namelist()
        changed = draw.choice(names)
        for name in names:
            body = before.read(name)
            if name == changed and chosen < 0.1:
                continue
            after.writestr(name, an_npy(body, draw).content if name == changed else body)
    return Mutant(packed.getvalue(), forged=True)


def a_torch(content: bytes, draw: Draw) -> Mutant:
    """Bytes, or one of the parts of the archive, packed anew."""
    if draw.random() < 0.7:
        return some_bytes(content, draw)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as before, zipfile.ZipFile(packed, "w") as after:
        changed = draw.choice(before.namelist())
        for name in before.namelist():
            body = before.read(name)
            after.writestr(name, some_bytes(body, draw).content if name == changed else body)
    return Mutant(packed.getvalue(), forged=True)


def a_safetensors(content: bytes, draw: Draw) -> Mutant:
    """Bytes, or the structure of the header; or of the metadata, whose seal is left or made anew."""
    if draw.random() < 0.5:
        return some_bytes(content, draw)
    size = int.from_bytes(content[:8], "little")
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    meta, forged = header["__metadata__"]["meta"], False
    if draw.random() < 0.5:
        text = json.dumps(restructured(header, draw)).replace(f'"{HERE}"', draw.choice(NASTY))
        forged = KEY not in text
    else:
        mutant = a_json(meta.encode(), draw)
        header["__metadata__"]["meta"], forged = mutant.content.decode("utf-8", "replace"), mutant.forged
        text = json.dumps(header)
    encoded = text.encode("utf-8", "replace")
    encoded += b" " * (-len(encoded) % 8)
    return Mutant(struct.pack("<Q", len(encoded)) + encoded + body, forged)
