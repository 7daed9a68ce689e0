"""Commands on networks and their files: convert, flops."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import LOOK, OWN, Says, app, command


@command(app, "bench convert davsn_viper2city.pth --layout da_vsn --out model.safetensors", panel=OWN)
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="Published checkpoint: a torch file or .safetensors.")],
    out: Annotated[Path, typer.Option("--out", help="Model file to write.")] = Path("model.safetensors"),
    layout: Annotated[
        str, typer.Option("--layout", help="adaptsegnet, advent, da_vsn or tps; auto where the names tell.")
    ] = "auto",
    network: Annotated[
        str, typer.Option("--network", help="A network in the published layout, from `bench list networks`.")
    ] = "deeplabv2_resnet101_published",
    fusion: Annotated[
        str,
        typer.Option(
            "--fusion", help="none, conv1x1 or cross_attention instead of the layout's own: the single-frame model."
        ),
    ] = "",
    shift: Annotated[str, typer.Option("--shift", help="Benchmark whose class names go into the file.")] = "",
) -> Says:
    """Turn a published DA-VSN, TPS, ADVENT or AdaptSegNet checkpoint into a model file with the same scores."""
    import bench

    report = bench.convert(checkpoint, out, layout, network, fusion, shift)
    return Says(report, lambda: report_table(report))


@command(app, "bench flops --height 512 --width 1024", panel=LOOK)
def flops(
    height: Annotated[int, typer.Option("--height", min=32, help="Of a frame, pixels.")] = 512,
    width: Annotated[int, typer.Option("--width", min=32, help="Of a frame, pixels.")] = 1024,
    classes: Annotated[int, typer.Option("--classes", min=2, help="Number of classes.")] = 15,
) -> Says:
    """Say how large each network is and how much a frame costs, for the arithmetic of how long a run takes."""
    import bench

    rows = bench.flops(height, width, classes)
    lines = [f"{'network':32}{'parameters':>12}{'GFLOP/frame':>13}{'features':>16}"]
    for row in rows:
        size = "x".join(map(str, row["features"]))
        lines.append(f"{row['network']:32}{row['parameters'] / 1e6:10.1f} M{row['flops'] / 1e9:13.1f}{size:>16}")
    return Says(rows, "\n".join(lines))


def report_table(report: dict[str, Any]) -> Any:
    """What matched; long lists of names are cut."""
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for key in ("model", "layout", "network", "fusion", "num_classes", "auxiliary"):
        table.add_row(key.replace("_", " "), str(report[key]))
    table.add_row("matched", f"{report['matched']} tensors")
    for key in ("ignored", "missing"):
        found = report[key]
        rest = f", ... {len(found) - 4} more" if len(found) > 4 else ""
        table.add_row(key, f"{len(found)}" + (f": {', '.join(found[:4])}{rest}" if found else ""))
    return table
