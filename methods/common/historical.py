"""HCL: contrast with features of an earlier model, and pseudo-labels trusted where two earlier models agree.

Source of all: Huang et al., "Model Adaptation: Historical Contrastive Learning for Unsupervised Domain Adaptation without Source
Data", NeurIPS 2021, and its published code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from methods.common.information import self_information
from stpl.pseudo_labels import count


def instance_contrast(
    features: Tensor,
    historical: Tensor,
    labels: Tensor,
    historical_labels: Tensor,
    reliability: Tensor,
    temperature: float,
    ignore: int | None = None,
) -> Tensor:
    """Historical contrastive instance discrimination (HCID), over n samples of each image.

    With ``s_ij = f_i . h_j / t``: ``l_ij = s_ij - ln(sum_{k != i} r_k exp s_ik + 1e-20) + ln(r_j + 1e-20)``,
    ``loss = - mean_i (1/n) sum_{j != i, y'_j = y_i} l_ij``. Published peculiarities that are kept: the divisor is n, not the number
    of positives; position i itself is left out although its current and historical features differ.

    Args:
        features: current, unit length, ``(N, n, D)``.
        historical: of the earlier model, the same shape; gets no gradient.
        labels: of the current features, ``(N, n)``.
        historical_labels: of the historical ones.
        reliability: r of the historical ones, positive.
        temperature: t, 0.07 as published.
        ignore: samples with this label are left out, on both sides and in n; None: it is a class like others, as in the published
            code, whose labels have no gaps.

    Returns:
        Scalar; 0 without positives.
    """
    historical, reliability = historical.detach(), reliability.detach()
    labelled, labelled_before = (y != (-1 if ignore is None else ignore) for y in (labels, historical_labels))
    reliability = reliability * labelled_before
    s = features @ historical.transpose(1, 2) / temperature
    s = s - s.max(2, keepdim=True).values.detach()
    diagonal = torch.eye(s.shape[1], dtype=torch.bool, device=s.device)
    weighted = (s.exp() * reliability[:, None]).masked_fill(diagonal, 0.0)
    log_share = s - torch.log(weighted.sum(2, keepdim=True) + 1e-20) + torch.log(reliability + 1e-20)[:, None]
    positive = (
        (labels[:, :, None] == historical_labels[:, None]) & labelled[:, :, None] & labelled_before[:, None] & ~diagonal
    )
    n = labelled.sum(1).clamp(min=1)
    return -(torch.where(positive, log_share, 0.0).sum((1, 2)) / n**2).mean()


def reliability(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """``clamp(1 - E + 0.1, 0.9, 1.1)`` ``(N, h, w)`` with E the normalised entropy of ``scores``, brought to ``size`` per class.

    Args:
        scores: logits ``(N, K, H, W)`` of the averaged model (published: its auxiliary head, at image size).
        size: h, w of the features.
    """
    maps = F.interpolate(self_information(scores.softmax(1)), size, mode="bilinear", align_corners=True)
    return (1.1 - maps.sum(1)).clamp(0.9, 1.1)


def projector(channels: int, dimension: int = 128) -> nn.Sequential:
    """HCL's projection of features for the contrast: 1x1 convolution to twice the channels, batch norm, ReLU, 1x1 convolution."""
    inner = 2 * channels
    return nn.Sequential(
        nn.Conv2d(channels, inner, 1), nn.BatchNorm2d(inner), nn.ReLU(), nn.Conv2d(inner, dimension, 1)
    )


def samples(maps: Tensor) -> Tensor:
    """Features ``(N, D, h, w)`` as unit vectors ``(N, h w, D)``."""
    return F.normalize(maps.flatten(2), dim=1).transpose(1, 2)


def small_labels(label: Tensor, size: tuple[int, int]) -> Tensor:
    """Labels ``(N, H, W)`` at feature size ``(N, h w)``: nearest neighbour, upper left of the cell as published."""
    return F.interpolate(label[:, None].float(), size, mode="nearest").flatten(1).to(label.dtype)


def agreement(older: Tensor, averaged: Tensor) -> Tensor:
    """``exp(-KL(p_older || p_averaged))`` per pixel, ``(N, H, W)``, of logits ``(N, K, H, W)``; no gradient."""
    log_older, log_averaged = older.detach().log_softmax(1), averaged.detach().log_softmax(1)
    return torch.exp(-(log_older.exp() * (log_older - log_averaged)).sum(1))


def trusted_cross_entropy(scores: Tensor, label: Tensor, trust: Tensor, class_weight: Tensor | None = None) -> Tensor:
    """Historical contrastive category discrimination (HCCD): ``mean w[y] (-ln p[y]) trust`` over *all* pixels.

    Pixels with label 255 add 0 but stay in the divisor; the weights are not normalised.

    Args:
        scores: logits ``(N, K, H, W)``.
        label: integer ``(N, H, W)``.
        trust: :func:`agreement` ``(N, H, W)``.
        class_weight: w ``(K,)``; None = 1.
    """
    loss = F.cross_entropy(scores, label.long(), weight=class_weight, ignore_index=255, reduction="none")
    return (loss * trust).mean()


class RareClassWeights(nn.Module):
    """Class weights of HCL: ``largest`` for classes with few pixels in the batch, times a running mean for absent ones.

    ``w_c = (largest if count_c < few * N else 1) * o_c``, after ``o_c <- 0.9 o_c + 0.1 (largest if count_c = 0 else 1)``;
    o starts at 1.

    Args:
        num_classes: K.
        largest: 7 as published.
    """

    often: Tensor

    def __init__(self, num_classes: int, largest: float = 7.0) -> None:
        super().__init__()
        self.largest = largest
        self.register_buffer("often", torch.ones(num_classes))

    @torch.no_grad()
    def forward(self, label: Tensor, few: float = 4096.0) -> Tensor:
        """Weights ``(K,)`` for a batch of labels ``(N, H, W)``; the running mean moves. ``few``: pixels per image."""
        classes = len(self.often)
        labelled = (label >= 0) & (label < classes)
        counts = count(torch.where(labelled, label, classes), classes + 1)[:-1]
        self.often.mul_(0.9).add_(0.1 * torch.where(counts == 0, self.largest, 1.0))
        return torch.where(counts < few * len(label), self.largest, 1.0) * self.often
