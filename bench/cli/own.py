"""Commands on models and one's own footage: adapt, predict."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import METHOD, OPTION, OWN, RATE, Says, app, command

CHECKPOINT = Annotated[
    Path,
    typer.Option(
        "--checkpoint", help="Folder of a finished run, or a model file (of `bench convert` or `bench adapt`)."
    ),
]
SIZE = Annotated[
    str | None, typer.Option("--size", help="HEIGHTxWIDTH the network works at, brought to its multiples.")
]
SKIP_BAD = Annotated[bool, typer.Option("--skip-bad", help="Leave out pictures that cannot be read, and count them.")]

OVERLAY = Annotated[bool, typer.Option("--overlay/--no-overlay", help="Write colour overlays too.")]
VIDEO = Annotated[str, typer.Option("--video", help="mp4, gif or none: one per sequence.")]


def parse_size(text: str | None) -> tuple[int, int] | None:
    """``"512x1024"`` to ``(512, 1024)``."""
    from bench.core.errors import UsageError

    if text is None:
        return None
    sides = re.fullmatch(r"([0-9]{2,4})x([0-9]{2,4})", text.lower())
    if not sides or not all(32 <= int(side) <= 8192 for side in sides.groups()):
        raise UsageError(f"--size is HEIGHTxWIDTH with sides of 32 to 8192 pixels, e.g. 512x1024, got '{text:.60}'")
    return int(sides[1]), int(sides[2])


@command(
    app,
    "bench adapt --checkpoint model.safetensors --frames footage/ --method stpl --out adapted/",
    panel=OWN,
    shared="cache device threads",
)
def adapt(
    checkpoint: CHECKPOINT,
    frames: Annotated[Path, typer.Option("--frames", help="Folder of pictures, a video file, or a YAML about them.")],
    out: Annotated[Path, typer.Option("--out", help="Folder for the adapted model and the masks.")],
    method: METHOD = "stpl",
    option: OPTION = None,
    flow: Annotated[str, typer.Option("--flow", help="A backend of `bench list flows`.")] = "dis",
    size: SIZE = None,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimiser steps.")] = 500,
    batch: Annotated[int, typer.Option("--batch", min=1, max=1024, help="Clips per step.")] = 4,
    lr: Annotated[float, typer.Option("--lr", min=1e-8, help="Learning rate of the encoder.")] = 5e-4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of the order of clips and the method's draws.")] = 0,
    skip_bad: SKIP_BAD = False,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Threads that read pictures ahead.")] = 2,
    masks: Annotated[bool, typer.Option("--masks/--no-masks", help="Write what `bench predict` writes.")] = True,
    overlay: OVERLAY = True,
    video: VIDEO = "none",
    rate: RATE = 10.0,
    force: Annotated[
        bool, typer.Option("--force", help="Remove what an earlier `bench adapt` wrote to --out.")
    ] = False,
    **shared: Any,
) -> Says:
    """Adapt a model to your own unlabelled footage with a source-free method, without its source data, and write masks."""
    import bench
    from bench.runs.options import parse_options

    from ._footage import closing

    report = bench.adapt(
        checkpoint, frames, out, method, options=parse_options(option or []), flow=flow, size=parse_size(size),
        steps=steps, batch=batch, lr=lr, seed=seed, masks=masks, overlay=overlay, video=video, rate=rate,
        skip_bad=skip_bad, force=force, workers=workers, **shared,
    )  # fmt: skip
    return Says(report, lambda: closing(report))


@command(
    app,
    "bench predict --checkpoint runs/0123456789ab --out predictions/",
    panel=OWN,
    shared="data_root cache device threads",
)
def predict(
    checkpoint: CHECKPOINT,
    out: Annotated[Path, typer.Option("--out", help="Folder for the pictures.")],
    shift: Annotated[str | None, typer.Option("--shift", help="Benchmark to predict on [default: the run's].")] = None,
    frames: Annotated[Path | None, typer.Option("--frames", help="Your own footage instead of a shift's.")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="val or train, of the shift's target [default: val].")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Replicate, for a model file [default: 0, or the run's].")
    ] = None,
    flow: Annotated[
        str | None, typer.Option("--flow", help="Flow backend [default: the run's or the shift's].")
    ] = None,
    size: SIZE = None,
    overlay: OVERLAY = True,
    video: VIDEO = "none",
    rate: RATE = 10.0,
    skip_bad: SKIP_BAD = False,
    **shared: Any,
) -> Says:
    """Write label maps that the official Cityscapes evaluator accepts, colour overlays, and a video of each sequence."""
    import bench

    from ._footage import closing

    report = bench.predict(
        checkpoint, out, shift=shift, frames=frames, split=split, seed=seed, flow=flow, size=parse_size(size),
        overlay=overlay, video=video, rate=rate, skip_bad=skip_bad, **shared,
    )  # fmt: skip
    return Says(report, lambda: closing(report))
