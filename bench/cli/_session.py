"""``bench run`` as a person meets it: progress while it works, figures and a panel when it is done."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.core.errors import RunError
from bench.core.progress import ProgressDisplay
from bench.core.provenance import code
from bench.core.workspace import Workspace, default_cache, default_runs, pick_device
from bench.leaderboards.standings import oracle_and_source_only
from bench.runs.config import RunConfig
from bench.runs.records import Record, read_record, read_records
from bench.runs.run import run
from bench.runs.watching import LOGS, watched

from ._closing import closing_panel

LEADERBOARDS = Path("leaderboards")


def execute(config: RunConfig, workspace: Workspace, threads: int, as_json: bool, tensorboard: bool = False) -> None:
    """Do the run and show the result."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    with ProgressDisplay() as progress, watched(tensorboard) as observer:
        record = run(config, dataclasses.replace(workspace, progress=progress, observer=observer))
    if tensorboard and not (workspace.runs / config.hash / LOGS).is_dir():
        sys.stderr.write(
            "bench: no TensorBoard log: the run was finished before (--force repeats it) or does not train\n"
        )
    if record.code["revision"] != code()["revision"]:
        sys.stderr.write(f"bench: found a finished run of revision {record.code['revision']}; --force repeats it\n")
    if as_json:
        sys.stdout.write(record.to_json())
        return
    folder = workspace.runs / config.hash
    figures = sorted((folder / "figures").glob("*.png"))
    page = LEADERBOARDS / f"{config.shift}.md"
    floor, ceiling = oracle_and_source_only(known_records(record, workspace.runs), config.seed)
    Console().print(closing_panel(record, folder, figures, page, floor, ceiling))


def profiles(
    configs: list[RunConfig], cache: Path | None, device: str, threads: int, steps: int
) -> list[dict[str, Any]]:
    """``bench profile``: each method's step taken apart."""
    import torch

    from bench.runs.profiling import profile

    if threads:
        torch.set_num_threads(threads)
    with ProgressDisplay() as progress:
        workspace = Workspace(default_runs(), cache or default_cache(), pick_device(device), progress)
        return [profile(config, workspace, steps) for config in configs]


def known_records(record: Record, runs: Path) -> list[Record]:
    """Finished local runs and committed records of the same protocol, for the floor and the ceiling of a replicate."""
    local = []
    for path in sorted(runs.glob("*/record.json")):
        with contextlib.suppress(RunError):  # a damaged record of another run is that run's business
            local.append(read_record(path))
    with contextlib.suppress(RunError):
        local += read_records(LEADERBOARDS / "records" / record.config.shift)
    return [r for r in (record, *local) if r.shift_hash == record.shift_hash]
