"""``exact``: the flow and the occlusion that came with the clip, here from the renderer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.data.clip import Clip, Clips


def exact(clip: Clip, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The clip's own flow and validity."""
    return clip.flow, clip.valid


BACKEND = exact
