"""Figures of one run: its predictions beside the source model's and the truth, on the first clips of the validation split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from bench.data.loaders import ClipLoader
from stpl.segmenter import VideoSegmenter

from .config import Evaluation
from .evaluate import predict
from .training import to_device

PANELS = 3
"""Clips that are drawn, evenly spread over the split."""


def panel_clips(clips: int) -> list[int]:
    """Numbers of the clips that are drawn."""
    return sorted({round(i * (clips - 1) / max(1, PANELS - 1)) for i in range(PANELS)})


@torch.no_grad()
def predictions(
    segmenter: VideoSegmenter, loader: ClipLoader, rule: Evaluation, device: torch.device
) -> dict[int, NDArray[np.int64]]:
    """Predicted labels ``(H, W)`` of the drawn clips."""
    segmenter.eval()
    found = {}
    for index in panel_clips(len(loader.store)):
        batch = to_device(loader.collate([index]), device)
        out = segmenter(batch.frames, batch.flow, batch.valid)
        size = (batch.frames.shape[-2], batch.frames.shape[-1])
        found[index] = predict(out, segmenter, size, rule.align_corners)[0][0].cpu().numpy()
    return found


def draw(
    folder: Path, loader: ClipLoader, by_model: dict[str, dict[int, NDArray[np.int64]]], classes: tuple[str, ...]
) -> list[Path]:
    """Write one PNG per drawn clip into ``folder``; needs the labels' grant.

    Args:
        by_model: for each model (its caption) what :func:`predictions` gave.
        classes: names of the train ids.
    """
    from bench.pictures.canvas import (  # brings matplotlib and scipy: a second that no start need wait for
        save,
        segmentation_panel,
    )

    written = []
    for index in panel_clips(len(loader.store)):
        clip = loader.store.labelled(index)
        maps = {caption: found[index] for caption, found in by_model.items()}
        written.append(
            save(segmentation_panel(clip.frames, clip.label, maps, classes), folder / f"clip-{index:05d}.png")
        )
    return written
