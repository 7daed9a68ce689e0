"""Statistics over replicates: intervals, paired differences, share of the gap closed.

A replicate (``--seed k``) draws its own world, source model and adaptation, so replicates are independent, and two
methods on the same replicate are paired. Values are dictionaries from seed to a score, in the score's unit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

LEVEL = 0.95


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
    differences = np.array([a[seed] - b[seed] for seed in seeds])
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


# As text --------------------------------------------------------------------------------------------------------------

NOTHING = "–"
"""What stands in a table where there is no number."""


def spread(values: Iterable[float], digits: int = 1) -> str:
    """``mean ± half-width``, the mean alone for one value, a dash for none."""
    numbers = list(values)
    return _text(*mean_interval(numbers), f".{digits}f") if numbers else NOTHING


def difference(paired: Paired | None, digits: int = 2) -> str:
    """``+mean ± half-width``, the mean alone for one pair, a dash for none."""
    return _text(paired.difference, paired.half, f"+.{digits}f") if paired else NOTHING


def p_value(paired: Paired | None) -> str:
    """Three decimals, ``<0.001`` below that, a dash for none."""
    if paired is None or paired.p is None:
        return NOTHING
    return "<0.001" if paired.p < 0.001 else f"{paired.p:.3f}"


def _text(mean: float, half: float | None, form: str) -> str:
    shown = f"{mean:{form}}"
    if float(shown) == 0:
        shown = f"{0:{form}}"  # no minus before a zero
    return shown if half is None else f"{shown} ± {half:{form.removeprefix('+')}}"
