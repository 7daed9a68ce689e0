"""``bench analyse``: look at finished runs and keep what was seen."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.core.errors import RunError, UsageError
from bench.core.workspace import Workspace
from bench.data.splits import prepare
from bench.runs import pseudo_labels
from bench.runs.config import load_shift
from bench.runs.finished import RunFolder
from bench.runs.metrics import iou_from_confusion, mean_iou
from bench.runs.records import TOLERANCE, Record, gap

from . import knn
from .data import Calibration, Curve, Embedding, PseudoLabels, RunAnalysis, Separation, folder_of, read, who, write
from .embedding import Kind, davies_bouldin, embed, separation, silhouette
from .look import CELLS, Look, look
from .sampling import balanced

PARTS = ("knn", "separation", "confusion", "calibration")
EACH = 300
"""Pixels per class of the balanced sample."""
DRAWN = 80
"""Pixels per class in an embedding."""
MODELS = 4
"""Models that fit side by side in an embedding."""
SIDE_BY_SIDE = ("source_only", "stpl")
# One run --------------------------------------------------------------------------------------------------------------


def analyse_run(record: Record, observation: Look, classes: Sequence[str], parts: Collection[str]) -> RunAnalysis:
    """The analysis of a run, from its features and counts on the validation clips.

    Raises:
        RunError: the checkpoint does not score what the record says, or the clips are too few for k neighbours.
    """
    miou = 100 * float(mean_iou(iou_from_confusion(observation.confusion)))
    if not record.config.protocol.evaluation.unscored and gap(record.result.miou, miou) > TOLERANCE:
        raise RunError(
            f"Run {record.run}: its record says {record.result.miou} mIoU, its checkpoint scores {miou}; run it again"
        )
    subset = torch.from_numpy(balanced(observation.labels.numpy(), EACH, record.config.seed))
    return RunAnalysis(
        who=who(record),
        classes=tuple(classes),
        sample={
            "cells": len(observation.labels), "balanced": len(subset), "grid": list(observation.grid), "k": knn.K,
            "seed": record.config.seed,
        },
        knn=curves(observation, subset, classes, record.run) if "knn" in parts else None,
        separation=separated(observation, subset, len(classes)) if "separation" in parts else None,
        confusion=observation.confusion.tolist() if "confusion" in parts else None,
        calibration=calibrated(observation) if "calibration" in parts else None,
    )  # fmt: skip


def curves(observation: Look, subset: torch.Tensor, classes: Sequence[str], run: str) -> dict[str, Curve]:
    """Neighbour curves in every variant of ``data.VARIANTS``; by class in the headline one."""
    cell_ids = torch.arange(len(observation.labels))
    samples = {
        "headline": (observation.features, observation.labels, observation.clips),
        "own clip": (observation.features, observation.labels, cell_ids),
        "balanced": (observation.features[subset], observation.labels[subset], observation.clips[subset]),
    }
    by_variant = {}
    for variant, (features, labels, groups) in samples.items():
        try:
            neighbours = knn.nearest(features, groups, knn.K)
        except ValueError as error:
            raise RunError(f"Run {run}: neighbours in feature space: {error}") from None
        overall, by_class = knn.same_class(labels, neighbours, len(classes))
        rows = {c: None if row.isnan().any() else _rounded(row, 1) for c, row in zip(classes, by_class, strict=True)}
        mean = _rounded(by_class.nanmean(0))
        by_variant[variant] = Curve(
            pixels=_rounded(overall), mean=mean, classes=rows if variant == "headline" else None
        )
    return by_variant


def separated(observation: Look, subset: torch.Tensor, classes: int) -> Separation:
    """Class centres of all sampled cells; the silhouette, which takes quadratic time, of the balanced ones."""
    features, labels = observation.features.numpy(), observation.labels.numpy()
    ratio = separation(features, labels, classes)
    return Separation(
        ratio=[[None if np.isnan(x) else round(float(x), 2) for x in row[:i]] for i, row in enumerate(ratio)],
        davies_bouldin=round(davies_bouldin(features, labels), 4),
        silhouette=round(silhouette(features[subset.numpy()], labels[subset.numpy()]), 4),
    )


def calibrated(observation: Look) -> Calibration:
    """Reliability bins as they are kept: means in percent, None for an empty bin."""
    bins = observation.reliability

    def means(total: torch.Tensor) -> list[float | None]:
        return [None if n == 0 else round(float(100 * t / n), 3) for t, n in zip(total, bins.count, strict=True)]

    return Calibration(count=bins.count.long().tolist(), confidence=means(bins.confidence), accuracy=means(bins.right))


def _rounded(values: torch.Tensor, digits: int = 2) -> list[float]:
    return [round(float(x), digits) for x in values]


# All runs -------------------------------------------------------------------------------------------------------------


def analyse(
    runs: Sequence[RunFolder],
    parts: Collection[str],
    kind: Kind | None,
    root: Path,
    workspace: Workspace,
    cells: int = CELLS,
) -> list[Path]:
    """Look at runs one after another and keep the parts that were asked for; parts kept earlier stay.

    Args:
        kind: of the embedding of the runs' first replicate, None for none. With more than four runs of it, source_only and
            stpl are shown.

    Returns:
        The files that were written.
    """
    written, drawn = [], _shown(runs) if kind else []
    looks: list[tuple[Record, Look]] = []
    for number, run in enumerate(runs):
        observation = look(run, workspace, cells)
        if parts:
            analysis = analyse_run(run.record, observation, run.shift.classes, parts)
            path = folder_of(root, analysis.who.shift) / "runs" / f"{analysis.who.name}.json"
            written.append(write(path, _merged(path, analysis)))
        if run in drawn:
            looks.append((run.record, observation))
        workspace.progress("analyse", number + 1, len(runs))
    if kind:
        written.append(_write_embedding(looks, kind, root))
    return written


def _shown(runs: Sequence[RunFolder]) -> list[RunFolder]:
    """Runs of the first run's replicate that an embedding shows."""
    first = runs[0].config
    same = [run for run in runs if (run.config.shift, run.config.seed) == (first.shift, first.seed)]
    if len(same) > MODELS:
        same = [run for run in same if run.config.method in SIDE_BY_SIDE]
    if not 1 <= len(same) <= MODELS:
        raise UsageError(f"An embedding shows 1 to {MODELS} runs of one replicate side by side; name them")
    return same


def _merged(path: Path, new: RunAnalysis) -> RunAnalysis:
    """The new parts, and those that an earlier analysis of the same run with the same sample has beside them."""
    if not path.is_file():
        return new
    old = read(path, RunAnalysis)
    if (old.who, old.sample, old.classes) != (new.who, new.sample, new.classes):
        return new
    kept: dict[str, Any] = {name: getattr(new, name) or getattr(old, name) for name in PARTS}
    return new.model_copy(update=kept)


def _write_embedding(pairs: Sequence[tuple[Record, Look]], kind: Kind, root: Path) -> Path:
    first, reference = pairs[0]
    if any(not torch.equal(reference.cells, observation.cells) for _, observation in pairs):
        raise UsageError(
            "Runs whose feature grids differ cannot be embedded side by side: their pixels are not the same"
        )
    chosen = balanced(reference.labels.numpy(), DRAWN, first.config.seed)
    points = {}
    for record, observation in pairs:
        coordinates = embed(observation.features.numpy()[chosen], kind)
        points[who(record).label] = [(round(float(x), 3), round(float(y), 3)) for x, y in coordinates]
    shift = load_shift(first.config.shift)
    embedding = Embedding(
        kind=kind,
        seed=first.config.seed,
        classes=shift.classes,
        labels=reference.labels[chosen].tolist(),
        points=points,
    )
    return write(folder_of(root, shift.name) / "embedding.json", embedding)


# Pseudo-labels --------------------------------------------------------------------------------------------------------


def judge_runs(runs: Sequence[RunFolder], root: Path, workspace: Workspace) -> list[Path]:
    """Quality of the pseudo-labels that runs saved with ``--save-predictions``; returns the files that were written.

    Raises:
        RunError: a run has saved none, or they are damaged.
    """
    judged: list[PseudoLabels] = []
    for run in runs:
        split = prepare(run.shift, "target", "train", run.config.seed, workspace)
        clips, steps, coverage, accuracy = pseudo_labels.judge(run.folder / "predictions", split.open())
        quality = PseudoLabels(
            who=who(run.record), clips=clips, thresholds=list(pseudo_labels.THRESHOLDS), steps=steps,
            coverage=[[round(x, 2) for x in row] for row in coverage],
            accuracy=[[None if x is None else round(x, 2) for x in row] for row in accuracy],
        )  # fmt: skip
        judged.append(quality)
    return [
        write(folder_of(root, quality.who.shift) / "pseudo-labels" / f"{quality.who.name}.json", quality)
        for quality in judged
    ]
