"""The report of a benchmark run: its config and command, scores beside source-only and the oracle, curves, pictures, warnings."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.analysis.compare import in_order
from bench.core.errors import RunError, UsageError
from bench.leaderboards.standings import oracle_and_source_only
from bench.runs.config import RunConfig, alterations, every_setting
from bench.runs.finished import RunFolder, all_records, find_folder, run_name
from bench.runs.records import Record
from bench.runs.video_consistency import SHOWN

from . import charts
from .sheet import Report, class_part, command_line, films_in, inlined, log_points, texts

VANISHED = 0.05
"""IoU in percent that a table shows as 0.0."""


def of_run(reference: str, runs: Path, root: Path, footage_path: Path | None = None) -> Report:
    """The report of a finished run.

    Args:
        footage_path: what was given with ``--before`` or ``--frames``, which do not go with a run.

    Raises:
        UsageError: no finished run, or an option for footage.
    """
    if footage_path is not None:
        raise UsageError(
            f"{footage_path}: --before and --frames go with a folder of `bench adapt`; '{reference}' is none"
        )
    run = RunFolder.open(find_folder(reference, runs), any_protocol=True)
    record, config = run.record, run.config
    options = _options(record)
    report = Report(run_name(record), "Run", command(record, options))
    report.facts["What was asked"] = texts(
        {"method": config.method, "shift": config.shift, "replicate": str(config.seed), "network": config.network,
         "fusion": config.fusion, "flow": config.flow, "steps": config.steps, "init": config.init,
         "ingredients": config.ingredients,
         "changed from the defaults": options, "settings": every_setting(config), "run": record.run, "protocol": record.shift_hash},
    )  # fmt: skip
    comparable = _comparable(record, run.folder.parent, root)
    start = _start(record, comparable)
    before = _defined(start.result.iou) if start else {}
    source_only, oracle = oracle_and_source_only(comparable, config.seed)
    source_only = start.result.miou if start else source_only
    report.facts["Result"] = texts(_result(record, source_only, oracle))
    iou = _defined(in_order(record.result.iou, config.shift))
    class_part(report, list(iou), before, iou, "IoU, %")
    _curves(report, run)
    report.pictures = [(file.stem, inlined(file)) for file in sorted((run.folder / "figures").glob("*.png"))]
    films_in(run.folder, report)
    report.warnings = warnings(record, before, source_only)
    report.facts["Environment"] = texts(
        {"code": record.code, "versions": record.versions, "hardware": record.hardware, "date": record.date}
    )
    return report


def _options(record: Record) -> list[str]:
    """``key=value`` of what differs from the defaults; none where the shift or method is not known here any more."""
    with contextlib.suppress(UsageError, RunError):
        return list(alterations(record.config))
    return []


def command(record: Record, options: Sequence[str]) -> str:
    """The command line that repeats the run."""
    config = record.config
    words: list[object] = ["bench", "run", "--method", config.method, "--shift", config.shift, "--seed", config.seed]
    words += ["--steps", config.steps] if config.steps else []
    for option in options:
        key, _, value = option.partition("=")
        flags = {
            "init": ["--init", value],
            "protocol": ["--protocol", value],
            "source_file": ["--source-model", "MODEL"],
        }
        words += flags.get(key, ["-o", option])
    return command_line(words)


def _comparable(record: Record, runs: Path, root: Path) -> list[Record]:
    """Records of the same protocol, committed and beside the run."""
    with contextlib.suppress(UsageError, RunError):
        records = all_records(runs, root, record.config.shift, record.config.mode)
        return [r for r in records if r.shift_hash == record.shift_hash]
    return []


def _defined(iou: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in iou.items() if value is not None}


def _start(record: Record, comparable: Sequence[Record]) -> Record | None:
    """The source-only record of the very source model that the run started from; None where there is none."""
    if record.source_model is None or record.config.method == "source_only":
        return None

    def setup(config: RunConfig, model: str | None) -> tuple[object, ...]:
        return (config.seed, config.network, config.fusion, config.flow, model)

    expected = setup(record.config, record.source_model)
    matches = (
        r for r in comparable if r.config.method == "source_only" and setup(r.config, r.source_model) == expected
    )
    return next(matches, None)


def _result(record: Record, source_only: float | None, oracle: float | None) -> dict[str, object]:
    result, cost = record.result, record.cost
    consistency = result.temporal_consistency
    has_floor = source_only is not None and record.config.method != "source_only"
    below = f"{source_only:.1f} % ({result.miou - (source_only or 0):+.1f} points)" if has_floor else None
    when = "of what was predicted online" if record.config.mode == "stream" else "after the last step"
    return {
        "mIoU": f"{result.miou:.1f} % {when}; labels were looked at 0 times to choose it",
        "source only, same replicate": below,
        "oracle, same replicate": None if oracle is None else f"{oracle:.1f} %",
        "pixel accuracy": f"{result.pixel_accuracy:.1f} %",
        "temporal consistency": None if consistency is None else f"{consistency:.1f} %",
        **{SHOWN[name]: f"{value:.1f} %" for name, value in result.video.items()},
        "adaptation": f"{cost.steps} steps, {cost.seconds:.1f} s, {cost.cpu_seconds:.1f} CPU seconds" if cost.steps else None,
        "time per frame": f"{cost.seconds_per_frame:.3f} s, {cost.cpu_seconds_per_frame:.3f} CPU seconds" if cost.frames else None,
        "whole command": f"{cost.total_seconds:.1f} s",
        "peak memory": f"{cost.peak_memory_mb:.0f} MB",
        "parameters": f"{cost.parameters / 1e6:.2f} M",
    }  # fmt: skip


def _curves(report: Report, run: RunFolder) -> None:
    """Losses by step; scores of the kept weights."""
    if losses := log_points(run.folder / "metrics.jsonl"):
        report.charts["Losses"] = charts.curves(losses, "value", "loss", "loss", "Losses over the steps")
    kept = [{**snapshot, "seed": run.config.seed} for snapshot in run.record.selection.snapshots]
    if len(kept) > 1:
        report.charts["mIoU of the kept weights (looked at afterwards)"] = charts.curves(kept, "miou", "mIoU, %")
        report.charts["Target-only score of the kept weights (no labels)"] = charts.curves(
            kept, "target_score", "score"
        )


def warnings(record: Record, before: dict[str, float], source_only: float | None) -> list[str]:
    """Sentences on what may have gone wrong.

    Args:
        before: IoU in percent by class of the source model; empty where it is not known.
        source_only: its mIoU in percent.
    """
    lines = []
    dead = [name for name, value in record.result.iou.items() if value is not None and value < VANISHED]
    if gone := [name for name in dead if before.get(name, 0) >= VANISHED]:
        lines.append(
            f"Classes that vanished: {', '.join(gone)} had an IoU above 0 before adaptation and have none after."
        )
    if never := [name for name in dead if name not in gone]:
        lines.append(f"Classes without a right pixel: {', '.join(never)}.")
    if source_only is not None and record.config.method != "source_only" and record.result.miou < source_only:
        lines.append(f"Below source-only: {record.result.miou:.1f} % against {source_only:.1f} %.")
    kept = record.selection.snapshots
    if len(kept) > 1 and kept[-1]["target_score"] <= kept[0]["target_score"]:
        first, last = kept[0]["target_score"], kept[-1]["target_score"]
        lines.append(f"No gain in the target-only score over the kept weights: {first:.3f} first, {last:.3f} last.")
    if record.skipped:
        lines.append(
            f"{len(record.skipped)} clips could not be read and were replaced: {', '.join(sorted(record.skipped)[:5])}."
        )
    if record.config.steps is not None:
        lines.append(f"Cut short with --steps {record.config.steps}: no result to report.")
    if record.code.get("dirty"):
        lines.append("Made by code that was not committed: it cannot be run again by somebody else.")
    if record.config.flow in ("zero", "shuffled"):
        lines.append(f"Flow '{record.config.flow}' does not fit the frames: it is a control.")
    return lines
