"""Night, rain, fog, a low sun and a cheap camera: the formulas by hand, and what a frame owes to itself and what to its clip."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from bench.data.ministreet import DOMAINS, DomainSpec, get_domain, render_clip
from bench.data.ministreet.camera import Camera, rotation
from bench.data.ministreet.night import halos, lamplight, scattered
from bench.data.ministreet.raster import render_buffers
from bench.data.ministreet.render import random_parts, sample_scene
from bench.data.ministreet.scene import GROUND, SKY, Light, Weather
from bench.data.ministreet.sensor import expose, sample_sensor
from bench.data.ministreet.sky import sample_light
from bench.data.ministreet.spec import SensorSpec, WeatherSpec
from bench.data.ministreet.variants import FOG, LOW_SUN, NIGHT, RAIN
from bench.data.ministreet.weather import fallen, wet_ground
from bench.shifts.protocol import Mixture

WORLD = 970_200
CITY = DOMAINS["city"]


def domain(**groups: object) -> DomainSpec:
    return get_domain(Mixture.model_validate({"domain": "city", "with": groups}))


def still(spec: SensorSpec) -> SensorSpec:
    """A sensor without noise or compression."""
    return dataclasses.replace(
        spec, read_noise=(0, 0), shot_noise=(0, 0), coarse_noise=(0, 0), jpeg=(0, 0), defocus=(0, 0), white_balance=0.0,
        exposure=(1, 1), saturation=(1, 1), gamma=(1, 1), flicker=0.0,
    )  # fmt: skip


def road() -> tuple[object, Camera, object]:
    """A street with nothing on it, a level camera 1.5 m above it with a focal length of 100 pixels, and what it sees."""
    world = sample_scene(CITY, random_parts("city", WORLD, 0), 32, 64, 2).world
    world.patches, world.solids = [], []
    camera = Camera(np.array([0.0, 1.5, 0.0]), rotation(0, 0, 0), 100.0, 65, 129)
    return world, camera, render_buffers(world, camera, 0)


def light(**values: object) -> Light:
    base = sample_light(CITY, np.random.default_rng(0), Weather())
    return dataclasses.replace(base, **values)


# ---------------------------------------------------------------------------------------------------------- night


def test_a_lamp_lights_the_road_as_the_formula_says() -> None:
    """Row 62 is 30 px under the centre: 5 m ahead. A lamp 6 m above it gives 5 / (1 + 2^2) = 1 of its strength there."""
    _, camera, buffers = road()
    lamp = light(lamps=np.array([[0.0, 6.0, 5.0]]), lamp=np.array([0.5, 0.4, 0.2], np.float32))
    energy = lamplight(lamp, buffers.flat(), camera).reshape(65, 129, 3)
    np.testing.assert_allclose(energy[62, 64], [0.5, 0.4, 0.2], rtol=1e-4)
    # Row 47 is 15 px under the centre, 10 m ahead: 5 m further on, d^2 = 61 and 5 / (1 + 61 / 9) = 0.6429.
    np.testing.assert_allclose(energy[47, 64], 0.642857 * np.array([0.5, 0.4, 0.2]), rtol=1e-4)


def test_headlights_are_dipped_and_fall_with_distance() -> None:
    _, camera, buffers = road()
    beam = lamplight(light(headlights=0.5), buffers.flat(), camera).reshape(65, 129, 3)[..., 0]
    # Row 62, straight ahead: depth 5, ray y = -0.3: 1 / (1 + 25 / 64) (0.2 + 0.8 / (1 + e^-9)) = 0.7191.
    assert beam[62, 64] == pytest.approx(0.71902, rel=1e-3)
    assert beam[47, 64] < 0.6 * beam[62, 64]
    assert beam[62, 64 + 45] == pytest.approx(beam[62, 64] * np.exp(-1), rel=1e-3)  # 0.45 aside


def test_a_lamp_glows_unless_something_stands_before_it() -> None:
    _, camera, buffers = road()
    lamp = light(lamps=np.array([[0.0, 6.0, 30.0]]), lamp=np.ones(3, np.float32))
    dark = np.zeros((65, 129, 3), np.float32)
    glow = halos(dark.copy(), lamp, buffers, camera)
    assert glow[17, 64].min() > 1.5  # 4.5 m above the camera and 30 m away: 15 px above the centre
    assert glow[60, 5].max() < 0.05
    buffers.depth[17, 64] = 10.0
    assert halos(dark.copy(), lamp, buffers, camera).max() == 0


def test_night_is_dark_and_has_bright_spots() -> None:
    day, night = (
        np.concatenate([render_clip(d, WORLD, i, 48, 96, noise_free=True).frames[-1].ravel() for i in range(8)])
        for d in (CITY, domain(light="night"))
    )
    assert night.mean() < 0.6 * day.mean()
    assert np.median(night) < 0.5 * np.median(day)
    assert np.percentile(night, 99.5) > 220


def test_as_many_windows_shine_as_asked() -> None:
    """With all windows lit, walls are brighter than with none, and half of them lie between."""
    means = []
    for share in (0.0, 0.5, 1.0):
        spec = dataclasses.replace(CITY, light=dataclasses.replace(NIGHT, windows_lit=share, bloom=0.0))
        means.append(np.mean([render_clip(spec, WORLD, i, 48, 96, noise_free=True).frames.mean() for i in range(8)]))
    assert means[0] + 2 < means[1] < means[2] - 2
    assert (means[1] - means[0]) / (means[2] - means[0]) == pytest.approx(0.5, abs=0.2)


# -------------------------------------------------------------------------------------------------------- low sun


def test_a_low_sun_stands_ahead_as_often_as_said() -> None:
    spec = dataclasses.replace(CITY, light=LOW_SUN)
    suns = [sample_light(spec, np.random.default_rng(k), Weather()).sun_direction for k in range(600)]
    ahead = [abs(np.degrees(np.arctan2(s[0], s[2]))) <= 20 for s in suns]
    assert np.mean(ahead) == pytest.approx(0.6 + 0.4 * 40 / 360, abs=0.06)
    assert all(np.sin(np.deg2rad(6)) <= s[1] <= np.sin(np.deg2rad(13)) for s in suns)


def test_the_veil_is_strongest_at_the_sun_and_differs_between_frames() -> None:
    _, camera, buffers = road()
    direction = np.array([0.0, np.sin(np.deg2rad(10)), np.cos(np.deg2rad(10))])
    sun = light(sun_direction=direction, sun=np.ones(3, np.float32), flare=(0.1, 0.9))
    dark = np.zeros((65, 129, 3), np.float32)
    first, second = (scattered(dark, sun, buffers, camera, np.random.default_rng(k)) for k in (1, 2))
    row, column = np.unravel_index(first[..., 0].argmax(), (65, 129))
    assert (row, column) == (32 - 18, 64)  # 100 tan(10 degrees) = 17.6 px above the centre
    assert first.max() != pytest.approx(float(second.max()), rel=0.05)
    buffers.primitive[row, column] = 2  # a house before the sun
    assert scattered(dark, sun, buffers, camera, np.random.default_rng(1)).max() == pytest.approx(0.4 * first.max())


# -------------------------------------------------------------------------------------------------------- weather


def test_weather_takes_the_sun_and_keeps_the_light() -> None:
    dry, wet = (sample_light(CITY, np.random.default_rng(3), w) for w in (Weather(), Weather(sunless=True)))
    assert dry.sun.max() > 0.4 and wet.sun.max() == 0
    assert wet.ambient.mean() > dry.ambient.mean()
    assert np.ptp(wet.zenith) < 0.5 * np.ptp(dry.zenith)


def test_fog_hides_by_distance() -> None:
    """What is d metres away keeps e^(-fog d) of its contrast with the air, in grey levels of 255."""
    thin, thick = (
        dataclasses.replace(CITY, weather=dataclasses.replace(FOG, fog=(fog, fog))) for fog in (0.001, 0.051)
    )
    scene = sample_scene(thick, random_parts("city", WORLD, 1), 64, 128, 1)
    buffers = render_buffers(scene.world, scene.cameras[0], 0)
    before, after = (render_clip(s, WORLD, 1, 64, 128, noise_free=True).frames[-1].astype(float) for s in (thin, thick))
    air = 255 * scene.world.light.haze_colour[:, None, None]
    visible = (buffers.primitive != SKY) & (before.max(0) < 255)
    assert np.ptp(buffers.depth[visible]) > 25
    expected = air + (before - air) * np.exp(-0.05 * buffers.depth)
    np.testing.assert_allclose(after[:, visible], expected[:, visible], atol=1.1)  # two roundings


def test_wet_ground_is_darker_and_mirrors_what_stands_ahead() -> None:
    _, camera, buffers = road()
    ground = buffers.primitive == GROUND
    picture = np.where(ground[..., None], np.float32(0.5), np.float32(0.0)).repeat(3, -1).reshape(65, 129, 3)
    picture[:, :64][~ground[:, :64]] = 1.0  # left half: a white sky to be mirrored; right half: a black one
    tiles = np.zeros(10 * 21844, np.float32)
    assert wet_ground(picture, 0.0, buffers, camera, tiles) is picture
    wet = wet_ground(picture, 1.0, buffers, camera, tiles)
    assert np.array_equal(wet[~ground], picture[~ground])
    assert wet[62, 20, 0] > wet[62, 108, 0]
    # Without noise a puddle is 0.45; straight ahead in row 62 facing is 0.3: weight 0.45 (0.15 + 0.85 e^-1.05) = 0.2014.
    weight = 0.45 * (0.15 + 0.85 * np.exp(-0.3 * 3.5))
    assert wet[62, 108, 0] == pytest.approx(0.5 * 0.6 * (1 - weight), rel=0.02)
    assert wet[62, 20, 0] == pytest.approx(0.5 * 0.6 * (1 - weight) + weight, rel=0.02)


def part(name: str, number: int = 0) -> np.random.Generator:
    return random_parts("city", WORLD, 4)(name, number)


def test_streaks_are_another_rain_in_every_frame() -> None:
    grey = np.full((48, 96, 3), 0.3, np.float32)
    spec = WeatherSpec(rain=(1, 1))
    frames = [fallen(grey, Weather(rain=1.0), spec, part, age) for age in (0, 1)]
    masks = [f[..., 0] != grey[..., 0] for f in frames]
    assert all(0.05 < w.mean() < 0.6 for w in masks)
    assert np.corrcoef(masks[0].ravel(), masks[1].ravel())[0, 1] < 0.2
    light_rain = fallen(grey, Weather(rain=0.2), spec, part, 0)[..., 0] != grey[..., 0]
    assert light_rain.mean() < 0.4 * masks[0].mean()


def test_drops_stay_until_a_wiper_passes() -> None:
    rng = np.random.default_rng(0)
    picture = rng.random((48, 96, 3), dtype=np.float32)
    spec = WeatherSpec(drops=(5, 5), drop_size=(0.08, 0.1))
    current, previous = (fallen(picture, Weather(), spec, part, age) for age in (0, 1))
    np.testing.assert_array_equal(current, previous)
    hidden = np.abs(current - picture).max(-1) > 0.01
    assert 0.03 < hidden.mean() < 0.25
    wiped = dataclasses.replace(spec, wiper=1.0)
    current, previous = (fallen(picture, Weather(), wiped, part, age) for age in (0, 1))
    assert (np.abs(current - previous).max(-1) > 0.01).mean() > 0.05


def test_a_wiper_crosses_as_often_as_said_and_hides_a_part() -> None:
    white = np.ones((48, 96, 3), np.float32)
    spec = WeatherSpec(wiper=0.4)
    hidden = []
    for index in range(300):
        frame = fallen(white, Weather(), spec, random_parts("city", WORLD, index), 0)
        hidden.append((frame[..., 0] < 0.5).mean())
    assert np.mean(np.array(hidden) > 0) == pytest.approx(0.4, abs=0.09)
    assert 0.01 < np.mean([h for h in hidden if h]) < 0.3


def test_rain_is_dry_in_dry_weather() -> None:
    picture = np.zeros((8, 16, 3), np.float32)
    assert fallen(picture, Weather(), WeatherSpec(), part, 0) is picture
    assert RAIN.sunless == FOG.sunless == 1


# --------------------------------------------------------------------------------------------------------- sensor


def frames_of(spec: SensorSpec, picture: np.ndarray, count: int = 200) -> list[np.ndarray]:
    sensor = sample_sensor(spec, np.random.default_rng(0))
    return [expose(picture.copy(), sensor, np.random.default_rng(k)) for k in range(count)]


def test_badly_exposed_frames_are_as_many_and_as_far_off_as_said() -> None:
    spec = dataclasses.replace(still(CITY.sensor), exposure_share=0.25, exposure_step=(1.0, 1.0))
    levels = np.array([int(f.mean().round()) for f in frames_of(spec, np.full((16, 32, 3), 0.2, np.float32))])
    assert set(levels.tolist()) == {26, 51, 102}  # 0.2 is 51 of 255; half and double of it
    assert np.mean(levels != 51) == pytest.approx(0.25, abs=0.1)


def test_a_jerk_blurs_along_one_direction_and_keeps_the_light() -> None:
    spec = dataclasses.replace(still(CITY.sensor), shake_share=1.0, shake=(9.0, 9.0))
    picture = np.zeros((128, 256, 3), np.float32)
    picture[64, 128] = 1.0
    for frame in frames_of(spec, picture, 20):
        rows, columns = np.nonzero(frame[0])
        assert 5 <= len(rows) <= 9  # 9 px along an axis, fewer steps on the diagonal
        assert frame[0].sum() == pytest.approx(255, abs=9)
        spread = np.linalg.svd(np.stack([rows - rows.mean(), columns - columns.mean()]).astype(float))[1]
        assert spread[1] < 0.35 * spread[0]


def test_a_lost_band_is_grey_or_repeats_the_line_above() -> None:
    spec = dataclasses.replace(still(CITY.sensor), loss_share=0.5, loss=(0.25, 0.25))
    picture = np.random.default_rng(5).random((64, 128, 3), dtype=np.float32)
    clean = frames_of(still(CITY.sensor), picture, 1)[0]
    kinds = []
    for frame in frames_of(spec, picture):
        rows = np.flatnonzero((frame != clean).any((0, 2)))
        if not len(rows):
            kinds.append("whole")
            continue
        assert 14 <= np.ptp(rows) + 1 <= 16  # a quarter of 64 lines, a line that repeats itself changes nothing
        columns = (frame != clean).any((0, 1))
        lost = frame[:, rows[0] : rows[-1] + 1, columns]
        kinds.append("grey" if (lost == 110).all() else "repeated")
        if kinds[-1] == "repeated":
            assert (lost == lost[:, :1]).all()
    assert kinds.count("whole") / 200 == pytest.approx(0.5, abs=0.1)
    assert kinds.count("repeated") > kinds.count("grey") > 10
