"""``shuffled``: another clip's flow. Deliberately wrong, with the statistics of real motion."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.data.clip import Clip, Clips


def shuffled(clip: Clip, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Flow and validity of the clip half the split away."""
    other = clips[(index + max(1, len(clips) // 2)) % len(clips)]
    return other.flow, other.valid


BACKEND = shuffled
WRONG = True
