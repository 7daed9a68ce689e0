"""Commands of the leaderboard: leaderboard, site, submit, verify."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.core.errors import UsageError

from .common import BOARD, OPTION, ROOT, SHIFT, Says, app, command, fresh, wrote


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
    **shared: Any,
) -> Says:
    """Generate the leaderboard pages and their figures from the committed records."""
    import bench

    files = bench.leaderboard(root, check, sample, **shared)
    if check:
        return fresh(files, "bench leaderboard", "Leaderboards are fresh")
    return Says({"written": list(map(str, files))}, wrote(files))


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
    **shared: Any,
) -> Says:
    """Score the runs' checkpoints again, compare, and copy their records to the leaderboard's."""
    import bench

    done = bench.submit(folders, root, allow_dirty, **shared)
    value = {"records": [str(run.record) for run in done], "new": [str(run.record) for run in done if run.new]}
    return Says(value, "\n".join(f"{'Wrote' if run.new else 'Unchanged'} {run.record}" for run in done))


@command(app, "bench release ministreet --seeds 0:3", panel=BOARD, shared="runs cache")
def release(
    shift: Annotated[str, typer.Argument(help="A name from `bench list shifts`, or a YAML file.")],
    seeds: Annotated[str, typer.Option("--seeds", help="First and end of the replicates, e.g. 0:3.")] = "0",
    option: OPTION = None,
    root: ROOT = Path("leaderboards"),
    **shared: Any,
) -> Says:
    """Copy source models from the cache to leaderboards/sources, where every run looks before it trains one.

    Refused where committed records started from another one, or another one was released before.
    """
    import bench
    from bench.runs.options import parse_options

    paths = bench.release(shift, seeds, root, options=parse_options(option or []), **shared)
    return Says([str(path) for path in paths], wrote(paths))


@command(
    app,
    "bench verify leaderboards/records/ministreet/stpl-s0-0123456789ab.json",
    panel=BOARD,
    shared="runs cache data_root device threads",
)
def verify(
    record: Annotated[Path | None, typer.Argument(help="A committed record, or a run folder.")] = None,
    full: Annotated[
        bool,
        typer.Option("--full", help="Take nothing from the cache: render the clips and train the source model too."),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Fail on a difference in another environment too.")] = False,
    worlds: Annotated[
        str | None,
        typer.Option("--worlds", help="On MiniStreet worlds made of this salt, beside source_only and self_training."),
    ] = None,
    method: Annotated[
        str | None, typer.Option("--method", "-m", help="With --worlds: a method instead of a record, name or file.")
    ] = None,
    option: OPTION = None,
    seeds: Annotated[str, typer.Option("--seeds", help="With --worlds: replicates.")] = "0:3",
    shift: SHIFT = "ministreet",
    root: ROOT = Path("leaderboards"),
    **shared: Any,
) -> Says:
    """Run a record's config again and say how the new scores differ. Fails when they do in the record's environment, or elsewhere
    when the mIoU of two runs from one source model differs by more than another processor explains.

    --threads 0 takes as many as the record's run had. With --worlds the method is run on worlds that nobody knew when it
    was written; fails when what its records claim to gain is not within the interval there, or when its order against self_training
    is reversed.
    """
    import bench
    from bench.leaderboards.verify import report_text
    from bench.runs.options import parse_options

    options = parse_options(option or [])
    if worlds is None:
        if record is None or method is not None or options:
            raise UsageError("Give a record; --method and -o are for --worlds")
        shared.pop("runs")
        report = bench.verify(record, full, **shared)
        return Says(report.as_json(), report_text(report), failed=report.failed(strict))
    if full or strict:
        raise UsageError("--full and --strict are of a second run of a record; leave them out with --worlds")
    hidden = bench.verify(
        record, worlds=worlds, method=method, options=options, seeds=seeds, shift=shift, root=root, **shared
    )
    verdict = {"interval": hidden.interval, "order": hidden.order, "confirmed": hidden.passed}
    return Says(json.loads(hidden.to_json()) | verdict, hidden.text, failed=not hidden.passed)
