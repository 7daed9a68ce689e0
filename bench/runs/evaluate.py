"""Scores of a model: on labels (evaluation, after adaptation) and without them (a target-only score for selection)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import RunError
from bench.core.progress import Progress, quiet
from bench.data.loaders import ClipLoader
from bench.data.splits import Store
from bench.flow.backends.exact import exact
from bench.shifts.protocol import Evaluation, Shift
from methods.base import ClipBatch
from stpl.segmenter import Segmentation, VideoSegmenter

from .metrics import ConfusionMatrix, carry_labels, iou_from_confusion, mean_iou, pixel_accuracy
from .sequences import SequenceCounts
from .training import to_device

BATCH = 4
"""Clips per forward pass in evaluation; scores do not depend on it."""
LARGE = 512 * 512
"""Pixels of a label map from which on clips are scored one by one, to bound memory."""


@dataclass(frozen=True)
class Scores:
    """Result on one split: IoU per class in percent (NaN where a class never occurs), their mean, pixel accuracy, and
    temporal consistency (mean IoU of the flow-warped previous prediction with the current one on valid pixels), percent.
    ``sequences``: by target sequence, int64 ``(K, 3)`` pixels per class (``bench.runs.sequences``); their sums give the IoU."""

    iou: tuple[float, ...]
    miou: float
    pixel_accuracy: float
    temporal_consistency: float
    sequences: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)


def batches(loader: ClipLoader, clips: int, size: int | None = None) -> Iterator[ClipBatch]:
    """The first ``clips`` clips in order, ``size`` (:data:`BATCH`) at a time."""
    size = size or BATCH
    for start in range(0, clips, size):
        yield loader.collate(list(range(start, min(start + size, clips))))


@dataclass(frozen=True)
class Everything:
    """All clips of a split in order, in batches on a device; can be gone through more than once."""

    loader: ClipLoader
    device: torch.device

    def __iter__(self) -> Iterator[ClipBatch]:
        of_split = batches(self.loader, len(self.loader.store), self.loader.batch)
        return (to_device(batch, self.device) for batch in of_split)


def predict(
    out: Segmentation, segmenter: VideoSegmenter, size: tuple[int, int], align_corners: bool
) -> tuple[Tensor, Tensor]:
    """Labels ``(N, H, W)`` of the current and, from its own features alone, of the previous frame."""

    def labels(scores: Tensor) -> Tensor:
        return F.interpolate(scores.float(), size, mode="bilinear", align_corners=align_corners).argmax(1)

    previous = segmenter.classify(segmenter.fuse_alone(out.encoded[-2]))
    return labels(out.scores), labels(previous)


def protocol_scores(
    shift: Shift,
    segmenter: VideoSegmenter,
    loader: ClipLoader,
    device: torch.device,
    what: str = "evaluate",
    progress: Progress = quiet,
) -> Scores:
    """Score a model as a shift's protocol says."""
    unscored = [shift.classes.index(name) for name in shift.evaluation.unscored]
    return evaluate(segmenter, loader, len(shift.classes), shift.evaluation, device, what, progress, unscored)


@torch.no_grad()
def evaluate(
    segmenter: VideoSegmenter,
    loader: ClipLoader,
    classes: int,
    rule: Evaluation,
    device: torch.device,
    what: str = "evaluate",
    progress: Progress = quiet,
    unscored: Collection[int] = (),
) -> Scores:
    """Score a model on all clips of a split, with its labels (one confusion matrix, int64).

    Scores are upsampled to the labels' size. Consistency is measured at the clips' size along their exact flow, whatever flow
    the model was given; where clips bring none, along the flow that the model was given. Classes in ``unscored`` count in the
    confusion matrix and have no IoU.
    """
    segmenter.eval()
    store: Store = loader.store
    truth = store.labels()
    pooled, temporal = SequenceCounts(classes), ConfusionMatrix(classes)
    total = len(store)
    label_size = (truth[0].shape[-2], truth[0].shape[-1])
    together = BATCH if label_size[0] * label_size[1] < LARGE else 1
    for number, batch in enumerate(batches(loader, total, together)):
        indices = range(number * together, number * together + len(batch.keys))
        batch = to_device(batch, device)
        size = (batch.frames.shape[-2], batch.frames.shape[-1])
        out = segmenter(batch.frames, batch.flow, batch.valid)
        current, previous = predict(out, segmenter, size, rule.align_corners)
        scored = current if label_size == size else predict(out, segmenter, label_size, rule.align_corners)[0]
        for place, (i, now, before) in enumerate(zip(indices, current, previous, strict=True)):
            pooled.update(store.sequence(i), torch.from_numpy(truth[i].copy()), scored[place].cpu())
            if store.carries_flow:
                temporal.update(*carried(store, i, before.cpu(), now.cpu()))
            else:
                moved = carry_labels(before[None], batch.flow[place, -1:], batch.valid[place, -1:])
                temporal.update(moved[0], now)
        progress(what, indices[-1] + 1, total)
    iou = iou_from_confusion(pooled.matrix)
    iou[list(unscored)] = math.nan
    return Scores(
        iou=tuple(100 * float(x) for x in iou),
        miou=100 * float(mean_iou(iou)),
        pixel_accuracy=100 * float(pixel_accuracy(pooled.matrix)),
        temporal_consistency=100 * float(mean_iou(iou_from_confusion(temporal.matrix))),
        sequences=pooled.counts(),
    )


def carried(store: Store, index: int, previous: Tensor, current: Tensor) -> tuple[Tensor, Tensor]:
    """Previous prediction carried along the exact flow (nearest pixel; 255 where invalid) and the current one, ``(H, W)``."""
    flow, valid = (torch.from_numpy(x[-1:]) for x in exact(store, index))
    return carry_labels(previous[None], flow, valid)[0], current


@torch.no_grad()
def target_score(segmenter: VideoSegmenter, loader: ClipLoader, clips: int, device: torch.device) -> float:
    """Target-only score, higher is better: ``H(mean p) - mean H(p)`` in nats over pixels of target training clips.

    Confident on each pixel, varied over all (information maximisation, Krause et al., NeurIPS 2010). No label is used.

    Raises:
        RunError: a prediction is NaN or infinite.
    """
    segmenter.eval()
    mean, entropy, pixels = torch.zeros(()), 0.0, 0
    for batch in batches(loader, min(clips, len(loader.store))):
        batch = to_device(batch, device)
        p = segmenter(batch.frames, batch.flow, batch.valid).scores.float().softmax(1)
        mean = mean.to(device) + p.sum((0, 2, 3))
        entropy += float(-(p * p.clamp_min(1e-12).log()).sum())
        pixels += p[:, 0].numel()
    marginal = (mean / pixels).clamp_min(1e-12)
    score = float(-(marginal * marginal.log()).sum()) - entropy / pixels
    if not math.isfinite(score):
        raise RunError("The model's predictions on target training clips are not finite; lower the learning rate")
    return score


@torch.no_grad()
def reestimate_statistics(segmenter: VideoSegmenter, loader: ClipLoader, clips: int, device: torch.device) -> None:
    """Set every batch-norm layer's statistics to the average over unlabelled clips; weights stay (what AdaBN does)."""
    layers = [m for m in segmenter.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    momenta = [layer.momentum for layer in layers]
    segmenter.train()
    for layer in layers:
        layer.reset_running_stats()
        layer.momentum = None  # cumulative average
    for batch in batches(loader, min(clips, len(loader.store))):
        batch = to_device(batch, device)
        segmenter(batch.frames, batch.flow, batch.valid)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
