"""``bench convert``: published checkpoints to model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .common import DEBUG, JSON, app, one_line_errors, print_json


@app.command(epilog="Example: bench convert viper_tps.pth --out tps.safetensors")
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of AdaptSegNet, ADVENT, DA-VSN or TPS.")],
    out: Annotated[Path, typer.Option("--out", help="Model file to write, .safetensors.")],
    fusion: Annotated[
        str | None,
        typer.Option("--fusion", help="accel_splat (DA-VSN), accel_warp (TPS) or none [default: by its weights]."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option("--classes", help="Class names in train-id order, with commas [default: by their number]."),
    ] = None,
    branches: Annotated[
        int, typer.Option("--branches", min=1, max=4, help="Branches of the heads in use; AdaptSegNet's code uses 2.")
    ] = 4,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Convert a published DeepLabv2-ResNet-101 checkpoint to a model file, and say what matched."""
    with one_line_errors(debug):
        from dataclasses import asdict

        from bench.convert import convert as make

        names = tuple(name.strip() for name in classes.split(",")) if classes else None
        report = make(checkpoint, out, names, fusion, branches)
        if as_json:
            print_json({"model": str(out), **asdict(report)})
            return
        typer.echo(f"Wrote {out}: {len(report.matched)} tensors matched")
        for what, found in (
            ("ignored", report.ignored),
            ("left as initialised", report.missing),
            ("note", report.notes),
        ):
            if found:
                shown = "; ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "")
                typer.echo(f"{what}: {shown}")
