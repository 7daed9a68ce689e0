"""Scores of a model: on labels (evaluation, after adaptation) and without them (a target-only score for selection)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.core.errors import RunError
from bench.core.progress import Progress, quiet
from bench.data.loaders import ClipLoader, Read
from bench.data.splits import Store
from bench.shifts.protocol import Evaluation, Shift
from methods.base import ClipBatch
from stpl.segmenter import VideoSegmenter

from .grouping import Grouping, grouping_of
from .metrics import (
    ConfusionMatrix,
    carry_labels,
    counts_of,
    iou_from_confusion,
    iou_from_counts,
    mean_iou,
    pixel_accuracy,
)
from .predictions import batch_size, batches, predictions
from .sequences import SequenceCounts
from .video_consistency import Windows


@dataclass(frozen=True)
class Scores:
    """Result on one split: IoU per class in percent (NaN for a class without a labelled pixel), their mean, pixel accuracy, and
    temporal consistency (mean IoU of the flow-warped previous prediction with the current one on valid pixels), percent.
    ``video``: mVC8 and mVC16, percent, where that many scored frames follow each other (``bench.runs.video_consistency``).
    ``sequences``: by target sequence, or by frame, int64 ``(K, 3)`` pixels per class (``bench.runs.sequences``); their sums give
    the IoU."""

    iou: tuple[float, ...]
    miou: float
    pixel_accuracy: float
    temporal_consistency: float
    video: Mapping[str, float] = field(default_factory=dict)
    sequences: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True)
class Everything:
    """All clips of a split in order, in batches on a device; can be gone through more than once."""

    loader: ClipLoader
    device: torch.device

    def __iter__(self) -> Iterator[ClipBatch]:
        return (batch for _, batch in batches(self.loader, self.device, together=self.loader.batch))


def protocol_scores(
    shift: Shift,
    segmenter: VideoSegmenter,
    loader: ClipLoader,
    device: torch.device,
    activity: str = "evaluate",
    progress: Progress = quiet,
) -> Scores:
    """Score a model as a shift's protocol says."""
    groups, unscored = grouping_of(shift), unscored_of(shift)
    return evaluate(
        segmenter, loader, len(shift.classes), shift.evaluation, device, activity, progress, unscored, groups
    )


def unscored_of(shift: Shift) -> list[int]:
    """Numbers of the scored classes that have no IoU."""
    return [shift.score_classes.index(name) for name in shift.unscored]


def evaluate(
    segmenter: VideoSegmenter,
    loader: ClipLoader,
    classes: int,
    rule: Evaluation,
    device: torch.device,
    activity: str = "evaluate",
    progress: Progress = quiet,
    unscored: Collection[int] = (),
    groups: Grouping | None = None,
) -> Scores:
    """Score a model on all clips of a split, with its labels (one confusion matrix, int64).

    Scores are upsampled to the labels' size. Consistency is measured at the clips' size along their exact flow, whatever flow
    the model was given; where clips bring none, along the flow that the model was given. Classes in ``unscored`` count in the
    confusion matrix and have no IoU. With ``groups`` all of it is of groups: labels name them, and predictions become them first.
    """
    store, done, groups = loader.store, 0, groups or Grouping.none(classes)
    truth, tally = store.labels(), Tally(store, rule, groups, unscored)
    size = (truth[0].shape[-2], truth[0].shape[-1])
    for predicted in predictions(
        segmenter, loader, device, rule.align_corners, together=1 if rule.own_size else batch_size(size)
    ):
        current, previous = groups(predicted.labels()), groups(predicted.previous_labels()).cpu()
        labels = [torch.from_numpy(truth[read.number].copy()) for read in predicted.reads]
        size = (labels[0].shape[-2], labels[0].shape[-1])
        scored = (current if size == predicted.size else groups(predicted.labels(size))).cpu()
        for read, label, current_map, previous_map, guess in zip(
            predicted.reads, labels, current.cpu(), previous, scored, strict=True
        ):
            tally.add(read, label, guess, current_map, previous_map)
        done += len(predicted.reads)
        progress(activity, done, len(store))
    return tally.scores()


class Tally:
    """What :class:`Scores` are made of, filled clip by clip with labels of groups."""

    def __init__(self, store: Store, rule: Evaluation, groups: Grouping, unscored: Collection[int] = ()) -> None:
        self.store, self.groups, self.unscored = store, groups, list(unscored)
        self.unit = store.key if rule.counts == "frame" else store.sequence
        self.pooled, self.temporal = SequenceCounts(groups.count), ConfusionMatrix(groups.count)
        self.windows = Windows()

    def add(self, read: Read, label: Tensor, guess: Tensor, current: Tensor, previous: Tensor) -> None:
        """Count a clip.

        Args:
            label, guess: truth and prediction at the label's size.
            current, previous: predictions of frame t, and of frame t-1 by itself, at the frames' size.
        """
        self.pooled.update(self.unit(read.number), label, guess)
        self.temporal.update(carried(self.store, read, previous), current)
        truth, labels = (tensor.to(torch.uint8).numpy() for tensor in (label, guess))
        self.windows.add(truth, labels, self.store.follows(read.number))

    def scores(self) -> Scores:
        """Scores of all that was counted."""
        iou, over_time = iou_from_counts(counts_of(self.pooled.matrix)), iou_from_confusion(self.temporal.matrix)
        iou[self.unscored] = math.nan
        over_time[self.groups.left_over :] = math.nan
        return Scores(
            iou=tuple(100 * float(x) for x in iou),
            miou=100 * float(mean_iou(iou)),
            pixel_accuracy=100 * float(pixel_accuracy(self.pooled.matrix)),
            temporal_consistency=100 * float(mean_iou(over_time)),
            video=self.windows.scores(),
            sequences=self.pooled.counts(),
        )


def carried(store: Store, read: Read, previous: Tensor) -> Tensor:
    """Labels ``(H, W)`` of frame t-1 carried to t along the clip's exact flow, or where clips bring none, along the flow that
    the model was given (nearest pixel; 255 where invalid)."""
    flow, valid = (read.clip.flow, read.clip.valid) if store.carries_flow else (read.flow, read.valid)
    return carry_labels(previous[None], torch.from_numpy(flow[-1:]), torch.from_numpy(valid[-1:]))[0]


class Information:
    """``H(mean p) - mean H(p)`` in nats, filled batch by batch: sure of each pixel, varied over all."""

    def __init__(self) -> None:
        self._mean, self._entropy, self._pixels = torch.zeros(()), 0.0, 0

    def add(self, scores: Tensor) -> None:
        """Take in scores ``(N, K, h, w)``."""
        p = scores.float().softmax(1)
        self._mean = self._mean.to(p.device) + p.sum((0, 2, 3))
        self._entropy += float(-(p * p.clamp_min(1e-12).log()).sum())
        self._pixels += p[:, 0].numel()

    def state(self) -> dict[str, Tensor]:
        """The sums so far, as tensors for :meth:`load`."""
        sums = torch.tensor([self._entropy, float(self._pixels)], dtype=torch.float64)
        return {"mean": self._mean, "entropy, pixels": sums}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Go on from :meth:`state`."""
        self._mean = state["mean"]
        self._entropy, self._pixels = float(state["entropy, pixels"][0]), int(state["entropy, pixels"][1])

    def score(self) -> float:
        """The value over all pixels; NaN where a class score was NaN."""
        marginal = (self._mean / self._pixels).clamp_min(1e-12)
        return float(-(marginal * marginal.log()).sum()) - self._entropy / self._pixels


def target_score(segmenter: VideoSegmenter, loader: ClipLoader, clips: int, device: torch.device) -> float:
    """Target-only score, higher is better: ``H(mean p) - mean H(p)`` in nats over pixels of target training clips.

    Confident on each pixel, varied over all (information maximisation, Krause et al., NeurIPS 2010). No label is used.

    Raises:
        RunError: a prediction is NaN or infinite.
    """
    information = Information()
    for predicted in predictions(segmenter, loader, device, numbers=range(min(clips, len(loader.store)))):
        information.add(predicted.out.scores)
    if not math.isfinite(score := information.score()):
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
    for _, batch in batches(loader, device, range(min(clips, len(loader.store)))):
        segmenter(batch.frames, batch.flow, batch.valid)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
