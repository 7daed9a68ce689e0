"""Shapes and pictures of cars, trucks and buses."""

from __future__ import annotations

import cv2
import numpy as np

from .scene import Floats
from .sprites import Bytes

PARTS = ("paint", "glass", "tyre", "headlamp", "taillamp", "housing", "second", "metal")
"""Part numbers 0..7 of a vehicle's pictures; "paint" and "second" are drawn per vehicle."""

PAINT, GLASS, TYRE, HEADLAMP, TAILLAMP, DARK, SECOND, METAL = range(8)
SCALE = 20.0
"""Texels per metre of the pictures."""

Shape = tuple[tuple[tuple[Floats, Floats], ...], tuple[Bytes, Bytes, Bytes]]


def prism(profile: list[tuple[float, float]], half_width: float) -> tuple[Floats, Floats]:
    """A convex side profile ``[(l, y), ...]`` stretched over ``s = -half_width .. half_width``, as half-spaces.

    The profile's corners run counter-clockwise seen with l to the right and y up.
    """
    normals, offsets = [(0.0, 0.0, 1.0), (0.0, 0.0, -1.0)], [half_width, half_width]
    for (l0, y0), (l1, y1) in zip(profile, profile[1:] + profile[:1], strict=True):
        length = float(np.hypot(l1 - l0, y1 - y0))
        normal = ((y1 - y0) / length, -(l1 - l0) / length)
        normals.append((normal[0], normal[1], 0.0))
        offsets.append(normal[0] * l0 + normal[1] * y0)
    return np.array(normals, np.float32), np.array(offsets, np.float32)


class _Picture:
    """Draws in metres on a picture of part numbers; x to the right, y up from the ground."""

    def __init__(self, width: float, height: float, fill: int) -> None:
        self.height = height
        self.codes = np.full((max(2, round(height * SCALE)), max(2, round(width * SCALE))), fill, np.uint8)

    def box(self, x0: float, y0: float, x1: float, y1: float, code: int) -> None:
        top, bottom = round((self.height - y1) * SCALE), round((self.height - y0) * SCALE)
        self.codes[max(0, top) : max(0, bottom), max(0, round(x0 * SCALE)) : max(0, round(x1 * SCALE))] = code

    def disc(self, x: float, y: float, radius: float, code: int) -> None:
        cv2.circle(self.codes, (round(x * SCALE), round((self.height - y) * SCALE)), round(radius * SCALE), code, -1)

    def polygon(self, points: list[tuple[float, float]], code: int) -> None:
        pixels = np.array([(x * SCALE, (self.height - y) * SCALE) for x, y in points])
        cv2.fillPoly(self.codes, [np.round(pixels).astype(np.int32)], code)

    def wheels(self, places: list[float], radius: float) -> None:
        for x in places:
            self.disc(x, radius, radius, TYRE)
            self.disc(x, radius, radius * 0.55, METAL)


def _end(width: float, height: float, clearance: float, fill: int) -> _Picture:
    """The lower part that all fronts and backs share: dark gap over the road with two tyres in it."""
    view = _Picture(width, height, fill)
    view.box(0, 0, width, clearance, DARK)
    view.box(0.08, 0, 0.32, clearance, TYRE)
    view.box(width - 0.32, 0, width - 0.08, clearance, TYRE)
    return view


def car(rng: np.random.Generator, length: float, height: float, width: float, cabin: float) -> Shape:
    """A car; ``cabin`` is the cabin's share of the length (small: saloon, large: van-like)."""
    half, belt, clearance = length / 2, height * rng.uniform(0.56, 0.64), 0.25
    hood = belt - rng.uniform(0.05, 0.2)
    body = [(-half, 0.0), (half, 0.0), (half, hood * 0.8), (half - 0.5, hood), (half * 0.2, belt), (-half, belt)]
    rear = -half + (0.1 if cabin > 0.6 else rng.uniform(0.3, 0.7))
    nose = min(rear + cabin * length, half - 0.7)
    slope = rng.uniform(0.3, 0.6)
    roof = [(rear, belt - 0.02), (nose, belt - 0.02), (nose - slope, height), (rear + slope * 0.6, height)]
    bodies = (prism(body, width / 2), prism(roof, width / 2 - 0.06))

    side = _Picture(length, height, PAINT)
    side.box(0, 0, length, clearance, DARK)
    wheel = rng.uniform(0.31, 0.36)
    side.wheels([0.17 * length, 0.81 * length], wheel)
    below, above = (
        (rear + half + 0.12, nose + half - 0.12),
        (rear + half + slope * 0.6 + 0.04, nose + half - slope - 0.04),
    )
    low, high = belt + 0.04, height - 0.1
    side.polygon([(below[0], low), (below[1], low), (above[1], high), (above[0], high)], GLASS)
    pillar = half + (rear + nose) / 2
    side.box(pillar - 0.06, belt, pillar + 0.06, height, PAINT)
    side.box(length - 0.3, hood * 0.6, length, hood * 0.85, HEADLAMP)
    side.box(0, belt * 0.68, 0.25, belt * 0.95, TAILLAMP)

    front, back = _end(width, height, clearance, PAINT), _end(width, height, clearance, PAINT)
    for view, lamp in ((front, HEADLAMP), (back, TAILLAMP)):
        view.box(0.16, belt + 0.05, width - 0.16, height - 0.09, GLASS)
        for x in (0.06, width - 0.44):
            view.box(x, hood * 0.62, x + 0.38, hood * 0.85, lamp)
        view.box(width / 2 - 0.26, hood * 0.42, width / 2 + 0.26, hood * 0.56, METAL)
        view.box(0, clearance, width, clearance + 0.1, DARK)
    front.box(0.46, hood * 0.6, width - 0.46, hood * 0.82, DARK)
    return bodies, (side.codes, front.codes, back.codes)


def truck(rng: np.random.Generator, length: float, height: float, width: float) -> Shape:
    """A cab in front of a cargo box that stands higher."""
    half, clearance = length / 2, 0.5
    cab = rng.uniform(1.7, 2.2)
    top = height * rng.uniform(0.76, 0.92)
    gap = half - cab
    cab_body = [(gap, 0.0), (half, 0.0), (half, top * 0.55), (half - 0.25, top), (gap, top)]
    cargo = [(-half, 0.0), (gap - 0.2, 0.0), (gap - 0.2, height), (-half, height)]
    bodies = (prism(cab_body, width / 2 - 0.05), prism(cargo, width / 2))

    side = _Picture(length, height, SECOND)
    side.box(length - cab - 0.1, 0, length, height, PAINT)
    side.box(0, 0, length, clearance, DARK)
    side.box(0, clearance, length - cab - 0.2, clearance + 0.22, METAL)
    side.box(length - cab * 0.62, top * 0.55, length - 0.28, top * 0.86, GLASS)
    side.wheels([0.14 * length, 0.26 * length, length - cab * 0.55], 0.48)
    if rng.random() < 0.5:
        side.box(0.1 * length, height * 0.55, length - cab - 0.8, height * 0.75, PAINT)

    front = _end(width, height, clearance, PAINT)
    front.box(0.12, top * 0.56, width - 0.12, top * 0.88, GLASS)
    front.box(0.3, top * 0.26, width - 0.3, top * 0.48, DARK)
    for x in (0.08, width - 0.5):
        front.box(x, clearance + 0.08, x + 0.42, clearance + 0.32, HEADLAMP)
    back = _end(width, height, clearance, SECOND)
    back.box(width / 2 - 0.04, clearance, width / 2 + 0.04, height, DARK)
    back.box(0, clearance, width, clearance + 0.18, METAL)
    for x in (0.04, width - 0.4):
        back.box(x, clearance + 0.18, x + 0.36, clearance + 0.44, TAILLAMP)
    return bodies, (side.codes, front.codes, back.codes)


def bus(rng: np.random.Generator, length: float, height: float, width: float) -> Shape:
    """One long body with a row of windows on every side."""
    half, clearance = length / 2, 0.35
    body = [(-half, 0.0), (half, 0.0), (half, height * 0.5), (half - 0.15, height), (-half + 0.1, height)]
    bodies = (prism(body, width / 2),)
    low, high = height * rng.uniform(0.4, 0.46), height * 0.86

    side = _Picture(length, height, PAINT)
    side.box(0, 0, length, clearance, DARK)
    side.box(0.15, low, length - 0.1, high, GLASS)
    for x in np.arange(0.15, length, rng.uniform(1.3, 1.7)):
        side.box(x, low, x + 0.12, high, PAINT)
    side.box(0, low * 0.62, length, low * 0.8, SECOND)
    for x in (length * 0.3, length - 1.4):
        side.box(x, 0.4, x + 1.0, high, GLASS)
        side.box(x + 0.47, 0.4, x + 0.53, high, DARK)
    side.wheels([0.2 * length, 0.76 * length], 0.48)

    front, back = _end(width, height, clearance, PAINT), _end(width, height, clearance, PAINT)
    front.box(0.1, low * 0.92, width - 0.1, high, GLASS)
    front.box(0.3, high + 0.06, width - 0.3, height - 0.06, DARK)
    back.box(0.3, height * 0.52, width - 0.3, high, GLASS)
    for view, lamp in ((front, HEADLAMP), (back, TAILLAMP)):
        view.box(0, low * 0.62, width, low * 0.8, SECOND)
        for x in (0.06, width - 0.46):
            view.box(x, clearance + 0.1, x + 0.4, clearance + 0.36, lamp)
    return bodies, (side.codes, front.codes, back.codes)
