"""``bench analyse`` as a person meets it: which runs, where, with progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.core.progress import ProgressDisplay
from bench.core.workspace import Workspace, default_cache, default_data_root, default_runs, pick_device
from bench.runs.config import parse_range

from .analyse import analyse, judge_runs, run_folders, runs_of


def work(
    names: list[str],
    methods: str | None,
    seeds: str,
    shift: str,
    parts: list[str],
    embedding: Any,
    pseudo_labels: bool,
    cells: int,
    root: Path,
    places: tuple[Path | None, Path | None, Path | None],
    device: str,
    threads: int,
) -> list[Path]:
    """Analyse runs that are named, or those of methods; ``places`` are the folders of runs, cache and data.

    Returns:
        The files that were written.
    """
    import torch

    runs, cache, data_root = places
    runs = runs or default_runs()
    if methods is None:
        folders = run_folders(names, runs)
    else:
        chosen = [name.strip() for name in methods.split(",") if name.strip()]
        folders = runs_of(chosen, shift, parse_range("--seeds", seeds), runs)
    if threads:
        torch.set_num_threads(threads)
    with ProgressDisplay() as progress:
        where = (runs, cache or default_cache(), pick_device(device), progress)
        workspace = Workspace(*where, data_root=data_root or default_data_root())
        written = judge_runs(folders, root, workspace) if pseudo_labels else []
        if parts or embedding:
            written += analyse(folders, parts, embedding, root, workspace, cells)
    return written
