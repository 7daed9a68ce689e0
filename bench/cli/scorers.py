"""Command that scores finished runs without labels: scorers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import COMPARE, ROOT, SHIFT, Says, app, command, fresh, names, wrote


@command(
    app,
    "bench scorers --methods source_only,adabn,stpl --seeds 0:3",
    panel=COMPARE,
    shared="data_root runs cache device threads",
)
def scorers(
    runs_: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="Run folders or hashes.")] = None,
    methods: Annotated[
        str | None, typer.Option("--methods", help="Instead of runs: methods, e.g. source_only,stpl.")
    ] = None,
    seeds: Annotated[str, typer.Option("--seeds", help="With --methods: first and end of the replicates.")] = "0:3",
    shift: SHIFT = "ministreet",
    check: Annotated[bool, typer.Option("--check", help="Score nothing; fail if a page is stale.")] = False,
    root: ROOT = Path("leaderboards"),
    **shared: Any,
) -> Says:
    """Score finished runs on unlabelled target clips, and say on a page which score would have chosen well.

    Without runs or methods, the pages are made of what is kept.
    """
    import bench
    from bench.core.errors import UsageError

    if runs_ and methods:
        raise UsageError("Name runs or --methods, not both")
    if check:
        if runs_ or methods:
            raise UsageError("--check scores nothing; leave the runs and the methods out")
        return fresh(bench.scorers(root=root, check=True), "bench scorers", "Pages are fresh")
    chosen = names(methods or "")
    written = bench.scorers(runs_ or (), methods=chosen, seeds=seeds, shift=shift, root=root, **shared)
    return Says({"written": [str(p) for p in written]}, wrote(written) or "Nothing to write: no page is stale")
