"""Visibility: the z-buffer of one frame and what is seen at each of its pixels."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .camera import NEAR, Camera
from .scene import GROUND, SKY, Floats, Ground, Ints, Patch, Solid, World

FAR = 400.0
"""The ground plane ends in the haze at this depth, metres."""


@dataclass
class Buffers:
    """What one frame sees, every array ``(H, W)``.

    Attributes:
        rays: world direction of a pixel; depth times ray is the offset from the camera.
        depth: along the optical axis, metres; inf for the sky.
        primitive: 0 sky, 1 ground, then patches and solids in the world's order.
        surface: number of the surface.
        u, v: coordinates on the surface, metres.
        facing: cosine-like factor; the long side of a pixel's footprint is depth / (focal * facing).
        tone: brightness factor of a sprite's texel; for solids the lit share of a face.
    """

    rays: tuple[Floats, Floats, Floats]
    depth: Floats
    primitive: Ints
    surface: Ints
    u: Floats
    v: Floats
    facing: Floats
    tone: Floats

    def flat(self) -> Buffers:
        """The same buffers with every array one-dimensional (views)."""
        x, y, z = (r.reshape(-1) for r in self.rays)
        depth, u, v, facing, tone = (a.reshape(-1) for a in (self.depth, self.u, self.v, self.facing, self.tone))
        return Buffers((x, y, z), depth, self.primitive.reshape(-1), self.surface.reshape(-1), u, v, facing, tone)

    def put(
        self, where: tuple[slice, slice], hit: npt.NDArray[np.bool_], depth: Floats, primitive: int,
        surface: Ints | int, u: Floats, v: Floats, facing: Floats | float, tone: Floats | float,
    ) -> None:  # fmt: skip
        """Write the pixels of a rectangle where ``hit``."""
        for target, value in (
            (self.depth, depth), (self.surface, surface), (self.u, u), (self.v, v), (self.facing, facing),
            (self.tone, tone), (self.primitive, primitive),
        ):  # fmt: skip
            np.copyto(target[where], value, where=hit, casting="same_kind")


def render_buffers(world: World, camera: Camera, age: int) -> Buffers:
    """Draw the world as it was ``age`` frames before the current one."""
    sys.audit("bench.render")  # labels come of it
    rays = camera.rays()
    shape = rays[0].shape
    height = np.float32(camera.position[1])
    down = rays[1] < -height / np.float32(FAR)
    slope = np.where(down, -rays[1], np.float32(1))
    depth = np.where(down, height / slope, np.float32(np.inf))
    reach = np.where(down, depth, np.float32(0))
    buffers = Buffers(
        rays, depth, np.where(down, np.int32(GROUND), np.int32(SKY)), np.zeros(shape, np.int32),
        np.float32(camera.position[0]) + reach * rays[0], np.float32(camera.position[2]) + reach * rays[2],
        slope, np.ones(shape, np.float32),
    )  # fmt: skip
    outlines = np.array([_outline(patch, age) for patch in world.patches]).reshape(-1, 4, 3)
    rectangles = camera.rectangles(outlines)
    # Near ones first: most of what is hidden then costs a depth test only.
    for k in np.argsort(outlines[:, 0, 2], kind="stable"):
        where = rectangles[k]
        if where is not None:
            draw_patch(buffers, camera, where, world.patches[k], int(k) + 2, age)
    for number, solid in enumerate(world.solids, start=2 + len(world.patches)):
        draw_solid(buffers, camera, solid, number, age, world.light.sun_direction)
    flat = buffers.flat()
    ground = np.flatnonzero(flat.primitive == GROUND)
    flat.surface[ground] = ground_surface(world.ground, flat.u[ground], flat.v[ground])
    return buffers


def ground_surface(ground: Ground, x: Floats, z: Floats) -> Ints:
    """Surface number of points of the ground plane."""
    strip = np.zeros(x.shape, np.int32)
    for edge in ground.edges:
        strip += x > np.float32(edge)
    surface = np.take(np.array(ground.strips, np.int32), strip)
    if ground.crossing is not None:
        surface[(z > np.float32(ground.crossing[0])) & (z < np.float32(ground.crossing[1]))] = ground.asphalt
    return surface


def _outline(patch: Patch, age: int) -> list[tuple[float, float, float]]:
    """Corners of a patch ``age`` frames ago: bottom start, bottom end, top start, top end."""
    x0, z0 = patch.x - age * patch.velocity[0], patch.z - age * patch.velocity[1]
    yaw, top = np.deg2rad(patch.yaw), patch.y + patch.height
    x1, z1 = x0 + patch.width * float(np.cos(yaw)), z0 + patch.width * float(np.sin(yaw))
    return [(x0, patch.y, z0), (x1, patch.y, z1), (x0, top, z0), (x1, top, z1)]


def draw_patch(
    buffers: Buffers, camera: Camera, where: tuple[slice, slice], patch: Patch, number: int, age: int
) -> None:
    """Intersect the rays of the patch's bounding rectangle with its plane."""
    x0, z0 = patch.x - age * patch.velocity[0], patch.z - age * patch.velocity[1]
    ex, ez = np.cos(np.deg2rad(patch.yaw)), np.sin(np.deg2rad(patch.yaw))
    dx, dy, dz = (r[where] for r in buffers.rays)
    ox, oz = x0 - camera.position[0], z0 - camera.position[2]
    fx, fz = np.float32(ex), np.float32(ez)
    facing = fz * dx - fx * dz
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = np.float32(ez * ox - ex * oz) / facing
        hit = (depth > np.float32(NEAR)) & (depth < buffers.depth[where])
        if not hit.any():
            return
        u = depth * (fx * dx + fz * dz) - np.float32(ex * ox + ez * oz)
        v = depth * dy + np.float32(camera.position[1] - patch.y)
        hit &= (u >= 0) & (u < np.float32(patch.width)) & (v >= 0) & (v < np.float32(patch.height))
    if not hit.any():
        return
    surface: Ints | int = patch.surfaces[0]
    tone: Floats | float = 1.0
    if patch.sprite is not None:
        nearest = max(float(depth[hit].min()), NEAR)
        texels = patch.sprite.codes[0].shape[0] / patch.height * nearest / camera.focal
        level = int(np.clip(round(np.log2(max(texels, 1e-3))), 0, len(patch.sprite.codes) - 1))
        codes, tones = patch.sprite.codes[level], patch.sprite.tones[level]
        rows, columns = codes.shape
        with np.errstate(invalid="ignore"):
            row = np.where(hit, np.float32(rows) - v * np.float32(rows / patch.height), 0).astype(np.int32)
            column = np.where(hit, u * np.float32(columns / patch.width), 0).astype(np.int32)
        row, column = np.minimum(row, rows - 1), np.minimum(column, columns - 1)
        index = row * columns + (columns - 1 - column if patch.flip else column)
        code = np.take(codes.ravel(), index)
        hit &= code < len(patch.surfaces)
        surface = np.take(np.array(patch.surfaces, np.int32), code, mode="clip")
        tone = np.take(tones.ravel(), index) * np.float32(1 / 128)
    buffers.put(where, hit, depth, number, surface, u, v, np.abs(facing), tone)


def draw_solid(
    buffers: Buffers, camera: Camera, solid: Solid, number: int, age: int, sun: npt.NDArray[np.float64]
) -> None:
    """Clip the rays of the solid's bounding rectangle against its convex bodies."""
    length, height, width = solid.size
    x, z = solid.x - age * solid.velocity[0], solid.z - age * solid.velocity[1]
    sin, cos = np.sin(np.deg2rad(solid.heading)), np.cos(np.deg2rad(solid.heading))
    local = np.array(
        [(a, b, c) for a in (-length / 2, length / 2) for b in (0, height) for c in (-width / 2, width / 2)]
    )
    corners = np.stack(
        [x + local[:, 0] * sin + local[:, 2] * cos, local[:, 1], z + local[:, 0] * cos - local[:, 2] * sin], 1
    )
    where = camera.rectangles(corners[None])[0]
    if where is None:
        return
    dx, dy, dz = (r[where] for r in buffers.rays)
    directions = np.stack(
        [dx * np.float32(sin) + dz * np.float32(cos), dy, dx * np.float32(cos) - dz * np.float32(sin)], -1
    )
    ox, oz = camera.position[0] - x, camera.position[2] - z
    origin = np.array([ox * sin + oz * cos, camera.position[1], ox * cos - oz * sin], np.float32)
    light = np.array([sun[0] * sin + sun[2] * cos, sun[1], sun[0] * cos - sun[2] * sin], np.float32)
    for normals, offsets in solid.bodies:
        along = directions @ normals.T
        room = offsets - normals @ origin
        with np.errstate(divide="ignore", invalid="ignore"):
            t = room / along
        entering = np.where(along < 0, t, -np.inf)
        face = entering.argmax(-1)
        depth = np.take_along_axis(entering, face[..., None], -1)[..., 0].astype(np.float32)
        leave = np.where(along > 0, t, np.inf).min(-1)
        hit = (depth < leave) & (depth > np.float32(NEAR)) & (depth < buffers.depth[where])
        if not hit.any():
            continue
        point = origin + np.where(hit, depth, 0)[..., None] * directions
        _paint(buffers, where, hit, depth, number, solid, normals, face, point, light)


def _paint(
    buffers: Buffers, where: tuple[slice, slice], hit: npt.NDArray[np.bool_], depth: Floats, number: int, solid: Solid,
    normals: Floats, face: npt.NDArray[np.intp], point: Floats, light: npt.NDArray[np.float32],
) -> None:  # fmt: skip
    """Look the part numbers up in the picture of the face that is seen and write the pixels."""
    length, height, width = solid.size
    # 0 side, 1 front, 2 back, 3 top (painted all over)
    kind = np.where(
        np.abs(normals[:, 2]) > 0.5, 0, np.where(normals[:, 0] > 0.3, 1, np.where(normals[:, 0] < -0.3, 2, 3))
    )
    seen = kind[face]
    along = np.where(seen == 0, point[..., 0] + length / 2, point[..., 2] + width / 2)
    row = ((height - point[..., 1]) * solid.scale).astype(np.int32)
    column = (along * solid.scale).astype(np.int32)
    code = np.zeros(hit.shape, np.uint8)
    for k, picture in enumerate(solid.pictures):
        on = hit & (seen == k)
        if on.any():
            i = np.minimum(np.maximum(row[on], 0), picture.shape[0] - 1)
            j = np.minimum(np.maximum(column[on], 0), picture.shape[1] - 1)
            code[on] = picture[i, j]
    surface = np.take(np.array(solid.surfaces, np.int32), code)
    tone = np.maximum(normals @ light, 0)[face]
    buffers.put(where, hit, depth, number, surface, along.astype(np.float32), point[..., 1], 1.0, tone)
