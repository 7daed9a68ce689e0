"""What is kept of an analysis: small JSON files from which figures and pages are made.

<root>/analysis/<shift>/runs/<method>-s<seed>-<run>.json    one finished run
<root>/analysis/<shift>/embedding.json                      2-D embeddings of a few runs, side by side
<root>/analysis/<shift>/pseudo-labels/<method>-...json      pseudo-labels of one run over its steps
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

from bench.core.files import write_atomically
from bench.core.schema import Hash, M, Model, Name, read_json
from bench.runs.config import alterations, load_shift
from bench.runs.records import Record

Numbers = list[float]
VARIANTS = {
    "headline": "other clips only, natural frequency",
    "own clip": "own clip counted, natural frequency",
    "balanced": "other clips only, equally many pixels per class",
}
"""How neighbours are counted: the first is the headline."""


class Who(Model):
    """The run that numbers belong to; ``miou`` in percent, from its record."""

    run: Hash
    method: Name
    title: str
    design: str
    setting: str
    altered: tuple[str, ...]
    seed: int
    shift: Name
    shift_hash: str
    miou: float

    @property
    def name(self) -> str:
        """Name of its file, without the ending."""
        return f"{self.method}-s{self.seed}-{self.run}"

    @property
    def label(self) -> str:
        """Its name in tables and legends: the title, and which settings were changed."""
        return f"{self.title} ({', '.join(self.altered)})" if self.altered else self.title


def who(record: Record) -> Who:
    """What identifies the run of a record."""
    config, method = record.config, record.method
    return Who(
        run=record.run, method=config.method, title=method["title"], design=method["design"], setting=method["setting"],
        altered=alterations(record.config), seed=config.seed, shift=load_shift(config.shift).name,
        shift_hash=record.shift_hash, miou=record.result.miou,
    )  # fmt: skip


class Curve(Model):
    """Same-class share among the k nearest neighbours, percent, for k = 1, 2, ...: over pixels, as the mean over classes, and by
    class where it is kept (null for a class that does not occur)."""

    LATER: ClassVar[tuple[str, ...]] = ("classes",)

    pixels: Numbers
    mean: Numbers
    classes: dict[str, Numbers | None] | None = None


class Separation(Model):
    """Class centres: ``ratio[i][j]`` for j < i is their distance over the spread within (``embedding.separation``)."""

    ratio: list[list[float | None]]
    davies_bouldin: float
    silhouette: float


class Calibration(Model):
    """Pixels per confidence bin, their mean confidence and their accuracy in percent (null for an empty bin)."""

    count: list[int]
    confidence: list[float | None]
    accuracy: list[float | None]


class RunAnalysis(Model):
    """One run. A part is missing where it was not asked for.

    Attributes:
        sample: ``cells`` looked at, ``balanced`` of them, ``grid`` of features, ``k``, ``seed`` of the draw.
        knn: by name of :data:`VARIANTS`.
        confusion: pixels, rows = truth.
    """

    who: Who
    classes: tuple[str, ...]
    sample: dict[str, Any]
    knn: dict[str, Curve] | None = None
    separation: Separation | None = None
    confusion: list[list[int]] | None = None
    calibration: Calibration | None = None


class Embedding(Model):
    """The same pixels of one replicate in the plane, by model.

    Attributes:
        labels: class of each pixel, train id.
        points: by model's label, ``[x, y]`` of each pixel, root mean square 1.
    """

    kind: Literal["tsne", "pca"]
    seed: int
    classes: tuple[str, ...]
    labels: list[int]
    points: dict[str, list[tuple[float, float]]]


class PseudoLabels(Model):
    """Labels that the model of each kept step gives target training clips, judged after the run.

    Attributes:
        clips: how many clips.
        thresholds: confidences, 0..1, above which a label counts.
        steps: optimiser steps; 0 is the source model.
        coverage: by step and threshold, percent of the pixels that count.
        accuracy: by step and threshold, percent of those that are right; null where none counts.
    """

    who: Who
    clips: int
    thresholds: Numbers
    steps: list[int]
    coverage: list[Numbers]
    accuracy: list[list[float | None]]


def write(path: Path, model: Model) -> Path:
    """Write as JSON with a line per field.

    Raises:
        RunError: the disk is full or read-only.
    """
    fields = model.model_dump(mode="json", exclude_none=False)
    lines = [f' "{key}": {json.dumps(field, separators=(",", ":"))}' for key, field in fields.items()]
    write_atomically(path, "{\n" + ",\n".join(lines) + "\n}\n")
    return path


def read(path: Path, kind: type[M]) -> M:
    """Read and validate.

    Raises:
        RunError: missing, truncated, or a file of another kind.
    """
    return read_json(path, kind, "Analysis", "make it again with `bench analyse`")


def folder_of(root: Path, shift: str) -> Path:
    """Where the analyses of a shift are kept."""
    return root / "analysis" / shift


def read_all(folder: Path, kind: type[M]) -> list[M]:
    """All of one kind in a folder, by file name."""
    return [read(path, kind) for path in sorted(folder.glob("*.json"))]
