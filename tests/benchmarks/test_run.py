"""Waiting times at the command line: the help, a cold run, a warm one, one that trains its source model; takes minutes.

Limits in seconds are for two idle cores with AVX-512. Each run is a process of its own, as on the command line, with two threads.
The figures are printed with ``-rP`` and stand in ``extra_info`` of the benchmark's JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.benchmarks.measuring import measured

ROOT = Path(__file__).resolve().parents[2]
HELP = [sys.executable, "-c", "from bench.cli import main; import sys; sys.argv = ['bench', '--help']; main()"]
LIBRARIES = [sys.executable, "-c", "import typer, rich, rich.console, rich.panel, rich.table"]
HELP_SECONDS, HELP_RATIO = 0.5, 2.0
FIRST_SECONDS, STEP_RATIO = 4.0, 1.15
COLD_SECONDS, WARM_SECONDS, TRAINED_SECONDS, PEAK_MB = 60.0, 25.0, 150.0, 2000.0
WATCH = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
kilobytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps({"peak_mb": kilobytes * 1024 / 1e6, "record": json.loads(done.stdout)}))
"""
"""Runs a command from a small process: Linux counts what a process held before it became another one, so that a command started
from here would have the memory of all benchmarks before it."""


def seconds(command: list[str]) -> float:
    """Wall time of a command that may keep byte code: this shell may forbid it, and libraries have theirs."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    quiet: Any = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, env=environment, check=True, **quiet)
    return time.perf_counter() - began


def test_help_is_there_at_once(benchmark: Any) -> None:
    """Absolute, and as a ratio to importing the libraries it is written with, in turns."""
    seconds(HELP), seconds(LIBRARIES)  # byte code is compiled
    pairs = [(seconds(HELP), seconds(LIBRARIES)) for _ in range(7)]
    help_time, import_time = (statistics.median(column) for column in zip(*pairs, strict=True))
    benchmark.extra_info.update(help_seconds=help_time, libraries_seconds=import_time, ratio=help_time / import_time)
    benchmark.pedantic(seconds, args=(HELP,), rounds=3)
    measured(benchmark, "`bench --help`", "import of typer and rich", help_time / import_time, most=HELP_RATIO)
    print(
        f"bench --help {help_time:.3f} s, import of typer and rich {import_time:.3f} s, ratio {help_time / import_time:.2f}"
    )
    assert help_time <= HELP_SECONDS
    assert help_time <= HELP_RATIO * import_time


def command(folder: Path, *options: str) -> list[str]:
    words = [sys.executable, "-m", "bench", "run", "--method", "stpl", "--json", "--threads", "2", *options]
    return [*words, "--runs", str(folder / "runs"), "--cache", str(folder / "cache")]


def measured_run(folder: Path, *options: str) -> tuple[float, float, dict[str, Any]]:
    """Wall seconds, peak memory in MB (the largest process of the family) and the record of one command."""
    began = time.perf_counter()
    words = [sys.executable, "-c", WATCH, *command(folder, *options)]
    done = json.loads(subprocess.run(words, cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout)
    return time.perf_counter() - began, done["peak_mb"], done["record"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def waited(benchmark: Any, label: str, elapsed: float, limit: float, peak: float) -> None:
    """Keep and check what a run took."""
    benchmark.extra_info.update(seconds=elapsed, peak_mb=peak)
    measured(
        benchmark, f"`bench run --method stpl`, {label} ({elapsed:.0f} s)", f"{limit:.0f} s", elapsed / limit, most=1
    )
    print(f"{label}: {elapsed:.1f} s, peak {peak:.0f} MB")
    assert elapsed <= limit and peak <= PEAK_MB


def test_a_cold_run(folder: Path, benchmark: Any) -> None:
    """Render, take the released source model, adapt, evaluate."""
    elapsed, peak, _ = benchmark.pedantic(measured_run, args=(folder,), rounds=1)
    waited(benchmark, "cold", elapsed, COLD_SECONDS, peak)


def test_a_warm_run(folder: Path, benchmark: Any) -> None:
    """With clips cached; the median of three."""
    measured_run(folder)  # finds the cold run's result, or makes the cache where this test runs alone
    runs = [measured_run(folder, "--force") for _ in range(2)]
    runs.append(benchmark.pedantic(measured_run, args=(folder, "--force"), rounds=1))
    assert len({r[2]["result"]["miou"] for r in runs}) == 1  # the same result each time
    waited(benchmark, "warm", statistics.median(r[0] for r in runs), WARM_SECONDS, max(r[1] for r in runs))


def first_step(folder: Path) -> float:
    """Seconds from the command to the first line in the log of losses; the run is stopped there and goes."""
    shutil.rmtree(folder / "runs", ignore_errors=True)
    began = time.perf_counter()
    process = subprocess.Popen(command(folder), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not any(log.stat().st_size for log in (folder / "runs").glob("*/metrics.jsonl")):
            assert process.poll() is None
            time.sleep(0.01)
        return time.perf_counter() - began
    finally:
        process.terminate()
        process.wait()


def test_the_first_step_comes_soon(folder: Path, benchmark: Any) -> None:
    """With clips cached: from the command to the end of the first step; the median of three."""
    measured_run(folder)
    elapsed = statistics.median(first_step(folder) for _ in range(3))
    benchmark.extra_info.update(seconds=elapsed)
    label = f"`bench run --method stpl`, warm, to its first step ({elapsed:.1f} s)"
    measured(benchmark, label, f"{FIRST_SECONDS:.0f} s", elapsed / FIRST_SECONDS, most=1)
    assert elapsed <= FIRST_SECONDS


@pytest.mark.parametrize("method", ["self_training", "stpl"])
def test_a_step_is_little_more_than_its_passes(method: str, folder: Path, benchmark: Any) -> None:
    """As `bench profile` sees it: forward passes, losses, backward and optimiser are what a step is for.

    A quarter of the clips are blurred, by chance: a few steps may have drawn twice as many blurs as others, so many are timed.
    """
    measured_run(folder)
    words = [sys.executable, "-m", "bench", "profile", "--method", method, "--json", "--threads", "1", "--steps", "60"]
    profiles = [
        subprocess.run([*words, "--cache", str(folder / "cache")], cwd=ROOT, check=True, capture_output=True)
        for _ in range(3)
    ]
    outside = statistics.median(json.loads(profile.stdout)[0]["outside"] for profile in profiles)
    ratio = 1 / (1 - outside / 100)
    measured(
        benchmark,
        f"a step of {method} on MiniStreet",
        "its passes, losses, backward, optimiser",
        ratio,
        most=STEP_RATIO,
    )
    assert ratio <= 1.25  # reading clips, drawing views and selecting labels weigh more where passes are fast


def test_a_run_that_trains_its_source_model(tmp_path: Path, benchmark: Any) -> None:
    """As a cold run did before source models were released."""
    elapsed, peak, _ = benchmark.pedantic(measured_run, args=(tmp_path, "--train-source"), rounds=1)
    waited(benchmark, "cold, with --train-source", elapsed, TRAINED_SECONDS, peak)
