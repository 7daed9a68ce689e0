"""What a flow backend is: one file in this folder with ``BACKEND``, a function from a clip to its flow and validity.

A backend that estimates flow from the frames is an ``Estimator`` put through ``bench.flow._estimated.backend``. One whose
flow can be computed ahead of a run (``bench flow compute``) also has ``identity()``: a short name, fit for a folder, of
everything that its flow depends on besides the clips, such as the hash of its weights.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.data.clip import Clip

Frame = NDArray[np.uint8]
"""RGB, uint8 ``(3, H, W)``."""
Flow = NDArray[np.float32]
"""float32 ``(2, H, W)`` in pixels, x first."""
Mask = NDArray[np.bool_]
"""bool ``(H, W)``."""


class Clips(Protocol):
    """Anything with clips by number, such as a ``ClipStore``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...


class FlowBackend(Protocol):
    """Flow of clip ``index``: backward flow float32 ``(T-1, 2, H, W)`` in pixels, x first, and validity bool ``(T-1, H, W)``."""

    def __call__(self, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]: ...


class Estimator(Protocol):
    """Backward flow t to t-1 of two frames: where each pixel of ``current`` is seen in ``previous``."""

    def __call__(self, previous: Frame, current: Frame) -> Flow: ...


class BothWays(Protocol):
    """Backward flow t to t-1 and forward flow t-1 to t of two frames, in that order."""

    def __call__(self, previous: Frame, current: Frame) -> tuple[Flow, Flow]: ...
