"""What a network says of clips, batch by batch: the one pass behind scores, figures, films, pseudo-labels and files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bench.data.loaders import ClipLoader, Read, to_device
from methods.base import ClipBatch
from stpl.segmenter import Segmentation, VideoSegmenter

from .upsampling import LARGE, best_labels, upsampled

BATCH = 4
"""Clips per forward pass; scores do not depend on it."""
Size = tuple[int, int]
"""``(H, W)`` in pixels."""


def batch_size(size: Size) -> int:
    """Clips per forward pass where their scores are wanted at this size: large ones one by one, to bound memory."""
    return BATCH if size[0] * size[1] < LARGE else 1


def batches(
    loader: ClipLoader, device: torch.device, numbers: Sequence[int] | None = None, together: int | None = None
) -> Iterator[tuple[list[Read], ClipBatch]]:
    """Clips by number (all in order), ``together`` (:data:`BATCH`) at a time: as they were read, and on the device."""
    numbers, together = range(len(loader.store)) if numbers is None else numbers, together or BATCH
    for start in range(0, len(numbers), together):
        reads = [loader.read(number) for number in numbers[start : start + together]]
        yield reads, to_device(loader.together(reads), device)


@dataclass(frozen=True)
class Predicted:
    """What a network says of a batch of clips, on its device.

    Attributes:
        segmenter: the network.
        batch: N clips.
        out: its pass over them; scores and features on their own grids.
        align_corners: of the bilinear upsampling.
        reads: the clips as they were read from disk, where they were.
    """

    segmenter: VideoSegmenter
    batch: ClipBatch
    out: Segmentation
    align_corners: bool
    reads: Sequence[Read]

    @property
    def size(self) -> Size:
        """``(H, W)`` of the frames."""
        return self.batch.frames.shape[-2], self.batch.frames.shape[-1]

    def scores(self, size: Size | None = None) -> Tensor:
        """Logits of frame t, float32 ``(N, K, H, W)``, upsampled to ``size``, by default the frames'."""
        return upsampled(self.out.scores.float(), size or self.size, self.align_corners)

    def labels(self, size: Size | None = None) -> Tensor:
        """Labels of frame t, int64 ``(N, H, W)``."""
        return best_labels(self.out.scores.float(), size or self.size, self.align_corners)

    @torch.no_grad()
    def previous_labels(self, size: Size | None = None) -> Tensor:
        """Labels of frame t-1 from its own features alone, int64 ``(N, H, W)``."""
        alone = self.segmenter.classify(self.segmenter.fuse_alone(self.out.encoded[-2]))
        return best_labels(alone.float(), size or self.size, self.align_corners)


@torch.no_grad()
def predict(
    segmenter: VideoSegmenter, batch: ClipBatch, align_corners: bool = False, reads: Sequence[Read] = ()
) -> Predicted:
    """One pass without gradients, in the mode that the network is in."""
    return Predicted(segmenter, batch, segmenter(batch.frames, batch.flow, batch.valid), align_corners, reads)


def predictions(
    segmenter: VideoSegmenter,
    loader: ClipLoader,
    device: torch.device,
    align_corners: bool = False,
    numbers: Sequence[int] | None = None,
    together: int | None = None,
) -> Iterator[Predicted]:
    """Pass clips through a network in evaluation mode.

    Args:
        align_corners: of the upsampling, as the protocol's ``evaluation`` says.
        numbers: of the clips; all in order by default.
        together: clips per pass; :data:`BATCH` by default.
    """
    segmenter.eval()
    for reads, batch in batches(loader, device, numbers, together):
        yield predict(segmenter, batch, align_corners, reads)
