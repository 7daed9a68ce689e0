"""Sample the light of a clip: sun, sky, air, and what shines by night."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .scene import Floats, Light, Weather
from .sensor import uniform
from .spec import Colour, DomainSpec, LightSpec

LAMPLIGHT = ((1.0, 0.72, 0.4), (1.0, 0.86, 0.66), (0.86, 0.93, 1.0))
"""Colours of street lamps: sodium, warm and cold."""


def _pick(rng: np.random.Generator, colours: tuple[Colour, ...]) -> Floats:
    return np.array([c / 255 for c in colours[int(rng.integers(len(colours)))]], np.float32)


def sample_light(spec: DomainSpec, rng: np.random.Generator, weather: Weather) -> Light:
    """Draw sun, sky and air of a clip; the weather may take the sun away and thicken the air."""
    s = spec.light
    elevation, azimuth = np.deg2rad(uniform(rng, s.sun_elevation)), rng.uniform(0, 2 * np.pi)
    overcast = rng.random() < s.overcast_share
    sun = 0.0 if overcast else uniform(rng, s.sun)
    ambient = uniform(rng, s.ambient) + (0.3 if overcast else 0.0)
    warmth = uniform(rng, s.warmth)
    tint = np.array([1 + warmth, 1.0, 1 - warmth])
    light = Light(
        sun_direction=_direction(elevation, azimuth),
        sun=np.asarray(sun * tint, np.float32),
        ambient=np.asarray(ambient * (2 - tint) ** 0.5, np.float32),
        haze=uniform(rng, s.haze),
        haze_colour=_pick(rng, s.haze_tint),
        zenith=_pick(rng, s.sky_zenith),
        horizon=_pick(rng, s.sky_horizon),
        cloud=_pick(rng, s.cloud),
        cover=0.95 if overcast else uniform(rng, s.cloud_cover),
        softness=uniform(rng, s.shadow_softness),
        cloud_shift=(float(rng.random()), float(rng.random())),
    )
    if not spec.own_draws:
        return light
    if rng.random() < s.sun_ahead:
        light = replace(light, sun_direction=_direction(elevation, np.deg2rad(rng.uniform(-20, 20))))
    return _under(_with_lamps(light, s, rng), weather)


def _direction(elevation: float, azimuth: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Towards the sun; azimuth 0 is straight ahead, angles in radians."""
    return np.array([np.cos(elevation) * np.sin(azimuth), np.sin(elevation), np.cos(elevation) * np.cos(azimuth)])


def _with_lamps(light: Light, s: LightSpec, rng: np.random.Generator) -> Light:
    """Street lamps every 9 to 13 metres, left and right in turn, and what else shines."""
    strength, colour = uniform(rng, s.lamps), LAMPLIGHT[int(rng.integers(len(LAMPLIGHT)))]
    z = np.cumsum(np.concatenate([[rng.uniform(-8, 4)], rng.uniform(9, 13, 5)]))
    x = np.where(np.arange(6) % 2 == int(rng.integers(2)), -3.4, 3.4)
    places = np.stack([x, rng.uniform(5.2, 6.4, 6), z], 1)
    return replace(
        light,
        lamps=places if s.lamps[1] > 0 else np.zeros((0, 3)),
        lamp=np.asarray(strength * np.array(colour), np.float32),
        headlights=uniform(rng, s.headlights),
        flare=s.flare,
        windows_lit=s.windows_lit,
        bloom=s.bloom,
    )


def _under(light: Light, weather: Weather) -> Light:
    """The light under clouds, through fog: no sun, half of its strength from all sides, grey air and sky."""
    if weather.sunless:
        ambient = light.ambient + np.float32(0.55) * light.sun.mean()
        light = replace(light, ambient=ambient, sun=np.zeros(3, np.float32), cover=0.95)
    if weather.sunless or weather.fog > 0:
        sky = (light.haze_colour, light.zenith, light.horizon, light.cloud)
        air, zenith, horizon, cloud = (_greyed(colour) for colour in sky)
        light = replace(light, haze_colour=air, zenith=zenith, horizon=horizon, cloud=cloud)
    return replace(light, haze=light.haze + weather.fog, fog=weather.fog > 0)


def _greyed(colour: Floats) -> Floats:
    """A third of a colour's saturation, a tenth darker."""
    return np.asarray(0.9 * (0.33 * colour + 0.67 * colour.mean()), np.float32)
