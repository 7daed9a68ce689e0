"""Commands of the leaderboard: leaderboard, submit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.errors import RunError

from .common import CACHE, DEBUG, JSON, app, one_line_errors, print_json


@app.command(epilog="Example: bench leaderboard --check")
def leaderboard(
    check: Annotated[bool, typer.Option("--check", help="Write nothing; fail if a committed page is stale.")] = False,
    root: Annotated[Path, typer.Option("--root", help="Folder with records/.")] = Path("leaderboards"),
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Generate the leaderboard pages from the committed records."""
    with one_line_errors(debug):
        from bench import leaderboard as pages

        if check:
            stale = pages.check(root)
            if stale:
                raise RunError(f"Stale: {', '.join(map(str, stale))}; run `bench leaderboard` and commit")
            print_json({"stale": []}) if as_json else typer.echo("Leaderboards are fresh")
            return
        written = [str(path) for path in pages.write(root)]
        print_json({"written": written}) if as_json else typer.echo("\n".join(f"Wrote {path}" for path in written))


@app.command(epilog="Example: bench submit runs/0123456789ab")
def submit(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    root: Annotated[Path, typer.Option("--root", help="Folder with records/.")] = Path("leaderboards"),
    cache: CACHE = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Score the runs' checkpoints again, compare, and copy their records to the leaderboard's."""
    with one_line_errors(debug):
        from bench.submit import submit_runs

        copied = [str(path) for path in submit_runs(folders, root, cache)]
        print_json({"records": copied}) if as_json else typer.echo("\n".join(f"Wrote {path}" for path in copied))
