"""Conclusions in words, from statistics: what differs from a reference, and what cannot be told apart from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.core.text import code, listed, table

from .ranking import ALPHA, holm
from .statistics import Paired, difference, p_value, paired_difference, spread


@dataclass(frozen=True)
class Comparison:
    """Scores of rows, or of an option's values, each compared with those of a reference.

    Attributes:
        scores: by seed, by name, the reference among them.
        reference: its name.
        tests: paired difference to the reference, of every other name.
        corrected: Holm's p-value of the same.
    """

    scores: Mapping[str, Mapping[int, float]]
    reference: str
    tests: Mapping[str, Paired | None]
    corrected: Mapping[str, float | None]

    def table(self, heading: str) -> str:
        """A line per name, in the given order. ``heading``: of the first column, which holds the names."""
        rows = []
        for name, values in self.scores.items():
            test = self.tests.get(name)
            cells = {
                "row": code(name),
                "n": str(len(values)),
                "mIoU, %": spread(values.values()),
                "difference": "reference" if name == self.reference else difference(test),
                "p": "" if name == self.reference else p_value(test.p if test else None),
                "p, Holm": "" if name == self.reference else p_value(self.corrected[name]),
            }
            rows.append({heading if key == "row" else key: cell for key, cell in cells.items()})
        return table(rows, left=(heading,))


def compare(scores: Mapping[str, Mapping[int, float]], reference: str) -> Comparison:
    """Test each name's scores against the reference's, paired by seed; Holm over all comparisons.

    Args:
        scores: mIoU in percent by seed, by name, the reference among them.
        reference: a name.
    """
    names = [name for name in scores if name != reference]
    tests = {name: paired_difference(scores[name], scores.get(reference, {})) for name in names}
    corrected = holm([test.p if test else None for test in tests.values()])
    return Comparison(scores, reference, tests, dict(zip(names, corrected, strict=True)))


def sentence(comparison: Comparison, start: str = "") -> str:
    """One sentence: what differs from the reference by how much, or that nothing can be told apart from it."""
    tested = {name: test for name, test in comparison.tests.items() if test is not None and test.p is not None}
    if not tested:
        return _capitalised(
            start, f"nothing can be tested against {code(comparison.reference)}: there are no two replicates of both."
        )
    by_size = sorted(tested, key=lambda name: -abs(tested[name].difference))
    apart = [name for name in by_size if (p := comparison.corrected[name]) is not None and p < ALPHA]
    rest = [name for name in by_size if name not in apart]
    if not apart:
        largest = by_size[0]
        if len(by_size) == 1:
            return _capitalised(
                start,
                f"{code(largest)} cannot be told apart from {code(comparison.reference)}: {_numbers(comparison, largest)}.",
            )
        none = f"none of the {len(by_size)} others can be told apart from {code(comparison.reference)}"
        return _capitalised(
            start, f"{none}; the largest difference is that of {code(largest)}, {_numbers(comparison, largest)}."
        )
    text = f"{code(apart[0])} differs from {code(comparison.reference)} by {_numbers(comparison, apart[0])}"
    if len(apart) > 1:
        further = [f"{code(name)} ({difference(tested[name])})" for name in apart[1:]]
        text += f", and so {'does' if len(further) == 1 else 'do'} {listed(further)}"
    if rest:
        text += f"; {listed(map(code, rest))} cannot be told apart from it"
    return _capitalised(start, f"{text}.")


def _numbers(comparison: Comparison, name: str) -> str:
    test, p = comparison.tests[name], p_value(comparison.corrected[name])
    count = "p" if len(comparison.corrected) == 1 else "Holm-corrected p"
    replicates = f"{test.n} replicates" if test else ""
    return f"{difference(test)} mIoU points over {replicates} (paired t-test, {count} {f'< {p[1:]}' if p[0] == '<' else f'= {p}'})"


def _capitalised(start: str, text: str) -> str:
    """Start and text as one sentence with a capital; code stays as it is."""
    whole = f"{start}{text}"
    return whole[0].upper() + whole[1:]
