"""Ranks of methods over shifts: mean ranks, Friedman's test, Kendall's W and Nemenyi's critical difference (Demšar, "Statistical
Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006).

Scores are arrays ``(blocks, methods)``, the higher the better; ranks have the same shape, 1 is best, and equal scores share the
mean of their places.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

from .ranking import ALPHA, Family
from .statistics import DIGITS, LEVEL

DRAWS = 2000
Floats = npt.NDArray[np.float64]


def ranks_of(scores: Floats) -> Floats:
    """Ranks within each block ``(blocks, methods)``."""
    return np.asarray(stats.rankdata(-np.round(scores, DIGITS), axis=1), np.float64)


def drawn_ranks(ranks: Floats, draws: int = DRAWS) -> Floats | None:
    """95 % percentile interval of each mean rank, blocks drawn with replacement, the same for all methods: ``(2, methods)``.

    Returns:
        None for fewer than two blocks.
    """
    blocks = len(ranks)
    if blocks < 2:
        return None
    drawn = np.random.RandomState(0).randint(blocks, size=(draws, blocks))  # frozen: the same in every version
    means = np.round(ranks[drawn].mean(1), DIGITS)
    return np.asarray(np.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2], axis=0), np.float64)


@dataclass(frozen=True)
class Agreement:
    """How far blocks order methods alike.

    Attributes:
        w: Kendall's W, ``chi2 / (blocks (methods - 1))``: 0 for none, 1 where all orders are the same.
        chi2: Friedman's statistic, corrected for ties.
        p: of the test that no method is better than another; chi-squared approximation.
    """

    w: float
    chi2: float
    p: float


def agreement(scores: Floats) -> Agreement | None:
    """Friedman's test and Kendall's W; None for fewer than two blocks or three methods, or where every block is all ties."""
    blocks, methods = scores.shape
    if blocks < 2 or methods < 3 or not np.ptp(ranks_of(scores), axis=1).any():
        return None
    chi2, p = stats.friedmanchisquare(*np.round(scores, DIGITS).T)
    return Agreement(float(chi2) / (blocks * (methods - 1)), float(chi2), float(p))


def critical_difference(methods: int, blocks: int) -> float:
    """Nemenyi's: mean ranks that differ by more are told apart at :data:`ALPHA`, ``q sqrt(k (k + 1) / (6 N))`` with ``q`` of the
    studentised range of ``k`` methods over ``sqrt(2)``."""
    q = float(stats.studentized_range.ppf(1 - ALPHA, methods, np.inf)) / np.sqrt(2)
    return float(q * np.sqrt(methods * (methods + 1) / (6 * blocks)))


def nemenyi(names: Sequence[str], mean_ranks: Sequence[float], blocks: int) -> Family:
    """All pairs by Nemenyi's test, for their groups and letters; names by mean rank, the best first. The p-value of a pair is that
    of its studentised range, which is corrected for the number of methods."""
    scale = np.sqrt(
        len(names) * (len(names) + 1) / (12 * blocks)
    )  # of the range; the critical difference has q / sqrt 2
    corrected: dict[tuple[str, str], float | None] = {}
    for (a, x), (b, y) in itertools.combinations(zip(names, mean_ranks, strict=True), 2):
        p = float(stats.studentized_range.sf(abs(x - y) / scale, len(names), np.inf))
        corrected[a, b] = corrected[b, a] = p
    return Family(tuple(names), {}, corrected)


def likeness(ranks: Floats, kinds: Sequence[str]) -> tuple[float | None, float | None]:
    """Mean rank correlation (Spearman) of two blocks of one kind, and of two of different kinds; None where there is no such pair.

    Args:
        ranks: ``(blocks, methods)``.
        kinds: the kind of each block.
    """
    correlations: dict[bool, list[float]] = {True: [], False: []}
    for a, b in itertools.combinations(range(len(ranks)), 2):
        if np.ptp(ranks[a]) and np.ptp(ranks[b]):
            correlations[kinds[a] == kinds[b]].append(float(np.corrcoef(ranks[a], ranks[b])[0, 1]))
    within, between = (
        float(np.mean(values)) if values else None for values in (correlations[True], correlations[False])
    )
    return within, between
