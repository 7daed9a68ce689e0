"""Holm's correction, places and groups, worked out by hand or against brute force."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.leaderboards.ranking import Family, family, holm
from bench.leaderboards.statistics import Paired

NAMES = ("w", "x", "y", "z")


def test_holm_by_hand() -> None:
    # Sorted: 0.01 * 4, 0.02 * 3, 0.03 * 2, 0.04 * 1 = 0.04, 0.06, 0.06, 0.04 -> at least the one before: 0.06
    assert holm([0.04, 0.01, 0.03, 0.02]) == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]  # never above 1
    assert holm([]) == [] and holm([0.03]) == [0.03]


def test_rows_without_a_test_do_not_count() -> None:
    assert holm([None, 0.01, None, 0.04]) == [None, 0.02, None, 0.04]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_rejects_what_the_step_down_rule_rejects(p: list[float]) -> None:
    """Against the rule as Holm states it: go up the sorted values while p_(i) <= alpha / (m - i + 1)."""
    for alpha in (0.05, 0.3):
        rejected = 0
        for rank, value in enumerate(sorted(p)):
            if value * (len(p) - rank) > alpha:
                break
            rejected += 1
        corrected = holm(p)
        assert sum(x is not None and x <= alpha for x in corrected) == rejected
        assert all(x is not None and x >= value for x, value in zip(corrected, p, strict=True))


def family_with(apart: set[str], names: tuple[str, ...] = NAMES) -> Family:
    """A family in which the given pairs ("wx": w above x) are told apart."""
    pairs = list(itertools.permutations(names, 2))
    sign = {(a, b): 1 if names.index(a) < names.index(b) else -1 for a, b in pairs}
    differences = {pair: Paired(float(sign[pair]), 1.0, 8, 0.5) for pair in pairs}
    corrected = {(a, b): 0.01 if {a + b, b + a} & apart else 0.2 for a, b in pairs}
    return Family(names, differences, corrected)


def test_places_and_letters_by_hand() -> None:
    # w is above y and z, x above z: w 1-2, x 1-3, y 2-4, z 3-4; alike are wx, xy, yz
    ranking = family_with({"wy", "wz", "xz"})
    assert [ranking.places(name) for name in NAMES] == [(1, 2), (1, 3), (2, 4), (3, 4)]
    assert ranking.groups == [("w", "x"), ("x", "y"), ("y", "z")]
    assert ranking.letters == {"w": "a", "x": "a b", "y": "b c", "z": "c"}


def test_all_alike_and_all_apart() -> None:
    alike, apart = family_with(set()), family_with({a + b for a, b in itertools.combinations(NAMES, 2)})
    assert alike.groups == [NAMES] and {alike.places(name) for name in NAMES} == {(1, 4)}
    assert apart.groups == [(name,) for name in NAMES] and [apart.places(name) for name in NAMES] == [
        (i, i) for i in (1, 2, 3, 4)
    ]
    assert "".join(apart.letters.values()) == "abcd"


def test_groups_need_not_be_neighbours() -> None:
    # x varies so little that it is told apart from w and y, which are not told apart from each other
    assert family_with({"wx", "xy", "wz", "xz", "yz"}).groups == [("w", "y"), ("x",), ("z",)]


@given(st.sets(st.sampled_from([a + b for a, b in itertools.combinations("abcdef", 2)])))
@settings(max_examples=60, deadline=None)
def test_groups_are_the_largest_sets_of_alike(apart: set[str]) -> None:
    """Against brute force over all subsets."""
    names = tuple("abcdef")
    subsets = [set(c) for n in range(1, 7) for c in itertools.combinations(names, n)]
    alike = [s for s in subsets if all(a + b not in apart for a, b in itertools.combinations(sorted(s), 2))]
    largest = [s for s in alike if not any(s < larger for larger in alike)]
    groups = family_with(apart, names).groups
    assert sorted(map(sorted, groups)) == sorted(map(sorted, largest))
    for name in names:
        low, high = family_with(apart, names).places(name)
        assert 1 <= low <= 1 + names.index(name) <= high <= 6


def test_a_family_from_scores() -> None:
    # a - b: 1, 1.1, 0.9, 1 (s = 0.0816, t = 24.5, 3 degrees of freedom); c is noise around b
    scores = {
        "b": {0: 50.0, 1: 52.0, 2: 54.0, 3: 51.0},
        "a": {0: 51.0, 1: 53.1, 2: 54.9, 3: 52.0},
        "c": {0: 48.0, 1: 54.0, 2: 53.0, 3: 52.5},
        "gone": {},
    }
    ranking = family(scores)
    assert ranking.names == ("a", "c", "b")
    assert ranking.differences["a", "b"].difference == pytest.approx(1)
    assert ranking.differences["b", "a"].difference == pytest.approx(-1)
    raw = ranking.differences["a", "b"].p
    assert raw is not None and ranking.corrected["b", "a"] == pytest.approx(3 * raw)  # the smallest of three
    assert ranking.told_apart("a", "b") and not ranking.told_apart("a", "c")
    assert [ranking.places(name) for name in ranking.names] == [(1, 2), (1, 3), (2, 3)]
    assert ranking.letters == {"a": "a", "c": "a b", "b": "b"}


def test_few_replicates_tell_nothing_apart() -> None:
    ranking = family({"a": {0: 60.0}, "b": {0: 50.0}, "c": {1: 40.0}})
    assert ranking.places("a") == ranking.places("c") == (1, 3) and ranking.letters == {"a": "a", "b": "a", "c": "a"}
    assert ("a", "c") not in ranking.differences and ranking.corrected["a", "b"] is None
    assert family({}).groups == [] or family({}).names == ()


def test_many_alike_are_one_group_at_once() -> None:
    names = tuple(f"m{i:02d}" for i in range(40))
    assert family_with(set(), names).groups == [names] and math.comb(40, 2) == 780
