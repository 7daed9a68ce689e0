"""What a flow backend is: one file in this folder with ``BACKEND``, a function from a clip to its flow and validity.

A backend whose flow is wrong on purpose says so by ``WRONG = True``: a source model is never trained with it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.data.clip import Clip
from bench.registry import import_from


class Clips(Protocol):
    """Anything with clips by number, such as a ``ClipStore``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Clip: ...


class FlowBackend(Protocol):
    """Flow of clip ``index``: backward flow float32 ``(T-1, 2, H, W)`` in pixels, x first, and validity bool ``(T-1, H, W)``."""

    def __call__(self, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]: ...


def module_of(name: str) -> ModuleType:
    """The module of a backend.

    Raises:
        UsageError: unknown backend.
    """
    return import_from("bench.flow", name, kind="flow", exclude=("base",))


def backend_of(name: str) -> FlowBackend:
    """A backend by name."""
    backend: FlowBackend = module_of(name).BACKEND
    return backend
