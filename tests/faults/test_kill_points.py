"""A run, a sweep's bookkeeping, a submission and a page, killed wherever they change a file: the same bits, and nothing left over.

In the suite at a sample of points; at all of them with ``pytest tests/faults/test_kill_points.py --all-points``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import bench.shifts
from bench.core.registry import ROOT
from bench.core.workspace import Workspace
from bench.leaderboards import evidence, page, submit
from bench.runs import run as runs
from bench.runs import training
from bench.runs.config import make_run_config
from bench.sweeps.jobs import Jobs, SweepFolder
from bench.sweeps.spec import Sweep

from .kill_points import Case, kill_everywhere

TINY, REPORTED = "ministreet-tiny", "tiny-reported"
CODE = {"revision": "abc123abc123", "dirty": False, "source": "5" * 64}


def a_run(folder: Path, method: str = "self_training") -> None:
    """Rendering, source model, adaptation, scores, record; without figures."""
    register(folder)
    runs._draw = lambda *_: None  # type: ignore[assignment]
    runs.code = lambda: CODE  # type: ignore[assignment]
    training.STATE_EVERY = 1
    config = make_run_config(method, REPORTED)
    workspace = Workspace(folder / "runs", folder / "cache", torch.device("cpu"), unboxed=True)
    runs.run(config, workspace)


def a_sweep(folder: Path) -> None:
    """Everything that a sweep writes beside its runs: what is asked for, records from other nodes, a failure's log."""
    fields = {"name": "s", "shift": TINY, "methods": ["stpl", "adabn"], "seeds": "0:2"}
    sweep_folder = SweepFolder(folder, "s")
    planned = sweep_folder.open(Sweep.model_validate(fields))
    with sweep_folder.held():
        jobs = Jobs(sweep_folder, planned, note=False)
        while (job := jobs.next()) is not None:
            if job.kind == "run" and job.config.seed == 1 and job.config.method == "adabn":
                jobs.fail(job, "it failed", "trace", again=False)
            else:
                jobs.finish(job, record_of(job.key, job.config) if job.kind == "run" else None)


def record_of(key: str, config: Any) -> str:
    fields = {
        "schema": 1, "run": key, "config": config.model_dump(mode="json"), "shift_hash": config.shift_hash,
        "source_model": None, "method": {}, "versions": {}, "hardware": {}, "date": "2030-01-01", "code": {},
        "result": {"iou": {}, "miou": 40.0, "pixel_accuracy": 1, "temporal_consistency": 1},
        "selection": {"unsupervised": {}, "oracle": {}, "snapshots": []},
        "cost": {
            "steps": 1, "seconds": 1, "cpu_seconds": 1, "total_seconds": 1, "peak_memory_mb": 1, "parameters": 1,
        },
    }  # fmt: skip
    return json.dumps(fields)


def register(folder: Path) -> None:
    """As if the repository held an even smaller tiny shift that is reported, and this code were committed."""
    shift = yaml.safe_load((ROOT / "shifts" / f"{TINY}.yaml").read_text(encoding="utf-8"))
    for side in ("source", "target"):
        shift["data"][side] |= {"train": 3, "val": 2}
    shift["source_training"]["steps"] = shift["adaptation"]["steps"] = shift["adaptation"]["snapshots"] = 2
    shifts = folder.parent / "shifts"  # beside what is compared
    if not shifts.is_dir():
        shifts.mkdir()
        (shifts / f"{REPORTED}.yaml").write_text(yaml.safe_dump(shift | {"purpose": "report", "name": REPORTED}))
    if str(shifts) not in bench.shifts.__path__:
        bench.shifts.__path__ = [*bench.shifts.__path__, str(shifts)]
    evidence.source_at = {CODE["revision"]: CODE["source"]}.get  # type: ignore[assignment]


def reported_runs(folder: Path) -> None:
    for method in ("source_only", "adabn"):
        a_run(folder, method)


def a_submission(folder: Path) -> None:
    register(folder)
    places = sorted(path.parent for path in (folder / "runs").glob("*/record.json"))
    submit.submit_runs(places, folder / "boards", folder / "cache")


def submitted(folder: Path) -> None:
    reported_runs(folder)
    a_submission(folder)


def a_page(folder: Path) -> None:
    register(folder)
    page.write(folder / "boards")


CASES = [
    (Case("run", a_run), 3),
    (Case("sweep", a_sweep), 4),
    (Case("submission", a_submission, reported_runs), 3),
    (Case("page", a_page, submitted), 2),
]
"""What is killed, and at how many points in the suite."""


@pytest.mark.parametrize(("case", "sample"), CASES, ids=[case.name for case, _ in CASES])
def test_killed_anywhere_it_ends_with_the_same_bits(
    case: Case, sample: int, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    count = kill_everywhere(case, tmp_path, None if request.config.getoption("--all-points") else sample)
    print(
        f"{case.name}: {count.points} points, {count.kills} kills, {len(count.wrong)} with wrong bits, "
        f"{len(count.missing)} with missing files, {len(count.stray)} with stray files"
    )
    assert count.points >= count.kills >= 2
    assert not count.wrong and not count.missing and not count.stray, count
