"""A finished run looked at: features of sampled cells, confusion matrix and reliability on the validation clips.

Labels are opened here, in a stage of its own, long after adaptation: nothing leads from here back into a method.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from bench.core.workspace import Workspace
from bench.data.labels import IGNORE
from bench.data.loaders import ClipLoader
from bench.runs.finished import RunFolder
from bench.runs.metrics import ConfusionMatrix
from bench.runs.predictions import batch_size, predictions
from bench.shifts.protocol import Shift
from stpl.segmenter import VideoSegmenter

from .calibration import Reliability
from .sampling import cell_labels, chosen_cells

CELLS = 25_600
"""Cells that are looked at, spread evenly over the clips."""


@dataclass(frozen=True)
class Look:
    """Features and counts of one network on the validation clips.

    Attributes:
        features: float32 ``(N, C)``, fused features of the sampled cells, in order of clips and cells.
        labels: int64 ``(N,)``, their classes.
        clips: int64 ``(N,)``, the number of each one's clip.
        cells: int64 ``(N,)``, its flat index in the feature grid.
        grid: rows and columns of the feature grid.
        confusion: int64 ``(K, K)`` over all pixels at the labels' size, rows = truth.
        reliability: over the same pixels.
    """

    features: Tensor
    labels: Tensor
    clips: Tensor
    cells: Tensor
    grid: tuple[int, int]
    confusion: Tensor
    reliability: Reliability


def look(run: RunFolder, workspace: Workspace, cells: int = CELLS) -> Look:
    """Look at a run's network on its replicate's validation clips.

    Raises:
        UsageError: no data root for recorded data.
        RunError: the checkpoint is damaged or of another network, or data or flow is missing.
    """
    segmenter = run.model(workspace)
    with run.labelled_clips(workspace) as loader:
        return look_at(segmenter, loader, run.shift, run.config.seed, workspace, cells)


def look_at(
    segmenter: VideoSegmenter, loader: ClipLoader, shift: Shift, seed: int, workspace: Workspace, cells: int
) -> Look:
    """Pass every clip of a split through a network; needs the labels' grant. See :class:`Look`."""
    truth, total = loader.store.labels(), len(loader.store)
    size = (truth[0].shape[-2], truth[0].shape[-1])
    quota = max(1, cells // total)
    confusion, reliability = ConfusionMatrix(len(shift.classes)), Reliability()
    parts: list[tuple[Tensor, ...]] = []
    grid, rule, device = (0, 0), shift.evaluation, workspace.device
    for predicted in predictions(segmenter, loader, device, rule.align_corners, together=batch_size(size)):
        out, scores = predicted.out, predicted.scores(size)
        guess = scores.argmax(1).cpu()  # of the scores, as in evaluation: rounding may make equal probabilities
        confidence = scores.softmax(1).amax(1).cpu()
        grid = (out.features.shape[-2], out.features.shape[-1])
        for position, read in enumerate(predicted.reads):
            label = np.array(truth[read.number])
            confusion.update(label, guess[position])
            counted = torch.from_numpy(label != IGNORE)
            right = guess[position] == torch.from_numpy(label).long()
            reliability.update(confidence[position][counted], right[counted])
            coarse = cell_labels(label, grid)
            chosen = torch.from_numpy(chosen_cells(coarse, quota, seed, read.number))
            features = out.features[position].flatten(1).T.float().cpu()[chosen]
            cell_classes = torch.from_numpy(coarse).flatten()[chosen]
            parts.append((features, cell_classes, torch.full_like(chosen, read.number), chosen))
        workspace.progress("look", predicted.reads[-1].number + 1, total)
    features, labels, clips, chosen = (torch.cat(column) for column in zip(*parts, strict=True))
    return Look(features, labels, clips, chosen, grid, confusion.matrix, reliability)
