"""Where a run works and on what: folders, device, progress. Nothing here changes a number."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch

from methods.base import ClipBatch
from stpl.segmenter import VideoSegmenter

from .errors import UsageError
from .files import check_folder
from .progress import Progress, quiet
from .registry import ROOT


def default_runs() -> Path:
    """Folder of runs: ``$BENCH_RUNS`` or ``runs``."""
    return Path(os.environ.get("BENCH_RUNS") or "runs")


def default_cache() -> Path:
    """Folder of rendered clips and source models: ``$BENCH_CACHE`` or ``cache``."""
    return Path(os.environ.get("BENCH_CACHE") or "cache")


def default_data_root() -> Path | None:
    """Folder with recorded data sets: ``$BENCH_DATA``, or none."""
    return Path(os.environ["BENCH_DATA"]) if os.environ.get("BENCH_DATA") else None


def default_released() -> Path:
    """Folder of released source models: ``$BENCH_SOURCES``, ``leaderboards/sources`` here, or that of the checkout whose code this
    is (a wheel has none): where a command is called does not decide which model a run starts from."""
    named = os.environ.get("BENCH_SOURCES")
    folder = Path(named or "leaderboards/sources")
    return folder if named or folder.is_dir() else ROOT.parent / "leaderboards" / "sources"


def pick_device(name: str) -> torch.device:
    """``auto``: a GPU if there is one, else the CPU.

    Raises:
        UsageError: not a device, or CUDA asked for where there is none.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UsageError(f"Unknown device '{name}'. Available: auto, cpu, cuda, cuda:0 ...")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UsageError("Device 'cuda' asked for, but torch sees no GPU here; use --device cpu")
    return device


@dataclass(frozen=True)
class Workspace:
    """Folders, device, progress display and observer of a run.

    Attributes:
        data_root: folder with recorded data sets.
        source_file: a source model that is used instead of one trained here (``bench.networks.model_file``).
        released: folder of released source models, looked into before one is trained; None trains here.
        workers: threads that read the clips of the next steps ahead; 0 reads each when it is needed.
        compiled: let ``torch.compile`` work on the encoder.
        watch: told the step and the target-only score of weights that are kept on the way; no label is used.
        skip_bad: replace a clip whose files cannot be read by the next one, and count it, instead of stopping.
        save_predictions: target training clips whose predictions by the kept weights are saved after the run.
        unboxed: let a method run in this process, watched only (``bench.core.access``), where a box could be had
            (``bench.core.box``); the record says so.
    """

    runs: Path = field(default_factory=default_runs)
    cache: Path = field(default_factory=default_cache)
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    progress: Progress = quiet
    force: bool = False
    observer: Observer | None = None
    data_root: Path | None = field(default_factory=default_data_root)
    source_file: Path | None = None
    released: Path | None = field(default_factory=default_released)
    workers: int = 0
    compiled: bool = False
    skip_bad: bool = False
    watch: Callable[[int, float], None] | None = None
    save_predictions: int = 0
    unboxed: bool = False

    @classmethod
    def at(
        cls,
        runs: str | Path | None = None,
        cache: str | Path | None = None,
        data_root: str | Path | None = None,
        device: str = "auto",
        threads: int = 0,
        progress: Progress = quiet,
        **options: Any,
    ) -> Workspace:
        """A workspace from what a person gives: folders or nothing, a device's name, threads of torch and OpenCV (0 leaves them).

        Raises:
            UsageError: no such device, or a folder that is something else.
        """
        if threads:
            import cv2

            torch.set_num_threads(threads)
            cv2.setNumThreads(threads)
        root = Path(data_root) if data_root else default_data_root()
        folders = Path(runs or default_runs()), Path(cache or default_cache())
        for folder, option in zip(folders, ("--runs", "--cache"), strict=True):
            check_folder(folder, option)
        return cls(*folders, pick_device(device), progress, data_root=root, **options)


class Observer(Protocol):
    """Is told what a training loop does. It must leave method, batches and generators as they are."""

    def start(
        self, folder: Path, first: int, steps: int, segmenter: VideoSegmenter, clips: Iterable[ClipBatch]
    ) -> None:
        """Before the loop.

        Args:
            folder: of the run.
            first: the first step that is done now: 0, or where a killed run goes on.
            steps: of the whole run.
            segmenter: what is trained.
            clips: target training clips in order, unlabelled and on the device; may be empty.
        """

    def step(self, step: int, scalars: Mapping[str, float]) -> None:
        """After each step.

        Args:
            scalars: ``loss/<term>`` as minimised and ``lr/<optimiser>/<group>``.
        """
