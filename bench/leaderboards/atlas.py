"""The atlas: shifts named ``atlas-…``, each of which moves one cause, and the rows and ranks of methods over them.

A *block* is a replicate of a shift: its methods share worlds and source model. Methods are ranked where they have every block, so
that all of them are compared on the same ones; what they score elsewhere stands in the tables and in no rank. The unit of the
tests is the shift: a method's score there is its mean over the blocks. Its replicates are drawn from the same two domains, so they
repeat one answer to "which shift is this method for?", and counting each as a data set of its own would make of six answers
twenty-four.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from bench.runs.config import method_class

from .rank_tests import Agreement, Floats, agreement, critical_difference, drawn_ranks, likeness, nemenyi, ranks_of
from .ranking import ALPHA, Family, family, holm
from .standings import Group, name_of, title_of
from .statistics import Paired, paired_difference

PREFIX = "atlas-"
FLOOR, CEILING = "source_only", "oracle"
Key = tuple[str, tuple[str, ...]]
"""A method, and the variant of it: ``("stpl", ("teacher=none",))``."""


@dataclass(frozen=True)
class Row:
    """A method or a variant of one, and its mIoU in percent by seed, by shift."""

    key: Key
    miou: Mapping[str, Mapping[int, float]]

    @property
    def name(self) -> str:
        """What it is called in code: ``stpl``, ``stpl teacher=none``."""
        return name_of(*self.key)

    @property
    def title(self) -> str:
        """What people call it."""
        return title_of(*self.key)

    @property
    def setting(self) -> str:
        return str(method_class(self.key[0]).card.setting)

    def lacks(self, blocks: Mapping[str, Sequence[int]]) -> dict[str, list[int]]:
        """Seeds without a record, by shift."""
        missing = {shift: [s for s in seeds if s not in self.miou.get(shift, {})] for shift, seeds in blocks.items()}
        return {shift: seeds for shift, seeds in missing.items() if seeds}


def ingredients_of(group: Group) -> str:
    """``common`` or ``published``: one of the two tables, which are never mixed."""
    return next(iter(group.records.values())).config.ingredients


def key_of(group: Group) -> Key | None:
    """The row that a group belongs to, whatever its ingredients (:attr:`Group.is_row`). None where other options were changed."""
    options = tuple(text for text in group.altered if not text.startswith("ingredients="))
    return (group.method, options) if replace(group, altered=options).is_row else None


def rows_of(groups: Mapping[str, Iterable[Group]], ingredients: str) -> list[Row]:
    """Rows by key, from groups by shift."""
    scores: dict[Key, dict[str, Mapping[int, float]]] = {}
    for shift, shift_groups in groups.items():
        for group in shift_groups:
            if (key := key_of(group)) is not None and ingredients_of(group) == ingredients:
                scores.setdefault(key, {})[shift] = group.miou
    return [Row(key, miou) for key, miou in sorted(scores.items())]


def blocks_of(shifts: Iterable[str], rows: Sequence[Row]) -> dict[str, list[int]]:
    """Seeds by shift that at least half of the rows with records there have: one more of a single row makes nobody else incomplete,
    nor one less. Shifts without such a seed are left out."""
    blocks = {}
    for shift in shifts:
        scores = [row.miou[shift] for row in rows if shift in row.miou]
        seeds = sorted({seed for by_seed in scores for seed in by_seed})
        blocks[shift] = [seed for seed in seeds if 2 * sum(seed in by_seed for by_seed in scores) >= len(scores)]
    return {shift: seeds for shift, seeds in blocks.items() if seeds}


@dataclass(frozen=True)
class Ranking:
    """Ranks of rows that have every block.

    Attributes:
        rows: best mean rank first.
        blocks: seeds by shift.
    """

    rows: tuple[Row, ...]
    blocks: Mapping[str, Sequence[int]]

    @classmethod
    def of(cls, rows: Sequence[Row], blocks: Mapping[str, Sequence[int]]) -> Ranking:
        """Rank rows that are given in any order."""
        mean = cls(tuple(rows), blocks).mean if rows else ()
        order = sorted(range(len(rows)), key=lambda i: (mean[i], rows[i].key))
        return cls(tuple(rows[i] for i in order), blocks)

    @cached_property
    def scores(self) -> Floats:
        """Mean mIoU over the blocks of each shift ``(shifts, rows)``."""
        blocks = self.blocks.items()
        means = [[np.mean([row.miou[shift][seed] for seed in seeds]) for row in self.rows] for shift, seeds in blocks]
        return np.array(means, np.float64)

    @cached_property
    def ranks(self) -> Floats:
        """Ranks of the scores within each shift, ``(shifts, rows)``; 1 is best."""
        return ranks_of(self.scores)

    @cached_property
    def mean(self) -> Floats:
        """Mean rank over shifts."""
        return np.asarray(self.ranks.mean(0), np.float64)

    @cached_property
    def interval(self) -> Floats | None:
        """95 % interval of each mean rank, shifts drawn anew: ``(2, rows)``; None for fewer than two shifts."""
        return drawn_ranks(self.ranks)

    @cached_property
    def agreement(self) -> Agreement | None:
        """How far the shifts order the rows alike."""
        return agreement(self.scores)

    @cached_property
    def critical(self) -> float:
        """Nemenyi's critical difference of mean ranks."""
        return critical_difference(len(self.rows), len(self.blocks))

    @cached_property
    def nemenyi(self) -> Family:
        """All pairs of rows, by name."""
        return nemenyi([row.name for row in self.rows], self.mean.tolist(), len(self.blocks))

    @cached_property
    def _by_block(self) -> tuple[Floats, list[str]]:
        blocks = [(shift, seed) for shift, seeds in self.blocks.items() for seed in seeds]
        scores = np.array([[row.miou[shift][seed] for row in self.rows] for shift, seed in blocks], np.float64)
        return ranks_of(scores), [shift for shift, _ in blocks]

    @cached_property
    def over_blocks(self) -> Floats:
        """Mean rank over all blocks, each ranked by itself."""
        return np.asarray(self._by_block[0].mean(0), np.float64)

    @property
    def likeness(self) -> tuple[float | None, float | None]:
        """Mean rank correlation of two replicates of one shift, and of two of different shifts."""
        return likeness(*self._by_block)

    def by_shift(self) -> dict[str, dict[int, float]]:
        """Minus the rank by number of the shift, by name of the row: the higher, the better."""
        return {row.name: dict(enumerate((-self.ranks[:, i]).tolist())) for i, row in enumerate(self.rows)}


@dataclass(frozen=True)
class Atlas:
    """The rows of one set of ingredients over the shifts that have any."""

    shifts: tuple[str, ...]
    rows: tuple[Row, ...]

    @classmethod
    def of(cls, groups: Mapping[str, Iterable[Group]], ingredients: str = "common") -> Atlas:
        """The rows of some ingredients, from groups by shift."""
        rows = rows_of(groups, ingredients)
        return cls(tuple(shift for shift in sorted(groups) if any(shift in row.miou for row in rows)), tuple(rows))

    @cached_property
    def blocks(self) -> dict[str, list[int]]:
        """Seeds by shift on which methods are compared; the oracle has no say in it."""
        return blocks_of(self.shifts, [row for row in self.rows if row.setting != "oracle"])

    def _ranking(self, *settings: str) -> Ranking:
        """Ranking of the complete rows of some settings."""
        rows = [row for row in self.rows if row.setting in settings and not row.lacks(self.blocks)]
        return Ranking.of(rows if self.blocks else [], self.blocks)

    @cached_property
    def source_free(self) -> Ranking:
        """Ranking of the source-free methods alone."""
        return self._ranking("SFDA")

    @cached_property
    def everybody(self) -> Ranking:
        """Ranking of all methods but the oracle, which sees the labels of the target."""
        return self._ranking("none", "SFDA", "UDA")

    @property
    def incomplete(self) -> list[Row]:
        """Rows that are not ranked."""
        return [row for row in self.rows if row.setting != "oracle" and row.lacks(self.blocks)]

    @cached_property
    def gains(self) -> dict[Key, dict[str, Paired]]:
        """mIoU points over source-only by row and shift, where they share a replicate; source-only itself is left out."""
        floor = next((row.miou for row in self.rows if row.key == (FLOOR, ())), {})
        gains: dict[Key, dict[str, Paired]] = {row.key: {} for row in self.shown if row.key != (FLOOR, ())}
        for row in self.rows:
            for shift, scores in row.miou.items():
                gain = paired_difference(scores, floor.get(shift, {}))
                if row.key in gains and gain is not None:
                    gains[row.key][shift] = gain
        return gains

    @cached_property
    def gained(self) -> dict[str, list[str]]:
        """By shift, the rows that are told apart from source-only: paired t-tests, Holm-corrected over the shift's rows."""
        told: dict[str, list[str]] = {}
        for shift in self.shifts:
            tests = {row.name: gains[shift] for row in self.rows if shift in (gains := self.gains.get(row.key, {}))}
            corrected = holm([test.p for test in tests.values()])
            told[shift] = [name for name, p in zip(tests, corrected, strict=True) if p is not None and p < ALPHA]
        return told

    @cached_property
    def shown(self) -> list[Row]:
        """Rows as tables show them: source-only, the ranked ones, those that are not, the oracle."""
        places = {row.key: i for i, row in enumerate(self.everybody.rows)}

        def order(row: Row) -> tuple[bool, bool, int, Key]:
            return row.setting == "oracle", row.setting != "none", places.get(row.key, len(places)), row.key

        return sorted(self.rows, key=order)

    @property
    def empty(self) -> int:
        """Number of pairs of a row and a shift without a record."""
        return sum(shift not in row.miou for row in self.rows for shift in self.shifts)

    @cached_property
    def contests(self) -> dict[str, Family]:
        """By shift, the source-free rows that have its every block, all pairs tested over its blocks (:mod:`.ranking`)."""
        families = {}
        for shift in self.shifts:
            seeds = self.blocks.get(shift, [])
            rows = [row for row in self.rows if row.setting == "SFDA" and not row.lacks({shift: seeds})]
            families[shift] = family({row.name: {seed: row.miou[shift][seed] for seed in seeds} for row in rows})
        return families

    @cached_property
    def leaders(self) -> dict[str, list[str]]:
        """By shift, the best source-free row and those that are not told apart from it, by name, the best mean first; the best
        alone where one replicate leaves nothing to test."""
        return {
            shift: [
                name
                for name in contest.names
                if name == contest.names[0] or (shift in self.tested and not contest.told_apart(contest.names[0], name))
            ]
            for shift, contest in self.contests.items()
        }

    @cached_property
    def tested(self) -> list[str]:
        """Shifts with a test between source-free methods: several replicates."""
        return [
            shift for shift, contest in self.contests.items() if any(p is not None for p in contest.corrected.values())
        ]
