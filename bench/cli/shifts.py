"""Commands on shifts of one's own: shift new, shift check."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .common import OWN, Says, command, group_of

group = group_of("shift", OWN, "Make a shift of your own, and look at one.")


@command(group, "bench shift check cityscapes2camvid --data-root data --out sheet.png", shared="data_root cache")
def check(
    name: Annotated[str, typer.Argument(help="A shift, or its YAML.")],
    out: Annotated[Path | None, typer.Option("--out", help="PNG to write: pictures and labels of every split.")] = None,
    **shared: Any,
) -> Says:
    """Look at everything a shift's YAML names: files, shares of the classes, clips, pictures without a predecessor."""
    import bench

    from .data import report_lines

    checked = bench.shift_check(name, out, **shared)
    reports = checked.pop("reports")
    lines = [f"shift {checked['shift']}, protocol {checked['hash']}"]
    for report in reports:
        lines += report_lines(report, 20)
        if total := sum(report.pixels.values()):
            shares = ", ".join(f"{name} {100 * count / total:.1f}" for name, count in report.pixels.items())
            lines.append(f"  labelled pixels, %: {shares}")
        if report.alone:
            lines.append(f"  {report.alone} of {report.clips} clips have no predecessor: the picture stands for it")
    wrong = [f"{report.root / finding.path}: {finding.what}" for report in reports for finding in report.wrong]
    ending = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    if checked["sheet"]:
        lines.append(f"Wrote {checked['sheet']}")
    value = {**checked, "reports": [report.as_json() for report in reports]}
    return Says(value, "\n".join(lines), wrong[0] + ending if wrong else "")


@command(group, "bench shift new --out mine.yaml --target dusk/images --target-labels dusk/masks --source model.pth")
def new(
    out: Annotated[Path | None, typer.Option("--out", help="YAML to write; its name is the shift's.")] = None,
    target: Annotated[Path | None, typer.Option("--target", help="Folder of pictures.")] = None,
    target_labels: Annotated[Path | None, typer.Option("--target-labels", help="Folder of their labels.")] = None,
    classes: Annotated[
        str | None, typer.Option("--classes", help="Names in the order of the ids, or a file of lines `R G B name`.")
    ] = None,
    source: Annotated[Path | None, typer.Option("--source", help="Folder of pictures, or a model file.")] = None,
    source_labels: Annotated[
        Path | None, typer.Option("--source-labels", help="Folder of their labels; none for a model file.")
    ] = None,
    network: Annotated[str, typer.Option("--network", help="A name of `bench list networks`.")] = "mini",
    val: Annotated[
        str, typer.Option("--val", help="Share of each sequence that is adapted to; scored is the rest.")
    ] = "0.6",
    force: Annotated[bool, typer.Option("--force", help="Replace a file.")] = False,
) -> Says:
    """Write a commented YAML for a shift of your own, from flags; in a terminal it asks for what is missing."""
    import bench
    from bench.core.errors import UsageError

    def prompted(flag: str, description: str, value: Any) -> Any:
        if value is None and not sys.stdin.isatty():
            raise UsageError(f"{flag}: missing; {description}")
        return value if value is not None else typer.prompt(description)

    out = Path(prompted("--out", "the YAML to write", out))
    target = Path(prompted("--target", "the folder of the target's pictures", target))
    target_labels = Path(
        prompted("--target-labels", "the folder of their labels, of which `val` is scored", target_labels)
    )
    classes = prompted(
        "--classes", "names in the order of the labels' ids, with commas, or a file of lines `R G B name`", classes
    )
    source = Path(prompted("--source", "the folder of the source's pictures, or a model file", source))
    if source.is_dir():
        source_labels = Path(prompted("--source-labels", "the folder of the source's labels", source_labels))
    written = bench.shift_new(
        out,
        target,
        target_labels,
        str(classes),
        source=source,
        source_labels=source_labels,
        network=network,
        val=val,
        force=force,
    )
    return Says(
        written, f"Wrote {written['shift']}; read it, then: bench shift check {written['shift']} --out sheet.png"
    )
