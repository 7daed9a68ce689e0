"""Commands for data sets on disk: data check, data index, data fixture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .common import REAL, Says, command, group_of

if TYPE_CHECKING:
    from bench.data.check import Report

group = group_of("data", REAL, "Look at data sets on disk, list them, or make small ones.")

NAME = Annotated[str, typer.Argument(help="A shift (its source and target), or a data set: viper, cityscapes_seq ...")]
ROOT = Annotated[
    Path, typer.Option("--root", help="Data root or the data set's own folder; for frames also a video or a YAML file.")
]
SPLIT = Annotated[str | None, typer.Option("--split", help="train or val [default: all that are used].")]
FRAMES = Annotated[int, typer.Option("--frames", min=2, help="Frames per clip.")]


@command(group, "bench data check viper --root data", shared="cache")
def check(
    name: NAME,
    root: ROOT,
    split: SPLIT = None,
    frames: FRAMES = 2,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Threads that decode; 0 = one per core.")] = 0,
    partial: Annotated[
        bool, typer.Option("--partial", help="Accept fewer clips or smaller pictures than published.")
    ] = False,
    max_listed: Annotated[int, typer.Option("--max-listed", min=0, help="Files listed per kind of fault.")] = 20,
    **shared: Any,
) -> Says:
    """Decode everything a shift uses and list missing, unreadable, truncated, wrong-sized and unpaired files."""
    import bench

    reports = bench.data_check(name, root, split, frames, partial, workers=workers, **shared)
    wrong = [f"{report.root / finding.path}: {finding.what}" for report in reports for finding in report.wrong]
    ending = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
    lines = [line for report in reports for line in report_lines(report, max_listed)]
    value = {"reports": [report.as_json() for report in reports]}
    return Says(value, "\n".join(lines), wrong[0] + ending if wrong else "")


def report_lines(report: Report, max_listed: int) -> list[str]:
    """What was found of a split: a line on it, then the findings by kind, at most so many each."""
    size = "" if report.size is None else f", {report.size[1]}x{report.size[0]} pixels"
    published = "" if report.published is None else f" (published: {report.published})"
    lines = [f"{report.dataset} {report.split}: {report.clips} clips{published}, {report.files} files{size}"]
    for kind in dict.fromkeys(finding.kind for finding in report.findings):
        of_kind = [finding for finding in report.findings if finding.kind == kind]
        lines.append(f"  {kind}: {len(of_kind)}")
        lines += [f"    {report.root / finding.path}: {finding.what}" for finding in of_kind[:max_listed]]
        if len(of_kind) > max_listed:
            lines.append(f"    ... and {len(of_kind) - max_listed} more (--max-listed, --json)")
    return lines + [f"  note: {note}" for note in report.notes]


@command(group, "bench data index cityscapes_seq --root data", shared="cache")
def index(name: NAME, root: ROOT, split: SPLIT = None, frames: FRAMES = 2, **shared: Any) -> Says:
    """List the clips of a shift or data set and keep the list in the cache, for when the disk is away."""
    import bench

    indexes = bench.data_index(name, root, split, frames, **shared)
    lines = []
    for entry in indexes:
        published = "" if entry["published"] is None else f" (published: {entry['published']})"
        head = f"{entry['dataset']} {entry['split']}: {entry['clips']} clips{published}"
        lines.append(f"{head}, hash {entry['hash']}, wrote {entry['file']}")
    return Says({"indexes": indexes}, "\n".join(lines))


@command(group, "bench data fixture --out data --small")
def fixture(
    out: Annotated[
        Path, typer.Option("--out", help="Data root to write into; the data sets' folders must not be there yet.")
    ],
    small: Annotated[bool, typer.Option("--small", help="An eighth of the published size, whole snippets.")] = False,
) -> Says:
    """Write small rendered stand-ins for VIPER, Cityscapes-Seq, SYNTHIA-Seq and footage of your own, in their exact layouts."""
    import bench

    trees = bench.data_fixture(out, small)
    lines = [f"Wrote {tree.root} ({name}, {tree.size[1]}x{tree.size[0]})" for name, tree in trees.items()]
    lines.append(f"Look at it: bench data check viper --root {out} --partial")
    return Says({name: str(tree.root) for name, tree in trees.items()}, "\n".join(lines))
