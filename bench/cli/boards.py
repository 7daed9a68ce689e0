"""Commands of the leaderboard: leaderboard, site, submit, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import BOARD, OPTION, ROOT, Says, app, command, fresh, wrote


@command(app, "bench leaderboard --check", panel=BOARD, shared="runs cache data_root")
def leaderboard(
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; fail if a committed page or figure is stale.")
    ] = False,
    sample: Annotated[
        int,
        typer.Option("--sample", min=0, help="With --check: score so many records again, of those with runs at hand."),
    ] = 0,
    root: ROOT = Path("leaderboards"),
    **place: Any,
) -> Says:
    """Generate the leaderboard pages and their figures from the committed records."""
    import bench

    found = bench.leaderboard(root, check, sample, **place)
    if check:
        return fresh(found, "bench leaderboard", "Leaderboards are fresh")
    return Says({"written": list(map(str, found))}, wrote(found))


@command(app, "bench site --out site/", panel=BOARD)
def site(
    out: Annotated[Path, typer.Option("--out", help="Folder of the site; open its index.html.")] = Path("site"),
    root: ROOT = Path("leaderboards"),
) -> Says:
    """Write the leaderboards as a static site that needs no server. Needs pip install 'stpl-benchmark\\[site]'."""
    import bench

    written = bench.site(out, root)
    return Says({"site": str(out), "files": len(written)}, f"Wrote {len(written)} files; open {out / 'index.html'}")


@command(app, "bench submit runs/0123456789ab", panel=BOARD, shared="cache data_root")
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
    value = {"records": [str(one.record) for one in done], "new": [str(one.record) for one in done if one.new]}
    return Says(value, "\n".join(f"{'Wrote' if one.new else 'Unchanged'} {one.record}" for one in done))


@command(app, "bench release ministreet --seeds 0:3", panel=BOARD, shared="runs cache")
def release(
    shift: Annotated[str, typer.Argument(help="A name from `bench list shifts`, or a YAML file.")],
    seeds: Annotated[str, typer.Option("--seeds", help="First and end of the replicates, e.g. 0:3.")] = "0",
    option: OPTION = None,
    root: ROOT = Path("leaderboards"),
    **place: Any,
) -> Says:
    """Copy source models from the cache to leaderboards/sources, where every run looks before it trains one.

    Refused where committed records started from another one, or another one was released before.
    """
    import bench
    from bench.runs.config import parse_options

    paths = bench.release(shift, seeds, root, options=parse_options(option or []), **place)
    return Says([str(path) for path in paths], wrote(paths))


@command(
    app,
    "bench verify leaderboards/records/ministreet/stpl-s0-0123456789ab.json",
    panel=BOARD,
    shared="cache data_root device threads",
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
