"""Paired bootstrap over target sequences: how far a difference depends on which sequences, and which worlds, were drawn.

A draw takes replicates with replacement and, within each that it took, as many sequences with replacement as there are; the
IoU is computed anew from the pooled pixels of the sequences, as in the score itself. Both methods get the same draw. With one
replicate, or a data set that has one target, sequences alone are drawn.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

from bench.runs.sequences import Pixels

from .statistics import LEVEL

DRAWS = 2000
Sequences = Mapping[str, npt.NDArray[np.int64]]
"""By name, pixels per scored class: true positives, truth, predicted, ``(K, 3)`` (``bench.runs.sequences``)."""
Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.integer]
T = TypeVar("T")
EXACT = 1 << 24
"""Whole numbers below are exact in float32, and so are their sums in any order."""


@dataclass(frozen=True)
class Resampled:
    """A paired difference in mIoU points, drawn anew.

    Attributes:
        difference: of the scores as they are, mean over replicates.
        low, high: 95 % percentile interval.
        p: two-sided, ``2 (1 + draws on the rarer side of 0) / (draws + 1)``, at most 1.
        replicates, sequences: how many of each there are.
    """

    difference: float
    low: float
    high: float
    p: float
    replicates: int
    sequences: int


def pooled_miou(counts: npt.NDArray[np.integer | np.floating]) -> Floats:
    """mIoU in percent from pixels ``(..., K, 3)`` pooled over sequences; classes that do not occur leave the mean."""
    hits, truth, predicted = np.moveaxis(np.asarray(counts, np.float64), -1, 0)
    union = truth + predicted - hits
    occurs = union > 0
    iou = np.divide(hits, union, out=np.zeros_like(union), where=occurs)
    return np.asarray(100 * iou.sum(-1) / occurs.sum(-1), np.float64)


@lru_cache(maxsize=4)
def plan(sizes: tuple[int, ...], draws: int) -> tuple[npt.NDArray[np.int64], tuple[Whole, ...]]:
    """Draw replicates, and for each replicate how often each of its sequences is taken.

    The generator is numpy's frozen one (``RandomState``): its numbers are the same in every version, and so are the pages.

    Args:
        sizes: number of sequences of each replicate.

    Returns:
        Replicate numbers ``(draws, R)``, and for each replicate the weights of its sequences, ``(times it was drawn, S)``, in
        the order of the draws.
    """
    generator = np.random.RandomState(0)
    replicates = generator.randint(len(sizes), size=(draws, len(sizes)))
    weights = []
    for number, size in enumerate(sizes):
        times = int((replicates == number).sum())
        drawn = generator.randint(size, size=(times, size)) + size * np.arange(times)[:, None]
        counted = np.bincount(drawn.ravel(), minlength=times * size).reshape(times, size)
        weights.append(
            counted.astype(np.min_scalar_type(int(counted.max(initial=0))))
        )  # of 80 replicates there are many
    return replicates, tuple(weights)


def paired_bootstrap(a: Mapping[int, Sequences], b: Mapping[int, Sequences], draws: int = DRAWS) -> Resampled | None:
    """Resample the difference ``a - b`` in mIoU points.

    Args:
        a, b: sequences by replicate; replicates that one of them lacks, or has other sequences for, are left out.

    Returns:
        None where no replicate is left.
    """
    seeds = [seed for seed in sorted(a.keys() & b.keys()) if a[seed] and a[seed].keys() == b[seed].keys()]
    if not seeds:
        return None
    sizes = tuple(len(a[seed]) for seed in seeds)
    first, second = (_of_side(ByIdentity(side), tuple(seeds), sizes, draws) for side in (a, b))
    means = np.round((first[0] - second[0]).mean(1), 9)  # so that a difference of nothing is 0 on every processor
    observed = float(np.mean(first[1] - second[1]))
    low, high = np.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    p = min(1.0, 2 * (1 + min((means <= 0).sum(), (means >= 0).sum())) / (draws + 1))
    return Resampled(observed, float(low), float(high), float(p), len(seeds), sum(sizes))


@dataclass(frozen=True)
class ByIdentity(Generic[T]):
    """A value hashed and compared by identity: one method is compared with many, and what was drawn for it is remembered."""

    value: T

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ByIdentity) and other.value is self.value


@lru_cache(maxsize=8)
def _of_side(
    side: ByIdentity[Mapping[int, Sequences]], seeds: tuple[int, ...], sizes: tuple[int, ...], draws: int
) -> tuple[Floats, Floats]:
    """mIoU in percent of each draw and replicate that it took, ``(draws, R)``, and of each replicate as it is, ``(R,)``."""
    replicates, weights = plan(sizes, draws)
    drawn, observed = np.empty(replicates.shape), np.empty(len(seeds))
    for number, (seed, weight) in enumerate(zip(seeds, weights, strict=True)):
        counts = Pixels.of(side.value[seed]).small().counts
        drawn[replicates == number], observed[number] = _drawn(counts, weight), pooled_miou(counts.sum(0))
    return drawn, observed


def _drawn(counts: Whole, weights: Whole) -> Floats:
    """mIoU of each draw. The sums of whole numbers are exact in the type that is taken, in any order."""
    sequences, classes, three = counts.shape
    exact = np.float32 if sequences * int(counts.max(initial=0)) < EXACT else np.float64  # a draw has as many sequences
    pooled = weights.astype(exact) @ counts.reshape(sequences, classes * three).astype(exact)
    return pooled_miou(pooled.reshape(len(weights), classes, three))
