"""Where and on what a call of the face works."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

if TYPE_CHECKING:
    from bench.core.workspace import Workspace

LEADERBOARDS = Path("leaderboards")
"""Folder of committed records and the pages made of them."""


class Place(TypedDict, total=False):
    """Where and on what a call works.

    Attributes:
        runs, cache, data_root: folders; by default ``$BENCH_RUNS`` or ``runs``, ``$BENCH_CACHE`` or ``cache``, ``$BENCH_DATA``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:0`` ...
        threads: of torch on the CPU and of OpenCV while the call lasts; 0 leaves them.
        workers: threads that read clips ahead.
    """

    runs: str | Path | None
    cache: str | Path | None
    data_root: str | Path | None
    device: str
    threads: int
    workers: int


@contextlib.contextmanager
def working(place: Mapping[str, Any], **options: Any) -> Iterator[Workspace]:
    """A workspace with a progress display; torch and OpenCV have their threads back afterwards, and torch its smallest numbers."""
    import cv2
    import torch

    from bench.core.precision import denormals_flushed
    from bench.core.progress import ProgressDisplay
    from bench.core.workspace import Workspace

    before = torch.get_num_threads(), cv2.getNumThreads()
    try:
        with denormals_flushed(), ProgressDisplay() as progress:
            yield Workspace.at(**place, progress=progress, **options)
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def there(path: str | Path, what: str) -> Path:
    """A path that is asked for.

    Args:
        what: it is, for the error: ``model``.

    Raises:
        UsageError: nothing is there: it was named wrongly, which is no failure of what was asked for.
    """
    from bench.core.errors import UsageError

    if not os.path.exists(path):
        raise UsageError(f"No {what} at {path}")
    return Path(path)


def runs_in(runs: str | Path | None) -> Path:
    """The folder of runs.

    Raises:
        UsageError: it is something else.
    """
    from bench.core.files import check_folder
    from bench.core.workspace import default_runs

    folder = Path(runs or default_runs())
    check_folder(folder, "--runs")
    return folder


def root_in(root: str | Path) -> Path:
    """The folder of committed records and of what is made of them.

    Raises:
        UsageError: it is something else.
    """
    from bench.core.files import check_folder

    check_folder(Path(root), "--root")
    return Path(root)
