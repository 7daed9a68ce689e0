"""Generated pages and their figures: written whole, and fresh or stale.

A page is the same bytes on every machine. The bytes of a figure depend on the versions of matplotlib and freetype. What can be
compared is the data: its hash stands in the figure's file (``Description`` of a PNG or SVG), and a figure is stale when its data
has another hash, when it is missing, or when it is not whole. A change of the drawing code alone is not seen; delete the file, and
``bench leaderboard`` draws it again.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.errors import UsageError
from bench.core.files import real, write_atomically
from bench.core.schema import hash_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DIGITS = 6
"""Decimals of a number that count for the hash: what a processor's order of sums changes does not."""


@dataclass(frozen=True)
class Drawing:
    """A figure of a page.

    Attributes:
        caption: what it shows, under the figure.
        path: the file that the page shows, PNG or SVG.
        data: what is drawn, as JSON.
        draw: makes the figure.
        copies: the same figure in other formats.
    """

    caption: str
    path: Path
    data: Any
    draw: Callable[[], Figure]
    copies: tuple[Path, ...] = field(default=())

    @property
    def paths(self) -> tuple[Path, ...]:
        """All files."""
        return (self.path, *self.copies)

    @property
    def note(self) -> str:
        """The text that is put into the files' ``Description``: the hash of the data."""
        return f"data {hash_of(rounded(self.data))}"

    def stale(self) -> list[Path]:
        """Files that are missing, not whole, or drawn from other data."""
        from bench.pictures.canvas import note_of

        return [path for path in self.paths if note_of(path) != self.note]

    def write(self) -> list[Path]:
        """Draw the stale files; returns those written.

        Raises:
            RunError: the disk is full or read-only.
        """
        from bench.pictures.canvas import save

        stale = self.stale()
        if not stale:
            return []
        for path in stale:
            check_own(path, path.is_file() and OWN_NOTE.search(path.read_bytes()[:NOTED]) is not None)
        figure = self.draw()
        for path in stale:
            save(figure, real(path), note=self.note)
        return stale


MADE = "Made by `bench "
"""What every generated page says of itself; a note of the user's under the same title does not."""
OWN_NOTE = re.compile(rb"escription(\0|>)data [0-9a-f]{12}")
"""What every figure of a page starts with, be it whole or not."""
NOTED = 1 << 16
"""Bytes of a figure's file in which that stands."""


def check_own(path: Path, generated: bool) -> None:
    """Refuse to write over a file that was not generated.

    Args:
        path: file that is about to be written.
        generated: whether what is there now was written by bench.

    Raises:
        UsageError: the file exists and is not ``generated``.
    """
    if path.exists() and not generated:
        raise UsageError(f"{path} was not written by bench; move it away, or choose another --root")


@dataclass(frozen=True)
class Page:
    """A page as it has to be, and its figures."""

    path: Path
    text: str
    drawings: tuple[Drawing, ...] = ()

    @property
    def files(self) -> list[Path]:
        """The page and its figures."""
        return [self.path, *(path for drawing in self.drawings for path in drawing.paths)]

    def is_own(self) -> bool:
        """Whether the file at the path is an earlier version of this page."""
        title = self.text.partition("\n")[0]
        kind, colon, _ = title.partition(": ")
        return self.path.is_file() and is_generated(self.path, (kind + colon,) if colon else (title,))

    def _is_stale(self) -> bool:
        return not self.path.is_file() or self.path.read_bytes() != self.text.encode()

    def stale(self) -> list[Path]:
        """The page, if it is missing or another text, and its stale figures."""
        return [self.path] * self._is_stale() + [path for drawing in self.drawings for path in drawing.stale()]

    def write(self) -> list[Path]:
        """Write what is stale; returns the figures and pages written.

        Raises:
            RunError: the disk is full or read-only.
        """
        check_own(self.path, self.is_own())
        written = [path for drawing in self.drawings for path in drawing.write()]
        if self._is_stale():
            write_atomically(real(self.path), self.text)
            written.append(self.path)
        return written


@dataclass(frozen=True)
class Pages:
    """Generated pages of a kind.

    Attributes:
        expected: those that have to be there.
        orphans: generated pages on disk whose shift, study or analysis has no records any more.
    """

    expected: Sequence[Page]
    orphans: Sequence[Path]

    def __bool__(self) -> bool:
        """Whether there is any page, expected or left over."""
        return bool(self.expected or self.orphans)

    def stale(self) -> list[Path]:
        """Pages and figures that are missing or stale, and the orphans. Writes nothing."""
        return [*(path for page in self.expected for path in page.stale()), *self.orphans]

    def write(self) -> list[Path]:
        """Write what is stale and remove the orphans; returns the figures and pages written.

        Raises:
            RunError: the disk is full or read-only.
        """
        for path in self.orphans:
            path.unlink()
        return [path for page in self.expected for path in page.write()]


def is_generated(path: Path, heads: tuple[str, ...]) -> bool:
    """Whether a file is a page that bench wrote: it starts with one of ``heads``, and says who made it."""
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.startswith(heads) and MADE in text


def orphans(candidates: Iterable[Path], heads: tuple[str, ...], expected: Sequence[Page]) -> list[Path]:
    """Candidates that are there, generated under one of ``heads``, and not among the expected pages."""
    expected_paths = {page.path for page in expected}
    files = (path for path in dict.fromkeys(candidates) if path not in expected_paths and path.is_file())
    return [path for path in files if is_generated(path, heads)]


def rounded(value: Any) -> Any:
    """The same JSON with its numbers rounded to :data:`DIGITS` decimals; keys become text, tuples lists."""
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0  # no -0.0
    if isinstance(value, dict):
        return {str(key): rounded(child) for key, child in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(child) for child in value]
    return value
