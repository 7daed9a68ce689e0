"""What a flow backend is: one file in ``backends/``, or of one's own, with ``BACKEND``, a function from a clip to its flow and
validity (``bench.data.clip.FlowBackend``).

A backend that estimates flow from the frames is an ``Estimator`` put through ``bench.flow._estimated.backend``. One whose
flow can be computed ahead of a run (``bench flow compute``) also has ``identity()``: a short name, fit for a folder, of
everything that its flow depends on besides the clips, such as the hash of its weights. One whose flow is wrong on purpose says
so by ``WRONG = True``: a source model is never trained with it.
"""

from __future__ import annotations

from types import ModuleType
from typing import Protocol

from bench.core.loading import load, source_hash
from bench.data.clip import Flow, FlowBackend, Frame


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
        RunError: its file cannot be loaded.
    """
    return load("flow", name)


def backend_of(name: str) -> FlowBackend:
    """A backend by name."""
    backend: FlowBackend = module_of(name).BACKEND
    return backend


def identity(name: str) -> str | None:
    """What the flow of a backend depends on besides the clips, the source of a plugin included; None where it says nothing of it.

    Raises:
        UsageError: it is not set up.
        RunError: its weights are not there.
    """
    module = module_of(name)
    if not hasattr(module, "identity"):
        return None
    return "-".join(filter(None, (str(module.identity()), source_hash("flow", name))))
