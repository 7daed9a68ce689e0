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
"""Percent of a class's pixels: with less than the one left, and less than :data:`LEAST` of all, it has vanished; where another
class has more than the other, it is swallowed. A class that was seen in far too many places has not vanished when it is seen in a
few: on the real drive an unadapted network saw 9 % persons, and labels know of less than 1."""
LOST = 0.5
"""Percent of all pixels that a class must have had for its vanishing to be held against a model; a smaller one's is told only."""
FLICKER, INFORMATION = (0.5, 1.1), 0.02
"""More flicker, or less information, than this is held against a model: percent of pixels and times as much, both; nats. Finer
predictions have more edges, and with them a little more flicker."""
ROWS = 6
"""Pictures on the sheet, evenly spread."""


@dataclass(frozen=True)
class Seen:
    """What a model says of all pictures.

    Attributes:
        pixels: of each class.
        flicker: percent of the pixels with valid flow whose class is not that of the frame before, carried along it; NaN where
            there are none.
        information: ``H(mean p) - mean H(p)``, nats (`bench.runs.evaluate.Information`).
    """

    pixels: tuple[int, ...]
    flicker: float
    information: float

    def share(self, number: int) -> float:
        """Of a class, percent of all pixels."""
        return 100 * self.pixels[number] / max(1, sum(self.pixels))


@dataclass(frozen=True)
class Changes:
    """What an adaptation changed.

    Attributes:
        classes: names in train-id order.
        seen: what each model says, in the order :data:`BEFORE`, :data:`STATISTICS` (where it differs), :data:`ADAPTED`.
        moved: int64 ``(K, K)`` pixels by class before (row) and after (column).
    """

    classes: tuple[str, ...]
    seen: Mapping[str, Seen]
    moved: npt.NDArray[np.int64]

    @property
    def changed(self) -> float:
        """Percent of all pixels that have another class."""
        return 100 * float(1 - self.moved.trace() / max(1, self.moved.sum()))

    def became(self, number: int) -> tuple[int, float]:
        """The other class that most of a class's pixels went to, and how many of a hundred."""
        row = self.moved[number].astype(float)
        total, row[number] = row.sum(), -1
        other = int(row.argmax())
        return other, 100 * float(row[other]) / max(1.0, total)

    def kept(self, number: int) -> float:
        """Percent of a class's pixels that are still its; NaN for a class without any before."""
        total = self.moved[number].sum()
        return 100 * float(self.moved[number, number] / total) if total else math.nan

    def warnings(self) -> list[str]:
        """Classes that another has swallowed, or that have vanished, a sentence each."""
        told, before, after = [], self.seen[BEFORE], self.seen[ADAPTED]
        for number, name in enumerate(self.classes):
            if before.share(number) < LEAST:
                continue
            other, share = self.became(number)
            if share > SWALLOWED:
                told.append(f"{share:.0f} % of what was {name} is {self.classes[other]} now")
            elif number in vanished(after, before):
                told.append(
                    f"{name} has vanished: {before.share(number):.2f} % of the pixels before, now {after.share(number):.2f}"
                )
        return told

    def advice(self) -> tuple[str, list[str]]:
        """The model that is recommended, and what speaks against those that are not.

        Each is compared with the best of those before it: one that has cost more must show no sign of being worse.
        """
        best, told = BEFORE, []
        for name, seen in list(self.seen.items())[1:]:
            against = signs(seen, self.seen[best], self.classes)
            told += [f"{name} against {best}: {what}" for what in against]
            best = best if against else name
        return best, told

    def as_dict(self) -> dict[str, Any]:
        """``changes.json``."""
        best, against = self.advice()
        before, after = self.seen[BEFORE], self.seen[ADAPTED]
        of_class = {}
        for number, name in enumerate(self.classes):
            other, share = self.became(number)
            of_class[name] = {
                "before": before.share(number),
                "after": after.share(number),
                "kept": finite(self.kept(number)),
                "most became": self.classes[other] if share else None,
            }
        models = {
            name: {"flicker": finite(seen.flicker), "information": finite(seen.information)}
            for name, seen in self.seen.items()
        }
        return {
            "pixels changed": self.changed,
            "classes": of_class,
            "models": models,
            "warnings": self.warnings(),
            "recommended": best,
            "against the others": against,
        }


def vanished(seen: Seen, than: Seen) -> list[int]:
    """Classes that one model finds and the other hardly does any more."""
    return [
        k
        for k in range(len(seen.pixels))
        if than.share(k) >= LEAST > seen.share(k) and seen.pixels[k] < LEFT / 100 * than.pixels[k]
    ]


def signs(seen: Seen, than: Seen, classes: Sequence[str]) -> list[str]:
    """What speaks against a model, compared with another."""
    told = []
    more, times = FLICKER
    if seen.flicker > max(than.flicker + more, times * than.flicker):
        told.append(f"flicker {seen.flicker:.1f} % of the pixels, not {than.flicker:.1f}")
    if seen.information < than.information - INFORMATION:
        told.append(f"less sure or less varied: information {seen.information:.2f} nats, not {than.information:.2f}")
    return told + [f"{classes[k]} is gone" for k in vanished(seen, than) if than.share(k) >= LOST]


def flickered(labels: Tensor, previous: Tensor, flow: Tensor, valid: Tensor) -> tuple[int, int]:
    """Pixels whose class is not that of the frame before, carried along the flow, and pixels where it can be said.

    Args:
        labels, previous: integer ``(N, H, W)`` of frames t and t-1.
        flow: ``(N, 2, H, W)``, backward, pixels, x first.
        valid: bool ``(N, H, W)``.
    """
    carried = carry_labels(previous, flow, valid)
    known = carried < 255
    return int(((carried != labels) & known).sum()), int(known.sum())


def has_statistics(segmenter: nn.Module) -> bool:
    """Whether batch-norm statistics of the footage make another model of it."""
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
        said = {}
        for name, segmenter in models.items():
            found = predict(segmenter, batch)
            said[name] = labels = found.labels().cpu()
            information[name].add(found.out.scores)
            pixels[name] += torch.bincount(labels.flatten(), minlength=count)
            seen = flickered(labels, found.previous_labels().cpu(), batch.flow[:, -1].cpu(), batch.valid[:, -1].cpu())
            flicker[name] = [a + b for a, b in zip(flicker[name], seen, strict=True)]
        moved.update(said[BEFORE], said[ADAPTED])
        if number in shown:
            frame = reads[0].clip.frames[-1].transpose(1, 2, 0)
            key = loader.store.key(reads[0].number)
            rows.append(
                [(f"{key}: {n}", overlay(frame, said[n][0].byte().numpy(), colours)) for n in (BEFORE, ADAPTED)]
            )
        progress("what changed", number + 1, total)
    told = {
        name: Seen(
            tuple(pixels[name].tolist()),
            100 * flicker[name][0] / flicker[name][1] if flicker[name][1] else math.nan,
            information[name].score(),
        )
        for name in models
    }
    found_ = Changes(classes, told, moved.matrix.numpy())
    note = f"{found_.changed:.1f} % of the pixels have another class"
    return found_, tiled(rows, "As it was | adapted", [note], dict(zip(classes, colours, strict=True)))


def write(out: Path, found: Changes, sheet: npt.NDArray[np.uint8]) -> dict[str, Any]:
    """Write both files; returns what ``changes.json`` holds."""
    told = found.as_dict()
    write_atomically(out / NUMBERS, json.dumps(told, indent=1) + "\n")
    write_png(out / SHEET, sheet)
    return told
