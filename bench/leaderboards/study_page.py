"""Reports of studies: a page with conclusions, tables and a figure, from the records of the study's runs.

A study is a list of rows (a label, a method, options), each on the same replicates. Everything here, the sentences of the
conclusion included, is computed: a difference is called one where the paired t-test over replicates, corrected by Holm for the
number of comparisons of its table, has p < 0.05; else the rows "cannot be told apart", which does not mean that they are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from bench.core.errors import RunError
from bench.core.text import beside, code, listed, plain, table
from bench.runs.config import RunConfig, alterations, canonical, every_setting, load_shift
from bench.runs.records import Record
from bench.runs.sequences import FILE as SEQUENCES
from bench.runs.sequences import Counts, read_sequences
from bench.sweeps.study import Study, StudyRow, expand, load_study, study_names

from .cost import median_cost
from .drive import BLOCK, by_frame
from .provenance import provenance
from .ranking import family
from .standings import Group, group_of
from .statistics import spread
from .study_factors import Factor, Factors, factors_of, value_of, value_text
from .study_text import Comparison, compare, sentence
from .tables import comparisons

HEAD = "# Study: "
Sequences = Mapping[str, Mapping[str, Counts]]


@dataclass(frozen=True)
class Row:
    """A row of a study with the records that it has so far."""

    label: str
    method: str
    group: Group
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Report:
    """A study on a shift, with its records.

    Attributes:
        name: of the study; names the page.
        title: one line.
        question: what it asks.
        shift: the benchmark, as its runs name it.
        rows: in the study's order; those without a record are left out.
        reference: index of the row that the others are compared with.
        words: how values are called, by option and value as text.
        missing: labels of the rows without a record.
    """

    name: str
    title: str
    question: str
    shift: str
    rows: tuple[Row, ...]
    reference: int
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def stem(self) -> str:
        """Name of its files: the shift, which may have been given as a file, and the study."""
        return f"{load_shift(self.shift).name}-{self.name}"

    @property
    def page_name(self) -> str:
        """File of the page, beside the leaderboard's."""
        return f"{self.stem}.md"

    @property
    def records(self) -> list[Record]:
        """All records, by row and seed."""
        return [row.group.records[seed] for row in self.rows for seed in sorted(row.group.records)]

    @cached_property
    def factors(self) -> Factors:
        """What varies over the rows."""
        return factors_of([row.values for row in self.rows])

    @cached_property
    def conclusions(self) -> list[str]:
        """Two sentences, one where there is one comparison to make: of each factor averaged over the other one, where two
        options vary; else of the rows with the reference, and of all rows among themselves."""
        if self.factors.crossed:
            averaged = [self.averaged(factor) for factor in self.factors.crossed]
            names = [f"Averaged over {code(other_factor.name)}, " for other_factor in reversed(self.factors.crossed)]
            return [sentence(comparison, start=start) for comparison, start in zip(averaged, names, strict=True)]
        sentences = [
            sentence(compare({row.label: row.group.miou for row in self.rows}, self.rows[self.reference].label))
        ]
        return sentences + ([_groups(self.rows)] if len(self.rows) > 2 else [])

    @property
    def gaps(self) -> list[str]:
        """Sentences on the rows without records, and on those with fewer replicates than the others, where there are any."""
        sentences = []
        if self.missing:
            are = "is in no comparison: it has" if len(self.missing) == 1 else "are in no comparison: they have"
            sentences.append(f"{listed(map(code, self.missing))} {are} no records here.")
        most = max(len(row.group.records) for row in self.rows)
        fewer = [row for row in self.rows if len(row.group.records) < most]
        if fewer:
            counts = " or ".join(map(str, sorted({len(row.group.records) for row in fewer})))
            sentences.append(
                f"{len(fewer)} of {len(self.rows)} rows have {counts} of {most} replicates. A difference is over those that both "
                "have, so it need not be that of the means in the table."
            )
        return sentences

    @property
    def summary(self) -> str:
        """The first conclusion."""
        return self.conclusions[0]

    def named(self, factor: Factor, level: Any) -> str:
        """A value of an option in words, ``option=value`` where there are none."""
        text = value_text(level)
        return self.words.get(factor.name, {}).get(text, f"{factor.name}={text}")

    def averaged(self, factor: Factor) -> Comparison:
        """Levels of a factor, each averaged over those of the other one, compared with the reference's level."""
        other_factor = next(candidate for candidate in self.factors.crossed if candidate != factor)
        cells = {(value_of(r.values, factor), value_of(r.values, other_factor)): r.group.miou for r in self.rows}
        means = {}
        for level in factor.levels:
            level_scores = [cells.get((level, across), {}) for across in other_factor.levels]
            seeds = sorted(set.intersection(*(set(scores) for scores in level_scores)))
            means[self.named(factor, level)] = {
                seed: sum(scores[seed] for scores in level_scores) / len(level_scores) for seed in seeds
            }
        home = value_of(self.rows[self.reference].values, factor)
        return compare({name: scores for name, scores in means.items() if scores}, self.named(factor, home))

    @property
    def text(self) -> str:
        """The page."""
        shift = load_shift(self.shift)
        parts = [
            f"{HEAD}{plain(self.title)}",
            f"{plain(self.question)} On [{plain(shift.title)}]({shift.name}.md). Made by `bench leaderboard` from "
            f"[records/{shift.name}](records/{shift.name}); do not edit.",
            "\n".join(f"- {line}" for line in [*self.conclusions, *self.gaps]),
            f"![{plain(self.title)}](figures/{self.stem}.png)",
            "## Rows",
            f"mIoU: mean ± 95 % t-interval over n replicates. Difference: row minus {code(self.rows[self.reference].label)}, mIoU "
            f"points, paired by replicate. p: paired t-test, two-sided; Holm: corrected for the number of rows. {self._bootstrap} "
            "Group: rows that share a letter cannot be told apart "
            "(t-tests, all pairs, Holm-corrected). With few replicates only large differences can be told.",
            self.table,
        ]
        for factor in self.factors.crossed:
            comparison = self.averaged(factor)
            other_factor = next(candidate for candidate in self.factors.crossed if candidate != factor)
            parts += [
                f"## {plain(factor.name)}, averaged over {plain(other_factor.name)}",
                comparison.table(factor.name),
            ]
        return "\n\n".join([*parts, "## Provenance", provenance(shift, self.records)]) + "\n"

    @property
    def _bootstrap(self) -> str:
        """What its columns are of, and where frames are the same in every replicate, what the t-tests leave out."""
        if not by_frame(load_shift(self.shift)):
            return "Bootstrap: both on the same draw of replicates and, within them, target sequences."
        return (
            f"Bootstrap: both on the same draw of replicates and of blocks of {BLOCK} frames. All replicates are scored on the "
            "same frames, and t-tests know chance in adaptation alone: what they tell apart is told apart on these frames."
        )

    @property
    def table(self) -> str:
        """A line per row."""
        reference = self.rows[self.reference]
        compared = [row for row in self.rows if row is not reference]
        tested = iter(comparisons([(row.group, reference.group) for row in compared]))
        letters = family({row.label: row.group.miou for row in self.rows}).letters
        empty: dict[str, str] = {}
        lines, sides = [], []
        for row in self.rows:
            group = row.group
            facts = {
                "row": plain(row.label),
                "method": code(row.method),
                "changed options": ", ".join(map(code, group.altered)) or "none",
                "n": str(len(group.records)),
                "mIoU, %": spread(group.miou.values()),
                "temporal cons., %": spread(group.of(lambda record: record.result.temporal_consistency).values()),
                "CPU s/step": median_cost(group),
                "group": letters.get(row.label, ""),
            }
            lines.append(facts)
            sides.append(empty if row is reference else next(tested))
        columns = next((side for side in sides if side), {})
        blank = dict.fromkeys(columns, "") | ({"difference": "reference"} if columns else {})
        return table(beside(lines, [side or blank for side in sides]))


def _groups(rows: Sequence[Row]) -> str:
    """How many pairs of all rows can be told apart, and which rows the best cannot be told apart from."""
    pairs = family({row.label: row.group.miou for row in rows})
    tested = [
        pair
        for pair, p in pairs.corrected.items()
        if p is not None and pairs.names.index(pair[0]) < pairs.names.index(pair[1])
    ]
    if not tested:
        return "With one replicate no pair of rows can be tested."
    apart = sum(pairs.told_apart(a, b) for a, b in tested)
    best, alike = pairs.names[0], [name for name in pairs.names[1:] if not pairs.told_apart(pairs.names[0], name)]
    start = f"Of all {len(tested)} pairs of rows {apart} can be told apart (Holm-corrected over all of them)"
    if not alike:
        return f"{start}; {code(best)}, the best, is told apart from every other row."
    return f"{start}; the best row, {code(best)}, cannot be told apart from {listed(map(code, alike))}."


# From studies and records ---------------------------------------------------------------------------------------------


def report(
    study: Study,
    expanded: Iterable[tuple[StudyRow, int, RunConfig]],
    shift_name: str,
    records: Iterable[Record],
    sequences: Sequences | None = None,
) -> Report | None:
    """A study's report on a shift; None where it has no two rows with records there, or where no row changes an option: such a
    study is the leaderboard itself.

    Rows without a record are named on the page. The reference is the row that the study names, else the first that changes
    nothing, else the first.

    Args:
        study: a ``bench.sweeps.study.Study``.
        expanded: its rows, seeds and configs, from ``bench.sweeps.study.expand``.
        records: of any runs; those that are not the study's are left alone.

    Raises:
        RunError: the reference has no record: against another row the conclusions would be others.
    """
    by_run = {record.run: record for record in records if record.config.shift == shift_name}
    seeds: dict[str, dict[int, Record]] = {}
    configs: dict[str, tuple[StudyRow, RunConfig]] = {}
    for row, seed, config in expanded:
        if config.shift == shift_name:
            configs.setdefault(row.label, (row, config))
            if config.hash in by_run:
                seeds.setdefault(row.label, {})[seed] = by_run[config.hash]
    keys = sorted({key for row, _ in configs.values() for key in row.options})
    rows = []
    for label, (row, config) in configs.items():
        if label in seeds:
            first = next(iter(seeds[label].values()))
            group = group_of(row.method, alterations(first.config), seeds[label], sequences or {})
            rows.append(Row(label, row.method, group, _values(config, keys)))
    if len(rows) < 2 or not any(row.group.altered for row in rows):
        return None
    missing = tuple(label for label in configs if label not in seeds)
    reference_row = study.reference_row()
    unaltered = (label for label, (_, config) in configs.items() if not alterations(config))
    reference = reference_row.label if reference_row is not None else next(unaltered, next(iter(configs)))
    if reference in missing:
        raise RunError(
            f"Study '{study.name}' on {shift_name}: its reference '{reference}' has no records, and {len(rows)} other rows do; "
            f"run it (bench study {study.name}) and submit it"
        )
    position = [row.label for row in rows].index(reference)
    return Report(study.name, study.title, study.question, shift_name, tuple(rows), position, study.words, missing)


def _values(config: RunConfig, keys: Sequence[str]) -> dict[str, Any]:
    """A run's method and its values of the options ``keys``, defaults included."""
    values: dict[str, Any] = {"method": config.method}
    settings = every_setting(config)
    for key in keys:
        value = settings[key] if key in settings else getattr(config, key, None)
        values[key] = value if isinstance(value, (int, float, str)) else canonical(value)
    return values


def committed_studies() -> list[Study]:
    """The studies in ``bench/sweeps/studies``, sorted by name."""
    return [load_study(name) for name in study_names()]


def reports(shift_name: str, records: Sequence[Record], sequences: Sequences | None = None) -> list[Report]:
    """Reports of the committed studies that have records on a shift, sorted by name."""
    study_reports = [report(study, expand(study), shift_name, records, sequences) for study in committed_studies()]
    return [study_report for study_report in study_reports if study_report is not None]


def sequences_of_runs(runs: Path, records: Iterable[Record]) -> dict[str, dict[str, Counts]]:
    """Pixels per target sequence that finished runs wrote into their own folders, by run; runs without are left out.

    Raises:
        RunError: a file is damaged.
    """
    files = {
        record.run: (runs / record.run / SEQUENCES, load_shift(record.config.shift).score_classes) for record in records
    }
    return {run: read_sequences(path, classes) for run, (path, classes) in files.items() if path.is_file()}
