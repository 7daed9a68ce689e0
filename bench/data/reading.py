"""Reading a picture so that every failure is one line with the path, and nothing in it changes without a word.

Files are opened by Python's ``open`` and decoded from memory, so that the audit hook of ``bench.core.access`` sees each of
them. The size is taken from the header and checked before a pixel is decoded; the checksums of PNG files are checked (decoders
skip them); pictures are turned as their EXIF orientation says; what has more than 8 bits is refused. Sizes are ``(height, width)``.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from bench.core.errors import BadFile
from bench.core.files import no_file

UInt8 = npt.NDArray[np.uint8]
Size = tuple[int, int]
Colour = tuple[int, int, int]
Ids = Mapping[int, int] | UInt8
IGNORE = 255

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF")
"""What :func:`open_picture` reads, as files end and as Pillow calls them."""
MOST_PIXELS = 1 << 28
"""Pixels of the largest picture that is decoded (16384 x 16384, 0.8 GB as RGB)."""
MOST_BYTES = 1 << 30
"""Of the largest file that is read as a picture."""
DEFLATE = 1032
"""Bytes that one byte of deflate can become at most (zlib's technical details): fewer do not hold a PNG's pixels."""
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Passes of an interlaced PNG (its specification, 8.2): first column and row, steps to the right and down."""
STRANGE = 0.01
"""Share of pixels in colours of no class above which a label picture is refused; fewer are ignored."""
AS_THEY_ARE: UInt8 = np.arange(256, dtype=np.uint8)
"""The table of ids that leaves raw ids as they are."""

ORIENTATION = 0x0112
Image.MAX_IMAGE_PIXELS = None  # the limit is MOST_PIXELS, and a larger picture is called large, not damaged


def read_bytes(file: Path) -> bytes:
    """The file's bytes.

    Raises:
        BadFile: missing, empty, no file, or the system refuses.
    """
    if kind := no_file(file):
        raise BadFile(file, "unreadable", f"is {kind}, a file is expected")
    try:
        with open(file, "rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            data = opened.read() if 0 < size <= MOST_BYTES else b""
    except FileNotFoundError:
        raise BadFile(file, "missing", "no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else None
        raise BadFile(file, "unreadable", f"cannot be read: {reason or error}") from None
    if not size:
        raise BadFile(file, "truncated", "is empty")
    if size > MOST_BYTES:
        raise BadFile(file, "too large", f"has more than {MOST_BYTES >> 30} GiB; pictures are smaller")
    return data


def open_picture(file: Path, data: bytes, expect: Size | None = None) -> Image.Image:
    """Header of a picture that was read; its pixels come with :func:`load`.

    Raises:
        BadFile: no picture, larger than :data:`MOST_PIXELS`, or its size is not ``expect``.
    """
    try:
        picture = Image.open(io.BytesIO(data), formats=FORMATS)
        size = upright(picture, data)
    except UnidentifiedImageError:
        raise BadFile(file, "not an image", "is not a PNG or JPEG picture, nor WebP, BMP or TIFF") from None
    except Exception as error:  # decoders raise whatever comes up in a damaged header
        raise damaged(file, error) from None
    if size[0] * size[1] > MOST_PIXELS:
        problem = (
            f"is {shown(size)} pixels, {size[0] * size[1] / 1e6:.0f} million; at most {MOST_PIXELS / 1e6:.0f} are read"
        )
        raise BadFile(file, "too large", f"{problem}: make it smaller")
    # What is missing Pillow would fill up with black.
    if picture.format == "PNG" and DEFLATE * len(data) < _png_bytes(data):
        raise BadFile(file, "truncated", f"is truncated: {shown(size)} pixels do not fit into {len(data)} bytes")
    ends = [tile[1][2:] for tile in getattr(picture, "tile", ()) if tile[1]]
    if ends and max(x for x, _ in ends) * max(y for _, y in ends) < size[0] * size[1]:
        raise BadFile(file, "truncated", f"is truncated: it holds a part of its {shown(size)} pixels alone")
    if expect is not None and size != expect:
        raise BadFile(file, "wrong size", f"is {shown(size)} pixels, expected {shown(expect)}")
    return picture


def turned(picture: Image.Image, data: bytes) -> int:
    """EXIF orientation, 1 for upright. A TIFF is turned by Pillow itself."""
    if picture.format == "TIFF" or (picture.format == "PNG" and not _png_has_exif(data)):
        return 1  # a PNG without it would be decoded whole in search of it
    orientation = picture.getexif().get(ORIENTATION, 1)
    return orientation if orientation in range(1, 9) else 1


def _png_bytes(data: bytes) -> int:
    """Bytes of a PNG's pixels, unpacked, by its header: each row of each pass has one for its filter."""
    width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", data[16:29])
    bits = depth * {2: 3, 4: 2, 6: 4}.get(colour, 1)
    total = 0
    for x, y, right, down in ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -((x - width) // right), -((y - height) // down)
        total += max(rows, 0) * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    return total


def _png_has_exif(data: bytes) -> bool:
    """Whether a chunk of a PNG file holds EXIF, by the chunks' names: the pixels are passed over."""
    offset = 8
    while offset + 12 <= len(data):
        kind = data[offset + 4 : offset + 8]
        if kind == b"eXIf" or (kind[1:] in (b"EXt", b"TXt") and data.startswith(b"Raw profile type exif", offset + 8)):
            return True
        offset += 12 + int.from_bytes(data[offset : offset + 4], "big")
    return False


def upright(picture: Image.Image, data: bytes) -> Size:
    """Size of a picture as it is shown."""
    height, width = picture.height, picture.width
    return (width, height) if turned(picture, data) >= 5 else (height, width)


def load(file: Path, data: bytes, picture: Image.Image) -> Image.Image:
    """Decode all pixels and turn the picture upright.

    Raises:
        BadFile: truncated or damaged.
    """
    try:
        check_sums(data, picture)
        picture.load()
        if picture.format == "PNG" and _ends_in_black(picture) and _unpacked(data) < _png_bytes(data):
            raise OSError("the image is truncated, its pixels end early")
        return ImageOps.exif_transpose(picture) if turned(picture, data) > 1 else picture
    except Exception as error:
        raise damaged(file, error) from None


def check_sums(data: bytes, picture: Image.Image) -> None:
    """Compare the checksums of a PNG file, which decoders skip; other formats have none. Raises what Pillow raises."""
    if picture.format == "PNG":
        Image.open(io.BytesIO(data), formats=("PNG",)).verify()


def _ends_in_black(picture: Image.Image) -> bool:
    """Whether the last row is 0 throughout: Pillow leaves it so where a PNG's pixels end early but in order."""
    return picture.crop((0, picture.height - 1, picture.width, picture.height)).getbbox(alpha_only=False) is None


def _unpacked(data: bytes) -> int:
    """Bytes that the pixels of a PNG unpack to, counted up to what its header asks for and a little more."""
    most, total, offset, stream = 2 * _png_bytes(data) + 64, 0, 8, zlib.decompressobj()
    while offset + 12 <= len(data) and total < most:
        length = int.from_bytes(data[offset : offset + 4], "big")
        if data[offset + 4 : offset + 8] == b"IDAT":
            total += len(stream.decompress(data[offset + 8 : offset + 8 + length], most - total))
        offset += 12 + length
    return total


def damaged(file: Path, error: Exception) -> BadFile:
    """The error of a decoder as one line."""
    message = " ".join(str(error).split()) or type(error).__name__
    kind = "truncated" if "truncated" in message.lower() else "damaged"
    return BadFile(file, kind, f"is {kind}, decoding says: {message:.120}")


def bits(picture: Image.Image, data: bytes) -> int:
    """Bits per channel as the file has them. Pillow's mode does not tell: it reads 16-bit colours as their high bytes."""
    if picture.format == "PNG":
        return data[24]  # IHDR comes first
    if picture.format == "TIFF":
        return int(max(cast("Any", picture).tag_v2.get(258, (8,))))
    return 8


def check_colours(file: Path, data: bytes, picture: Image.Image) -> None:
    """Refuse what 8-bit RGB cannot hold, by the header.

    Raises:
        BadFile: more than 8 bits per channel, which Pillow would cut in silence.
    """
    if picture.mode[0] in "IF" or bits(picture, data) > 8:
        problem = f"has more than 8 bits per channel (mode {picture.mode})"
        raise BadFile(file, "wrong mode", f"{problem}; save it as 8-bit RGB")


def as_colours(file: Path, data: bytes, expect: Size | None = None) -> Image.Image:
    """A whole picture that was read, as 8-bit RGB; alpha is dropped.

    Raises:
        BadFile: it cannot be used.
    """
    picture = open_picture(file, data, expect)
    check_colours(file, data, picture)
    picture = load(file, data, picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def colour_picture(file: Path, expect: Size | None = None) -> Image.Image:
    """The picture of a file, see :func:`as_colours`."""
    return as_colours(file, read_bytes(file), expect)


def resized_rgb(picture: Image.Image, size: Size | None) -> UInt8:
    """``(3, H, W)``, resized bicubically (Pillow's, as published) where the size differs."""
    if size is not None and (picture.height, picture.width) != size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.stack([np.asarray(channel) for channel in picture.split()])


# Labels ---------------------------------------------------------------------------------------------------------------


Holds = Literal["ids", "ids or colours", "indices", "colours"]
"""What label pictures hold: raw ids, grey or by a palette; those or the classes' colours; raw ids, by a palette's indices
whatever its colours are; colours alone."""


def id_picture(
    file: Path, expect: Size | None = None, colours: Mapping[int, Colour] | None = None, holds: Holds = "ids"
) -> Image.Image:
    """A whole label picture, a PNG: of one raw id per pixel (mode L), or of colours (mode RGB).

    Grey pictures of 1, 2 or 4 bits hold ids up to 1, 3 or 15. A palette picture holds ids if its palette is a ramp of greys or has
    each class's colour at the class's id; it holds colours if these are those of classes but lie at other indices. What may be
    both is refused.

    Args:
        colours: of the classes by raw id.

    Raises:
        BadFile: it cannot be used.
    """
    data = read_bytes(file)
    picture = open_picture(file, data, expect)
    depth, mode, allowed = bits(picture, data), picture.mode, ("1", "L", "P")
    if picture.format != "PNG":
        raise BadFile(file, "wrong mode", f"is no picture of label ids: a PNG is expected, it is {picture.format}")
    if depth > 8 or mode not in (allowed if holds in ("ids", "indices") else (*allowed, "LA", "RGB", "RGBA")):
        problem = f"is no picture of label ids{' or colours' if 'colours' in holds else ': 8-bit grey is expected'}"
        raise BadFile(file, "wrong mode", f"{problem}, mode is {mode} with {depth} bits")
    picture = load(file, data, picture)
    if mode == "P" and holds != "colours":
        content = palette_says(picture, colours or {})
        if (content == "colours" and holds == "indices") or (content == "unclear" and holds != "indices"):
            index, colour = next(
                (i, c) for i, c in shown_colours(picture).items() if c not in ((i,) * 3, (colours or {}).get(i))
            )
            raise BadFile(
                file,
                "ambiguous",
                f"is a palette picture whose indices may be ids or stand for colours (index {index} shows {colour}); save it as "
                "8-bit grey with ids, or as RGB",
            )
        return picture.convert("RGB") if content == "colours" else Image.fromarray(np.asarray(picture))
    if mode in ("1", "L") and holds != "colours":
        grey = np.asarray(picture.convert("L"))  # Pillow stretches few bits to 0..255
        return Image.fromarray(grey // (255 // (2**depth - 1)))
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def shown_colours(picture: Image.Image) -> dict[int, Colour | None]:
    """The colour of each index that a palette picture uses; None beyond the palette's end."""
    table = np.asarray(picture.getpalette("RGB") or [], np.uint8).reshape(-1, 3).tolist()
    used = (index for index, count in enumerate(picture.histogram()[:256]) if count)
    return {
        index: (table[index][0], table[index][1], table[index][2]) if index < len(table) else None for index in used
    }


def palette_says(picture: Image.Image, colours: Mapping[int, Colour]) -> Literal["ids", "colours", "unclear"]:
    """What a palette picture holds by its palette, see :func:`id_picture`. Without ``colours`` anything may be ids."""
    used, counts, class_colours = shown_colours(picture), picture.histogram(), set(colours.values())
    if not colours or all(colour in ((index,) * 3, colours.get(index)) for index, colour in used.items()):
        return "ids"
    strange = sum(counts[index] for index, colour in used.items() if colour not in class_colours)
    distinct = len(set(used.values())) == len(used)
    return "colours" if distinct and strange <= STRANGE * sum(counts) else "unclear"


def nearest(picture: Image.Image, size: Size | None) -> npt.NDArray[Any]:
    """Pixels of a picture, resized by nearest neighbour (Pillow's, as published) where the size differs."""
    if size is not None and (picture.height, picture.width) != size:
        picture = picture.resize((size[1], size[0]), Image.Resampling.NEAREST)
    return np.asarray(picture)


def label_ids(
    file: Path,
    size: Size | None = None,
    expect: Size | None = None,
    colours: Mapping[int, Colour] | None = None,
    holds: Holds = "ids",
) -> UInt8:
    """Raw ids ``(H, W)`` of a label picture, resized by nearest neighbour; arguments as in :func:`id_picture`.

    Raises:
        BadFile: it cannot be used, or more than :data:`STRANGE` of it is in the colours of no class (in pictures that hold
            ``colours`` alone these are 0, however many).
    """
    pixels = nearest(id_picture(file, expect, colours, holds), size)
    if pixels.ndim == 2:
        return pixels
    return from_colours(file, pixels, tuple((colours or {}).items()), 1.0 if holds == "colours" else STRANGE)


def from_colours(file: Path, rgb: UInt8, colours: tuple[tuple[int, Colour], ...], strange: float = STRANGE) -> UInt8:
    """RGB ``(H, W, 3)`` to raw ids by the colours of the classes, 0 for other colours.

    Raises:
        BadFile: a larger share of the pixels than ``strange`` has a colour of no class.
    """
    codes, ids = _codes_and_ids(colours)
    wide = rgb.astype(np.int32)
    pixel_codes = (wide[..., 0] << 16) | (wide[..., 1] << 8) | wide[..., 2]
    index = np.minimum(np.searchsorted(codes, pixel_codes), len(codes) - 1)
    unknown = codes[index] != pixel_codes
    share = float(unknown.mean())
    if share > strange:
        y, x = np.argwhere(unknown)[0]
        example = tuple(map(int, rgb[y, x]))
        problem = f"{100 * share:.0f} % of the pixels are in the colour of no class, e.g. {example}"
        raise BadFile(file, "wrong colours", problem)
    return np.where(unknown, np.uint8(0), ids[index])


@lru_cache
def _codes_and_ids(colours: tuple[tuple[int, Colour], ...]) -> tuple[npt.NDArray[np.int32], UInt8]:
    id_of: dict[int, int] = {}
    for raw, (r, g, b) in colours:
        id_of.setdefault((r << 16) | (g << 8) | b, raw)
    codes = sorted(id_of)
    return np.array(codes, np.int32), np.array([id_of[code] for code in codes], np.uint8)


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


# Sizes ----------------------------------------------------------------------------------------------------------------


def picture_size(file: Path) -> Size:
    """Size of a picture by its header, upright."""
    data = read_bytes(file)
    return upright(open_picture(file, data), data)


def native_size(files: Sequence[Path], read: Callable[[Path], Size] = picture_size) -> Size | None:
    """The size that most of nine files spread over a list have; None if none of them can be read."""
    counts: Counter[Size] = Counter()
    for file in files[:: max(1, len(files) // 9)][:9]:
        try:
            counts[read(file)] += 1
        except BadFile:  # reported where it is used
            continue
    return counts.most_common(1)[0][0] if counts else None


def shown(size: Size) -> str:
    """``1920x1080``, as people write sizes."""
    return f"{size[1]}x{size[0]}"
