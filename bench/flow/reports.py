"""What ``bench flow`` prints and writes: tables, summaries, pictures."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.core.errors import unknown
from bench.core.files import write_atomically
from bench.core.outputs import Output
from bench.core.text import table
from bench.core.workspace import Workspace
from bench.pictures.canvas import save
from bench.shifts.protocol import Shift

from ._pictures import Row, comparison, flow_sheet
from ._shards import Layout
from .compare import Result, compare
from .compute import SPLITS, backend_of, compute, open_split, peek


def run_compute(
    shift: Shift,
    name: str,
    splits: list[str],
    seed: int,
    workspace: Workspace,
    out: Path | None,
    store: str,
    workers: int | None,
) -> list[dict[str, Any]]:
    """``bench flow compute``: the splits one after another, each with a summary and a picture, up to one that is wrong.

    Args:
        workspace: cache, data root, progress; ``force`` releases flow that the frames speak against, ``skip_bad`` goes on past
            unreadable clips.
        out: folder of ``<split>.json`` and ``<split>.png``; without it they lie beside the flow as ``summary``.

    Raises:
        UsageError: unknown backend or split.
        RunError: no weights, or the disk.
    """
    backend_of(name)  # an unknown backend is named before anything is prepared
    for split_name in splits:
        if split_name not in SPLITS:
            raise unknown("split", split_name, SPLITS)
    files = [out / f"{split_name}{ending}" for split_name in splits for ending in (".png", ".json")] if out else []
    output = Output.of_files("flow compute", *files) if files else nullcontext()
    summaries = []
    for split_name in splits:
        split = open_split(shift, split_name, seed, workspace)
        summary = compute(
            split, name, workspace.cache, store=store, workers=workers, progress=workspace.progress,
            force=workspace.force, skip_bad=workspace.skip_bad,
        )  # fmt: skip
        folder, clips = Path(summary["folder"]), split.open()
        layout = Layout.of(clips, store)
        rows: list[Row] = []
        readable = [index for index in range(len(clips)) if clips.key(index) not in summary["bad"]]
        for index in sorted({readable[0], readable[len(readable) // 2], readable[-1]}):
            clip = clips[index]
            rows.append((clip.key.rsplit("/", 1)[-1], clip.frames, *peek(folder, layout, index)))
        wrong = "" if summary["wrong"] is None else "; WRONG by its photometric error"
        title = f"{summary['identity']} on {split_name} of {shift.name}, replicate {seed}{wrong}"
        out_folder, stem = (out, split_name) if out else (folder, "summary")
        with output:
            summary["picture"] = str(save(flow_sheet(rows, title), out_folder / f"{stem}.png", dpi=110))
            write_atomically(out_folder / f"{stem}.json", _json(summary))
        summaries.append(summary)
        if summary["wrong"] and not workspace.force:
            break
    return summaries


def wrong_line(summary: dict[str, Any]) -> str:
    """One line about flow that the frames speak against."""
    return (
        f"Flow of {summary['split']} by {summary['identity']} {summary['wrong']}; see {summary['picture']}. "
        "No run uses it: give backward flow t to t-1, or release it with --force"
    )


def compute_table(summaries: list[dict[str, Any]]) -> str:
    """What was computed, in markdown."""
    rows = []
    for summary in summaries:
        error = summary["photometric_error"]
        rows.append(
            {
                "split": summary["split"],
                "backend": summary["identity"],
                "clips": str(summary["clips"]),
                "grey levels along flow": _number(error["flow"], 2),
                "without motion": _number(error["no motion"], 2),
                "along its negation": _number(error["negated"], 2),
                "valid, %": _number(summary["valid_share"], 1, 100),
                "mean length, px": _number(summary["mean_length_px"], 2),
                "pairs/s of a worker": _number(summary["pairs_per_second_of_a_worker"], 2),
                "disk, MB": _number(summary["bytes"], 1, 1e-6),
                "unreadable": str(len(summary["bad"])),
                "check": "good" if summary["wrong"] is None else "WRONG",
            }
        )
    return table(rows)


def run_compare(
    shift: Shift,
    names: list[str],
    split_name: str,
    number: int,
    seed: int,
    workspace: Workspace,
    out: Path | None,
    random_weights: bool,
) -> dict[str, Any]:
    """``bench flow compare``: results for JSON, the table, and with ``out`` (a .md) the table, .json and .png beside it.

    Raises:
        UsageError: unknown backend or split, or clips without exact flow.
    """
    stem = None if out is None else out.with_suffix("") if out.suffix == ".md" else out
    files = [stem.with_suffix(ending) for ending in (".md", ".json", ".png")] if stem else []
    output = Output.of_files("flow compare", *files) if files else nullcontext()
    split = open_split(shift, split_name, seed, workspace)
    clips = split.open()
    results, shown = compare(clips, names, number, random_weights, workspace.progress)
    report: dict[str, Any] = {
        "shift": shift.name,
        "split": split_name,
        "seed": seed,
        "clips": min(number, len(clips)),
        "results": [asdict(result) for result in results],
        "table": compare_table(results),
    }
    if stem is not None:
        head = f"First {report['clips']} clips of {split_name} of {shift.name}, replicate {seed}."
        clip = clips[0]
        exact: Row = ("exact", clip.frames, clip.flow, clip.valid)
        measured = {result.backend for result in results if result.epe is not None} - {"exact"}
        rows: list[Row] = [(name, clip.frames, *shown[name]) for name in names if name in measured]
        with output:
            write_atomically(files[0], f"{head}\n\n{report['table']}\n")
            write_atomically(files[1], _json(report))
            save(comparison(exact, rows, f"Flow backends on a clip of {shift.name}"), files[2], dpi=110)
        report["written"] = [str(file) for file in files]
    return report


def compare_table(results: list[Result]) -> str:
    """Backends against exact flow, in markdown; a rate by wall clock is marked with w."""
    return table(
        [
            {
                "backend": result.backend,
                "end-point error, px": _number(result.epe, 2),
                "> 3 px, %": _number(result.outliers, 1, 100),
                "where it says valid, px": _number(result.epe_valid, 2),
                "valid, %": _number(result.valid, 1, 100),
                "t to warped t-1, grey levels": _number(result.photometric, 2),
                "pairs/s": _number(result.rate, 2) + (" w" if result.clock == "wall" else ""),
                "note": result.note,
            }
            for result in results
        ]
    )


def _number(value: float | None, digits: int, times: float = 1) -> str:
    return "-" if value is None else f"{times * value:.{digits}f}"


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, sort_keys=True, allow_nan=False) + "\n"
