"""Commands that show what is there: list, preview, panels, strip, report, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from .common import LOOK, RATE, ROOT, SEED, SHIFT, Says, app, command, names, whole

METHODS = Annotated[
    str,
    typer.Option("--methods", "-m", help="Methods with finished runs, with commas; options as stpl:fusion=none."),
]
PICTURES = Annotated[
    bool,
    typer.Option(
        "--pictures/--no-pictures", help="Frames and truth too, or predictions alone, which show no data set."
    ),
]


@command(app, "bench list methods --shift viper2cityscapes", name="list", panel=LOOK)
def list_(
    what: Annotated[
        str, typer.Argument(help="methods, shifts, fusions, flows, networks or datasets; all without it.")
    ] = "",
    shift: Annotated[
        str, typer.Option("--shift", help="With methods: what every setting is on this shift, and where it is from.")
    ] = "",
) -> Says:
    """List what is there, by discovery."""
    import bench

    entries = bench.list(what, shift)
    return Says(entries, lambda: catalogue_tables(entries))


@command(app, "bench preview --shift ministreet --clips 3", panel=LOOK)
def preview(
    shift: SHIFT = "ministreet",
    seed: SEED = 0,
    clips: Annotated[int, typer.Option("--clips", min=1, max=12, help="Clips per domain.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="PNG to write, or a folder for it.")] = Path("preview/clips.png"),
) -> Says:
    """Write a contact sheet of both domains: frames, label, flow, warped previous frame, valid mask."""
    import bench

    path = bench.preview(shift, seed, clips, out)
    return Says({"preview": str(path)}, f"Wrote {path}")


@command(
    app,
    "bench panels --methods source_only,stpl,oracle --seed 0 --clips 3",
    panel=LOOK,
    shared="data_root runs cache device",
)
def panels(
    methods: METHODS = "source_only,ur,hcl,stpl,oracle",
    shift: SHIFT = "ministreet",
    seed: SEED = 0,
    clips: Annotated[int, typer.Option("--clips", min=1, max=12, help="Clips, evenly spread over the split.")] = 3,
    out: Annotated[Path, typer.Option("--out", help="PNG to write.")] = Path("preview/panels.png"),
    pictures: PICTURES = True,
    **shared: Any,
) -> Says:
    """Draw frame, truth, predictions and errors of finished runs on validation clips, at t-1 and t."""
    import bench

    return Says(bench.panels(names(methods), shift, seed, clips, out, pictures, **shared), f"Wrote {out}")


@command(
    app,
    "bench strip --methods source_only,stpl,oracle --frames 16 --out strip.gif",
    panel=LOOK,
    shared="data_root runs cache device",
)
def strip(
    methods: METHODS = "source_only,stpl,oracle",
    shift: SHIFT = "ministreet",
    seed: SEED = 0,
    frames: Annotated[int, typer.Option("--frames", min=1, max=200, help="Consecutive frames.")] = 16,
    clip: Annotated[
        int,
        typer.Option("--clip", min=0, help="Which clip of the demonstration world; the first one of a recorded split."),
    ] = 0,
    rate: RATE = 4.0,
    out: Annotated[Path, typer.Option("--out", help="GIF, mp4 or PNG to write.")] = Path("preview/strip.gif"),
    pictures: PICTURES = True,
    films: Annotated[
        Path | None,
        typer.Option("--films", help="Folder for a film of each method alone, which `bench site` compares."),
    ] = None,
    **shared: Any,
) -> Says:
    """Film a rendered world of no split, or a recorded drive: frame, truth, predictions, and where they flicker."""
    import bench

    done = bench.strip(names(methods), shift, seed, frames, clip, rate, out, pictures, films, **shared)
    return Says(done, f"Wrote {out}")


@command(app, "bench report runs/0123456789ab --out report.html", panel=LOOK, shared="runs cache")
def report(
    run: Annotated[str, typer.Argument(help="Hash or folder of a finished run, or a folder of `bench adapt`.")],
    out: Annotated[Path, typer.Option("--out", help="HTML to write.")] = Path("report.html"),
    before: Annotated[
        Path | None,
        typer.Option("--before", help="Of an adaptation: folder of `bench predict` with the model before it."),
    ] = None,
    frames: Annotated[
        Path | None, typer.Option("--frames", help="Of an adaptation: its footage, to check the flow against.")
    ] = None,
    root: ROOT = Path("leaderboards"),
    **shared: Any,
) -> Says:
    """Write one self-contained HTML of a run or of an adaptation. Needs pip install 'stpl-benchmark\\[site]'."""
    import bench

    path = bench.report(run, out, before=before, frames=frames, root=root, **shared)
    return Says({"report": str(path)}, f"Wrote {path}")


@command(app, "bench doctor --json", panel=LOOK, shared="runs cache")
def doctor(**shared: Any) -> Says:
    """Say what is installed, which devices there are, free disk, and what is missing and how to get it."""
    import bench

    report = bench.doctor(**shared)
    return Says(report, lambda: doctor_table(report), failed=bool(report["missing"]))


def catalogue_tables(catalogue: dict[str, dict[str, dict[str, Any]]]) -> Any:
    """A table per kind; what cannot be loaded stands under it with the reason."""
    from rich.console import Group
    from rich.markup import escape
    from rich.table import Table
    from rich.text import Text

    tables: list[Any] = []
    for kind, entries in catalogue.items():
        good = {name: entry for name, entry in entries.items() if "broken" not in entry}
        columns = list(next(iter(good.values()), {}))
        table = Table("name", *columns, title=kind, title_justify="left", box=None, header_style="dim")
        for name, entry in good.items():
            table.add_row(f"[bold]{escape(name)}[/]", *(escape(str(entry[column])) for column in columns))
        broken = [Text(f"{name}: {entry['broken']}", "red") for name, entry in entries.items() if "broken" in entry]
        tables += [whole(table), *broken, ""]
    return Group(*tables)


def doctor_table(report: dict[str, Any]) -> Any:
    """The report of `bench doctor`."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for key, value in report.items():
        if isinstance(value, dict):
            text = "\n".join(f"{k}: {v}" for k, v in value.items())
        elif isinstance(value, list):
            text = "\n".join(map(str, value)) or "none"
        else:
            text = str(value)
        table.add_row(f"[bold]{key}[/]", text)
    return whole(table)
