"""Commands for optical flow: flow compute, flow compare."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import REAL, SEED, Says, command, group_of, wrote

group = group_of("flow", REAL, "Compute optical flow ahead of runs, or compare flow backends.")

SHIFT = Annotated[str, typer.Argument(help="A name from `bench list shifts`, or a YAML file.")]


@command(group, "bench flow compute ministreet --backend dis --split target-train", shared="data_root cache")
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
    **shared: Any,
) -> Says:
    """Compute a split's flow into the cache, where runs with that backend find it, and check it against the frames."""
    import bench
    from bench.flow.reports import compute_table, wrong_line

    done = bench.flow_compute(
        shift, backend, split or ("target-train", "target-val"), seed, store=store, out=out, skip_bad=skip_bad,
        force=force, workers=workers, **shared,
    )  # fmt: skip
    places = [f"{summary['folder']}, picture {summary['picture']}" for summary in done]
    wrong = next((wrong_line(summary) for summary in done if summary["wrong"] and not force), "")
    return Says(done, f"{compute_table(done)}\n{wrote(places)}", wrong)


@command(group, "bench flow compare ministreet --clips 32 --out flow.md", shared="data_root cache")
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
    **shared: Any,
) -> Says:
    """Measure backends against exact flow: end-point error, outliers, validity, photometric error, speed of one thread."""
    import bench

    backends = backend or ("dis", "raft", "raft_small")
    comparison = bench.flow_compare(
        shift, backends, clips, split, seed, out=out, random_weights=random_weights, **shared
    )
    return Says(comparison, "\n".join(filter(None, [comparison["table"], wrote(comparison.get("written", []))])))
