"""Clips: draw a world, look at it from a moving camera, and work out where every pixel came from."""

from __future__ import annotations

import dataclasses
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..clip import LabelledClip
from .buffers import Buffers
from .camera import Camera, rotation
from .domains import Domain, get_domain
from .night import halos, scattered
from .raster import render_buffers
from .scene import GROUND, SKY, Floats, Patch, Solid, World
from .sensor import clean, expose, pick, sample_sensor, uniform
from .shade import shade, shadow_maps, tables
from .spec import DomainSpec
from .street import sample_street
from .textures import tiles
from .traffic import add_traffic
from .weather import fallen, wet_ground

VERSION = 1
"""Raise it when the pictures change; it goes into the hash of cached clips."""

# Linux' C library gives freed arrays back to the system and fetches the same memory again page by page, 3,000 times a clip, until a
# block of this size has been freed once; from then on it keeps twice as much.
np.empty(2**24, np.uint8)

Part = Callable[..., np.random.Generator]


@dataclass(frozen=True)
class Scene:
    """Everything that a clip is drawn from. Age counts frames back from the current one (age 0)."""

    world: World
    cameras: tuple[Camera, ...]
    """By age."""


def random_parts(domain: str, world: int, index: int) -> Part:
    """Independent generators by name: ``part("street")``, ``part("sensor", age)``. Of a mixture ``domain`` is the base."""
    base = [zlib.crc32(domain.encode()), world & 0xFFFFFFFF, world >> 32, index & 0xFFFFFFFF, index >> 32]

    def part(name: str, number: int = 0) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence([*base, zlib.crc32(name.encode()), number]))

    return part


def sample_scene(spec: DomainSpec, part: Part, height: int, width: int, frames: int) -> Scene:
    """Draw the world and the camera's path; neither depends on the number of frames or their size."""
    spec = of_clip(spec, part)
    world = sample_street(spec, part)
    add_traffic(world, part("traffic"))
    return Scene(world, _cameras(spec, part, world.lane, height, width, frames))


def of_clip(spec: DomainSpec, part: Part) -> DomainSpec:
    """The domain as one clip has it: of each group that has alternatives, one is drawn."""
    chosen = {}
    for group in sorted({a.group for a in spec.alternatives}):
        options = [a for a in spec.alternatives if a.group == group]
        point, number = part(f"choice of {group}").random(), 0
        while number < len(options) - 1 and point >= sum(a.share for a in options[: number + 1]):
            number += 1
        chosen[group] = options[number].spec
    return dataclasses.replace(spec, **chosen, alternatives=()) if chosen else spec  # type: ignore[arg-type]


def _cameras(spec: DomainSpec, part: Part, lane: float, height: int, width: int, frames: int) -> tuple[Camera, ...]:
    c, rng = spec.camera, part("camera")
    y, x = uniform(rng, c.height), lane + float(rng.normal(0, 0.25))
    view, pitch, yaw, roll = (uniform(rng, b) for b in (c.field_of_view, c.pitch, c.yaw, c.roll))
    step, turn = uniform(rng, c.step), uniform(rng, c.yaw_step) * pick(rng, [-1.0, 1.0])
    focal = width / 2 / np.tan(np.deg2rad(view) / 2)
    cameras = []
    position = np.array([x, y, 0.0])
    for age in range(frames):
        heading = yaw - age * turn
        bump = c.pitch_jitter * float(part("bump", age).standard_normal())
        cameras.append(Camera(position.copy(), rotation(heading, pitch + bump, roll), float(focal), height, width))
        # The car drives along the street's axis with a slight drift towards where it looks.
        position = position - step * np.array(
            [np.sin(np.deg2rad(0.2 * heading)), 0.0, np.cos(np.deg2rad(0.2 * heading))]
        )
    return tuple(cameras)


def backward_flow(
    world: World, current: Buffers, previous: Buffers, camera: Camera, earlier: Camera
) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Where each pixel's surface point was one frame earlier.

    The 3-D point seen at a pixel is moved back with its object and projected into the earlier camera; the sky is
    infinitely far away and only turns. A point is valid if it falls inside the earlier frame and the nearest pixel
    there shows the same primitive (for solids also at about the same depth, since they can hide their own faces).

    Returns:
        ``flow (2, H, W)`` float32, pixels, x first; ``valid (H, W)`` bool.
    """
    bodies: list[Patch | Solid] = [*world.patches, *world.solids]
    velocity = np.array([(0.0, 0.0), (0.0, 0.0), *(body.velocity for body in bodies)], np.float32)
    primitive = current.primitive.astype(np.intp)
    sky = primitive == SKY
    depth = np.where(sky, np.float32(1), current.depth)
    shift = np.where(sky, np.float32(0), np.float32(1))
    moved = (camera.position - earlier.position).astype(np.float32)
    x = depth * current.rays[0] + shift * (moved[0] - velocity[:, 0].take(primitive))
    y = depth * current.rays[1] + shift * moved[1]
    z = depth * current.rays[2] + shift * (moved[2] - velocity[:, 1].take(primitive))
    column, row, reach = earlier.project(x, y, z)
    height, width = depth.shape
    valid = (column >= 0) & (column <= width - 1) & (row >= 0) & (row <= height - 1) & (reach > 0.1)
    i, j = (np.where(valid, np.rint(position), 0).astype(np.intp) for position in (row, column))
    nearest = i * width + j
    valid &= previous.primitive.take(nearest) == primitive
    (folded,) = (primitive.reshape(-1) >= 2 + len(world.patches)).nonzero()
    if folded.size:
        reached = reach.reshape(-1).take(folded)
        apart = np.abs(previous.depth.take(nearest.reshape(-1).take(folded)) - reached)
        valid.reshape(-1)[folded] &= apart <= np.maximum(np.float32(0.15), np.float32(0.03) * reached)
    limit = np.float32(4 * (height + width))  # points beside or behind the earlier camera are invalid, not infinite
    flow = np.stack(
        [column - np.arange(width, dtype=np.float32)[None], row - np.arange(height, dtype=np.float32)[:, None]]
    )
    return np.clip(flow, -limit, limit, out=flow), valid


def render_clip(
    domain: Domain,
    world: int,
    index: int,
    height: int = 128,
    width: int = 256,
    frames: int = 2,
    noise_free: bool = False,
) -> LabelledClip:
    """Render one clip; a pure function of its arguments.

    Args:
        domain: a name (``sim``, ``cam``, ``city``), a mixture, or the parameters themselves.
        world: seed of a family of clips, 0 <= world < 2**64.
        index: number of the clip in that family, 0 <= index < 2**64.
        height, width: of the frames, at least 16 pixels.
        frames: at least 2. The last frames of a longer clip are those of the shorter one.
        noise_free: leave the sensor out (for tests and for looking at the geometry).

    Returns:
        Frames, exact backward flow, validity and the label of the last frame.

    Raises:
        ValueError: for an unknown domain or a number out of range.
    """
    spec = get_domain(domain)
    # A label is made: refused while a method runs (bench/core/access.py).
    sys.audit("bench.render", spec.name, world, index)
    if not (0 <= world < 2**64 and 0 <= index < 2**64):
        raise ValueError(f"MiniStreet: world and index must lie in 0..2**64-1, got world={world}, index={index}")
    if height < 16 or width < 16 or frames < 2:
        raise ValueError(
            f"MiniStreet: need height >= 16, width >= 16 and frames >= 2, got {height} x {width}, {frames} frames"
        )
    part = random_parts(spec.name, world, index)
    scene = sample_scene(spec, part, height, width, frames)
    spec = scene.world.spec
    surfaces, table = scene.world.surfaces.freeze(), tables(scene.world)
    textures = tiles(spec.texture, zlib.crc32(spec.name.encode()))
    sensor, weather = sample_sensor(spec.sensor, part("lens")), scene.world.weather
    shadows = shadow_maps(scene.world, frames)
    buffers = [render_buffers(scene.world, camera, age) for age, camera in enumerate(scene.cameras)]
    images = []
    for age, (buffer, camera) in enumerate(zip(buffers, scene.cameras, strict=True)):
        light = shade(scene.world, surfaces, table, textures, buffer, camera, shadows[age])
        light = wet_ground(halos(light, scene.world.light, buffer, camera), weather.wet, buffer, camera, textures)
        if not noise_free:
            light = scattered(light, scene.world.light, buffer, camera, part("flare", age))
            light = fallen(light, weather, spec.weather, part, age)
        images.append(clean(light) if noise_free else expose(light, sensor, part("sensor", age)))
    flows = [
        backward_flow(scene.world, buffers[age], buffers[age + 1], scene.cameras[age], scene.cameras[age + 1])
        for age in range(frames - 1)
    ]
    return LabelledClip(
        frames=np.stack(images[::-1]),
        flow=np.stack([f for f, _ in flows[::-1]]),
        valid=np.stack([v for _, v in flows[::-1]]),
        key=f"{spec.name}-{world}-{index}",
        label=surfaces.label[buffers[0].surface],
    )


def render_labels(
    domain: Domain, world: int, index: int, height: int = 128, width: int = 256, frames: int = 2
) -> npt.NDArray[np.uint8]:
    """Labels of every frame of :func:`render_clip` with the same arguments, uint8 ``(frames, H, W)``, oldest first."""
    spec = get_domain(domain)
    sys.audit("bench.render", spec.name, world, index)
    scene = sample_scene(spec, random_parts(spec.name, world, index), height, width, frames)
    surface = scene.world.surfaces.freeze().label
    buffers = (render_buffers(scene.world, camera, age) for age, camera in enumerate(scene.cameras))
    return np.stack([surface[buffer.surface] for buffer in buffers][::-1])


__all__ = ["GROUND", "VERSION", "backward_flow", "render_clip", "render_labels", "sample_scene"]
