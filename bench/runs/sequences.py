"""Scores per target sequence: what each sequence adds to a class's IoU, so that sequences can be drawn anew (bootstrap).

Per sequence and class three counts of pixels are kept: true positives, truth, predicted. They are sums, so pooling them
gives back the IoU ``tp / (truth + predicted - tp)`` of the record to the last bit; what does not is refused.

One CSV per run (``sequences.csv`` in its folder, ``sequences/<record>.csv`` beside the committed records): a line per
sequence, its name and K x 3 integers.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, KeysView, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.core.errors import RunError
from bench.core.files import write_atomically
from bench.core.schema import finite
from bench.shifts.protocol import Shift

from .metrics import ConfusionMatrix, Labels, counts_of, iou_from_counts, mean_iou
from .records import Record, Result

FILE = "sequences.csv"
COUNTS = ("tp", "truth", "predicted")
Counts = npt.NDArray[np.int64]
"""Pixels of one sequence, int64 ``(K, 3)``, columns as in :data:`COUNTS`."""
_NUMBERS = re.compile(r"\d{1,18}(,\d{1,18})*", re.ASCII)
MEAN_TOLERANCE = 1e-9
"""Points by which the mean over classes may differ: the order of its sum is the processor's; the IoU of a class has none."""


@lru_cache(maxsize=64)
def _places(names: tuple[str, ...]) -> dict[str, int]:
    """Number of each sequence; records of one data set share it."""
    return {name: number for number, name in enumerate(names)}


class Pixels(Mapping[str, Counts]):
    """Pixels by sequence in one array, where there are many records of them.

    Args:
        places: number of each sequence.
        counts: ``(S, K, 3)``, whole numbers: true positives, truth, predicted.
    """

    def __init__(self, places: Mapping[str, int], counts: npt.NDArray[np.integer]) -> None:
        self.places, self.counts = places, counts

    @classmethod
    def of(cls, sequences: Mapping[str, Counts]) -> Pixels:
        """Pixels by sequence as one array, in the order of the mapping."""
        if isinstance(sequences, cls):
            return sequences
        return cls(_places(tuple(sequences)), np.stack(list(sequences.values())))

    def small(self) -> Pixels:
        """The same, sorted by name and in the smallest type that holds every number."""
        names = tuple(self.places)
        ordered = tuple(sorted(names))
        counts = self.counts if names == ordered else self.counts[[self.places[name] for name in ordered]]
        least = np.min_scalar_type(int(counts.max(initial=0)))
        return self if names == ordered and counts.dtype == least else Pixels(_places(ordered), counts.astype(least))

    def of_classes(self, numbers: Sequence[int]) -> Pixels:
        """The pixels of some of the K classes."""
        return self if len(numbers) == self.counts.shape[1] else Pixels(self.places, self.counts[:, list(numbers)])

    def __getitem__(self, name: str) -> Counts:
        counts: Counts = self.counts[self.places[name]].astype(np.int64)
        return counts

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)

    def keys(self) -> KeysView[str]:
        """Names of the sequences, compared without a look at the counts."""
        return self.places.keys()


class SequenceCounts:
    """A confusion matrix per sequence, filled clip by clip.

    Args:
        num_classes: K.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.matrices: dict[str, ConfusionMatrix] = {}

    def update(self, sequence: str, label: Labels, prediction: Labels) -> None:
        """Add a clip of a sequence; see ``metrics.confusion_matrix``."""
        self.matrices.setdefault(sequence, ConfusionMatrix(self.num_classes)).update(label, prediction)

    @property
    def matrix(self) -> torch.Tensor:
        """All sequences pooled, int64 ``(K, K)``, rows = truth."""
        zero = torch.zeros(self.num_classes, self.num_classes, dtype=torch.int64)
        return sum((confusion.matrix for confusion in self.matrices.values()), zero)

    def counts(self) -> dict[str, Counts]:
        """Pixels by sequence, in the order in which the sequences came."""
        return {name: counts_of(confusion.matrix).numpy() for name, confusion in self.matrices.items()}


# Files ----------------------------------------------------------------------------------------------------------------


def to_csv(sequences: Mapping[str, Counts], classes: Sequence[str]) -> str:
    """The file's text: ``sequence,road tp,road truth,road predicted,...``, then a line per sequence."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["sequence", *(f"{name} {count}" for name in classes for count in COUNTS)])
    for name, counts in sequences.items():
        writer.writerow([name, *counts.ravel().tolist()])
    return text.getvalue()


def write_sequences(path: Path, sequences: Mapping[str, Counts], classes: Sequence[str]) -> Path:
    """Write the file whole or not at all.

    Raises:
        RunError: the disk is full or read-only.
    """
    write_atomically(path, to_csv(sequences, classes))
    return path


def read_sequences(path: Path, classes: Sequence[str]) -> dict[str, Counts]:
    """Pixels by sequence. Errors: see :func:`read_pixels`."""
    return dict(read_pixels(path, classes))


def read_pixels(path: Path, classes: Sequence[str]) -> Pixels:
    """Pixels by sequence, in one array.

    Raises:
        RunError: cannot be read, or not such a file of these classes; names the file and the line.
    """

    def damaged(line: int, problem: str) -> RunError:
        return RunError(f"{path}, line {line}: {problem}; submit the run again")

    try:
        text = path.read_text(encoding="utf-8")
        if (plain := _read_plain(text, classes)) is not None:
            return plain
        lines = list(csv.reader(text.splitlines()))
    except OSError as error:
        raise RunError(f"Cannot read {path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        raise RunError(f"{path} is damaged: not a table of text; submit the run again") from None
    header = to_csv({}, classes).strip().split(",")
    if not lines or lines[0] != header:
        raise damaged(1, f"the header is not that of {len(classes)} classes, 'sequence,{classes[0]} tp,...'")
    texts: dict[str, str] = {}
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(header):
            raise damaged(number, f"{len(line)} columns instead of {len(header)}")
        if not _NUMBERS.fullmatch(numbers := ",".join(line[1:])):
            raise damaged(number, "a count is not a whole number of pixels")
        if line[0] in texts:
            raise damaged(number, f"sequence '{line[0]}' stands there twice")
        texts[line[0]] = numbers
    if not texts:
        raise damaged(2, "no sequence")
    return _counts(texts, classes)


def _counts(texts: Mapping[str, str], classes: Sequence[str]) -> Pixels:
    """Pixels by sequence from their numbers, digits and commas alone."""
    counts = np.fromstring(",".join(texts.values()), np.int64, sep=",")
    return Pixels(_places(tuple(texts)), counts.reshape(len(texts), len(classes), len(COUNTS)))


def _read_plain(text: str, classes: Sequence[str]) -> Pixels | None:
    """A file as :func:`to_csv` writes it, unless a name takes quotes: without Python's work for each cell. None where it is not."""
    head, _, body = text.partition("\n")
    if '"' in text or f"{head}\n" != to_csv({}, classes) or not body.endswith("\n"):
        return None
    lines = [line.partition(",")[::2] for line in body[:-1].split("\n")]
    texts = dict(lines)
    row = rf"\d{{1,18}}(?:,\d{{1,18}}){{{len(classes) * len(COUNTS) - 1}}}\n"
    numbers = "\n".join([*texts.values(), ""])
    whole = len(texts) == len(lines) and text.splitlines() == text[:-1].split(
        "\n"
    )  # no name with another line's end in it
    return _counts(texts, classes) if whole and re.fullmatch(rf"(?:{row})+", numbers, re.ASCII) else None


def place(record_file: Path) -> Path:
    """Path of the scores per sequence of a committed record."""
    return record_file.parent / "sequences" / f"{record_file.stem}.csv"


# Against the record ---------------------------------------------------------------------------------------------------


def mismatch(
    sequences: Mapping[str, Counts], result: Result, classes: Sequence[str], unscored: Collection[str] = ()
) -> str | None:
    """What the pooled counts do not reproduce of a result, in words; None where they give all of it.

    The IoU of every class and pixel accuracy must be equal to the last bit, the mean up to :data:`MEAN_TOLERANCE`. A class has
    no IoU, and stays out of the mean, where the protocol does not score it or it is nowhere in truth or prediction; only there.

    Args:
        unscored: classes that the protocol does not score.
    """
    pixels = Pixels.of(sequences).counts
    hits, truth, predicted = pixels[..., 0], pixels[..., 1], pixels[..., 2]
    impossible = (hits > np.minimum(truth, predicted)).any(1) | (truth.sum(1) != predicted.sum(1))
    if impossible.any():
        name = list(sequences)[int(impossible.argmax())]
        problem = "more true positives than pixels, or truth and predicted of different number"
        return f"the counts of sequence '{name}' are impossible ({problem})"
    counts = torch.from_numpy(pixels.sum(0))
    iou = iou_from_counts(counts)
    for name, value in zip(classes, (100 * iou).tolist(), strict=True):
        recorded, pooled = result.iou.get(name), None if name in unscored else finite(value)
        if recorded != pooled:
            return f"IoU of {name} is {recorded} in the record, {pooled} from the counts"
    accuracy = 100 * float(counts[:, 0].sum().double() / counts[:, 1].sum())
    if result.pixel_accuracy != accuracy:
        return f"pixel accuracy is {result.pixel_accuracy} in the record, {accuracy} from the counts"
    mean = 100 * mean_iou(iou[[result.iou.get(name) is not None for name in classes]])
    if not abs(result.miou - mean) <= MEAN_TOLERANCE:
        return f"mIoU is {result.miou} in the record, {mean} from the counts"
    return None


def sequences_of(record: Record, record_file: Path, shift: Shift) -> Pixels:
    """The committed sequences of a record, checked against it.

    Raises:
        RunError: missing, damaged, or not what the record says; one line that names the file.
    """
    path = place(record_file)
    if not path.is_file():
        raise RunError(f"Record {record_file} has no scores per sequence ({path}); submit its run again")
    pixels = read_pixels(path, shift.score_classes)
    if (wrong := mismatch(pixels, record.result, shift.score_classes, shift.unscored)) is not None:
        raise RunError(f"{path} does not belong to {record_file.name}: {wrong}; submit the run again")
    return pixels
