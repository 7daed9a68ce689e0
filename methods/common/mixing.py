"""Mixing clips of two domains: CutMix over images, flow, validity and labels together."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.base import ClipBatch, LabelledBatch
from methods.common.supervision import resized
from stpl import resize_labels


def random_boxes(n: int, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """Bool masks ``(n, H, W)``, True in one rectangle each.

    Its sides are ``sqrt(share)`` of the image's, the share drawn from 0..1, its centre anywhere; what lies outside is cut off.
    For every other one on average the mask is turned inside out, so that either picture may be the one that is pasted.

    Args:
        n: number of masks.
        size: H, W.
        generator: of the draws.

    Source: PixMatch (Melas-Kyriazi & Manrai, CVPR 2021), published code, after CutMix.
    """
    shape = torch.tensor(size)
    side = torch.rand(n, 1, generator=generator).sqrt()
    half = (shape * side).long() // 2
    centre = (torch.rand(n, 2, generator=generator) * shape).long()
    rows, columns = (torch.arange(length) for length in size)
    low, high = centre - half, centre + half
    inside = ((rows >= low[:, :1]) & (rows < high[:, :1]))[:, :, None]
    inside = inside & ((columns >= low[:, 1:]) & (columns < high[:, 1:]))[:, None]
    turned = torch.rand(n, generator=generator) < 0.5
    return inside ^ turned[:, None, None]


def cut_mix(target: ClipBatch, labels: Tensor, source: LabelledBatch, boxes: Tensor) -> LabelledBatch:
    """Target clips, with their pseudo-labels, that show labelled source clips where the boxes are True, in every frame.

    The target is brought to the source's size first, as published. Clip i of one is mixed with clip i of the other.

    Args:
        labels: pseudo-labels ``(N, h, w)`` of the target, at any resolution.
        boxes: bool ``(N, H, W)`` at the source's size.

    Returns:
        N mixed clips under the target's keys, labels at the source's size.
    """
    height, width = source.frames.shape[-2:]
    target = resized(target, (height, width))
    inside = boxes.to(source.frames.device, non_blocking=True)
    frames = torch.where(inside[:, None, None], source.frames, target.frames)
    flow = torch.where(inside[:, None, None], source.flow, target.flow)
    valid = torch.where(inside[:, None], source.valid, target.valid)
    mixed = torch.where(inside, source.label, resize_labels(labels, (height, width)))
    return LabelledBatch(frames, flow, valid, target.keys, mixed)
