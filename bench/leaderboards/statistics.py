"""Statistics over replicates: intervals, paired differences, share of the gap closed.

A replicate (``--seed k``) draws its own world, source model and adaptation, so replicates are independent, and two
methods on the same replicate are paired. Values are dictionaries from seed to a score, in the score's unit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.95
MANY = 8
"""Methods whose orders are too many to go through: 8! of eight."""
DIGITS = 9
"""Decimals in which two scores must differ: what the order of sums changes is no difference."""


@dataclass(frozen=True)
class Paired:
    """A difference over the seeds that two methods share.

    Attributes:
        difference: mean of ``a - b``.
        half: half-width of its 95 % t-interval; None when ``n < 2``.
        n: number of shared seeds.
        p: two-sided p-value of the paired t-test against no difference; None when ``n < 2``.
    """

    difference: float
    half: float | None
    n: int
    p: float | None


def mean_interval(values: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half-width of its 95 % t-interval, ``t(0.975, n-1) s / sqrt(n)``; half-width None when ``n < 2``.

    Raises:
        ValueError: no values.
    """
    if not len(values):
        raise ValueError("mean_interval needs at least one value, got none")
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None
    return mean, float(stats.t.ppf(0.5 + LEVEL / 2, len(values) - 1) * stats.sem(values))


def paired_difference(a: Mapping[int, float], b: Mapping[int, float]) -> Paired | None:
    """Difference ``a - b`` over the shared seeds, with its 95 % t-interval and paired t-test; None if none is shared.

    Differences that are all equal have an interval of width 0, and p 0, or 1 where they are all zero.
    """
    seeds = sorted(a.keys() & b.keys())
    if not seeds:
        return None
    differences = np.round([a[seed] - b[seed] for seed in seeds], DIGITS)
    mean, half = mean_interval(differences.tolist())
    if half is None:
        p = None
    elif np.ptp(differences) == 0:  # the t statistic is 0/0 or x/0 here
        half, p = 0.0, float(mean == 0)
    else:
        p = float(stats.ttest_1samp(differences, 0.0).pvalue)
    return Paired(mean, half, len(seeds), p)


def gap_closed(
    miou: Mapping[int, float], source_only: Mapping[int, float], oracle: Mapping[int, float]
) -> dict[int, float]:
    """Percentage of the gap closed on each seed, ``100 (miou - source_only) / (oracle - source_only)``.

    Seeds that one of the three lacks are left out, and so are seeds where the oracle is not above source-only: there is
    no gap to close there.
    """
    seeds = sorted(miou.keys() & source_only.keys() & oracle.keys())
    return {
        seed: 100 * (miou[seed] - source_only[seed]) / (oracle[seed] - source_only[seed])
        for seed in seeds
        if oracle[seed] > source_only[seed]
    }


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rho between two orders of the same methods.

    Attributes:
        rho: of the mean measured scores and the published numbers.
        p: two-sided, of no relation between the two orders of these methods: over all orders, from :data:`MANY` methods on by the
            t approximation.
        low, high: 95 % percentile interval over resampled seeds; None with fewer than two seeds.
        methods: how many methods were ordered.
        seeds: how many seeds all of them share.
    """

    rho: float
    p: float
    low: float | None
    high: float | None
    methods: int
    seeds: int


def rank_correlation(
    measured: Mapping[str, Mapping[int, float]], published: Mapping[str, float], draws: int = 2000
) -> RankCorrelation | None:
    """Rank correlation of measured means with published numbers, with a bootstrap interval over seeds.

    Seeds are drawn with replacement, the same for all methods (scores of one seed share their world and source model). The
    interval says how far the measured order depends on which worlds were drawn; it says nothing about the published numbers,
    which come without one, nor about the choice of methods.

    Args:
        measured: score by seed, by method.
        published: number by method; methods that are missing on either side are left out.
        draws: of the bootstrap; its generator is fixed, so that a page is the same each time.

    Returns:
        None for fewer than three common methods, no common seed, or an order that does not exist because all are equal.
    """
    methods = sorted(measured.keys() & published.keys())
    seeds = sorted(set.intersection(*(set(measured[m]) for m in methods))) if methods else []
    if len(methods) < 3 or not seeds:
        return None
    scores = np.array([[measured[m][seed] for seed in seeds] for m in methods])
    numbers = np.array([published[m] for m in methods])
    if np.ptp(scores.mean(1)) == 0 or np.ptp(numbers) == 0:
        return None
    return _with_interval(scores, np.repeat(numbers[:, None], len(seeds), 1), draws)


def rank_agreement(
    a: Mapping[str, Mapping[int, float]], b: Mapping[str, Mapping[int, float]], draws: int = 2000
) -> RankCorrelation | None:
    """Rank correlation of the means of two scores that were both measured, by method and seed, with a bootstrap over seeds.

    As :func:`rank_correlation`, except that both sides are drawn anew together: a seed's two scores belong to one model.
    """
    methods = sorted(a.keys() & b.keys())
    seeds = sorted(set.intersection(*(a[m].keys() & b[m].keys() for m in methods))) if methods else []
    if len(methods) < 3 or not seeds:
        return None
    left, right = (np.array([[side[m][seed] for seed in seeds] for m in methods]) for side in (a, b))
    if np.ptp(left.mean(1)) == 0 or np.ptp(right.mean(1)) == 0:
        return None
    return _with_interval(left, right, draws)


def _spearman(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Spearman's rho of two scores ``(methods,)``, and its two-sided p-value."""
    tested = stats.spearmanr(a, b)
    if len(a) >= MANY:
        return float(tested.statistic), float(tested.pvalue)
    left, right = (stats.rankdata(side) - (len(a) + 1) / 2 for side in (a, b))
    products = left[list(itertools.permutations(range(len(a))))] @ right
    return float(tested.statistic), float(np.mean(np.abs(products) >= abs(float(left @ right)) - 1e-9))


def _with_interval(a: npt.NDArray[np.floating], b: npt.NDArray[np.floating], draws: int) -> RankCorrelation:
    """Rank correlation of the mean scores of ``a`` and ``b``, both ``(methods, seeds)``, and its percentile interval over resampled
    seeds."""
    methods, seeds = a.shape
    rho, p = _spearman(a.mean(1), b.mean(1))
    if seeds < 2:
        return RankCorrelation(rho, p, None, None, methods, seeds)
    drawn = np.random.RandomState(0).randint(seeds, size=(draws, seeds))  # frozen: the same in every version
    ranks = [stats.rankdata(side[:, drawn].mean(2), axis=0) for side in (a, b)]  # methods x draws
    left, right = (side - side.mean(0) for side in ranks)
    norm = np.sqrt((left**2).sum(0) * (right**2).sum(0))
    rhos = (left * right).sum(0)[norm > 0] / norm[norm > 0]
    low, high = np.quantile(rhos, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return RankCorrelation(rho, p, float(low), float(high), methods, seeds)


# As text --------------------------------------------------------------------------------------------------------------

NOTHING = "–"
"""What stands in a table where there is no number."""
ALIKE = "≈"
"""Beside a number that no test tells apart from another one."""


def spread(values: Iterable[float], digits: int = 1) -> str:
    """``mean ± half-width``, the mean alone for one value, a dash for none."""
    numbers = list(values)
    return _text(*mean_interval(numbers), f".{digits}f") if numbers else NOTHING


def difference(paired: Paired | None, digits: int = 2) -> str:
    """``+mean ± half-width``, the mean alone for one pair, a dash for none."""
    return _text(paired.difference, paired.half, f"+.{digits}f") if paired else NOTHING


def p_value(p: float | None) -> str:
    """Three decimals, ``<0.001`` below that, a dash for none."""
    if p is None:
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def bounds(low: float, high: float, digits: int = 2) -> str:
    """``-0.12 to +0.34``."""
    return f"{signed(low, digits)} to {signed(high, digits)}"


def signed(value: float, digits: int = 2) -> str:
    """``+0.34``."""
    return _text(value, None, f"+.{digits}f")


def _text(mean: float, half: float | None, form: str) -> str:
    shown = f"{mean:{form}}"
    if float(shown) == 0:
        shown = f"{0:{form}}"  # no minus before a zero
    return shown if half is None else f"{shown} ± {half:{form.removeprefix('+')}}"
