"""Commands over finished runs: compare, gains, export."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import DEBUG, JSON, RUNS, SHIFT, app, one_line_errors, print_json

ROOT = Annotated[Path, typer.Option("--root", help="Folder with records/.")]


@app.command(epilog="Example: bench compare 168428c09373 a13a8d652f10")
def compare(
    run_a: Annotated[str, typer.Argument(help="Hash of a run, run folder, or record file.")],
    run_b: Annotated[str, typer.Argument(help="The other one.")],
    runs: RUNS = None,
    root: ROOT = Path("leaderboards"),
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Say what differs between two runs in config, environment, result and cost."""
    with one_line_errors(debug):
        from rich.console import Console

        from bench.analysis import compare as comparing
        from bench.core.workspace import default_runs
        from bench.runs.finished import find_record
        from bench.runs.records import read_record

        a, b = (read_record(find_record(run, runs or default_runs(), root)) for run in (run_a, run_b))
        print_json(comparing.as_json(a, b)) if as_json else Console().print(comparing.as_tables(a, b))


@app.command(epilog="Example: bench gains stpl source_only --out gains.png")
def gains(
    ours: Annotated[
        str, typer.Argument(help="A method, stpl:fusion=none for options, or one run as in bench compare.")
    ],
    theirs: Annotated[str, typer.Argument(help="What it is compared with.")],
    shift: SHIFT = "ministreet",
    out: Annotated[Path | None, typer.Option("--out", help="PNG to write; only the table without it.")] = None,
    runs: RUNS = None,
    root: ROOT = Path("leaderboards"),
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Show what a method wins and loses over another by class, paired by replicate, from committed records and local runs."""
    with one_line_errors(debug):
        from bench.analysis.gains import gains_table, run_gains
        from bench.core.workspace import default_runs

        result = run_gains(ours, theirs, shift, out, runs or default_runs(), root)
        print_json(result) if as_json else typer.echo(gains_table(result) + (f"\nWrote {out}" if out else ""))


@app.command(epilog="Example: bench export 168428c09373 --csv losses.csv")
def export(
    run: Annotated[list[str], typer.Argument(help="Hashes or folders of runs.")],
    csv: Annotated[Path, typer.Option("--csv", help="File to write.")] = Path("metrics.csv"),
    runs: RUNS = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Write the training logs of runs as one CSV: run, method, seed, step, losses."""
    with one_line_errors(debug):
        from bench.analysis.export import export_csv
        from bench.core.workspace import default_runs

        rows = export_csv(run, csv, runs or default_runs())
        print_json({"csv": str(csv), "rows": rows}) if as_json else typer.echo(f"Wrote {csv} ({rows} rows)")
