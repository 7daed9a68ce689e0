"""What a sweep is asked for: one validated YAML, or the same from the command line; written out as runs.

A sweep with ``search`` is a tuning sweep: it takes development worlds only (``bench.sweeps.search.tuning_shift``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from bench.core.errors import UsageError, unknown
from bench.core.loading import source_hash
from bench.core.registry import KINDS, file_of, recall, resolve
from bench.core.schema import Model, hash_of, load_yaml, read_yaml, validated
from bench.runs.config import RunConfig, make_run_config, method_class, methods_on
from bench.runs.options import parse_range, plain_value
from bench.runs.settings import RUN_OPTIONS

from .search import Search, searched, tuning_shift
from .study import Study, StudyRow, WrittenRow, by_name, clean

COMMON = (*RUN_OPTIONS, "init")
"""Options that every method has."""


class Sweep(Model):
    """Many runs: methods, or rows written out, times the values of a grid or a search, times seeds.

    Attributes:
        seeds: ``"0:5"`` in quotes, or a list.
        log: CSV to which every finished run of a random search is added.
        grid: values by option; ``stpl.fusion`` is for one method, ``fusion`` for every method that has it.
        options: what stays fixed, named likewise.
        cpu: cores, and threads of torch, per trial.
        gpu: GPUs per trial; a share packs several trials onto one.
        retries: how often a failed trial is tried again.
        protocol: ``offline`` or ``stream``, of all runs; ``reset`` is an option of a stream.
        plugins: paths of files of one's own by ``kind/name``, so that a sweep finds them again when it goes on.
    """

    LATER: ClassVar[tuple[str, ...]] = ("log", "plugins", "protocol")

    plugins: dict[str, str] = Field(default={})
    name: str = Field(default="", pattern=r"^([A-Za-z0-9_][A-Za-z0-9_.-]*)?$")
    shift: str = "ministreet"
    methods: Literal["all"] | list[str] = Field(default_factory=list)
    rows: tuple[WrittenRow, ...] = ()
    seeds: str | list[int] = "0"
    grid: dict[str, list[Any]] = Field(default_factory=dict)
    options: dict[str, Any] = Field(default_factory=dict)
    search: Search | None = None
    steps: int | None = Field(default=None, ge=1)
    protocol: Literal["offline", "stream"] = "offline"
    log: str | None = None
    cpu: int = Field(default=1, ge=1)
    gpu: float = Field(default=0.0, ge=0)
    retries: int = Field(default=2, ge=0)

    _shift = field_validator("shift")(lambda shift: resolve("shift", shift))
    _options = field_validator("grid", "options")(by_name)

    @field_validator("plugins")
    @classmethod
    def _known_again(cls, value: dict[str, str]) -> dict[str, str]:
        recall(value)
        return value

    @field_validator("methods")
    @classmethod
    def _methods_by_name(cls, value: Any) -> Any:
        return value if value == "all" else [resolve("method", name) for name in value]

    @field_validator("seeds", mode="before")
    @classmethod
    def _quoted(cls, value: Any) -> Any:
        if isinstance(value, int):
            raise ValueError('put seeds in quotes, e.g. seeds: "0:3"')
        return value

    @field_validator("gpu")
    @classmethod
    def _share_or_whole(cls, value: float) -> float:
        if value > 1 and value != int(value):
            raise ValueError("above 1 only whole numbers of GPUs can be given out")
        return value

    @model_validator(mode="after")
    def _has_work(self) -> Sweep:
        if not self.methods and not self.rows:
            raise ValueError("methods, rows: give at least one of them")
        if empty := [name for name, values in self.grid.items() if not values]:
            raise ValueError(f"grid.{empty[0]}: give at least one value")
        if self.search and self.rows:
            raise ValueError("search: needs methods, not rows written out")
        if unused := [name for name in ("grid", "options") if getattr(self, name) and not self.methods]:
            raise ValueError(f"{unused[0]}: is of methods, and there are none; rows have options of their own")
        if self.log and not (self.search and self.search.kind == "random"):
            raise ValueError("log: only the trials of a random search are logged")
        return self

    @property
    def named(self) -> Sweep:
        """The same with a name: its own, or one made of what it is asked for."""
        return self if self.name else self.model_copy(update={"name": f"sweep-{self.identity}"})

    @property
    def identity(self) -> str:
        """Hash of which runs it is about: not of its name, nor of how they are spread over the machine."""
        fields = self.model_dump(mode="json", exclude={"name", "log", "cpu", "gpu", "retries", "plugins"})
        sources = {key: source_hash(*key.split("/")) for key in self.files}
        return hash_of({**fields, "plugins": sources} if sources else fields)

    @property
    def files(self) -> dict[str, str]:
        """Paths of the files of one's own that it is about, by ``kind/name``."""
        used = [("shift", self.shift), *(("method", row.method) for row in self.rows)]
        used += [("method", name) for name in self.methods if self.methods != "all"]
        for options in (self.options, self.grid, *(row.options for row in self.rows)):
            for option, value in options.items():
                used += [
                    (option.rpartition(".")[2], str(choice))
                    for choice in (value if isinstance(value, list) else [value])
                ]
        return {f"{kind}/{name}": path for kind, name in used if kind in KINDS and (path := file_of(kind, name))}

    def to_yaml(self) -> str:
        """As stored in the sweep's folder."""
        return yaml.safe_dump(self.model_copy(update={"plugins": self.files}).model_dump(mode="json"), sort_keys=False)


@dataclass(frozen=True)
class Planned:
    """One run of a sweep, what it is called, and which trials of a search it is: several, where they drew the same."""

    label: str
    config: RunConfig
    trials: tuple[int, ...] = ()


def from_study(study: Study, seeds: str | None = None, **spread: Any) -> Sweep:
    """The sweep that runs a study, with ``cpu``, ``gpu`` and ``retries`` as given."""
    rows = tuple(WrittenRow(label=r.label, method=r.method, options=dict(r.options)) for r in study.all_rows())
    return Sweep(
        name=f"study-{study.name}",
        shift=study.shift,
        rows=rows,
        seeds=study.seeds if seeds is None else seeds,
        **spread,
    )


def plan(sweep: Sweep) -> list[Planned]:
    """Every run once, seeds outermost: runs that share a source model stand together.

    Raises:
        UsageError: a row that cannot be run; an option that no method has; a tuning sweep over reported worlds.
    """
    if sweep.search:
        tuning_shift(sweep.shift)
    rows = [StudyRow(row.label, row.method, clean(row.options)) for row in sweep.rows]
    if sweep.methods:
        rows += method_rows(sweep, methods_on(sweep.shift, sweep.protocol) if sweep.methods == "all" else sweep.methods)
    seeds = parse_range("seeds", sweep.seeds) if isinstance(sweep.seeds, str) else sweep.seeds
    runs: dict[str, Planned] = {}
    for seed in seeds:
        for row in rows:
            options = dict(row.options)
            init = str(options.pop("init", "source"))
            config = make_run_config(row.method, sweep.shift, seed, options, init, sweep.steps, mode=sweep.protocol)
            run = runs.get(config.hash, Planned(row.label, config))
            trials = (row.factors["trial"],) if "trial" in row.factors else ()
            runs[config.hash] = replace(run, trials=(*run.trials, *trials))
    return list(runs.values())


def method_rows(sweep: Sweep, methods: list[str]) -> list[StudyRow]:
    """Rows of each method: the values of its grid, combined with those of its search."""
    extra = ("reset",) if sweep.protocol == "stream" else ()
    accepts = {method: {*COMMON, *extra, *_fields(method)} for method in methods}
    for name in (*sweep.grid, *sweep.options):
        owner, _, option = name.rpartition(".")
        if owner and owner not in methods:
            raise unknown("method", owner, methods, context=f" before the option '{name}'")
        having = [owner] if owner else methods
        if not any(option in accepts[method] for method in having):
            raise unknown(
                "option", option, set().union(*(accepts[m] for m in having)), context=f" ({', '.join(having)})"
            )
    rows, random = [], sweep.search is not None and sweep.search.kind == "random"
    for method in methods:
        fixed = {k: plain_value(v) for k, v in _own(sweep.options, method, accepts[method]).items()}
        grid = _own(sweep.grid, method, accepts[method])
        drawn = searched(method, sweep.search) if sweep.search else {0: {}}
        for trial, values in drawn.items():
            for combination in itertools.product(*grid.values()):
                chosen = dict(zip(grid, map(plain_value, combination), strict=True))
                named = [f"trial {trial}"] if random else [f"{key}={value}" for key, value in values.items()]
                label = " ".join([method, *named, *(f"{key}={value}" for key, value in chosen.items())])
                options = {**values, **fixed, **chosen}
                rows.append(StudyRow(label, method, options, {"trial": trial} if random else {}))
    return rows


def _fields(method: str) -> set[str]:
    return set(method_class(method).Settings.__dataclass_fields__)


def _own(options: dict[str, Any], method: str, accepts: set[str]) -> dict[str, Any]:
    """Options that are this method's: those without a prefix where it has them, then those with its prefix."""
    plain = {name: value for name, value in options.items() if "." not in name and name in accepts}
    start = f"{method}."
    return plain | {name.removeprefix(start): value for name, value in options.items() if name.startswith(start)}


def parse_grid(texts: list[str]) -> dict[str, list[Any]]:
    """``["stpl.fusion=concat,add"]`` to lists by option.

    Raises:
        UsageError: not of that form, or an option twice.
    """
    grid: dict[str, list[Any]] = {}
    for text in texts:
        name, separator, values = text.partition("=")
        if not separator or not name or not values:
            raise UsageError(f"--grid '{text}' is not of the form option=value,value, e.g. stpl.fusion=concat,add")
        if name in grid:
            raise UsageError(f"--grid '{name}' is given twice")
        try:
            grid[name] = [plain_value(load_yaml(value)) for value in values.split(",")]
        except yaml.YAMLError:
            raise UsageError(f"--grid '{text}': not values") from None
    return grid


def parse_search(kind: str | None, trials: str | None, asha: bool) -> dict[str, Any] | None:
    """The ``search`` of a sweep from its options; None without one.

    Raises:
        UsageError: ``asha`` without a search, or ``trials`` without a random one.
    """
    if asha and kind is None:
        raise UsageError("--asha stops trials of a search; add --search random")
    if trials is not None and kind in (None, "grid"):
        raise UsageError("--trials is of a random search; add --search random, or leave it out")
    search: dict[str, Any] = {"kind": kind, "asha": {} if asha else None} | (
        {} if trials is None else {"trials": trials}
    )
    return None if kind is None else search


def _not_twice(sweep: Sweep) -> Sweep:
    """A sweep whose grid overrides no fixed option without a word. A grid over ``stpl.fusion`` beside ``fusion`` for all methods is
    meant so: it is the exception.

    Raises:
        UsageError: names the option.
    """
    for name, other in itertools.product(sweep.grid, sweep.options):
        if name == other or name == other.rpartition(".")[2]:
            raise UsageError(
                f"Option '{other}' is fixed, by -o or options, and varied by the grid's '{name}'; leave one out"
            )
    return sweep


def asked_for(
    spec: Path | None, stored: Callable[[], Sweep] | None, fields: Mapping[str, Any], spread: Mapping[str, Any]
) -> Sweep:
    """The sweep of a file, of the command line, or a stored one to go on with.

    Args:
        spec: a YAML file.
        stored: reads the sweep to go on with.
        fields: of the sweep; beside a file only those that may differ from it.
        spread: ``cpu``, ``gpu``, ``retries``.

    Raises:
        UsageError: nothing, or two ways at once, also of one option.
    """
    if stored:
        if spec or fields:
            raise UsageError(
                "--resume NAME goes on with what was asked for then; leave SPEC, --method and the like out"
            )
        return stored().model_copy(update=dict(spread))
    if not spec:
        if not fields.get("methods"):
            raise UsageError("What to run? Give a SPEC.yaml, --method a,b, or --resume NAME")
        return _not_twice(validated(Sweep, {**fields, **spread}, "Sweep")).named
    if extra := set(fields) - {"name", "seeds", "shift", "steps", "log"}:
        raise UsageError(f"{spec} says what to run; leave out --{min(extra).removesuffix('s')} or the file")
    if not spec.is_file():
        raise UsageError(f"No file {spec}")
    written = read_yaml(spec, Sweep, "Sweep")
    return _not_twice(validated(Sweep, {**written.model_dump(mode="json"), **fields, **spread}, "Sweep")).named
