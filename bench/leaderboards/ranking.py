"""Many methods at once: p-values corrected by Holm, places that a method may hold, groups that cannot be told apart."""

from __future__ import annotations

import itertools
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from .statistics import Paired, paired_difference

ALPHA = 0.05
"""Chance that any pair of a family is told apart though none differs."""


def holm(p: Sequence[float | None]) -> list[float | None]:
    """P-values corrected for their number (Holm 1979): the i-th smallest of m becomes ``(m - i + 1) p``, at least the one
    before and at most 1. None (no test) stays None and does not count."""
    tested = [i for i, value in enumerate(p) if value is not None]
    order = sorted(tested, key=lambda i: p[i])  # type: ignore[arg-type, return-value]  # those that are not None
    corrected: list[float | None] = [None] * len(p)
    floor = 0.0
    for rank, i in enumerate(order):
        floor = max(floor, min(1.0, (len(order) - rank) * p[i]))  # type: ignore[operator]
        corrected[i] = floor
    return corrected


def larger(p: float | None, q: float | None) -> float | None:
    """The larger of two p-values; None where one of the tests cannot be made."""
    return None if p is None or q is None else max(p, q)


@dataclass(frozen=True)
class Family:
    """All pairs of some methods, tested on the replicates that both have and corrected together.

    Attributes:
        names: best mean first.
        differences: first minus second, of each ordered pair of names; pairs without a shared replicate are missing.
        corrected: Holm's p-value of the same pairs, None where they cannot be tested.
    """

    names: tuple[str, ...]
    differences: Mapping[tuple[str, str], Paired]
    corrected: Mapping[tuple[str, str], float | None]

    def told_apart(self, a: str, b: str) -> bool:
        """Whether the two differ with a corrected p-value below :data:`ALPHA`."""
        p = self.corrected.get((a, b))
        return p is not None and p < ALPHA

    def places(self, name: str) -> tuple[int, int]:
        """Best and worst place that a method may hold: one more than the number of methods that are significantly better,
        and the number of all methods less those that are significantly worse."""
        differences = [self.differences[name, rival].difference for rival in self.names if self.told_apart(name, rival)]
        return 1 + sum(x < 0 for x in differences), len(self.names) - sum(x > 0 for x in differences)

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Largest sets of methods of which no two are told apart, the set with the best method first."""
        import networkx  # a quarter of a second that no other command need wait for

        position = {name: i for i, name in enumerate(self.names)}
        graph = networkx.Graph()
        graph.add_nodes_from(self.names)
        graph.add_edges_from(p for p in itertools.combinations(self.names, 2) if not self.told_apart(*p))
        cliques = [tuple(sorted(group, key=position.__getitem__)) for group in networkx.find_cliques(graph)]
        return sorted(cliques, key=lambda group: [position[name] for name in group])

    @property
    def letters(self) -> dict[str, str]:
        """Letters of the groups that a method belongs to: methods that share one cannot be told apart."""
        names = [*string.ascii_lowercase, *map("".join, itertools.product(string.ascii_lowercase, repeat=2))]
        return {
            name: " ".join(letter for letter, group in zip(names, self.groups, strict=False) if name in group)
            for name in self.names
        }


def family(
    scores: Mapping[str, Mapping[int, float]], second: Callable[[str, str], float | None] | None = None
) -> Family:
    """Test every pair of methods.

    Args:
        scores: by replicate, by method; methods without a score are left out.
        second: p-value of another test that a pair must pass too, None where it cannot be made. The larger of both p-values is that
            of the hypothesis that at least one of them finds nothing (intersection-union test), and is what is corrected.
    """
    means = {
        name: float(np.mean([by_seed[seed] for seed in sorted(by_seed)])) for name, by_seed in scores.items() if by_seed
    }
    names = tuple(sorted(means, key=lambda name: (-means[name], name)))
    pairs = [(a, b) for a, b in itertools.combinations(names, 2) if scores[a].keys() & scores[b].keys()]
    tests = [paired_difference(scores[a], scores[b]) for a, b in pairs]
    differences: dict[tuple[str, str], Paired] = {}
    corrected: dict[tuple[str, str], float | None] = {}
    p_values = [test.p if test else None for test in tests]
    if second is not None:
        p_values = [larger(p, second(a, b)) for (a, b), p in zip(pairs, p_values, strict=True)]
    for (a, b), test, p in zip(pairs, tests, holm(p_values), strict=True):
        if test is not None:
            differences[a, b] = test
            differences[b, a] = Paired(-test.difference, test.half, test.n, test.p)
            corrected[a, b] = corrected[b, a] = p
    return Family(names, differences, corrected)
