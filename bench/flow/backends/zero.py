"""``zero``: no motion at all. Deliberately wrong, to show what a method owes to correct flow."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.data.clip import Clip, Clips


def zero(clip: Clip, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Zero flow, valid everywhere."""
    return np.zeros_like(clip.flow), np.ones_like(clip.valid)


BACKEND = zero
WRONG = True
