"""The report of an adaptation to one's own footage: no labels are needed; what is compared is how the masks changed."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from bench.core.errors import BadFile, RunError, UsageError
from bench.core.provenance import code, versions
from bench.core.schema import read_yaml
from bench.core.sealed import load_json
from bench.core.workspace import Workspace
from bench.data.loaders import ClipLoader
from bench.data.reading import label_ids
from bench.flow._photometric import Check, check, verdict
from bench.flow.base import backend_of
from bench.footage.adapt import ASKED, METRICS, RESULT
from bench.footage.pictures import open_footage
from bench.footage.request import Request
from bench.networks.model_file import read_info
from bench.runs.figures import spread_clips
from bench.runs.settings import resolve_settings

from . import charts
from .sheet import Report, class_part, command_line, films_in, inlined, log_points, texts

SHOWN = 8
"""Pictures of the contact sheet, evenly spread: no choice that could favour a method."""
RARE, MUCH = 0.02, 0.2
"""Percent of pixels that is next to nothing, and that is something: a class that falls from the one to the other has vanished."""
CHECKED = 12
"""Clips on which the flow is checked, evenly spread."""


def of_footage(folder: Path, before: Path | None, frames: Path | None, workspace: Workspace) -> Report:
    """The report of a folder of ``bench adapt``.

    Args:
        before: folder of ``bench predict`` with the model before its adaptation, of the same footage.
        frames: the footage, to check the flow against.

    Raises:
        UsageError: it is not finished, or ``before`` or ``frames`` are of something else.
        RunError: a damaged file.
    """
    if not (folder / RESULT).is_file():
        raise UsageError(
            f"{folder} is not a finished adaptation: it has no {RESULT}; give `bench adapt` again and it goes on"
        )
    request = read_yaml(folder / ASKED, Request, "Request")
    report = Report(f"{request.method} on {request.pictures} pictures", "Adaptation to own footage", command(request))
    report.facts["What was asked"] = texts(
        {"method": request.method, "model before, weights": request.checkpoint, "footage, content": request.content,
         "pictures": request.pictures, "size": " x ".join(map(str, request.size)), "flow": request.flow, "seed": str(request.seed),
         "schedule": request.schedule.model_dump(), "settings": request.settings},
    )  # fmt: skip
    masks = _read(folder)
    predicted = _before(before, request) if before else None
    report.facts["Result"] = texts(_result(masks, predicted))
    shares = class_shares(folder) if masks else {}
    shares_before = class_shares(before) if before else {}
    class_part(report, list(shares), shares_before, shares, "share of the masks, %")
    if losses := log_points(folder / METRICS):
        report.charts["Losses"] = charts.curves(losses, "value", "loss", "loss", "Losses over the steps")
    _pictures(report, folder, before)
    films_in(folder, report)
    report.warnings = warnings(request, masks, shares_before, shares)
    if frames is not None and (wrong := flow_fault(frames, folder, request, workspace)):
        report.warnings.append(f"The flow does not fit the frames: '{request.flow}' {wrong}.")
    report.facts["Environment of this report (an adaptation keeps none)"] = texts(
        {"code": code(), "versions": versions()}
    )
    return report


def command(request: Request) -> str:
    """The command line that repeats the adaptation, with placeholders for model and footage, whose paths are not kept."""
    plan, defaults = request.schedule, resolve_settings(request.method, {})
    words: list[object] = [
        "bench",
        "adapt",
        "--checkpoint",
        "MODEL",
        "--frames",
        "FOOTAGE",
        "--out",
        "OUT",
        "--method",
        request.method,
    ]
    words += [
        "--flow",
        request.flow,
        "--size",
        "x".join(map(str, request.size)),
        "--steps",
        plan.steps,
        "--batch",
        plan.batch,
    ]
    words += ["--lr", plan.lr, "--seed", request.seed]
    for key, value in request.settings.items():
        words += [] if value == defaults.get(key) else ["-o", f"{key}={value}"]
    return command_line(words)


def _read(folder: Path) -> dict[str, Any]:
    """``predict.json``; empty where no masks were written."""
    file = folder / "predict.json"
    if not file.is_file():
        return {}
    try:
        predictions = load_json(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        predictions = None
    if not isinstance(predictions, dict):
        raise RunError(f"{file} is damaged; predict again")
    return predictions


def _before(folder: Path, request: Request) -> dict[str, Any]:
    """What was predicted before the adaptation.

    Raises:
        UsageError: it is not of the same footage with the model that the adaptation started from.
    """
    predictions = _read(folder)
    for key, expected, kind in (("weights", request.checkpoint, "model"), ("content", request.content, "footage")):
        if predictions.get(key) != expected:
            raise UsageError(
                f"--before {folder} was predicted with another {kind} than the adaptation had ({predictions.get(key)}, "
                f"not {expected}); "
                "give the folder of `bench predict` with the model before it"
            )
    return predictions


def _result(masks: dict[str, Any], before: dict[str, Any] | None) -> dict[str, Any]:
    facts: dict[str, Any] = {"masks": masks.get("label maps"), "left out": masks.get("left out")}
    if masks.get("mIoU") is not None:
        earlier = (before or {}).get("mIoU")
        change = "" if earlier is None else f"; before {earlier:.1f} % ({masks['mIoU'] - earlier:+.1f} points)"
        facts["mIoU on your own labels"] = f"{masks['mIoU']:.1f} % of {masks['labelled pictures']} pictures{change}"
    return facts


def class_shares(folder: Path) -> dict[str, float]:
    """Percent of all pixels that the masks of a folder give to each class of its legend.

    Raises:
        RunError: the legend or a mask is damaged.
    """
    try:
        legend = {
            int(row["id"]): str(row["name"]) for row in load_json((folder / "legend.json").read_text(encoding="utf-8"))
        }
    except (OSError, ValueError, KeyError, TypeError):
        raise RunError(f"{folder / 'legend.json'} is missing or damaged; predict again") from None
    counts: Counter[int] = Counter()
    for file in sorted((folder / "labels").glob("*.png")):
        try:
            ids, pixels = np.unique(label_ids(file, holds="indices"), return_counts=True)
        except BadFile as error:
            raise RunError(f"{error}; predict again") from None
        counts.update(dict(zip(ids.tolist(), pixels.tolist(), strict=True)))
    total = sum(counts.values())
    return {name: 100 * counts[number] / total for number, name in legend.items()} if total else {}


def _pictures(report: Report, folder: Path, before: Path | None) -> None:
    """Put overlays into a report; as pairs where ``before`` has the same picture's."""
    files = sorted((folder / "overlays").glob("*.png"))
    for file in [files[i] for i in spread_clips(len(files), SHOWN)] if files else []:
        earlier = before / "overlays" / file.name if before else None
        if earlier is not None and earlier.is_file():
            report.pairs.append((file.stem, inlined(earlier), inlined(file)))
        else:
            report.pictures.append((file.stem, inlined(file)))


def warnings(request: Request, masks: dict[str, Any], before: dict[str, float], after: dict[str, float]) -> list[str]:
    """Sentences on what may have gone wrong.

    Args:
        masks: content of ``predict.json``; empty where no masks were written.
        before, after: percent of pixels by class, before and after the adaptation.
    """
    lines = []
    if gone := [name for name, share in after.items() if share < RARE and before.get(name, 0) >= MUCH]:
        lines.append(
            f"Classes that vanished: {', '.join(f'{n} ({before[n]:.1f} % of the pixels before)' for n in gone)}."
        )
    if never := [name for name, share in after.items() if share == 0 and name not in gone]:
        lines.append(f"Classes that are in no mask: {', '.join(never)}.")
    if after and max(after.values()) > 90:
        lines.append(
            f"One class has {max(after.values()):.0f} % of all pixels: {max(after, key=lambda name: after[name])}."
        )
    if masks.get("skipped"):
        lines.append(f"{masks['skipped']} pictures were left out; see Result.")
    if request.pictures < request.schedule.batch * request.schedule.steps / 500:
        lines.append(f"{request.pictures} pictures were each seen more than 500 times.")
    if not masks:
        lines.append("No masks were written: how the model changed is not known.")
    return lines


def flow_fault(frames: Path, folder: Path, request: Request, workspace: Workspace) -> str | None:
    """What the frames say against the flow that the adaptation took; None where nothing shows.

    Raises:
        UsageError: it is not the footage that was adapted to.
    """
    footage = open_footage(frames, request.size, read_info(folder / RESULT).network, workspace)
    if footage.content != request.content:
        raise UsageError(
            f"--frames {frames} is not the footage that was adapted to ({footage.content}, not {request.content})"
        )
    loader = ClipLoader(footage.store, backend_of(request.flow), 1, 0)
    checks: list[Check] = []
    for done, number in enumerate(numbers := spread_clips(len(footage.store), CHECKED), 1):
        read = loader.read(number)
        checks.append(check(read.clip.frames, read.flow, read.valid))
        workspace.progress("check the flow", done, len(numbers))
    return verdict(checks)
