"""Flat pictures of things: every texel holds a part number (0 paint, 1 glass, ...) or 255 where one sees through.

The colour of a part is chosen per instance, so that one picture serves many persons, trees or signs. Sprites are
drawn once per process and domain; they belong to the benchmark's definition as much as the parameters do.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt

from .spec import LayoutSpec
from .textures import fractal

Bytes = npt.NDArray[np.uint8]

CLEAR = 255
"""Part number of a see-through texel."""

PARTS = {
    "tree": ("foliage", "trunk"),
    "person": ("skin", "hair", "top", "legs", "tyre"),
    "bicycle": ("bicycle", "tyre", "metal", "housing"),
    "motorcycle": ("motorcycle", "tyre", "metal", "housing", "lamp"),
    "light": ("housing", "red", "amber", "green", "dark", "sign_white"),
    "sign": ("face", "border", "symbol"),
}
"""Material of each part number, by kind of sprite."""


@dataclass(frozen=True)
class Sprite:
    """A picture with smaller copies: ``levels[l]`` is ``(H >> l, W >> l)`` of texels, 256 * part + tone, tone 128 = as lit."""

    levels: tuple[npt.NDArray[np.uint16], ...]


def _shrink(codes: Bytes, tones: Bytes) -> tuple[Bytes, Bytes]:
    """Half the size; a texel stays opaque when two of its four parents are."""
    h, w = codes.shape[0] // 2, codes.shape[1] // 2
    blocks = codes[: 2 * h, : 2 * w].reshape(h, 2, w, 2).transpose(0, 2, 1, 3).reshape(h, w, 4)
    shades = tones[: 2 * h, : 2 * w].reshape(h, 2, w, 2).transpose(0, 2, 1, 3).reshape(h, w, 4)
    blocks_sorted = np.sort(blocks, axis=-1)  # see-through texels sort last
    return np.ascontiguousarray(blocks_sorted[..., 1]), shades.mean(-1).astype(np.uint8)


def make(codes: Bytes, tones: Bytes | None = None) -> Sprite:
    """A sprite with as many halvings as leave at least 6 texels on the short side."""
    shade = np.full_like(codes, 128) if tones is None else tones
    all_codes, all_tones = [codes], [shade]
    while min(all_codes[-1].shape) >= 12:
        smaller = _shrink(all_codes[-1], all_tones[-1])
        all_codes.append(smaller[0])
        all_tones.append(smaller[1])
    return Sprite(tuple(256 * c.astype(np.uint16) + t for c, t in zip(all_codes, all_tones, strict=True)))


def _canvas(height: int, width: int) -> Bytes:
    return np.full((height, width), CLEAR, np.uint8)


def _fill(img: Bytes, points: list[tuple[float, float]], code: int) -> None:
    cv2.fillPoly(img, [np.round(np.array(points)).astype(np.int32)], code)


def _disc(img: Bytes, x: float, y: float, radius: float, code: int, thickness: int = -1) -> None:
    cv2.circle(img, (round(x), round(y)), round(radius), code, thickness)


def _line(img: Bytes, a: tuple[float, float], b: tuple[float, float], code: int, thickness: int) -> None:
    cv2.line(img, (round(a[0]), round(a[1])), (round(b[0]), round(b[1])), code, thickness)


def tree(rng: np.random.Generator, shape: str, roughness: float) -> Sprite:
    """Crown and trunk on 128 x 96 texels; shapes: round, cone, wide, column."""
    h, w = 128, 96
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    y, x = y / (h - 1), 2 * x / (w - 1) - 1
    trunk = rng.uniform(0.62, 0.78)
    half = {"round": 0.85, "cone": 0.8, "wide": 0.95, "column": 0.7}[shape]
    centre = trunk / 2 + 0.02
    if shape == "cone":
        width = np.maximum(half * np.clip((y - 0.02) / trunk, 0, 1) ** 0.9, 1e-3)
        field = np.where(y < trunk + 0.04, 1 - np.abs(x) / width, -1)
    else:
        power = {"round": 2.0, "wide": 2.6, "column": 3.0}[shape]
        field = 1 - (np.abs(x) / half) ** power - (np.abs(y - centre) / (trunk / 2 + 0.04)) ** power
    noise = fractal(rng, 128, 4, 4, 0.65)[:h, :w]
    crown = field * 1.2 + roughness * noise > 0.18
    crown[:, :2] = crown[:, -2:] = False
    codes = _canvas(h, w)
    lean = rng.uniform(-0.08, 0.08)
    stem = np.abs(x - lean * (1 - y)) < 0.045 + 0.03 * y
    codes[stem & (y > trunk * 0.6)] = 1
    codes[crown] = 0
    light = 128 * (1.12 - 0.42 * y / trunk) + 22 * roughness * noise
    return make(codes, np.clip(light, 40, 190).astype(np.uint8))


def hedge(rng: np.random.Generator, roughness: float) -> Sprite:
    """A bush or hedge with a bumpy top, 64 x 128 texels."""
    h, w = 64, 128
    noise = fractal(rng, 128, 3, 4, 0.6)
    y, x = np.mgrid[0:h, 0:w].astype(np.float32)
    edge = np.minimum(x, w - 1 - x) / 14
    top = 10 + 5 * noise[0][None] * (0.6 + roughness) + 14 * np.clip(1 - edge, 0, 1) ** 2
    codes = _canvas(h, w)
    codes[(y > top) & (edge + 0.5 * roughness * noise[:h] > 0.05)] = 0
    return make(codes, np.clip(128 * (1.15 - 0.4 * y / h) + 16 * roughness * noise[:h], 40, 190).astype(np.uint8))


def person(rng: np.random.Generator, seated: bool = False) -> Sprite:
    """A standing or walking person, or a rider from the side; 96 x 40 texels."""
    img = _canvas(96, 40)
    cx = 20.0
    if seated:
        _fill(img, [(17, 52), (30, 66), (24, 92), (18, 90), (22, 70), (10, 60)], 3)
        _fill(img, [(10, 58), (14, 24), (24, 22), (23, 56)], 2)
        _line(img, (21, 28), (34, 46), 2, 5)
        _disc(img, 34, 46, 2, 0)
        cx = 21
    else:
        stride, shoulder = rng.uniform(2, 8), rng.uniform(10, 13)
        for side in (-1, 1):
            hip, foot = cx + 3 * side, cx + side * stride
            _fill(img, [(hip - 6, 48), (hip + 6, 48), (foot + 4.5, 91), (foot - 4.5, 91)], 3)
            _fill(img, [(foot - 4.5, 91), (foot + 5.5, 91), (foot + 5.5, 95), (foot - 4.5, 95)], 4)
            swing = rng.uniform(-1, 4)
            _line(img, (cx + side * (shoulder - 1), 23), (cx + side * (shoulder + swing), 50), 2, 5)
            _disc(img, cx + side * (shoulder + swing), 51, 2, 0)
        hem = rng.choice([50, 50, 58, 66])
        _fill(img, [(cx - shoulder, 21), (cx + shoulder, 21), (cx + 9, hem), (cx - 9, hem)], 2)
        if rng.random() < 0.3:
            _fill(img, [(cx + 7, 26), (cx + 13, 28), (cx + 13, 46), (cx + 7, 46)], 4)
    _fill(img, [(cx - 2.5, 15), (cx + 2.5, 15), (cx + 2.5, 22), (cx - 2.5, 22)], 0)
    _disc(img, cx, 10, 7, 1)
    cv2.ellipse(img, (round(cx), 12), (5, 6), 0, 0, 360, 0, -1)
    if rng.random() < 0.4:
        _disc(img, cx, 9, 6, 1)
    tone = np.clip(150 - 0.4 * np.abs(np.arange(40) - 14)[None] * 3 - 0.15 * np.arange(96)[:, None], 60, 180)
    return make(img, np.asarray(tone, np.uint8))


def bicycle(rng: np.random.Generator) -> Sprite:
    """From the side, 64 x 104 texels: two thin wheels and an open frame."""
    img = _canvas(64, 104)
    left, right, y, r = (22.0, 43.0), (82.0, 43.0), 43.0, 19.0
    for x, _ in (left, right):
        _disc(img, x, y, r, 2)  # spokes blur into a disc at this size, and labels fill wheels
        for angle in np.arange(0, np.pi, np.pi / 4) + rng.uniform(0, 0.7):
            d = (r * np.cos(angle), r * np.sin(angle))
            _line(img, (x - d[0], y - d[1]), (x + d[0], y + d[1]), 3, 1)
        _disc(img, x, y, r, 1, 3)
    seat, crank, bar = (42.0, 17.0), (48.0, 44.0), (74.0, 12.0)
    for a, b in ((left, crank), (left, seat), (seat, crank), (crank, (76, 20)), ((43, 21), (75, 19)), (bar, right)):
        _line(img, a, b, 0, 4)
    _line(img, (36, 14), (48, 14), 3, 4)
    _line(img, bar, (68, 9), 3, 3)
    if rng.random() < 0.4:
        _fill(img, [(14, 18), (34, 18), (32, 28), (16, 28)], 3)
    return make(img)


def motorcycle(rng: np.random.Generator) -> Sprite:
    """From the side, 64 x 104 texels: thick wheels and a closed, bulky body; scooters have a leg shield."""
    img = _canvas(64, 104)
    scooter = rng.random() < 0.35
    y, r = 46.0, 14.0 if scooter else 16.0
    for x in (20, 84):
        _disc(img, x, y, r, 1)
        _disc(img, x, y, r * 0.5, 2)
    if scooter:
        _fill(
            img,
            [
                (8, 34),
                (14, 24),
                (44, 22),
                (52, 46),
                (70, 46),
                (78, 14),
                (86, 16),
                (84, 44),
                (70, 54),
                (36, 54),
                (28, 38),
            ],
            0,
        )
        _fill(img, [(12, 24), (44, 20), (46, 14), (16, 18)], 3)
    else:
        _fill(img, [(34, 32), (66, 32), (62, 56), (38, 56)], 2)
        _fill(img, [(40, 30), (48, 18), (68, 16), (74, 28), (60, 34)], 0)
        _fill(img, [(8, 22), (38, 20), (48, 26), (40, 34), (14, 30)], 3)
        _fill(img, [(70, 12), (84, 14), (88, 26), (76, 32), (70, 26)], 0)
        _line(img, (76, 22), (84, 46), 2, 4)
        _line(img, (22, 46), (44, 50), 2, 5)
        _line(img, (6, 50), (40, 52), 2, 4)
        _fill(img, [(78, 30), (92, 32), (96, 38), (78, 38)], 0)
    _line(img, (74, 10), (66, 8), 3, 4)
    _disc(img, 86, 20, 4, 4)
    return make(img)


def cycle_end(rng: np.random.Generator, bulky: bool) -> Sprite:
    """A two-wheeler from the front or from behind, 64 x 36 texels; parts as in the side views."""
    img = _canvas(64, 36)
    half = 5 if bulky else 2
    _fill(img, [(18 - half, 26), (18 + half, 26), (18 + half, 62), (18 - half, 62)], 1)
    if bulky:
        _fill(img, [(8, 20), (28, 20), (27, 42), (9, 42)], 0)
        _fill(img, [(10, 12), (26, 12), (26, 22), (10, 22)], 3)
        _disc(img, 18, 26, 5, 4)
    else:
        _fill(img, [(15, 8), (21, 8), (20, 44), (16, 44)], 0)
        _line(img, (17, 34), (19, 62), 1, 4)
    _line(img, (4, 10), (32, 10), 3 if bulky else 2, 3)
    return make(img)


def light(rng: np.random.Generator) -> Sprite:
    """A three-lamp traffic light, 60 x 26 texels, with or without a white rim."""
    img = np.zeros((60, 26), np.uint8)
    if rng.random() < 0.5:
        img[:2] = img[-2:] = 5
        img[:, :2] = img[:, -2:] = 5
    lit = rng.integers(3)
    for k, y in enumerate((12, 30, 48)):
        _disc(img, 13, y, 7, (1, 2, 3)[k] if k == lit else 4)
    return make(img)


def sign(rng: np.random.Generator, kind: str) -> Sprite:
    """``circle``, ``triangle``, ``octagon``, ``square`` (48 x 48) or ``board`` (48 x 96) texels."""
    img = _canvas(48, 96 if kind == "board" else 48)
    if kind == "circle":
        _disc(img, 23.5, 23.5, 23, 1)
        _disc(img, 23.5, 23.5, 16, 0)
        _fill(img, [(13, 21), (35, 21), (35, 27), (13, 27)], 2)
    elif kind == "triangle":
        _fill(img, [(24, 1), (47, 45), (0, 45)], 1)
        _fill(img, [(24, 13), (38, 39), (9, 39)], 0)
        _line(img, (24, 22), (24, 34), 2, 4)
    elif kind == "octagon":
        a = np.deg2rad(22.5 + 45 * np.arange(8))
        _fill(img, [(23.5 + 23 * np.cos(t), 23.5 + 23 * np.sin(t)) for t in a], 1)
        _fill(img, [(10, 19), (38, 19), (38, 29), (10, 29)], 2)
    elif kind == "square":
        img[:] = 1
        img[4:-4, 4:-4] = 0
        _fill(img, [(14, 34), (24, 12), (34, 34)], 2)
    else:
        img[:] = 2
        img[3:-3, 3:-3] = 0
        for y in (14, 30):
            _line(img, (10, y), (int(rng.integers(50, 86)), y), 2, 5)
    return make(img)


SIGNS = ("circle", "triangle", "octagon", "square", "board")


@lru_cache(maxsize=8)
def bank(layout: LayoutSpec) -> dict[str, tuple[Sprite, ...]]:
    """All sprites of a domain by kind; the same in every world."""
    rng = np.random.default_rng([20240, len(layout.tree_shapes), round(1e4 * sum(layout.tree_roughness))])
    low, high = layout.tree_roughness
    rough = [low + (high - low) * k / 5 for k in range(6)]
    return {
        "tree": tuple(tree(rng, shape, r) for shape in layout.tree_shapes for r in rough),
        "hedge": tuple(hedge(rng, r) for r in rough),
        "person": tuple(person(rng) for _ in range(10)),
        "rider": tuple(person(rng, seated=True) for _ in range(3)),
        "bicycle": tuple(bicycle(rng) for _ in range(4)),
        "motorcycle": tuple(motorcycle(rng) for _ in range(6)),
        "bicycle_end": tuple(cycle_end(rng, bulky=False) for _ in range(2)),
        "motorcycle_end": tuple(cycle_end(rng, bulky=True) for _ in range(2)),
        "light": tuple(light(rng) for _ in range(6)),
        **{kind: tuple(sign(rng, kind) for _ in range(3)) for kind in SIGNS},
    }
