"""Batches: which clips, in which order, with whose flow. Order is a function of seed and step, so a resumed run sees the same."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bench.core.errors import BadFile
from bench.core.progress import say
from bench.core.seeding import seed_for
from methods.base import ClipBatch, LabelledBatch

from .clip import Clip, FlowBackend
from .splits import Store

if TYPE_CHECKING:
    from bench.core.workspace import Workspace


@dataclass
class BadClips:
    """What to do about clips whose files cannot be read.

    Attributes:
        skip: take the next clip instead and remember the bad one; otherwise the error goes on to whoever asked.
        found: what was wrong, by clip.
    """

    skip: bool = False
    found: dict[str, str] = field(default_factory=dict)

    def note(self, key: str, error: BadFile) -> None:
        """Remember a clip, and say so once."""
        if key not in self.found:
            self.found[key] = str(error)
            say(f"skipped clip {key}: {error}")


@dataclass(frozen=True)
class Read:
    """A clip as it was read from disk, once.

    Attributes:
        number: of the clip in its store.
        flow, valid: what the run's backend says of it; ``clip`` has what came with it.
        label: uint8 ``(H, W)`` train ids, from a loader of labelled clips alone.
        previous_label: of the frames before t, uint8 ``(T-1, H, W)``, oldest first, where the loader brings them.
    """

    number: int
    clip: Clip
    flow: NDArray[np.float32]
    valid: NDArray[np.bool_]
    label: NDArray[np.uint8] | None = None
    previous_label: NDArray[np.uint8] | None = None


class ClipLoader:
    """Batches of one split in a fixed random order, without labels.

    Args:
        store: the clips.
        flow: backend that gives each clip's flow and validity.
        batch: clips per batch.
        seed: of the order; each pass over the data is a new permutation.
        bad: what to do about unreadable clips.
    """

    def __init__(self, store: Store, flow: FlowBackend, batch: int, seed: int, bad: BadClips | None = None) -> None:
        self.store, self.flow, self.batch, self.seed = store, flow, batch, seed
        self.bad = bad or BadClips()
        self._pass = -1, np.empty(0, dtype=np.int64)

    def indices(self, step: int) -> list[int]:
        """Clip numbers of a step; the last, short batch of a pass is filled from the next pass."""
        return [self._at(position) for position in range(step * self.batch, (step + 1) * self.batch)]

    def _at(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.store))
        number, order = self._pass
        if number != epoch:
            order = np.random.default_rng(seed_for(self.seed, "order", epoch)).permutation(len(self.store))
            self._pass = epoch, order  # one assignment: threads that read ahead see a pass whole
        return int(order[offset])

    def __call__(self, step: int) -> ClipBatch:
        return self.collate(self.indices(step))

    def collate(self, indices: list[int]) -> ClipBatch:
        """The named clips as one batch of tensors."""
        return self.together([self.read(i) for i in indices])

    def together(self, clips: Sequence[Read]) -> ClipBatch:
        """Clips that were read, as one batch of tensors."""
        frames = torch.from_numpy(np.stack([read.clip.frames for read in clips]))
        return ClipBatch(
            frames.float().div_(255),
            torch.from_numpy(np.stack([read.flow for read in clips])),
            torch.from_numpy(np.stack([read.valid for read in clips])),
            tuple(read.clip.key for read in clips),
        )

    def read(self, index: int) -> Read:
        """A clip with its flow and validity: another one where it cannot be read and is skipped.

        Raises:
            BadFile: it cannot be read, and bad clips are not skipped or all are bad.
        """
        for offset in range(len(self.store)):
            number = (index + offset) % len(self.store)
            try:
                return self._read(number)
            except BadFile as error:
                if not self.bad.skip or offset == len(self.store) - 1:
                    raise
                self.bad.note(self.store.key(number), error)
        raise AssertionError("a split is never empty")

    def _read(self, number: int) -> Read:
        clip = self.store[number]
        return Read(number, clip, *self.flow(clip, self.store, number))


class LabelledLoader(ClipLoader):
    """The same with labels; opening them is refused where the stage does not grant it.

    Args:
        earlier: bring the labels of the frames before t too.
    """

    def __init__(
        self,
        store: Store,
        flow: FlowBackend,
        batch: int,
        seed: int,
        bad: BadClips | None = None,
        earlier: bool = False,
    ) -> None:
        super().__init__(store, flow, batch, seed, bad)
        self.labels = store.labels()
        self.previous_labels = store.previous_labels() if earlier else None

    def _read(self, number: int) -> Read:
        label = self.labels[number]  # before the frames: a clip without its label is not worth decoding
        previous = None if self.previous_labels is None else self.previous_labels[number]
        return replace(super()._read(number), label=label, previous_label=previous)

    def together(self, clips: Sequence[Read]) -> LabelledBatch:
        batch, label = super().together(clips), _stacked([read.label for read in clips])
        previous = None if self.previous_labels is None else _stacked([read.previous_label for read in clips])
        return LabelledBatch(batch.frames, batch.flow, batch.valid, batch.keys, label, previous)


def _stacked(labels: Sequence[NDArray[np.uint8] | None]) -> Tensor:
    return torch.from_numpy(np.stack([np.asarray(label) for label in labels])).long()


class Ahead:
    """Reads the batches of the next steps in threads while a step is computed.

    Threads, not the processes of torch's ``DataLoader``: no process may start while a method runs, since what it reads would not
    be watched (``bench.core.access``). Decoding and resizing release Python's lock, so threads suffice.

    Args:
        loader: gives the batch of a step.
        workers: threads, each at its own batch; as many batches are held ready.
        pin: put them into page-locked memory, from where a GPU copies while it computes.
    """

    def __init__(self, loader: Callable[[int], ClipBatch], workers: int, pin: bool = False) -> None:
        self.loader, self.workers, self.pin = loader, workers, pin
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="clips")
        self._coming: dict[int, Future[ClipBatch]] = {}

    def __call__(self, step: int) -> ClipBatch:
        for upcoming in range(step, step + self.workers + 1):
            if upcoming not in self._coming:
                self._coming[upcoming] = self._pool.submit(self._read, upcoming)
        batch = self._coming.pop(step).result()
        for passed in [s for s in self._coming if s < step]:
            self._coming.pop(passed).cancel()
        return batch

    def _read(self, step: int) -> ClipBatch:
        batch = self.loader(step)
        return moved(batch, Tensor.pin_memory) if self.pin else batch

    def close(self) -> None:
        """Read no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)


@contextlib.contextmanager
def ahead(
    loader: Callable[[int], ClipBatch] | None, workspace: Workspace
) -> Iterator[Callable[[int], ClipBatch] | None]:
    """The loader, read ahead by as many threads as the workspace says; with none, the loader itself (or None)."""
    if loader is None or not workspace.workers:
        yield loader
        return
    reader = Ahead(loader, workspace.workers, pin=workspace.device.type == "cuda")
    try:
        yield reader
    finally:
        reader.close()


def moved(batch: ClipBatch, move: Callable[[Tensor], Tensor]) -> ClipBatch:
    """The batch with ``move`` applied to its tensors."""
    frames, flow, valid = move(batch.frames), move(batch.flow), move(batch.valid)
    if isinstance(batch, LabelledBatch):
        previous = None if batch.previous_label is None else move(batch.previous_label)
        return LabelledBatch(frames, flow, valid, batch.keys, move(batch.label), previous)
    return ClipBatch(frames, flow, valid, batch.keys)


def to_device(batch: ClipBatch, device: torch.device) -> ClipBatch:
    """The batch on ``device``."""
    return moved(batch, lambda x: x.to(device, non_blocking=True))
