"""Commands on networks and their files: convert, flops."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import LOOK, OWN, Says, app, command, whole


@command(app, "bench convert espnet_p_2_q_8.pth --layout espnet --out espnet.safetensors", panel=OWN)
def convert(
    checkpoint: Annotated[Path, typer.Argument(help="A torch file or .safetensors, from anywhere; never unpickled.")],
    out: Annotated[Path, typer.Option("--out", help="Model file to write.")] = Path("model.safetensors"),
    layout: Annotated[
        str,
        typer.Option(
            "--layout",
            help="adaptsegnet, advent, da_vsn, tps, espnet; names for any other network; auto where the names tell.",
        ),
    ] = "auto",
    network: Annotated[
        str, typer.Option("--network", help="Which network the weights are of, from `bench list networks`.")
    ] = "",
    fusion: Annotated[
        str,
        typer.Option(
            "--fusion", help="none, conv1x1 or cross_attention instead of the layout's own: the single-frame model."
        ),
    ] = "",
    shift: Annotated[str, typer.Option("--shift", help="Benchmark whose class names go into the file.")] = "",
    classes: Annotated[
        int, typer.Option("--classes", min=0, max=65535, help="Number of classes, without --shift.")
    ] = 0,
    rename: Annotated[
        list[str] | None, typer.Option("--rename", help="THEIRS=OURS: a module of the file, as we call it; repeatable.")
    ] = None,
) -> Says:
    """Turn a checkpoint into a model file with the same scores: published ones, or your own of any network."""
    import bench

    report = bench.convert(checkpoint, out, layout, network, fusion, shift, classes, rename or ())
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
        if "broken" in row:
            lines.append(f"{row['network']}: {row['broken']}")
            continue
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
    for key in ("renamed", "ignored", "missing"):
        names = report[key]
        ending = f", ... {len(names) - 4} more" if len(names) > 4 else ""
        table.add_row(key, f"{len(names)}" + (f": {', '.join(names[:4])}{ending}" if names else ""))
    if report["note"]:
        table.add_row("note", report["note"])
    return whole(table)
