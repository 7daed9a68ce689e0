"""From an estimator of two frames to a backend of clips, with forward-backward consistency as validity."""

from __future__ import annotations

import itertools

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.data.clip import Clip, Clips, Flow, FlowBackend, Frame, Mask

from .base import BothWays, Estimator

CONSISTENCY = (1.0, 0.05)
"""A pixel is valid if forward and backward flow cancel to within ``a + b |flow|`` pixels (ours; the usual check)."""


def consistent(backward: Flow, forward: Flow) -> Mask:
    """Validity of backward flow ``(2, H, W)``: its end lies in the frame and the forward flow there leads back."""
    height, width = backward.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    to_x, to_y = x + backward[0], y + backward[1]
    inside = (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)
    returned = np.stack([cv2.remap(component, to_x, to_y, cv2.INTER_LINEAR) for component in forward])
    error = np.hypot(*(backward + returned))
    return inside & (error <= CONSISTENCY[0] + CONSISTENCY[1] * np.hypot(*backward))  # type: ignore[no-any-return]


def lands_inside(flow: Flow) -> Mask:
    """Where backward flow ``(2, H, W)`` ends inside the frame."""
    height, width = flow.shape[1:]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    to_x, to_y = x + flow[0], y + flow[1]
    return (to_x >= 0) & (to_x <= width - 1) & (to_y >= 0) & (to_y <= height - 1)  # type: ignore[no-any-return]


def twice(estimate: Estimator) -> BothWays:
    """Both directions by estimating once each way."""

    def both_ways(previous: Frame, current: Frame) -> tuple[Flow, Flow]:
        return estimate(previous, current), estimate(current, previous)

    return both_ways


def backend(both_ways: BothWays) -> FlowBackend:
    """A backend that estimates every pair of consecutive frames both ways and marks where the two agree."""

    def estimated(clip: Clip, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        flows, masks = [], []
        for previous, current in itertools.pairwise(clip.frames):
            backward, forward = both_ways(previous, current)
            flows.append(backward)
            masks.append(consistent(backward, forward))
        return np.stack(flows), np.stack(masks)

    return estimated


def pad(frame: NDArray[np.generic], multiple: int, minimum: int) -> tuple[NDArray[np.generic], tuple[slice, slice]]:
    """A frame ``(..., H, W)`` with its border repeated until both sides are multiples and at least ``minimum``.

    Returns:
        The larger frame, and the rows and columns of it where the given one lies (in the middle).
    """
    widths, inner = [(0, 0)] * (frame.ndim - 2), []
    for side in frame.shape[-2:]:
        padding = max(-(-side // multiple), -(-minimum // multiple)) * multiple - side
        widths.append((padding // 2, padding - padding // 2))
        inner.append(slice(padding // 2, padding // 2 + side))
    return np.pad(frame, widths, mode="edge"), (inner[0], inner[1])
