"""Predictions as files: label ids as the official Cityscapes evaluator reads them, palette PNGs, overlays, GIF and mp4.

Every file is written whole or not at all. Pictures are RGB uint8 ``(H, W, 3)``, label maps are train ids, uint8 ``(H, W)``, 255 =
ignored.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image as Pictures

from bench.core.errors import RunError, UsageError
from bench.core.files import whole, write_atomically
from bench.data.labels import IGNORE

Image = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]
OVERLAY = 0.55
"""Share of the class colour in an overlay."""
RATES = (0.1, 60.0)
"""Pictures per second of a film, at least and at most."""
GIF_COLOURS = 255
"""Of a GIF's palette; the 256th is left to the encoder for pixels that stay as they are."""


def write_png(path: Path, pixels: Image) -> Path:
    """Grey ``(H, W)`` or RGB ``(H, W, 3)`` as PNG."""
    buffer = io.BytesIO()
    Pictures.fromarray(pixels).save(buffer, "PNG")
    write_atomically(path, buffer.getvalue())
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
    labelled = labels[labels != IGNORE]
    if labelled.size and int(labelled.max()) >= len(label_ids):
        raise ValueError(f"{key}: train id {int(labelled.max())} has no label id; there are {len(label_ids)}")
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


def write_palette_png(path: Path, labels: Image, palette: Sequence[Colour]) -> Path:
    """Train ids as they are with the palette beside them: viewers show colours (255 is black), readers get ids."""
    picture = Pictures.fromarray(np.ascontiguousarray(labels, np.uint8))
    picture.putpalette(_padded(palette))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    write_atomically(path, buffer.getvalue())
    return path


def _padded(palette: Sequence[Colour] | Image) -> bytes:
    """256 colours as Pillow wants them, black where there is none."""
    return np.asarray(palette, np.uint8).tobytes().ljust(768, b"\0")


# Films ----------------------------------------------------------------------------------------------------------------


def write_gif(path: Path, pictures: Sequence[Image], rate: float, exact: Sequence[Colour] = ()) -> Path:
    """An endless GIF of pictures of one size, under one palette: with several, colours would flicker that do not.

    Args:
        rate: pictures per second; the format counts in hundredths of a second.
        exact: colours that are kept as they are, such as those of classes; all others become the nearest of the palette.

    Raises:
        ValueError: no pictures, pictures of several sizes, or more exact colours than a palette has.
        RunError: the disk is full or read-only.
    """
    if not len(pictures):
        raise ValueError("write_gif needs at least one picture, got none")
    if len(sizes := {picture.shape for picture in pictures}) > 1:
        raise ValueError(f"write_gif needs pictures of one size, got {sorted(sizes)}")
    palette = _palette(pictures, exact)
    frames = []
    for picture in pictures:
        frames.append(Pictures.fromarray(_nearest(picture, palette)))
        frames[-1].putpalette(_padded(palette))
    buffer = io.BytesIO()
    duration = max(10, 10 * round(100 / rate))
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=duration, loop=0, optimize=False)
    write_atomically(path, buffer.getvalue())
    return path


def _palette(pictures: Sequence[Image], exact: Sequence[Colour]) -> Image:
    """The exact colours, then those that serve the rest of (up to 16) pictures best: uint8 ``(<= 255, 3)``."""
    kept = np.array(sorted(set(exact)), np.uint8).reshape(-1, 3)
    if len(kept) >= GIF_COLOURS:
        raise ValueError(f"a GIF has {GIF_COLOURS} colours; {len(kept)} exact ones leave none for the rest")
    chosen = np.unique(np.linspace(0, len(pictures) - 1, 16).round().astype(int))
    pixels = np.concatenate([pictures[i][::2, ::2].reshape(-1, 3) for i in chosen])
    rest = pixels[~np.isin(_codes(pixels), _codes(kept))]
    if not len(rest):
        return kept
    reduced = Pictures.fromarray(rest[None]).quantize(GIF_COLOURS - len(kept), Pictures.Quantize.MEDIANCUT)
    reduced_palette = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)[: int(np.asarray(reduced).max()) + 1]
    return np.concatenate([kept, reduced_palette])


def _codes(pixels: Image) -> npt.NDArray[np.int64]:
    """One number per colour, ``(..., 3)`` to ``(...)``."""
    return np.asarray(pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]), np.int64)


def _nearest(picture: Image, palette: Image) -> Image:
    """Index of the nearest colour of the palette for each pixel, ``(H, W)``. Pillow's own search is not exact."""
    from scipy.spatial import cKDTree

    codes, inverse = np.unique(_codes(picture), return_inverse=True)
    colours = np.stack([codes >> 16, (codes >> 8) & 255, codes & 255], axis=1)
    index = cKDTree(palette.astype(np.float64)).query(colours)[1].astype(np.uint8)
    return np.asarray(index[inverse].reshape(picture.shape[:2]))


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
        self._whole = contextlib.ExitStack()
        self._scratch = path
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._added = 0

    def add(self, picture: Image) -> None:
        """One more picture; odd sides are padded by their last row or column."""
        height, width = picture.shape[:2]
        even = np.pad(picture, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
        if self._writer is None:
            self._scratch = self._whole.enter_context(whole(self.path, self.path.suffix))
            self._size = (even.shape[1], even.shape[0])
            fourcc = cv2.VideoWriter_fourcc(*"mp4v")  # type: ignore[attr-defined]
            self._writer = cv2.VideoWriter(str(self._scratch), fourcc, self.rate, self._size)
            if not self._writer.isOpened():
                raise RunError(f"Cannot write {self.path}: OpenCV has no mp4 encoder here; use --video gif")
        if (even.shape[1], even.shape[0]) != self._size:
            raise RunError(f"{self.path}: pictures of different sizes in one film")
        self._writer.write(cv2.cvtColor(even, cv2.COLOR_RGB2BGR))
        self._added += 1

    def close(self, keep: bool = True) -> None:
        """Finish the film, or throw it away. OpenCV says nothing of a full disk, so the film is read back first.

        Raises:
            RunError: not all pictures can be read back, or the disk is read-only.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        with contextlib.suppress(_ThrownAway), self._whole:
            if not keep:
                raise _ThrownAway
            if (count := readable(self._scratch)) != self._added:
                raise RunError(f"Cannot write {self.path}: {count} of {self._added} pictures can be read back")


class _ThrownAway(Exception):
    """Ends a film that is not kept."""


def readable(film: Path) -> int:
    """How many pictures of a film can be decoded."""
    reader, count = cv2.VideoCapture(str(film)), 0
    while reader.grab():
        count += 1
    reader.release()
    return count


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


def check_rate(rate: float) -> None:
    """Refuse a rate that encoders or players do not take, before time is spent on a film.

    Raises:
        UsageError: it is not in :data:`RATES`, or no number.
    """
    if not RATES[0] <= rate <= RATES[1]:
        raise UsageError(f"--rate is {RATES[0]:g} to {RATES[1]:g} pictures per second, got {rate:g}")


def check_film(path: Path, also: Sequence[str] = ()) -> None:
    """Refuse a path that is no film before time is spent on it.

    Raises:
        UsageError: another ending than .gif, .mp4 and those in ``also``.
    """
    endings = [*(f".{name}" for name in FILMS), *also]
    if path.suffix.lower() not in endings:
        raise UsageError(f"Cannot tell a film's format by the ending of '{path}'; use one of {', '.join(endings)}")


def write_film(path: Path, pictures: Sequence[Image], rate: float, exact: Sequence[Colour] = ()) -> Path:
    """A GIF at full size with the ``exact`` colours, or an mp4, by the path's ending.

    Raises:
        UsageError: another ending.
        RunError: the disk is full or read-only, or OpenCV cannot encode.
    """
    check_film(path)
    if path.suffix.lower() == ".gif":
        return write_gif(path, pictures, rate, exact)
    film, good = Mp4(path, rate), False
    try:
        for picture in pictures:
            film.add(picture)
        good = True
    finally:
        film.close(keep=good)
    return path
