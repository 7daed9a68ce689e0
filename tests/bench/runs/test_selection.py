"""The two rules that select a snapshot beside the last one: each looks at its own score, and their results stay apart."""

from __future__ import annotations

import pytest

from bench.runs.selection import Snapshot, oracle, unsupervised

SNAPSHOTS = [Snapshot(2, 0.9, 40.0), Snapshot(4, 1.5, 38.0), Snapshot(6, 1.1, 39.0)]


def test_each_rule_looks_at_its_own_number() -> None:
    assert unsupervised(SNAPSHOTS).step == 4
    assert oracle(SNAPSHOTS).step == 2


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
def test_the_order_does_not_matter(order: list[int]) -> None:
    shuffled = [SNAPSHOTS[i] for i in order]
    assert [rule(shuffled).step for rule in (unsupervised, oracle)] == [4, 2]


def test_a_tie_goes_to_the_later_one() -> None:
    tied = [Snapshot(2, 1.0, 40.0), Snapshot(4, 1.0, 40.0)]
    assert unsupervised(tied).step == 4 and oracle(tied).step == 4


def test_one_snapshot() -> None:
    only = [Snapshot(0, float("-inf"), 1.0)]
    assert unsupervised(only) == oracle(only) == only[0]
