"""Command that scores finished runs without labels: scorers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import CACHE, DATA_ROOT, DEBUG, DEVICE, JSON, RUNS, SHIFT, THREADS, app, one_line_errors, print_json


@app.command(epilog="Example: bench scorers --methods source_only,adabn,stpl --seeds 0:3")
def scorers(
    names: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Run folders or hashes.")] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Instead of runs: methods, e.g. source_only,stpl.")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="With --methods: first and end of the replicates.")] = "0:3",
    shift: SHIFT = "ministreet",
    check: Annotated[bool, typer.Option("--check", help="Score nothing; fail if a page is stale.")] = False,
    root: Annotated[Path, typer.Option("--root", help="Folder with analysis/ and records/.")] = Path("leaderboards"),
    runs: RUNS = None,
    cache: CACHE = None,
    data_root: DATA_ROOT = None,
    device: DEVICE = "auto",
    threads: THREADS = 0,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Score finished runs on unlabelled target clips, and say on a page which score would have chosen well.

    Without runs or methods, the pages are made of what is kept.
    """
    with one_line_errors(debug):
        from bench.analysis.scorers import score_runs, stale, write_pages
        from bench.core.errors import RunError, UsageError

        if names and methods:
            raise UsageError("Name runs or --methods, not both")
        if check:
            if names or methods:
                raise UsageError("--check scores nothing; leave the runs and the methods out")
            if old := stale(root):
                raise RunError(f"Stale: {', '.join(map(str, old))}; run `bench scorers` and commit")
            print_json({"stale": []}) if as_json else typer.echo("Pages are fresh")
            return
        written: list[Path] = []
        if names or methods:
            import torch

            from bench.analysis.analyse import run_folders, runs_of
            from bench.core.progress import ProgressDisplay
            from bench.core.workspace import Workspace, default_cache, default_data_root, default_runs, pick_device
            from bench.runs.config import parse_range

            if threads:
                torch.set_num_threads(threads)
            where = runs or default_runs()
            chosen = [name.strip() for name in (methods or "").split(",") if name.strip()]
            replicates = parse_range("--seeds", seeds)
            folders = run_folders(names, where) if names else runs_of(chosen, shift, replicates, where)
            with ProgressDisplay() as progress:
                workspace = Workspace(
                    where,
                    cache or default_cache(),
                    pick_device(device),
                    progress,
                    data_root=data_root or default_data_root(),
                )
                written = score_runs(folders, root, workspace)
        written += write_pages(root)
        print_json({"written": [str(p) for p in written]}) if as_json else typer.echo(
            "\n".join(f"Wrote {path}" for path in written) or f"Nothing is kept in {root / 'analysis'}"
        )
