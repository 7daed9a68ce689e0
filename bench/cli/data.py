"""Commands for data sets on disk: data check, data index, data fixture."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from bench.core.errors import RunError, UsageError

from .common import CACHE, DEBUG, JSON, app, one_line_errors, print_json

group = typer.Typer(
    help="Look at data sets on disk, list them, or make small ones.", no_args_is_help=True, add_completion=False
)
app.add_typer(group, name="data")

NAME = Annotated[str, typer.Argument(help="A shift (its source and target), or a data set: viper, cityscapes_seq ...")]
ROOT = Annotated[
    Path, typer.Option("--root", help="Data root or the data set's own folder; for frames also a video or a YAML file.")
]
SPLIT = Annotated[str | None, typer.Option("--split", help="train or val [default: all that are used].")]
FRAMES = Annotated[int, typer.Option("--frames", min=2, help="Frames per clip.")]


@group.command(epilog="Example: bench data check viper --root data")
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
    cache: CACHE = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Decode everything a shift uses and list missing, unreadable, truncated, wrong-sized and unpaired files."""
    with one_line_errors(debug):
        from bench.core.progress import ProgressDisplay
        from bench.core.workspace import default_cache
        from bench.data.check import check_split, targets
        from bench.runs.config import shift_or_dataset

        reports, what = [], shift_or_dataset(name)
        with ProgressDisplay() as progress:
            for data, place, one in targets(what, split, root, cache or default_cache()):

                def show(what: str, done: int, total: int, one: str = one) -> None:
                    progress(f"{what} {one}", done, total)

                classes = None if isinstance(what, str) else what.classes
                reports.append(check_split(data, place, one, frames, workers or None, partial, show, classes))
        if as_json:
            print_json({"reports": [report.as_json() for report in reports]})
        else:
            for report in reports:
                _print_report(report, max_listed)
        wrong = [(report, finding) for report in reports for finding in report.wrong]
        if wrong:
            report, first = wrong[0]
            more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
            raise RunError(f"{report.root / first.path}: {first.what}{more}")


def _print_report(report: Any, max_listed: int) -> None:
    size = "" if report.size is None else f", {report.size[1]}x{report.size[0]} pixels"
    published = "" if report.published is None else f" (published: {report.published})"
    typer.echo(f"{report.dataset} {report.split}: {report.clips} clips{published}, {report.files} files{size}")
    for kind in dict.fromkeys(finding.kind for finding in report.findings):
        some = [finding for finding in report.findings if finding.kind == kind]
        typer.echo(f"  {kind}: {len(some)}")
        for finding in some[:max_listed]:
            typer.echo(f"    {report.root / finding.path}: {finding.what}")
        if len(some) > max_listed:
            typer.echo(f"    ... and {len(some) - max_listed} more (--max-listed, --json)")
    for note in report.notes:
        typer.echo(f"  note: {note}")


@group.command(epilog="Example: bench data index cityscapes_seq --root data")
def index(
    name: NAME,
    root: ROOT,
    split: SPLIT = None,
    frames: FRAMES = 2,
    cache: CACHE = None,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """List the clips of a shift or data set and keep the list in the cache, for when the disk is away."""
    with one_line_errors(debug):
        from bench.core.workspace import default_cache
        from bench.data.check import targets
        from bench.data.index import build_index, index_file, store_index
        from bench.runs.config import shift_or_dataset

        where = cache or default_cache()
        told = []
        for data, place, one in targets(shift_or_dataset(name), split, root, where):
            made = build_index(data, place, one, frames)
            file = index_file(where, data, place, one, frames)
            store_index(made, file)
            told.append(
                {
                    "dataset": data.name,
                    "split": one,
                    "clips": made.found,
                    "published": made.published,
                    "hash": made.hash,
                    "file": str(file),
                }
            )
        if as_json:
            print_json({"indexes": told})
            return
        for entry in told:
            published = "" if entry["published"] is None else f" (published: {entry['published']})"
            head = f"{entry['dataset']} {entry['split']}: {entry['clips']} clips{published}"
            typer.echo(f"{head}, hash {entry['hash']}, wrote {entry['file']}")


@group.command(epilog="Example: bench data fixture --out data --small")
def fixture(
    out: Annotated[
        Path, typer.Option("--out", help="Data root to write into; the data sets' folders must not be there yet.")
    ],
    small: Annotated[bool, typer.Option("--small", help="An eighth of the published size, whole snippets.")] = False,
    as_json: JSON = False,
    debug: DEBUG = False,
) -> None:
    """Write small rendered stand-ins for VIPER, Cityscapes-Seq, SYNTHIA-Seq and footage of your own, in their exact layouts."""
    with one_line_errors(debug):
        if out.exists() and not out.is_dir():
            raise UsageError(f"--out {out} is not a folder")
        from bench.core.files import disk_errors
        from bench.data.fixtures import write_all

        with disk_errors(out):
            trees = write_all(out, 8 if small else 1)
        if as_json:
            print_json({name: str(tree.root) for name, tree in trees.items()})
            return
        for name, tree in trees.items():
            typer.echo(f"Wrote {tree.root} ({name}, {tree.size[1]}x{tree.size[0]})")
        typer.echo(f"Look at it: bench data check viper --root {out} --partial")
