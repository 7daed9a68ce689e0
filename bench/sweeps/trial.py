"""What a trial of a sweep does, in a process of Ray's: one job, from what it is told to what it tells. Knows nothing of Ray."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core.errors import RunError, UsageError
from bench.core.precision import denormals_flushed
from bench.core.registry import unpack
from bench.core.workspace import Workspace, pick_device
from bench.data import splits
from bench.runs.adaptation import prepare
from bench.runs.config import RunConfig, method_class
from bench.runs.run import run

from .search import tuning_shift

TELL_EVERY = 2.0
"""Seconds between two reports of a trial: each makes it wait for the driver for some milliseconds."""

Say = Callable[[dict[str, Any]], None]
"""Tells the driver something, as JSON can hold it."""
Work = Callable[[dict[str, Any], Say], dict[str, Any]]
"""Does a job (``sweep.payload``) and returns what came of it: ``record`` of a run, or that something is ``ready``."""


def reason_of(error: Exception) -> str:
    """Why a trial failed, in one line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "out of memory" in text.lower() or "not enough memory" in text.lower():
        return f"out of memory: {text or 'no message'}"
    return text if isinstance(error, (RunError, UsageError)) else f"{type(error).__name__}: {text or 'no message'}"


@denormals_flushed()
def do(job: dict[str, Any], say: Say) -> dict[str, Any]:
    """One job of a sweep: prepare data or a source model, or run."""
    import cv2
    import torch

    torch.set_num_threads(job["cpu"])
    cv2.setNumThreads(job["cpu"])
    if Path(job["folder"]).is_dir():
        os.chdir(job["folder"])
    unpack(job["plugins"])
    config = RunConfig.model_validate(job["config"])
    if job["tuning"]:
        tuning_shift(config.shift)
    workspace = workspace_of(job, say)
    try:
        if job["kind"] == "run":
            return {"record": run(config, workspace).to_json()}
        if job["kind"] == "source":
            prepare(config, config.protocol, workspace)
        else:
            prepare_data(config, workspace)
        return {"ready": True}
    finally:
        gc.collect()
        if workspace.device.type == "cuda":
            torch.cuda.empty_cache()  # the process stays, and may share its GPU


def prepare_data(config: RunConfig, workspace: Workspace) -> None:
    """Render the splits of a replicate, or find them; the source's too where there is a source to train on."""
    roles = [("target", "train"), ("target", "val")] if config.mode == "offline" else [("target", "val")]
    if config.source_file is None or method_class(config.method).card.setting == "UDA":
        roles.append(("source", "train"))
    for role, split in roles:
        splits.prepare(config.protocol, role, split, config.seed, workspace)


def workspace_of(job: dict[str, Any], say: Say) -> Workspace:
    """Folders of the driver, or those that a node keeps for itself (``$BENCH_NODE_RUNS``, ``$BENCH_NODE_CACHE``,
    ``$BENCH_NODE_DATA``, set where ``ray start`` is called)."""

    def folder(name: str) -> Path | None:
        node_folder = os.environ.get(f"BENCH_NODE_{name.upper().removesuffix('_ROOT')}")
        path = node_folder or job[name]
        return Path(path) if path else None

    runs, cache = folder("runs"), folder("cache")
    assert runs is not None and cache is not None, "the driver names both"
    source = Path(job["source_file"]) if job["source_file"] else None
    return Workspace(
        runs,
        cache,
        pick_device(job["device"]),
        Teller(say),
        data_root=folder("data_root"),
        source_file=source,
        released=Path(job["released"]) if job.get("released") else None,
        watch=(lambda step, score: say({"snapshot": step, "target_score": score})) if job["asha"] else None,
    )


class Teller:
    """Reports the progress of a trial to the driver, every :data:`TELL_EVERY` seconds at most."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.last = time.perf_counter()
        self.activity, self.began, self.first = "", 0.0, 0

    def __call__(self, activity: str, done: int, total: int) -> None:
        now = time.perf_counter()
        if activity != self.activity or done <= self.first:
            self.activity, self.began, self.first = activity, now, done
        if now - self.last >= TELL_EVERY:
            self.last = now
            counted = done - self.first  # the first report comes when its step is done
            pace = {"pace": (now - self.began) / counted} if counted and not activity.startswith("evaluate") else {}
            self.say({"what": activity, "step": done, "steps": total, **pace})
