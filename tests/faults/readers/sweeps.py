"""Sweeps and tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.analysis.data import RunAnalysis
from bench.analysis.data import read as read_analysis
from bench.core.sealed import sealed
from bench.sweeps.jobs import SweepFolder
from bench.sweeps.search import COLUMNS
from bench.sweeps.search import read_log as read_tuning
from bench.sweeps.spec import Sweep
from bench.sweeps.study import load_study
from tests.faults import mutations as m

from .base import TINY, Reader, committed, data, text

SWEEP = Sweep.model_validate({"name": "s", "shift": TINY, "methods": ["adabn"], "seeds": "0:2", "steps": 3})
STOPPED = "".join(
    json.dumps(sealed({"event": event, "job": f"{n:012x}", "score": n / 7})) + "\n"
    for n, event in enumerate(("failed", "stopped", "stopped"))
)
ROW = ("stpl", "3", "0", "31.250", '"{""a"": 1}"', '"{}"', "0123456789ab", "ba9876543210", "abc", "2030-01-01")
TABLE = "\n".join(",".join(row) for row in (COLUMNS, ROW, (*ROW[:6], "0123456789ac", *ROW[7:]))) + "\n"


def _sweep(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        SweepFolder(folder, "s").open(SWEEP)
        (folder / "sweeps" / "s" / "journal.jsonl").write_text(STOPPED, encoding="utf-8")
        return folder / "sweeps" / "s" / name

    return make


def _folder_of(path: Path) -> SweepFolder:
    return SweepFolder(path.parents[2], "s")


def _open(path: Path) -> Any:
    return [entry.config.hash for entry in _folder_of(path).open(SWEEP)]


def _stored(path: Path) -> Any:
    return _folder_of(path).stored()


def _stopped(path: Path) -> Any:
    return _folder_of(path).stopped_early()


def _load_study(path: Path) -> Any:
    return load_study(str(path))


STUDY = committed("..", "bench", "sweeps", "studies", "fusion.yaml")

SWEEPS = [
    Reader("sweep", _sweep("spec.yaml"), _stored, m.a_yaml, False),
    Reader("sweep, runs", _sweep("runs.json"), _open, m.a_json, True),
    Reader("sweep, journal", _sweep("journal.jsonl"), _stopped, m.json_lines, True, loses=True),
    Reader("study", data("s.yaml", STUDY), _load_study, m.a_yaml, False),
    Reader("tuning log", text("log.csv", TABLE), read_tuning, m.a_csv, False),
    Reader(
        "analysis",
        data("a.json", committed("analysis", "ministreet", "runs", "*.json")),
        lambda path: read_analysis(path, RunAnalysis),
        m.a_json,
        False,
    ),
]
