"""Commands for optical flow: flow compute, flow compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bench.core.errors import RunError

from .common import CACHE, DATA_ROOT, DEBUG, JSON, SEED, app, one_line_errors, print_json

group = typer.Typer(
    help="Compute optical flow ahead of runs, or compare flow backends.", no_args_is_help=True, add_completion=False
)
app.add_typer(group, name="flow")

SHIFT = Annotated[str, typer.Argument(help="A name from `bench list shifts`, or a YAML file.")]


@group.command(epilog="Example: bench flow compute ministreet --backend dis --split target-train")
def compute(
    shift: SHIFT,
    backend: Annotated[str, typer.Option("--backend", "-b", help="raft, raft_small, dis, mmflow or files.")],
    split: Annotated[
        list[str] | None,
        typer.Option("--split", help="target-train, target-val, source-train; repeatable [default: target's two]."),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes; 0 = one per core, or one where there is a GPU.")
    ] = 0,
    store: Annotated[
        str, typer.Option("--store", help="float32, bit by bit; or int16: half the disk, off by up to 1/128 pixel.")
    ] = "float32",
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for summary and picture [default: beside the flow].")
    ] = None,
    seed: SEED = 0,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Note clips whose files cannot be read and go on without them.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Release flow although the frames speak against it.")] = False,
    data_root: DATA_ROOT = None,
    cache: CACHE = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Compute a split's flow into the cache, where runs with that backend find it, and check it against the frames."""
    with one_line_errors(debug):
        from bench.core.progress import ProgressDisplay
        from bench.core.workspace import Workspace, default_cache, default_data_root
        from bench.runs.config import load_shift

        from ._flow import compute_table, run_compute, wrong_line

        protocol, splits = load_shift(shift), split or ["target-train", "target-val"]
        with ProgressDisplay() as show:
            workspace = Workspace(
                cache=cache or default_cache(), data_root=data_root or default_data_root(),
                progress=show, force=force, skip_bad=skip_bad,
            )  # fmt: skip
            done = run_compute(protocol, backend, splits, seed, workspace, out, store, workers or None)
        print_json(done) if as_json else typer.echo(compute_table(done))
        if not as_json:
            typer.echo("\n".join(f"Wrote {one['folder']}, picture {one['picture']}" for one in done))
        wrong = [one for one in done if one["wrong"]]
        if wrong and not force:
            raise RunError(wrong_line(wrong[0]))


@group.command(epilog="Example: bench flow compare ministreet --clips 32 --out flow.md")
def compare(
    shift: SHIFT,
    backend: Annotated[
        list[str] | None, typer.Option("--backend", "-b", help="Repeatable [default: dis, raft, raft_small].")
    ] = None,
    clips: Annotated[int, typer.Option("--clips", min=1, help="Number of clips.")] = 32,
    split: Annotated[str, typer.Option("--split", help="target-train, source-train ...")] = "target-train",
    out: Annotated[
        Path | None, typer.Option("--out", help="Table to write, a .md; .json and .png are written beside it.")
    ] = None,
    random_weights: Annotated[
        bool, typer.Option("--random-weights", help="Where RAFT has no weights, time it with random ones.")
    ] = False,
    seed: SEED = 0,
    data_root: DATA_ROOT = None,
    cache: CACHE = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Measure backends against exact flow: end-point error, outliers, validity, photometric error, speed of one thread."""
    with one_line_errors(debug):
        from bench.core.progress import ProgressDisplay
        from bench.core.workspace import Workspace, default_cache, default_data_root
        from bench.flow.compare import BOUNDS
        from bench.runs.config import load_shift

        from ._flow import run_compare

        names = [*BOUNDS, *(name for name in backend or ["dis", "raft", "raft_small"] if name not in BOUNDS)]
        protocol, root = load_shift(shift), data_root or default_data_root()
        with ProgressDisplay() as show:
            workspace = Workspace(cache=cache or default_cache(), data_root=root, progress=show)
            told = run_compare(protocol, names, split, clips, seed, workspace, out, random_weights)
        if as_json:
            print_json(told)
            return
        typer.echo(told["table"])
        typer.echo("\n".join(f"Wrote {path}" for path in told.get("written", [])))
