"""Groups of classes that are scored instead of the network's classes (``evaluation.groups`` of a shift)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from bench.data.labels import IGNORE
from bench.shifts.protocol import NO_GROUP, Shift

L = TypeVar("L", Tensor, npt.NDArray[np.integer])


@dataclass(frozen=True)
class Grouping:
    """From the network's classes to what is scored.

    Attributes:
        table: int64 ``(256,)``: scored class by train id; 255 stays.
        count: number of scored classes, outputs without a group counted as one.
        left_over: place of those outputs among the scored classes; ``count`` where there are none.
    """

    table: npt.NDArray[np.int64]
    count: int
    left_over: int

    @classmethod
    def none(cls, classes: int) -> Grouping:
        """Every class is scored as it is."""
        return cls(np.arange(IGNORE + 1), classes, classes)

    def __call__(self, labels: L) -> L:
        """Label maps of any shape with each class replaced by its group."""
        if isinstance(labels, Tensor):
            return torch.from_numpy(self.table).to(labels.device)[labels.long()]
        return np.asarray(self.table[labels])


def grouping_of(shift: Shift) -> Grouping:
    """What a shift's predictions become before they are counted."""
    groups, scored = shift.evaluation.groups, shift.score_classes
    if not groups:
        return Grouping.none(len(shift.classes))
    group_of = {name: scored.index(group) for group, names in groups.items() for name in names}
    table = np.full(IGNORE + 1, IGNORE, np.int64)
    table[: len(shift.classes)] = [group_of.get(name, len(groups)) for name in shift.classes]
    return Grouping(table, len(scored), len(groups) if NO_GROUP in scored else len(scored))
