"""Damaged files of every kind: an error of ours, or the same value. ``make fuzz`` tries ten thousand of each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import RunError

from . import harness, mutations
from .readers import READERS, Reader

EACH = int(os.environ.get("BENCH_FUZZ", 40))


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_named_or_change_nothing(name: str) -> None:
    row = harness.examine(READERS[name], range(EACH))
    assert row.counts.total() == EACH and not row.bad, "\n".join(row.examples)


def fake(read: Callable[[Path], Any], checksum: bool = True) -> Reader:
    """A reader with a fault."""
    make = READERS["index"].make
    return Reader("fake", make, lambda path: read(path), mutations.some_bytes, checksum)


def raises(error: Exception) -> Callable[[Path], Any]:
    """Reads the first file, and raises at any other."""

    def read(path: Path) -> Any:
        if "crc32" in (text := path.read_text(errors="replace")) and len(text) == len(SOUND):
            return 0
        raise error

    return read


SOUND = ""


@pytest.fixture(autouse=True)
def sound(tmp_path: Path) -> None:
    global SOUND
    SOUND = READERS["index"].make(tmp_path).read_text()


def hangs(path: Path) -> Any:
    if path.read_text(errors="replace") != SOUND:
        time.sleep(60)


def dies(path: Path) -> Any:
    if path.read_text(errors="replace") != SOUND:
        os._exit(1)


def eats(path: Path) -> Any:
    if path.read_text(errors="replace") != SOUND:
        return len(bytearray(3 << 30))
    return 0


@pytest.mark.parametrize(
    ("reader", "outcome"),
    [
        (fake(lambda path: path.read_bytes()), "silent"),
        (fake(lambda path: path.read_bytes(), checksum=False), "other"),
        (fake(raises(RunError("one line"))), "typed"),
        (fake(raises(RunError("two\nlines"))), "untyped"),
        (fake(raises(RunError("x" * 2000))), "untyped"),
        (fake(raises(ValueError("whatever"))), "untyped"),
        (fake(hangs), "hung"),
        (fake(dies), "untyped"),
        (fake(eats), "memory"),
    ],
)
def test_the_harness_sees(reader: Reader, outcome: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(harness, "PATIENCE", 1)
    row = harness.examine(replace(reader, mutate=lambda content, draw: mutations.Mutant(content + b" ")), range(2))
    assert row.counts == {outcome: 2} and row.bad == 2 * (outcome in harness.BAD)
    assert harness.table([row])[outcome].tolist() == [2, 2]
