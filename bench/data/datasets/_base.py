"""What all data sets share: items, listing folders, and the readers of ``bench.data.reading``.

Sizes are ``(height, width)``; paths of items are POSIX and relative to the data set's root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from bench.core.errors import RunError, UsageError

from ..reading import (
    Colour,
    Ids,
    Size,
    UInt8,
    colour_picture,
    id_picture,
    label_ids,
    lookup,
    nearest,
    resized_rgb,
    to_train,
)

__all__ = [
    "Colour", "Dataset", "Ids", "Item", "Size", "UInt8", "check_split", "colour_picture", "files_under", "id_picture",
    "in_order", "label_ids", "locate", "lookup", "matches", "natural", "nearest", "resized_rgb", "to_train",
]  # fmt: skip


@dataclass(frozen=True)
class Item:
    """One clip of a data set, by file names.

    Attributes:
        key: unique and stable in its data set, ``frankfurt_000000_000294``; fit for a file name.
        sequence: the video it belongs to, ``frankfurt_000000``.
        frames: oldest first; the last one is frame t, which the label belongs to.
        label: None where the data set has none.
        previous_labels: of the frames before t, oldest first; empty where the data set does not label them.
    """

    key: str
    sequence: str
    frames: tuple[str, ...]
    label: str | None
    previous_labels: tuple[str, ...] = ()


class Dataset(Protocol):
    """What a file of this folder exports as ``DATASET``.

    Attributes:
        folder: usual name of its folder under the data root.
        size: published size of its frames, or None where frames may have any size.
        counts: published number of clips per split.
        splits: all splits that may be there.
        names: raw label id to the data set's own name of the class.
        raw_size: size of the files that become ``size``; the same unless frames are cut.
    """

    @property
    def name(self) -> str: ...
    @property
    def folder(self) -> str: ...
    @property
    def size(self) -> Size | None: ...
    @property
    def raw_size(self) -> Size | None: ...
    @property
    def counts(self) -> Mapping[str, int]: ...
    @property
    def splits(self) -> tuple[str, ...]: ...
    @property
    def names(self) -> Mapping[int, str]: ...

    def items(self, root: Path, split: str, frames: int = 2) -> list[Item]:
        """Clips of a split, derived from the names on the disk, in natural order; no file is opened."""

    def read_frame(self, file: Path, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """RGB ``(3, H, W)``, resized to ``size``; the file itself must have the size ``expect`` if that is given."""

    def read_label(self, file: Path, ids: Ids, size: Size | None = None, expect: Size | None = None) -> UInt8:
        """Train ids ``(H, W)``, nearest neighbour; ``ids`` leads from raw ids to train ids, 255 for what it lacks."""

    def look(self, file: Path, label: bool) -> Size:
        """Decode a whole file as ``read_frame`` or ``read_label`` would, and say its own size."""

    def guards(self) -> Mapping[str, str]:
        """Folder relative to the root to the grant that reading it takes: ``train``, ``train/label``, ``val``, ``val/label``."""

    def belongs(self, path: str) -> bool:
        """Whether the layout has a place for a file of this name; what does not belong is reported as stray."""


# Folders --------------------------------------------------------------------------------------------------------------


def natural(text: str) -> list[Any]:
    """Sort key in which ``img2`` comes before ``img10``; ties are settled by the text itself.

    >>> sorted(["img10.png", "img2.png", "img1.png"], key=natural)
    ['img1.png', 'img2.png', 'img10.png']
    """
    parts = re.split(r"([0-9]+)", text)
    return [*((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts if p), (2, 0, text)]


def files_under(root: Path, folder: str = "") -> tuple[list[str], list[str]]:
    """All files below ``root/folder``, relative to ``root``, and all folders in which there is nothing. Hidden ones are
    left out; a missing folder has none.

    Raises:
        RunError: a folder cannot be read, or a link leads back to a folder that it lies in.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise RunError(f"Cannot read folder {error.filename}: {error.strerror}")

    files, empty = [], []
    for parent, folders, names in os.walk(root / folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in folders):
            if path.is_symlink() and any(above.resolve().is_relative_to(path.resolve()) for above in path.parents):
                raise RunError(f"{path} is a link to a folder that it lies in: it would have no end; remove it")
        visible = [name for name in names if not name.startswith(".")]
        relative = os.path.relpath(parent, root).replace(os.sep, "/")
        files += [name if relative == "." else f"{relative}/{name}" for name in visible]
        if not folders and not visible:
            empty.append(relative)
    return files, empty


def matches(root: Path, folder: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """Files below a folder whose whole relative path is of a form."""
    return [match for path in files_under(root, folder)[0] if (match := pattern.fullmatch(path))]


def locate(dataset: Dataset, root: Path) -> Path:
    """The data set's own root: its usual folder under the data root if that is there, else ``root`` itself."""
    usual = root / dataset.folder if dataset.folder else root
    return usual if usual.is_dir() else root


def check_split(name: str, split: str, splits: Sequence[str], frames: int) -> None:
    """Refuse a split that the data set does not have, and clips of fewer than two frames."""
    if split not in splits:
        raise UsageError(f"Data set '{name}' has no split '{split}'. Available: {', '.join(splits)}")
    if frames < 2:
        raise UsageError(f"A clip has at least 2 frames, got {frames}")


def in_order(items: Iterable[Item], name: str, root: Path, example: str) -> list[Item]:
    """Items in natural order of their keys.

    Raises:
        RunError: there are none; says what was looked for.
    """
    ordered = sorted(items, key=lambda item: natural(item.key))
    if not ordered:
        raise RunError(f"No frames of '{name}' under {root}; expected files like {example}")
    return ordered
