"""Tiling texture tiles with a mip pyramid, looked up for all pixels of a frame at once."""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from .spec import TextureSpec

Floats = npt.NDArray[np.float32]

SIZE = 128
LEVELS = 7
"""A tile has 128 x 128 texels at level 0 and 2 x 2 at level 6."""

TILES = ("grain", "slabs", "bricks", "planks", "leaves", "grass", "stains", "cobbles", "panels", "ribs")
"""Names of the tiles; ``stains`` is the coarse one that every material adds. A tile's seed is its place here: append only."""


def fractal(rng: np.random.Generator, size: int, first: int, octaves: int, persistence: float) -> Floats:
    """Tiling value noise with zero mean and unit standard deviation, ``(size, size)``.

    Octave ``i`` has ``first * 2**i`` periods in the tile (at most ``size / 2``) and amplitude ``persistence**i``.
    """
    out: Floats = np.zeros((size, size), np.float32)
    for octave in range(octaves):
        cells = first * 2**octave
        if cells > size // 2:
            break
        grid: Floats = rng.standard_normal((cells, cells), dtype=np.float32)
        grid = np.pad(grid, 2, mode="wrap")
        scale = size / cells
        fine = np.asarray(cv2.resize(grid, None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC), np.float32)
        start = round(2 * scale)
        out += np.float32(persistence**octave) * fine[start : start + size, start : start + size]
    return np.asarray((out - out.mean()) / max(float(out.std()), 1e-6), np.float32)


def _joints(name: str) -> Floats:
    """Dark joints of a built surface, 1 on a joint, ``(SIZE, SIZE)``."""
    y, x = np.mgrid[0:SIZE, 0:SIZE]
    if name == "slabs":
        joint = (y % 32 < 2) | (x % 32 < 2)
    elif name == "bricks":
        joint = (y % 16 < 2) | ((x + 16 * (y // 16 % 2)) % 32 < 2)
    elif name == "planks":
        joint = x % 16 < 3
    elif name == "cobbles":  # round stones in rows that are shifted by half a stone
        joint = ((x + 8 * (y // 16 % 2)) % 16 - 8) ** 2 + (y % 16 - 8) ** 2 > 46
    elif name == "panels":
        joint = (y % 64 < 3) | (x % 64 < 3)
    elif name == "ribs":
        joint = y % 8 < 3
    else:
        joint = np.zeros((SIZE, SIZE), bool)
    return np.asarray(joint, np.float32)


def _tile(name: str, spec: TextureSpec, rng: np.random.Generator) -> Floats:
    """Level 0 of a tile, zero mean, about unit standard deviation."""
    noise = fractal(rng, SIZE, spec.first, spec.octaves, spec.persistence)
    if name == "stains":
        return fractal(rng, SIZE, 2, max(2, spec.octaves - 2), 0.6)
    if name == "leaves":
        clumps = np.maximum(noise, fractal(rng, SIZE, 2 * spec.first, spec.octaves, spec.persistence))
        return np.asarray((clumps - clumps.mean()) / clumps.std(), np.float32)
    if name == "grass":
        blades = cv2.blur(np.pad(fractal(rng, SIZE, 16, 2, 0.8), 8, mode="wrap"), (1, 7))[8:-8, 8:-8]
        return np.asarray(0.6 * noise + 0.9 * blades / blades.std(), np.float32)
    joints = _joints(name)
    return np.asarray(noise - 4.0 * spec.joints * (joints - joints.mean()), np.float32)


@lru_cache(maxsize=4)
def tiles(spec: TextureSpec, seed: int) -> Floats:
    """All tiles and their mip levels in one flat array; level ``l`` of tile ``k`` starts at :func:`start_of`."""
    parts = []
    for k, name in enumerate(TILES):
        level = _tile(name, spec, np.random.default_rng([seed, k]))
        for _ in range(LEVELS):
            parts.append(level.ravel())
            level = np.asarray(cv2.resize(level, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.float32)
    return np.concatenate(parts)


_LEVEL_START = np.cumsum([0] + [(SIZE >> level) ** 2 for level in range(LEVELS)]).astype(np.int32)
_TILE_LENGTH = int(_LEVEL_START[-1])


def start_of(tile: int, level: int) -> int:
    """Index of the first texel of a level of a tile in the flat array of :func:`tiles`."""
    return tile * _TILE_LENGTH + int(_LEVEL_START[level])


def sample(
    flat: Floats, tile: npt.NDArray[np.int32] | int, u: Floats, v: Floats, footprint: Floats | np.float32
) -> Floats:
    """Nearest texel of the level that fits the footprint.

    Args:
        flat: array from :func:`tiles`.
        tile: number of the tile, at every pixel or of all.
        u, v: surface coordinates in tiles (1 = one period).
        footprint: size of a pixel on the surface, in tiles, at every pixel or of all.
    """
    level = np.log2(np.minimum(np.maximum(footprint * np.float32(SIZE), 1), np.float32(2 ** (LEVELS - 1))))
    step = np.rint(level).astype(np.int32)
    size = np.right_shift(np.int32(SIZE), step)
    scale = size.astype(np.float32)  # a power of two: the product is exact
    column = np.floor(u * scale).astype(np.int32) & (size - 1)
    row = np.floor(v * scale).astype(np.int32) & (size - 1)
    index = tile * np.int32(_TILE_LENGTH) + _LEVEL_START.take(step) + row * size + column
    return np.asarray(flat.take(index), np.float32)
