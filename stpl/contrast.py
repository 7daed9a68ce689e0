"""Pixel-level contrast between classes: exact, in memory that does not grow with the square of the pixels.

The contrastive term of STPL (Lo et al., CVPR 2023), with the denominator of ContrastiveSeg (Wang et al., ICCV 2021)
or of supervised contrast (SupCon, Khosla et al., NeurIPS 2020), the class-balanced choice of pixels that feeds it,
and the head that embeds features for it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

IGNORE = 255
"""Label of pixels that are neither anchors nor positives nor negatives."""

Denominator = Literal["pair", "supcon"]
Reduction = Literal["mean", "sum"]

_BUFFER_ELEMENTS = 1 << 22
"""Similarities held at once when no chunk size is given: 16 MiB in float32, about what a shared cache holds."""


def pixel_contrast(
    features: Tensor,
    labels: Tensor,
    *,
    temperature: float = 0.1,
    denominator: Denominator = "pair",
    contrast: Tensor | None = None,
    contrast_labels: Tensor | None = None,
    chunk_size: int | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    r"""Pull same-label embeddings together and push other labels away.

    With :math:`s_{ij} = z_i \cdot z_j / \tau`, positives :math:`P_i = \{j \ne i: y_j = y_i\}` and negatives
    :math:`N_i = \{n: y_n \ne y_i\}`, each anchor i contributes

    .. math::
        \ell_i = \frac{1}{|P_i|} \sum_{p \in P_i} -\ln \frac{e^{s_{ip}}}{e^{s_{ip}} + \sum_{n \in N_i} e^{s_{in}}}

    (``pair``), or with the denominator :math:`\sum_{j \ne i} e^{s_{ij}}` over all others (``supcon``). Anchors without
    a positive or without a negative count 0 and leave the mean; when none is left the result is 0 with zero gradient.

    Features are *not* normalised inside; :class:`ProjectionHead` does that. The published ContrastiveSeg code
    multiplies the mean by ``temperature / 0.07``; here nothing does.

    The similarity matrix is visited in blocks of anchors of one class, and each block's gradient is taken while it is
    in cache, so the extra memory is ``chunk_size * M`` plus a few copies of the features. Half-precision
    features are lifted to float32. The gradient is exact and once differentiable.

    Args:
        features: ``(M, D)``, the anchors, which are also each other's positives and negatives.
        labels: ``(M,)`` integer; 255 takes a sample out entirely.
        temperature: :math:`\tau > 0`.
        denominator: ``pair`` (the paper) or ``supcon``.
        contrast: ``(Q, D)``, further samples that serve as positives and negatives but not as anchors, e.g. a
            teacher's; gradients reach them unless they are detached.
        contrast_labels: ``(Q,)`` integer.
        chunk_size: anchors per block; by default as many as keep a block at 16 MiB.
        reduction: ``mean`` over the anchors that count, or their ``sum``.

    Returns:
        Scalar, float32 or float64.

    Raises:
        ValueError: if shapes do not fit, or an option or the temperature is not allowed.
    """
    _check(features, labels, temperature, denominator, reduction, chunk_size)
    if (contrast is None) != (contrast_labels is None):
        raise ValueError("pixel_contrast: contrast and contrast_labels must be given together")
    samples, sample_labels = features, labels
    if contrast is not None and contrast_labels is not None:
        _check(contrast, contrast_labels, temperature, denominator, reduction, chunk_size)
        if contrast.shape[1] != features.shape[1]:
            raise ValueError(
                f"pixel_contrast: features (M, {features.shape[1]}) and contrast (Q, {contrast.shape[1]}) differ in D"
            )
        samples = torch.cat((features, contrast.to(features.dtype)))
        sample_labels = torch.cat((labels.long(), contrast_labels.long()))
    samples = samples.to(torch.promote_types(samples.dtype, torch.float32))

    kept = (sample_labels != IGNORE).nonzero().squeeze(1)
    classes, index = torch.unique(sample_labels[kept], return_inverse=True)
    is_anchor = kept < features.shape[0]
    # Samples in class order, a class's anchors before its other samples (they come first and the sort is stable): the
    # positives of an anchor are then one contiguous run of columns, and itself the column of its own rank.
    order = kept[torch.argsort(index, stable=True)]
    totals = torch.bincount(index, minlength=len(classes)).tolist()
    anchors = torch.bincount(index[is_anchor], minlength=len(classes)).tolist()

    counted = sum(a for a, total in zip(anchors, totals, strict=True) if 1 < total < len(order))
    rows = chunk_size or max(1, _BUFFER_ELEMENTS // max(1, len(order)))
    ordered = samples.index_select(0, order)
    loss: Tensor = _PixelContrast.apply(ordered, anchors, totals, float(temperature), denominator, rows)
    return loss / max(1, counted) if reduction == "mean" else loss


class PixelContrast(nn.Module):
    """:func:`pixel_contrast` with its options fixed."""

    def __init__(
        self,
        *,
        temperature: float = 0.1,
        denominator: Denominator = "pair",
        chunk_size: int | None = None,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__()
        self.temperature = temperature
        self.denominator: Denominator = denominator
        self.chunk_size = chunk_size
        self.reduction: Reduction = reduction

    def forward(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        contrast: Tensor | None = None,
        contrast_labels: Tensor | None = None,
    ) -> Tensor:
        """See :func:`pixel_contrast`."""
        return pixel_contrast(
            features,
            labels,
            temperature=self.temperature,
            denominator=self.denominator,
            contrast=contrast,
            contrast_labels=contrast_labels,
            chunk_size=self.chunk_size,
            reduction=self.reduction,
        )


def sample_class_balanced(labels: Tensor, per_class: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw up to ``per_class`` pixels of every class without replacement, so that road does not drown bicycles.

    Args:
        labels: ``(M,)`` integer; 255 is never drawn. A class with fewer pixels gives all it has.
        per_class: pixels per class, at least 1.
        generator: source of randomness on any device; equal state and labels give equal indices.

    Returns:
        int64 ``(m,)`` indices into ``labels``, grouped by class.

    Raises:
        ValueError: if ``labels`` is not one-dimensional or ``per_class`` below 1.
    """
    if labels.dim() != 1 or per_class < 1:
        raise ValueError(
            f"sample_class_balanced needs labels (M,) and per_class >= 1, got {tuple(labels.shape)} and {per_class}"
        )
    device = labels.device if generator is None else generator.device
    shuffled = torch.randperm(len(labels), generator=generator, device=device).to(labels.device, non_blocking=True)
    shuffled = shuffled[labels[shuffled] != IGNORE]
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    _, counts = torch.unique_consecutive(labels[by_class], return_counts=True)
    first = torch.repeat_interleave(counts.cumsum(0) - counts, counts, output_size=len(by_class))
    rank = torch.arange(len(by_class), device=labels.device) - first
    return by_class[rank < per_class]


class ProjectionHead(nn.Module):
    """Embeds fused features for the contrast: 1x1 convolution, ReLU, 1x1 convolution, unit length over channels.

    Args:
        in_channels: channels of the features.
        dim: D of the embedding.
        hidden: channels between; by default ``in_channels``.
    """

    def __init__(self, in_channels: int, dim: int = 128, hidden: int | None = None) -> None:
        super().__init__()
        hidden = hidden or in_channels
        self.layers = nn.Sequential(nn.Conv2d(in_channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, dim, 1))

    def forward(self, features: Tensor) -> Tensor:
        """``(N, C, h, w)`` to unit vectors ``(N, D, h, w)``."""
        embedding: Tensor = self.layers(features)
        # Under autocast the layers give half precision, in which no vector has unit length.
        return F.normalize(embedding.to(torch.promote_types(embedding.dtype, torch.float32)), dim=1)


class _PixelContrast(torch.autograd.Function):
    """Sum of the anchors' losses over samples in class order; the gradient is made block by block on the way."""

    @staticmethod
    def forward(
        ctx: Any,
        samples: Tensor,
        anchors: Sequence[int],
        totals: Sequence[int],
        temperature: float,
        denominator: str,
        rows: int,
    ) -> Tensor:
        gradient = torch.zeros_like(samples) if ctx.needs_input_grad[0] else None
        loss = samples.new_zeros(())
        buffer = samples.new_empty(min(rows, max(anchors, default=0)), len(samples))
        # Scores bounded like this can neither overflow nor vanish in a sum of exponentials: no maximum to subtract.
        # Unit vectors are inside for every temperature above 0.015.
        largest = 0.8 * math.log(torch.finfo(samples.dtype).max)
        bounded = len(samples) > 0 and float(samples.square().sum(1).amax()) / temperature < largest
        block = _pair_block if denominator == "pair" else _supcon_block

        # Autocast would compute the similarities in half precision.
        with torch.autocast(samples.device.type, enabled=False):
            start = 0
            for count, total in zip(anchors, totals, strict=True):
                if 1 < total < len(samples):
                    for first in range(0, count, rows):
                        queries = samples[start + first : start + min(first + rows, count)]
                        scaled = queries / temperature
                        scores = torch.mm(scaled, samples.t(), out=buffer[: len(queries)])
                        positives = scores[:, start : start + total]
                        loss += block(scores, positives, first, bounded, gradient is not None)
                        if gradient is not None:  # the block now holds d loss / d scores
                            gradient.addmm_(scores.t(), scaled)
                            gradient[start + first : start + first + len(queries)].addmm_(
                                scores, samples, alpha=1 / temperature
                            )
                start += total
        if gradient is not None:
            ctx.save_for_backward(gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return gradient * grad_output, None, None, None, None, None


def _pair_block(scores: Tensor, positives: Tensor, first: int, bounded: bool, differentiate: bool) -> Tensor:
    """Loss of a block of anchors of one class; ``scores`` is overwritten, with its derivative if asked for.

    With ``a_i = ln Σ_n exp s_in`` the loss is the mean over positives of ``softplus(a_i - s_ip)``. Its derivative is
    ``-σ(a_i - s_ip) / |P_i|`` for positives, and for negatives the mean of those sigmoids times ``exp(s_in - a_i)``.

    Args:
        scores: ``(rows, M)``.
        positives: the view of its columns of the anchors' class.
        first: column inside ``positives`` of the first anchor itself.
        bounded: whether ``exp`` of the scores is safe as it is.
    """
    similarities = positives.clone()
    similarities.diagonal(first).fill_(math.inf)  # an infinite similarity to oneself: loss 0 and derivative 0
    positives.fill_(-math.inf)
    shift = None if bounded else scores.amax(1, keepdim=True)
    if shift is not None:
        scores.sub_(shift)
    total = scores.exp_().sum(1, keepdim=True)
    log_total = total.log() if shift is None else total.log() + shift

    number = similarities.shape[1] - 1
    margin = similarities.sub_(log_total)
    loss = F.logsigmoid(margin).sum().neg() / number
    if differentiate:
        pull = margin.neg_().sigmoid_().div_(number)
        scores.mul_(pull.sum(1, keepdim=True) / total)
        torch.neg(pull, out=positives)
    return loss


def _supcon_block(scores: Tensor, positives: Tensor, first: int, bounded: bool, differentiate: bool) -> Tensor:
    """As :func:`_pair_block` with one denominator over all others: ``ln Σ_{j≠i} exp s_ij - mean_p s_ip``.

    The derivative is the softmax over all others, less ``1 / |P_i|`` for positives.
    """
    number = positives.shape[1] - 1
    oneself = positives.diagonal(first)
    oneself.zero_()
    attraction = positives.sum() / number
    oneself.fill_(-math.inf)
    shift = None if bounded else scores.amax(1, keepdim=True)
    if shift is not None:
        scores.sub_(shift)
    total = scores.exp_().sum(1, keepdim=True)
    log_total = total.log() if shift is None else total.log() + shift
    if differentiate:
        scores.div_(total)
        positives.sub_(1 / number)
        oneself.zero_()
    return log_total.sum() - attraction


def _check(
    features: Tensor, labels: Tensor, temperature: float, denominator: str, reduction: str, chunk_size: int | None
) -> None:
    if features.dim() != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            "pixel_contrast needs features (M, D) and labels (M,), "
            f"got {tuple(features.shape)} and {tuple(labels.shape)}"
        )
    if not temperature > 0:
        raise ValueError(f"pixel_contrast: temperature must be above 0, got {temperature}")
    if denominator not in ("pair", "supcon"):
        raise ValueError(f"pixel_contrast: unknown denominator {denominator!r}; allowed: 'pair', 'supcon'")
    if reduction not in ("mean", "sum"):
        raise ValueError(f"pixel_contrast: unknown reduction {reduction!r}; allowed: 'mean', 'sum'")
    if chunk_size is not None and chunk_size < 1:
        raise ValueError(f"pixel_contrast: chunk_size must be at least 1, got {chunk_size}")
