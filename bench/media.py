"""Pictures and films as files: label ids in Cityscapes naming, palette PNGs, overlays, GIF and mp4.

Everything is written whole or not at all. Images are RGB uint8 ``(H, W, 3)``, label maps are train ids ``(H, W)``.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from .data.labels import IGNORE, PALETTE
from .data.store import disk_errors
from .errors import RunError, UsageError
from .plots import Colour, Image, colourise

LabelMap = npt.NDArray[np.integer]
FILMS = (".gif", ".mp4")
"""Suffixes that :func:`write_film` knows."""
UNLABELLED = 0
"""Cityscapes label id of pixels that a prediction leaves open; the official evaluator counts it as wrong."""

_NAME = re.compile(r"(?:^|/)([A-Za-z-]+_\d{6}_\d{6})(?=[_.]|$)")
_OTHER_NAMES = {"light": "traffic light", "sign": "traffic sign", "motocycle": "motorcycle"}
"""Names of classes here (and in the published files) by the Cityscapes name."""
_COLOURS = 255
"""Of a GIF's palette; the 256th is left for pixels that stay as they are."""


# Label maps -----------------------------------------------------------------------------------------------------------


def cityscapes_ids(classes: Sequence[str]) -> npt.NDArray[np.uint8]:
    """Table from train id to Cityscapes label id, ``(256,)``: 255 and what is no class become 0 (unlabeled).

    Raises:
        UsageError: a class that Cityscapes has not, or cityscapesscripts is not installed.
    """
    try:
        from cityscapesscripts.helpers.labels import name2label
    except ImportError:
        raise UsageError("Cityscapes label ids need the label table: pip install cityscapesscripts") from None
    table = np.full(256, UNLABELLED, np.uint8)
    for train_id, name in enumerate(classes):
        label = name2label.get(_OTHER_NAMES.get(name, name))
        if label is None or label.id < 0:
            raise UsageError(f"Class '{name}' has no Cityscapes label id; export colours or train ids instead")
        table[train_id] = label.id
    return table


def file_stem(key: str) -> str:
    """``<city>_<sequence>_<frame>`` where a clip's key holds one, else the key with its folders joined by underscores.

    >>> file_stem("val/lindau/lindau_000000_000019_leftImg8bit.png")
    'lindau_000000_000019'
    >>> file_stem("holiday/frame 0012.jpg")
    'holiday_frame-0012'
    """
    if match := _NAME.search(key):
        return match[1]
    plain = re.sub(r"[^\w.-]+", "-", key.strip("/").replace("/", "_"))
    return re.sub(r"\.(png|jpe?g|bmp|tiff?|webp)$", "", plain, flags=re.IGNORECASE) or "frame"


def export_labels(folder: Path, key: str, train_ids: LabelMap, classes: Sequence[str]) -> Path:
    """Write a prediction as Cityscapes label ids: ``<folder>/<city>_<sequence>_<frame>_labelIds.png``, one channel.

    The official evaluator finds it by the pattern ``<city>_<sequence>_<frame>*.png`` anywhere under ``CITYSCAPES_RESULTS``
    and stops at a second match, so keep other PNGs whose name starts like that out of the folder.

    Args:
        key: of the clip; see :func:`file_stem`.
        train_ids: ``(H, W)``.
        classes: names by train id.

    Raises:
        UsageError: a class that Cityscapes has not.
        RunError: the disk is full or read-only.
    """
    labels = cityscapes_ids(classes)[np.asarray(train_ids).astype(np.uint8)]
    return write_png(folder / f"{file_stem(key)}_labelIds.png", labels)


def overlay(
    image: Image, train_ids: LabelMap, palette: Sequence[Colour] = PALETTE, opacity: float = 0.55
) -> npt.NDArray[np.uint8]:
    """The image with the classes' colours over it; ignored pixels stay as they are.

    Raises:
        ValueError: sizes differ, or opacity is not in 0..1.
    """
    if image.shape[:2] != train_ids.shape or not 0 <= opacity <= 1:
        raise ValueError(f"overlay: image {image.shape[:2]}, labels {train_ids.shape}, opacity {opacity} (0..1)")
    share = np.where(train_ids == IGNORE, 0.0, opacity)[..., None]
    mixed = (1 - share) * image + share * colourise(train_ids, palette)
    return np.asarray(np.round(mixed), np.uint8)


def write_overlay(
    folder: Path, key: str, image: Image, train_ids: LabelMap, palette: Sequence[Colour] = PALETTE
) -> Path:
    """Write ``<folder>/overlay_<name>.png``; its name does not match the official evaluator's pattern."""
    return write_png(folder / f"overlay_{file_stem(key)}.png", overlay(image, train_ids, palette))


# PNG ------------------------------------------------------------------------------------------------------------------


def write_png(path: Path, image: npt.NDArray[np.uint8]) -> Path:
    """Write grey ``(H, W)`` or RGB ``(H, W, 3)``.

    Raises:
        RunError: the disk is full or read-only.
    """
    return _write_pillow(path, Pillow.fromarray(np.ascontiguousarray(image)))


def write_palette_png(path: Path, train_ids: LabelMap, palette: Sequence[Colour] = PALETTE) -> Path:
    """Write train ids as they are with the palette beside them: viewers show colours, readers get ids (255 is black).

    Raises:
        ValueError: a value that is neither a train id nor 255.
        RunError: the disk is full or read-only.
    """
    colourise(train_ids, palette)  # refuses strange values
    image = Pillow.fromarray(np.ascontiguousarray(train_ids, np.uint8))
    image.putpalette(_flat(palette))
    return _write_pillow(path, image)


def _flat(palette: Sequence[Colour]) -> bytes:
    """A palette of 256 colours as Pillow wants it, black where there is none."""
    return np.array(palette, np.uint8).tobytes().ljust(768, b"\0")


def _write_pillow(path: Path, image: Pillow.Image) -> Path:
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True)
    return _write(path, lambda scratch: scratch.write_bytes(buffer.getvalue()))


def _write(path: Path, fill: Callable[[Path], object]) -> Path:
    """Let ``fill`` write a file beside ``path`` and move it into place."""
    scratch = path.with_name(f".{os.getpid()}.{path.name}")  # the suffix stays: writers of films go by it
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            fill(scratch)
            os.replace(scratch, path)
        finally:
            if path.parent.is_dir():
                scratch.unlink(missing_ok=True)
    return path


# Films ----------------------------------------------------------------------------------------------------------------


def check_film(path: Path, also: Sequence[str] = ()) -> None:
    """Refuse a path that is no film before hours are spent on it.

    Raises:
        UsageError: another suffix than .gif, .mp4 and those in ``also``.
    """
    if path.suffix.lower() not in (*FILMS, *also):
        allowed = ", ".join((*FILMS, *also))
        raise UsageError(f"Cannot tell the format of '{path}' from its ending '{path.suffix}'; use one of {allowed}")


def write_film(path: Path, frames: Sequence[Image], rate: float = 4.0, exact: Sequence[Colour] = PALETTE) -> Path:
    """Write a GIF or an mp4, by the path's ending.

    Args:
        frames: RGB, all of one size.
        rate: frames per second.
        exact: colours that a GIF must keep; mp4 is lossy.

    Raises:
        UsageError: another ending.
        RunError: the disk is full or read-only, or OpenCV cannot encode mp4 here.
    """
    check_film(path)
    return write_gif(path, frames, rate, exact) if path.suffix.lower() == ".gif" else write_mp4(path, frames, rate)


def write_gif(path: Path, frames: Sequence[Image], rate: float = 4.0, exact: Sequence[Colour] = ()) -> Path:
    """Write an endless GIF. All frames share one palette, so that what flickers is the content and not the colours.

    Args:
        rate: frames per second; GIF knows hundredths of a second.
        exact: colours that are kept as they are; the rest is brought to the nearest of 255.

    Raises:
        ValueError: no frames, frames of several sizes, or too many exact colours.
        RunError: the disk is full or read-only.
    """
    if not frames:
        raise ValueError("a film needs at least one frame, got none")
    frames = [_checked(frame, frames[0]) for frame in frames]
    palette = _palette(frames, exact)
    indexed = []
    for frame in frames:
        image = Pillow.fromarray(_nearest(frame, palette))
        image.putpalette(_flat([(int(r), int(g), int(b)) for r, g, b in palette]))
        indexed.append(image)
    buffer = io.BytesIO()
    duration = max(10, 10 * round(100 / rate))
    indexed[0].save(
        buffer, format="gif", save_all=True, append_images=indexed[1:], duration=duration, loop=0, optimize=False
    )
    return _write(path, lambda scratch: scratch.write_bytes(buffer.getvalue()))


def _palette(frames: Sequence[Image], exact: Sequence[Colour]) -> npt.NDArray[np.uint8]:
    """The exact colours, then those that serve the rest of (up to 16) frames best; uint8 ``(<= 255, 3)``."""
    kept = np.array(sorted(set(exact)), np.uint8).reshape(-1, 3)
    if len(kept) >= _COLOURS:
        raise ValueError(f"a GIF has {_COLOURS} colours, cannot keep {len(kept)} exactly and have one left")
    chosen = np.unique(np.linspace(0, len(frames) - 1, 16).round().astype(int))
    pixels = np.concatenate([frames[i].reshape(-1, 3) for i in chosen])
    rest = pixels[~np.isin(_codes(pixels), _codes(kept))]
    if not len(rest):
        return kept
    colours = Pillow.fromarray(rest[None]).quantize(_COLOURS - len(kept), Pillow.Quantize.MEDIANCUT)
    found = np.array(colours.getpalette(), np.uint8).reshape(-1, 3)[: int(np.asarray(colours).max()) + 1]
    return np.concatenate([kept, found])


def _codes(pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """One number per colour, ``(..., 3)`` to ``(...)``."""
    return pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1])


def _nearest(frame: Image, palette: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Index of the nearest palette colour of each pixel, ``(H, W)``; an equal one where there is one."""
    from scipy.spatial import cKDTree

    codes, inverse = np.unique(_codes(frame), return_inverse=True)
    colours = np.stack([codes >> 16, (codes >> 8) & 255, codes & 255], axis=1)
    index = cKDTree(palette.astype(np.float64)).query(colours)[1].astype(np.uint8)
    return np.asarray(index[inverse].reshape(frame.shape[:2]))


def write_mp4(path: Path, frames: Iterable[Image], rate: float = 4.0) -> Path:
    """Write an mp4 (MPEG-4 part 2, by OpenCV) and read it back. An odd width or height is padded by its edge to even.

    Args:
        frames: RGB of one size; may be a generator, one frame is held at a time.
        rate: frames per second.

    Raises:
        ValueError: no frames, or frames of several sizes.
        RunError: the disk is full or read-only, or this OpenCV cannot encode mp4.
    """
    return _write(path, lambda scratch: _encode(scratch, frames, rate, path))


def _encode(scratch: Path, frames: Iterable[Image], rate: float, path: Path) -> None:
    import cv2

    writer, first, count = None, None, 0
    try:
        for frame in frames:
            first = frame if first is None else first
            height, width = _checked(frame, first).shape[:2]
            even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            if writer is None:
                size = (even.shape[1], even.shape[0])
                writer = cv2.VideoWriter(str(scratch), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
                if not writer.isOpened():
                    raise RunError(f"Cannot write {path}: this OpenCV has no mp4 encoder; write a .gif instead")
            writer.write(np.ascontiguousarray(even[..., ::-1]))
            count += 1
    finally:
        if writer is not None:
            writer.release()
    if not count:
        raise ValueError("a film needs at least one frame, got none")
    film, found = cv2.VideoCapture(str(scratch)), 0
    while film.grab():
        found += 1
    film.release()
    if found != count:
        raise RunError(f"Cannot write {path}: {found} of {count} frames can be read back; is the disk full?")


def _checked(frame: Image, first: Image) -> Image:
    if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or frame.shape != first.shape:
        raise ValueError(f"frames must be RGB uint8 {first.shape}, got {frame.dtype} {frame.shape}")
    return frame
