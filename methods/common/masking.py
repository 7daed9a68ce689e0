"""MIC: dense labels of a teacher, weighted by its confidence, to be found again on clips of which most blocks are hidden.

Source of all: Hoyer, Dai, Wang, Van Gool, "MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation", CVPR 2023, and
its published code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import ClipBatch, ours, published
from methods.common.augment import photometric
from methods.common.checks import in_range
from methods.common.losses import upsampled_cross_entropy
from stpl import VideoSegmenter

HEIGHT = 512
"""Rows of the image that the published block size is meant for."""
HIDDEN = (0.485, 0.456, 0.406)
"""Colour of hidden pixels: ImageNet's mean, which is what the published 0 of a normalised image is."""


@dataclass(frozen=True)
class MaskedSettings:
    """What mic and mic_sf share. Values without a unit unless said."""

    masked_weight: float = published(1.0, "published code: of the masked consistency")
    block: float = published(64.0, "published code: side of a block, pixels at 512 rows; scaled with the clip's height")
    hidden: float = published(0.7, "published code: share of the blocks that are hidden")
    threshold: float = published(0.968, "published code: a pixel is confident from this probability of the teacher on")
    ema_decay: float = published(0.999, "published code: largest decay of the teacher, see `ramped_decay`")
    strength: float = ours(
        0.4, "of the photometric noise; brightness, contrast and saturation within the published 1 -+ 0.2"
    )

    def __post_init__(self) -> None:
        in_range("masked_weight", self.masked_weight, 0, 100)
        in_range("block", self.block, 1, 4096)
        in_range("hidden", self.hidden, 0, 1)
        in_range("threshold", self.threshold, 0, 1)
        in_range("ema_decay", self.ema_decay, 0, 1)
        in_range("strength", self.strength, 0, 1.5)


class DenseLabels(NamedTuple):
    """A teacher's most likely class of every pixel, int64 ``(N, H, W)`` at the clips' size, and each clip's weight ``(N,)``."""

    label: Tensor
    weight: Tensor


@torch.no_grad()
def dense_labels(segmenter: VideoSegmenter, clips: ClipBatch, threshold: float) -> DenseLabels:
    """Label every pixel; a clip's weight is its share of pixels whose class has a probability of ``threshold`` or more."""
    size = (clips.frames.shape[-2], clips.frames.shape[-1])
    scores = segmenter(clips.frames, clips.flow, clips.valid).scores.float()
    confidence, label = F.interpolate(scores, size, mode="bilinear", align_corners=False).softmax(1).max(1)
    return DenseLabels(label, (confidence >= threshold).float().mean((1, 2)))


def block_mask(n: int, size: tuple[int, int], block: float, hidden: float, generator: torch.Generator) -> Tensor:
    """Bool masks ``(n, H, W)``, True where a pixel is shown.

    The image is cut into ``round(H / block) x round(W / block)`` blocks, at least one; each is hidden with probability ``hidden``.

    Args:
        block: side of a block, pixels.
    """
    rows, columns = (max(1, round(side / block)) for side in size)
    shown = torch.rand(n, 1, rows, columns, generator=generator) > hidden
    return F.interpolate(shown.float(), size, mode="nearest")[:, 0] > 0.5


def hide(clips: ClipBatch, shown: Tensor) -> ClipBatch:
    """Clips with the mean colour where ``shown`` ``(N, H, W)`` is False, in all frames alike; flow and validity stay."""
    colour = torch.tensor(HIDDEN).to(clips.frames, non_blocking=True).view(3, 1, 1)
    shown = shown.to(clips.frames.device, non_blocking=True)
    frames = torch.where(shown[:, None, None], clips.frames, colour)
    return ClipBatch(frames, clips.flow, clips.valid, clips.keys)


def masked_consistency(
    segmenter: VideoSegmenter, clips: ClipBatch, labels: DenseLabels, s: MaskedSettings, generator: torch.Generator
) -> Tensor:
    """``masked_weight * mean_clips q mean_pixels CE(s(masked clip), y)``: y the labels of the whole clip, q their weight.

    The clips get photometric noise first; one mask hides the same blocks in all frames.
    """
    height, width = clips.frames.shape[-2:]
    frames = photometric(clips.frames, s.strength, generator)
    shown = block_mask(len(clips.keys), (height, width), s.block * height / HEIGHT, s.hidden, generator)
    view = hide(ClipBatch(frames, clips.flow, clips.valid, clips.keys), shown)
    scores = segmenter(view.frames, view.flow, view.valid).scores
    weight = labels.weight[:, None, None].expand(labels.label.shape)
    return s.masked_weight * upsampled_cross_entropy(scores, labels.label, weight)


def ramped_decay(step: int, decay: float) -> float:
    """Decay of the average after a 0-based step: ``min(1 - 1/(i + 1), decay)`` with ``i = step + 1`` steps done.

    Until the ramp ends the average is the plain mean of the start and of the weights after every step.
    """
    return min(1 - 1 / (step + 2), decay)
