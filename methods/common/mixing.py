"""Mixing clips with each other: CutMix over images, flow, validity and labels together."""

from __future__ import annotations

import torch
from torch import Tensor

from methods.base import ClipBatch


def random_boxes(n: int, size: tuple[int, int], share: tuple[float, float], generator: torch.Generator) -> Tensor:
    """Bool masks ``(n, H, W)``, True inside one rectangle each.

    Args:
        n: number of masks.
        size: H, W.
        share: smallest and largest share of the area; each side has its square root of it, rounded.
        generator: of the draws.
    """
    height, width = size
    low, high = share
    side = (torch.rand(n, generator=generator) * (high - low) + low).sqrt()
    extent = torch.stack([side * height, side * width], 1).round().clamp_min(1)
    corner = (torch.rand(n, 2, generator=generator) * (torch.tensor([height, width]) + 1 - extent)).floor()
    rows, columns = torch.arange(height), torch.arange(width)
    inside_rows = (rows >= corner[:, :1]) & (rows < (corner + extent)[:, :1])
    inside_columns = (columns >= corner[:, 1:]) & (columns < (corner + extent)[:, 1:])
    return inside_rows[:, :, None] & inside_columns[:, None, :]


def cut_mix(batch: ClipBatch, boxes: Tensor) -> ClipBatch:
    """Clips with the next clip's content (in the batch, cyclically) inside their box, in every frame; keys stay."""
    inside = boxes.to(batch.frames.device)
    frames = torch.where(inside[:, None, None], batch.frames.roll(-1, 0), batch.frames)
    flow = torch.where(inside[:, None, None], batch.flow.roll(-1, 0), batch.flow)
    valid = torch.where(inside[:, None], batch.valid.roll(-1, 0), batch.valid)
    return ClipBatch(frames, flow, valid, batch.keys)


def cut_mix_labels(label: Tensor, boxes: Tensor) -> Tensor:
    """The same of label maps ``(N, h, w)`` at any resolution; a box is brought there by nearest neighbour."""
    inside = boxes[:, None].float()
    if inside.shape[-2:] != label.shape[-2:]:
        inside = torch.nn.functional.interpolate(inside, label.shape[-2:], mode="nearest-exact")
    return torch.where(inside[:, 0].to(label.device) > 0.5, label.roll(-1, 0), label)
