"""Reading untrusted JSON, and objects that carry the checksum of their values."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.core.sealed import KEY, crc_of, load_json, sealed, unsealed

CONTENT = {"a": [1, 2.5, None, True], "b": {"c": "é"}, "d": "crc"}


def test_what_is_sealed_is_read_again() -> None:
    text = json.dumps(sealed(CONTENT))
    assert unsealed(load_json(text)) == CONTENT and load_json(text)[KEY].startswith("crc32:")
    assert unsealed(CONTENT) == CONTENT  # older files have none
    assert sealed({"a": (1, 2), "b": {3: 4}}) == sealed({"a": [1, 2], "b": {"3": 4}})  # as they are read


def test_every_flipped_bit_is_found_or_changes_nothing() -> None:
    text = json.dumps(sealed(CONTENT), ensure_ascii=False).encode()
    for at in range(len(text)):
        for bit in range(8):
            changed = bytearray(text)
            changed[at] ^= 1 << bit
            try:
                content = unsealed(load_json(changed.decode()))
            except ValueError:
                continue
            assert content == CONTENT, (at, bit)


def test_the_checksum_is_zips(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123456789")
    assert crc_of(tmp_path / "a") == [9, 0xCBF43926]  # the check value of CRC-32


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[" * 100_000, "nested too deep"),
        ("9" * 30, "a whole number of 30 digits"),
        (str(1 << 63), "a whole number of 19 digits"),
        ("1e999", "1e999 is not a finite number"),
        ("[NaN]", "NaN is not a finite number"),
        (r'{"a\ud800": 1}', "surrogates not allowed"),
        (r'["\u0000"]', "a text has a NUL in it"),
        ("{", "Expecting property name"),
    ],
)
def test_what_is_not_read_is_one_kind_of_error(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_json(text)


def test_numbers_and_letters_that_are_read() -> None:
    assert load_json(f'[{(1 << 63) - 1}, -1e308, "\\u00e9\\ud83d\\ude00"]') == [(1 << 63) - 1, -1e308, "é😀"]
