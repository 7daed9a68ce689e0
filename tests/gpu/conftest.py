"""``make gpu``: what only a GPU can say. Without one every test here but the rehearsed ones is skipped, and says so.

It runs on a bare image with CUDA and torch 2.11 and no network. The wheels to carry are this package's, those of ``dependencies``
in pyproject.toml but torch (torchvision is that of the image's torch), and pytest's: ``pip download --dest wheels . pytest`` where
there is a network, ``pip install --no-index --find-links wheels stpl-benchmark pytest`` on the image.

What cards have shown lies beside: ``h100.json`` (2026-11-26, revision c1ca6e2: 44 tests passed; planned steps and the compiled
run ended in errors that were mended since; the box was too narrow for the driver) and ``h200.json`` (2026-11-27, 6bd5237: full-size
steps of all 21 methods, memory within 10 % of the plan's; a killed and a compiled run passed; the box was still too narrow,
perhaps since the file of a thread's name could not be emptied before it is written, as fopen does; it can be since, untried).

A test that runs nowhere rots: those of :data:`REHEARSED` run on a processor where there is no GPU, and mypy reads all.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.runs.config import make_run_config
from bench.runs.dry_run import Training, dry_adaptation

FULL, STEP = "viper2cityscapes", "test_a_full_size_step"
CARDS = {
    **{"H200": "h200", "H100 PCIe": "h100-pcie", "H100": "h100", "A100": "a100", "L40S": "l40s", "L4": "l4"},
    **{"4090": "4090", "3090": "3090"},
}
"""Names of :data:`bench.sweeps.gpus.GPUS` by what a card's own name has in it; the first that fits."""


REHEARSED = (
    "test_its_losses_are_those_of_a_cpu[tent-float32]",
    "test_a_killed_run_goes_on",
    "test_what_closes_a_part_of_the_box_lets_a_processor_compute",
)
"""Tests, by the start of their names, that run on a processor too, or there alone."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--board", action="store_true", help="Run MiniStreet's main leaderboard of one seed too: hours.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        folder = Path(__file__).parent
        for item in (item for item in items if folder in item.path.parents and not item.name.startswith(REHEARSED)):
            item.add_marker(pytest.mark.skip(reason="needs a GPU; torch sees none"))


@pytest.fixture(scope="session")
def gpu() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(scope="session")
def card() -> str | None:
    """The name of this card in the table of GPUs, None where it is not there."""
    name = torch.cuda.get_device_name()
    return next((key for fragment, key in CARDS.items() if fragment in name), None)


@pytest.fixture(scope="session")
def plans(request: pytest.FixtureRequest) -> dict[str, Training]:
    """The planned step of every method whose full-size step is asked for, on all cores, before anything is timed."""
    names = {str(item.callspec.params["name"]) for item in request.session.items if item.name.startswith(STEP)}  # type: ignore[attr-defined]
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(8, os.cpu_count() or 1), spawn, torch.set_num_threads, (1,)) as pool:
        return dict(zip(sorted(names), pool.map(plan, sorted(names)), strict=True))


def plan(name: str) -> Training:
    return dry_adaptation(make_run_config(name, FULL))


@pytest.fixture(scope="session")
def measured() -> Iterator[Callable[..., None]]:
    """Keeps what was measured; written to the file that ``$BENCH_GPU_REPORT`` names, with the card's name."""
    rows: list[dict[str, Any]] = []

    def note(**row: Any) -> None:
        rows.append(row)
        print(json.dumps(row))

    yield note
    if path := os.environ.get("BENCH_GPU_REPORT"):
        report = {"card": torch.cuda.get_device_name(), "torch": torch.__version__, "measured": rows}
        Path(path).write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
