"""Commands on networks and their files: convert, flops."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import DEBUG, JSON, app, one_line_errors, print_json


@app.command(epilog="Example: bench convert davsn_viper2city.pth --layout da_vsn --out model.safetensors")
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
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Turn a published DA-VSN, TPS, ADVENT or AdaptSegNet checkpoint into a model file with the same scores."""
    with one_line_errors(debug):
        from bench.networks.model_file import save_model
        from bench.networks.published import convert as read
        from bench.runs.config import load_shift

        classes = load_shift(shift).classes if shift else None
        found = read(checkpoint, layout, network, fusion)
        origin = {"converted_from": checkpoint.name, "layout": found.layout}
        save_model(out, found.segmenter, found.network, found.fusion, found.num_classes, classes=classes, origin=origin)
        report = {
            "model": str(out),
            "layout": found.layout,
            "network": found.network,
            "fusion": found.fusion,
            "num_classes": found.num_classes,
            "auxiliary": found.segmenter.auxiliary_classifier is not None,
            "matched": found.matched,
            "ignored": list(found.ignored),
            "missing": list(found.missing),
        }
        print_json(report) if as_json else print_report(report)


@app.command(epilog="Example: bench flops --height 512 --width 1024")
def flops(
    height: Annotated[int, typer.Option("--height", min=32, help="Of a frame, pixels.")] = 512,
    width: Annotated[int, typer.Option("--width", min=32, help="Of a frame, pixels.")] = 1024,
    classes: Annotated[int, typer.Option("--classes", min=2, help="Number of classes.")] = 15,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Say how large each network is and how much a frame costs, for the arithmetic of how long a run takes."""
    with one_line_errors(debug):
        from bench.networks.cost import costs

        rows = costs(height, width, classes)
        if as_json:
            print_json(rows)
            return
        typer.echo(f"{'network':32}{'parameters':>12}{'GFLOP/frame':>13}{'features':>16}")
        for row in rows:
            if "broken" in row:
                typer.echo(f"{row['network']}: {row['broken']}")
                continue
            size = "x".join(map(str, row["features"]))
            typer.echo(f"{row['network']:32}{row['parameters'] / 1e6:10.1f} M{row['flops'] / 1e9:13.1f}{size:>16}")


def print_report(report: dict[str, Any]) -> None:
    """What matched, as a table; long lists of names are cut."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False)
    for key in ("model", "layout", "network", "fusion", "num_classes", "auxiliary"):
        table.add_row(key.replace("_", " "), str(report[key]))
    table.add_row("matched", f"{report['matched']} tensors")
    for key in ("ignored", "missing"):
        names = report[key]
        rest = f", ... {len(names) - 4} more" if len(names) > 4 else ""
        table.add_row(key, f"{len(names)}" + (f": {', '.join(names[:4])}{rest}" if names else ""))
    Console().print(table)
