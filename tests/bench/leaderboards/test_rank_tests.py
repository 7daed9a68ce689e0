"""Ranks over blocks: ties, Friedman and Kendall against slow formulas, Nemenyi against the literature and a library."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from bench.leaderboards.rank_tests import (
    agreement,
    critical_difference,
    drawn_ranks,
    likeness,
    nemenyi,
    ranks_of,
)


def scores(*blocks: tuple[float, ...]) -> np.ndarray:
    return np.array(blocks, np.float64)


def slow_w(blocks: np.ndarray) -> float:
    """Kendall's W with its correction for ties, in loops: 12 S / (m² (k³ - k) - m Σ (t³ - t))."""
    m, k = blocks.shape
    ranks = [[1 + sum(y > x for y in row) + (sum(y == x for y in row) - 1) / 2 for x in row] for row in blocks.tolist()]
    sums = [sum(row[i] for row in ranks) for i in range(k)]
    s = sum((x - m * (k + 1) / 2) ** 2 for x in sums)
    ties = sum(row.count(x) ** 3 - row.count(x) for row in blocks.tolist() for x in set(row))
    return 12 * s / (m**2 * (k**3 - k) - m * ties)


def test_equal_scores_share_the_mean_of_their_places() -> None:
    ranks = ranks_of(scores((3, 9, 3, 1), (5, 5, 5, 5), (1, 2, 3, 4)))
    assert ranks.tolist() == [[2.5, 1, 2.5, 4], [2.5] * 4, [4, 3, 2, 1]]
    assert ranks_of(scores((0.1 + 0.2, 0.3))).tolist() == [[1.5, 1.5]]  # what the order of a sum changes


@pytest.mark.parametrize("seed", range(4))
def test_kendall_and_friedman_are_the_slow_formulas(seed: int) -> None:
    blocks = np.random.default_rng(seed).integers(0, 5, (6, 7)).astype(float)  # many ties
    kendall = agreement(blocks)
    assert kendall is not None and kendall.w == pytest.approx(slow_w(blocks))
    assert kendall.chi2 == pytest.approx(6 * 6 * kendall.w)  # m (k - 1) W
    assert kendall.p == pytest.approx(stats.chi2.sf(kendall.chi2, 6))


def test_the_ends_of_agreement() -> None:
    same, against = agreement(scores((3, 2, 1), (9, 8, 7))), agreement(scores((3, 2, 1), (1, 2, 3)))
    assert same is not None and same.w == pytest.approx(1)
    assert against is not None and against.w == pytest.approx(0)
    for few in (scores((3, 2, 1)), scores((2, 1), (2, 1)), scores((1, 1, 1), (2, 2, 2))):
        assert agreement(few) is None


def test_the_critical_difference_is_demsars() -> None:
    """JMLR 7, section 3.2.2: four classifiers on 14 data sets, 1.25; table 5: q of 2, 5 and 10 classifiers."""
    assert critical_difference(4, 14) == pytest.approx(1.25, abs=0.005)
    for k, q in {2: 1.960, 5: 2.728, 10: 3.164}.items():
        assert critical_difference(k, 6) == pytest.approx(q * math.sqrt(k * (k + 1) / 36), rel=1e-3)


def test_nemenyi_tells_apart_what_is_further_apart_than_the_critical_difference() -> None:
    mean = [1.0, 2.9, 3.1, 5.0]  # 2.1 is less than 4 methods' difference over 5 blocks, 2.098 is what decides
    names, limit = "abcd", critical_difference(4, 5)
    groups = nemenyi(names, mean, 5)
    assert 2.09 < limit < 2.1
    for (a, x), (b, y) in itertools.combinations(zip(names, mean, strict=True), 2):
        assert groups.told_apart(a, b) == groups.told_apart(b, a) == (y - x > limit)
    assert groups.letters == {"a": "a", "b": "a b", "c": "b c", "d": "c"}


def test_the_interval_is_of_blocks_drawn_anew() -> None:
    ranks = scores((1, 2, 3), (1, 3, 2), (1, 2, 3), (1, 3, 2))
    intervals = drawn_ranks(ranks)
    assert intervals is not None and intervals[:, 0].tolist() == [1, 1]
    assert intervals[:, 1].tolist() == [2, 3] and (intervals == drawn_ranks(ranks)).all()  # all drawn alike: 2 of 16
    assert drawn_ranks(ranks[:1]) is None


def test_replicates_of_a_kind_beside_those_of_another() -> None:
    ranks = scores((1, 2, 3), (1, 2, 3), (3, 2, 1), (2, 1, 3), (2, 2, 2))
    # Within: a: 1, b: rho of 321 and 213, -0.5; between: -1 twice, 0.5 twice. The block of ties has no order.
    assert likeness(ranks, "aabbb") == (pytest.approx(0.25), pytest.approx(-0.25))
    assert likeness(ranks[:2], "ab") == (None, pytest.approx(1))
