"""Labels at full size on a CPU, in bands of rows that its caches hold: those of upsampling everything and ``argmax``, bit for bit.

Bilinear upsampling is separable, so a band of rows is a product of a few weights with a few rows of scores that were widened
first. Its sums round in another order than torch's, which can turn a label only where two classes are closer than that: these
pixels, a few dozen in two million, are worked out again by torch itself, from its own widened rows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

LARGE = 512 * 512
"""Pixels of a label map from which on there is something to gain."""
BAND, STRIP = 32, 64
"""Rows of a band and columns of a strip."""
CLOSE = 2.0**-19
"""Scores closer than this times the largest one are compared again: 32 roundings of float32, of which both ways have 12 at most."""


def best_labels(scores: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """The class with the highest upsampled score, the first of several.

    Args:
        scores: float32 ``(N, K, h, w)``.
        size: ``(H, W)``.
        align_corners: of the bilinear upsampling.

    Returns:
        int64 ``(N, H, W)``.
    """
    if _in_bands(scores, size):
        labels = torch.empty(len(scores), *size, dtype=torch.int64)
        for clip_scores, label in zip(scores, labels, strict=True):
            _banded(clip_scores, size, align_corners, label)
        return labels
    # ``max`` gives what ``argmax`` does, five times faster on a CPU.
    return upsampled(scores, size, align_corners).max(1).indices


def _in_bands(scores: Tensor, size: tuple[int, int]) -> bool:
    """Whether torch has the same arithmetic for a part of the picture as for the whole (its kernels for small outputs, for three
    channels and for ``channels_last`` have another), and there is no infinity that times a weight of 0 would spoil other rows."""
    large = size[0] * size[1] >= LARGE and min(size) > 128 and scores.shape[1] > 3 and min(scores.shape[-2:]) > 1
    return scores.device.type == "cpu" and large and scores.is_contiguous() and _largest(scores) < torch.inf


def _largest(scores: Tensor) -> float:
    """The largest of the absolute values; NaN where one is."""
    return float(torch.stack(scores.aminmax()).abs().max())


def upsampled(scores: Tensor, size: tuple[int, int], align_corners: bool) -> Tensor:
    """Scores ``(N, K, h, w)`` at ``(H, W)``, bilinear."""
    return F.interpolate(scores, size, mode="bilinear", align_corners=align_corners)


def _banded(scores: Tensor, size: tuple[int, int], align_corners: bool, label: Tensor) -> None:
    """Write labels ``(H, W)`` of scores ``(K, h, w)``."""
    (classes, height, _), (rows, columns) = scores.shape, size
    weights = upsampled(torch.eye(height)[None, None], (rows, height), align_corners)[0, 0]  # (H, h), two in each row
    lines = scores.transpose(0, 1).contiguous()[:, :, None]  # (h, K, 1, w)
    close = CLOSE * max(_largest(scores), 1e-30)
    sums = torch.stack([torch.ones(classes), torch.arange(classes)])
    again = torch.empty(size, dtype=torch.bool)
    memory = torch.empty(BAND, classes * columns)  # fresh memory takes longer to come by than the product to compute
    for start in range(0, rows, BAND):
        band = slice(start, min(start + BAND, rows))
        used = _used(weights[band])
        part = slice(int(used[0]), int(used[-1]) + 1)
        wide = upsampled(lines[part], (1, columns), align_corners).flatten(1)
        values = torch.mm(weights[band, part], wide, out=memory[: band.stop - start]).view(-1, classes, columns)
        # 1 for the highest, 0 for what is further below it than that: their sum is 1 where there is nothing to compare again.
        values.sub_(values.amax(1, keepdim=True)).mul_(1 / close).add_(1).clamp_min_(0)
        number, which = (sums @ values).unbind(1)
        label[band] = which
        again[band] = number != 1
    strips = _used(again)
    if len(strips):
        used, image = _used(weights[again.any(1)]), scores.new_zeros(classes, height, len(strips))
        for some in torch.split(used, BAND):
            image[:, some] = upsampled(lines[some], (1, columns), align_corners)[:, :, 0, strips].transpose(0, 1)
        for at, strip in zip(torch.split(strips, STRIP), torch.split(image, STRIP, 2), strict=True):
            exact = upsampled(strip[None], (rows, len(at)), align_corners).max(1).indices[0]
            label[:, at] = torch.where(again[:, at], exact, label[:, at])


def _used(lines: Tensor) -> Tensor:
    """Numbers of the columns that are not 0 throughout."""
    return (lines != 0).any(0).nonzero()[:, 0]
