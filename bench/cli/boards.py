"""Commands of the leaderboard: leaderboard, submit, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import BOARD, ROOT, Says, app, command, wrote


@command(app, "bench leaderboard --check", panel=BOARD)
def leaderboard(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a committed page or figure is stale.")
    ] = False,
    root: ROOT = Path("leaderboards"),
) -> Says:
    """Generate the leaderboard pages and their figures from the committed records."""
    import bench
    from bench.core.errors import RunError

    found = bench.leaderboard(root, check)
    if check and found:
        raise RunError(f"Stale: {', '.join(map(str, found))}; run `bench leaderboard` and commit")
    return (
        Says({"stale": []}, "Leaderboards are fresh")
        if check
        else Says({"written": list(map(str, found))}, wrote(found))
    )


@command(app, "bench submit runs/0123456789ab", panel=BOARD, shared="cache")
def submit(
    folders: Annotated[list[Path], typer.Argument(help="Run folders.")],
    root: ROOT = Path("leaderboards"),
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Accept runs of code that was not committed; the page says so.")
    ] = False,
    **place: Any,
) -> Says:
    """Score the runs' checkpoints again, compare, and copy their records to the leaderboard's."""
    import bench

    done = bench.submit(folders, root, allow_dirty, **place)
    for one in (one for one in done if one.sequences is None):
        typer.echo(f"bench: {one.record}: no scores per sequence, the second scoring differs in some pixels", err=True)
    value = {"records": [str(one.record) for one in done], "new": [str(one.record) for one in done if one.new]}
    return Says(value, "\n".join(f"{'Wrote' if one.new else 'Unchanged'} {one.record}" for one in done))


@command(
    app,
    "bench verify leaderboards/records/ministreet/stpl-s0-0123456789ab.json",
    panel=BOARD,
    shared="cache device threads",
)
def verify(
    record: Annotated[Path, typer.Argument(help="A committed record, or a run folder.")],
    full: Annotated[
        bool,
        typer.Option("--full", help="Take nothing from the cache: render the clips and train the source model too."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on a difference in another environment too.")] = False,
    **place: Any,
) -> Says:
    """Run a record's config again and say how the new scores differ. Fails when they do in the record's environment.

    --threads 0 takes as many as the record's run had.
    """
    import bench
    from bench.leaderboards.verify import report_text

    report = bench.verify(record, full, **place)
    return Says(report.as_json(), report_text(report), failed=report.failed(strict))
