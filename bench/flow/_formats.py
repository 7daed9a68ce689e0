"""Files of optical flow that people have: readers and writers. Nothing is unpickled.

| name               | what                                                                             | direction | quantum |
|--------------------|----------------------------------------------------------------------------------|-----------|---------|
| ``*.flo``          | Middlebury: float32, x and y interleaved; 1e10 where unknown                     | any       | none    |
| ``*.png``          | KITTI: 16-bit RGB, ``64 flow + 32768``, third channel 1 where valid              | any       | 1/64 px |
| ``*_int16_x10.npy``| DA-VSN and TPS: int16 ``(H, W, 2)``, ten times the flow; validity is not kept    | backward  | 1/10 px |
| ``*.npz``          | VIPER: float16 arrays ``u`` and ``v`` ``(H, W)``, NaN or infinite where unknown  | forward   | float16 |

VIPER's flow leads from a frame to the next one and is named by the first of the two (its EVALUATION.md); the others hold
what was put into them.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from bench.core.arrays import NotArrays, array_of, arrays_of
from bench.core.errors import RunError, UsageError
from bench.core.files import no_file, write_atomically
from bench.data.clip import Flow, Mask
from bench.data.reading import check_sums

FLO_MAGIC: bytes = np.float32(202021.25).tobytes()
"""``PIEH``."""
UNKNOWN = 1e9
"""Middlebury: a longer component means unknown."""
MOST = 1 << 15
"""No frame is wider or higher; a header that says so is damaged."""
MOST_PIXELS = 1 << 26
"""Of a field that is read (8192 x 8192: 0.5 GB as float32); checked in the header, before anything is unpacked."""

MOST_BYTES = 8 * MOST_PIXELS + (1 << 16)
"""Of a file: two float32 for each pixel, and a header."""

Field = tuple[Flow, Mask]
"""Flow ``(2, H, W)``, 0 where it is not valid, and validity ``(H, W)``."""


def read(path: Path) -> Field:
    """Flow and validity of a file, by its name.

    Raises:
        UsageError: a name of none of the formats.
        RunError: missing, empty, truncated, or not what its name says, in one line with the path.
    """
    reader = _of(path)[0]
    if kind := no_file(path):
        raise RunError(f"Flow {path} is {kind}, not a file")
    try:
        if (size := path.stat().st_size) > MOST_BYTES:
            raise RunError(f"Flow {path} has {size / 1e9:.1f} GB; at most {MOST_BYTES / 1e9:.1f} are read")
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        raise RunError(f"Cannot read flow {path}: {getattr(error, 'strerror', None) or error}") from None
    if not data:
        raise RunError(f"Flow {path} is empty")
    try:
        flow, valid = reader(data)
    except (_Malformed, NotArrays) as error:
        raise RunError(f"Flow {path} is damaged: {error}") from None
    valid = valid & _finite(flow)
    return np.where(valid, flow, 0).astype(np.float32), valid


def write(path: Path, flow: Flow, valid: Mask | None = None) -> None:
    """Write flow ``(2, H, W)`` in the format of the file's name, whole or not at all; invalid where it is not finite.

    Raises:
        UsageError: a name of none of the formats.
        RunError: the disk is full or read-only.
    """
    writer = _of(path)[1]
    finite = _finite(flow)
    valid = finite if valid is None else valid & finite
    write_atomically(path, writer(np.where(finite, flow, 0).astype(np.float32), valid))


def is_forward(path: Path) -> bool:
    """True for a format whose flow leads from a frame to the next by definition: VIPER's."""
    return path.suffix == ".npz"


def invert(forward: Flow, valid: Mask) -> Field:
    """Backward flow t to t-1 from forward flow t-1 to t, by splatting to the nearest pixel of t.

    Where several pixels arrive at one, the longest flow wins: what is near moves most under a camera in motion. Where
    none arrives the result is 0 and not valid, as it is for what was hidden in t-1. Off by up to half a pixel of place.
    """
    height, width = valid.shape
    y, x = np.nonzero(valid)
    u, v = forward[0, y, x], forward[1, y, x]
    to_x, to_y = np.rint(x + u), np.rint(y + v)
    inside = (to_x >= 0) & (to_x < width) & (to_y >= 0) & (to_y < height)
    order = np.argsort(np.hypot(u, v)[inside], kind="stable")
    target = (to_y[inside].astype(np.int64) * width + to_x[inside].astype(np.int64))[order]
    backward = np.zeros((2, height * width), np.float32)
    reached = np.zeros(height * width, np.bool_)
    backward[:, target] = -np.stack([u, v])[:, inside][:, order]
    reached[target] = True
    return backward.reshape(2, height, width), reached.reshape(height, width)


def _finite(flow: Flow) -> Mask:
    return np.asarray(np.isfinite(flow).all(axis=0), np.bool_)


# One reader and one writer for each format -------------------------------------------------------------------------------


class _Malformed(Exception):
    """What is wrong with a file's content."""


def _check_size(height: int, width: int) -> None:
    if not (0 < width <= MOST and 0 < height <= MOST and height * width <= MOST_PIXELS):
        raise _Malformed(f"its header says {width}x{height} pixels; at most {MOST_PIXELS / 1e6:.0f} million are read")


def _read_flo(data: bytes) -> Field:
    if data[:4] != FLO_MAGIC:
        raise _Malformed("it does not start with PIEH")
    if len(data) < 12:
        raise _Malformed("its header is cut off")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, 4))
    _check_size(height, width)
    if len(data) != 12 + 8 * width * height:
        raise _Malformed(f"{width}x{height} pixels take {12 + 8 * width * height} bytes, it has {len(data)}")
    flow = np.frombuffer(data, "<f4", offset=12).reshape(height, width, 2).transpose(2, 0, 1)
    return flow, (np.abs(flow) <= UNKNOWN).all(axis=0)


def _write_flo(flow: Flow, valid: Mask) -> bytes:
    height, width = valid.shape
    body = np.where(valid, flow, np.float32(1e10)).transpose(1, 2, 0).astype("<f4")
    header: bytes = FLO_MAGIC + np.array([width, height], "<i4").tobytes()
    return header + bytes(body.tobytes())


def _read_kitti(data: bytes) -> Field:
    try:
        picture = Image.open(io.BytesIO(data), formats=("PNG",))
        _check_size(picture.height, picture.width)
        check_sums(data, picture)  # not every OpenCV does
    except _Malformed:
        raise
    except Exception as error:  # whatever comes up in a damaged header
        raise _Malformed(f"not a PNG, or cut off ({' '.join(str(error).split()):.80})") from None
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise _Malformed("not a PNG, or cut off")
    if image.dtype != np.uint16 or image.ndim != 3 or image.shape[2] != 3:
        raise _Malformed(f"KITTI flow is a 16-bit RGB PNG, this one holds {image.dtype} {image.shape}")
    flow = (image[:, :, 2:0:-1].astype(np.float32) - 32768) / 64  # OpenCV's order is blue, green, red
    return flow.transpose(2, 0, 1), image[:, :, 0] > 0


def _write_kitti(flow: Flow, valid: Mask) -> bytes:
    raw = np.rint(flow.astype(np.float64) * 64) + 32768
    valid = valid & ((raw >= 0) & (raw <= 65535)).all(axis=0)  # a flow beyond 512 pixels has no code
    image = np.zeros((*valid.shape, 3), np.uint16)
    image[:, :, 2], image[:, :, 1] = (np.where(valid, component, 0) for component in raw)
    image[:, :, 0] = valid
    return bytes(cv2.imencode(".png", image)[1])


def _read_davsn(data: bytes) -> Field:
    array = array_of(data)
    if array.dtype != np.int16 or array.ndim != 3 or array.shape[2] != 2:
        raise _Malformed(f"DA-VSN's flow is int16 (H, W, 2), this is {array.dtype} {array.shape}")
    return array.transpose(2, 0, 1).astype(np.float32) / 10, np.ones(array.shape[:2], np.bool_)


def _write_davsn(flow: Flow, valid: Mask) -> bytes:
    """Rounded, where the published code cuts off; 0 where it is not valid, since the format has no place for that."""
    limits = np.iinfo(np.int16)
    tenfold = np.clip(np.rint(np.where(valid, flow, 0).astype(np.float64) * 10), limits.min, limits.max)
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(tenfold.transpose(1, 2, 0).astype(np.int16)), allow_pickle=False)
    return buffer.getvalue()


def _read_viper(data: bytes) -> Field:
    u, v = arrays_of(data, ("u", "v"), 8 * MOST_PIXELS)
    if u.ndim != 2 or u.shape != v.shape or u.dtype.kind != "f" or v.dtype.kind != "f":
        raise _Malformed(f"u and v must be two float arrays (H, W), got {u.dtype} {u.shape} and {v.dtype} {v.shape}")
    _check_size(*u.shape)
    flow = np.stack([u, v]).astype(np.float32)
    return flow, _finite(flow)


def _write_viper(flow: Flow, valid: Mask) -> bytes:
    with np.errstate(over="ignore"):  # beyond float16 it is infinite, which is unknown
        u, v = np.where(valid, flow, np.nan).astype(np.float16)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, u=u, v=v)
    return buffer.getvalue()


Reader = Callable[[bytes], Field]
Writer = Callable[[Flow, Mask], bytes]
FORMATS: dict[str, tuple[Reader, Writer]] = {
    ".flo": (_read_flo, _write_flo),
    ".png": (_read_kitti, _write_kitti),
    "_int16_x10.npy": (_read_davsn, _write_davsn),
    ".npz": (_read_viper, _write_viper),
}
"""Reader and writer by how a name ends."""


def _of(path: Path) -> tuple[Reader, Writer]:
    for ending, codec in FORMATS.items():
        if path.name.endswith(ending):
            return codec
    raise UsageError(f"{path} is no flow file; their names end in {', '.join(FORMATS)}")
