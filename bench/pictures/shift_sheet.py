"""A contact sheet of a shift of recorded pictures: some clips of each split, labels over the pictures where there are any."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from bench.core.workspace import Workspace
from bench.data.labels import CLASSES, PALETTE
from bench.data.recorded import VideoStore
from bench.data.splits import Store, prepare
from bench.shifts.protocol import Shift, Videos
from bench.shifts.sides import SPLITS, ModelFile, Pictures

from .canvas import Colour, Image
from .media import overlay
from .tiles import tiled

COLUMNS = 4
"""Clips of a split, evenly spread."""
WIDEST = 320
"""Pixels of a tile."""


def colours_of(classes: Sequence[str]) -> list[Colour]:
    """A colour for each class: that of the benchmark's own classes where it is one."""
    benchmark_colours = dict(zip(CLASSES, PALETTE, strict=True))
    return [benchmark_colours.get(name, PALETTE[k % len(PALETTE)]) for k, name in enumerate(classes)]


def splits_of(shift: Shift) -> list[tuple[str, str]]:
    """Pairs of side (``source``, ``target``) and split that have clips."""
    assert isinstance(shift.data, Videos)
    splits = []
    for role in ("source", "target"):
        side = getattr(shift.data, role)
        if isinstance(side, Pictures):
            splits += [(role, split) for split in SPLITS if split in side.parts]
        elif not isinstance(side, ModelFile):
            splits += [(role, split) for split in (("train",) if role == "source" else ("train", "val"))]
    return splits


def sheet(shift: Shift, workspace: Workspace) -> npt.NDArray[np.uint8]:
    """The contact sheet of a shift, RGB uint8 ``(H, W, 3)``.

    Raises:
        RunError: pictures that are not there or cannot be read.
    """
    assert isinstance(shift.data, Videos)
    scale = min(1.0, WIDEST / shift.data.target.width)
    size = round(shift.data.target.width * scale), round(shift.data.target.height * scale)
    rows = []
    legend: dict[str, Colour] = {}
    for role, split in splits_of(shift):
        store = prepare(shift, role, split, 0, workspace).open()
        classes = shift.label_classes(role)
        palette = colours_of(classes)
        numbers = sorted({round(k * (len(store) - 1) / max(1, COLUMNS - 1)) for k in range(COLUMNS)})
        rows.append([(f"{role} {split}: {store.key(n)}", _tile(store, n, palette, size)) for n in numbers])
        legend |= dict(zip(classes, palette, strict=True))
    widest = max(map(len, rows))
    blank = np.full((size[1], size[0], 3), 255, np.uint8)
    padded = [row + [("", blank)] * (widest - len(row)) for row in rows]
    return tiled(
        padded,
        shift.title,
        ["Labels lie over the pictures where there are any; what is ignored is left as it is."],
        legend,
    )


def _tile(store: Store, number: int, palette: Sequence[Colour], size: tuple[int, int]) -> Image:
    picture = np.ascontiguousarray(store[number].frames[-1].transpose(1, 2, 0))
    if isinstance(store, VideoStore) and store.has_label(number):
        picture = overlay(picture, store.label(number), palette)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
