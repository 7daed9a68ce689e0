"""Scores from predictions: one pooled confusion matrix in int64, and what is read off it.

Rows are ground truth, columns predictions, and pixels are pooled over the whole split before any division, as in the
Cityscapes evaluation. IoU is TP / (row + column - TP). Against labels a class without a labelled pixel has none (NaN) and leaves
the mean (:func:`iou_from_counts`): whether it was predicted says nothing about it, and what it took from others counts there.
Between two predictions (:func:`iou_from_confusion`) a class that one of them alone has scores 0.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data.labels import IGNORE

Labels = Tensor | npt.NDArray[np.integer]


def confusion_matrix(label: Labels, prediction: Labels, num_classes: int) -> Tensor:
    """Count (truth, prediction) pairs.

    Args:
        label: integer, any shape; values outside ``0..num_classes - 1`` (255) are left out.
        prediction: integer, the same shape. Where the label counts, it must be a class.
        num_classes: K.

    Returns:
        int64 ``(K, K)`` on the CPU, rows = truth.

    Raises:
        ValueError: if shapes differ or a counted prediction is not a class.
    """
    truth, guess = torch.as_tensor(label), torch.as_tensor(prediction)
    if truth.shape != guess.shape:
        raise ValueError(f"label {tuple(truth.shape)} and prediction {tuple(guess.shape)} must have the same shape")
    truth, guess = truth.flatten().long(), guess.flatten().long()
    counted = (truth >= 0) & (truth < num_classes)
    if len(guess) and not (guess.min() >= 0 and guess.max() < num_classes):
        wrong = guess[counted & ((guess < 0) | (guess >= num_classes))]
        if len(wrong):
            raise ValueError(f"prediction {int(wrong[0])} is not a class; allowed: 0..{num_classes - 1}")
    # What does not count has a bin of its own: taking it out first would copy all the rest.
    pairs = torch.where(counted, truth * num_classes + guess, num_classes**2)
    counts = torch.bincount(pairs, minlength=num_classes**2 + 1)[: num_classes**2]
    return counts.view(num_classes, num_classes).cpu()


def iou_from_confusion(matrix: Labels) -> Tensor:
    """Intersection over union per class, float64 ``(K,)`` in 0..1; NaN where a class is in neither."""
    hits, truth, predicted = counts_of(matrix).double().unbind(-1)
    return hits / (truth + predicted - hits)


def counts_of(matrix: Labels) -> Tensor:
    """True positives, truth and predicted pixels per class, int64 ``(K, 3)``, of a confusion matrix."""
    counts = torch.as_tensor(matrix)
    return torch.stack([counts.diagonal(), counts.sum(1), counts.sum(0)], 1)


def iou_from_counts(counts: Labels) -> Tensor:
    """Intersection over union per class from :func:`counts_of`, float64 ``(K,)``; NaN for a class without a labelled pixel."""
    hits, truth, predicted = torch.as_tensor(counts).double().unbind(-1)
    return torch.where(truth > 0, hits / (truth + predicted - hits), torch.nan)


def mean_iou(iou: Tensor) -> float:
    """Mean over the classes that have an IoU; NaN if none does."""
    return float(iou.nanmean())


def pixel_accuracy(matrix: Labels) -> float:
    """Share of counted pixels that are right, 0..1; NaN if none was counted."""
    counts = torch.as_tensor(matrix).double()
    return float(counts.diagonal().sum() / counts.sum())


def carry_labels(previous: Tensor, flow: Tensor, valid: Tensor) -> Tensor:
    """Label maps of frame t-1 brought to frame t along backward flow, by nearest neighbour.

    Args:
        previous: integer ``(N, H, W)``.
        flow: ``(N, 2, H, W)``, backward flow t to t-1 in pixels, x first.
        valid: bool ``(N, H, W)``.

    Returns:
        int64 ``(N, H, W)``; 255 where ``valid`` is False or the flow leaves the image.
    """
    height, width = previous.shape[-2:]
    x = torch.round(torch.arange(width, device=flow.device) + flow[:, 0])
    y = torch.round(torch.arange(height, device=flow.device)[:, None] + flow[:, 1])
    inside = valid & (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    source = torch.where(inside, y * width + x, 0).long()
    carried = previous.long().flatten(1).gather(1, source.flatten(1)).view_as(source)
    return torch.where(inside, carried, IGNORE)


class ConfusionMatrix:
    """A confusion matrix that is filled batch by batch.

    Args:
        num_classes: K.

    Attributes:
        matrix: int64 ``(K, K)``, rows = truth.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.matrix = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, label: Labels, prediction: Labels) -> None:
        """Add a batch; see :func:`confusion_matrix`."""
        self.matrix += confusion_matrix(label, prediction, self.num_classes)
