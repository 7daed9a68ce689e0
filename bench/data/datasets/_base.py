"""What all data sets share: items, reading a picture so that every failure is one line with the path, listing folders.

Files are opened by Python's ``open`` and decoded from memory, so that the audit hook of ``bench.core.access`` sees each of
them. Sizes are ``(height, width)``; paths of items are POSIX and relative to the data set's root.
"""

from __future__ import annotations

import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from bench.core.errors import BadFile, RunError, UsageError

UInt8 = npt.NDArray[np.uint8]
Size = tuple[int, int]
Ids = Mapping[int, int] | npt.NDArray[np.uint8]
IGNORE = 255


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

    name: str
    folder: str
    size: Size | None
    raw_size: Size | None
    counts: Mapping[str, int]
    splits: tuple[str, ...]
    names: Mapping[int, str]

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


# Reading --------------------------------------------------------------------------------------------------------------


def read_bytes(file: Path) -> bytes:
    """The file's bytes.

    Raises:
        BadFile: missing, empty, or the system refuses.
    """
    try:
        with open(file, "rb") as opened:
            data = opened.read()
    except FileNotFoundError:
        raise BadFile(file, "missing", "no such file") from None
    except OSError as error:
        raise BadFile(file, "unreadable", f"cannot be read: {error.strerror or error}") from None
    if not data:
        raise BadFile(file, "truncated", "is empty")
    return data


def open_picture(file: Path, data: bytes, expect: Size | None = None) -> Image.Image:
    """Header of a PNG or JPEG that was read; its pixels come with ``load``.

    Raises:
        BadFile: not such a picture, or its size is not ``expect``.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except UnidentifiedImageError:
        raise BadFile(file, "not an image", "is not a PNG or JPEG picture") from None
    except Exception as error:  # decoders raise whatever comes up in a damaged header
        raise damaged(file, error) from None
    size = (picture.height, picture.width)
    if expect is not None and size != expect:
        raise BadFile(file, "wrong size", f"is {shown(size)} pixels, expected {shown(expect)}")
    return picture


def load(file: Path, picture: Image.Image) -> Image.Image:
    """Decode all pixels.

    Raises:
        BadFile: truncated or damaged.
    """
    try:
        picture.load()
    except Exception as error:
        raise damaged(file, error) from None
    return picture


def damaged(file: Path, error: Exception) -> BadFile:
    """The error of a decoder as one line."""
    what = " ".join(str(error).split()) or type(error).__name__
    kind = "truncated" if "truncated" in what.lower() else "damaged"
    return BadFile(file, kind, f"is {kind}, decoding says: {what:.120}")


def colour_picture(file: Path, expect: Size | None = None) -> Image.Image:
    """A whole picture as 8-bit RGB."""
    picture = load(file, open_picture(file, read_bytes(file), expect))
    if picture.mode[0] in "IF":  # Pillow would clip them to 8 bits in silence
        raise BadFile(
            file, "wrong mode", f"has more than 8 bits per channel (mode {picture.mode}); save it as 8-bit RGB"
        )
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def resized_rgb(picture: Image.Image, size: Size | None) -> UInt8:
    """``(3, H, W)``, resized bicubically (Pillow's, as published) where the size differs."""
    if size is not None and (picture.height, picture.width) != size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.stack([np.asarray(channel) for channel in picture.split()])


def id_picture(file: Path, expect: Size | None = None) -> Image.Image:
    """A whole label picture with one id per pixel (grey or with a palette, 8 bits)."""
    picture = load(file, open_picture(file, read_bytes(file), expect))
    if picture.mode not in ("L", "P"):
        raise BadFile(file, "wrong mode", f"is no picture of label ids: 8-bit grey is expected, mode is {picture.mode}")
    return picture


def nearest(picture: Image.Image, size: Size | None) -> npt.NDArray[Any]:
    """Pixels of a picture, resized by nearest neighbour (Pillow's, as published) where the size differs."""
    if size is not None and (picture.height, picture.width) != size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(picture)


def lookup(ids: Ids) -> UInt8:
    """``ids`` as a table of 256 train ids."""
    if isinstance(ids, np.ndarray):
        if ids.shape != (256,) or ids.dtype != np.uint8:
            raise ValueError(f"a lookup table of ids is uint8 (256,), got {ids.dtype} {ids.shape}")
        return ids
    table = np.full(256, IGNORE, np.uint8)
    for raw, train in ids.items():
        if 0 <= raw < 256:  # Cityscapes has an id -1, which no file holds
            table[raw] = train
    return table


def to_train(raw: UInt8, ids: Ids) -> UInt8:
    """Raw ids to train ids."""
    import cv2

    return np.asarray(cv2.LUT(np.ascontiguousarray(raw), lookup(ids)), np.uint8)


def picture_size(file: Path) -> Size:
    """Size of a picture by its header."""
    picture = open_picture(file, read_bytes(file))
    return picture.height, picture.width


def shown(size: Size) -> str:
    """``1920x1080``, as people write sizes."""
    return f"{size[1]}x{size[0]}"


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
        RunError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise RunError(f"Cannot read folder {error.filename}: {error.strerror}")

    files, empty = [], []
    for where, folders, names in os.walk(root / folder, onerror=refuse, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        visible = [name for name in names if not name.startswith(".")]
        relative = os.path.relpath(where, root).replace(os.sep, "/")
        files += [name if relative == "." else f"{relative}/{name}" for name in visible]
        if not folders and not visible:
            empty.append(relative)
    return files, empty


def matches(root: Path, folder: str, pattern: re.Pattern[str]) -> list[re.Match[str]]:
    """Files below a folder whose whole relative path is of a form."""
    return [found for path in files_under(root, folder)[0] if (found := pattern.fullmatch(path))]


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


def native_size(root: Path, items: Sequence[Item], read: Callable[[Path], Size] = picture_size) -> Size | None:
    """The size that most of nine items spread over the split have; None if none of them can be read."""
    found: Counter[Size] = Counter()
    for item in items[:: max(1, len(items) // 9)][:9]:
        try:
            found[read(root / item.frames[-1])] += 1
        except BadFile:  # reported where it is used
            continue
    return found.most_common(1)[0][0] if found else None
