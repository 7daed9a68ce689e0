"""Intervals and tests worked out by hand; quantiles and p-values of 1 and 2 degrees of freedom have closed forms."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.leaderboards.statistics import (
    NOTHING,
    Paired,
    bounds,
    difference,
    gap_closed,
    mean_interval,
    p_value,
    paired_difference,
    rank_correlation,
    spread,
)

T2 = 0.95 * math.sqrt(2 / (1 - 0.95**2))
"""Quantile 0.975 of Student's t with 2 degrees of freedom, 4.3027."""

scores = st.floats(0, 100, allow_nan=False)


def test_mean_interval_by_hand() -> None:
    # 30, 32, 34: mean 32, s = 2, half-width t * 2 / sqrt(3)
    mean, half = mean_interval([30, 32, 34])
    assert mean == 32
    assert half == pytest.approx(T2 * 2 / math.sqrt(3))


def test_one_value_has_no_interval_and_none_is_refused() -> None:
    assert mean_interval([41.5]) == (41.5, None)
    with pytest.raises(ValueError, match="at least one value"):
        mean_interval([])


def test_paired_difference_uses_the_shared_seeds_alone() -> None:
    # differences 10, 12, 14 on seeds 0..2; seeds 7 and 9 have no partner
    a = {0: 40.0, 1: 44.0, 2: 48.0, 7: 99.0}
    b = {2: 34.0, 1: 32.0, 0: 30.0, 9: 0.0}
    paired = paired_difference(a, b)
    assert paired is not None
    assert (paired.difference, paired.n) == (12, 3)
    assert paired.half == pytest.approx(T2 * 2 / math.sqrt(3))
    t = 12 / (2 / math.sqrt(3))
    assert paired.p == pytest.approx(1 - t / math.sqrt(2 + t * t))  # two-sided p of t with 2 degrees of freedom


def test_paired_difference_of_two_pairs() -> None:
    # differences -1 and -3: mean -2, s = sqrt(2), standard error 1, t = -2 with 1 degree of freedom (Cauchy)
    paired = paired_difference({0: 39.0, 1: 41.0}, {0: 40.0, 1: 44.0})
    assert paired is not None
    assert paired.difference == -2
    assert paired.half == pytest.approx(math.tan(math.pi * 0.475))
    assert paired.p == pytest.approx(1 - 2 / math.pi * math.atan(2))


def test_few_or_constant_differences() -> None:
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    assert paired_difference({0: 5.0}, {0: 3.0}) == Paired(2.0, None, 1, None)
    assert paired_difference({0: 5.0, 1: 6.0}, {0: 3.0, 1: 4.0}) == Paired(2.0, 0.0, 2, 0.0)
    assert paired_difference({0: 5.0, 1: 6.0}, {0: 5.0, 1: 6.0}) == Paired(0.0, 0.0, 2, 1.0)


@given(st.dictionaries(st.integers(0, 9), scores, min_size=3), st.dictionaries(st.integers(0, 9), scores, min_size=3))
def test_swapping_the_two_flips_the_sign_and_nothing_else(a: dict[int, float], b: dict[int, float]) -> None:
    forth, back = paired_difference(a, b), paired_difference(b, a)
    if forth is None or back is None:
        assert forth is back is None
        return
    assert back.difference == pytest.approx(-forth.difference)
    assert back.half == pytest.approx(forth.half)
    assert back.p == pytest.approx(forth.p)
    if forth.half is not None and forth.p is not None and forth.half > 1e-6:  # the interval and the test agree
        assert (abs(forth.difference) > forth.half) == (forth.p < 0.05)


def test_gap_closed_by_seed() -> None:
    # seed 0: 10 of 40, seed 1: 12 of 30; seed 2 lacks an oracle, on seed 3 the oracle is below source-only
    miou = {0: 40.0, 1: 44.0, 2: 50.0, 3: 50.0}
    floor = {0: 30.0, 1: 32.0, 2: 30.0, 3: 45.0}
    ceiling = {0: 70.0, 1: 62.0, 3: 44.0}
    assert gap_closed(miou, floor, ceiling) == {0: 25.0, 1: 40.0}


def test_the_ends_of_the_gap_are_0_and_100_percent() -> None:
    floor, ceiling = {0: 30.0, 1: 32.0}, {0: 70.0, 1: 71.0}
    assert gap_closed(floor, floor, ceiling) == {0: 0.0, 1: 0.0}
    assert gap_closed(ceiling, floor, ceiling) == {0: 100.0, 1: 100.0}


def test_rank_correlation_by_hand() -> None:
    # Published order a < b < c < d; measured a < c < b < d: differences of rank 0, 1, 1, 0: 1 - 6 * 2 / (4 * 15) = 0.8
    measured = {"a": {0: 1.0}, "b": {0: 3.0}, "c": {0: 2.0}, "d": {0: 4.0}, "unpublished": {0: 9.0}}
    published = {"a": 10.0, "b": 11.0, "c": 12.0, "d": 13.0, "unmeasured": 1.0}
    correlation = rank_correlation(measured, published)
    assert correlation is not None and (correlation.methods, correlation.seeds, correlation.low) == (4, 1, None)
    assert correlation.rho == pytest.approx(0.8)
    assert correlation.p == pytest.approx(
        8 / 24
    )  # of 24 orders one is the same, three are one exchange off; and their reverses


def test_three_methods_in_the_same_order_are_no_proof() -> None:
    """A third of the orders of three are as good, in one direction or the other; the t approximation would say p = 0."""
    measured = {name: {0: value} for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0))}
    correlation = rank_correlation(measured, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert correlation is not None and correlation.p == pytest.approx(2 / 6)


def test_what_the_order_of_sums_changes_is_no_difference() -> None:
    a = {seed: 40.0 + seed for seed in range(4)}
    b = {seed: value + (1e-12 if seed else -1e-12) for seed, value in a.items()}
    paired = paired_difference(a, b)
    assert paired is not None and (paired.difference, paired.half, paired.p) == (0.0, 0.0, 1.0)


def test_rank_correlation_interval_is_over_seeds_and_reproducible() -> None:
    # Seed 0 has the published order, seed 1 the opposite one: the mean is decided by how often each is drawn.
    measured = {"a": {0: 0.0, 1: 3.0}, "b": {0: 1.0, 1: 1.5}, "c": {0: 2.0, 1: 0.0}}
    correlation = rank_correlation(measured, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert correlation is not None and (correlation.low, correlation.high) == pytest.approx((-1.0, 1.0))
    assert rank_correlation(measured, {"a": 1.0, "b": 2.0, "c": 3.0}) == correlation
    same = {name: {seed: values[0] for seed in range(3)} for name, values in measured.items()}
    steady = rank_correlation(same, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert steady is not None and (steady.rho, steady.low, steady.high) == pytest.approx((1.0, 1.0, 1.0))


def test_rank_correlation_uses_shared_seeds_and_needs_three_methods() -> None:
    measured = {"a": {0: 1.0, 1: 9.0}, "b": {0: 2.0}, "c": {0: 3.0, 2: 0.0}}
    correlation = rank_correlation(measured, {"a": 1.0, "b": 2.0, "c": 3.0})
    assert correlation is not None and correlation.rho == pytest.approx(1.0) and correlation.seeds == 1
    assert rank_correlation(measured, {"a": 1.0, "b": 2.0}) is None
    assert rank_correlation({}, {}) is None
    assert rank_correlation({"a": {0: 1.0}, "b": {1: 1.0}, "c": {0: 1.0}}, {"a": 1.0, "b": 2.0, "c": 3.0}) is None
    assert rank_correlation(measured, {"a": 1.0, "b": 1.0, "c": 1.0}) is None


def test_as_text() -> None:
    assert spread([30, 32, 34]) == "32.0 ± 5.0"
    assert spread([41.26]) == "41.3"
    assert spread([]) == NOTHING
    assert difference(Paired(12, 4.968, 3, 0.009)) == "+12.00 ± 4.97"
    assert difference(Paired(-0.004, None, 1, None)) == "+0.00"
    assert difference(None) == NOTHING
    assert p_value(0.0742) == "0.074"
    assert p_value(0.0004) == "<0.001"
    assert p_value(None) == NOTHING
    assert bounds(-0.004, 0.128) == "+0.00 to +0.13" and bounds(-1.26, -0.5, 1) == "-1.3 to -0.5"
