"""Arrays from files that may hold anything: sizes are held against the bytes before room is made. Nothing is unpickled."""

from __future__ import annotations

import io
import math
import struct
import sys
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

HEADER = 1 << 16
"""Bytes of the longest header of an array."""
_UNZIPPABLE = (
    *(zipfile.BadZipFile, zlib.error, struct.error, NotImplementedError),
    *(EOFError, OSError, RuntimeError, ValueError, KeyError),
)
"""All that the standard library raises on archives that are cut off, damaged, or packed in a way that it does not know."""


class NotArrays(Exception):
    """What is wrong with the bytes, in one short line."""


def array_of(data: bytes) -> NDArray[np.generic]:
    """An array of the .npy format.

    Raises:
        NotArrays: something else, or cut off.
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, kind = header(file)
        if not kind.hasobject and math.prod(shape) * kind.itemsize != len(data) - file.tell():
            raise ValueError(f"{kind} {shape} is not what its {len(data) - file.tell()} bytes hold")
        file.seek(0)
        array = np.asarray(np.lib.format.read_array(file, allow_pickle=False))
        if kind.kind == "U" and array.size and kind.itemsize:
            letters = np.ascontiguousarray(array).view(np.uint32)
            if ((letters > sys.maxunicode) | ((letters >= 0xD800) & (letters < 0xE000))).any():
                raise ValueError("its texts have letters that there are not")
        return array
    except Exception as error:  # NumPy reads a header with Python's tokeniser and parser, which raise what they like
        raise NotArrays(f"not an array of numbers ({' '.join(str(error).split()):.80})") from None


def arrays_of(data: bytes, names: Sequence[str], most: int) -> list[NDArray[np.generic]]:
    """Arrays of the .npz format, by their names; the archive's checksums are checked.

    Args:
        most: bytes that each may unpack to.

    Raises:
        NotArrays: something else, cut off, larger, or one of the arrays is missing.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name in names:
                if f"{name}.npy" not in archive.namelist():
                    raise NotArrays(f"its array {name} is missing")
                if (size := archive.getinfo(f"{name}.npy").file_size) > most + HEADER:
                    raise NotArrays(f"its array {name} unpacks to {size / 1e6:.0f} MB")
            return [array_of(archive.read(f"{name}.npy")) for name in names]
    except _UNZIPPABLE:
        raise NotArrays("not a zip archive of arrays, or cut off") from None
