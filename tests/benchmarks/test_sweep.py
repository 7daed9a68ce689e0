"""What Ray costs: twelve runs through a sweep, against the same runs without it. Needs an idle machine of two cores or more."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.core.registry import ROOT
from bench.runs.config import RunConfig
from bench.sweeps.spec import Sweep, plan
from tests.benchmarks.measuring import measured

TURNS = 2

RUN = """
import atexit
import gc
import sys
from pathlib import Path
import torch
from bench.runs.run import run
from bench.runs.config import RunConfig
from bench.core.workspace import Workspace
atexit.register(gc.freeze)  # as the command line does
torch.set_num_threads(1)
for line in sys.stdin:
    run(RunConfig.model_validate_json(line), Workspace(Path(sys.argv[1]), Path(sys.argv[2])))
"""


def spec(tmp_path: Path) -> Sweep:
    """Twelve runs of twenty to thirty seconds each, about as long as MiniStreet's."""
    content = yaml.safe_load((ROOT / "shifts" / "ministreet-tiny.yaml").read_text(encoding="utf-8"))
    content["adaptation"]["steps"] = 700
    (tmp_path / "longer.yaml").write_text(yaml.safe_dump(content))
    fields = {"name": "twelve", "shift": str(tmp_path / "longer.yaml"), "methods": ["stpl", "self_training"]}
    return Sweep.model_validate({**fields, "seeds": "0:6"})


def without_ray(configs: Sequence[RunConfig], at_once: int, folder: Path) -> float:
    """Seconds for the runs in so many processes, starts counted; each takes its share, of all methods alike."""
    began = time.perf_counter()
    processes = []
    for first in range(at_once):
        command = [sys.executable, "-c", RUN, str(folder / "runs"), str(folder / "cache")]
        variables = {"OMP_NUM_THREADS": "1", "BENCH_PLUGINS": f"shift={folder.parent / 'longer.yaml'}"}
        process = subprocess.Popen(command, stdin=subprocess.PIPE, env={**os.environ, **variables}, text=True)
        assert process.stdin is not None
        process.stdin.write("".join(f"{config.model_dump_json()}\n" for config in configs[first::at_once]))
        process.stdin.close()
        processes.append(process)
    assert [process.wait() for process in processes] == [0] * at_once
    return time.perf_counter() - began


def with_ray(file: Path, folder: Path) -> float:
    """Seconds for the sweep of a file by the command, starts counted."""
    command = [sys.executable, "-m", "bench", "sweep", str(file)]
    places = ["--runs", str(folder / "runs"), "--cache", str(folder / "cache")]
    began = time.perf_counter()
    subprocess.run([*command, *places], check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return time.perf_counter() - began


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two at once need two cores")
def test_twelve_runs_through_ray_take_a_tenth_longer_at_most(tmp_path: Path, benchmark: Any) -> None:
    """In turns, the shorter time of each: a run that something else held up says nothing about Ray."""
    sweep = spec(tmp_path)
    configs = [entry.config for entry in plan(sweep)]
    # Replicates are dealt out whole, so that no process waits for the other's source model.
    configs = [*configs[0::4], *configs[2::4], *configs[1::4], *configs[3::4]]
    (tmp_path / "spec.yaml").write_text(sweep.to_yaml())
    in_a_row = without_ray(configs, 1, tmp_path / "in a row")
    two_at_once, through_ray = [], []
    for turn in range(TURNS):
        two_at_once.append(without_ray(configs, 2, tmp_path / f"two at once {turn}"))
        through_ray.append(with_ray(tmp_path / "spec.yaml", tmp_path / f"ray {turn}"))
    seconds = {"one after another": [in_a_row], "two at a time": two_at_once, "through Ray": through_ray}
    print("\n" + "; ".join(f"{name} {', '.join(f'{x:.1f}' for x in times)} s" for name, times in seconds.items()))
    benchmark.extra_info.update(seconds)
    best = min(in_a_row, *two_at_once)
    measured(benchmark, "twelve runs through Ray", "the same without", min(through_ray) / best, most=1.1)
    assert min(two_at_once) <= in_a_row  # two at once are not slower than two in a row
    assert min(through_ray) <= 1.1 * best
