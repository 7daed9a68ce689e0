"""What a flow backend is: one file in this folder with ``BACKEND``, a function from a clip to its flow and validity.

A backend that estimates flow from the frames is an ``Estimator`` put through ``bench.flow._estimated.backend``. One whose
flow can be computed ahead of a run (``bench flow compute``) also has ``identity()``: a short name, fit for a folder, of
everything that its flow depends on besides the clips, such as the hash of its weights. One whose flow is wrong on purpose says
so by ``WRONG = True``: a source model is never trained with it.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from bench.data.clip import Clip
from bench.registry import import_from

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


def flow_of(name: str, clips: Clips, split: str, cache: Path) -> FlowBackend:
    """The flow of a split for a run: computed ahead where it was (``bench flow compute``), else as the backend does it.

    Args:
        split: name of the split, ``target-train-<hash>``.

    Raises:
        UsageError: unknown backend.
        RunError: see :func:`bench.flow._store.with_precomputed`.
    """
    from ._store import with_precomputed

    return with_precomputed(backend_of(name), name, clips, split, cache)


def identity_of(name: str, flow: FlowBackend) -> str | None:
    """What a run's flow depends on besides the clips, for its record: which weights, or which precomputed flow.

    Args:
        name: of the backend.
        flow: what :func:`flow_of` gave.

    Returns:
        None for flow that depends on nothing else, such as exact flow.
    """
    from ._store import Precomputed

    if isinstance(flow, Precomputed):
        return flow.folder.parent.name
    module = module_of(name)
    return str(module.identity()) if hasattr(module, "identity") else None
