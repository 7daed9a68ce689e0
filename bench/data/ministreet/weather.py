"""Rain and fog: wet ground that mirrors, falling streaks, drops on the lens and the wiper that takes them away."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from .buffers import Buffers
from .camera import Camera
from .scene import GROUND, Floats, Weather
from .sensor import uniform
from .spec import WeatherSpec
from .textures import TILES, sample

MIRRORED = 25.0
"""Depth at which the ground takes what it mirrors, metres: near things would need a second rendering."""


def sample_weather(spec: WeatherSpec, rng: np.random.Generator) -> Weather:
    """Draw a clip's weather."""
    return Weather(rng.random() < spec.sunless, *(uniform(rng, r) for r in (spec.fog, spec.wet, spec.rain)))


def wet_ground(rgb: Floats, wet: float, buffers: Buffers, camera: Camera, tiles: Floats) -> Floats:
    """Darken the ground and mirror in it what stands ahead, most in puddles and where one looks along it; ``(H, W, 3)``.

    The mirrored ray is followed to :data:`MIRRORED`; what is seen there from the camera is the reflection.
    """
    if wet <= 0:
        return rgb
    b = buffers.flat()
    ground = np.flatnonzero(b.primitive == GROUND)
    depth, x, y, z = b.depth[ground], b.rays[0][ground], b.rays[1][ground], b.rays[2][ground]
    further = np.maximum(np.float32(MIRRORED) - depth, 1)
    column, row, _ = camera.project(depth * x + further * x, depth * y - further * y, depth * z + further * z)
    blurred = cv2.blur(np.minimum(rgb, np.float32(1.5)), (1, max(3, rgb.shape[0] // 20 | 1)))
    mirrored = cv2.remap(
        blurred, column.reshape(1, -1), row.reshape(1, -1), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )[0]
    u, v = b.u[ground] * np.float32(0.13), b.v[ground] * np.float32(0.13)
    noise = sample(tiles, TILES.index("stains"), u, v, depth * np.float32(1e-3))
    puddle = np.clip(np.float32(0.45) + np.float32(0.5) * noise, np.float32(0.1), 1)
    grazing = np.float32(0.15) + np.float32(0.85) * np.exp(-b.facing[ground] * np.float32(3.5))
    weight = (np.float32(wet) * puddle * grazing)[:, None]
    out = rgb.reshape(-1, 3).copy()
    out[ground] = out[ground] * np.float32(1 - 0.4 * wet) * (1 - weight) + mirrored * weight
    return np.asarray(out.reshape(rgb.shape), np.float32)


def fallen(
    rgb: Floats, weather: Weather, spec: WeatherSpec, part: Callable[[str, int], np.random.Generator], age: int
) -> Floats:
    """Rain between the street and the sensor: streaks, drops on the lens and a wiper, ``(H, W, 3)``.

    Drops stay where they are from frame to frame until a wiper has passed; what they hide now was seen a frame earlier.
    """
    if weather.rain > 0:
        rgb = _streaks(rgb, weather.rain, part("streaks", age))
    if spec.drops[1] > 0:
        wiped = sum(part("wiper", k).random() < spec.wiper for k in range(age))  # how often between then and now
        rgb = _drops(rgb, spec, part("drops", wiped))
    if spec.wiper > 0 and (rng := part("wiper", age)).random() < spec.wiper:
        rgb = _blade(rgb, rng)
    return rgb


def _streaks(rgb: Floats, rain: float, rng: np.random.Generator) -> Floats:
    """Thin bright lines, nearly upright, near ones longer."""
    height, width = rgb.shape[:2]
    mask, slant = np.zeros((height, width), np.uint8), rng.normal(0, 0.12)
    for x, y, near, bright in rng.random((round(rain * height * width / 90), 4)).tolist():
        length = height * (0.04 + 0.16 * near * near)
        start = (round(x * width * 1.2 - 0.1 * width), round(y * height * 1.2 - 0.2 * height))
        end = (round(start[0] + slant * length), round(start[1] + length))
        cv2.line(mask, start, end, round(30 + 90 * bright * near), 1, cv2.LINE_AA)
    weight = (mask.astype(np.float32) * np.float32(1 / 255))[..., None]
    return np.asarray(rgb + weight * (np.float32(0.25 + 0.75 * float(rgb.mean())) * np.float32(1.25) - rgb), np.float32)


def _drops(rgb: Floats, spec: WeatherSpec, rng: np.random.Generator) -> Floats:
    """Lenses: within a drop one sees a wide part of the picture upside down, darker towards the rim."""
    height, width = rgb.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    map_x, map_y, keep = x.copy(), y.copy(), np.ones((height, width), np.float32)
    for _ in range(int(rng.integers(spec.drops[0], spec.drops[1] + 1))):
        cx, cy, radius = rng.uniform(0, width), rng.uniform(0, height), uniform(rng, spec.drop_size) * height
        stretch = rng.uniform(0.7, 1.0)
        rows = slice(max(0, int(cy - radius - 1)), int(cy + radius + 2))
        columns = slice(max(0, int(cx - radius - 1)), int(cx + radius + 2))
        dx, dy = x[rows, columns] - np.float32(cx), y[rows, columns] - np.float32(cy)
        distance = (dx / np.float32(stretch)) ** 2 + dy**2
        inside = distance < radius * radius
        map_x[rows, columns][inside] = (np.float32(cx) - 4 * dx)[inside]
        map_y[rows, columns][inside] = (np.float32(cy) - 4 * dy)[inside]
        rim = 1 - np.float32(0.5) * (distance / np.float32(radius * radius)) ** 2
        keep[rows, columns][inside] = rim[inside]
    soft = cv2.GaussianBlur(rgb, (0, 0), height / 50)
    seen = cv2.remap(soft, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101) * keep[..., None]
    inside = cv2.GaussianBlur(((map_x != x) | (map_y != y)).astype(np.float32), (0, 0), 0.5)[..., None]
    return np.asarray(rgb + inside * (seen - rgb), np.float32)


def _blade(rgb: Floats, rng: np.random.Generator) -> Floats:
    """A wiper's blade somewhere on its way."""
    height, width = rgb.shape[:2]
    pivot = np.array([rng.uniform(0.3, 0.7) * width, 1.2 * height])
    angle = rng.uniform(-1.1, 1.1)
    tip = pivot + 1.5 * height * np.array([np.sin(angle), -np.cos(angle)])
    mask = np.zeros((height, width), np.uint8)
    cv2.line(mask, _point(pivot), _point(tip), 235, max(2, round(rng.uniform(0.06, 0.11) * height)), cv2.LINE_AA)
    soft = cv2.GaussianBlur(mask, (0, 0), height / 60)
    return np.asarray(rgb * (1 - soft.astype(np.float32) * np.float32(1 / 255))[..., None], np.float32)


def _point(p: np.ndarray) -> tuple[int, int]:
    return round(float(p[0])), round(float(p[1]))
