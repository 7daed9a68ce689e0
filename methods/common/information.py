"""How unsure a prediction is, per class, per pixel and on average. Three published conventions that differ in base and epsilon.

Arguments are probabilities ``(N, C, ...)`` (softmax over channels) unless they are called scores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def self_information(probabilities: Tensor) -> Tensor:
    """Weighted self-information maps ``-p log2(p + 1e-30) / log2 C``, of the same shape: not summed over classes.

    Source: ADVENT (Vu et al., CVPR 2019), published code ``prob_2_entropy``.
    """
    return -probabilities * torch.log2(probabilities + 1e-30) / math.log2(probabilities.shape[1])


def entropy_loss(probabilities: Tensor) -> Tensor:
    """Mean over pixels of the normalised entropy, in 0..1: the sum of :func:`self_information` over classes (ADVENT)."""
    return self_information(probabilities).sum(1).mean()


def normalised_entropy(probabilities: Tensor) -> Tensor:
    """The same with the epsilon of UR's published code: ``mean_pixels -sum_c p log2(p + 1e-10) / log2 C``."""
    entropy = -(probabilities * torch.log2(probabilities + 1e-10)).sum(1)
    return entropy.mean() / math.log2(probabilities.shape[1])


def robust_entropy(scores: Tensor, power: float = 2.0, scale: float | None = None) -> Tensor:
    """Charbonnier penalty of the entropy, ``mean_pixels ((H / scale)^2 + 1e-8)^power`` with ``H = -sum_c p ln p``.

    Args:
        scores: logits ``(N, C, H, W)``, at the network's own resolution.
        power: eta. 2 in training; above 1/2 uncertain pixels weigh more than certain ones.
        scale: what the entropy is divided by; None = ``ln C``. The published code has 2.9444 = ln 19 whatever C is.

    Source: FDA (Yang & Soatto, CVPR 2020) eq. 5, published code.
    """
    log_p = torch.log_softmax(scores, dim=1)
    entropy = -(log_p.exp() * log_p).sum(1) / (math.log(scores.shape[1]) if scale is None else scale)
    return ((entropy**2 + 1e-8) ** power).mean()
