"""Predictions as files: label ids as the official Cityscapes evaluator reads them, colour overlays, GIF and mp4.

Every file is written whole or not at all. Pictures are RGB uint8 ``(H, W, 3)``, label maps are train ids, uint8 ``(H, W)``, 255 =
ignored.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures

from .data.labels import IGNORE
from .data.store import disk_errors
from .errors import RunError

Image = npt.NDArray[np.uint8]
OVERLAY = 0.55
"""Share of the class colour in an overlay."""


@contextlib.contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A scratch file beside ``path`` that takes its place when the block ends well.

    Raises:
        RunError: the disk is full or read-only; nothing half-written stays.
    """
    scratch = path.with_name(f".{os.getpid()}.{path.name}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)


def write_png(path: Path, pixels: Image) -> Path:
    """Grey ``(H, W)`` or RGB ``(H, W, 3)`` as PNG."""
    buffer = io.BytesIO()
    Pictures.fromarray(pixels).save(buffer, "PNG")
    with whole(path) as scratch:
        scratch.write_bytes(buffer.getvalue())
    return path


def write_labels(folder: Path, key: str, labels: Image, label_ids: Sequence[int]) -> Path:
    """One picture of label ids, named as the official evaluator looks for it: ``<city>_<sequence>_<frame>*.png``.

    Args:
        folder: what ``CITYSCAPES_RESULTS`` will name. Nothing else whose name starts like this may lie in it.
        key: of the clip, ``frankfurt_000000_000294``.
        label_ids: Cityscapes label id by train id (``LabelSpace.label_ids``).

    Raises:
        ValueError: a train id without a label id.
        RunError: the disk is full or read-only.
    """
    table = np.zeros(256, np.uint8)  # what is ignored is "unlabeled", 0
    table[: len(label_ids)] = label_ids
    known = labels[labels != IGNORE]
    if known.size and int(known.max()) >= len(label_ids):
        raise ValueError(f"{key}: train id {int(known.max())} has no label id; there are {len(label_ids)}")
    return write_png(folder / f"{key}_pred_labelIds.png", table[labels])


def colours(labels: Image, palette: Sequence[tuple[int, int, int]]) -> Image:
    """Label map in class colours, RGB ``(H, W, 3)``; what is ignored is black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    return table[labels]


def overlay(frame: Image, labels: Image, palette: Sequence[tuple[int, int, int]]) -> Image:
    """The picture under its classes' colours; the picture is brought to the size of the labels."""
    height, width = labels.shape
    if frame.shape[:2] != (height, width):
        frame = np.asarray(cv2.resize(frame, (width, height), interpolation=cv2.INTER_LINEAR), np.uint8)
    mixed = OVERLAY * colours(labels, palette).astype(np.float32) + (1 - OVERLAY) * frame
    shown = np.where((labels == IGNORE)[..., None], frame, mixed)
    return np.asarray(np.round(shown), np.uint8)


def write_gif(path: Path, pictures: Sequence[Image], rate: float) -> Path:
    """An endless GIF of pictures of one size.

    Args:
        rate: pictures per second; the format counts in hundredths of a second.

    Raises:
        ValueError: no pictures.
        RunError: the disk is full or read-only.
    """
    if not len(pictures):
        raise ValueError("write_gif needs at least one picture, got none")
    # One palette for all, made from all: otherwise colours flicker that do not.
    strip = Pictures.fromarray(np.concatenate([picture[::2, ::2] for picture in pictures]))
    shared = strip.quantize(256, dither=Pictures.Dither.NONE)
    frames = [Pictures.fromarray(picture).quantize(palette=shared, dither=Pictures.Dither.NONE) for picture in pictures]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=round(1000 / rate), loop=0)
    with whole(path) as scratch:
        scratch.write_bytes(buffer.getvalue())
    return path


class Mp4:
    """An mp4 that grows picture by picture, for films that do not fit in memory.

    Args:
        path: of the film; it is there when :meth:`close` returns.
        rate: pictures per second.

    Raises:
        RunError: no encoder, or the disk is full or read-only.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        # The encoder goes by the ending of the name.
        self._scratch = path.with_name(f".{os.getpid()}.{path.name}")
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)

    def add(self, picture: Image) -> None:
        """One more picture; odd sides are padded by their last row or column."""
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._writer is None:
            with disk_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._size = (even.shape[1], even.shape[0])
            fourcc = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]
            self._writer = cv2.VideoWriter(str(self._scratch), fourcc, self.rate, self._size)
            if not self._writer.isOpened():
                raise RunError(f"Cannot write {self.path}: OpenCV has no mp4 encoder here; use --video gif")
        if (even.shape[1], even.shape[0]) != self._size:
            raise RunError(f"{self.path}: pictures of different sizes in one film")
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))

    def close(self, keep: bool = True) -> None:
        """Finish the film, or throw it away."""
        if self._writer is not None:
            self._writer.release()
            with disk_errors(self.path):
                if keep:
                    os.replace(self._scratch, self.path)
                self._scratch.unlink(missing_ok=True)


class Gif:
    """The interface of :class:`Mp4` for a GIF; pictures are reduced to 480 pixels in width and held in memory."""

    WIDTH = 480

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._pictures: list[Image] = []

    def add(self, picture: Image) -> None:
        """One more picture."""
        height, width = picture.shape[:2]
        if width > self.WIDTH:
            size = (self.WIDTH, max(1, round(height * self.WIDTH / width)))
            picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
        self._pictures.append(picture)

    def close(self, keep: bool = True) -> None:
        """Write the file, or nothing."""
        if keep and self._pictures:
            write_gif(self.path, self._pictures, self.rate)


FILMS: dict[str, Callable[[Path, float], Mp4 | Gif]] = {"mp4": Mp4, "gif": Gif}
