"""Random search over a method's ``SEARCH`` on development worlds, with a stated budget and every try written down.

The first trial is always the defaults; the others are drawn from a seed that depends on the method's name alone, so the
same budget means the same trials on every machine. Only a shift whose purpose is ``tune`` is accepted: the reported worlds
cannot be reached from here.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import RunError, UsageError
from bench.core.files import write_atomically
from bench.core.registry import resolve, shift_names
from bench.core.seeding import seed_for
from bench.core.workspace import Workspace
from bench.runs.config import Shift, canonical, load_shift, make_run_config, method_class
from bench.runs.records import Record
from bench.runs.run import run
from bench.shifts.protocol import Videos
from methods.base import Choice, LogUniform, Uniform

DIGITS = 3
"""Significant digits of drawn numbers: what is written down is what was run."""


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


def tuning_shift(name: str) -> Shift:
    """The shift, if it may be tuned on: made for that, and of worlds or data sets that are not reported on.

    Raises:
        UsageError: it may not.
    """
    protocol = load_shift(name)
    reported = {what for s in map(load_shift, shift_names()) if s.purpose == "report" for what in _scored_on(s)}
    if protocol.purpose != "tune" or reported & _scored_on(protocol):
        raise UsageError(f"Shift '{name}' is not for tuning; use ministreet-dev")
    return protocol


def _scored_on(shift: Shift) -> set[str]:
    """Names of what a shift's scores are of: its family of worlds or data sets, and the data set of its target."""
    return {shift.data.family} | ({shift.data.target.title} if isinstance(shift.data, Videos) else set())


def tune(
    method: str, shift: str, trials: Sequence[int], seeds: Sequence[int], options: dict[str, Any], workspace: Workspace
) -> list[tuple[int, Record]]:
    """Run the trials on every seed.

    Args:
        options: fixed overrides, on top of which the drawn settings go.

    Raises:
        UsageError: the shift is not for tuning, or the method has nothing to search.
    """
    tuning_shift(shift)
    method = resolve("method", method)
    if not method_class(method).SEARCH:
        raise UsageError(f"Method '{method}' has no search space: there is nothing to tune")
    done = []
    for trial in trials:
        for seed in seeds:
            config = make_run_config(method, shift, seed, {**draw(method, trial), **options})
            done.append((trial, run(config, workspace)))
    return done


COLUMNS = ("method", "trial", "seed", "miou", "searched", "config", "run", "shift_hash", "revision", "date")


def write_log(path: Path, done: Sequence[tuple[int, Record]]) -> None:
    """Add runs to the committed log (CSV, one line per run; a run already there is not written twice)."""
    rows: dict[str, dict[str, Any]] = {}
    if path.is_file():
        with path.open(encoding="utf-8", newline="", errors="replace") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise RunError(f"{path} is not a tuning log: its columns should be {', '.join(COLUMNS)}")
            rows = {row["run"]: row for row in reader}
    for trial, record in done:
        config = record.config
        searched = {k: config.settings[k] for k in method_class(config.method).SEARCH}
        others = {"fusion": config.fusion, "flow": config.flow}
        others |= {k: v for k, v in config.settings.items() if k not in searched}
        rows[record.run] = {
            "method": config.method,
            "trial": trial,
            "seed": config.seed,
            "miou": f"{record.result.miou:.3f}",
            "searched": json.dumps(searched, sort_keys=True),
            "config": canonical(others),
            "run": record.run,
            "shift_hash": record.shift_hash,
            "revision": record.code["revision"],
            "date": record.date,
        }
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows.values(), key=lambda r: (r["method"], int(r["trial"]), r["config"], int(r["seed"]))))
    write_atomically(path, text.getvalue())


def summary(done: Sequence[tuple[int, Record]]) -> list[dict[str, Any]]:
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
