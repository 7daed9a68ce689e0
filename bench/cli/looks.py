"""Commands that show what is there: list, preview, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.core.errors import UsageError

from .common import CACHE, DEBUG, JSON, RUNS, SEED, SHIFT, app, one_line_errors, print_json


@app.command("list", epilog="Example: bench list methods --shift viper2cityscapes")
def list_(
    what: Annotated[
        str, typer.Argument(help="methods, shifts, fusions, flows, networks or datasets; all without it.")
    ] = "",
    shift: Annotated[
        str, typer.Option("--shift", help="With methods: what every setting is on this shift, and where it is from.")
    ] = "",
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """List what is there, by discovery."""
    with one_line_errors(debug):
        from ._catalogue import catalogue, print_catalogue, settings

        if shift and what != "methods":
            raise UsageError("--shift goes with methods: bench list methods --shift NAME")
        found = settings(shift) if shift else catalogue(what)
        print_json(found) if as_json else print_catalogue(found)


@app.command(epilog="Example: bench preview --shift ministreet --clips 3")
def preview(
    shift: SHIFT = "ministreet",
    seed: SEED = 0,
    clips: Annotated[int, typer.Option("--clips", min=1, max=12, help="Clips per domain.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="PNG to write.")] = Path("preview/clips.png"),
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Write a contact sheet: frame t-1, t, label, flow, warped previous frame, valid mask, of both domains."""
    with one_line_errors(debug):
        from bench.analysis.preview import run_preview

        path = run_preview(shift, clips, seed, out)
        print_json({"preview": str(path)}) if as_json else typer.echo(f"Wrote {path}")


@app.command(epilog="Example: bench doctor --json")
def doctor(runs: RUNS = None, cache: CACHE = None, as_json: JSON = False, debug: DEBUG = False) -> None:
    """Say what is installed, which devices there are, free disk, and what is missing and how to get it."""
    with one_line_errors(debug):
        from ._doctor import examine, print_report

        report = examine(runs, cache)
        print_json(report) if as_json else print_report(report)
        if report["missing"]:
            raise typer.Exit(1)
