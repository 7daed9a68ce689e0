"""CPU time of functions on one thread, in turns, and what a benchmark leaves in pytest-benchmark's JSON for BENCHMARKS.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any


def cpu_seconds(function: Callable[[], Any]) -> float:
    """CPU seconds of one call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def fastest(functions: Sequence[Callable[[], Any]], runs: int = 5) -> list[float]:
    """The shortest of so many calls of each, in turns, so that a busy machine slows all; one call before them counts nothing."""
    for function in functions:
        function()
    turns = [[cpu_seconds(function) for function in functions] for _ in range(runs)]
    return [min(times) for times in zip(*turns, strict=True)]


def measured(
    benchmark: Any, label: str, against: str, value: float, *, least: float | None = None, most: float | None = None
) -> None:
    """Keep a row of the table: a ratio (times what it stands against) and its limit, where it has one."""
    row = {"what": label, "against": against, "value": value, "least": least, "most": most}
    benchmark.extra_info.setdefault("rows", []).append(row)
    _kept(benchmark)


def grown(benchmark: Any, label: str, unit: str, sizes: Sequence[float], seconds: Sequence[float]) -> None:
    """Keep how CPU seconds grow with a size."""
    benchmark.extra_info["growth"] = {"what": label, "unit": unit, "sizes": list(sizes), "seconds": list(seconds)}
    _kept(benchmark)


def _kept(benchmark: Any) -> None:
    if benchmark.stats is None:
        benchmark.pedantic(lambda: None)  # without a call nothing of a benchmark is kept
