"""What a reader is, and files to damage."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image

from bench.core.errors import RunError, UsageError
from tests.faults import mutations as m

TINY = "ministreet-tiny"
TYPED = (RunError, UsageError)
LEADERBOARDS = Path(__file__).resolve().parents[3] / "leaderboards"
RNG = np.random.default_rng(0)
RGB = cv2.GaussianBlur(RNG.integers(0, 255, (24, 32, 3)).astype(np.uint8), (5, 5), 0)
LABEL = RNG.integers(0, 12, (24, 32)).astype(np.uint8)
FLOW = RNG.normal(0, 3, (2, 12, 16)).astype(np.float32)


class Again(RunError):
    """A damaged cache was found: it is made again."""


@dataclass(frozen=True)
class Reader:
    """A kind of file.

    Attributes:
        make: writes a valid one (and what belongs to it) into a folder; returns its path.
        read: its value, of plain data, arrays and tensors.
        mutate: how it is damaged.
        checksum: whether every byte that matters is covered by one, so that another value must never be read.
        loses: whether what is damaged may be left out of the value.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    mutate: m.Mutate
    checksum: bool
    loses: bool = False


def text(name: str, content: str) -> Callable[[Path], Path]:
    """Makes a file of a text."""
    return data(name, content.encode())


def data(name: str, content: bytes) -> Callable[[Path], Path]:
    """Makes a file of bytes."""

    def make(folder: Path) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def picture(name: str, pixels: Any, **options: Any) -> Callable[[Path], Path]:
    """Makes a picture."""

    def make(folder: Path) -> Path:
        Image.fromarray(pixels).save(folder / name, **options)
        return folder / name

    return make


def committed(*parts: str) -> bytes:
    return sorted(LEADERBOARDS.joinpath(*parts[:-1]).glob(parts[-1]))[0].read_bytes()
