"""Mean features of classes: what a class looks like in a clip, kept over steps (CMOM) or compared with pixels (IAPC)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stpl.pseudo_labels import IGNORE


def class_means(features: Tensor, label: Tensor, num_classes: int) -> tuple[Tensor, Tensor]:
    """Mean feature of every class of every image: ``(N, K, C)``, 0 where there is no pixel, and bool ``(N, K)``: where there is.

    Args:
        features: ``(N, C, h, w)``; gradients flow to them.
        label: integer ``(N, h, w)``, values outside ``0..K-1`` are left out.
        num_classes: K.
    """
    index = torch.where((label >= 0) & (label < num_classes), label, num_classes).flatten(1).long()
    member = F.one_hot(index, num_classes + 1)[..., :-1].to(features.dtype)  # (N, h w, K)
    counts = member.sum(1)
    with torch.autocast(features.device.type, enabled=False):
        sums = member.transpose(1, 2) @ features.flatten(2).transpose(1, 2)
    return sums / counts.clamp_min(1)[..., None], counts > 0


def prototype_similarity(features: Tensor, means: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine of every pixel's feature with every class's mean, and the class that is nearest.

    Args:
        features: ``(N, C, h, w)``; gradients flow to them.
        means: ``(N, K, C)``, get no gradient.
        present: bool ``(N, K)``; a class that is not there has cosine 0 and is nobody's nearest.

    Returns:
        ``(N, K, h, w)``, and int64 ``(N, h, w)``: 255 where no class is present.

    Source: IAPC (Cao et al., IEEE T-IV 2024), published code ``update_centroids_label``; there an absent class can be nearest.
    """
    pixels, prototypes = F.normalize(features, dim=1), F.normalize(means.detach(), dim=2)
    with torch.autocast(features.device.type, enabled=False):
        cosine = torch.einsum("nchw,nkc->nkhw", pixels, prototypes)
    mask = present[:, :, None, None]
    cosine = torch.where(mask, cosine, 0.0)
    nearest = cosine.detach().masked_fill(~mask, -2.0).argmax(1)
    return cosine, torch.where(mask.any(1), nearest, IGNORE)


class ClassMemory(nn.Module):
    """The last ``size`` mean features of every class, oldest replaced first. Held in buffers.

    Args:
        num_classes: K.
        size: features per class.
        channels: C.

    Source: CMOM (Cho et al., WACV 2023), published code, after SIM (Wang et al., CVPR 2020).
    """

    features: Tensor
    count: Tensor

    def __init__(self, num_classes: int, size: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("features", torch.zeros(num_classes, size, channels))
        self.register_buffer("count", torch.zeros(num_classes, dtype=torch.int64))

    @torch.no_grad()
    def put(self, means: Tensor, present: Tensor) -> None:
        """Add the means ``(N, K, C)`` of the classes that are present ``(N, K)``, image by image."""
        classes = torch.arange(len(self.count), device=self.count.device)
        for mean, has_class in zip(means.to(self.features), present, strict=True):
            slot = self.count % self.features.shape[1]
            self.features[classes, slot] = torch.where(has_class[:, None], mean, self.features[classes, slot])
            self.count += has_class

    def distance(self, means: Tensor, present: Tensor) -> Tensor:
        """Sum over classes of ``min_j mean_channels |mean - feature_j|``, averaged over images.

        Counted are classes that the image has and whose memory is full.

        Args:
            means: ``(N, K, C)``; gradients flow to them.
            present: bool ``(N, K)``.
        """
        distance = (means[:, :, None] - self.features.to(means)).abs().mean(-1).min(2).values
        used = present & (self.count >= self.features.shape[1])
        return torch.where(used, distance, 0.0).sum(1).mean()
