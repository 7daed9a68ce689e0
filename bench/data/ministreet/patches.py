"""Draw patches: the rays of all their bounding rectangles meet all their planes at once, then patch after patch hides others."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .buffers import Buffers
from .camera import NEAR, Camera
from .scene import Floats, Ints, Patch

Numbers = npt.NDArray[np.intp]


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
        x, z, top = x - age * velocity[0], z - age * velocity[1], y + height
        ex, ez = np.cos(np.deg2rad(yaw)), np.sin(np.deg2rad(yaw))
        x1, z1 = x + width * ex, z + width * ez
        corners = [np.stack(corner, 1) for corner in ((x, y, z), (x1, y, z1), (x, top, z), (x1, top, z1))]
        ox, oz = x - camera.position[0], z - camera.position[2]
        self.near = z
        self.bounds = camera.bounds(np.stack(corners, 1))
        self.numbers = np.array(
            [ex, ez, ez * ox - ex * oz, ex * ox + ez * oz, camera.position[1] - y, width, height], np.float32
        )


@dataclass
class _Fragments:
    """Pixels of rectangles, patch after patch, and what the patch would show there; depth is inf where the ray misses it."""

    pixel: Numbers
    depth: Floats
    primitive: Numbers
    surface: Ints
    u: Floats
    v: Floats
    facing: Floats
    tone: Floats


def draw_patches(buffers: Buffers, camera: Camera, patches: list[Patch], age: int) -> None:
    """Draw patches as they stood ``age`` frames before the current one into flat buffers; primitive ``k + 2`` is patch ``k``."""
    planes = _Planes(patches, camera, age)
    top, bottom, left, right = planes.bounds.T
    sizes = (bottom - top) * (right - left)
    # Near ones first: the texels of a sprite are as fine as what of it is not hidden by then asks for.
    order = np.argsort(planes.near, kind="stable")
    order = order[sizes[order] > 0]
    # As many at once as fill a frame once or twice: few calls, bounded memory.
    group = np.cumsum(sizes[order]) // buffers.depth.size
    for number in np.unique(group):
        chosen = order[group == number]
        with np.errstate(divide="ignore", invalid="ignore"):
            fragments = _intersect(buffers, planes, patches, chosen, camera.width)
        _show(buffers, fragments, patches, chosen, sizes[chosen], camera.focal)


def _intersect(buffers: Buffers, planes: _Planes, patches: list[Patch], chosen: Numbers, columns: int) -> _Fragments:
    """Where the rays of the chosen patches' rectangles meet their planes."""
    top, bottom, left, right = planes.bounds[chosen].T
    rows, widths = bottom - top, np.repeat(right - left, bottom - top)  # widths of all rows of all rectangles
    first = (np.arange(len(widths)) + np.repeat(top - np.cumsum(rows) + rows, rows)) * columns + np.repeat(left, rows)
    pixel = np.arange(widths.sum()) + np.repeat(first - np.cumsum(widths) + widths, widths)
    counts = rows * (right - left)
    ex, ez, plane, start, lift, width, height = (np.repeat(row, counts) for row in planes.numbers[:, chosen])
    dx, dy, dz = (ray.take(pixel) for ray in buffers.rays)
    facing = ez * dx - ex * dz
    depth = plane / facing
    u = depth * (ex * dx + ez * dz) - start
    v = depth * dy + lift
    inside = (depth > np.float32(NEAR)) & (u >= 0) & (u < width) & (v >= 0) & (v < height)
    depth[~inside] = np.inf
    surface = np.repeat(np.array([patches[k].surfaces[0] for k in chosen], np.int32), counts)
    return _Fragments(
        pixel, depth, np.repeat(chosen + 2, counts), surface, u, v, np.abs(facing), np.ones(len(pixel), np.float32)
    )


def _show(
    buffers: Buffers, fragments: _Fragments, patches: list[Patch], chosen: Numbers, counts: Numbers, focal: float
) -> None:
    """Write what is nearer than all before it, the chosen patches in their order."""
    winner, ends = np.full(buffers.depth.size, -1), np.cumsum(counts)
    for k, start, end in zip(chosen.tolist(), (ends - counts).tolist(), ends.tolist(), strict=True):
        (front,) = (fragments.depth[start:end] < buffers.depth.take(fragments.pixel[start:end])).nonzero()
        front += start
        if front.size and patches[k].sprite is not None:
            front = _opaque(fragments, front, patches[k], focal)
        at = fragments.pixel.take(front)
        buffers.depth[at] = fragments.depth.take(front)
        winner[at] = front
    (at,) = (winner >= 0).nonzero()
    seen = winner.take(at)
    buffers.primitive[at], buffers.surface[at] = fragments.primitive.take(seen), fragments.surface.take(seen)
    buffers.u[at], buffers.v[at] = fragments.u.take(seen), fragments.v.take(seen)
    buffers.facing[at], buffers.tone[at] = fragments.facing.take(seen), fragments.tone.take(seen)


def _opaque(fragments: _Fragments, front: Numbers, patch: Patch, focal: float) -> Numbers:
    """Look a sprite's fragments up in its picture; returns those that one does not see through."""
    assert patch.sprite is not None
    nearest = max(float(fragments.depth.take(front).min()), NEAR)
    texels = patch.sprite.codes[0].shape[0] / patch.height * nearest / focal
    level = int(np.clip(round(np.log2(max(texels, 1e-3))), 0, len(patch.sprite.codes) - 1))
    codes, tones = patch.sprite.codes[level], patch.sprite.tones[level]
    rows, columns = codes.shape
    row = (np.float32(rows) - fragments.v.take(front) * np.float32(rows / patch.height)).astype(np.intp)
    column = (fragments.u.take(front) * np.float32(columns / patch.width)).astype(np.intp)
    row, column = np.minimum(row, rows - 1), np.minimum(column, columns - 1)
    texel = row * columns + (columns - 1 - column if patch.flip else column)
    code = codes.take(texel)
    (opaque,) = (code < len(patch.surfaces)).nonzero()
    front = front.take(opaque)
    fragments.surface[front] = np.array(patch.surfaces, np.int32).take(code.take(opaque))
    fragments.tone[front] = tones.take(texel.take(opaque)) * np.float32(1 / 128)
    return front
