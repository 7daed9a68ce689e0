"""Figures of one run: its predictions beside the source model's and the truth, on the first clips of the validation split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data.labels import palette_of
from bench.data.loaders import ClipLoader
from stpl.segmenter import VideoSegmenter

from .config import Shift
from .grouping import grouping_of
from .predictions import predictions

PANELS = 3
"""Clips that are drawn, evenly spread over the split."""


def spread_clips(clips: int, count: int = PANELS) -> list[int]:
    """Numbers of ``count`` clips, evenly spread over a split: no choice that could favour a method.

    >>> spread_clips(100, 3), spread_clips(100, 1)
    ([0, 50, 99], [50])
    """
    count = min(count, clips)
    if count == 1:
        return [clips // 2]
    return [round(i * (clips - 1) / (count - 1)) for i in range(count)]


def drawn_labels(
    segmenter: VideoSegmenter, loader: ClipLoader, shift: Shift, device: torch.device
) -> dict[int, NDArray[np.int64]]:
    """Predicted labels ``(H, W)`` of the drawn clips, by number: classes as they are scored."""
    numbers, groups = spread_clips(len(loader.store)), grouping_of(shift)
    passes = predictions(segmenter, loader, device, shift.evaluation.align_corners, numbers, together=1)
    return {
        number: groups(predicted.labels()[0].cpu().numpy()).astype(np.int64)
        for number, predicted in zip(numbers, passes, strict=True)
    }


def draw(
    folder: Path, loader: ClipLoader, by_model: dict[str, dict[int, NDArray[np.int64]]], classes: tuple[str, ...]
) -> list[Path]:
    """Write one PNG per drawn clip into ``folder``; needs the labels' grant.

    Args:
        by_model: for each model (its caption) what :func:`drawn_labels` gave.
        classes: names of the train ids.
    """
    from bench.pictures.canvas import (  # brings matplotlib and scipy: a second that no start need wait for
        save,
        segmentation_panel,
    )

    written = []
    for index in spread_clips(len(loader.store)):
        clip = loader.store.labelled(index)
        maps = {caption: labels[index] for caption, labels in by_model.items()}
        written.append(
            save(
                segmentation_panel(clip.frames, clip.label, maps, classes, palette_of(classes)),
                folder / f"clip-{index:05d}.png",
            )
        )
    return written
