"""Colour: texture, windows and road paint, sun, shadows, sky and haze."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from .buffers import Buffers
from .camera import Camera
from .night import WINDOW, lamplight
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
    first, n = 2 + len(world.patches), 2 + len(world.patches) + len(world.solids)
    out = Tables(
        np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, np.float32), np.zeros(n, bool), np.zeros(n, bool),
        np.zeros(n, np.float32), np.ones((5, n), np.float32), np.zeros(n, np.int32), np.zeros((4, n), np.int32),
    )  # fmt: skip
    sun = world.light.sun_direction
    out.sun[GROUND] = sun[1]
    places = np.array([(p.x, 0.0, p.z, p.yaw) for p in world.patches]).reshape(-1, 4)
    yaw, zero = np.deg2rad(places[:, 3]), np.zeros(len(places))
    normals = np.stack([np.sin(yaw), zero, -np.cos(yaw)], 1)
    for k, (p, normal, position) in enumerate(zip(world.patches, normals, places[:, :3], strict=True), start=2):
        # The side that is seen faces the camera, which looks along z; sprites are round in truth, so they take half.
        lit = max(0.0, -float(normal @ sun) if normal @ position > 0 else float(normal @ sun))
        out.sun[k] = 0.35 + 0.4 * lit if p.sprite is not None else lit
        out.shadow[k] = p.shadow
        out.contact[k] = 0.0 if p.thin or p.y > 0.05 else 0.35
        if p.facade is not None:
            f = p.facade
            out.facade[k] = True
            out.windows[:, k] = (f.floor, f.cell, f.half_width, f.half_height, p.height)
            out.pattern[k] = f.pattern
            out.parts[:, k] = p.surfaces
    out.solid[first:], out.contact[first:] = True, 0.2
    out.shift[2:] = 0.37 * np.arange(2, n)
    return out


def shade(
    world: World, surfaces: SurfaceTable, table: Tables, tiles: Floats, buffers: Buffers, camera: Camera, shadows: Bytes
) -> Floats:  # fmt: skip
    """Light that reaches the camera, ``(H, W, 3)`` in 0..1 (lamps and sun-lit walls may exceed 1)."""
    light, b = world.light, buffers.flat()  # flat arrays and take(): ten times as fast as fancy indexing
    # take() turns other integers into these anew at every call.
    b = replace(b, primitive=b.primitive.astype(np.intp), surface=b.surface.astype(np.intp))
    sky, ground = np.flatnonzero(b.primitive == SKY), np.flatnonzero(b.primitive == GROUND)
    wall = np.flatnonzero(table.facade.take(b.primitive))
    depth = b.depth.copy()
    depth[sky] = 1
    foot = depth * np.float32(1 / camera.focal)
    stretch = foot / np.maximum(b.facing, np.float32(0.02))
    factor = _texture(surfaces, table, tiles, b, np.sqrt(foot * stretch))
    # Channel by channel, (3, H * W): numpy is six times slower where the last axis has three entries.
    rgb = surfaces.base.T.take(b.surface, 1)
    rgb *= factor
    walls, shining = _windows(rgb, surfaces, table, b, wall, foot, stretch, factor, light.windows_lit)
    _put(rgb, wall, walls)
    _put(rgb, ground, _road_paint(rgb, surfaces, world.ground, b, ground, foot, stretch, factor))

    solid = table.solid.take(b.primitive)
    lit = np.where(solid, b.tone, table.sun.take(b.primitive))
    lit[ground] *= 1 - _shadow_at(shadows, b.u.take(ground), b.v.take(ground)) * np.float32(1 / 255)
    height = b.v.copy()
    height[ground] = 9
    lit *= height > table.shadow.take(b.primitive)
    tone = np.where(solid, np.float32(1), b.tone)
    upright = np.flatnonzero(b.primitive > GROUND)
    contact = table.contact.take(b.primitive.take(upright))
    tone[upright] *= 1 - contact * np.exp(height.take(upright) * np.float32(-1.6))
    energy = lit * light.sun[:, None]
    energy += light.ambient[:, None]
    if len(light.lamps) or light.headlights > 0:
        energy += lamplight(light, b, camera).T
    energy *= tone
    glowing = np.flatnonzero((surfaces.glow > 0).take(b.surface))
    energy[:, glowing] = 2.5 if len(light.lamps) else 1  # by night lamps are brighter than the picture can show
    rgb *= energy
    if light.windows_lit > 0:
        rgb[:, wall] += shining * WINDOW[:, None]

    rgb -= light.haze_colour[:, None]
    rgb *= np.exp(depth * np.float32(-light.haze))
    rgb += light.haze_colour[:, None]
    if sky.size:
        _put(rgb, sky, _sky(world, tiles, [r.take(sky) for r in b.rays]))
    return np.asarray(cv2.merge(list(rgb.reshape(3, *buffers.depth.shape))), np.float32)


def _put(rgb: Floats, pixels: npt.NDArray[np.intp], colours: Floats) -> None:
    """Set pixels of ``(3, H * W)``; numpy is twice as fast with channels one by one."""
    for channel, values in zip(rgb, colours, strict=True):
        channel[pixels] = values


def _texture(surfaces: SurfaceTable, table: Tables, tiles: Floats, b: Buffers, foot: Floats) -> Floats:
    """Brightness factor of the fine and the coarse texture at every pixel, mean 1."""
    frequency = surfaces.frequency.take(b.surface)
    shift = table.shift.take(b.primitive)
    u, v = b.u * frequency + shift, b.v * frequency
    factor = surfaces.detail.take(b.surface) * sample(tiles, surfaces.tile.take(b.surface), u, v, foot * frequency)
    coarse = np.float32(0.11)
    u, v = b.u * coarse + shift, b.v * coarse
    factor += surfaces.stain.take(b.surface) * sample(tiles, TILES.index("stains"), u, v, foot * coarse)
    factor += 1
    return np.asarray(np.maximum(factor, np.float32(0.1), out=factor), np.float32)


def _soft(margin: Floats, foot: Floats) -> Floats:
    """Share of a pixel of size ``foot`` that lies inside an edge ``margin`` away (positive inside), 0..1."""
    share = margin / foot
    share += np.float32(0.5)
    # Not clip(), which takes longer to be called than to work on a few thousand numbers.
    return np.asarray(np.minimum(np.maximum(share, 0, out=share), 1, out=share), np.float32)


def _windows(
    rgb: Floats, surfaces: SurfaceTable, table: Tables, b: Buffers, wall: npt.NDArray[np.intp], foot: Floats,
    stretch: Floats, factor: Floats, lit: float,
) -> tuple[Floats, Floats]:  # fmt: skip
    """Blend windows, shop fronts and the roof's edge into walls; edges are as soft as a pixel is large.

    Returns:
        Colours ``(3, N)`` and, ``(N,)``, how brightly a window shines at the pixel: a share ``lit`` of the windows does.
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
        over = surfaces.base.T.take(table.parts[part].take(primitive), 1)
        over *= gain
        over -= under
        over *= weight
        return np.asarray(np.add(under, over, out=over))

    out = blend(rgb.take(wall, 1), frame, 2, factor)
    out = blend(out, inside, 1, lively)
    shining = inside * lively * ((mixed * 30011 >> 9) & 255 < round(256 * lit))
    return blend(out, _soft(v - (top - np.float32(0.7)), foot_v), 3, factor), np.asarray(shining, np.float32)


def _road_paint(
    rgb: Floats, surfaces: SurfaceTable, ground: Ground, b: Buffers, pixels: npt.NDArray[np.intp], foot: Floats,
    stretch: Floats, factor: Floats,
) -> Floats:  # fmt: skip
    """Blend lines, crosswalk stripes and kerb stones into the ground; colours ``(3, N)``."""
    x, z, factor = b.u.take(pixels), b.v.take(pixels), factor.take(pixels)
    foot_x, foot_z = np.maximum(foot.take(pixels), np.float32(1e-3)), np.maximum(stretch.take(pixels), np.float32(1e-3))

    def band(d: Floats, half: float, f: Floats) -> Floats:
        # The paint of a band that is narrower than a pixel fades instead of flickering.
        return np.asarray(np.minimum(_soft(np.float32(half) - np.abs(d), f), np.float32(2 * half) / f), np.float32)

    paint = np.zeros(x.shape, np.float32)
    dashes = band(np.mod(z, np.float32(6)) - 3, 1.5, foot_z) if any(dashed for _, dashed in ground.lines) else paint
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
    if ground.crosswalks:
        stripes = band(np.mod(x, np.float32(1.0)) - np.float32(0.5), 0.25, foot_x)
        stripes *= (x > np.float32(left + 0.2)) & (x < np.float32(right - 0.2))
        for near, far in ground.crosswalks:
            walk = stripes * band(z - np.float32((near + far) / 2), (far - near) / 2, foot_z)
            paint = np.maximum(paint, walk)
    under = rgb.take(pixels, 1)
    for weight, colour in ((paint, ground.marking), (kerb, ground.kerb)):
        over = factor * surfaces.base[colour, :, None]
        over -= under
        over *= weight
        under += over
    return under


def _sky(world: World, tiles: Floats, rays: list[Floats]) -> Floats:
    """Gradient from horizon to zenith, and clouds on a plane high above; colours ``(3, N)``."""
    light = world.light
    horizon, zenith, clouds, haze = (c[:, None] for c in (light.horizon, light.zenith, light.cloud, light.haze_colour))
    x, y, z = rays
    up = np.maximum(y, 0) / np.sqrt(x * x + y * y + z * z)
    rgb = horizon + np.minimum(1, up * np.float32(1.8)) * (zenith - horizon)
    high = 1 / (up + np.float32(0.12))
    u, v = x * high * np.float32(0.22) + light.cloud_shift[0], z * high * np.float32(0.1) + light.cloud_shift[1]
    noise = sample(tiles, TILES.index("stains"), u, v, np.float32(0.01))
    rgb += np.clip((noise + np.float32(4 * light.cover - 2)) * np.float32(0.7), 0, 1) * (clouds - rgb)
    veil = np.exp(-up * np.float32(9.0 if light.haze > 0.004 else 20.0))
    rgb += veil * np.float32(0.7) * (haze - rgb)
    if light.fog:  # as if the sky were 60 metres away
        rgb += np.float32(1 - np.exp(-60 * light.haze)) * (haze - rgb)
    return np.asarray(rgb, np.float32)


def shadow_maps(world: World, frames: int) -> list[Bytes]:
    """Shadow on the ground by age, 255 = no direct sun, cells of :data:`SHADOW_CELL`."""
    rows, columns = (round((r[1] - r[0]) / SHADOW_CELL) for r in (SHADOW_Z, SHADOW_X))
    still = np.zeros((rows, columns), np.uint8)
    _cast(still, world, moving=False, age=0)
    sigma, maps = world.light.softness / SHADOW_CELL, []
    for age in range(frames):
        canvas = still.copy()
        _cast(canvas, world, moving=True, age=age)
        maps.append(np.asarray(cv2.GaussianBlur(canvas, (0, 0), sigma) if sigma > 0.3 else canvas, np.uint8))
    return maps


def _cast(canvas: Bytes, world: World, moving: bool, age: int) -> None:
    """Draw the shadows of all that moves or of all that stands."""
    sun = world.light.sun_direction
    reach = -sun[[0, 2]] / max(float(sun[1]), 0.2)
    patches = [p for p in world.patches if (p.velocity != (0.0, 0.0)) == moving and not p.thin]
    solids = [s for s in world.solids if (s.velocity != (0.0, 0.0)) == moving]
    for feet, height in (_feet_of_patches(patches, age), _feet_of_solids(solids, age)):
        points = np.concatenate([feet, feet + reach * height[:, None, None]], 1)
        for cells in np.round((points - (SHADOW_X[0], SHADOW_Z[0])) / SHADOW_CELL).astype(np.int32):
            cv2.fillConvexPoly(canvas, cv2.convexHull(cells), 255)


def _feet_of_patches(patches: list[Patch], age: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Ends on the ground ``(N, 2, 2)`` and heights ``(N,)`` of what casts their shadow: of sprites the inner part."""
    rows = [(p.x, p.z, *p.velocity, p.yaw, p.width, p.height, p.sprite is not None) for p in patches]
    x, z, *velocity, yaw, width, height, drawn = np.array(rows, np.float64).reshape(-1, 8).T
    start = np.stack([x - age * velocity[0], z - age * velocity[1]], 1)
    edge = width[:, None] * np.stack([np.cos(np.deg2rad(yaw)), np.sin(np.deg2rad(yaw))], 1)
    inner = np.where(drawn, 0.2, 0.0)[:, None], np.where(drawn, 0.8, 1.0)[:, None]
    return np.stack([start + share * edge for share in inner], 1), height * np.where(drawn, 0.9, 1.0)


def _feet_of_solids(solids: list[Solid], age: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Corners on the ground ``(N, 4, 2)`` and heights ``(N,)``."""
    rows = [(s.x, s.z, *s.velocity, s.heading, *s.size) for s in solids]
    x, z, *velocity, heading, length, height, width = np.array(rows, np.float64).reshape(-1, 8).T
    sin, cos = np.sin(np.deg2rad(heading)), np.cos(np.deg2rad(heading))
    centre, ahead, aside = (
        np.stack([x - age * velocity[0], z - age * velocity[1]], 1),
        np.stack([sin, cos], 1),
        np.stack([cos, -sin], 1),
    )
    corners = [
        centre + ((i * length / 2)[:, None] * ahead + (j * width / 2)[:, None] * aside)
        for i in (-1, 1)
        for j in (-1, 1)
    ]
    return np.stack(corners, 1), height * 0.9


def _shadow_at(shadows: Bytes, x: Floats, z: Floats) -> Floats:
    """Shadow (0..255) at ground points; none outside the map."""
    rows, columns = shadows.shape
    u = np.clip((x - np.float32(SHADOW_X[0])) * np.float32(1 / SHADOW_CELL), 0, columns - 1).astype(np.intp)
    v = np.clip((z - np.float32(SHADOW_Z[0])) * np.float32(1 / SHADOW_CELL), 0, rows - 1).astype(np.intp)
    return np.asarray(shadows.take(v * columns + u), np.float32)
