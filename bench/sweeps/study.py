"""A study: one question, the rows that answer it, and the seeds they are run on, in one validated YAML (``bench/sweeps/studies``).

Its rows are written out one by one (``rows``), as the product of lists (``grid``), or both. Running it is a sweep
(``bench.sweeps.on_ray``); its table and figure are made from records alone (``bench.leaderboards.study_page``).
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from bench.core.errors import UsageError, unknown
from bench.core.registry import KINDS, ROOT, method_names, resolve
from bench.core.schema import Model, read_yaml
from bench.runs.config import RunConfig, make_run_config
from bench.runs.options import parse_range, plain_value

FOLDER = ROOT / "sweeps" / "studies"

Values = list[Any] | Literal["all"]


@dataclass(frozen=True)
class StudyRow:
    """One configuration of a study.

    Attributes:
        label: its name in tables and figures, unique within the study.
        method: key of the method.
        options: as ``-o`` would set them; also ``init`` (``source`` or ``backbone``).
        factors: value of each factor of the grid in this row (``method`` included); for a row written out, its method and options.
    """

    label: str
    method: str
    options: Mapping[str, Any]
    factors: Mapping[str, Any] = field(default_factory=dict)

    def config(self, shift: str, seed: int, steps: int | None = None) -> RunConfig:
        """The run of this row on one replicate.

        Raises:
            UsageError: unknown method or option, or a value out of range.
        """
        options = dict(self.options)
        return make_run_config(self.method, shift, seed, options, str(options.pop("init", "source")), steps)


def by_name(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options, or lists of their values, in which files of methods, networks and flow backends are named by their names."""

    def named(option: str, value: Any) -> Any:
        if isinstance(value, list):
            return [named(option, element) for element in value]
        kind = option.rpartition(".")[2]
        return resolve(kind, value) if kind in KINDS and isinstance(value, str) else value

    return {option: named(option, value) for option, value in options.items()}


class WrittenRow(Model):
    """A row as it stands in the YAML."""

    label: str = Field(min_length=1)
    method: str
    options: dict[str, Any] = Field(default_factory=dict)

    _method = field_validator("method")(lambda method: resolve("method", method))
    _options = field_validator("options")(by_name)


class Study(Model):
    """A question and how it is answered.

    Attributes:
        seeds: ``"0:3"``, in quotes (bare ``2:5`` is a number of base 60 in YAML), or a list.
        rows: configurations written out.
        grid: lists of values by factor, all combinations; ``method`` is one of the factors (``all`` = every method there is), the
            others are options.
        words: how values are called in labels, by factor and value: ``{times: {both: t and t-1}}``.
        reference: the row that the others are compared with, by label or by its factors.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: str
    question: str
    shift: str = "ministreet"
    seeds: str | list[int]
    rows: tuple[WrittenRow, ...] = ()
    grid: dict[str, Values] = Field(default_factory=dict)
    words: dict[str, dict[str, str]] = Field(default_factory=dict)
    reference: str | dict[str, Any] | None = None

    _shift = field_validator("shift")(lambda shift: resolve("shift", shift))
    _grid = field_validator("grid")(by_name)
    _reference = field_validator("reference")(lambda row: by_name(row) if isinstance(row, dict) else row)

    @field_validator("seeds", mode="before")
    @classmethod
    def _quoted(cls, value: Any) -> Any:
        if isinstance(value, int):  # 2:5 without quotes is 125 to YAML 1.1
            raise ValueError('put seeds in quotes, e.g. seeds: "0:3"')
        return value

    @field_validator("words", mode="before")
    @classmethod
    def _words_of_any_value(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: {_text(x): y for x, y in v.items()} if isinstance(v, dict) else v for k, v in value.items()}

    @model_validator(mode="after")
    def _has_rows(self) -> Study:
        if not self.rows and not self.grid:
            raise ValueError("rows, grid: give at least one of them")
        if self.grid and "method" not in self.grid:
            raise ValueError("grid.method: missing; name the methods, e.g. method: [stpl]")
        for name, values in self.grid.items():
            if not values or (values == "all" and name != "method"):
                raise ValueError(f"grid.{name}: give a list of at least one value")
        if stray := set(self.words) - set(self.grid):
            raise ValueError(f"words.{min(stray)}: the grid has no such factor")
        return self

    @property
    def replicates(self) -> list[int]:
        """The seeds."""
        return list(parse_range("seeds", self.seeds)) if isinstance(self.seeds, str) else self.seeds

    def all_rows(self) -> list[StudyRow]:
        """Every row, those written out first.

        Raises:
            UsageError: two rows of one label or one configuration.
        """
        written = [
            StudyRow(row.label, row.method, clean(row.options), {"method": row.method, **clean(row.options)})
            for row in self.rows
        ]
        rows = [*written, *grid_rows(self.grid, self.words)]
        for row in rows:
            if sum(row.label == other.label for other in rows) > 1:
                raise UsageError(f"Study '{self.name}': two rows are called '{row.label}'")
        return rows

    def reference_row(self) -> StudyRow | None:
        """The row that the others are compared with, None where the study names none.

        Raises:
            UsageError: it names no row, or several.
        """
        if self.reference is None:
            return None
        rows = self.all_rows()
        if isinstance(self.reference, str):
            matches = [row for row in rows if row.label == self.reference]
        else:
            factors = clean(self.reference).items()
            matches = [row for row in rows if factors <= row.factors.items()]
        if len(matches) != 1:
            labels = ", ".join(row.label for row in (matches or rows))
            raise UsageError(f"Study '{self.name}': reference names {len(matches)} rows instead of one: {labels}")
        return matches[0]


def clean(options: Mapping[str, Any]) -> dict[str, Any]:
    """Values as ``-o`` reads them: ``1e-3`` is a number, an empty value is ``none``."""
    return {key: plain_value(value) for key, value in options.items()}


def grid_rows(grid: Mapping[str, Values], words: Mapping[str, Mapping[str, str]] | None = None) -> list[StudyRow]:
    """All combinations of a grid, the first factor slowest; labels are made of the factors that vary."""
    if not grid:
        return []
    lists = {name: method_names() if values == "all" else list(values) for name, values in grid.items()}
    varying = [name for name, values in lists.items() if len(values) > 1] or ["method"]
    rows = []
    for combination in itertools.product(*lists.values()):
        factors = clean(dict(zip(lists, combination, strict=True)))
        parts = []
        for name in varying:
            text = _text(factors[name])
            wording = (words or {}).get(name, {})
            parts.append(wording.get(text, text if name in ("method", "fusion", "flow") else f"{name}={text}"))
        method = str(factors["method"])
        rows.append(StudyRow(", ".join(parts), method, {k: v for k, v in factors.items() if k != "method"}, factors))
    return rows


def _text(value: Any) -> str:
    """A value as it is typed: ``true``, not ``True``."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def expand(study: Study, seeds: Sequence[int] | None = None) -> list[tuple[StudyRow, int, RunConfig]]:
    """Every run of a study, the seeds of a row one after another.

    Args:
        seeds: others than the study's own.

    Raises:
        UsageError: a row that cannot be run, with its label; two rows that are the same run.
    """
    runs, labels = [], dict[str, str]()
    for row in study.all_rows():
        template: RunConfig | None = None  # once for all replicates: to make one takes 5 ms
        for seed in study.replicates if seeds is None else seeds:
            try:
                config = template = (
                    row.config(study.shift, seed) if template is None else template.model_copy(update={"seed": seed})
                )
            except UsageError as error:
                raise UsageError(f"Study '{study.name}', row '{row.label}': {error}") from None
            if (earlier := labels.setdefault(config.hash, row.label)) != row.label:
                raise UsageError(f"Study '{study.name}': rows '{earlier}' and '{row.label}' are the same run")
            runs.append((row, seed, config))
    return runs


def study_names() -> list[str]:
    """Studies at hand, one YAML each."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_study(name: str) -> Study:
    """Read and validate a study by name (a file in ``bench/sweeps/studies``) or by path of a YAML file.

    Raises:
        UsageError: unknown name, or a file that does not validate (with the field's path).
    """
    path = Path(name) if name.endswith((".yaml", ".yml")) else FOLDER / f"{name}.yaml"
    if not os.path.isfile(path):
        raise unknown("study", name, study_names())
    study: Study = read_yaml(path, Study, "Study")
    return study
