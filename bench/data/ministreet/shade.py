"""Colour: texture, windows and road paint, sun, shadows, sky and haze."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from .camera import Camera
from .night import WINDOW, lamplight
from .raster import Buffers
from .scene import GROUND, SKY, Floats, Ground, Patch, Solid, SurfaceTable, World
from .textures import TILES, sample

SHADOW_CELL = 0.2
"""Side of a cell of the ground's shadow map, metres."""
SHADOW_X, SHADOW_Z = (-28.0, 28.0), (-8.0, 72.0)
"""Extent of the shadow map, metres."""

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Tables:
    """What shading looks up by primitive number: sun share, its height limit, contact shade, facade parameters."""

    sun: Floats
    shadow: Floats
    contact: Floats
    facade: npt.NDArray[np.bool_]
    solid: npt.NDArray[np.bool_]
    shift: Floats
    windows: Floats
    pattern: npt.NDArray[np.int32]
    parts: npt.NDArray[np.int32]


def tables(world: World) -> Tables:
    """Collect the per-primitive numbers of a world."""
    n = 2 + len(world.patches) + len(world.solids)
    out = Tables(
        np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, bool), np.zeros(n, bool),
        np.zeros(n, np.float32), np.ones((5, n), np.float32), np.zeros(n, np.int32), np.zeros((4, n), np.int32),
    )  # fmt: skip
    sun = world.light.sun_direction
    out.sun[GROUND] = sun[1]
    for k, p in enumerate(world.patches, start=2):
        yaw = np.deg2rad(p.yaw)
        # The side that is seen faces the camera, which looks along z; sprites are round in truth, so they take half.
        normal = np.array([np.sin(yaw), 0.0, -np.cos(yaw)])
        normal *= -1.0 if normal @ np.array([p.x, 0.0, p.z]) > 0 else 1.0
        lit = max(0.0, float(normal @ sun))
        out.sun[k] = 0.35 + 0.4 * lit if p.sprite is not None else lit
        out.shadow[k] = p.shadow
        out.contact[k] = 0.0 if p.thin or p.y > 0.05 else 0.35
        out.shift[k] = 0.37 * k
        if p.facade is not None:
            f = p.facade
            out.facade[k] = True
            out.windows[:, k] = (f.floor, f.cell, f.half_width, f.half_height, p.height)
            out.pattern[k] = f.pattern
            out.parts[:, k] = p.surfaces
    for k, _ in enumerate(world.solids, start=2 + len(world.patches)):
        out.solid[k] = True
        out.contact[k] = 0.2
        out.shift[k] = 0.37 * k
    return out


def shade(
    world: World, surfaces: SurfaceTable, table: Tables, tiles: Floats, buffers: Buffers, camera: Camera, shadows: Bytes
) -> Floats:  # fmt: skip
    """Light that reaches the camera, ``(H, W, 3)`` in 0..1 (lamps and sun-lit walls may exceed 1)."""
    light, b = world.light, buffers.flat()  # flat arrays and take(): ten times as fast as fancy indexing
    sky = np.flatnonzero(b.primitive == SKY)
    depth = b.depth.copy()
    depth[sky] = 1
    foot = depth * np.float32(1 / camera.focal)
    stretch = foot / np.maximum(b.facing, np.float32(0.02))
    factor = _texture(surfaces, table, tiles, b, np.sqrt(foot * stretch))
    rgb = surfaces.base.take(b.surface, 0)
    rgb *= factor[:, None]
    ground = np.flatnonzero(b.primitive == GROUND)
    wall = np.flatnonzero(table.facade.take(b.primitive))
    rgb[wall], shining = _windows(rgb, surfaces, table, b, wall, foot, stretch, factor, light.windows_lit)
    rgb[ground] = _road_paint(rgb, surfaces, world.ground, b, ground, foot, stretch, factor)

    solid = table.solid.take(b.primitive)
    lit = np.where(solid, b.tone, table.sun.take(b.primitive))
    lit[ground] *= 1 - _shadow_at(shadows, b.u[ground], b.v[ground]) * np.float32(1 / 255)
    height = b.v.copy()
    height[ground] = 9
    lit *= height > table.shadow.take(b.primitive)
    tone = np.where(solid, np.float32(1), b.tone)
    tone *= 1 - table.contact.take(b.primitive) * np.exp(height * np.float32(-1.6))
    energy = lit[:, None] * light.sun
    energy += light.ambient
    if len(light.lamps) or light.headlights > 0:
        energy += lamplight(light, b, camera)
    energy *= tone[:, None]
    glowing = np.flatnonzero(surfaces.glow.take(b.surface))
    energy[glowing] = 2.5 if len(light.lamps) else 1  # by night lamps are brighter than the picture can show
    rgb *= energy
    if light.windows_lit > 0:
        rgb[wall] += shining[:, None] * WINDOW

    rgb -= light.haze_colour
    rgb *= np.exp(depth * np.float32(-light.haze))[:, None]
    rgb += light.haze_colour
    if sky.size:
        rgb[sky] = _sky(world, tiles, [r[sky] for r in b.rays])
    return rgb.reshape(*buffers.depth.shape, 3)


def _texture(surfaces: SurfaceTable, table: Tables, tiles: Floats, b: Buffers, foot: Floats) -> Floats:
    """Brightness factor of the fine and the coarse texture at every pixel, mean 1."""
    frequency = surfaces.frequency.take(b.surface)
    shift = table.shift.take(b.primitive)
    u, v = b.u * frequency + shift, b.v * frequency
    factor = surfaces.detail.take(b.surface) * sample(tiles, surfaces.tile.take(b.surface), u, v, foot * frequency)
    coarse = np.float32(0.11)
    stains = np.full(b.surface.shape, TILES.index("stains"), np.int32)
    u, v = b.u * coarse + shift, b.v * coarse
    factor += surfaces.stain.take(b.surface) * sample(tiles, stains, u, v, foot * coarse)
    factor += 1
    return np.asarray(np.maximum(factor, np.float32(0.1), out=factor), np.float32)


def _soft(margin: Floats, foot: Floats) -> Floats:
    """Share of a pixel of size ``foot`` that lies inside an edge ``margin`` away (positive inside), 0..1."""
    share = margin / foot
    share += np.float32(0.5)
    return np.asarray(np.minimum(np.maximum(share, 0, out=share), 1, out=share), np.float32)


def _windows(
    rgb: Floats, surfaces: SurfaceTable, table: Tables, b: Buffers, wall: npt.NDArray[np.intp], foot: Floats,
    stretch: Floats, factor: Floats, lit: float,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Blend windows, shop fronts and the roof's edge into walls; edges are as soft as a pixel is large.

    Returns:
        Colours ``(N, 3)`` and, ``(N,)``, how brightly a window shines at the pixel: a share ``lit`` of the windows does.
    """
    primitive, u, v = b.primitive.take(wall), b.u.take(wall), b.v.take(wall)
    foot_v, foot_u, factor = foot.take(wall), stretch.take(wall), factor.take(wall)
    floor, cell, half_w, half_h, top = (column.take(primitive) for column in table.windows)
    row, column = np.floor(v / floor), np.floor(u / cell)
    du, dv = np.abs(u - (column + np.float32(0.5)) * cell), np.abs(v - (row + np.float32(0.52)) * floor)
    shop = row == 0
    half_w = np.where(shop, cell * np.float32(0.4), half_w)
    half_h = np.where(shop, floor * np.float32(0.38), half_h)
    inside = _soft(half_w - du, foot_u) * _soft(half_h - dv, foot_v)
    rim = np.float32(0.12)
    frame = _soft(half_w + rim - du, foot_u) * _soft(half_h + rim - dv, foot_v)
    frame *= np.where(shop, np.float32(1), np.float32(0.6))
    mixed = row.astype(np.int32) * 7349 ^ column.astype(np.int32) * 9151 ^ table.pattern.take(primitive)
    lively = ((mixed * 40503 >> 7) & 255).astype(np.float32) * np.float32(0.7 / 255)
    lively += np.float32(0.6)

    def blend(under: Floats, weight: Floats, part: int, gain: Floats) -> Floats:
        over = surfaces.base.take(table.parts[part].take(primitive), 0)
        over *= gain[:, None]
        over -= under
        over *= weight[:, None]
        return np.asarray(np.add(under, over, out=over))

    out = blend(rgb.take(wall, 0), frame, 2, factor)
    out = blend(out, inside, 1, lively)
    shining = inside * lively * ((mixed * 30011 >> 9) & 255 < round(256 * lit))
    return blend(out, _soft(v - (top - np.float32(0.7)), foot_v), 3, factor), np.asarray(shining, np.float32)


def _road_paint(
    rgb: Floats, surfaces: SurfaceTable, ground: Ground, b: Buffers, on: npt.NDArray[np.intp], foot: Floats,
    stretch: Floats, factor: Floats,
) -> Floats:  # fmt: skip
    """Blend lines, crosswalk stripes and kerb stones into the ground."""
    x, z, factor = b.u.take(on), b.v.take(on), factor.take(on)
    foot_x, foot_z = np.maximum(foot.take(on), np.float32(1e-3)), np.maximum(stretch.take(on), np.float32(1e-3))

    def band(d: Floats, half: float, f: Floats) -> Floats:
        # The paint of a band that is narrower than a pixel fades instead of flickering.
        return np.asarray(np.minimum(_soft(np.float32(half) - np.abs(d), f), np.float32(2 * half) / f), np.float32)

    paint = np.zeros(x.shape, np.float32)
    dashes = band(np.mod(z, np.float32(6)) - 3, 1.5, foot_z)
    for line, dashed in ground.lines:
        w = band(x - np.float32(line), 0.08, foot_x)
        paint = np.maximum(paint, w * dashes if dashed else w)
    left, right = ground.road
    kerb = band(x - np.float32(left - 0.12), 0.12, foot_x)
    kerb += band(x - np.float32(right + 0.12), 0.12, foot_x)
    if ground.crossing is not None:
        open_road = (z < np.float32(ground.crossing[0])) | (z > np.float32(ground.crossing[1]))
        paint *= open_road
        kerb *= open_road
    stripes = band(np.mod(x, np.float32(1.0)) - np.float32(0.5), 0.25, foot_x)
    stripes *= (x > np.float32(left + 0.2)) & (x < np.float32(right - 0.2))
    for near, far in ground.crosswalks:
        paint = np.maximum(paint, stripes * band(z - np.float32((near + far) / 2), (far - near) / 2, foot_z))
    under = rgb.take(on, 0)
    for weight, colour in ((paint, surfaces.base[ground.marking]), (kerb, surfaces.base[ground.kerb])):
        under += weight[:, None] * (factor[:, None] * colour - under)
    return np.asarray(under, np.float32)


def _sky(world: World, tiles: Floats, rays: list[Floats]) -> Floats:
    """Gradient from horizon to zenith, and clouds on a plane high above."""
    light = world.light
    x, y, z = rays
    up = np.maximum(y, 0) / np.sqrt(x * x + y * y + z * z)
    rgb = light.horizon + np.minimum(1, up * np.float32(1.8))[:, None] * (light.zenith - light.horizon)
    high = 1 / (up + np.float32(0.12))
    u, v = x * high * np.float32(0.22) + light.cloud_shift[0], z * high * np.float32(0.1) + light.cloud_shift[1]
    which = np.full(x.shape, TILES.index("stains"), np.int32)
    noise = sample(tiles, which, u.astype(np.float32), v.astype(np.float32), np.full(x.shape, 0.01, np.float32))
    cloud = np.clip((noise + np.float32(4 * light.cover - 2)) * np.float32(0.7), 0, 1)[:, None]
    rgb = rgb + cloud * (light.cloud - rgb)
    veil = np.exp(-up * np.float32(9.0 if light.haze > 0.004 else 20.0))[:, None]
    rgb = rgb + veil * np.float32(0.7) * (light.haze_colour - rgb)
    if light.fog:  # as if the sky were 60 metres away
        rgb = rgb + np.float32(1 - np.exp(-60 * light.haze)) * (light.haze_colour - rgb)
    return np.asarray(rgb, np.float32)


def shadow_map(world: World, age: int, still: Bytes | None = None) -> Bytes:
    """Shadow on the ground, 255 = no direct sun, cells of :data:`SHADOW_CELL`.

    Without ``still``: the shadows of everything that stands; with it: that map plus what moves, at ``age``.
    """
    rows, columns = (round((r[1] - r[0]) / SHADOW_CELL) for r in (SHADOW_Z, SHADOW_X))
    canvas = np.zeros((rows, columns), np.uint8) if still is None else still.copy()
    sun = world.light.sun_direction
    reach = -sun[[0, 2]] / max(float(sun[1]), 0.2)
    things: list[Patch | Solid] = [*world.patches, *world.solids]
    for thing in things:
        if (thing.velocity != (0.0, 0.0)) != (still is not None) or (isinstance(thing, Patch) and thing.thin):
            continue
        feet, height = _footprint(thing, age)
        points = np.concatenate([feet, feet + reach * height])
        cells = np.round((points - (SHADOW_X[0], SHADOW_Z[0])) / SHADOW_CELL).astype(np.int32)
        cv2.fillConvexPoly(canvas, cv2.convexHull(cells), 255)
    if still is None:
        return canvas
    sigma = world.light.softness / SHADOW_CELL
    return np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma) if sigma > 0.3 else canvas, np.uint8)


def _footprint(thing: Patch | Solid, age: int) -> tuple[npt.NDArray[np.float64], float]:
    """Outline on the ground ``(N, 2)`` and height of what casts a shadow."""
    x, z = thing.x - age * thing.velocity[0], thing.z - age * thing.velocity[1]
    if isinstance(thing, Patch):
        yaw = np.deg2rad(thing.yaw)
        edge = thing.width * np.array([np.cos(yaw), np.sin(yaw)])
        start = np.array([x, z])
        if thing.sprite is None:
            return np.array([start, start + edge]), thing.height
        inner = np.array([start + 0.2 * edge, start + 0.8 * edge])
        return inner, thing.height * 0.9
    a = np.deg2rad(thing.heading)
    ahead, aside = np.array([np.sin(a), np.cos(a)]), np.array([np.cos(a), -np.sin(a)])
    half = [(i * thing.size[0] / 2) * ahead + (j * thing.size[2] / 2) * aside for i in (-1, 1) for j in (-1, 1)]
    return np.array([x, z]) + np.array(half), thing.size[1] * 0.9


def _shadow_at(shadows: Bytes, x: Floats, z: Floats) -> Floats:
    """Shadow (0..255) at ground points; none outside the map."""
    u = np.clip((x - np.float32(SHADOW_X[0])) * np.float32(1 / SHADOW_CELL), 0, shadows.shape[1] - 1).astype(np.int32)
    v = np.clip((z - np.float32(SHADOW_Z[0])) * np.float32(1 / SHADOW_CELL), 0, shadows.shape[0] - 1).astype(np.int32)
    return np.asarray(shadows[v, u], np.float32)
