"""Does a confidence of 80 % mean right in 80 %? Reliability and its one number, the expected calibration error."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

BINS = 15


@dataclass
class Reliability:
    """Pixels by their confidence (largest probability) in equal-width bins ``(i/B, (i+1)/B]``, filled batch by batch.

    Attributes:
        count: pixels per bin, float64 ``(B,)``.
        confidence: sum of their confidences.
        right: how many of them are right.
    """

    bins: int = BINS
    count: Tensor = field(init=False)
    confidence: Tensor = field(init=False)
    right: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.count, self.confidence, self.right = torch.zeros(3, self.bins, dtype=torch.float64).unbind()

    def update(self, confidence: Tensor, right: Tensor) -> None:
        """Add pixels: confidences in 0..1 and whether each is right, of any one shape."""
        confidence, right = confidence.flatten().double().cpu(), right.flatten().double().cpu()
        numbers = ((confidence * self.bins).ceil().long() - 1).clamp(0, self.bins - 1)
        for total, values in (
            (self.count, torch.ones_like(confidence)),
            (self.confidence, confidence),
            (self.right, right),
        ):
            total += torch.bincount(numbers, values, minlength=self.bins)


def expected_calibration_error(count: Tensor, confidence: Tensor, accuracy: Tensor) -> float:
    """``sum_b n_b / n |accuracy_b - confidence_b|`` over bins (Naeini et al., AAAI 2015; Guo et al., ICML 2017).

    Args:
        count: pixels per bin ``(B,)``; empty bins count nothing, whatever their means are.
        confidence: mean confidence per bin.
        accuracy: share of right pixels per bin, in the same unit, which is that of the result.
    """
    filled = count > 0
    gaps = (accuracy[filled] - confidence[filled]).abs()
    return float((count[filled] * gaps).sum() / count.sum())
