"""What a person waits for: the help, a cold run, a warm one. Limits are those of the README's table; takes minutes.

Each run is a process of its own, as on the command line, with two threads. The figures are printed with ``-rP`` and stand in
``extra_info`` of the benchmark's JSON.
"""

from __future__ import annotations

import json
import os
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
COLD_SECONDS, WARM_SECONDS, PEAK_MB = 150.0, 45.0, 2000.0


def seconds(command: list[str]) -> float:
    began = time.perf_counter()
    subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def test_help_is_there_at_once(benchmark: Any) -> None:
    """Absolute, and as a ratio to importing the libraries it is written with, in turns."""
    seconds(HELP), seconds(LIBRARIES)  # byte code is compiled
    pairs = [(seconds(HELP), seconds(LIBRARIES)) for _ in range(7)]
    ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
    benchmark.extra_info.update(help_seconds=ours, libraries_seconds=theirs, ratio=ours / theirs)
    benchmark.pedantic(seconds, args=(HELP,), rounds=3)
    measured(benchmark, "`bench --help`", "import of typer and rich", ours / theirs, most=HELP_RATIO)
    print(f"bench --help {ours:.3f} s, import of typer and rich {theirs:.3f} s, ratio {ours / theirs:.2f}")
    assert ours <= HELP_SECONDS
    assert ours <= HELP_RATIO * theirs


def measured_run(folder: Path, *options: str) -> tuple[float, float, dict[str, Any]]:
    """Wall seconds, peak memory in MB (the largest process of the family) and the record of one command."""
    command = [
        sys.executable,
        "-m",
        "bench",
        "run",
        "--method",
        "stpl",
        "--json",
        "--threads",
        "2",
        "--train-source",
        *options,
    ]
    command += ["--runs", str(folder / "runs"), "--cache", str(folder / "cache")]
    began = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        out = process.stdout.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    elapsed = time.perf_counter() - began
    assert process.returncode == 0
    record: dict[str, Any] = json.loads(out)
    # ru_maxrss of a waited-for process covers its own children, the renderers, too.
    return elapsed, usage.ru_maxrss * 1024 / 1e6, record


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run")


def test_a_cold_run(folder: Path, benchmark: Any) -> None:
    """Render, train the source model (``make demo`` takes the released one), adapt, evaluate."""
    elapsed, peak, record = benchmark.pedantic(measured_run, args=(folder,), rounds=1)
    benchmark.extra_info.update(seconds=elapsed, peak_mb=peak, miou=record["result"]["miou"])
    print(f"cold {elapsed:.1f} s, peak {peak:.0f} MB")
    assert elapsed <= COLD_SECONDS and peak <= PEAK_MB


def test_a_warm_run(folder: Path, benchmark: Any) -> None:
    """With clips and source model cached; the median of three."""
    measured_run(folder)  # finds the cold run's result, or makes the caches where this test runs alone
    runs = [measured_run(folder, "--force") for _ in range(2)]
    runs.append(benchmark.pedantic(measured_run, args=(folder, "--force"), rounds=1))
    elapsed, peak = statistics.median(r[0] for r in runs), max(r[1] for r in runs)
    benchmark.extra_info.update(seconds=elapsed, peak_mb=peak, all_seconds=[r[0] for r in runs])
    print(f"warm {elapsed:.1f} s (of {', '.join(f'{r[0]:.1f}' for r in runs)}), peak {peak:.0f} MB")
    assert len({r[2]["result"]["miou"] for r in runs}) == 1  # and the same result each time
    assert elapsed <= WARM_SECONDS and peak <= PEAK_MB
