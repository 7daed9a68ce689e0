"""The panel that closes ``bench run``."""

from __future__ import annotations

import contextlib
from pathlib import Path

from rich.panel import Panel
from rich.table import Table

from bench._face.place import LEADERBOARDS
from bench.core.errors import RunError
from bench.core.provenance import code
from bench.leaderboards.standings import oracle_and_source_only
from bench.runs.config import load_shift
from bench.runs.finished import folder_of
from bench.runs.records import Record, read_record
from bench.runs.video_consistency import SHOWN
from bench.runs.watching import LOGS

from .common import whole


def notes(record: Record, folder: Path, tensorboard: bool) -> list[str]:
    """What a person should know of a run that was found finished."""
    lines = []
    if tensorboard and not (folder / LOGS).is_dir():
        lines.append("no TensorBoard log: the run was finished before (--force repeats it) or does not train")
    if record.code["revision"] != code()["revision"]:
        lines.append(f"found a finished run of revision {record.code['revision']}; --force repeats it")
    return lines


def known_records(record: Record, runs: Path) -> list[Record]:
    """Finished local runs and committed records of the same protocol, for the floor and the ceiling of a replicate."""
    records, mode = [], record.config.mode
    committed = folder_of(LEADERBOARDS, record.config.shift, mode)
    for folder, pattern in ((runs, "*/record.json"), (committed, "*.json")):
        for path in sorted(folder.glob(pattern)):
            with contextlib.suppress(RunError):  # a damaged record of another run is that run's business
                records.append(read_record(path))
    return [r for r in (record, *records) if (r.shift_hash, r.config.mode) == (record.shift_hash, mode)]


def _same_source(record: Record, floor: Record) -> bool:
    """Whether this is a source_only of the source model that a run started from, as far as records say; older ones do not."""
    mine, its = (run.digests.source_model if run.digests else None for run in (record, floor))
    return (floor.config.method, floor.config.seed) == ("source_only", record.config.seed) and mine == its is not None


def closing_panel(record: Record, folder: Path) -> Panel:
    """mIoU, per-class IoU, gain over source-only, share of the gap closed, time and memory, and where things are."""
    records = sorted(known_records(record, folder.parent), key=lambda entry: not _same_source(record, entry))
    source_only, oracle = oracle_and_source_only(records, record.config.seed)
    beside = (
        "" if any(_same_source(record, entry) for entry in records) else ", of a record that names no such source model"
    )
    figures = sorted((folder / "figures").glob("*.png"))
    streams = record.config.mode == "stream"
    page = LEADERBOARDS / f"{record.config.shift}{'-stream' if streams else ''}.md"
    result, cost, seed = record.result, record.cost, record.config.seed
    rows = Table.grid(padding=(0, 2))

    def ask(method: str) -> str:
        protocol = " --protocol stream" if streams else ""
        return f"unknown; first: bench run --method {method} --shift {record.config.shift} --seed {seed}{protocol}"

    when = "of what was predicted online" if streams else "after the last step"
    rows.add_row("mIoU", f"[bold]{result.miou:.1f} %[/] {when} (0 looks at labels)")
    if record.method["setting"] != "none":
        rows.add_row(
            "gain over source_only",
            ask("source_only") if source_only is None else f"{result.miou - source_only:+.1f} points{beside}",
        )
        if source_only is None or oracle is None:
            share = ask("source_only" if source_only is None else "oracle")
        elif oracle <= source_only:
            share = f"no gap (source only {source_only:.1f}, oracle {oracle:.1f})"
        else:
            part = (result.miou - source_only) / (oracle - source_only)
            share = f"{100 * part:.0f} % (source only {source_only:.1f}, oracle {oracle:.1f})"
        if not streams:  # an oracle learns from labels, which a stream has none of
            rows.add_row("gap to oracle closed", share)
    rows.add_row("pixel accuracy", f"{result.pixel_accuracy:.1f} %")
    consistency = result.temporal_consistency
    rows.add_row("temporal consistency", "-" if consistency is None else f"{consistency:.1f} %")
    for name, value in result.video.items():
        rows.add_row(SHOWN[name], f"{value:.1f} %")
    rows.add_row("time", f"{cost.seconds:.1f} s for {cost.steps} steps, {cost.total_seconds:.1f} s in all")
    if streams:
        rows.add_row(
            "time per frame", f"{cost.seconds_per_frame:.3f} s to read, predict and adapt, {cost.frames} frames"
        )
    rows.add_row("peak memory", f"{cost.peak_memory_mb:.0f} MB")
    iou = {name: result.iou[name] for name in load_shift(record.config.shift).score_classes}
    classes = Table(show_header=False, box=None, padding=(0, 1))
    cells = [(name, "-" if value is None else f"[bold]{value:.1f}[/]") for name, value in iou.items()]
    for start in range(0, len(cells), 4):
        classes.add_row(*(part for cell in cells[start : start + 4] for part in cell))
    places = Table.grid(padding=(0, 2))
    places.add_row("record", str(folder / "record.json"))
    if figures:
        places.add_row("figures", str(folder / "figures"))
    if page.is_file():
        places.add_row("leaderboard", str(page))
    body = Table.grid(padding=(1, 0))
    for table in (rows, classes, places):
        body.add_row(whole(table))
    title = (
        f"{record.method['title']} · {record.config.shift} · seed {record.config.seed} · fusion {record.config.fusion}"
    )
    return Panel(body, title=title, expand=False)
