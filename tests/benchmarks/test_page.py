"""``bench leaderboard`` of 5,000 records, as a ratio to reading their files with Python's own readers and nothing else."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.core.schema import hash_of
from bench.runs.config import RunConfig
from bench.runs.sequences import place
from tests.benchmarks.measuring import measured

ROOT = Path(__file__).resolve().parents[2]
RECORDS = 5_000
PEAK_MB, RATIO = 500.0, 5.0
"""Both of what comes on top of the libraries: torch built for a GPU takes 500 MB and some seconds when it is imported."""
SECONDS = 15.0
"""CPU time with the libraries: on the page, and no reason to fail, since the processor decides. Two AVX2 cores took 26 to 36."""
LIBRARIES = "from bench.leaderboards import page; import pandas, matplotlib.pyplot, cv2"


def copies(root: Path, number: int) -> list[Path]:
    """Write so many consistent records: the committed ones again and again, on replicates, models and labels of their own."""
    files = sorted((ROOT / "leaderboards/records/ministreet").glob("*.json"))
    (root / "records/ministreet/sequences").mkdir(parents=True)
    written: list[Path] = []
    while len(written) < number:
        repetition = len(written) // len(files)
        for file in files[: number - len(written)]:
            fields = json.loads(file.read_text())
            fields["config"]["seed"] += 100 * repetition
            fields["run"] = RunConfig.model_validate(fields["config"]).hash
            if repetition and fields["source_model"]:
                fields["source_model"] = hash_of([fields["source_model"], repetition])
            path = (
                root
                / f"records/ministreet/{fields['config']['method']}-s{fields['config']['seed']}-{fields['run']}.json"
            )
            path.write_text(json.dumps(fields, indent=1, sort_keys=True) + "\n")
            head, *lines = place(file).read_text().splitlines()
            names = [line.partition(",")[0] for line in lines]
            turned = [
                line.partition(",")[2] for line in (*lines[repetition:], *lines[:repetition])
            ]  # pooled they are the same
            new_lines = [f"{name},{counts}" for name, counts in zip(names, turned, strict=True)]
            place(path).write_text("\n".join([head, *new_lines, ""]))
            written.append(path)
    return written


def spent(command: Sequence[str]) -> tuple[float, float, float]:
    """CPU seconds, wall seconds and peak memory in MB of a command, one thread each for its libraries."""
    began = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime, time.perf_counter() - began, usage.ru_maxrss * 1024 / 1e6


@pytest.mark.parametrize("option", [[], ["--check"]], ids=["write", "check"])
def test_a_page_of_many_records(option: list[str], tmp_path: Path, benchmark: Any) -> None:
    files = copies(tmp_path, RECORDS)
    began = time.process_time()
    for file in files:
        json.loads(file.read_text())
        [list(map(int, line[1:])) for line in list(csv.reader(place(file).read_text().splitlines()))[1:]]
    read = time.process_time() - began
    command = [sys.executable, "-m", "bench", "leaderboard", "--root", str(tmp_path)]
    if option:
        spent(command)
    cpu, wall, peak = spent([*command, *option])
    imports, _, empty = spent([sys.executable, "-c", LIBRARIES])
    print(
        f"{RECORDS} records: {cpu:.1f} s of CPU ({wall:.1f} s), {imports:.1f} of them imports, {read:.1f} s to read the files alone"
    )
    print(f"peak {peak:.0f} MB, {empty:.0f} of them libraries")
    label = f"leaderboard of {RECORDS:,} records {' '.join(option)}".strip()
    measured(benchmark, label, "reading their files", (cpu - imports) / read, most=RATIO)
    measured(benchmark, f"{label}, libraries included ({cpu:.1f} s of CPU)", f"{SECONDS:.0f} s", cpu / SECONDS, most=1)
    assert peak - empty <= PEAK_MB and cpu - imports <= RATIO * read
