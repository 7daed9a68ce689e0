"""Draw patches: the rays of all their bounding rectangles meet all their planes at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from .buffers import Buffers, Numbers, groups, pixels, reveal
from .camera import NEAR, Camera
from .scene import Floats, Patch


class _Planes:
    """Patches ``age`` frames ago as arrays.

    Attributes:
        near: ``(N,)`` z where each begins, metres.
        bounds: ``(N, 4)`` see :meth:`Camera.bounds`.
        numbers: ``(7, N)`` float32: x and z of the lower edge's direction, distance of the plane from the camera, what to take
            from u and to add to v for coordinates from the lower left corner, width, height.
    """

    def __init__(self, patches: list[Patch], camera: Camera, age: int) -> None:
        rows = [(p.x, p.y, p.z, p.yaw, p.width, p.height, *p.velocity) for p in patches]
        x, y, z, yaw, width, height, *velocity = np.array(rows).reshape(-1, 8).T
        x, z = x - age * velocity[0], z - age * velocity[1]
        ex, ez = np.cos(np.deg2rad(yaw)), np.sin(np.deg2rad(yaw))
        corners = np.empty((len(patches), 4, 3))  # bottom start, bottom end, top start, top end
        corners[:, :2, 1], corners[:, 2:, 1] = y[:, None], (y + height)[:, None]
        corners[:, ::2, 0], corners[:, 1::2, 0] = x[:, None], (x + width * ex)[:, None]
        corners[:, ::2, 2], corners[:, 1::2, 2] = z[:, None], (z + width * ez)[:, None]
        ox, oz = x - camera.position[0], z - camera.position[2]
        self.near = z
        self.bounds = camera.bounds(corners)
        self.numbers = np.array(
            [ex, ez, ez * ox - ex * oz, ex * ox + ez * oz, camera.position[1] - y, width, height], np.float32
        )
        # The surfaces of all patches in one array, and where those of each begin.
        self.surfaces = np.array([number for patch in patches for number in patch.surfaces], np.int32)
        self.first = np.cumsum([0, *(len(patch.surfaces) for patch in patches)])


@dataclass
class _Fragments:
    """What patches would show at the pixels of their rectangles; depth is inf where a ray misses, texels are as in a sprite."""

    depth: Floats
    texel: npt.NDArray[np.uint16]
    u: Floats
    v: Floats
    facing: Floats


def draw_patches(buffers: Buffers, camera: Camera, patches: list[Patch], age: int) -> None:
    """Draw patches as they stood ``age`` frames before the current one into flat buffers; primitive ``k + 2`` is patch ``k``."""
    planes = _Planes(patches, camera, age)
    # Near ones first: the texels of a sprite are as fine as what of it is not hidden by then asks for.
    order = np.argsort(planes.near, kind="stable")
    for chosen in groups(planes.bounds, order, buffers.depth.size):
        pixel, counts = pixels(planes.bounds[chosen], camera.width)
        fragments = _intersect(buffers, pixel, counts, planes.numbers[:, chosen])
        opaque = partial(_opaque, fragments, [patches[k] for k in chosen], camera.focal)
        at, seen = reveal(buffers.depth, pixel, fragments.depth, counts, opaque)
        patch, texel = np.repeat(chosen, counts).take(seen), fragments.texel.take(seen)
        buffers.primitive[at] = patch + 2
        buffers.surface[at] = planes.surfaces.take(planes.first.take(patch) + (texel >> 8))
        buffers.tone[at] = (texel & 255) * np.float32(1 / 128)
        buffers.u[at], buffers.v[at] = fragments.u.take(seen), fragments.v.take(seen)
        buffers.facing[at] = fragments.facing.take(seen)


def _intersect(buffers: Buffers, pixel: Numbers, counts: Numbers, numbers: Floats) -> _Fragments:
    """Where the rays of pixels meet the planes of patches that have so many of them each."""
    ex, ez, plane, start, lift, width, height = (np.repeat(row, counts) for row in numbers)
    dx, dy, dz = (ray.take(pixel) for ray in buffers.rays)
    facing = ez * dx - ex * dz
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.divide(plane, facing)
        u = depth * (ex * dx + ez * dz) - start
        v = depth * dy + lift
        inside = (depth > np.float32(NEAR)) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    depth[~inside] = np.inf
    return _Fragments(depth, np.full(len(pixel), 128, np.uint16), u, v, np.abs(facing))


def _opaque(fragments: _Fragments, patches: list[Patch], focal: float, k: int, front: Numbers) -> Numbers:
    """Look fragments of patch ``k`` up in its sprite, if it has one; returns those that one does not see through."""
    patch = patches[k]
    if patch.sprite is None:
        return front
    nearest = max(float(np.minimum.reduce(fragments.depth.take(front))), NEAR)
    fine = patch.sprite.levels[0].shape[0] / patch.height * nearest / focal  # texels per pixel
    level = min(max(round(float(np.log2(max(fine, 1e-3)))), 0), len(patch.sprite.levels) - 1)
    rows, columns = patch.sprite.levels[level].shape
    row = (np.float32(rows) - fragments.v.take(front) * np.float32(rows / patch.height)).astype(np.intp)
    column = (fragments.u.take(front) * np.float32(columns / patch.width)).astype(np.intp)
    row, column = np.minimum(row, rows - 1), np.minimum(column, columns - 1)
    texel = patch.sprite.levels[level].take(row * columns + (columns - 1 - column if patch.flip else column))
    (opaque,) = (texel < 256 * len(patch.surfaces)).nonzero()
    front = front.take(opaque)
    fragments.texel[front] = texel.take(opaque)
    return front
