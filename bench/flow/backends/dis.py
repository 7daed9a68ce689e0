"""``dis``: OpenCV's DIS optical flow (Kroeger et al., ECCV 2016), what a user has without a renderer or a GPU."""

from __future__ import annotations

import cv2
import numpy as np

from bench.data.clip import Flow, Frame

from .._estimated import backend, twice


def identity() -> str:
    """Name of this backend's precomputed flow."""
    return "dis-medium"


def estimate(previous: Frame, current: Frame) -> Flow:
    """Backward flow t to t-1 of two RGB frames ``(3, H, W)``: float32 ``(2, H, W)``, pixels, x first."""
    grey = [cv2.cvtColor(np.ascontiguousarray(f.transpose(1, 2, 0)), cv2.COLOR_RGB2GRAY) for f in (current, previous)]
    engine = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flow = engine.calc(grey[0], grey[1], None)  # type: ignore[call-overload]  # OpenCV's stubs lack the optional flow
    return np.ascontiguousarray(flow.transpose(2, 0, 1), dtype=np.float32)


BACKEND = backend(twice(estimate))
