"""Runs and records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.analysis.export import metrics_frame, read_log
from bench.pages.sheet import log_points
from bench.runs.config import make_run_config
from bench.runs.finished import config_text, finished
from bench.runs.known_data import same_data
from bench.runs.pseudo_labels import _write, read_predictions
from bench.runs.records import PLACES, _recall_places, read_record
from bench.runs.sequences import read_sequences, to_csv
from tests.faults import mutations as m

from .base import LABEL, TINY, Reader, committed, text


def _config(folder: Path) -> Path:
    (folder / "config.yaml").write_text(config_text(make_run_config("adabn", TINY)), encoding="utf-8")
    return folder / "config.yaml"


def _finished(path: Path) -> Any:
    assert finished(path.parent, make_run_config("adabn", TINY)) is None
    return "of this run"


SCORES = {"a": np.arange(6).reshape(2, 3), "b": np.ones((2, 3), np.int64)}
LOG = "".join(json.dumps({"step": n, "loss": 1.5 - n}) + "\n" for n in range(4))
KNOWN = {"target-train": "0123456789ab", "target-val": "ba9876543210"}


def _predictions(folder: Path) -> Path:
    arrays = {"label": LABEL[None], "confidence": LABEL[None], "keys": np.array(["a"])}
    return _write(folder / "step-000003.npz", **arrays)


def _known(folder: Path) -> Path:
    same_data(folder, KNOWN)
    return folder / "data.json"


def _log_table(path: Path) -> Any:
    (path.parent / "metrics.jsonl").write_text(LOG)
    return metrics_frame([path.parent]).values.tolist()


RUNS = [
    Reader(
        "record",
        text("record.json", committed("records", "ministreet", "*.json").decode()),
        read_record,
        m.a_json,
        False,
    ),
    Reader(
        "sequences of a record",
        text("s.csv", to_csv(SCORES, ("a", "b"))),
        lambda path: read_sequences(path, ("a", "b")),
        m.a_csv,
        False,
    ),
    Reader("config of a run", _config, _finished, m.a_yaml, True),
    Reader("config of a run, exported", _config, _log_table, m.a_yaml, False),
    Reader("log of a run", text("metrics.jsonl", LOG), lambda path: read_log(path.parent), m.json_lines, False),
    Reader("log of a run, drawn", text("metrics.jsonl", LOG), log_points, m.json_lines, False),
    Reader("predictions", _predictions, read_predictions, m.an_npz, True),
    Reader("data of a run", _known, lambda path: same_data(path.parent, KNOWN), m.a_json, True),
    Reader("places of a run", text(PLACES, json.dumps({"method/mine": "mine.py"})), _recall_places, m.a_json, False),
]
