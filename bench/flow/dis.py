"""``dis``: OpenCV's DIS optical flow (Kroeger et al., ECCV 2016), what a user has without a renderer or a GPU."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from .base import Clips

CONSISTENCY = (1.0, 0.05)
"""A pixel is valid if forward and backward flow cancel to within ``a + b |flow|`` pixels (ours; the usual check)."""


def estimate(previous: NDArray[np.uint8], current: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Backward flow t to t-1 of two RGB frames ``(3, H, W)``: float32 ``(2, H, W)``, pixels, x first."""
    grey = [cv2.cvtColor(np.ascontiguousarray(f.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY) for f in (current, previous)]
    engine = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = engine.calc(grey[0], grey[1], None)
    return np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float32)


def consistent(backward: NDArray[np.float32], forward: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Validity of backward flow ``(2, H, W)``: its end lies in the frame and the forward flow there leads back."""
    height, width = backward.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    to_x, to_y = x + backward[0], y + backward[1]
    inside = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    there = np.stack([cv2.remap(component, to_x, to_y, cv2.INTER_LINEAR) for component in forward])
    error = np.hypot(*(backward + there))
    return inside & (error <= CONSISTENCY[0] + CONSISTENCY[1] * np.hypot(*backward))  # type: ignore[no-any-return]


def dis(clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """DIS flow and forward-backward consistency for every pair of consecutive frames."""
    frames = clips[index].frames
    flows, masks = [], []
    for previous, current in itertools.pairwise(frames):
        backward = estimate(previous, current)
        flows.append(backward)
        masks.append(consistent(backward, estimate(current, previous)))
    return np.stack(flows), np.stack(masks)


BACKEND = dis
