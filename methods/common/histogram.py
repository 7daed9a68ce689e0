"""Histogram matching of 8-bit pictures, exact and without a loop over images."""

from __future__ import annotations

import torch
from torch import Tensor

from stpl.pseudo_labels import count

LEVELS = 256


def match_histograms(images: Tensor, reference: Tensor) -> Tensor:
    """Give each channel of an image the distribution of values that the reference's channel has.

    A value's quantile is its cumulative share of the image's pixels; its new value is the reference's value at that quantile,
    linear between the reference's own values, below the first one the first.

    Args:
        images: ``(N, C, H, W)`` float in 0..255, rounded to whole levels first.
        reference: ``(N, C, H', W')`` likewise; image i takes from reference i.

    Returns:
        float32 ``(N, C, H, W)`` in 0..255, not rounded.

    Raises:
        ValueError: numbers of images or channels differ.

    Source: TPS (Xing et al., ECCV 2022), published code.
    """
    if images.shape[:2] != reference.shape[:2]:
        raise ValueError(
            f"match_histograms: {tuple(images.shape)} and {tuple(reference.shape)} differ in images or channels"
        )
    levels = _levels(images)
    quantile, reference_cdf = _cumulative(levels), _cumulative(_levels(reference))
    # The reference's level that reaches the quantile.
    first = torch.searchsorted(reference_cdf, quantile).clamp(max=LEVELS - 1)
    below = torch.where(first > 0, reference_cdf.gather(1, (first - 1).clamp(min=0)), 0.0)
    last_below = torch.searchsorted(reference_cdf, below).clamp(max=LEVELS - 1)  # its level before that one
    step = reference_cdf.gather(1, first) - below
    share = torch.where(below > 0, (quantile - below) / step.clamp_min(1e-300), 1.0)
    table = torch.where(below > 0, last_below + share * (first - last_below), first.double())
    return table.gather(1, levels).view(images.shape).float()


def _levels(images: Tensor) -> Tensor:
    return images.round().clamp(0, LEVELS - 1).long().flatten(2).flatten(0, 1)


def _cumulative(levels: Tensor) -> Tensor:
    """Share of the pixels at or below each level, float64 ``(N C, 256)``."""
    rows = len(levels)
    offset = torch.arange(rows, device=levels.device)[:, None] * LEVELS
    counts = count(levels + offset, rows * LEVELS).view(rows, LEVELS)
    return counts.double().cumsum(1) / levels.shape[1]
