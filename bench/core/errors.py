"""The two ways to fail. The command line turns them into one line and an exit code."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UsageError(Exception):
    """What was asked for cannot be done as asked: unknown name, value out of range (exit code 2)."""


class RunError(Exception):
    """What was asked for is fine, but it failed: disk, damaged file, NaN (exit code 1)."""


class Busy(RunError):
    """Another process is at work on the same thing."""


class AccessError(RunError):
    """Code tried to read data that its place in the protocol does not allow, e.g. target labels during adaptation."""


class BadFile(RunError):
    """One file of a data set cannot be used. ``path`` says which, ``kind`` in a word why (for counting), ``problem`` in a sentence.

    Exceptions travel between processes as their arguments, so the line is put together when it is shown.
    """

    def __init__(self, path: object, kind: str = "unreadable", problem: str = "") -> None:
        super().__init__(str(path), kind, problem)
        self.path, self.kind, self.problem = str(path), kind, problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}" if self.problem else self.path


def short(error: object, most: int = 300) -> str:
    """What an error says, or its name where it says nothing, in one line of at most so many characters, all of which can be
    printed; of another value its text, which may be empty."""
    text = " ".join(str(error)[: 4 * most].split()) or (type(error).__name__ if isinstance(error, Exception) else "")
    text = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


def unknown(kind: str, name: str, available: Iterable[str], context: str = "") -> UsageError:
    """Error for an unknown name, with the nearest known one, ``context`` after the name:
    ``Unknown method 'tsp'. Did you mean 'tps'? Available: ...``."""
    names = sorted(available)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    return UsageError(f"Unknown {kind} '{short(name, 200)}'{context}.{hint} Available: {', '.join(names)}")
