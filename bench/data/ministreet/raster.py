"""Visibility: the z-buffer of one frame and what is seen at each of its pixels."""

from __future__ import annotations

import sys

import numpy as np

from .buffers import Buffers
from .camera import Camera
from .patches import draw_patches
from .scene import GROUND, SKY, Floats, Ground, Ints, World
from .solids import draw_solids

FAR = 400.0
"""The ground plane ends in the haze at this depth, metres."""


def render_buffers(world: World, camera: Camera, age: int) -> Buffers:
    """Draw the world as it was ``age`` frames before the current one."""
    sys.audit("bench.render")  # labels come of it
    rays = camera.rays()
    shape = rays[0].shape
    height = np.float32(camera.position[1])
    down = rays[1] < -height / np.float32(FAR)
    slope = np.where(down, -rays[1], np.float32(1))
    depth = np.where(down, height / slope, np.float32(np.inf))
    reach = np.where(down, depth, np.float32(0))
    buffers = Buffers(
        rays, depth, np.where(down, np.int32(GROUND), np.int32(SKY)), np.zeros(shape, np.int32),
        np.float32(camera.position[0]) + reach * rays[0], np.float32(camera.position[2]) + reach * rays[2],
        slope, np.ones(shape, np.float32),
    )  # fmt: skip
    flat = buffers.flat()
    draw_patches(flat, camera, world.patches, age)
    draw_solids(flat, camera, world.solids, 2 + len(world.patches), age, world.light.sun_direction)
    ground = np.flatnonzero(flat.primitive == GROUND)
    flat.surface[ground] = ground_surface(world.ground, flat.u.take(ground), flat.v.take(ground))
    return buffers


def ground_surface(ground: Ground, x: Floats, z: Floats) -> Ints:
    """Surface number of points of the ground plane."""
    strip = np.zeros(x.shape, np.int32)
    for edge in ground.edges:
        strip += x > np.float32(edge)
    surface = np.take(np.array(ground.strips, np.int32), strip)
    if ground.crossing is not None:
        surface[(z > np.float32(ground.crossing[0])) & (z < np.float32(ground.crossing[1]))] = ground.asphalt
    return surface


__all__ = ["FAR", "Buffers", "ground_surface", "render_buffers"]
