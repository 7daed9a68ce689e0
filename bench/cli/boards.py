"""Commands of the leaderboard: leaderboard, submit, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import CACHE, DEBUG, DEVICE, JSON, app, one_line_errors, print_json


@app.command(epilog="Example: bench leaderboard --check")
def leaderboard(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a committed page or figure is stale.")
    ] = False,
    root: Annotated[Path, typer.Option("--root", help="Folder with records/.")] = Path("leaderboards"),
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Generate the leaderboard pages and their figures from the committed records."""
    with one_line_errors(debug):
        from bench.leaderboards import page as pages

        if check:
            pages.of_root(root).check("bench leaderboard")
            print_json({"stale": []}) if as_json else typer.echo("Leaderboards are fresh")
            return
        written = [str(path) for path in pages.write(root)]
        print_json({"written": written}) if as_json else typer.echo("\n".join(f"Wrote {path}" for path in written))


@app.command(epilog="Example: bench submit runs/0123456789ab")
def submit(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    root: Annotated[Path, typer.Option("--root", help="Folder with records/.")] = Path("leaderboards"),
    cache: CACHE = None,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Accept runs of code that was not committed; the page says so.")
    ] = False,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Score the runs' checkpoints again, compare, and copy their records to the leaderboard's."""
    with one_line_errors(debug):
        from bench.core.progress import ProgressDisplay
        from bench.leaderboards.submit import submit_runs

        with ProgressDisplay() as progress:
            done = submit_runs(folders, root, cache, allow_dirty, progress)
        for one in (one for one in done if one.sequences is None):
            typer.echo(
                f"bench: {one.record}: no scores per sequence, the second scoring differs in some pixels", err=True
            )
        if as_json:
            print_json(
                {"records": [str(one.record) for one in done], "new": [str(one.record) for one in done if one.new]}
            )
        else:
            typer.echo("\n".join(f"{'Wrote' if one.new else 'Unchanged'} {one.record}" for one in done))


@app.command(epilog="Example: bench verify leaderboards/records/ministreet/stpl-s0-0123456789ab.json")
def verify(
    record: Annotated[Path, typer.Argument(help="A committed record, or a run folder.")],
    full: Annotated[
        bool,
        typer.Option("--full", help="Take nothing from the cache: render the clips and train the source model too."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on a difference in another environment too.")] = False,
    cache: CACHE = None,
    device: DEVICE = "auto",
    threads: Annotated[
        int, typer.Option("--threads", min=0, help="CPU threads of torch; 0: as many as the record's run had.")
    ] = 0,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Run a record's config again and say how the new scores differ. Fails when they do in the record's environment."""
    with one_line_errors(debug):
        from bench.core.progress import ProgressDisplay
        from bench.leaderboards.verify import report_text, verify_record

        with ProgressDisplay() as progress:
            report = verify_record(record, cache, device, threads, full, progress)
        print_json(report.as_json()) if as_json else typer.echo(report_text(report))
        if report.failed(strict):
            raise typer.Exit(1)
