"""Pasting classes of labelled source clips into target clips: frames, flow, validity and labels together.

Masks are bool, True where the source is pasted. A clip has one mask per frame, ``(N, T, H, W)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.base import ClipBatch, LabelledBatch
from stpl import backward_warp, resize_flow, resize_labels


def draw_classes(
    label: Tensor, num_classes: int, count: Callable[[Tensor], Tensor], generator: torch.Generator
) -> Tensor:
    """Choose classes of each image at random among those that it has, bool ``(N, K)``; 255 is never one of them.

    Args:
        label: integer ``(N, H, W)``.
        num_classes: K.
        count: how many to choose, of numbers of classes ``(N, 1)``.

    Source: ClassMix and DACS (Olsson et al., Tranheden et al., both WACV 2021).
    """
    n = len(label)
    index = torch.where((label >= 0) & (label < num_classes), label, num_classes).flatten(1).long()
    present = torch.zeros(n, num_classes + 1, dtype=torch.bool, device=label.device).scatter_(1, index, True)[:, :-1]
    order = (
        torch.rand(n, num_classes, generator=generator).to(label.device, non_blocking=True).masked_fill(~present, 2.0)
    )
    rank = order.argsort(1).argsort(1)
    return present & (rank < count(present.sum(1, keepdim=True)))


def class_mask(label: Tensor, chosen: Tensor) -> Tensor:
    """Where an image shows one of its chosen classes: labels ``(N, H, W)`` and bool ``(N, K)`` to bool ``(N, H, W)``."""
    classes = chosen.shape[1]
    index = torch.where((label >= 0) & (label < classes), label, classes).long()
    return F.pad(chosen, (0, 1)).gather(1, index.flatten(1)).view(label.shape)


def mix_clips(source: ClipBatch, target: ClipBatch, masks: Tensor) -> ClipBatch:
    """Clips with the source's pixels where ``masks`` ``(N, T, H, W)`` are True and the target's elsewhere; the target's keys.

    A pixel has the flow of the clip that it comes from. It is valid where that clip's flow is, and where it ends on a pixel of the
    same clip: what was pasted over has no past.
    """
    frames = torch.where(masks[:, :, None], source.frames, target.frames)
    flow = torch.where(masks[:, 1:, None], source.flow, target.flow)
    valid = torch.where(masks[:, 1:], source.valid, target.valid)
    past = backward_warp(masks[:, :-1].flatten(0, 1)[:, None].to(flow.dtype), flow.flatten(0, 1), padding="border")
    same = (past[:, 0] > 0.5).view_as(valid) == masks[:, 1:]
    return ClipBatch(frames, flow, valid & same, target.keys)


def mix_labels(source: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """Values ``(N, H, W)`` of the source where the mask is True, of the target elsewhere."""
    return torch.where(mask, source.to(target.dtype), target)


def at_size(batch: LabelledBatch, size: tuple[int, int]) -> LabelledBatch:
    """Labelled clips at another size H, W: frames and flow bilinear, validity and labels by nearest neighbour."""
    if batch.frames.shape[-2:] == torch.Size(size):
        return batch
    t = batch.frames.shape[1]
    frames = F.interpolate(batch.frames.flatten(0, 1), size, mode="bilinear", align_corners=False)
    flow = resize_flow(batch.flow.flatten(0, 1), size)
    valid = F.interpolate(batch.valid.float(), size, mode="nearest-exact") > 0.5
    previous = batch.previous_label
    return LabelledBatch(
        frames.view(-1, t, 3, *size),
        flow.view(-1, t - 1, 2, *size),
        valid,
        batch.keys,
        resize_labels(batch.label, size),
        None if previous is None else resize_labels(previous.flatten(0, 1), size).view(-1, t - 1, *size),
    )
