"""Commands that show what finished runs predict: panels, strip."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import CACHE, DATA_ROOT, DEBUG, DEVICE, JSON, RUNS, SEED, SHIFT, app, one_line_errors, print_json

METHODS = Annotated[
    str,
    typer.Option("--methods", "-m", help="Methods with finished runs, with commas; options as stpl:fusion=none."),
]


@app.command(epilog="Example: bench panels --methods source_only,stpl,oracle --seed 0 --clips 3")
def panels(
    methods: METHODS = "source_only,ur,hcl,stpl,oracle",
    shift: SHIFT = "ministreet",
    seed: SEED = 0,
    clips: Annotated[int, typer.Option("--clips", min=1, max=12, help="Clips, evenly spread over the split.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="PNG to write.")] = Path("preview/panels.png"),
    runs: RUNS = None,
    cache: CACHE = None,
    data_root: DATA_ROOT = None,
    device: DEVICE = "auto",
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Draw frame, truth, predictions and errors of finished runs on validation clips, at t-1 and t."""
    with one_line_errors(debug):
        from bench.analysis.panels import run_panels
        from bench.core.progress import ProgressDisplay
        from bench.core.workspace import Workspace

        with ProgressDisplay() as progress:
            workspace = Workspace.at(runs, cache, data_root, device, progress=progress)
            result = run_panels(_names(methods), shift, seed, clips, out, workspace)
        print_json(result) if as_json else typer.echo(f"Wrote {out}")


@app.command(epilog="Example: bench strip --methods source_only,stpl,oracle --frames 16 --out strip.gif")
def strip(
    methods: METHODS = "source_only,stpl,oracle",
    shift: SHIFT = "ministreet",
    seed: SEED = 0,
    frames: Annotated[int, typer.Option("--frames", min=1, max=200, help="Consecutive frames.")] = 16,
    clip: Annotated[int, typer.Option("--clip", min=0, help="Which clip of the demonstration world.")] = 0,
    rate: Annotated[float, typer.Option("--rate", min=0.1, max=60, help="Frames per second.")] = 4.0,
    out: Annotated[Path, typer.Option("--out", help="GIF, mp4 or PNG to write.")] = Path("preview/strip.gif"),
    runs: RUNS = None,
    device: DEVICE = "auto",
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Film a world of no split: frame, truth, predictions, and where they flicker from frame to frame."""
    with one_line_errors(debug):
        from bench.analysis.strips import run_strip
        from bench.core.progress import ProgressDisplay
        from bench.core.workspace import Workspace

        with ProgressDisplay() as progress:
            workspace = Workspace.at(runs, device=device, progress=progress)
            result = run_strip(_names(methods), shift, seed, frames, clip, rate, out, workspace)
        print_json(result) if as_json else typer.echo(f"Wrote {out}")


def _names(text: str) -> list[str]:
    """``"a,b"`` to ``["a", "b"]``."""
    return [name.strip() for name in text.split(",") if name.strip()]
