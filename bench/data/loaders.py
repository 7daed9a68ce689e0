"""Batches: which clips, in which order, with whose flow. Order is a function of seed and step, so a resumed run sees the same."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from bench.flow.base import FlowBackend
from bench.seeding import seed_for
from methods.base import ClipBatch, LabelledBatch

from .store import ClipStore


class ClipLoader:
    """Batches of one split in a fixed random order, without labels.

    Args:
        store: the clips.
        flow: backend that gives each clip's flow and validity.
        batch: clips per batch.
        seed: of the order; each pass over the data is a new permutation.
    """

    def __init__(self, store: ClipStore, flow: FlowBackend, batch: int, seed: int) -> None:
        self.store, self.flow, self.batch, self.seed = store, flow, batch, seed
        self._epoch, self._order = -1, np.empty(0, dtype=np.int64)

    def indices(self, step: int) -> list[int]:
        """Clip numbers of a step; the last, short batch of a pass is filled from the next pass."""
        return [self._at(position) for position in range(step * self.batch, (step + 1) * self.batch)]

    def _at(self, position: int) -> int:
        epoch, offset = divmod(position, len(self.store))
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng(seed_for(self.seed, "order", epoch)).permutation(len(self.store))
        return int(self._order[offset])

    def __call__(self, step: int) -> ClipBatch:
        return self.collate(self.indices(step))

    def collate(self, indices: list[int]) -> ClipBatch:
        """The named clips as one batch of tensors."""
        clips = [self.store[i] for i in indices]
        moved = [self.flow(self.store, i) for i in indices]
        frames = torch.from_numpy(np.stack([c.frames for c in clips]))
        return ClipBatch(
            frames.float().div_(255),
            torch.from_numpy(np.stack([flow for flow, _ in moved])),
            torch.from_numpy(np.stack([valid for _, valid in moved])),
            tuple(c.key for c in clips),
        )


class LabelledLoader(ClipLoader):
    """The same with labels; opening them is refused where the stage does not grant it."""

    def __init__(self, store: ClipStore, flow: FlowBackend, batch: int, seed: int) -> None:
        super().__init__(store, flow, batch, seed)
        self.labels: NDArray[np.uint8] = store.labels()

    def collate(self, indices: list[int]) -> LabelledBatch:
        clips = super().collate(indices)
        label = torch.from_numpy(np.stack([self.labels[i] for i in indices])).long()
        return LabelledBatch(clips.frames, clips.flow, clips.valid, clips.keys, label)
