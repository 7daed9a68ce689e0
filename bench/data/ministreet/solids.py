"""Draw solids: the rays of vehicles' bounding rectangles are clipped against the half-spaces of their convex bodies."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import numpy.typing as npt

from .buffers import Buffers, Numbers, groups, pixels, reveal
from .camera import NEAR, Camera
from .scene import Floats, Ints, Solid


@dataclass(frozen=True)
class _Body:
    """One convex body of a solid.

    Attributes:
        solid: number of its solid.
        normals: of its faces, ``(K, 3)``.
        room: of every face, how far inside its half-space the camera is (``(K,)``, metres).
        tone: of every face, its share of the sun.
    """

    solid: int
    normals: Floats
    room: Floats
    tone: Floats


class _Solids:
    """Solids as they stood ``age`` frames ago, every array over the solids, float32 where nothing else is said."""

    def __init__(self, solids: list[Solid], camera: Camera, age: int, sun: npt.NDArray[np.float64]) -> None:
        rows = [(s.x, s.z, s.heading, s.scale, *s.size, *s.velocity) for s in solids]
        x, z, heading, scale, length, height, width, *velocity = np.array(rows).reshape(-1, 9).T
        x, z = x - age * velocity[0], z - age * velocity[1]
        sin, cos = np.sin(np.deg2rad(heading)), np.cos(np.deg2rad(heading))
        # Back or front, bottom or top, left or right; then axes last.
        a, b, c = np.array(list(product((-0.5, 0.5), (0, 1), (-0.5, 0.5)))).T
        a, b, c = a * length[:, None], b * height[:, None], c * width[:, None]
        along, across = sin[:, None], cos[:, None]
        corners = [x[:, None] + a * along + c * across, b, z[:, None] + a * across - c * along]
        self.bounds = camera.bounds(np.stack(corners, 2))
        ox, oz = camera.position[0] - x, camera.position[2] - z
        self.origin = np.array([ox * sin + oz * cos, camera.position[1] + 0 * x, ox * cos - oz * sin], np.float32)
        light = np.array([sun[0] * sin + sun[2] * cos, sun[1] + 0 * x, sun[0] * cos - sun[2] * sin], np.float32)
        self.sin, self.cos, self.scale = (a.astype(np.float32) for a in (sin, cos, scale))
        self.length, self.height, self.width = (a.astype(np.float32) for a in (length, height, width))
        self.bodies = [
            _Body(k, normals, offsets - normals @ self.origin[:, k].copy(), np.maximum(normals @ light[:, k].copy(), 0))
            for k, solid in enumerate(solids)
            for normals, offsets in solid.bodies
        ]
        # Side, front, back and top of every solid; a top is painted all over: one texel of part 0.
        views = [view for solid in solids for view in (*solid.pictures, np.zeros((1, 1), np.uint8))]
        self.texels = np.concatenate([view.reshape(-1) for view in views]) if views else np.zeros(0, np.uint8)
        self.rows, self.columns = np.array([view.shape for view in views], np.intp).reshape(-1, 2).T
        self.starts = np.cumsum([0, *(view.size for view in views)])
        self.parts = np.array([solid.surfaces for solid in solids], np.int32)

    def look_up(self, solid: Numbers, view: Numbers, point: Floats) -> tuple[Floats, Ints]:
        """Distance along a side or across an end, metres, and surface at points ``(3, N)`` of views (0 to 3) of solids."""
        along = np.where(view == 0, point[0] + (self.length / 2).take(solid), point[2] + (self.width / 2).take(solid))
        scale, view = self.scale.take(solid), 4 * solid + view
        row = ((self.height.take(solid) - point[1]) * scale).astype(np.intp)
        column, columns = (along * scale).astype(np.intp), self.columns.take(view)
        row = np.minimum(np.maximum(row, 0), self.rows.take(view) - 1)
        column = np.minimum(np.maximum(column, 0), columns - 1)
        return along, self.parts[solid, self.texels.take(self.starts.take(view) + row * columns + column)]


def draw_solids(
    buffers: Buffers, camera: Camera, solids: list[Solid], first: int, age: int, sun: npt.NDArray[np.float64]
) -> None:
    """Draw solids as they stood ``age`` frames before the current one into flat buffers; primitives count from ``first``."""
    placed = _Solids(solids, camera, age, sun)
    bounds = placed.bounds[[body.solid for body in placed.bodies]]
    for chosen in groups(bounds, np.arange(len(bounds)), buffers.depth.size):
        _draw(buffers, camera, placed, [placed.bodies[k] for k in chosen], bounds[chosen], first)


def _draw(buffers: Buffers, camera: Camera, placed: _Solids, bodies: list[_Body], bounds: Numbers, first: int) -> None:
    """Draw bodies."""
    pixel, counts = pixels(bounds, camera.width)
    owner = np.repeat([body.solid for body in bodies], counts)
    dx, dy, dz = (ray.take(pixel) for ray in buffers.rays)
    sin, cos = placed.sin.take(owner), placed.cos.take(owner)
    directions = np.stack([dx * sin + dz * cos, dy, dx * cos - dz * sin])
    # By face and fragment; what a body has no faces for stays 0, which neither lets in nor out.
    faces, ends = max(len(body.normals) for body in bodies), np.cumsum(counts)
    along, room = np.zeros((faces, len(pixel)), np.float32), np.zeros((faces, len(bodies)), np.float32)
    normals, tone = np.zeros((len(bodies), faces, 3), np.float32), np.zeros((len(bodies), faces), np.float32)
    for k, body in enumerate(bodies):
        part = slice(ends[k] - counts[k], ends[k])
        along[: len(body.normals), part] = body.normals @ directions[:, part]
        room[: len(body.normals), k] = body.room
        normals[k, : len(body.normals)], tone[k, : len(body.normals)] = body.normals, body.tone
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.repeat(room, counts, 1) / along
    entering = np.where(along < 0, t, np.float32(-np.inf))
    depth, leave = entering.max(0), np.where(along > 0, t, np.float32(np.inf)).min(0)
    depth[~((depth < leave) & (depth > np.float32(NEAR)))] = np.inf
    at, seen = reveal(buffers.depth, pixel, depth, counts)
    solid = owner.take(seen)
    face = np.repeat(faces * np.arange(len(bodies)), counts).take(seen) + entering.take(seen, 1).argmax(0)
    point = placed.origin.take(solid, 1) + depth.take(seen) * directions.take(seen, 1)
    ahead, aside = normals[..., 0].reshape(-1), normals[..., 2].reshape(-1)
    view = np.where(np.abs(aside) > 0.5, 0, np.where(ahead > 0.3, 1, np.where(ahead < -0.3, 2, 3)))
    buffers.primitive[at], buffers.facing[at], buffers.tone[at] = first + solid, 1, tone.take(face)
    buffers.u[at], buffers.surface[at] = placed.look_up(solid, view.take(face), point)
    buffers.v[at] = point[1]
