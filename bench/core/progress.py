"""What a person sees while a run works: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, TextIO, cast

if TYPE_CHECKING:
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

Progress = Callable[[str, int, int], None]
"""Called as ``progress(what, done, total)``."""


def quiet(what: str, done: int, total: int) -> None:
    """Progress that is not shown."""


class Aside(io.TextIOBase):
    """A stream for remarks: no run is worth less because its terminal is gone or its log's disk is full, so what cannot be written
    is dropped.

    Args:
        stream: where they go; None, as Python has it for a closed standard error, drops all of them.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # While bars are shown, sys.stderr prints through the console that is to write here.
        self.stream: TextIO | None = getattr(stream, "rich_proxied_file", stream)

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return getattr(self.stream, "encoding", None) or "utf-8"

    def isatty(self) -> bool:
        """Whether a person is looking."""
        return self.stream is not None and self.stream.isatty()

    def write(self, text: str) -> int:
        """Write and flush, or drop."""
        if self.stream is not None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: closed since
                self.stream.write(text)
                self.stream.flush()
        return len(text)


def remarks() -> TextIO:
    """Standard error as it is now, for what may be dropped."""
    return cast("TextIO", Aside(sys.stderr))


def aside(text: str) -> None:
    """A remark on standard error."""
    remarks().write(text)


def say(text: str) -> None:
    """One line for the person at the terminal, on standard error."""
    aside(f"bench: {text}\n")


def any_character() -> None:
    """Let standard output and error take every character: what their encoding lacks is shown as ``\\u2192``, and stops nothing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


PLAIN_EVERY = 10.0
"""Seconds between two plain lines of one step where there is no terminal."""


class ProgressDisplay:
    """Progress of long steps on standard error; call it as ``display(what, done, total)``."""

    def __init__(self) -> None:
        from rich.console import Console  # nothing that a run imports need wait for rich

        self.console = Console(file=remarks())
        self.bars: Bars | None = None
        self.tasks: dict[str, TaskID] = {}
        self.began: dict[str, float] = {}
        self.said: dict[str, float] = {}
        self.last: dict[str, int] = {}

    def __enter__(self) -> ProgressDisplay:
        if self.console.is_terminal:
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bars

            rate = TextColumn("{task.fields[rate]}")
            columns = (TextColumn("{task.description:<18}"), BarColumn(), MofNCompleteColumn(), rate)
            self.bars = Bars(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=self.console)
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars:
            self.bars.stop()

    def __call__(self, what: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if done <= self.last.get(what, 0):  # the same step of the next run
            self.began.pop(what)
            self.said.pop(what, None)
        self.last[what] = done
        began = self.began.setdefault(what, now)
        # The first report comes when the first item is done, so the rate counts from there.
        rate = (done - 1) / (now - began) if done > 1 and now > began else 0.0
        if self.bars:
            if what not in self.tasks:
                self.tasks[what] = self.bars.add_task(what, total=total, rate="")
            self.bars.update(self.tasks[what], completed=done, rate=f"{rate:5.1f}/s")
        elif done == total or now - self.said.get(what, began) >= PLAIN_EVERY:
            self.said[what] = now
            remaining = f", {(total - done) / rate:.0f} s left" if rate and done < total else ""
            pace = f" ({rate:.1f}/s{remaining})" if rate else ""
            aside(f"{what}: {done}/{total}{pace}\n")
