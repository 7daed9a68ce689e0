"""MiniStreet: determinism, amounts, and geometry that is checked against hand-derived formulas and a finer renderer."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import zlib

import cv2
import numpy as np
import pytest

from bench.data.labels import CLASSES, IGNORE, TRAIN_ID
from bench.data.ministreet import DOMAINS, VERSION, DomainSpec, render_clip, spec_json
from bench.data.ministreet.camera import Camera, rotation
from bench.data.ministreet.raster import render_buffers
from bench.data.ministreet.render import backward_flow, random_parts, sample_scene
from bench.data.ministreet.scene import GROUND, SKY, Patch, Solid, World
from bench.data.ministreet.sensor import expose, sample_sensor
from bench.data.ministreet.vehicles import prism

DEV_WORLD = 970_000
"""A world that no split uses."""


def flat_world(**primitives: list) -> World:
    """A real world's ground and light with only the given things standing in it."""
    spec = DOMAINS["sim"]
    world = sample_scene(spec, random_parts("sim", DEV_WORLD, 0), 32, 64, 2).world
    world.patches, world.solids = primitives.get("patches", []), primitives.get("solids", [])
    return world


def look(z: float, height: int = 65, width: int = 129, x: float = 0.0, yaw: float = 0.0) -> Camera:
    """A level camera 1.5 m above the ground, focal length 100 pixels."""
    return Camera(np.array([x, 1.5, z]), rotation(yaw, 0, 0), 100.0, height, width)


def crate(z: float, velocity: tuple[float, float]) -> Solid:
    """A box of 2 x 2 x 2 m straight ahead."""
    picture = np.zeros((4, 4), np.uint8)
    bodies = (prism([(-1.0, 0.0), (1.0, 0.0), (1.0, 2.0), (-1.0, 2.0)], 1.0),)
    return Solid(0.0, z, 0.0, (2.0, 2.0, 2.0), bodies, (picture,) * 3, 2.0, (0,) * 8, velocity)


def warp(image: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Bilinear look-up of ``image`` (3, H, W) at q + flow(q), as float."""
    height, width = flow.shape[1:]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    pixels = image.transpose(1, 2, 0).astype(np.float32)
    return cv2.remap(pixels, x + flow[0], y + flow[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def same_clip(a, b) -> bool:
    return all(np.array_equal(getattr(a, f), getattr(b, f)) for f in ("frames", "flow", "valid", "label"))


# ---------------------------------------------------------------------------------------------- pure function


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_same_arguments_same_bytes_in_a_fresh_process(domain: str) -> None:
    clip = render_clip(domain, DEV_WORLD, 3, 32, 64)
    render_clip(domain, DEV_WORLD, 4, 32, 64)
    assert same_clip(clip, render_clip(domain, DEV_WORLD, 3, 32, 64))
    code = (
        "import zlib; from bench.data.ministreet import render_clip;"
        f"c = render_clip({domain!r}, {DEV_WORLD}, 3, 32, 64);"
        "print(zlib.crc32(c.frames.tobytes() + c.flow.tobytes() + c.valid.tobytes() + c.label.tobytes()))"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    blob = clip.frames.tobytes() + clip.flow.tobytes() + clip.valid.tobytes() + clip.label.tobytes()
    assert int(printed) == zlib.crc32(blob)


def test_world_index_and_domain_each_change_the_scene() -> None:
    base = render_clip("sim", DEV_WORLD, 0, 32, 64)
    for arguments in (
        ("sim", DEV_WORLD + 1, 0),
        ("sim", DEV_WORLD, 1),
        ("cam", DEV_WORLD, 0),
        ("sim", DEV_WORLD + 2**32, 0),
    ):
        clip = render_clip(*arguments, 32, 64)
        assert (clip.label != base.label).mean() > 0.05, arguments
        assert clip.key != base.key


def test_global_random_state_is_neither_read_nor_changed() -> None:
    np.random.seed(1)
    before = np.random.get_state()[1].copy()
    render_clip("cam", DEV_WORLD, 0, 32, 64)
    assert np.array_equal(before, np.random.get_state()[1])


@pytest.mark.parametrize(("height", "width", "frames"), [(64, 128, 2), (65, 129, 2), (33, 47, 4), (128, 256, 3)])
def test_shapes_and_types(height: int, width: int, frames: int) -> None:
    clip = render_clip("cam", DEV_WORLD, 1, height, width, frames)
    assert clip.frames.shape == (frames, 3, height, width) and clip.frames.dtype == np.uint8
    assert clip.flow.shape == (frames - 1, 2, height, width) and clip.flow.dtype == np.float32
    assert clip.valid.shape == (frames - 1, height, width) and clip.valid.dtype == np.bool_
    assert clip.label.shape == (height, width) and clip.label.dtype == np.uint8
    assert set(np.unique(clip.label)) <= {*range(len(CLASSES)), IGNORE}
    assert np.isfinite(clip.flow).all()


def test_a_longer_clip_ends_with_the_shorter_one() -> None:
    short, long = (render_clip("cam", DEV_WORLD, 2, 48, 96, frames) for frames in (2, 4))
    assert np.array_equal(long.frames[-2:], short.frames)
    assert np.array_equal(long.flow[-1:], short.flow) and np.array_equal(long.valid[-1:], short.valid)
    assert np.array_equal(long.label, short.label)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("simm", 0, 0), "available: cam, city, sim"),
        (("sim", -1, 0), "world=-1"),
        (("sim", 0, -3), "index=-3"),
        (("sim", 0, 0, 8, 64), "8 x 64"),
        (("sim", 0, 0, 32, 64, 1), "1 frames"),
    ],
)
def test_wrong_arguments_are_named(arguments: tuple, words: str) -> None:
    with pytest.raises(ValueError, match="MiniStreet") as error:
        render_clip(*arguments)
    assert words in str(error.value)


# ------------------------------------------------------------------------------------------------- parameters


def test_spec_is_frozen_hashable_and_canonical() -> None:
    assert isinstance(VERSION, int) and set(DOMAINS) == {"sim", "cam", "city"}
    for name, spec in DOMAINS.items():
        assert isinstance(spec, DomainSpec) and spec.name == name
        assert hash(spec) == hash(dataclasses.replace(spec))
        text = spec_json(name)
        assert json.dumps(json.loads(text), sort_keys=True, separators=(",", ":")) == text
        with pytest.raises(dataclasses.FrozenInstanceError):
            spec.camera.height = (0.0, 1.0)  # type: ignore[misc]
    assert spec_json("sim") != spec_json("cam")
    assert {m for m, _ in DOMAINS["sim"].materials} == {m for m, _ in DOMAINS["cam"].materials}


def test_every_parameter_is_documented_in_its_class() -> None:
    for spec in DOMAINS.values():
        for field in dataclasses.fields(spec):
            group = getattr(spec, field.name)
            if not dataclasses.is_dataclass(group):
                continue
            for parameter in dataclasses.fields(group):
                assert parameter.name in (type(group).__doc__ or ""), f"{type(group).__name__}.{parameter.name}"


# ---------------------------------------------------------------------------------------------------- amounts


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_every_class_is_present_in_useful_amounts(domain: str) -> None:
    counts, present, clips = np.zeros(256), np.zeros(len(CLASSES)), 200
    for index in range(clips):
        scene = sample_scene(DOMAINS[domain], random_parts(domain, DEV_WORLD + 5, index), 64, 128, 1)
        label = scene.world.surfaces.freeze().label[render_buffers(scene.world, scene.cameras[0], 0).surface]
        pixels = np.bincount(label.ravel(), minlength=256)
        counts += pixels
        present += pixels[: len(CLASSES)] > 4
    share = counts / counts.sum()
    assert share[: len(CLASSES)].min() > 0.003, dict(zip(CLASSES, share.round(4), strict=False))
    assert present.min() > 0.3 * clips, dict(zip(CLASSES, present, strict=False))
    assert share[IGNORE] < 0.03


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_motion_spans_a_feature_cell_and_hides_things(domain: str) -> None:
    lengths, invalid = [], []
    for index in range(12):
        clip = render_clip(domain, DEV_WORLD + 6, index, *((96, 192) if domain == "city" else (128, 256)))
        counted = clip.valid[-1] & (clip.label != TRAIN_ID["sky"])
        lengths.append(np.hypot(*clip.flow[-1])[counted])
        invalid.append(1 - clip.valid[-1].mean())
    assert np.median(np.concatenate(lengths)) > (7 if domain == "city" else 8)
    assert 0.05 < np.mean(invalid) < 0.2


# --------------------------------------------------------------------------------------------------- geometry


def test_ground_flow_of_a_camera_driving_straight_on() -> None:
    """A ground point seen y pixels under the centre is at depth Z = f h / y; one step s earlier it was at Z + s.

    Its offset from the centre was then shorter by Z / (Z + s), so the flow is -(x, y) s / (Z + s).
    """
    step, height, focal = 2.0, 1.5, 100.0
    world = flat_world()
    current, previous = look(0.0), look(-step)
    flow, valid = backward_flow(
        world, render_buffers(world, current, 0), render_buffers(world, previous, 1), current, previous
    )
    for row, column in ((64, 64), (50, 20), (45, 128), (60, 0), (64, 100)):
        x, y = column - 64, row - 32
        depth = focal * height / y
        expected = -np.array([x, y]) * step / (depth + step)
        np.testing.assert_allclose(flow[:, row, column], expected, atol=1e-3)
        assert valid[row, column]
    # By hand: row 62 is y = 30, so Z = 5 m; s = 2 m gives 2/7 of (x, y) = (-44, 30).
    np.testing.assert_allclose(flow[:, 62, 20], [44 * 2 / 7, -30 * 2 / 7], atol=1e-3)


def test_sky_turns_with_the_camera_and_does_not_move_with_it() -> None:
    world = flat_world()
    current, previous = look(0.0), look(-3.0, x=1.0, yaw=2.0)
    flow, valid = backward_flow(
        world, render_buffers(world, current, 0), render_buffers(world, previous, 1), current, previous
    )
    # The optical axis of the current camera is seen f tan(2 degrees) to the left by one that looks 2 degrees right.
    np.testing.assert_allclose(flow[0, :30, 64], -100 * np.tan(np.deg2rad(2)), atol=1e-3)
    left_out = np.arange(129) + flow[0, 8] < 0
    # At the edge a degree is more pixels: column 4 (x = -60) comes from 100 tan(-30.96 - 2) = -64.9, outside;
    # column 5 (x = -59) from -63.8, inside.
    assert left_out.sum() == 5 and not valid[8][left_out].any() and valid[8][~left_out].all()


def test_moving_thing_before_a_standing_camera() -> None:
    """A box whose front is 8 m away moves 0.6 m to the right per frame: 0.6 * 100 / 8 = 7.5 pixels."""
    world = flat_world(solids=[crate(9.0, (0.6, 0.0))])
    current = previous = look(0.0)
    buffers = [render_buffers(world, current, age) for age in (0, 1)]
    flow, valid = backward_flow(world, buffers[0], buffers[1], current, previous)
    box, ground = buffers[0].primitive == 2, buffers[0].primitive == GROUND
    front = box & (np.abs(buffers[0].depth - 8) < 1e-3)
    assert front.sum() > 500
    np.testing.assert_allclose(flow[0][front], -7.5, atol=1e-3)
    np.testing.assert_allclose(flow[1][front], 0, atol=1e-3)
    assert valid[front].mean() > 0.95  # half a pixel at its left edge rounds to what is beside it
    assert np.abs(flow[:, ground]).max() < 1e-3
    uncovered = ground & (buffers[1].primitive == 2)
    assert uncovered.sum() > 50 and not valid[uncovered].any()
    assert valid[ground & ~uncovered].all()


def test_what_a_wall_hid_is_invalid() -> None:
    """A wall 5 m ahead hides a band of what lies behind it; stepping 1 m aside moves the wall more than the rest."""
    wall = Patch(0.0, 0.0, 5.0, 0.0, 2.0, 3.0, (0,))
    world = flat_world(patches=[wall])
    current, previous = look(0.0, x=1.0), look(0.0, x=0.0)
    buffers = render_buffers(world, current, 0), render_buffers(world, previous, 1)
    flow, valid = backward_flow(world, *buffers, current, previous)
    # Now: the wall spans x - 1 = -1..1 m, columns 64 +- 20. Before: 0..2 m, columns 64..104.
    on_wall = buffers[0].primitive[40] == 2
    assert list(np.flatnonzero(on_wall)[[0, -1]]) in ([44, 84], [44, 83])
    np.testing.assert_allclose(flow[0, 40][on_wall], 20, atol=1e-3)
    sky = buffers[0].primitive[20] == SKY
    hidden = sky & (np.arange(129) >= 85) & (np.arange(129) <= 103)
    assert hidden.sum() >= 19 and not valid[20][hidden].any() and valid[20][sky & ~hidden][:-1].mean() > 0.97


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_validity_agrees_with_a_renderer_of_eight_times_the_resolution(domain: str) -> None:
    """The depth seen at the very point, instead of at the nearest pixel, tells the same story."""
    agreements = []
    for index in range(3):
        parts = random_parts(domain, DEV_WORLD + 7, index)
        scene = sample_scene(DOMAINS[domain], parts, 48, 96, 2)
        current, previous = scene.cameras
        b0, b1 = render_buffers(scene.world, current, 0), render_buffers(scene.world, previous, 1)
        flow, valid = backward_flow(scene.world, b0, b1, current, previous)
        fine = Camera(previous.position, previous.rotation, previous.focal * 8, 48 * 8, 96 * 8)
        sharp = render_buffers(scene.world, fine, 1).primitive
        y, x = np.mgrid[0:48, 0:96] + flow[::-1]
        inside = (x >= 0) & (x <= 95) & (y >= 0) & (y <= 47)
        visible = []
        for dy, dx in ((0, 0), (-4, -4), (-4, 4), (4, -4), (4, 4)):  # the point itself and half a pixel around it
            i = np.clip(np.rint((y + 0.5) * 8 - 0.5) + dy, 0, 48 * 8 - 1).astype(int)
            j = np.clip(np.rint((x + 0.5) * 8 - 0.5) + dx, 0, 96 * 8 - 1).astype(int)
            visible.append(inside & (sharp[i, j] == b0.primitive))
        assert not valid[~inside].any()
        clear = np.logical_and.reduce(visible) | ~np.logical_or.reduce(visible)
        assert clear.mean() > 0.7
        agreements.append((visible[0] == valid)[clear].mean())
    assert np.mean(agreements) > 0.985, agreements


@pytest.mark.parametrize("domain", sorted(DOMAINS))
def test_warping_the_previous_frame_reproduces_the_current_one(domain: str) -> None:
    """Without the sensor, the flow explains the pictures; no flow and the negated flow do not. Moving things too."""
    errors: dict[str, list[float]] = {"right": [], "zero": [], "negated": [], "moving right": [], "moving static": []}
    for index in range(10):
        parts = random_parts(domain, DEV_WORLD + 8, index)
        scene = sample_scene(DOMAINS[domain], parts, 128, 256, 2)
        clip = render_clip(domain, DEV_WORLD + 8, index, noise_free=True)
        current, flow, valid = clip.frames[1].transpose(1, 2, 0).astype(np.float32), clip.flow[0], clip.valid[0]

        def error(f: np.ndarray, mask: np.ndarray, clip=clip, current=current) -> np.ndarray:
            return np.abs(warp(clip.frames[0], f) - current).mean(-1)[mask]

        for name, f in (("right", flow), ("zero", np.zeros_like(flow)), ("negated", -flow)):
            errors[name].extend(error(f, valid))
        first = 2 + len(scene.world.patches)
        primitives = render_buffers(scene.world, scene.cameras[0], 0).primitive
        moving = valid & np.isin(
            primitives, [first + k for k, s in enumerate(scene.world.solids) if s.velocity != (0.0, 0.0)]
        )
        frozen = dataclasses.replace(
            scene.world, solids=[dataclasses.replace(s, velocity=(0.0, 0.0)) for s in scene.world.solids]
        )
        b0 = render_buffers(scene.world, scene.cameras[0], 0)
        static, _ = backward_flow(frozen, b0, b0, *scene.cameras)
        errors["moving right"].extend(error(flow, moving))
        errors["moving static"].extend(error(static, moving))
    mean = {name: float(np.mean(e)) for name, e in errors.items()}
    assert mean["right"] < 9, mean
    assert mean["zero"] > 2 * mean["right"] and mean["negated"] > 2.3 * mean["right"], mean
    assert len(errors["moving right"]) > 500
    assert mean["moving static"] > 1.5 * mean["moving right"], mean


def test_flows_chain_over_three_frames() -> None:
    """Following two flows one after the other leads to the point that a direct projection gives."""
    world = flat_world()
    cameras = [look(-1.2 * age, x=0.1 * age, yaw=0.5 * age) for age in range(3)]
    b = [render_buffers(world, camera, age) for age, camera in enumerate(cameras)]
    first, _ = backward_flow(world, b[0], b[1], cameras[0], cameras[1])
    second, _ = backward_flow(world, b[1], b[2], cameras[1], cameras[2])
    direct, valid = backward_flow(world, b[0], b[2], cameras[0], cameras[2])
    chained = first + warp(np.concatenate([second, second[:1]]), first).transpose(2, 0, 1)[:2]
    inside = (b[0].primitive == GROUND) & (np.arange(65) > 40)[:, None] & valid
    x, y = np.meshgrid(np.arange(129), np.arange(65))
    inside &= (x + first[0] > 2) & (x + first[0] < 126) & (y + first[1] > 36)
    assert inside.sum() > 1000
    assert np.abs(chained - direct)[:, inside].max() < 0.05


# ----------------------------------------------------------------------------------------------------- sensor


def test_noise_is_independent_between_frames_and_coarser_in_the_target() -> None:
    """Two pictures of an evenly grey wall, averaged over 4 x 4 pixels (a score cell), without slow shading.

    Compression takes the finest noise out of cam, so that pixel by pixel it is the smoother one; at the scale of a
    score cell its noise is about twice that of sim.
    """
    grey = np.full((64, 128, 3), 0.5, np.float32)
    spread = {}
    for domain, spec in DOMAINS.items():
        residuals: list[list[np.ndarray]] = [[], []]
        for index in range(16):
            part = random_parts(domain, DEV_WORLD + 9, index)
            sensor = sample_sensor(spec.sensor, part("lens"))
            for age in (0, 1):
                frame = expose(grey.copy(), sensor, part("sensor", age)).transpose(1, 2, 0).astype(np.float32)
                fast = frame - cv2.GaussianBlur(frame, (0, 0), 8.0)
                residuals[age].append(cv2.resize(fast, (32, 16), interpolation=cv2.INTER_AREA)[3:-3, 3:-3].ravel())
        current, previous = (np.concatenate(r) for r in residuals)
        assert abs(np.corrcoef(current, previous)[0, 1]) < 0.1, domain
        spread[domain] = float(current.std())
    assert spread["cam"] > 1.4 * spread["sim"] > 0.5, spread
