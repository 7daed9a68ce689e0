"""Which flow a run takes: computed ahead where it was, else as the backend does it."""

from __future__ import annotations

from pathlib import Path

from bench.data.clip import Clips, FlowBackend

from .base import backend_of, identity


def flow_of(name: str, clips: Clips, split: str, cache: Path) -> FlowBackend:
    """The flow of a split for a run: computed ahead where it was (``bench flow compute``), else as the backend does it.

    Args:
        split: name of the split, ``target-train-<hash>``.

    Raises:
        UsageError: unknown backend.
        RunError: see :func:`bench.flow._shards.with_precomputed`.
    """
    from ._shards import with_precomputed

    return with_precomputed(backend_of(name), name, clips, split, cache)


def identity_of(name: str, flow: FlowBackend) -> str | None:
    """What a run's flow depends on besides the clips, for its record: which weights, or which precomputed flow.

    Args:
        name: of the backend.
        flow: what :func:`flow_of` gave.

    Returns:
        None for flow that depends on nothing else, such as exact flow.
    """
    from ._shards import Precomputed

    if isinstance(flow, Precomputed):
        return flow.folder.parent.name
    return identity(name)
