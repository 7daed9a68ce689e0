"""Which flow a run takes: computed ahead where it was, else as the backend does it; and clips that come with it."""

from __future__ import annotations

from pathlib import Path

from bench.data.clip import Clips, FlowBackend
from bench.data.loaders import BadClips, ClipLoader, LabelledLoader
from bench.data.splits import Split

from .base import backend_of, identity, module_of


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


def open_clips(
    split: Split,
    flow: str,
    cache: Path,
    batch: int = 1,
    seed: int = 0,
    bad: BadClips | None = None,
    labelled: bool = False,
    earlier: bool = False,
) -> ClipLoader:
    """A loader of a split's clips with the flow that a run takes.

    Args:
        flow: name of the backend.
        batch, seed, bad: of the loader; by default one by one, and none is skipped.
        labelled: with labels, where the stage grants them; ``earlier``: those of the frames before t too.

    Raises:
        UsageError, RunError: see :func:`flow_of`.
    """
    store = split.open()
    backend = flow_of(flow, store, split.name, cache)
    if labelled:
        return LabelledLoader(store, backend, batch, seed, bad, earlier)
    return ClipLoader(store, backend, batch, seed, bad)


def reads(name: str, split: Split, cache: Path) -> list[Path]:
    """Files and folders that the flow of a split is read from while a run goes on; what can be downloaded is, now.

    A backend names its own by ``reads(needed)``, with False where the flow was computed ahead.
    """
    from ._shards import Precomputed

    ahead = isinstance(flow_of(name, split.open(), split.name, cache), Precomputed)
    backend_reads = getattr(module_of(name), "reads", None)
    return [*(cache / "flow").glob(f"*/{split.name}"), *(backend_reads(not ahead) if backend_reads else ())]


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
