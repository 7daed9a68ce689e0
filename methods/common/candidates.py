"""DT-ST's candidates: target frames with trusted pixels of rare classes, to be pasted into other target frames.

Source of all: Zhao et al., "Towards Better Stability and Adaptability: Improve Online Self-Training for Model Adaptation in
Semantic Segmentation", CVPR 2023, and its published code.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar

import torch
from torch import Tensor

from methods.base import ClipBatch
from methods.common.growing import Growing
from stpl import class_quantiles
from stpl.pseudo_labels import IGNORE


def confident(confidence: Tensor, label: Tensor, num_classes: int, share: float) -> Tensor:
    """Labels ``(M, h, w)`` of the most confident ``share`` of each class's pixels over all images, 255 elsewhere."""
    thresholds, _ = class_quantiles(confidence, label, num_classes, 1 - share)
    return torch.where(confidence >= thresholds[label.long()], label.long(), IGNORE)


def consistent(label: Tensor, earlier: Tensor, num_classes: int, share: float) -> Tensor:
    """Labels ``(M, h, w)`` of classes whose prediction hardly changed since the last round, 255 elsewhere.

    The consistency of a class in an image is the IoU of its pixels now and then. A class is kept in those images that are the most
    consistent ``share`` of the images where its IoU is above 0.

    Args:
        label: predictions now, integer.
        earlier: predictions of the last round, the same shape.
    """
    iou = torch.stack(
        [_iou(current, previous, num_classes) for current, previous in zip(label, earlier, strict=True)]
    )  # (M, K)
    classes = torch.arange(num_classes, device=label.device).expand_as(iou)
    thresholds, _ = class_quantiles(iou, torch.where(iou > 0, classes, IGNORE), num_classes, 1 - share)
    kept = (iou >= thresholds) & (iou > 0)
    labels = label.long()
    return torch.where(kept.gather(1, labels.flatten(1)).view(labels.shape), labels, IGNORE)


def _iou(current: Tensor, previous: Tensor, num_classes: int) -> Tensor:
    pairs = torch.bincount((current.long() * num_classes + previous.long()).flatten(), minlength=num_classes**2)
    matrix = pairs.view(num_classes, num_classes).float()
    intersection = matrix.diagonal()
    return intersection / (matrix.sum(0) + matrix.sum(1) - intersection).clamp_min(1)


class Candidates(Growing):
    """Up to P current frames for each of R classes, with the mask of the class. Held in buffers.

    Memory is ``R P (3 H W + h w)`` bytes: 3 MB on MiniStreet, 45 MB at 1024x512, for 7 classes and 4 frames.
    """

    GROWING: ClassVar[dict[str, torch.dtype]] = {
        "classes": torch.int64,
        "frames": torch.uint8,
        "masks": torch.bool,
        "filled": torch.bool,
    }
    classes: Tensor
    frames: Tensor
    masks: Tensor
    filled: Tensor

    @torch.no_grad()
    def fill(
        self,
        clips: Iterable[ClipBatch],
        labels: Tensor,
        classes: Tensor,
        per_class: int,
        least: int,
        generator: torch.Generator,
    ) -> None:
        """Replace all, by a second pass over the clips.

        Args:
            clips: M clips in the order of the labels.
            labels: trusted labels int64 ``(M, h, w)``, 255 elsewhere.
            classes: ``(R,)``.
            per_class: P; chosen at random among the frames with enough pixels of the class.
            least: pixels of the class that a frame must have.
        """
        m, device = len(labels), labels.device
        of_class = labels.flatten(1)[None] == classes[:, None, None]  # (R, M, h w)
        enough = of_class.sum(2) >= least
        order = torch.rand(len(classes), m, generator=generator).to(device).masked_fill(~enough, -1.0)
        best = order.topk(min(per_class, m), dim=1)
        self.classes, self.filled, frame_index = classes, best.values >= 0, best.indices
        mask = of_class.gather(1, frame_index[:, :, None].expand(-1, -1, of_class.shape[2]))
        self.masks = mask.view(*frame_index.shape, *labels.shape[1:]) & self.filled[:, :, None, None]
        start = 0
        for batch in clips:
            pictures = (255 * batch.frames[:, -1]).round().to(torch.uint8)
            if start == 0:
                self.frames = pictures.new_zeros(*frame_index.shape, *pictures.shape[1:])
            for i, picture in enumerate(pictures):
                self.frames[frame_index == start + i] = picture
            start += len(batch.keys)

    def draw(self, n: int, chances: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """``n`` frames float ``(n, 3, H, W)`` in 0..1 and labels int64 ``(n, h, w)``: one class each, 255 elsewhere.

        Args:
            chances: ``(K,)``, how likely each class is, up to a factor; classes without a frame are left out.
        """
        device = self.classes.device
        chances = chances.to(device)[self.classes] * self.filled.any(1)
        u = torch.rand(2, n, generator=generator).to(device, non_blocking=True)
        ends = chances.cumsum(0) / chances.sum().clamp_min(1e-12)
        row = torch.searchsorted(ends, u[0].to(ends), right=True).clamp(max=len(ends) - 1)
        column = (u[1] * self.filled.sum(1)[row]).long().clamp(max=self.filled.shape[1] - 1)  # filled ones stand first
        label = torch.where(self.masks[row, column], self.classes[row][:, None, None], IGNORE)
        return self.frames[row, column].float() / 255, label


def rare_classes(probabilities: Tensor) -> Tensor:
    """The rarer half of the classes (rounded down, at least one), ``(R,)``, by their mean probabilities ``(K,)``, rarest first."""
    return probabilities.argsort()[: max(1, len(probabilities) // 2)]
