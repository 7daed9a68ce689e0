"""From light to 8-bit frames: optics, noise and compression, drawn anew for every frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import cv2
import numpy as np
import numpy.typing as npt

from .scene import Floats
from .spec import Range, SensorSpec

Bytes = npt.NDArray[np.uint8]
T = TypeVar("T")


def uniform(rng: np.random.Generator, bounds: Range) -> float:
    """A draw from a range."""
    return float(rng.uniform(bounds[0], bounds[1]))


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of several, each as likely: what ``rng.choice`` draws, in a fraction of its time."""
    return options[int(rng.integers(len(options)))]


@dataclass(frozen=True)
class Sensor:
    """What stays the same over a clip: exposure, tone, lens."""

    spec: SensorSpec
    gain: Floats
    saturation: float
    gamma: float
    vignette: float
    gradient: tuple[float, float]
    defocus: float
    quality: int


def sample_sensor(spec: SensorSpec, rng: np.random.Generator) -> Sensor:
    """Draw a clip's sensor."""
    balance = 1 + spec.white_balance * rng.standard_normal(3)
    strength, angle = uniform(rng, spec.gradient), rng.uniform(0, 2 * np.pi)
    return Sensor(
        spec=spec,
        gain=np.asarray(uniform(rng, spec.exposure) * balance, np.float32),
        saturation=uniform(rng, spec.saturation),
        gamma=uniform(rng, spec.gamma),
        vignette=uniform(rng, spec.vignette),
        gradient=(float(strength * np.cos(angle)), float(strength * np.sin(angle))),
        defocus=uniform(rng, spec.defocus),
        quality=int(rng.integers(spec.jpeg[0], spec.jpeg[1] + 1)),
    )


def clean(rgb: Floats) -> Bytes:
    """8-bit frame ``(3, H, W)`` of ``(H, W, 3)`` light in 0..1 without any sensor effect."""
    return np.ascontiguousarray(np.rint(np.clip(rgb, 0, 1) * 255).astype(np.uint8).transpose(2, 0, 1))


def expose(rgb: Floats, sensor: Sensor, rng: np.random.Generator) -> Bytes:
    """Take one picture: ``(H, W, 3)`` light in 0..1 (may exceed 1) to uint8 ``(3, H, W)``."""
    spec = sensor.spec
    height, width = rgb.shape[:2]
    scale = height / 128
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    x = np.linspace(-1, 1, width, dtype=np.float32)[None]
    gain = 1 + spec.flicker * float(rng.standard_normal())
    if spec.exposure_share > 0 and rng.random() < spec.exposure_share:
        gain *= 2 ** (uniform(rng, spec.exposure_step) * pick(rng, [-1.0, 1.0]))
    image = rgb @ _colour_matrix(sensor, gain)
    lens = 1 - np.float32(sensor.vignette / 2) * (x * x + y * y) + np.float32(sensor.gradient[0]) * x
    lens += np.float32(sensor.gradient[1]) * y
    image *= _thrice(lens)
    if spec.glare[1] > 0:
        image = _veil(image, spec, rng, x, y)
    image = _blur(image, sensor.defocus * scale, uniform(rng, spec.motion_blur) * scale)
    if spec.shake_share > 0 and rng.random() < spec.shake_share:
        image = _shaken(image, uniform(rng, spec.shake) * scale, rng.uniform(0, np.pi))
    np.clip(image, 0, 1, out=image)
    if sensor.gamma != 1:
        image = np.asarray(cv2.pow(image, sensor.gamma), np.float32)
    image *= 255
    read, shot, coarse = (uniform(rng, b) for b in (spec.read_noise, spec.shot_noise, spec.coarse_noise))
    if read + shot > 0:
        grey = (image[..., 0] + image[..., 1] + image[..., 2]) / np.float32(3)
        level = grey * np.float32(shot * shot / 255) + np.float32(read * read)
        noise = rng.standard_normal(image.shape, dtype=np.float32)
        noise *= _thrice(np.sqrt(level))
        image += noise
    if coarse > 0:
        small = rng.standard_normal((max(2, height // 4), max(2, width // 4), 3), dtype=np.float32) * np.float32(coarse)
        image += cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR) * np.float32(1.5)
    frame = np.rint(np.clip(image, 0, 255, out=image), out=image).astype(np.uint8)
    if sensor.quality > 0:
        bgr = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, sensor.quality])
        frame = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)[..., ::-1]
    if spec.loss_share > 0 and rng.random() < spec.loss_share:
        frame = _lossy(frame, uniform(rng, spec.loss), rng)
    return np.ascontiguousarray(frame.transpose(2, 0, 1))


def _thrice(plane: Floats) -> Floats:
    """``(H, W)`` as ``(H, W, 3)``: numpy is several times slower where it repeats along a last axis of three."""
    return np.asarray(cv2.merge([plane, plane, plane]), np.float32)


def _colour_matrix(sensor: Sensor, flicker: float) -> Floats:
    """Saturation and gain as one 3 x 3 matrix for row vectors."""
    grey = np.full((3, 3), (1 - sensor.saturation) / 3)
    return np.asarray((grey + sensor.saturation * np.eye(3)) * sensor.gain[None] * flicker, np.float32)


def _veil(image: Floats, spec: SensorSpec, rng: np.random.Generator, x: Floats, y: Floats) -> Floats:
    """Scattered light from one side, and smudges on the lens that veil part of the picture."""
    strength = uniform(rng, spec.glare)
    size = image.shape[1::-1]
    x, y = x[:, ::4], y[::4]  # everything here is smooth: worked out at a quarter of the resolution
    gx, gy = rng.uniform(-1.2, 1.2), rng.uniform(-1.2, 0.0)
    veil = np.float32(strength) * np.exp(-((x - np.float32(gx)) ** 2 + (y - np.float32(gy)) ** 2) * np.float32(1.2))
    keep, add = np.ones_like(veil), veil
    for _ in range(int(rng.integers(spec.dirt[0], spec.dirt[1] + 1))):
        cx, cy, radius = rng.uniform(-1, 1), rng.uniform(-1, 1), rng.uniform(0.1, 0.3)
        alpha = np.float32(uniform(rng, spec.dirt_strength))
        grey = np.float32(rng.uniform(0.2, 0.8))
        d = 2 * (x - np.float32(cx)) ** 2 + (y - np.float32(cy)) ** 2
        mask = alpha * np.minimum(1, np.maximum(0, np.float32(1.5) - d / np.float32(radius * radius)))
        keep *= 1 - mask
        add += mask * (grey - add)
    keep, add = (cv2.resize(m, size, interpolation=cv2.INTER_LINEAR) for m in (keep, add))
    image *= _thrice(keep)
    image += _thrice(add)
    return image


def _blur(image: Floats, sigma: float, streak: float) -> Floats:
    """Defocus (Gaussian, sigma in pixels) and a horizontal streak of ``streak`` pixels."""
    if sigma > 0.05:
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)
    if streak > 0.2:
        side = min(streak / 2, 1.0)
        kernel = np.array([[side, 1.0, side]], np.float32) / np.float32(1 + 2 * side)
        image = np.asarray(cv2.filter2D(image, -1, kernel), np.float32)
    return image


def _shaken(image: Floats, length: float, angle: float) -> Floats:
    """A streak of ``length`` pixels in any direction."""
    side = max(3, round(length) | 1)
    kernel = np.zeros((side, side), np.float32)
    reach, middle = (side - 1) / 2 * np.array([np.cos(angle), np.sin(angle)]), side // 2
    ends = [(round(middle + sign * reach[0]), round(middle + sign * reach[1])) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1)
    return np.asarray(cv2.filter2D(image, -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE), np.float32)


def _lossy(frame: Bytes, share: float, rng: np.random.Generator) -> Bytes:
    """A band of the picture that did not arrive: grey, or the line above it again and again."""
    height, width = frame.shape[:2]
    rows = max(1, round(share * height))
    top, start = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width // 2))
    columns = slice(start, min(width, start + int(rng.integers(width // 3, width))))
    frame = frame.copy()
    frame[top : top + rows, columns] = frame[max(0, top - 1), columns] if rng.random() < 0.6 else 110
    return frame
