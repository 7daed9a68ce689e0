"""The panel that closes ``bench run``."""

from __future__ import annotations

from pathlib import Path

from rich.panel import Panel
from rich.table import Table

from bench.runs.config import load_shift
from bench.runs.records import Record


def closing_panel(
    record: Record, folder: Path, figures: list[Path], page: Path, source_only: float | None, oracle: float | None
) -> Panel:
    """mIoU, per-class IoU, gain over source-only, share of the gap closed, time and memory, and where things are.

    ``source_only`` and ``oracle`` are the same replicate's scores where they are known.
    """
    result, cost, seed = record.result, record.cost, record.config.seed
    rows = Table.grid(padding=(0, 2))

    def ask(method: str) -> str:
        return f"unknown; first: bench run --method {method} --shift {record.config.shift} --seed {seed}"

    rows.add_row("mIoU", f"[bold]{result.miou:.1f} %[/] after the last step (0 looks at labels)")
    if record.method["setting"] != "none":
        rows.add_row(
            "gain over source_only",
            ask("source_only") if source_only is None else f"{result.miou - source_only:+.1f} points",
        )
        if source_only is None or oracle is None:
            share = ask("source_only" if source_only is None else "oracle")
        elif oracle <= source_only:
            share = f"no gap (source only {source_only:.1f}, oracle {oracle:.1f})"
        else:
            part = (result.miou - source_only) / (oracle - source_only)
            share = f"{100 * part:.0f} % (source only {source_only:.1f}, oracle {oracle:.1f})"
        rows.add_row("gap to oracle closed", share)
    rows.add_row("pixel accuracy", f"{result.pixel_accuracy:.1f} %")
    consistency = result.temporal_consistency
    rows.add_row("temporal consistency", "-" if consistency is None else f"{consistency:.1f} %")
    rows.add_row("time", f"{cost.seconds:.1f} s for {cost.steps} steps, {cost.total_seconds:.1f} s in all")
    rows.add_row("peak memory", f"{cost.peak_memory_mb:.0f} MB")
    iou = {name: result.iou[name] for name in load_shift(record.config.shift).classes}
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
        body.add_row(table)
    title = (
        f"{record.method['title']} · {record.config.shift} · seed {record.config.seed} · fusion {record.config.fusion}"
    )
    return Panel(body, title=title, expand=False)
