"""Commands over finished runs: compare, gains, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import COMPARE, ROOT, SHIFT, Says, app, command


@command(app, "bench compare 168428c09373 a13a8d652f10", panel=COMPARE, shared="runs")
def compare(
    run_a: Annotated[str, typer.Argument(help="Hash of a run, run folder, or record file.")],
    run_b: Annotated[str, typer.Argument(help="The other one.")],
    root: ROOT = Path("leaderboards"),
    **shared: Any,
) -> Says:
    """Say what differs between two runs in config, environment, result and cost."""
    import bench

    comparison = bench.compare(run_a, run_b, root, **shared)
    return Says(comparison.as_json(), lambda: comparison)


@command(app, "bench gains stpl source_only --out gains.png", panel=COMPARE, shared="runs")
def gains(
    ours: Annotated[
        str, typer.Argument(help="A method, stpl:fusion=none for options, or one run as in bench compare.")
    ],
    theirs: Annotated[str, typer.Argument(help="What it is compared with.")],
    shift: SHIFT = "ministreet",
    out: Annotated[Path | None, typer.Option("--out", help="PNG to write; only the table without it.")] = None,
    root: ROOT = Path("leaderboards"),
    **shared: Any,
) -> Says:
    """Show what a method wins and loses over another by class, paired by replicate, from committed records and local runs."""
    import bench
    from bench.analysis.gains import gains_table

    result = bench.gains(ours, theirs, shift, out, root, **shared)
    return Says(result, gains_table(result) + (f"\nWrote {out}" if out else ""))


@command(app, "bench export 168428c09373 --csv losses.csv", panel=COMPARE, shared="runs")
def export(
    run: Annotated[list[str], typer.Argument(help="Hashes or folders of runs.")],
    csv: Annotated[Path, typer.Option("--csv", help="File to write.")] = Path("metrics.csv"),
    **shared: Any,
) -> Says:
    """Write the training logs of runs as one CSV: run, method, seed, step, losses."""
    import bench

    rows = bench.export(run, csv, **shared)
    return Says({"csv": str(csv), "rows": rows}, f"Wrote {csv} ({rows} rows)")
