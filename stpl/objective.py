"""The objective of STPL: cross entropy on pseudo-labels plus contrast of spatio-temporal pixel embeddings."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .contrast import IGNORE, Denominator, pixel_contrast, sample_class_balanced


def resize_labels(labels: Tensor, size: tuple[int, int]) -> Tensor:
    """Label map ``(N, H, W)`` at ``size``: every cell takes the pixel at its centre. int64."""
    if labels.shape[-2:] == torch.Size(size):
        return labels.long()
    # Through float: interpolation of integers is not implemented everywhere, and labels are exact in it.
    return F.interpolate(labels[:, None].float(), size=size, mode="nearest-exact")[:, 0].long()


def pseudo_label_cross_entropy(scores: Tensor, labels: Tensor, weight: Tensor | None = None) -> Tensor:
    r"""Mean cross entropy over labelled pixels: :math:`\frac{1}{n} \sum_i w_i (-\ln p_i[y_i])`, n pixels with y ≠ 255.

    With no labelled pixel at all it is 0 with zero gradient (where published code gives NaN). A weight lowers a
    pixel's share; it does not enter the divisor.

    Args:
        scores: ``(N, K, h, w)`` logits. Half precision is lifted to float32: its sum over a map would overflow.
        labels: ``(N, H, W)`` integer, 255 = ignore; brought to ``(h, w)`` by nearest neighbour.
        weight: optional ``(N, H, W)`` per-pixel weight, resized alike; gets no gradient.

    Returns:
        Scalar, float32 or float64.
    """
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
    size = (scores.shape[-2], scores.shape[-1])
    labels = resize_labels(labels, size)
    loss = F.cross_entropy(scores, labels, ignore_index=IGNORE, reduction="none")
    if weight is not None:
        loss = loss * F.interpolate(weight.detach()[:, None].to(loss.dtype), size=size, mode="nearest-exact")[:, 0]
    return loss.sum() / (labels != IGNORE).sum().clamp(min=1)


def stpl_objective(
    scores: Tensor,
    labels: Tensor,
    embeddings: Sequence[Tensor],
    embedding_labels: Sequence[Tensor],
    *,
    contrast_weight: float = 0.1,
    temperature: float = 0.1,
    pixels_per_class: int = 64,
    ce: bool = True,
    ce_weight: Tensor | None = None,
    denominator: Denominator = "pair",
    generator: torch.Generator | None = None,
    chunk_size: int | None = None,
) -> dict[str, Tensor]:
    r"""STPL's loss, term by term: :math:`L = CE(s, \hat y) + \lambda L_{con}` (Lo et al., CVPR 2023).

    The contrast runs over a class-balanced sample of the pixels of *all* embedding maps together (both views, both
    times), so that a pixel's positives are in space and in time. See :func:`stpl.contrast.pixel_contrast`.

    Args:
        scores: ``(N, K, h, w)`` logits of the strongly augmented clip.
        labels: ``(N, H, W)`` integer pseudo-labels in the same geometry, 255 = none.
        embeddings: unit vectors ``(N, D, h', w')``, one map per view and time; sizes may differ.
        embedding_labels: for each of them ``(N, ., .)`` integer pseudo-labels, brought to its size by nearest
            neighbour.
        contrast_weight: λ, 0 or more; 0 leaves the contrast out.
        temperature: τ of the contrast.
        pixels_per_class: pixels drawn per class from all maps together.
        ce: False leaves the cross entropy out.
        ce_weight: optional per-pixel weight of the cross entropy, ``(N, H, W)``.
        denominator: ``pair`` or ``supcon``.
        generator: for the draw of pixels.
        chunk_size: anchors per block of the contrast.

    Returns:
        ``{"ce": ..., "contrast": ...}``, scalars that add up to L (λ is inside); a term that is switched off is absent.
        Where nothing is labelled a term is 0 with zero gradient.

    Raises:
        ValueError: if embeddings and their labels do not pair up, or λ is no weight.
    """
    if len(embeddings) != len(embedding_labels):
        raise ValueError(f"{len(embeddings)} embedding maps need as many label maps, got {len(embedding_labels)}")
    if not 0 <= contrast_weight < math.inf:
        raise ValueError(f"stpl_objective: contrast_weight must be 0 or more, got {contrast_weight}")
    for z, map_ in zip(embeddings, embedding_labels, strict=True):
        if z.dim() != 4 or map_.dim() != 3 or len(z) != len(map_):
            raise ValueError(
                "stpl_objective needs embeddings (N, D, h, w) with labels (N, H, W) of the same N, "
                f"got {tuple(z.shape)} and {tuple(map_.shape)}"
            )
    losses: dict[str, Tensor] = {}
    if ce:
        losses["ce"] = pseudo_label_cross_entropy(scores, labels, ce_weight)
    if contrast_weight > 0 and embeddings:
        maps = [
            resize_labels(map_, (z.shape[-2], z.shape[-1]))
            for z, map_ in zip(embeddings, embedding_labels, strict=True)
        ]
        flat_labels = torch.cat([map_.flatten() for map_ in maps])
        flat = torch.cat([z.flatten(2).transpose(1, 2).flatten(0, 1) for z in embeddings])
        drawn = sample_class_balanced(flat_labels, pixels_per_class, generator)
        losses["contrast"] = contrast_weight * pixel_contrast(
            flat[drawn], flat_labels[drawn], temperature=temperature, denominator=denominator, chunk_size=chunk_size
        )
    return losses


class STPLObjective(nn.Module):
    """:func:`stpl_objective` with its options fixed."""

    def __init__(
        self,
        *,
        contrast_weight: float = 0.1,
        temperature: float = 0.1,
        pixels_per_class: int = 64,
        ce: bool = True,
        denominator: Denominator = "pair",
        chunk_size: int | None = None,
    ) -> None:
        super().__init__()
        self.contrast_weight = contrast_weight
        self.temperature = temperature
        self.pixels_per_class = pixels_per_class
        self.ce = ce
        self.denominator: Denominator = denominator
        self.chunk_size = chunk_size

    def forward(
        self,
        scores: Tensor,
        labels: Tensor,
        embeddings: Sequence[Tensor],
        embedding_labels: Sequence[Tensor],
        *,
        ce_weight: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> dict[str, Tensor]:
        """See :func:`stpl_objective`."""
        return stpl_objective(
            scores,
            labels,
            embeddings,
            embedding_labels,
            contrast_weight=self.contrast_weight,
            temperature=self.temperature,
            pixels_per_class=self.pixels_per_class,
            ce=self.ce,
            ce_weight=ce_weight,
            denominator=self.denominator,
            generator=generator,
            chunk_size=self.chunk_size,
        )
