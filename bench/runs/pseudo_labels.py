"""Pseudo-labels over the steps: saved by a run that is asked to, judged afterwards with labels that the run never saw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.core.access import stage
from bench.core.arrays import NotArrays, arrays_of
from bench.core.errors import RunError
from bench.core.files import whole
from bench.data.labels import IGNORE
from bench.data.loaders import ClipLoader
from bench.data.splits import Store
from bench.networks.weights import load_into
from stpl.segmenter import VideoSegmenter

from .predictions import predictions

THRESHOLDS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Confidences above which a pseudo-label counts; 0 takes all."""


def save_predictions(
    folder: Path,
    segmenter: VideoSegmenter,
    weights: Sequence[tuple[int, Path]],
    loader: ClipLoader,
    clips: int,
    align_corners: bool,
    device: torch.device,
) -> list[Path]:
    """Write what the kept weights of a run say about the first target training clips: ``<folder>/step-000050.npz``.

    Each holds ``label`` and ``confidence`` uint8 ``(N, H, W)`` (round(255 p) of the largest probability, at the frames' size)
    and the clips' ``keys``. Called after training, without labels, so that nothing of it reaches the method.

    Args:
        segmenter: of the run's network; its weights are replaced.
        weights: step and file of each.
    """
    written, numbers = [], range(min(clips, len(loader.store)))
    for step, path in weights:
        load_into(segmenter, path)
        labels, confidences = [], []
        keys: list[str] = []
        for predicted in predictions(segmenter, loader, device, align_corners, numbers):
            scores = predicted.scores()
            labels.append(scores.argmax(1).to(torch.uint8).cpu().numpy())
            confidences.append((255 * scores.softmax(1).amax(1)).round().to(torch.uint8).cpu().numpy())
            keys += predicted.batch.keys
        written.append(
            _write(
                folder / f"step-{step:06d}.npz",
                label=np.concatenate(labels),
                confidence=np.concatenate(confidences),
                keys=np.array(keys),
            )
        )
    return written


def _write(path: Path, **arrays: npt.NDArray[np.generic]) -> Path:
    with whole(path) as scratch, scratch.open("wb") as file:  # numpy adds an ending to a name
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return path


MOST_BYTES = 1 << 31
"""Of an array of predictions that is read."""


def read_predictions(path: Path) -> tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.uint8], list[str]]:
    """Step, labels, confidences and keys of the clips, of a file of :func:`save_predictions`.

    Raises:
        RunError: damaged, or something else.
    """
    step = path.stem.removeprefix("step-")
    try:
        label, confidence, keys = arrays_of(path.read_bytes(), ("label", "confidence", "keys"), MOST_BYTES)
        if label.dtype != np.uint8 or confidence.dtype != np.uint8 or keys.dtype.kind != "U" or not step.isdecimal():
            raise NotArrays(f"holds {label.dtype}, {confidence.dtype} and {keys.dtype}, named {path.name:.60}")
        if label.ndim != 3 or label.shape != confidence.shape or keys.shape != label.shape[:1]:
            raise NotArrays(f"shapes are {label.shape}, {confidence.shape} and {keys.shape}")
    except (OSError, NotArrays) as error:
        raise RunError(f"{path} is damaged ({error}); run with --force --save-predictions again") from None
    return int(step), label.astype(np.uint8), confidence.astype(np.uint8), [str(key) for key in keys]


def quality(
    label: npt.NDArray[np.uint8],
    confidence: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.uint8],
    thresholds: Sequence[float] = THRESHOLDS,
) -> tuple[list[float], list[float | None]]:
    """Coverage and accuracy of pseudo-labels at each threshold, percent.

    Pixels whose truth is ignored are left out of both. A label counts where its confidence in 1/255 is at least the threshold.

    Args:
        label, confidence, truth: uint8 of one shape.

    Returns:
        Percent of the pixels that count, and percent of those that are right (None where none counts).
    """
    counted = truth != IGNORE
    sure, right = confidence[counted] / 255, label[counted] == truth[counted]
    coverage, accuracy = [], []
    for threshold in thresholds:
        taken = sure >= threshold
        coverage.append(100 * float(taken.mean()))
        accuracy.append(100 * float(right[taken].mean()) if taken.any() else None)
    return coverage, accuracy


def judge(folder: Path, store: Store) -> tuple[int, list[int], list[list[float]], list[list[float | None]]]:
    """Quality of all that a run has saved; opens the target's *training* labels in a stage of its own.

    Returns:
        Number of clips, the steps, and for each step what :func:`quality` gives.

    Raises:
        RunError: nothing saved, a damaged file, or predictions of other clips.
    """
    paths = sorted(folder.glob("step-*.npz"))
    if not paths:
        raise RunError(f"No predictions in {folder}; make the run with `bench run --save-predictions 8`")
    steps, coverage, accuracy, clips = [], [], [], 0
    truth: list[npt.NDArray[np.uint8]] = []
    with stage("target-train", "target-train/label"):
        for path in paths:
            step, label, confidence, keys = read_predictions(path)
            clips = len(keys)
            if clips > len(store) or keys != [store.key(i) for i in range(clips)]:
                raise RunError(f"{path} is of other clips than this run's; run with --force --save-predictions again")
            truth += [store.labelled(i).label for i in range(len(truth), clips)]  # once, not for every step
            of_step = quality(label, confidence, np.stack(truth[:clips]))
            steps.append(step)
            coverage.append(of_step[0])
            accuracy.append(of_step[1])
    return clips, steps, coverage, accuracy
