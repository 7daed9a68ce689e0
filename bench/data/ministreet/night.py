"""Light that is not the sky's: street lamps, our headlights, lit windows, the glow around lamps and the veil around a low sun."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from .camera import Camera
from .raster import FAR, Buffers
from .scene import SKY, Floats, Light
from .sensor import uniform

HEADLIGHT = np.array([1.0, 0.97, 0.88], np.float32)
WINDOW = np.array([1.0, 0.82, 0.5], np.float32)


def lamplight(light: Light, b: Buffers, camera: Camera) -> Floats:
    """Light of lamps and headlights at every pixel of the flat buffers, ``(H * W, 3)``.

    A lamp gives ``5 / (1 + (d / 3 m)^2)`` of its strength, which is 1 on the road under it. The headlights' beam is 0.45 wide (in
    tangents), falls to half in 8 m, and is dipped: a fifth of it goes above the horizon.
    """
    width, height = camera.width, camera.height
    depth = np.minimum(b.depth, np.float32(FAR))  # the sky, which takes no light, is infinitely far away
    x, y, z = (camera.position[k].astype(np.float32) + depth * b.rays[k] for k in range(3))
    near = np.zeros(b.depth.shape, np.float32)
    for lamp in light.lamps:
        near += 5 / (1 + ((x - lamp[0]) ** 2 + (y - lamp[1]) ** 2 + (z - lamp[2]) ** 2) * np.float32(1 / 9))
    energy = near[:, None] * light.lamp
    if light.headlights > 0:
        aside = np.tile((np.arange(width, dtype=np.float32) - np.float32((width - 1) / 2)) / camera.focal, height)
        beam = np.exp(-((aside / np.float32(0.45)) ** 2)) / (1 + (depth * np.float32(1 / 8)) ** 2)
        beam *= np.float32(0.2) + np.float32(0.8) / (1 + np.exp(np.minimum(b.rays[1] * np.float32(30), 30)))
        energy += (np.float32(2 * light.headlights) * beam)[:, None] * HEADLIGHT
    return np.asarray(energy, np.float32)


def halos(rgb: Floats, light: Light, buffers: Buffers, camera: Camera) -> Floats:
    """Add the lamps themselves and the glow around them where nothing stands before them; ``(H, W, 3)``, in place."""
    height, width = buffers.depth.shape
    y, x = np.arange(height, dtype=np.float32)[:, None], np.arange(width, dtype=np.float32)[None]
    if len(light.lamps) == 0:
        return rgb
    away = (light.lamps - camera.position).astype(np.float32)
    for column, row, depth in np.stack(camera.project(away[:, 0], away[:, 1], away[:, 2]), 1).tolist():
        if depth < 1 or not (0 <= round(row) < height and 0 <= round(column) < width):
            continue
        if buffers.depth[round(row), round(column)] < depth:
            continue
        size = max(0.6, 0.2 * camera.focal / depth)
        distance = ((x - np.float32(column)) ** 2 + (y - np.float32(row)) ** 2) / np.float32(size * size)
        glow = np.float32(2) * np.exp(-distance) + np.float32(0.5) / (1 + distance * np.float32(0.12)) ** 2
        rgb += glow[..., None] * (light.lamp / np.float32(max(float(light.lamp.max()), 1e-6)))
    return rgb


def scattered(rgb: Floats, light: Light, buffers: Buffers, camera: Camera, rng: np.random.Generator) -> Floats:
    """Light that the lens spreads: around everything bright, and a veil around a sun ahead that differs from frame to frame."""
    if light.bloom > 0:
        bright = np.maximum(rgb - np.float32(0.85), 0)
        rgb = rgb + np.float32(6 * light.bloom) * cv2.GaussianBlur(bright, (0, 0), buffers.depth.shape[0] / 30)
    if light.flare[1] > 0 and light.sun.max() > 0:
        sun = light.sun_direction.astype(np.float32)
        x, y, z = buffers.rays
        cosine = (x * sun[0] + y * sun[1] + z * sun[2]) / np.sqrt(x * x + y * y + z * z)
        angle = np.arccos(np.clip(cosine, -1, 1))
        strength = uniform(rng, light.flare)
        if _hidden(sun, buffers, camera):
            strength *= 0.4
        veil = np.exp(-((angle / np.float32(0.07)) ** 2)) + np.float32(0.8) * np.exp(-((angle / np.float32(0.4)) ** 2))
        rgb = rgb + np.float32(strength) * veil[..., None] * (light.sun / light.sun.max())
    return rgb


def _hidden(sun: npt.NDArray[np.float32], buffers: Buffers, camera: Camera) -> bool:
    """Whether something stands before a sun that is in the picture."""
    unit = np.ones(1, np.float32)
    column, row, depth = (float(v[0]) for v in camera.project(sun[0] * unit, sun[1] * unit, sun[2] * unit))
    height, width = buffers.primitive.shape
    inside = depth > 0.05 and 0 <= round(row) < height and 0 <= round(column) < width
    return bool(inside and buffers.primitive[round(row), round(column)] != SKY)
