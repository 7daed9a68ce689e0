"""Pseudo-labels: the model's own confident predictions, and thresholds that treat rare classes fairly.

One flat threshold keeps what is easy (road, sky) and starves rare classes; class-balanced thresholds keep the same
*share* of every class (as CBST and FDA do). :func:`class_balanced_thresholds` is exact over what it is given, such as
a whole data set; :class:`RunningThresholds` follows the same quantile over the batches of online self-training.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

IGNORE = 255
"""Label of pixels without a pseudo-label."""


def count(values: Tensor, number: int) -> Tensor:
    """How often each of ``0..number - 1`` occurs in ``values`` of any shape, int64 ``(number,)``; others may not be among them.

    ``torch.bincount`` looks for the largest one first, and makes the processor wait for a GPU.
    """
    values = values.flatten().long()
    return values.new_zeros(number).scatter_add_(0, values, torch.ones_like(values))


def confident_labels(probabilities: Tensor, threshold: float | Tensor) -> tuple[Tensor, Tensor]:
    """The most likely class where it is likely enough, 255 elsewhere.

    Args:
        probabilities: ``(N, K, ...)``, softmax over channels.
        threshold: one value, or ``(K,)``, one per class. A pixel is kept if its confidence is *at least* the threshold
            of its class, so 0 keeps everything.

    Returns:
        int64 labels ``(N, ...)`` and the confidence (largest probability) ``(N, ...)``; no gradient.

    Raises:
        ValueError: if a threshold tensor does not have one entry per class.
    """
    confidence, label = probabilities.detach().max(dim=1)
    if isinstance(threshold, Tensor) and threshold.dim() > 0:
        if threshold.shape != probabilities.shape[1:2]:
            raise ValueError(f"threshold must have {probabilities.shape[1]} entries, got {tuple(threshold.shape)}")
        threshold = threshold.to(confidence)[label]
    return _kept(confidence, label, threshold), confidence


def _kept(confidence: Tensor, label: Tensor, threshold: float | Tensor) -> Tensor:
    """The labels of pixels that are as confident as their thresholds, 255 elsewhere."""
    return torch.where(confidence >= threshold, label, IGNORE)


def class_quantiles(confidence: Tensor, labels: Tensor, num_classes: int, fraction: float) -> tuple[Tensor, Tensor]:
    """Exact quantile of the confidence within every class.

    With the n confidences of a class in ascending order it is the entry at ``round(fraction * n)`` (half to even,
    counted from 0, at most the last): about ``fraction`` of the class lies below it.

    Args:
        confidence: any shape, floating point.
        labels: the same shape, integer; values outside ``0..num_classes - 1`` (255) are left out.
        num_classes: K.
        fraction: 0..1.

    Returns:
        ``(K,)`` quantiles, 0 for a class without pixels, and bool ``(K,)``: which classes have pixels.

    Raises:
        ValueError: if ``fraction`` is not within 0..1, or the shapes differ.
    """
    if not 0 <= fraction <= 1:
        raise ValueError(f"class_quantiles: fraction must be within 0..1, got {fraction}")
    if confidence.shape != labels.shape:
        raise ValueError(
            f"class_quantiles: confidence {tuple(confidence.shape)} and labels {tuple(labels.shape)} must have one shape"
        )
    confidence, labels = confidence.detach().flatten(), labels.flatten().long()
    if confidence.device.type == "cpu" and confidence.dtype != torch.bfloat16:
        return _selected(confidence, labels, num_classes, fraction)
    labels = torch.where((labels >= 0) & (labels < num_classes), labels, num_classes)
    ascending = torch.argsort(confidence)
    by_class = ascending[torch.argsort(labels[ascending], stable=True)]
    counts = count(labels, num_classes + 1)
    first = (counts.cumsum(0) - counts)[:num_classes]
    counts = counts[:num_classes]
    present = counts > 0
    at = torch.where(present, first + _ranks(counts, fraction), 0)
    quantiles = confidence.new_zeros(num_classes)
    if len(by_class):
        quantiles = torch.where(present, confidence[by_class[at]], quantiles)
    return quantiles, present


def _ranks(counts: Tensor, fraction: float) -> Tensor:
    """Which entry of each class in ascending order is its quantile; -1 for a class without pixels."""
    return torch.round(fraction * counts.double()).long().minimum(counts - 1)


def _selected(confidence: Tensor, labels: Tensor, num_classes: int, fraction: float) -> tuple[Tensor, Tensor]:
    """:func:`class_quantiles` without sorting: a partition per class. On a GPU each class would make the processor wait."""
    if labels.numel() and (labels.min() < 0 or labels.max() > num_classes):
        labels = torch.where((labels >= 0) & (labels < num_classes), labels, num_classes)
    candidates = _narrowed(confidence, labels, num_classes, fraction) if confidence.dtype == torch.float32 else None
    if candidates is None:
        counts = torch.bincount(labels, minlength=num_classes + 1)[:num_classes]
        candidates = confidence, labels, counts, _ranks(counts, fraction)
    confidence, labels, counts, ranks = candidates
    numbers = labels.to(torch.uint8 if num_classes < 256 else torch.int64).numpy()
    by_class = numbers.argsort(kind="stable")  # bytes are sorted by counting
    values, ends = confidence.numpy()[by_class], numbers[by_class].searchsorted(range(num_classes + 1)).tolist()
    quantiles = confidence.new_zeros(num_classes)
    for k, ((start, end), rank) in enumerate(zip(pairwise(ends), ranks.tolist(), strict=True)):
        if end > start:
            values[start:end].partition(rank)
            quantiles[k] = float(values[start + rank])
    return quantiles, counts > 0


def _narrowed(
    confidence: Tensor, labels: Tensor, num_classes: int, fraction: float
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Narrow the search for each class's quantile to one bin of a histogram of its confidences, in one pass.

    The bins are the upper halves of the floats' bits, which are in the order of the floats from 0 on.

    Returns:
        Confidences and labels of the pixels in those bins, the number of all pixels of each class, and the rank of each class's
        quantile among its pixels that are left. None where there are few pixels, or a confidence is below 0.
    """
    upper = confidence.view(torch.int32) >> 16
    width = int(upper.max()) + 1 if len(upper) else 1
    bins = (num_classes + 1) * width
    if len(upper) < bins or bins > torch.iinfo(torch.int32).max or upper.min() < 0:
        return None
    cells = upper.add_(labels.to(torch.int32), alpha=width)  # of two integer types it takes up to ten times as long
    below = torch.bincount(cells, minlength=bins)[: num_classes * width].view(-1, width).cumsum_(1)
    counts = below[:, -1]
    ranks = _ranks(counts, fraction)
    bucket = torch.searchsorted(below, ranks[:, None], right=True)[:, 0]
    selected = torch.zeros(bins, dtype=torch.bool)
    selected[(torch.arange(num_classes) * width + bucket)[ranks >= 0]] = True
    before = torch.where(bucket > 0, below.gather(1, (bucket - 1).clamp(min=0)[:, None])[:, 0], 0)
    kept = selected.index_select(0, cells).nonzero()[:, 0]  # selected[cells] takes nine times as long
    return confidence[kept], labels[kept], counts, ranks - before


def class_balanced_thresholds(probabilities: Tensor, fraction: float, cap: float = 0.9) -> Tensor:
    """Thresholds that drop the least confident ``fraction`` of every predicted class, but nothing above ``cap``.

    Args:
        probabilities: ``(N, K, ...)``, softmax over channels.
        fraction: share of each class to drop, 0..1 (FDA: 0.66).
        cap: largest threshold (FDA: 0.9): what is that certain is kept whatever its rank.

    Returns:
        ``(K,)``, 0 for a class that is never predicted. For :func:`confident_labels`.
    """
    confidence, labels = probabilities.max(dim=1)
    quantiles, _ = class_quantiles(confidence, labels, probabilities.shape[1], fraction)
    return quantiles.clamp(max=cap)


class RunningThresholds(nn.Module):
    """Per-class thresholds for online self-training: an average over batches of :func:`class_quantiles`.

    ``θ_c <- momentum θ_c + (1 - momentum) q_c`` for the classes predicted in the batch; the first quantile of a class
    is taken as it is, and a class absent from the batch keeps its threshold; so does one whose quantile is not a number,
    where a network has broken. All state is in buffers, so it is saved and resumed with the module that owns it.

    Args:
        num_classes: K.
        fraction: share of each class to drop, 0..1.
        cap: largest threshold that is ever used, and that of classes not seen yet, 0..1.
        momentum: weight of the past, 0..1 (0: the batch alone).

    Raises:
        ValueError: if one of the three is not within 0..1; of a batch, if it does not have K classes.
    """

    quantiles: Tensor
    seen: Tensor

    def __init__(self, num_classes: int, fraction: float, cap: float = 0.9, momentum: float = 0.9) -> None:
        super().__init__()
        for name, value in (("fraction", fraction), ("cap", cap), ("momentum", momentum)):
            if not 0 <= value <= 1:
                raise ValueError(f"RunningThresholds: {name} must be in 0..1, got {value}")
        self.fraction = fraction
        self.cap = cap
        self.momentum = momentum
        self.register_buffer("quantiles", torch.full((num_classes,), float(cap)))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    @property
    def thresholds(self) -> Tensor:
        """The thresholds now, ``(K,)``."""
        return self.quantiles.clamp(max=self.cap)

    @torch.no_grad()
    def update(self, probabilities: Tensor) -> Tensor:
        """Take in a batch ``(N, K, ...)`` of probabilities; returns the new thresholds ``(K,)``."""
        return self._follow(*self._likeliest(probabilities))

    @torch.no_grad()
    def update_and_label(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """:meth:`update`, then pseudo-labels and confidence of the same batch, with one search for the most likely classes."""
        confidence, label = self._likeliest(probabilities)
        thresholds = self._follow(confidence, label)
        return _kept(confidence, label, thresholds.to(confidence)[label]), confidence

    def _likeliest(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        if probabilities.shape[1] != len(self.quantiles):
            raise ValueError(f"RunningThresholds of {len(self.quantiles)} classes, got {tuple(probabilities.shape)}")
        confidence, label = probabilities.max(dim=1)
        return confidence, label

    def _follow(self, confidence: Tensor, labels: Tensor) -> Tensor:
        quantiles, present = class_quantiles(confidence, labels, len(self.quantiles), self.fraction)
        present = present & quantiles.isfinite()
        averaged = torch.lerp(quantiles.to(self.quantiles), self.quantiles, self.momentum)
        fresh = torch.where(self.seen, averaged, quantiles.to(self.quantiles))
        self.quantiles.copy_(torch.where(present, fresh, self.quantiles))
        self.seen |= present
        return self.thresholds

    def forward(self, probabilities: Tensor) -> tuple[Tensor, Tensor]:
        """Pseudo-labels and confidence of a batch under the present thresholds; does not update them."""
        return confident_labels(probabilities, self.thresholds)
