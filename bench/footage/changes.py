"""What an adaptation changed, told without labels: classes that grew, shrank or vanished, flicker, and whether training made the
model worse than batch-norm statistics of the footage alone.

    out/changes.json    the numbers, the warnings, and which model is recommended
    out/changes.png     some pictures: as it was | adapted

Without labels nothing here is a score. What is looked at are signs by which a failed adaptation is known: predictions that jump
from frame to frame, that are less sure or less varied, classes that are gone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from bench.core.files import write_atomically
from bench.core.progress import Progress
from bench.core.schema import finite
from bench.data.loaders import ClipLoader
from bench.pictures.media import Colour, overlay, write_png
from bench.pictures.tiles import tiled
from bench.runs.evaluate import Information
from bench.runs.metrics import ConfusionMatrix, carry_labels
from bench.runs.predictions import batches, predict
from stpl.segmenter import VideoSegmenter

FILES = (NUMBERS, SHEET) = ("changes.json", "changes.png")
BEFORE, STATISTICS, ADAPTED = "as it was", "adabn", "adapted"
"""The model that came in; the same with batch-norm statistics of the footage; the adapted one."""

LEAST = 0.1
"""Percent of all pixels from which on a class is looked at for having vanished or been swallowed."""
LEFT, SWALLOWED = 10.0, 50.0
"""Percent of a class's pixels. A class has vanished if it keeps less than ``LEFT`` of them and has less than :data:`LEAST` of all
pixels; it is swallowed if one other class has more than ``SWALLOWED`` of them. A class that was seen in far too many places has not
vanished when it is seen in a few: on the real drive an unadapted network saw 9 % persons, and labels know of less than 1."""
LOST = 0.5
"""Percent of all pixels that a class must have had for its vanishing to be held against a model; a smaller one's is told only."""
FLICKER, INFORMATION = (0.5, 1.1), 0.02
"""What is held against a model: flicker above the reference's by more than both a number of points and a factor; information below
the reference's by more than this many nats. Finer predictions have more edges, and with them a little more flicker."""
ROWS = 6
"""Pictures on the sheet, evenly spread."""


@dataclass(frozen=True)
class Seen:
    """Statistics of a model's predictions over all pictures.

    Attributes:
        pixels: how many are predicted as each class.
        flicker: percent of the pixels with valid flow whose class is not that of the frame before, carried along it; NaN where
            there are none.
        information: ``H(mean p) - mean H(p)``, nats (`bench.runs.evaluate.Information`).
    """

    pixels: tuple[int, ...]
    flicker: float
    information: float

    def share(self, number: int) -> float:
        """A class's share of all pixels, percent."""
        return 100 * self.pixels[number] / max(1, sum(self.pixels))


@dataclass(frozen=True)
class Changes:
    """What an adaptation changed.

    Attributes:
        classes: names in train-id order.
        by_model: statistics of each model, in the order :data:`BEFORE`, :data:`STATISTICS` (where it differs), :data:`ADAPTED`.
        moved: int64 ``(K, K)`` pixels by class before (row) and after (column).
    """

    classes: tuple[str, ...]
    by_model: Mapping[str, Seen]
    moved: npt.NDArray[np.int64]

    @property
    def changed(self) -> float:
        """Percent of all pixels that have another class."""
        return 100 * float(1 - self.moved.trace() / max(1, self.moved.sum()))

    def became(self, number: int) -> tuple[int, float]:
        """The other class that most of a class's pixels changed to, and the percentage of them that did."""
        row = self.moved[number].astype(float)
        total, row[number] = row.sum(), -1
        successor = int(row.argmax())
        return successor, 100 * float(row[successor]) / max(1.0, total)

    def kept(self, number: int) -> float:
        """Percent of a class's pixels that still have it; NaN for a class without any before."""
        total = self.moved[number].sum()
        return 100 * float(self.moved[number, number] / total) if total else math.nan

    def warnings(self) -> list[str]:
        """Classes that another has swallowed, or that have vanished, a sentence each."""
        sentences, before, after = [], self.by_model[BEFORE], self.by_model[ADAPTED]
        for number, name in enumerate(self.classes):
            if before.share(number) < LEAST:
                continue
            successor, share = self.became(number)
            if share > SWALLOWED:
                sentences.append(f"{share:.0f} % of what was {name} is {self.classes[successor]} now")
            elif number in vanished(after, before):
                sentences.append(
                    f"{name} has vanished: {before.share(number):.2f} % of the pixels before, now {after.share(number):.2f}"
                )
        return sentences

    def advice(self) -> tuple[str, list[str]]:
        """The model that is recommended, and what speaks against those that are not.

        Each is compared with the best of those before it: one that has cost more must show no sign of being worse.
        """
        best, objections = BEFORE, []
        for name, summary in list(self.by_model.items())[1:]:
            reasons = signs(summary, self.by_model[best], self.classes)
            objections += [f"{name} against {best}: {reason}" for reason in reasons]
            best = best if reasons else name
        return best, objections

    def as_dict(self) -> dict[str, Any]:
        """The content of ``changes.json``."""
        best, objections = self.advice()
        before, after = self.by_model[BEFORE], self.by_model[ADAPTED]
        of_class = {}
        for number, name in enumerate(self.classes):
            successor, share = self.became(number)
            of_class[name] = {
                "before": before.share(number),
                "after": after.share(number),
                "kept": finite(self.kept(number)),
                "most became": self.classes[successor] if share else None,
            }
        models = {
            name: {"flicker": finite(summary.flicker), "information": finite(summary.information)}
            for name, summary in self.by_model.items()
        }
        return {
            "pixels changed": self.changed,
            "classes": of_class,
            "models": models,
            "warnings": self.warnings(),
            "recommended": best,
            "against the others": objections,
        }


def vanished(summary: Seen, reference: Seen) -> list[int]:
    """Train ids of classes that the reference predicts and the model hardly does any more."""
    return [
        k
        for k in range(len(summary.pixels))
        if reference.share(k) >= LEAST > summary.share(k) and summary.pixels[k] < LEFT / 100 * reference.pixels[k]
    ]


def signs(summary: Seen, reference: Seen, classes: Sequence[str]) -> list[str]:
    """Signs that a model is worse than the reference, a phrase each."""
    reasons = []
    margin, factor = FLICKER
    if summary.flicker > max(reference.flicker + margin, factor * reference.flicker):
        reasons.append(f"flicker {summary.flicker:.1f} % of the pixels, not {reference.flicker:.1f}")
    if summary.information < reference.information - INFORMATION:
        reasons.append(
            f"less sure or less varied: information {summary.information:.2f} nats, not {reference.information:.2f}"
        )
    return reasons + [f"{classes[k]} is gone" for k in vanished(summary, reference) if reference.share(k) >= LOST]


def flickered(labels: Tensor, previous: Tensor, flow: Tensor, valid: Tensor) -> tuple[int, int]:
    """Pixels whose class is not that of the frame before, carried along the flow, and pixels where it can be said.

    Args:
        labels, previous: integer ``(N, H, W)`` of frames t and t-1.
        flow: ``(N, 2, H, W)``, backward, pixels, x first.
        valid: bool ``(N, H, W)``.
    """
    carried = carry_labels(previous, flow, valid)
    visible = carried < 255
    return int(((carried != labels) & visible).sum()), int(visible.sum())


def has_statistics(segmenter: nn.Module) -> bool:
    """Whether the network has batch norm, so that statistics of the footage make another model of it."""
    return any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in segmenter.modules())


def changes(
    models: Mapping[str, VideoSegmenter],
    loader: ClipLoader,
    classes: tuple[str, ...],
    device: torch.device,
    colours: Sequence[Colour],
    progress: Progress,
) -> tuple[Changes, npt.NDArray[np.uint8]]:
    """Pass all pictures through the models, and show some of them.

    Args:
        models: by name, in the order of :class:`Changes`.
        colours: of the classes, for the sheet.

    Returns:
        What changed, and the sheet: some pictures, as it was beside adapted.
    """
    count, total = len(classes), len(loader.store)
    shown = {round(k * (total - 1) / max(1, ROWS - 1)) for k in range(ROWS)}
    pixels = {name: torch.zeros(count, dtype=torch.int64) for name in models}
    information = {name: Information() for name in models}
    flicker = {name: [0, 0] for name in models}
    moved, rows = ConfusionMatrix(count), []
    for segmenter in models.values():
        segmenter.eval()
    for number, (reads, batch) in enumerate(batches(loader, device, together=1)):
        predicted_labels = {}
        for name, segmenter in models.items():
            predicted = predict(segmenter, batch)
            predicted_labels[name] = labels = predicted.labels().cpu()
            information[name].add(predicted.out.scores)
            pixels[name] += torch.bincount(labels.flatten(), minlength=count)
            flicker_counts = flickered(
                labels, predicted.previous_labels().cpu(), batch.flow[:, -1].cpu(), batch.valid[:, -1].cpu()
            )
            flicker[name] = [a + b for a, b in zip(flicker[name], flicker_counts, strict=True)]
        moved.update(predicted_labels[BEFORE], predicted_labels[ADAPTED])
        if number in shown:
            frame = reads[0].clip.frames[-1].transpose(1, 2, 0)
            key = loader.store.key(reads[0].number)
            rows.append(
                [
                    (f"{key}: {n}", overlay(frame, predicted_labels[n][0].byte().numpy(), colours))
                    for n in (BEFORE, ADAPTED)
                ]
            )
        progress("what changed", number + 1, total)
    summaries = {
        name: Seen(
            tuple(pixels[name].tolist()),
            100 * flicker[name][0] / flicker[name][1] if flicker[name][1] else math.nan,
            information[name].score(),
        )
        for name in models
    }
    comparison = Changes(classes, summaries, moved.matrix.numpy())
    note = f"{comparison.changed:.1f} % of the pixels have another class"
    return comparison, tiled(rows, "As it was | adapted", [note], dict(zip(classes, colours, strict=True)))


def write(out: Path, comparison: Changes, sheet: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Write both files; returns what ``changes.json`` holds."""
    report = comparison.as_dict()
    write_atomically(out / NUMBERS, json.dumps(report, indent=1) + "\n")
    write_png(out / SHEET, sheet)
    return report
