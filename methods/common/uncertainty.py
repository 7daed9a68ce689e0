"""Terms of UR: how varied the predictions are over the batch, and how much decoders on damaged features disagree."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

LOG2_E = 1.442695
"""1 / ln 2 to as many digits as UR's published code has."""


def diversity(probabilities: Tensor) -> Tensor:
    """``1.442695 sum_c q_c ln q_c`` with q the mean probability over batch and pixels: minus the entropy of q in bits; 0 log 0 = 0.

    Least where all classes are predicted equally often. Source: UR, published code (its prior is 1 for every class).
    """
    mean = probabilities.mean([0, *range(2, probabilities.dim())])
    positive = mean.clamp_min(torch.finfo(mean.dtype).tiny)  # the slope of ln at 0 has no number
    return torch.xlogy(mean, positive).sum() * LOG2_E


def decoder_disagreement(auxiliary_scores: Sequence[Tensor], probabilities: Tensor) -> Tensor:
    """Sum over decoders of ``mean (softmax(auxiliary) - P)^2``, over all elements; P gets no gradient.

    Args:
        auxiliary_scores: logits of each decoder, ``(N, K, H, W)``.
        probabilities: of the main decoder, the same shape.

    Source: UR (Prabhu Teja & Fleuret, CVPR 2021) eq. 4, published code.
    """
    target = probabilities.detach()
    return torch.stack([(scores.softmax(1) - target).square().mean() for scores in auxiliary_scores]).sum()


def drop_channels(features: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Features ``(N, C, h, w)`` with each channel of each clip zeroed with probability ``share``, the rest times 1 / (1 - share).

    What ``dropout2d`` does, with a generator of its own.
    """
    kept = torch.rand(features.shape[:2], generator=generator) >= share
    return features * (kept.to(features, non_blocking=True) / (1 - share))[:, :, None, None]
