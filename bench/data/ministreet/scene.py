"""What a sampled world consists of: surfaces (colours), patches (flat upright things) and solids (vehicles)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..labels import IGNORE, TRAIN_ID
from .spec import DomainSpec, Range
from .sprites import Bytes, Sprite
from .textures import TILES

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int32]

SKY, GROUND = 0, 1
"""Numbers of the first two primitives; patches and solids follow."""

LAMPS = {
    "red": (250, 60, 50),
    "amber": (255, 190, 60),
    "green": (70, 235, 150),
    "dark": (24, 24, 24),
    "headlamp": (236, 236, 224),
    "taillamp": (190, 26, 30),
    "lamp": (244, 240, 220),
}
"""Colours (RGB) of lamps and unlit lenses, the same in both domains; they have no texture."""

GLOWING = ("red", "amber", "green")
GLOWING_BY_NIGHT = ("headlamp", "taillamp", "lamp")


class Surfaces:
    """A growing table of surfaces: what class a pixel belongs to and how it is coloured."""

    def __init__(self, spec: DomainSpec, rng: np.random.Generator) -> None:
        self.spec = spec
        self.rng = rng
        self._materials = dict(spec.materials)
        # Colour, the other columns of the table, then how the colour is drawn: its least value, gain, spread and draw by channel.
        self._rows: list[tuple[float, ...]] = []
        self._shared: dict[tuple[str, int], int] = {}
        self.add_plain((0.5, 0.5, 0.5), TRAIN_ID["sky"])

    def add_plain(self, colour: tuple[float, float, float], label: int, glow: float = 0.0) -> int:
        """A surface without texture; colour in 0..1."""
        self._rows.append((*colour, 0.0, 0.0, 0, 1.0, label, glow, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0))
        return len(self._rows) - 1

    def add(self, material: str, label: int) -> int:
        """A new surface of a material with its own draw of colour; returns its number."""
        m = self._materials[material]
        if m.other is not None and self.rng.random() < m.other_share:
            m = m.other
        common, *channels = self.rng.standard_normal(4).tolist()
        chosen = m.palette[int(self.rng.integers(len(m.palette)))]
        gain, tile = (1 + m.brightness * common) / 255, TILES.index(m.tile)
        self._rows.append((*chosen, m.detail, m.stain, tile, 1 / m.period, label, 0.0, 0.02, gain, m.hue, *channels))
        return len(self._rows) - 1

    def shared(self, material: str, label: int) -> int:
        """The clip's one surface of this material and class."""
        key = (material, label)
        if key not in self._shared:
            if material in LAMPS:
                r, g, b = LAMPS[material]
                lit = material in GLOWING or (material in GLOWING_BY_NIGHT and self.spec.light.lamps[1] > 0)
                self._shared[key] = self.add_plain((r / 255, g / 255, b / 255), label, float(lit))
            else:
                self._shared[key] = self.add(material, label)
        return self._shared[key]

    def freeze(self) -> SurfaceTable:
        """The table as arrays."""
        drawn = np.array(self._rows)
        least, gain, hue, channels = drawn[:, 9, None], drawn[:, 10, None], drawn[:, 11, None], drawn[:, 12:]
        rows = drawn.astype(np.float32)
        return SurfaceTable(
            base=np.clip(drawn[:, :3] * gain * (1 + hue * channels), least, 1).astype(np.float32),
            detail=rows[:, 3].copy(),
            stain=rows[:, 4].copy(),
            tile=rows[:, 5].astype(np.int32),
            frequency=rows[:, 6].copy(),
            label=rows[:, 7].astype(np.uint8),
            glow=rows[:, 8].copy(),
        )


@dataclass(frozen=True)
class SurfaceTable:
    """Surfaces as arrays over their number: ``base (S, 3)`` in 0..1, contrasts, tile, 1/period, class, glow."""

    base: Floats
    detail: Floats
    stain: Floats
    tile: Ints
    frequency: Floats
    label: npt.NDArray[np.uint8]
    glow: Floats


@dataclass(frozen=True)
class Facade:
    """Windows of a wall: storey height, cell width, window half sizes (all metres) and a number for its pattern."""

    floor: float
    cell: float
    half_width: float
    half_height: float
    pattern: int


@dataclass(frozen=True)
class Patch:
    """A flat upright rectangle with an optional sprite as its outline.

    Attributes:
        x, y, z: lower left corner at the current frame, metres.
        yaw: direction of its lower edge, degrees from the x axis towards z.
        width, height: metres.
        surfaces: number of the surface of every part of the sprite; of wall, window, door, roof for a facade.
        sprite: outline and parts; None for a full rectangle.
        flip: mirror the sprite.
        velocity: (x, z) metres between two frames.
        facade: windows, or None.
        shadow: height in metres below which the sun does not reach the patch.
        thin: no texture and no ground contact shading (poles, signs).
    """

    x: float
    y: float
    z: float
    yaw: float
    width: float
    height: float
    surfaces: tuple[int, ...]
    sprite: Sprite | None = None
    flip: bool = False
    velocity: tuple[float, float] = (0.0, 0.0)
    facade: Facade | None = None
    shadow: float = 0.0
    thin: bool = False


@dataclass(frozen=True)
class Solid:
    """A vehicle: a union of convex bodies in its own axes (l forward, y up, s to its right), origin on the ground.

    Attributes:
        x, z: position of the origin at the current frame, metres.
        heading: degrees, 0 = along the street (z), 90 = along x.
        size: length, height, width, metres.
        bodies: per body the outward normals ``(K, 3)`` and offsets ``(K,)``; inside is ``normals @ p <= offsets``.
        pictures: part numbers of the side, front and back view, row 0 = top.
        scale: texels per metre of the pictures.
        surfaces: number of the surface of every part.
        velocity: (x, z) metres between two frames.
    """

    x: float
    z: float
    heading: float
    size: tuple[float, float, float]
    bodies: tuple[tuple[Floats, Floats], ...]
    pictures: tuple[Bytes, Bytes, Bytes]
    scale: float
    surfaces: tuple[int, ...]
    velocity: tuple[float, float] = (0.0, 0.0)


@dataclass(frozen=True)
class Ground:
    """Zones of the ground plane y = 0.

    Attributes:
        edges: x where one strip ends and the next begins, increasing, metres.
        strips: surface number of every strip, one more than edges.
        road: (left, right) x of the road.
        lines: x of painted lines; dashes: whether each is dashed.
        crossing: (near, far) z of a side street, or None.
        crosswalks: (near, far) z of striped crossings over the road.
        asphalt, marking, kerb: surface numbers.
    """

    edges: tuple[float, ...]
    strips: tuple[int, ...]
    road: tuple[float, float]
    lines: tuple[tuple[float, bool], ...]
    crossing: tuple[float, float] | None
    crosswalks: tuple[tuple[float, float], ...]
    asphalt: int
    marking: int
    kerb: int


@dataclass(frozen=True)
class Weather:
    """A clip's weather: whether the sun is gone, extinction (1/metre), wetness and rain (0..1)."""

    sunless: bool = False
    fog: float = 0.0
    wet: float = 0.0
    rain: float = 0.0


@dataclass(frozen=True)
class Light:
    """Direction towards the sun ``(3,)``, colour of sun and sky light, air, sky and clouds; colours in 0..1.

    ``lamps (K, 3)`` are places of street lamps and ``lamp`` the colour of their light; the rest is as in the light's spec.
    """

    sun_direction: npt.NDArray[np.float64]
    sun: Floats
    ambient: Floats
    haze: float
    haze_colour: Floats
    zenith: Floats
    horizon: Floats
    cloud: Floats
    cover: float
    softness: float
    cloud_shift: tuple[float, float]
    fog: bool = False
    flare: Range = (0.0, 0.0)
    headlights: float = 0.0
    windows_lit: float = 0.0
    bloom: float = 0.0
    lamp: Floats = field(default_factory=lambda: np.zeros(3, np.float32))
    lamps: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))


@dataclass
class World:
    """A sampled street."""

    spec: DomainSpec
    surfaces: Surfaces
    light: Light
    ground: Ground
    lane: float
    bank: Mapping[str, tuple[Sprite, ...]]
    weather: Weather
    patches: list[Patch] = field(default_factory=list)
    solids: list[Solid] = field(default_factory=list)


NOTHING = IGNORE
"""Class of poles, which belong to none of the 15."""
