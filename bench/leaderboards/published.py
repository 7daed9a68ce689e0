"""Published numbers on the real shifts, each with its source; shown beside measured ones, never mixed with them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

FILE = Path(__file__).with_name("published_results.csv")
COLUMNS = ("shift", "method", "venue", "design", "setting", "mIoU", "source", "note")
"""What a row has besides one column per class."""
STAND_IN = "viper2cityscapes"
"""Real shift whose published numbers stand beside a shift that has none of its own."""
SHORT = {"traffic light": "light", "traffic sign": "sign"}
"""Class names of the papers that are shorter here."""


@dataclass(frozen=True)
class Published:
    """One published result; mIoU and IoU per class in percent, ``iou`` empty where the paper gives the mean alone."""

    shift: str
    method: str
    venue: str
    design: str
    setting: str
    miou: float
    iou: Mapping[str, float]
    source: str
    note: str

    @property
    def of_paper(self) -> bool:
        """Whether it stands in the table of STPL's paper; what later work reports does not."""
        return self.source.startswith("STPL ")


@lru_cache
def rows(file: Path = FILE) -> tuple[Published, ...]:
    """All rows of the table, in its order.

    Raises:
        ValueError: a column is missing, a number is not a percentage, or a result stands there twice.
    """
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
        if missing:
            raise ValueError(f"{file.name}: column '{missing[0]}' is missing; needed: {', '.join(COLUMNS)}")
        results = tuple(_typed(row, f"{file.name}, line {reader.line_num}") for row in reader)
    keys = [(row.shift, row.method) for row in results]
    for key in keys:
        if keys.count(key) > 1:
            raise ValueError(f"{file.name}: {key[1]} on {key[0]} stands there twice")
    return results


def _typed(row: dict[str, str], location: str) -> Published:
    classes = [name for name in row if name not in COLUMNS]
    return Published(
        shift=row["shift"],
        method=row["method"],
        venue=row["venue"],
        design=row["design"],
        setting=row["setting"],
        miou=_percent(row["mIoU"], f"{location}, mIoU"),
        iou={SHORT.get(name, name): _percent(row[name], f"{location}, {name}") for name in classes if row[name]},
        source=row["source"],
        note=row["note"],
    )


def _percent(text: str, location: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 100:
        raise ValueError(f"{location}: '{text}' is not a percentage in 0..100")
    return value


def published(shift: str, method: str) -> Published | None:
    """The published result of a method (by its card's key) on a real shift, None where there is none."""
    return next((row for row in rows() if (row.shift, row.method) == (shift, method)), None)


def in_paper(shift: str, method: str) -> float | None:
    """mIoU of a method in the table of STPL's paper, percent; None where it is not in it."""
    row = published(shift, method)
    return row.miou if row is not None and row.of_paper else None


def published_shifts() -> list[str]:
    """Real shifts with published results, sorted."""
    return sorted({row.shift for row in rows()})


def compared_with(shift: str) -> str:
    """The real shift whose published numbers stand beside those measured on ``shift``: itself, or the stand-in."""
    return shift if shift in published_shifts() else STAND_IN
