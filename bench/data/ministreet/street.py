"""Sample what stands still: road, buildings, fences, trees, poles with lights and signs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..labels import TRAIN_ID
from .scene import NOTHING, Facade, Ground, Patch, Surfaces, World
from .sensor import pick, uniform
from .sky import sample_light
from .spec import DomainSpec
from .sprites import PARTS, SIGNS, bank
from .weather import sample_weather

START = -24.0
"""Where the street begins along z, metres; the camera is at z = 0 at the current frame, the end is the layout's."""

SIGN_COLOURS = {
    "circle": ("sign_white", "sign_red", "housing"),
    "triangle": ("sign_white", "sign_red", "housing"),
    "octagon": ("sign_red", "sign_red", "sign_white"),
    "square": ("sign_blue", "sign_white", "sign_white"),
    "board": ("sign_green", "sign_white", "sign_white"),
}
"""Material of face, rim and symbol."""


def sample_street(spec: DomainSpec, part: Callable[[str], np.random.Generator]) -> World:
    """Draw a street without traffic."""
    rng = part("street")
    surfaces = Surfaces(spec, part("surfaces") if spec.own_draws else rng)
    weather = sample_weather(spec.weather, part("weather"))
    light = sample_light(spec, part("light") if spec.own_draws else rng, weather)
    ground, lane, sides = _ground(spec, rng, surfaces)
    world = World(spec, surfaces, light, ground, lane, bank(spec.layout), weather)
    for side in (-1, 1):
        _row(world, rng, side, sides[side])
        _street_trees(world, rng, side, sides[side])
        _poles(world, rng, side, sides[side])
    _backdrop(world, rng, sides)
    return world


class _Side:
    """Distances from x = 0 of one side of the street, metres, all positive."""

    def __init__(self, kerb: float, verge: float, walk: float, yard: float) -> None:
        self.kerb, self.verge = kerb, kerb + verge
        self.walk = self.verge + walk
        self.facade = self.walk + yard


def _ground(spec: DomainSpec, rng: np.random.Generator, surfaces: Surfaces) -> tuple[Ground, float, dict[int, _Side]]:
    layout = spec.layout
    lanes = int(rng.integers(layout.lanes[0], layout.lanes[1] + 1))
    width = uniform(rng, layout.lane_width)
    parking = {side: 2.2 if rng.random() < layout.parking else 0.0 for side in (-1, 1)}
    ours = (lanes + 1) // 2
    centre_to_left, centre_to_right = (lanes - ours) * width, ours * width
    lane = (ours - 0.5) * width
    sides = {}
    for side, half in ((-1, centre_to_left), (1, centre_to_right)):
        verge = uniform(rng, layout.verge) if rng.random() < layout.verge_share else 0.0
        sides[side] = _Side(half + parking[side], verge, uniform(rng, layout.sidewalk), uniform(rng, layout.yard))
    asphalt = surfaces.shared("asphalt", TRAIN_ID["road"])
    paving = surfaces.shared("paving", TRAIN_ID["sidewalk"])
    grass = surfaces.shared("grass", TRAIN_ID["terrain"])
    lawn = surfaces.add("grass", TRAIN_ID["terrain"])

    def strips(side: _Side) -> list[tuple[float, int]]:
        yard = lawn if rng.random() < layout.yard_grass else paving
        return [(side.kerb, asphalt), (side.verge, grass), (side.walk, paving), (side.facade, yard)]

    left, right = strips(sides[-1]), strips(sides[1])
    edges = [-e for e, _ in reversed(left)] + [e for e, _ in right]
    kinds = [lawn, *[s for _, s in reversed(left)][:-1], asphalt, *[s for _, s in right][1:], lawn]
    lines = [(k * width - centre_to_left, k != lanes - ours or lanes == 2) for k in range(1, lanes)]
    lines += [(-centre_to_left, False)] if parking[-1] else []
    lines += [(centre_to_right, False)] if parking[1] else []
    crossing = None
    walks: list[tuple[float, float]] = []
    if rng.random() < layout.crossing_share:
        near = float(rng.uniform(9, 34))
        crossing = (near, near + float(rng.uniform(7, 11)))
        walks = [(near - 4.2, near - 1.2), (crossing[1] + 1.2, crossing[1] + 4.2)]
    elif rng.random() < 0.4:
        near = float(rng.uniform(6, 25))
        walks = [(near, near + 3.2)]
    road = (-sides[-1].kerb, sides[1].kerb)
    kerb, marking = surfaces.shared("kerb", TRAIN_ID["sidewalk"]), surfaces.shared("marking", TRAIN_ID["road"])
    ground = Ground(tuple(edges), tuple(kinds), road, tuple(lines), crossing, tuple(walks), asphalt, marking, kerb)
    return ground, lane, sides


def _row(world: World, rng: np.random.Generator, side: int, at: _Side) -> None:
    """Buildings and gaps along one side, from near to far."""
    layout = world.spec.layout
    z = START - float(rng.uniform(0, 8))
    crossing = world.ground.crossing
    while z < layout.end:
        gap = rng.random() < layout.gap_share
        length = uniform(rng, layout.gap_length if gap else layout.facade_length)
        if crossing is not None and z < crossing[1] + 1.5 and z + length > crossing[0] - 1.5:
            length = crossing[0] - 2.5 - z
            if length > 3:
                _building(world, rng, side, at, z, length)
            z = crossing[1] + 2.5
            continue
        if gap:
            _gap(world, rng, side, at, z, length)
        else:
            _building(world, rng, side, at, z, length)
        z += length


def _building(world: World, rng: np.random.Generator, side: int, at: _Side, z: float, length: float) -> None:
    layout, s = world.spec.layout, world.surfaces
    label = TRAIN_ID["building"]
    height, floor = uniform(rng, layout.facade_height), uniform(rng, layout.floor)
    window = uniform(rng, layout.window_width)
    low, high = layout.window_share
    facade = Facade(
        floor,
        window / uniform(rng, (low, high)),
        window / 2,
        floor * uniform(rng, (low, high)) / 2,
        int(rng.integers(1 << 16)),
    )
    parts = (s.add("wall", label), s.add("window", label), s.add("door", label), s.add("roof", label))
    x = side * (at.facade + pick(rng, [0.0, 0.0, 0.6, 1.5]))
    sun = world.light.sun_direction
    # A row of the same mean height stands on the other side of the street and shades this one.
    across = 2 * at.facade * sun[1] / max(abs(float(sun[0])), 0.2)
    shadow = float(sum(layout.facade_height)) / 2 - across if sun[0] * side < 0 else 0.0
    world.patches.append(Patch(x, 0, z, 90, length, height, parts, facade=facade, shadow=shadow))
    depth = float(rng.uniform(8, 12))
    start = x if side > 0 else x - depth
    if z > 0:
        world.patches.append(Patch(start, 0, z, 0, depth, height, parts, facade=facade))
    if rng.random() < 0.4:
        _fence(world, rng, side * (at.walk + 0.1), z, length)


def _fence(world: World, rng: np.random.Generator, x: float, z: float, length: float) -> None:
    fence = world.surfaces.add("fence", TRAIN_ID["fence"])
    height = uniform(rng, world.spec.layout.fence_height)
    world.patches.append(Patch(x, 0, z, 90, length, height, (fence,)))
    for k in np.arange(0, length, 3.0):
        if 0.5 < z + k < 25:
            world.patches.append(Patch(x - 0.1, 0, z + float(k), 0, 0.2, height + 0.12, (fence,)))


def _gap(world: World, rng: np.random.Generator, side: int, at: _Side, z: float, length: float) -> None:
    """A stretch without a house: often a fence, with bushes and trees behind it."""
    if rng.random() < 0.75:
        _fence(world, rng, side * (at.walk + float(rng.uniform(0.1, 0.5))), z, length)
    elif rng.random() < 0.6:
        _bush(world, rng, side * (at.walk + 0.8), z, length, 90)
    for k in np.arange(z + 1.5, z + length - 0.5, 4.5):
        if k > 0.5 and rng.random() < 0.6:
            _tree(world, rng, side * (at.facade + float(rng.uniform(1.5, 6))), float(k))


def _bush(world: World, rng: np.random.Generator, x: float, z: float, length: float, yaw: float) -> None:
    leaves = world.surfaces.add("foliage", TRAIN_ID["vegetation"])
    kinds = world.bank["hedge"]
    sprite = kinds[int(rng.integers(len(kinds)))]
    world.patches.append(
        Patch(x, 0, z, yaw, length, float(rng.uniform(1.0, 2.4)), (leaves,), sprite, bool(rng.integers(2)))
    )


def _tree(world: World, rng: np.random.Generator, x: float, z: float, scale: float = 1.0) -> None:
    layout, s = world.spec.layout, world.surfaces
    label = TRAIN_ID["vegetation"]
    height = scale * uniform(rng, layout.tree_height)
    width = height * uniform(rng, layout.tree_aspect)
    kinds = world.bank["tree"]
    parts = (s.add("foliage", label), s.shared("trunk", label))
    sprite = kinds[int(rng.integers(len(kinds)))]
    world.patches.append(Patch(x - width / 2, 0, z, 0, width, height, parts, sprite, bool(rng.integers(2))))


def _street_trees(world: World, rng: np.random.Generator, side: int, at: _Side) -> None:
    layout = world.spec.layout
    if rng.random() > layout.tree_share:
        return
    z = float(rng.uniform(2, 14))
    while z < 60:
        if not _in_crossing(world, z, 3.0):
            _tree(world, rng, side * ((at.kerb + at.verge) / 2 + 0.6), z, 0.85)
        z += uniform(rng, layout.tree_spacing)


def _in_crossing(world: World, z: float, margin: float) -> bool:
    c = world.ground.crossing
    return c is not None and c[0] - margin < z < c[1] + margin


def _poles(world: World, rng: np.random.Generator, side: int, at: _Side) -> None:
    """Lamp posts, traffic lights and signs along the kerb."""
    layout = world.spec.layout
    z = float(rng.uniform(5, 10))
    c = world.ground.crossing
    if c is not None:
        _light_pole(world, rng, side * (at.kerb + 0.45), c[0] - 0.7, side)
    while z < layout.poles_to:
        x = side * (at.kerb + float(rng.uniform(0.35, 0.7)))
        if not _in_crossing(world, z, 1.5):
            kind = rng.random()
            if kind < 0.4:
                _light_pole(world, rng, x, z, side)
            elif kind < 0.9:
                _sign_pole(world, rng, x, z, side)
            else:
                _post(world, x, z, 0.16, float(rng.uniform(5.5, 7.5)))
        z += uniform(rng, layout.pole_spacing)


def _post(world: World, x: float, z: float, width: float, height: float) -> None:
    pole = world.surfaces.shared("pole", NOTHING)
    world.patches.append(Patch(x - width / 2, 0, z, 0, width, height, (pole,), thin=True))


def _light_pole(world: World, rng: np.random.Generator, x: float, z: float, side: int) -> None:
    """A traffic light on a post; half of them carry a second one on an arm over the road."""
    label, kinds = TRAIN_ID["light"], world.bank["light"]
    parts = tuple(world.surfaces.shared(m, label) for m in PARTS["light"])
    sprite = kinds[int(rng.integers(len(kinds)))]
    size = uniform(rng, world.spec.layout.light_size)
    bottom = float(rng.uniform(2.2, 2.8))
    places = [(x, bottom)]
    height = bottom + size
    if rng.random() < 0.5:
        reach, top = float(rng.uniform(1.6, 3.2)), float(rng.uniform(4.2, 5.0))
        places.append((x - side * reach, top - 0.2))
        height = top + size * 0.6
        pole = world.surfaces.shared("pole", NOTHING)
        left = min(x, x - side * reach)
        world.patches.append(Patch(left, top + size * 0.4, z, 0, reach, 0.14, (pole,), thin=True))
    _post(world, x, z, 0.16, height)
    for px, py in places:
        # A hair in front of its post, so that the post does not fight with it for pixels.
        world.patches.append(Patch(px - size * 0.22, py, z - 0.06, 0, size * 0.44, size, parts, sprite, thin=True))


def _sign_pole(world: World, rng: np.random.Generator, x: float, z: float, side: int) -> None:
    """One or two signs above each other on a post; wide boards hang higher."""
    label, layout = TRAIN_ID["sign"], world.spec.layout
    size = uniform(rng, layout.sign_size)
    board = rng.random() < layout.board_share
    y = float(rng.uniform(2.6, 3.4)) if board else float(rng.uniform(1.9, 2.5))
    count = 1 if board or rng.random() < 0.6 else 2
    for k in range(count):
        kind = "board" if board else SIGNS[int(rng.integers(4))]
        parts = tuple(world.surfaces.shared(m, label) for m in SIGN_COLOURS[kind])
        kinds = world.bank[kind]
        width = size * float(rng.uniform(1.8, 2.4)) if board else size
        centre = x - side * 0.3 * width if board else x
        world.patches.append(
            Patch(
                centre - width / 2,
                y + k * size * 1.05,
                z - 0.06,
                0,
                width,
                size,
                parts,
                kinds[int(rng.integers(len(kinds)))],
                thin=True,
            )
        )
    _post(world, x, z, 0.12, y + count * size)


def _backdrop(world: World, rng: np.random.Generator, sides: dict[int, _Side]) -> None:
    """Rows of trees behind the houses, and what stands at the end of the street."""
    s = world.spec.layout
    for side in (-1, 1):
        x = side * (sides[side].facade + 16.0)
        leaves = world.surfaces.add("foliage", TRAIN_ID["vegetation"])
        kinds = world.bank["hedge"]
        for k in range(3):
            z, sprite = START + 36.0 * k, kinds[int(rng.integers(len(kinds)))]
            world.patches.append(Patch(x, 0, z, 90, 37.0, float(rng.uniform(3, 7)), (leaves,), sprite, bool(k % 2)))
    left, right = -sides[-1].facade - 18, sides[1].facade + 18
    if rng.random() < s.closed_share:
        label = TRAIN_ID["building"]
        parts = tuple(world.surfaces.add(m, label) for m in ("wall", "window", "door", "roof"))
        facade = Facade(uniform(rng, s.floor), 2.6, 0.7, 0.8, int(rng.integers(1 << 16)))
        height = uniform(rng, s.facade_height)
        world.patches.append(Patch(left, 0, s.end + 6, 0, right - left, height, parts, facade=facade))
    else:
        leaves = world.surfaces.add("foliage", TRAIN_ID["vegetation"])
        for k in range(3):
            kinds = world.bank["hedge"]
            width = (right - left) / 3
            sprite = kinds[int(rng.integers(len(kinds)))]
            world.patches.append(
                Patch(left + k * width, 0, s.end + 6 + k, 0, width * 1.1, float(rng.uniform(4, 9)), (leaves,), sprite)
            )
