"""Which pixels get which pseudo-label, as published; probabilities are ``(N, K, ...)``, labels int64 with 255 = none."""

from __future__ import annotations

import torch
from torch import Tensor

from stpl.pseudo_labels import IGNORE


def two_head_labels(main: Tensor, auxiliary: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Labels for the main head and for the auxiliary head of PixMatch.

    The main head's: its own most likely class where its probability is *greater* than the threshold. The auxiliary head's: the
    most likely class of the mean of both where either head is that certain.

    Args:
        main, auxiliary: probabilities of the two heads, of one shape.
        threshold: 0 keeps everything.

    Source: PixMatch (Melas-Kyriazi & Manrai, CVPR 2021), published code (there the ignored label is -1).
    """
    first, label = main.detach().max(1)
    second = auxiliary.detach().max(1).values
    mean_label = ((main + auxiliary) / 2).detach().argmax(1)
    certain = first > threshold
    return torch.where(certain, label, IGNORE), torch.where(certain | (second > threshold), mean_label, IGNORE)


def class_balanced_portion(
    confidence: Tensor, label: Tensor, num_classes: int, portion: float, stride: int = 1
) -> Tensor:
    """Thresholds ``(K,)`` that keep the most confident ``portion`` of each predicted class.

    Of every image, every ``stride``-th pixel of each class is taken in raster order; with n of them over all images the
    threshold is the m-th largest confidence, ``m = int(portion * n)``, or 1 where m = 0 or the class is never predicted.

    Args:
        confidence: largest probabilities ``(N, H, W)`` of N images.
        label: their classes, integer.
        num_classes: K.
        portion: 0..1.
        stride: 1 takes all pixels.

    Source: UR (Prabhu Teja & Fleuret, CVPR 2021), published code, after CRST. Exact, by sorting.

    Raises:
        ValueError: ``portion`` outside 0..1.
    """
    if not 0 <= portion <= 1:
        raise ValueError(f"class_balanced_portion: portion must be within 0..1, got {portion}")
    images = len(confidence)
    values, classes = confidence.detach().reshape(images, -1), label.reshape(images, -1).long()
    if stride > 1:
        # Rank of each pixel among those of its class in its image: stable order by class, minus where the class begins.
        order = classes.sort(dim=1, stable=True).indices
        ordered = classes.gather(1, order)
        counts = torch.zeros(images, num_classes, dtype=torch.long, device=values.device)
        counts.scatter_add_(1, ordered, torch.ones_like(ordered))
        rank = torch.arange(ordered.shape[1], device=values.device) - (counts.cumsum(1) - counts).gather(1, ordered)
        taken = rank % stride == 0
        values, classes = values.gather(1, order)[taken], ordered[taken]
    values, classes = values.flatten(), classes.flatten()
    descending = values.argsort(descending=True)
    by_class = descending[classes[descending].sort(stable=True).indices]
    counts = torch.bincount(classes, minlength=num_classes)
    keep = (portion * counts.double()).long()
    at = (counts.cumsum(0) - counts + keep - 1).clamp(min=0)
    thresholds = (
        values[by_class][at.clamp(max=max(len(values) - 1, 0))] if len(values) else values.new_ones(num_classes)
    )
    return torch.where(keep > 0, thresholds, 1.0)


def relative_labels(probabilities: Tensor, thresholds: Tensor) -> Tensor:
    """``argmax_c P_c / threshold_c`` where that ratio reaches 1, 255 elsewhere (UR's published code, after CRST).

    Args:
        probabilities: ``(N, K, H, W)``.
        thresholds: ``(K,)``; a class whose threshold is 1 wins with probability 1 alone.
    """
    ratio, label = (probabilities / thresholds.to(probabilities)[:, None, None]).max(1)
    return torch.where(ratio < 1, IGNORE, label)
