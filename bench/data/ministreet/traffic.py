"""Sample what moves or may move: cars, trucks, buses, motorcycles, bicycles and people."""

from __future__ import annotations

import numpy as np

from ..labels import TRAIN_ID
from . import vehicles
from .scene import Patch, Solid, World
from .sensor import pick, uniform
from .spec import Count
from .sprites import PARTS, Sprite


class _Places:
    """Rectangles of the ground that are taken, ``(x0, x1, z0, z1)``."""

    def __init__(self, lane: float, free: float) -> None:
        self.taken = [(lane - 1.4, lane + 1.4, -30.0, free)]

    def take(self, x: float, z: float, half_x: float, half_z: float) -> bool:
        """Reserve a rectangle; False if it overlaps a taken one."""
        box = (x - half_x, x + half_x, z - half_z, z + half_z)
        if any(box[0] < b[1] and b[0] < box[1] and box[2] < b[3] and b[2] < box[3] for b in self.taken):
            return False
        self.taken.append(box)
        return True


def add_traffic(world: World, rng: np.random.Generator) -> None:
    """Add all things to a street: big ones first, each where there is room (twenty tries)."""
    traffic = world.spec.traffic
    places = _Places(world.lane, traffic.free_ahead)
    counts: tuple[tuple[str, Count], ...] = (("bus", traffic.buses), ("truck", traffic.trucks), ("car", traffic.cars))
    for kind, bounds in counts:
        for _ in range(_count(rng, bounds)):
            _vehicle(world, rng, places, kind)
    for kind, bounds in (("motorcycle", traffic.motorcycles), ("bicycle", traffic.bicycles)):
        for _ in range(_count(rng, bounds)):
            _cycle(world, rng, places, kind)
    for _ in range(_count(rng, traffic.persons)):
        _walker(world, rng, places)


def _in_view(world: World, x: float, z: float) -> bool:
    """Whether a place lies well inside the field of view of the current frame (if the camera looked straight ahead)."""
    return abs(x - world.lane) < 0.9 * z * float(np.tan(np.deg2rad(world.spec.camera.field_of_view[0]) / 2))


def _count(rng: np.random.Generator, bounds: Count) -> int:
    return int(rng.integers(bounds[0], bounds[1] + 1))


def _distance(rng: np.random.Generator, near: float, far: float) -> float:
    """More often near than far: uniform in the root of the distance."""
    return float(rng.uniform(near**0.5, far**0.5) ** 2)


def _shape(world: World, rng: np.random.Generator, kind: str) -> tuple[tuple[float, float, float], vehicles.Shape]:
    t = world.spec.traffic
    if kind == "car":
        size = (uniform(rng, t.car_length), uniform(rng, t.car_height), float(rng.uniform(1.68, 1.86)))
        return size, vehicles.car(rng, *size, uniform(rng, t.cabin))
    if kind == "truck":
        size = (uniform(rng, t.truck_length), uniform(rng, t.truck_height), float(rng.uniform(2.2, 2.5)))
        return size, vehicles.truck(rng, *size)
    size = (uniform(rng, t.bus_length), uniform(rng, t.bus_height), float(rng.uniform(2.4, 2.55)))
    return size, vehicles.bus(rng, *size)


def _vehicle(world: World, rng: np.random.Generator, places: _Places, kind: str) -> None:
    t, ground = world.spec.traffic, world.ground
    size, (bodies, pictures) = _shape(world, rng, kind)
    left, right = ground.road
    for _ in range(20):
        speed, heading = uniform(rng, t.speed), 0.0
        parked = rng.random() < t.parked_share
        choice = rng.random()
        z = _distance(rng, t.near, t.vehicles_to) + size[0] / 2
        if ground.crossing is not None and choice < 0.25:  # cross traffic
            heading = pick(rng, [-90.0, 90.0])
            z = float(rng.uniform(ground.crossing[0] + 1.5, ground.crossing[1] - 1.5))
            x = float(rng.uniform(left - 5, right + 5))
            parked = False
        elif parked:
            side = pick(rng, [-1, 1])
            x = right - size[2] / 2 - 0.2 if side > 0 else left + size[2] / 2 + 0.2
            heading = (0.0 if side > 0 else 180.0) + float(rng.normal(0, 2))
        elif choice < 0.45:
            x = world.lane + float(rng.normal(0, 0.15))
        else:
            x, heading = float(rng.uniform(left + 1.2, max(left + 1.4, -1.5))), 180.0 + float(rng.normal(0, 1.5))
        across = abs(heading) == 90.0
        half = (size[0] / 2 + 0.3, size[2] / 2 + 0.3)
        if not parked and not across and abs(z - 0) < size[0] / 2:
            continue
        if places.take(x, z, half[0] if across else half[1], half[1] if across else half[0]):
            break
    else:
        return
    label = TRAIN_ID[kind]
    second = {"car": "car", "truck": "cargo", "bus": "sign_white"}[kind]
    paint = world.surfaces.add(kind, label)
    surfaces = tuple(
        paint
        if part == "paint"
        else world.surfaces.add(second, label)
        if part == "second"
        else world.surfaces.shared(part, label)
        for part in vehicles.PARTS
    )
    a = np.deg2rad(heading)
    velocity = (0.0, 0.0) if parked else (float(speed * np.sin(a)), float(speed * np.cos(a)))
    world.solids.append(Solid(x, z, heading, size, bodies, pictures, vehicles.SCALE, surfaces, velocity))


def _sprite(world: World, rng: np.random.Generator, kind: str) -> Sprite:
    kinds = world.bank[kind]
    return kinds[int(rng.integers(len(kinds)))]


def _cycle(world: World, rng: np.random.Generator, places: _Places, kind: str) -> None:
    """A two-wheeler: parked at the kerb, riding along the road or across it, with or without a rider."""
    t, ground = world.spec.traffic, world.ground
    length = uniform(rng, t.cycle_length)
    height = length * (0.6 if kind == "motorcycle" else 0.61)
    left, right = ground.road
    for _ in range(20):
        moving = rng.random() < 0.55
        across = not moving or rng.random() < 0.8
        z = _distance(rng, t.near, t.far)
        if moving:
            x = float(rng.uniform(left + 0.5, right - 0.5)) if across else pick(rng, [left + 0.9, right - 0.9])
        else:
            x = pick(rng, [left - rng.uniform(0.2, 2.2), right + rng.uniform(0.2, 2.2)])
        if _in_view(world, x, z) and places.take(x, z, length / 2 if across else 0.5, 0.3 if across else length / 2):
            break
    else:
        return
    label = TRAIN_ID[kind]
    paint = world.surfaces.add(kind, label)
    parts = tuple(paint if m == kind else world.surfaces.shared(m, label) for m in PARTS[kind])
    direction = pick(rng, [-1, 1])
    speed = uniform(rng, t.cycle_speed) if moving else 0.0
    rider = moving and rng.random() < t.rider_share
    # "across" shows the side view in a plane turned by up to 25 degrees; along the road one sees an end.
    yaw = float(rng.uniform(-25, 25)) if across else 0.0
    ex, ez = float(np.cos(np.deg2rad(yaw))), float(np.sin(np.deg2rad(yaw)))
    width = length if across else height * 0.56
    along = direction * speed
    velocity = (along * ex, along * ez) if across else (0.0, speed if x > 0 else -speed)
    x0, z0 = x - width / 2 * ex, z - width / 2 * ez
    sprite = _sprite(world, rng, kind if across else f"{kind}_end")
    world.patches.append(Patch(x0, 0, z0, yaw, width, height, parts, sprite, direction < 0, velocity))
    if rider:
        seat, tall = height * 0.42, uniform(rng, t.person_height) * 0.78
        wide = tall * 40 / 96
        offset = width / 2 - direction * 0.06 * length * across - wide / 2
        shift = 0.02 if across else -0.03  # just behind the side view's frame, just in front of an end view's
        world.patches.append(
            Patch(
                x0 + offset * ex - shift * ez, seat, z0 + offset * ez + shift, yaw, wide, tall, _clothes(world),
                _sprite(world, rng, "rider" if across else "person"), direction < 0, velocity,
            )
        )  # fmt: skip


def _clothes(world: World) -> tuple[int, ...]:
    """New surfaces of a person, in the order of the sprite's parts."""
    label = TRAIN_ID["person"]
    s = world.surfaces
    return tuple(s.shared(m, label) if m == "tyre" else s.add(m, label) for m in PARTS["person"])


def _walker(world: World, rng: np.random.Generator, places: _Places) -> None:
    """A person on a sidewalk, or on the road where there is a crosswalk or now and then without one."""
    t, ground = world.spec.traffic, world.ground
    left, right = ground.road
    height = uniform(rng, t.person_height)
    width = height * 40 / 96
    for _ in range(20):
        z, on_road = _distance(rng, t.near, t.far), rng.random() < 0.3
        if on_road:
            if ground.crosswalks:
                near, far = ground.crosswalks[int(rng.integers(len(ground.crosswalks)))]
                z = float(rng.uniform(near + 0.3, far - 0.3))
            x = float(rng.uniform(left + 0.5, right - 0.5))
        else:
            side = pick(rng, [-1, 1])
            x = (right if side > 0 else left) + side * float(rng.uniform(0.5, 3.5))
        if z > t.near - 1 and _in_view(world, x, z) and places.take(x, z, 0.35, 0.25):
            break
    else:
        return
    speed, direction = uniform(rng, t.walk_speed), pick(rng, [-1, 1])
    velocity = (direction * speed, 0.0) if on_road else (0.0, direction * speed)
    world.patches.append(
        Patch(
            x - width / 2,
            0,
            z,
            0,
            width,
            height,
            _clothes(world),
            _sprite(world, rng, "person"),
            direction < 0,
            velocity,
        )
    )
