"""Thresholds that follow each class's confidence over the clips: of IAST, which CMOM takes over, and of SAC, which DT-ST does."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from methods.base import ClipBatch
from methods.common.rounds import LabelBank
from stpl.pseudo_labels import IGNORE


def class_percentiles(confidence: Tensor, label: Tensor, fractions: Tensor) -> Tensor:
    """Each class's own quantile of its confidences, linear between the two nearest (numpy's ``percentile``), ``(K,)``.

    Args:
        confidence: any shape, floating point.
        label: the same shape, integer in ``0..K-1``; every class must occur.
        fractions: ``(K,)`` in 0..1.
    """
    confidence, label = confidence.flatten(), label.flatten().long()
    ascending = confidence.argsort()
    ordered = confidence[ascending[label[ascending].sort(stable=True).indices]]
    counts = torch.bincount(label, minlength=len(fractions))
    position = fractions.to(confidence) * (counts - 1)
    below = position.floor()
    first = counts.cumsum(0) - counts
    low = ordered[first + below.long()]
    high = ordered[first + torch.minimum(below.long() + 1, counts - 1)]
    return torch.lerp(low, high, position - below)


def adapted(
    thresholds: Tensor, confidence: Tensor, label: Tensor, share: float, power: float, momentum: float
) -> Tensor:
    """IAST's thresholds ``(K,)`` after one more image.

    With q_c the ``1 - share * theta_c^power`` quantile of theta_c itself and the confidences of the image's pixels of class c:
    ``theta_c <- min(momentum theta_c + (1 - momentum) q_c, 0.999)``. A class that is hard (low theta) keeps fewer of its pixels.

    Args:
        confidence: largest probabilities of the image's pixels, any shape.
        label: their classes.

    Source: IAST (Mei et al., ECCV 2020) as CMOM's published code has it: share 0.2, power 8, momentum 0.9.
    """
    classes = torch.arange(len(thresholds), device=label.device)
    confidences = torch.cat([thresholds.to(confidence), confidence.flatten()])
    quantile = class_percentiles(confidences, torch.cat([classes, label.flatten()]), 1 - share * thresholds**power)
    return torch.lerp(quantile.to(thresholds), thresholds, momentum).clamp(max=0.999)


@torch.no_grad()
def label_adaptively(
    bank: LabelBank,
    clips: Iterable[ClipBatch],
    predict: Callable[[ClipBatch], Tensor],
    share: float,
    power: float,
    momentum: float = 0.9,
    start: float = 0.9,
) -> None:
    """Fill ``bank`` with the target's labels, clip by clip in order, each under the thresholds that follow from those before and
    from itself (:func:`adapted`); a pixel below its class's threshold gets 255.

    Args:
        bank: replaced by the new labels.
        clips: the whole target.
        predict: probabilities ``(N, K, h, w)`` of a batch.
        start: every class's threshold before the first clip.
    """
    thresholds: Tensor | None = None
    for batch in clips:
        p = predict(batch).float()
        if thresholds is None:
            thresholds = p.new_full((p.shape[1],), start)
        labels = []
        for confidence, label in zip(*p.max(1), strict=True):
            thresholds = adapted(thresholds, confidence, label, share, power, momentum)
            labels.append(torch.where(confidence < thresholds[label], IGNORE, label))
        bank.put(batch.keys, torch.stack(labels))
    bank.close()


class PeakThresholds(nn.Module):
    """Thresholds relative to the most confident pixel of each class in each image, lower for classes that are rare.

    With chi_c the running mean probability of class c and peak_c the largest probability among an image's pixels of class c, a
    pixel is kept if ``p > max(lower, upper * peak_c * (1 - exp(-chi_c / beta)))``. chi starts at beta; the first batch in which a
    class has any probability sets it, later ones move it.

    Args:
        num_classes: K.
        upper: 0.8 in DT-ST.
        lower: 0.2.
        beta: 0.001.
        momentum: 0.9.

    Source: SAC (Araslanov & Roth, CVPR 2021), as DT-ST's published code has it.
    """

    prior: Tensor
    seen: Tensor

    def __init__(
        self, num_classes: int, upper: float = 0.8, lower: float = 0.2, beta: float = 0.001, momentum: float = 0.9
    ) -> None:
        super().__init__()
        self.upper, self.lower, self.beta, self.momentum = upper, lower, beta, momentum
        self.register_buffer("prior", torch.full((num_classes,), beta))
        self.register_buffer("seen", torch.zeros(num_classes, dtype=torch.bool))

    @torch.no_grad()
    def update(self, probabilities: Tensor) -> None:
        """Take in a batch of probabilities ``(N, K, ...)``."""
        mean = probabilities.float().mean([0, *range(2, probabilities.dim())])
        fresh = ~self.seen & (mean > 1e-8)
        self.prior.copy_(torch.lerp(mean, torch.where(fresh, mean, self.prior), self.momentum))
        self.seen |= fresh

    @torch.no_grad()
    def forward(self, probabilities: Tensor) -> Tensor:
        """Labels int64 ``(N, h, w)`` of probabilities ``(N, K, h, w)``, 255 where nothing is kept."""
        confidence, label = probabilities.max(1)
        classes = torch.zeros_like(probabilities).scatter_(1, label[:, None], confidence[:, None])
        peak = classes.flatten(2).max(2).values
        threshold = (self.upper * peak * (1 - torch.exp(-self.prior / self.beta))).clamp_min(self.lower)
        needed = threshold.gather(1, label.flatten(1)).view(label.shape)
        return torch.where(confidence > needed, label, IGNORE)
