"""Search over a method's ``SEARCH`` on development worlds, with a stated budget and every try written down.

The first trial of a random search is always the defaults; the others are drawn from a seed that depends on the method's name
alone, so the same budget means the same trials on every machine. Only a shift whose purpose is ``tune`` is accepted: the
reported worlds cannot be reached from here. What is drawn here is run by a sweep (``bench sweep --search``, ``bench tune``).
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field, model_validator

from bench.core.errors import RunError, UsageError
from bench.core.files import check_folder, no_file, real, write_atomically
from bench.core.registry import shift_names
from bench.core.schema import Model
from bench.core.seeding import seed_for
from bench.runs.config import Shift, canonical, load_shift, method_class
from bench.runs.options import parse_range
from bench.runs.records import Record
from bench.shifts.protocol import Videos
from methods.base import Choice, LogUniform, SearchSpace, Uniform

DIGITS = 3
"""Significant digits of drawn numbers: what is written down is what was run."""


class Asha(Model):
    """Stop the worse part of the trials early, by their target-only score (no label is used).

    Attributes:
        grace: share of the steps that every trial gets.
        reduction: of the trials that reach a rung, one in so many goes on.
    """

    grace: float = Field(default=0.25, gt=0, lt=1)
    reduction: float = Field(default=3, gt=1)


class Search(Model):
    """Values drawn from each method's ``SEARCH``.

    Attributes:
        kind: ``random`` draws trials (:func:`draw`); ``grid`` all combinations of ``points`` values per range.
        trials: of the random search, ``"0:16"``; trial 0 is the defaults.
        points: of the grid, per range; choices give all their values.
    """

    kind: Literal["random", "grid"] = "random"
    trials: str = "0:16"
    points: int = Field(default=3, ge=2)
    asha: Asha | None = None

    @model_validator(mode="after")
    def _of_its_kind(self) -> Search:
        other = "trials" if self.kind == "grid" else "points"
        if getattr(self, other) != type(self).model_fields[other].default:
            raise ValueError(f"a {self.kind} search has no {other}; leave {other} out, or choose the other kind")
        return self


def draw(method: str, trial: int) -> dict[str, Any]:
    """Settings of a trial; trial 0 is the defaults (no overrides)."""
    if trial == 0:
        return {}
    rng = np.random.default_rng(seed_for(trial, "tune", method))
    settings: dict[str, Any] = {}
    for name, space in method_class(method).SEARCH.items():
        if isinstance(space, Choice):
            settings[name] = space.values[int(rng.integers(len(space.values)))]
        elif isinstance(space, LogUniform):
            settings[name] = _rounded(math.exp(rng.uniform(math.log(space.low), math.log(space.high))))
        elif isinstance(space, Uniform):
            settings[name] = _rounded(rng.uniform(space.low, space.high))
    return settings


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def searched(method: str, search: Search) -> dict[int, dict[str, Any]]:
    """Settings to try, by trial of a random search or by place in the grid.

    Raises:
        UsageError: the method has no search space.
    """
    space: SearchSpace = method_class(method).SEARCH
    if not space:
        raise UsageError(f"Method '{method}' has no search space: there is nothing to tune")
    if search.kind == "random":
        return {trial: draw(method, trial) for trial in parse_range("trials", search.trials)}
    values = [_points(domain, search.points) for domain in space.values()]
    return dict(enumerate(dict(zip(space, chosen, strict=True)) for chosen in itertools.product(*values)))


def _points(space: Choice | LogUniform | Uniform, points: int) -> list[Any]:
    """Evenly spaced values from end to end, in the logarithm where the space is; all values of a choice."""
    if isinstance(space, Choice):
        return list(space.values)
    logarithmic = isinstance(space, LogUniform)
    low, high = (math.log(space.low), math.log(space.high)) if logarithmic else (space.low, space.high)
    spaced = [low + (high - low) * i / (points - 1) for i in range(points)]
    return [_rounded(math.exp(x) if logarithmic else x) for x in spaced]


def tuning_shift(name: str) -> Shift:
    """The shift, if it may be tuned on: made for that, and of worlds or data sets that are not reported on.

    Raises:
        UsageError: it may not.
    """
    protocol = load_shift(name)
    reported = {title for s in map(load_shift, shift_names()) if s.purpose == "report" for title in _scored_on(s)}
    hidden = not isinstance(protocol.data, Videos) and protocol.data.worlds is not None
    if protocol.purpose != "tune" or hidden or reported & _scored_on(protocol):
        raise UsageError(f"Shift '{name}' is not for tuning; use ministreet-dev or ministreet2-dev")
    return protocol


def _scored_on(shift: Shift) -> set[str]:
    """Names of what a shift's scores are of: its family of worlds or data sets, and the data set of its target."""
    return {shift.data.family} | ({shift.data.target.title} if isinstance(shift.data, Videos) else set())


COLUMNS = ("method", "trial", "seed", "miou", "searched", "config", "run", "shift_hash", "revision", "date")


Tries = Sequence[tuple[int, Record]]
"""Trial and record of each finished run."""


def read_log(path: Path) -> dict[str, dict[str, Any]]:
    """Lines of a log by their runs; none where there is no log.

    Raises:
        UsageError: it is a folder, or lies in what is none.
        RunError: it is another file, cannot be read, or has a line that no run wrote.
    """
    check_folder(path.parent, "--log")
    if kind := no_file(path):
        raise UsageError(f"{path} is {kind}; give a file to --log")
    if not path.is_file():
        return {}
    try:
        with path.open(encoding="utf-8", newline="", errors="replace") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise RunError(f"{path} is not a tuning log: its columns should be {', '.join(COLUMNS)}")
            rows = {}
            for row in reader:
                if row.keys() != set(COLUMNS) or None in row.values() or not _is_line(row):
                    raise RunError(f"{path}, line {reader.line_num}: not the line of a run; restore it, or take it out")
                rows[row["run"]] = row
            return rows
    except OSError as error:
        raise RunError(f"Cannot read tuning log {path}: {error.strerror or error}") from None
    except csv.Error:
        raise RunError(f"{path} is damaged: no table of text; restore it") from None


def _is_line(row: Mapping[str, str]) -> bool:
    numbers = all(row[name].isascii() and row[name].isdigit() and len(row[name]) < 19 for name in ("trial", "seed"))
    return numbers and all(text.isascii() and text.isprintable() for text in row.values())


def write_log(path: Path, done: Tries) -> list[str]:
    """Add runs to the committed log (CSV, one line per run; a run already there is not written twice, and stays the trial that it
    was called first).

    Returns:
        Which trials stand there as another one, see :func:`same_trial`.

    Raises:
        RunError: the file is another one, or the disk cannot be written.
    """
    rows, same = read_log(path), list[str]()
    for trial, record in done:
        config = record.config
        searched = {k: config.settings[k] for k in method_class(config.method).SEARCH}
        fixed = {"fusion": config.fusion, "flow": config.flow}
        fixed |= {k: v for k, v in config.settings.items() if k not in searched}
        called = int(rows[record.run]["trial"]) if record.run in rows else trial
        if called != trial:
            same.append(same_trial(config.method, trial, called))
        rows[record.run] = {
            "method": config.method,
            "trial": called,
            "seed": config.seed,
            "miou": f"{record.result.miou:.3f}",
            "searched": json.dumps(searched, sort_keys=True),
            "config": canonical(fixed),
            "run": record.run,
            "shift_hash": record.shift_hash,
            "revision": record.code["revision"],
            "date": record.date,
        }
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows.values(), key=lambda r: (r["method"], int(r["trial"]), r["config"], int(r["seed"]))))
    write_atomically(real(path), text.getvalue())
    return same


def same_trial(method: str, trial: int, first: int) -> str:
    """That a trial drew the settings of another one, and is one run with it."""
    return f"{method}: trial {trial} is trial {first}"


def summary(done: Tries) -> list[dict[str, Any]]:
    """Mean mIoU of each trial over its seeds, best first."""
    trials: dict[int, list[Record]] = {}
    for trial, record in done:
        trials.setdefault(trial, []).append(record)
    table = [
        {
            "trial": trial,
            "miou": float(np.mean([r.result.miou for r in records])),
            "seeds": len(records),
            "settings": {k: records[0].config.settings[k] for k in method_class(records[0].config.method).SEARCH},
        }
        for trial, records in trials.items()
    ]
    return sorted(table, key=lambda row: -row["miou"])
