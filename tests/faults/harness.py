"""Damaged files by the thousand: ``python -m tests.faults.harness --each 10000`` prints a line for each reader.

Each input is read in a child process with bounded memory, and what comes of it is one of :data:`OUTCOMES`. Input ``n`` of a reader
is the same every time: ``--reader NAME --only N`` reads it alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import random
import resource
import select
import shutil
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from pydantic import BaseModel

from bench.core.provenance import peak_memory_mb, reset_peak_memory

from .readers import READERS, TYPED, Reader

OUTCOMES = ("same", "typed", "other", "untyped", "silent", "hung", "memory")
"""The same value; an error of ours, one short line; another value where no checksum is or where it was forged; any other error;
another value in spite of a checksum; nothing for :data:`PATIENCE` seconds; more than :data:`MOST_MEMORY`."""
BAD = OUTCOMES[3:]
LONGEST = 1500
"""Characters of a line."""
PATIENCE = 20
MOST_MEMORY = 1 << 30
"""Bytes that reading one of these files may take: the largest picture or field of flow that is let through."""


def fingerprint(value: Any) -> str:
    """A digest of the content of a value of any kind."""
    digest = hashlib.sha256()
    for part in _parts(value):
        digest.update(part)
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, torch.Tensor):
        value = value.detach().numpy()
    if isinstance(value, np.ndarray):
        yield f"array {value.dtype} {value.shape}".encode() + value.tobytes()
    elif hasattr(value, "convert"):  # Pillow's
        yield from _parts(np.asarray(value))
    elif isinstance(value, BaseModel):
        yield from _parts(value.model_dump())
    elif dataclasses.is_dataclass(value):
        yield from _parts(vars(value))
    elif isinstance(value, Mapping):
        yield b"{"
        for key in sorted(value, key=str):
            yield from _parts(key)
            yield from _parts(value[key])
        yield b"}"
    elif isinstance(value, (list, tuple)):
        yield b"["
        for element in value:
            yield from _parts(element)
        yield b"]"
    else:
        yield f"{type(value).__name__} {value!r}".encode("utf-8", "backslashreplace")


@dataclass
class Row:
    """What came of the inputs of a reader.

    Attributes:
        memory: most that one of them took, MB.
        examples: of each bad outcome, its first inputs and what was said.
    """

    reader: Reader
    counts: Counter[str] = field(default_factory=Counter)
    memory: float = 0.0
    examples: list[str] = field(default_factory=list)

    @property
    def bad(self) -> int:
        """Inputs with an outcome that should not be."""
        return sum(self.counts[name] for name in BAD)

    def take(self, number: int, outcome: str, memory: float, message: str) -> None:
        """Count an input."""
        self.counts[outcome] += 1
        self.memory = max(self.memory, memory)
        if outcome in BAD and len(self.examples) < 5:
            self.examples.append(f"{self.reader.name}, input {number}: {outcome}: {message}")


def examine(reader: Reader, numbers: Iterable[int]) -> Row:
    """Read damaged files of a kind in child processes; one that hangs or dies takes no other input with it."""
    row, remaining, scratch = Row(reader), list(numbers), Path(tempfile.mkdtemp())
    try:
        (scratch / "whole").mkdir()
        name = reader.make(scratch / "whole").relative_to(scratch / "whole")
        while remaining:
            done, end = _batch(reader, name, scratch, remaining, row)
            if done < len(remaining):
                row.take(remaining[done], "hung" if end == "hung" else "untyped", 0.0, "the process ended")
            remaining = remaining[done + 1 :]
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return row


def _batch(reader: Reader, name: Path, scratch: Path, numbers: list[int], row: Row) -> tuple[int, str]:
    """How many inputs a child has read, and how it ended."""
    source, sink = os.pipe()
    if not (child := os.fork()):
        try:
            os.close(source)
            _read_all(reader, name, scratch, numbers, sink)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    os.close(sink)
    done, end = 0, "ended"
    try:
        with os.fdopen(source, "rb") as lines:
            while True:
                if not select.select([lines], [], [], PATIENCE)[0]:
                    end = "hung"
                    break
                if not (line := lines.readline()):
                    break
                outcome, memory, message = line.decode().rstrip("\n").split("\t")
                row.take(numbers[done], outcome, float(memory), message)
                done += 1
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    return done, end


def _read_all(reader: Reader, name: Path, scratch: Path, numbers: list[int], sink: int) -> None:
    """What a child does: a line for each input, whatever libraries print goes nowhere."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    with open("/proc/self/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + 2 * MOST_MEMORY,) * 2)
    content = (scratch / "whole" / name).read_bytes()
    work = scratch / "work"

    def read(data: bytes) -> Any:
        shutil.rmtree(work, ignore_errors=True)
        shutil.copytree(scratch / "whole", work)
        (work / name).write_bytes(data)
        return reader.read(work / name)

    expected = read(content)
    for number in numbers:
        mutant = reader.mutate(content, random.Random(f"{reader.name}/{number}"))
        reset_peak_memory()
        before = peak_memory_mb()
        outcome, message = _outcome(reader, lambda: read(mutant.content), expected, mutant.forged)  # noqa: B023
        memory = peak_memory_mb() - before
        if memory > MOST_MEMORY / 1e6:
            outcome = "memory"
        message = " ".join(repr(message).split())[:300]
        os.write(sink, f"{outcome}\t{memory}\t{message}\n".encode())


def _outcome(reader: Reader, read: Callable[[], Any], expected: Any, forged: bool) -> tuple[str, str]:
    try:
        value = read()
        part = reader.loses and value.items() <= expected.items()
        if part or fingerprint(value) == fingerprint(expected):
            return "same", ""
        return ("other", "") if forged or not reader.checksum else ("silent", str(value))
    except MemoryError as error:
        return "memory", str(error)
    except TYPED as error:
        message = str(error)
        short = message.isprintable() and 0 < len(message) <= LONGEST
        return ("typed", "") if short else ("untyped", f"{len(message)} characters, {message[:200]}")
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return "untyped", f"{type(error).__name__}: {error!s:.150} at {frame.filename[-40:]}:{frame.lineno}"


def table(rows: Iterable[Row]) -> pd.DataFrame:
    """A line for each reader, and their sum."""
    lines = [
        {
            "reader": row.reader.name,
            "checksum": "yes" if row.reader.checksum else "no",
            "inputs": row.counts.total(),
            **{name: row.counts[name] for name in OUTCOMES},
            "MB": round(row.memory),
        }
        for row in rows
    ]
    frame = pd.DataFrame(lines)
    numbers = frame.select_dtypes("number")
    last = {"reader": "all", "checksum": "", **numbers.sum().to_dict(), "MB": numbers["MB"].max()}
    return pd.concat([frame, pd.DataFrame([last])], ignore_index=True)


def main() -> int:
    """The command; 1 where an outcome is bad."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--each", type=int, default=100, help="inputs of each reader")
    parser.add_argument("--reader", action="append", help="a part of its name; all by default")
    parser.add_argument("--only", type=int, help="this input alone")
    options = parser.parse_args()
    chosen = [r for name, r in READERS.items() if not options.reader or any(part in name for part in options.reader)]
    numbers = range(options.each) if options.only is None else [options.only]
    rows = []
    for reader in chosen:
        rows.append(examine(reader, numbers))
        print(f"{reader.name}: {dict(rows[-1].counts)}", file=sys.stderr, flush=True)
        print("\n".join(rows[-1].examples), file=sys.stderr, flush=True) if rows[-1].examples else None
    print(table(rows).to_markdown(index=False))
    return int(any(row.bad for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
