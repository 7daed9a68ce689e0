"""How CPU time grows, one thread: the exponents stand in BENCHMARKS.md. None may be more than quadratic."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from bench.data.ministreet import render_clip
from bench.runs.config import make_run_config
from bench.sweeps.spec import Sweep, plan
from stpl.contrast import pixel_contrast
from tests.bench.runs.steps import real_steps
from tests.benchmarks.measuring import fastest, grown
from tests.benchmarks.report import exponent
from tests.threads import one_thread  # noqa: F401


def fitted(benchmark: Any, label: str, unit: str, sizes: list[int], work: Callable[[int], Callable[[], Any]]) -> None:
    seconds = fastest([work(size) for size in sizes], 3)
    grown(benchmark, label, unit, sizes, seconds)
    assert exponent(sizes, seconds) <= 2.1


def step(folder: Path, size: tuple[int, int], batch: int = 0) -> Callable[[], Any]:
    """A step of STPL on noise, with MiniStreet's network."""
    config = make_run_config("stpl", "ministreet-tiny")
    trainer, parts = real_steps(config, torch.device("cpu"), size, folder, batch)
    return lambda: trainer.step(0, parts)


def test_resolution(tmp_path: Path, benchmark: Any) -> None:
    def work(pixels: int) -> Callable[[], Any]:
        height = int((pixels // 2) ** 0.5)
        return step(tmp_path / str(pixels), (height, 2 * height))

    fitted(benchmark, "a step of STPL", "pixels of a frame", [2 * h * h for h in (32, 64, 128)], work)


def test_batch(tmp_path: Path, benchmark: Any) -> None:
    def work(batch: int) -> Callable[[], Any]:
        return step(tmp_path / str(batch), (64, 128), batch)

    fitted(benchmark, "a step of STPL", "clips of a batch", [1, 2, 4, 8], work)


def test_contrast_pixels(benchmark: Any) -> None:
    def work(count: int) -> Callable[[], Any]:
        z = F.normalize(torch.randn(count, 128, generator=torch.Generator().manual_seed(0)), dim=1).requires_grad_()
        label = torch.arange(count) % 15
        return lambda: pixel_contrast(z, label).backward()

    fitted(benchmark, "contrast", "pixels", [1024, 2048, 4096], work)


def test_clips(benchmark: Any) -> None:
    work = lambda count: lambda: [render_clip("sim", 970_002, index) for index in range(count)]  # noqa: E731
    fitted(benchmark, "rendering", "clips", [2, 4, 8], work)


def test_trials(benchmark: Any) -> None:
    def work(count: int) -> Callable[[], Any]:
        fields = {"name": "many", "shift": "ministreet-tiny", "methods": ["stpl"], "seeds": f"0:{count}"}
        return lambda: plan(Sweep.model_validate(fields))

    fitted(benchmark, "planning a sweep", "trials", [16, 32, 64, 128], work)
