"""Draw solids: the rays of a vehicle's bounding rectangle are clipped against the half-spaces of its convex bodies."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .buffers import Buffers
from .camera import NEAR, Camera
from .scene import Floats, Solid

Numbers = npt.NDArray[np.intp]


def draw_solids(
    buffers: Buffers, camera: Camera, solids: list[Solid], first: int, age: int, sun: npt.NDArray[np.float64]
) -> None:
    """Draw solids as they stood ``age`` frames before the current one into flat buffers; primitives count from ``first``."""
    placed = [_Placed(solid, age) for solid in solids]
    bounds = camera.bounds(np.array([p.corners() for p in placed]).reshape(-1, 8, 3))
    pixels = np.arange(buffers.depth.size).reshape(camera.height, camera.width)
    for k, (top, bottom, left, right) in enumerate(bounds.tolist()):
        if top < bottom:
            _draw(buffers, camera, placed[k], first + k, pixels[top:bottom, left:right].reshape(-1), sun)


class _Placed:
    """A solid where it stood ``age`` frames ago."""

    def __init__(self, solid: Solid, age: int) -> None:
        self.solid = solid
        self.x, self.z = solid.x - age * solid.velocity[0], solid.z - age * solid.velocity[1]
        self.sin, self.cos = np.sin(np.deg2rad(solid.heading)), np.cos(np.deg2rad(solid.heading))

    def corners(self) -> npt.NDArray[np.float64]:
        """``(8, 3)`` in world axes."""
        length, height, width = self.solid.size
        local = np.array(
            [(a, b, c) for a in (-length / 2, length / 2) for b in (0, height) for c in (-width / 2, width / 2)]
        )
        x = self.x + local[:, 0] * self.sin + local[:, 2] * self.cos
        return np.stack([x, local[:, 1], self.z + local[:, 0] * self.cos - local[:, 2] * self.sin], 1)


def _draw(
    buffers: Buffers, camera: Camera, placed: _Placed, number: int, pixel: Numbers, sun: npt.NDArray[np.float64]
) -> None:
    solid, sin, cos = placed.solid, placed.sin, placed.cos
    dx, dy, dz = (ray.take(pixel) for ray in buffers.rays)
    directions = np.stack(
        [dx * np.float32(sin) + dz * np.float32(cos), dy, dx * np.float32(cos) - dz * np.float32(sin)]
    )
    ox, oz = camera.position[0] - placed.x, camera.position[2] - placed.z
    origin = np.array([ox * sin + oz * cos, camera.position[1], ox * cos - oz * sin], np.float32)
    light = np.array([sun[0] * sin + sun[2] * cos, sun[1], sun[0] * cos - sun[2] * sin], np.float32)
    for normals, offsets in solid.bodies:
        along = normals @ directions
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (offsets - normals @ origin)[:, None] / along
        entering = np.where(along < 0, t, np.float32(-np.inf))
        depth, leave = entering.max(0), np.where(along > 0, t, np.float32(np.inf)).min(0)
        (on,) = ((depth < leave) & (depth > np.float32(NEAR)) & (depth < buffers.depth.take(pixel))).nonzero()
        if on.size:
            face, depth = entering.take(on, 1).argmax(0), depth.take(on)
            point = origin[:, None] + depth * directions.take(on, 1)
            _paint(buffers, pixel.take(on), depth, number, solid, normals, face, point, light)


def _paint(
    buffers: Buffers, at: Numbers, depth: Floats, number: int, solid: Solid, normals: Floats, face: Numbers,
    point: Floats, light: Floats,
) -> None:  # fmt: skip
    """Look the part numbers up in the picture of the face that is seen and write the pixels."""
    length, height, width = solid.size
    # 0 side, 1 front, 2 back, 3 top (painted all over: one texel of part 0)
    kind = np.where(
        np.abs(normals[:, 2]) > 0.5, 0, np.where(normals[:, 0] > 0.3, 1, np.where(normals[:, 0] < -0.3, 2, 3))
    )
    pictures = [*solid.pictures, np.zeros((1, 1), np.uint8)]
    rows, columns = np.array([picture.shape for picture in pictures])[kind].T
    start = np.cumsum([0, *(picture.size for picture in pictures)])[kind]
    along = np.where((kind == 0)[face], point[0] + length / 2, point[2] + width / 2)
    row = np.minimum(np.maximum(((height - point[1]) * solid.scale).astype(np.intp), 0), rows[face] - 1)
    column = np.minimum(np.maximum((along * solid.scale).astype(np.intp), 0), columns[face] - 1)
    texels = np.concatenate([picture.reshape(-1) for picture in pictures])
    code = texels.take(start[face] + row * columns[face] + column)
    buffers.depth[at], buffers.primitive[at], buffers.facing[at] = depth, number, 1
    buffers.surface[at] = np.array(solid.surfaces, np.int32).take(code)
    buffers.u[at], buffers.v[at] = along, point[1]
    buffers.tone[at] = np.maximum(normals @ light, 0)[face]
