"""Which of the kept weights are scored. The last ones are the headline; two rules stand beside it, never mixed with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Snapshot:
    """Weights after ``step`` steps: target-only score (no labels) and mIoU on the reported labels, percent."""

    step: int
    target_score: float
    miou: float


def unsupervised(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The best target-only score; the later one on a tie. Looks at no label."""
    return max(snapshots, key=lambda s: (s.target_score, s.step))


def oracle(snapshots: Sequence[Snapshot]) -> Snapshot:
    """The best mIoU on the very labels that are reported; as many looks at them as there are snapshots."""
    return max(snapshots, key=lambda s: (s.miou, s.step))
