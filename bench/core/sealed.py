"""JSON that is read whatever stands in it, and checksums of what lies on disk: a byte that changed there is found, not used.

An object that we write for ourselves carries the CRC-32 of its other values under :data:`KEY`. CRC-32 finds every change of up to
32 neighbouring bits and misses one in four thousand million of the others. It says nothing against forgery: for that, records
name the SHA-256 of what they are of.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

KEY = "checksum"
MARK = "crc32:"
"""What its value begins with, so that a change of the key itself is found as well."""
LONGEST = 1 << 63
"""Whole numbers are smaller: what is larger fits no array, and has a text that Python refuses to write."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no blanks: one text for one value."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def load_json(text: str) -> Any:
    """The content of a JSON text.

    Raises:
        ValueError: not JSON, nested too deep, a number that is not finite or has more than 63 bits, or a text with NUL or half a
            surrogate pair, which is in no name and cannot be printed.
    """
    try:
        content = json.loads(text, parse_int=_whole, parse_float=_finite, parse_constant=_finite)
        if "\\u" in text:
            check_texts(content)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    return content


def _whole(text: str) -> int:
    if len(text) > 20 or abs(int(text)) >= LONGEST:
        raise ValueError(f"a whole number of {len(text)} digits")
    return int(text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text:.20} is not a finite number")
    return value


def check_texts(content: Any) -> None:
    """Refuse texts, also among the keys, that can be in no file's name and on no screen.

    Raises:
        ValueError: NUL, or half a surrogate pair.
    """
    for text in _texts(content):
        if "\0" in text:
            raise ValueError("a text has a NUL in it")
        text.encode()  # UnicodeEncodeError is a ValueError


def _texts(content: Any) -> Iterator[str]:
    if isinstance(content, str):
        yield content
    elif isinstance(content, (dict, list)):
        for element in content:
            yield from _texts(element)
            if isinstance(content, dict):
                yield from _texts(content[element])


def crc_of(path: Path) -> list[int]:
    """Size in bytes and CRC-32 of a file, as JSON lists them.

    Raises:
        OSError: it cannot be read.
    """
    crc, size = 0, 0
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            crc, size = zlib.crc32(block, crc), size + len(block)
    return [size, crc]


def checksum(blocks: Iterable[bytes | memoryview]) -> str:
    """``crc32:1a2b3c4d`` of bytes."""
    crc = 0
    for block in blocks:
        crc = zlib.crc32(block, crc)
    return f"{MARK}{crc:08x}"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """An object of JSON with the checksum of its values, as they will be read."""
    plain = json.loads(canonical(content))
    return {**plain, KEY: checksum([canonical(plain).encode()])}


def unsealed(content: Any) -> dict[str, Any]:
    """The content of a sealed object, its checksum verified and removed. Older files have none and are taken as they are.

    Raises:
        ValueError: no object, or of another checksum.
    """
    if not isinstance(content, dict):
        raise ValueError("it is no JSON object")
    rest = {key: value for key, value in content.items() if key != KEY}
    marked = any(isinstance(value, str) and value.startswith(MARK) for value in rest.values())
    if (KEY in content or marked) and content.get(KEY) != checksum([canonical(rest).encode()]):
        raise ValueError("its checksum is of other content")
    return rest
