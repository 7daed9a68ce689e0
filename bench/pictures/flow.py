"""Pictures of flow in colours, and what it does to frames."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib.colors import hsv_to_rgb

from .canvas import Image

PINK = np.array([255, 0, 160], np.float32)


def warp_previous(previous: Image, flow: npt.NDArray[np.float32]) -> Image:
    """Frame t-1 as seen from t: backward bilinear warp ``out(q) = previous(q + flow(q))``, black outside.

    Args:
        previous: RGB uint8 ``(H, W, 3)``.
        flow: backward flow t to t-1 in pixels, float32 ``(2, H, W)``, x first.
    """
    height, width = previous.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    warped = cv2.remap(previous, x + flow[0], y + flow[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    return np.asarray(warped, np.uint8)


def mark_invalid(frame: Image, valid: npt.NDArray[np.bool_]) -> Image:
    """The frame, greyed, with pixels that have no counterpart in t-1 tinted pink; RGB uint8 ``(H, W, 3)``."""
    grey = np.repeat(frame.mean(axis=2, keepdims=True), 3, axis=2)
    tinted = np.where(valid[..., None], grey, 0.25 * grey + 0.75 * PINK)
    return np.asarray(np.round(tinted), np.uint8)


def flow_to_rgb(flow: npt.NDArray[np.floating], maximum: float | None = None) -> Image:
    """Colours of a flow field: hue is its direction, saturation its length, white is no motion.

    Args:
        flow: ``(2, H, W)`` in pixels, x first.
        maximum: length in pixels at full saturation; longer ones are drawn as this. Default: the longest in the field.

    Returns:
        RGB uint8 ``(H, W, 3)``. Right is red, down yellow-green, left cyan, up violet (image axes, y down).
    """
    length = np.hypot(flow[0], flow[1])
    full = float(length.max()) if maximum is None else maximum
    hue = (np.arctan2(flow[1], flow[0]) / (2 * np.pi)) % 1.0
    saturation = np.clip(length / full, 0, 1) if full > 0 else np.zeros_like(length)
    rgb = hsv_to_rgb(np.stack([hue, saturation, np.ones_like(hue)], axis=-1))
    return np.asarray(np.round(255 * rgb), np.uint8)


def flow_wheel(size: int = 65) -> Image:
    """Legend of :func:`flow_to_rgb`: the disc of all flows up to full saturation, on white; RGB ``(size, size, 3)``."""
    axis = np.linspace(-1, 1, size)
    flow = np.stack(np.meshgrid(axis, axis))
    wheel = flow_to_rgb(flow, 1.0)
    wheel[np.hypot(flow[0], flow[1]) > 1] = 255
    return wheel
