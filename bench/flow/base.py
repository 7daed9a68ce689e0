"""What a flow backend is: one file in this folder with ``BACKEND``, a function from a clip to its flow and validity."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.data.clip import Clip


class Clips(Protocol):
    """Anything with clips by number, such as a ``ClipStore``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...


class FlowBackend(Protocol):
    """Flow of clip ``index``: backward flow float32 ``(T-1, 2, H, W)`` in pixels, x first, and validity bool ``(T-1, H, W)``."""

    def __call__(self, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]: ...
