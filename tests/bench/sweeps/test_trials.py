"""One trial of a sweep, without a cluster: its threads, its refusals, its failures, and what a killed driver leaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core.errors import RunError, UsageError
from bench.core.precision import flush_denormals
from bench.core.workspace import Workspace
from bench.runs.config import RunConfig, make_run_config
from bench.sweeps import on_ray
from bench.sweeps import trial as module
from bench.sweeps._left_over import MARK, scratch_folder
from bench.sweeps.jobs import Jobs, SweepFolder
from bench.sweeps.on_ray import Feeder, payload
from bench.sweeps.spec import plan
from bench.sweeps.trial import do, reason_of
from tests.bench.sweeps.asked import make


def test_a_trial_is_pinned_to_its_threads_and_computes_as_a_command_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import cv2

    seen: list[tuple[int, int, bool]] = []

    def fake_run(config: RunConfig, workspace: Workspace) -> Any:
        seen.append((torch.get_num_threads(), cv2.getNumThreads(), flush_denormals()))
        raise RunError("enough")

    monkeypatch.setattr(module, "run", fake_run)
    before, flushed = cv2.getNumThreads(), flush_denormals(False)
    for cpu in (2, 1):
        sweep, workspace = make(tmp_path, cpu=cpu)
        (job, *_) = Jobs(SweepFolder(workspace.runs, "s"), plan(sweep)).runs
        with pytest.raises(RunError, match="enough"):
            do(payload(job, sweep, workspace), lambda _: None)
    cv2.setNumThreads(before)
    flush_denormals(flushed)
    assert seen == [(2, 2, True), (1, 1, True)]


def test_a_tuning_trial_refuses_reported_worlds_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "run", lambda *_: pytest.fail("it ran"))
    fields = {"shift": "ministreet-dev", "methods": ["stpl"], "search": {"trials": "0:1"}}
    sweep, workspace = make(tmp_path, **fields)
    (job, *_) = Jobs(SweepFolder(workspace.runs, "s"), plan(sweep)).runs
    task = payload(job, sweep, workspace)
    assert task["tuning"]
    task["config"] = make_run_config("stpl", "ministreet").model_dump(mode="json")
    with pytest.raises(UsageError, match="'ministreet' is not for tuning"):
        do(task, lambda _: None)


def test_a_trial_without_a_word_is_a_failure(tmp_path: Path) -> None:
    sweep, workspace = make(tmp_path, methods=["oracle"], seeds="0")
    jobs = Jobs(SweepFolder(workspace.runs, "s"), plan(sweep))
    feeder = Feeder(jobs, lambda job: {"key": job.key}, lambda: 2)
    for _ in range(2):
        assert feeder.suggest("t") is not None
        assert feeder.suggest("other") is None  # the run waits for its data
        feeder.on_trial_complete("t", {"ready": True} if jobs.by_key[jobs.runs[0].key].attempts == 0 else {})
        if jobs.over:
            break
    assert jobs.runs[0].state == "failed" and jobs.runs[0].reason == "the trial ended without a result"
    assert feeder.suggest("t") == "FINISHED"


def test_slots_are_counted_once_a_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tune asks ten times a second, and each count is a call to Ray; a node that joins is noticed within a second."""
    sweep, workspace = make(tmp_path)
    clock, counts = [0.0], iter([0, 1, 2])
    monkeypatch.setattr(on_ray.time, "monotonic", lambda: clock[0])
    feeder = Feeder(Jobs(SweepFolder(workspace.runs, "s"), plan(sweep)), lambda job: {}, lambda: next(counts))
    given = []
    for second in (0.0, 0.5, 0.9, 1.0, 1.9, 2.0, 2.5):
        clock[0] = second
        given.append(feeder.suggest(f"trial {second}") is not None)
    assert given == [False, False, False, True, False, True, False]


def test_reasons_are_one_line() -> None:
    assert reason_of(RunError("a\nb")) == "a b" and reason_of(ValueError("x")) == "ValueError: x"
    assert reason_of(RuntimeError("CUDA out of memory. Tried")).startswith("out of memory: CUDA")
    assert reason_of(MemoryError()) == "out of memory: no message"


def test_what_a_killed_driver_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    completed = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    leftover = Path("/tmp") / f"bench-ray-{os.getuid()}-{int(completed.stdout)}-test"
    child = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: str(leftover)})
    leftover.mkdir()  # last: a sweep of another test may clear it at any time, and must find the child then
    with scratch_folder() as scratch:
        assert child.wait(timeout=10) == -signal.SIGKILL and not leftover.exists() and scratch.exists()
    assert not scratch.exists()
