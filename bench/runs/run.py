"""One run, from config to record: ``run(config, workspace)``. The command line and a Ray trial call this same function.

1. Clips of the needed splits are rendered, or found in the cache.
2. The source model is trained, or found in the cache.
3. Adaptation, in a stage that opens what the method's setting allows: target frames; source clips and their labels for
   UDA; target training labels for the oracle. For a source-free method no source data set is constructed. In a stream: the
   frames of the scored clips, each predicted before it is adapted to (``streaming.py``).
4. Evaluation, in a stage of its own: here the validation labels are opened for the first time.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import time
from pathlib import Path
from typing import Any

import torch

from bench.core import child
from bench.core.access import stage
from bench.core.errors import RunError, UsageError
from bench.core.files import clear_left_over, disk_errors, locked, sha256_of, write_atomically
from bench.core.provenance import (
    Environments,
    code,
    environments_in,
    hardware,
    peak_memory_mb,
    reset_peak_memory,
    versions,
)
from bench.core.registry import file_of
from bench.core.schema import check_names, finite
from bench.core.workspace import Workspace
from bench.data.loaders import BadClips, ClipLoader
from bench.data.splits import Split
from bench.flow.resolve import identity_of, open_clips
from bench.networks.build import place
from bench.networks.weights import load_into, read_header
from bench.shifts.protocol import Videos, check_protocol
from bench.shifts.sides import ModelFile
from methods.base import Method
from stpl.segmenter import VideoSegmenter

from . import selection
from .adaptation import TRANSDUCTIVE, Context, adapts_statistics, prepare
from .boxed import adapt_boxed, boxable
from .config import RunConfig, Shift, check_sources, load_shift, method_class
from .evaluate import Scores, protocol_scores
from .figures import draw, drawn_labels
from .finished import CHECKPOINT, CONFIG, RECORD, config_text, finished
from .known_data import check_finished, same_data, what_data
from .own_files import check_place, failed, put_aside, put_back, tidy
from .pseudo_labels import save_predictions
from .records import Cost, Digests, Record, Result, Selection, keep_places
from .selection import Snapshot
from .sequences import FILE as SEQUENCES
from .sequences import write_sequences
from .settings import revision_of
from .source import fresh_segmenter
from .streaming import clips_of, online_digest, online_labels, online_scores, work
from .training import Fitted

ANEW = "make the config anew, or check out the revision that its record names"
"""What to do about a config of another time."""


def run(config: RunConfig, workspace: Workspace) -> Record:
    """Do a run, or resume it, or find it finished.

    Args:
        config: from ``make_run_config``.
        workspace: folders, device, progress; ``force`` repeats a finished run.

    Returns:
        The record, also written to ``<runs>/<hash>/record.json``.

    Raises:
        UsageError: the config does not belong to the shift as it is now.
        RunError: disk, damaged files, NaN; the last good state is kept.
    """
    check_sources(config)
    check_protocol(load_shift(config.shift), config.shift_hash, "This config", ANEW)
    if config.revision != (today := revision_of(config.method, config.settings)):
        changed = f"revision {config.revision} of method '{config.method}', which is now {today}"
        raise UsageError(f"This config was made for {changed}; {ANEW}")
    if config.mode == "stream" and workspace.save_predictions:
        raise UsageError(
            "--save-predictions is of target training clips, and a stream has none; its own are kept anyway"
        )
    folder = workspace.runs / config.hash
    if not workspace.force and (record := _finished_record(folder, config, workspace)) is not None:
        clear_left_over(folder, folder / "state", tidy)
        return record  # without a lock: it may lie where nothing can be written
    check_names([workspace.runs, workspace.cache])
    if boxable(workspace):
        check_names([workspace.data_root] if isinstance(config.protocol.data, Videos) else [])
        check_names(file_of(*key.split("/", 1)) for key in config.plugins)
        child.prepare()
    with locked(folder):
        check_place(folder)
        (put_aside if workspace.force else put_back)(folder)
        if not workspace.force and (record := _finished_record(folder, config, workspace)) is not None:
            return record
        bad = BadClips(workspace.skip_bad)
        try:
            return _run(Context(config, config.protocol, workspace, folder, bad))
        except BaseException:
            failed(folder)
            raise


def _finished_record(folder: Path, config: RunConfig, workspace: Workspace) -> Record | None:
    """The record of a finished run, None if it is not finished."""
    record = finished(folder, config)
    if record is None:
        return None
    check_finished(record, config, workspace)
    if workspace.released is None and record.source_from == "released":
        raise UsageError(f"Run {config.hash} is finished, from the released source model; repeat it with --force")
    if workspace.save_predictions and not (folder / "predictions").is_dir():
        raise UsageError(f"Run {config.hash} is finished and its snapshots are gone; repeat it with --force")
    return record


def _run(context: Context) -> Record:
    began = time.perf_counter()
    code()  # the revision is the one that the run started with
    config, shift, workspace = context.config, context.shift, context.workspace
    write_atomically(context.folder / CONFIG, config_text(config))
    keep_places(context.folder, config)
    cls = method_class(config.method)
    if cls.start == "scratch" and cls.card.setting != "oracle":
        raise UsageError(
            f"Method '{config.method}' starts from scratch, which only the oracle may; use --init backbone"
        )
    # Everything that must exist is made before the stages close: no rendering and no source data inside them.
    source, splits = prepare(config, shift, workspace)
    known_by = same_data(context.folder, what_data(shift, splits, source))
    reset_peak_memory()  # rendering and source training are not the method's cost
    boxed = boxable(workspace)
    adapted = (adapt_boxed if boxed else work)(context, cls, source, splits)
    fitted, weights, students = adapted.fitted, adapted.weights, adapted.students
    # Scored is a network that the harness built, with the weights from disk: nothing of the method's runs beside the labels.
    segmenter = place(fresh_segmenter(config, shift, 0), workspace)
    with stage("target-val", "target-val/label", "figures", processes=True):
        loader = open_clips(splits["target-val"], config.flow, workspace.cache)
        flow = identity_of(config.flow, loader.flow)  # reads weights: if they have gone, it says so before the scoring
        snapshots, scores = [], []
        clips = clips_of(config, splits["target-val"]) if config.mode == "stream" else None

        def scored(path: Path, activity: str) -> Scores:
            load_into(segmenter, path)
            if clips is not None:  # these weights predicted none of it, but they are kept, so they must be good
                return online_scores(shift, loader, context.folder, clips, workspace.progress)
            return protocol_scores(shift, segmenter, loader, workspace.device, activity, workspace.progress)

        beside = {name: scored(path, f"evaluate {name}") for name, path in students.items()}
        for step, path, score in weights:
            scores.append(scored(path, "evaluate" if len(weights) == 1 else f"evaluate step {step}"))
            snapshots.append(Snapshot(step, score, scores[-1].miou))
        _draw(context, cls, segmenter, source, loader)
    if TRANSDUCTIVE in splits:
        with stage(TRANSDUCTIVE, f"{TRANSDUCTIVE}/label", processes=True):
            load_into(segmenter, weights[-1][1])
            adapted_clips = open_clips(splits[TRANSDUCTIVE], config.flow, workspace.cache)
            arguments = (workspace.device, "evaluate transductive", workspace.progress)
            beside["transductive"] = protocol_scores(shift, segmenter, adapted_clips, *arguments)
    with disk_errors(context.folder):
        os.replace(weights[-1][1], context.folder / CHECKPOINT)
        (context.folder / CHECKPOINT).chmod(0o644)
    write_sequences(context.folder / SEQUENCES, scores[-1].sequences, shift.score_classes)
    parameters = sum(p.numel() for p in segmenter.parameters())
    cost = Cost(
        steps=fitted.steps,
        seconds=round(fitted.wall_seconds, 3),
        cpu_seconds=round(fitted.cpu_seconds, 3),
        total_seconds=round(time.perf_counter() - began, 3),
        peak_memory_mb=round(max(peak_memory_mb(), adapted.peak_memory_mb), 1),
        parameters=parameters,
        **_per_frame(fitted, clips),
    )
    record = make_record(context, cls, source, scores[-1], beside, snapshots, cost, flow)
    ingredients = ingredients_of(config, shift, cls, adapted.averages)
    fields: dict[str, Any] = {
        "source_from": _source_from(context, source),
        "ingredients": ingredients,
        "data": known_by or None,
        "access": "boxed" if boxed else "watched",
    }
    record = record.model_copy(update=fields | {"environments": _environments(fitted, source)})
    if workspace.save_predictions:
        start = [(0, source)] if source and cls.trains else []
        kept = [*((step, path) for step, path, _ in weights[:-1]), (fitted.steps, context.folder / CHECKPOINT)]
        _save_predictions(context, segmenter, start + kept, splits)
    write_atomically(context.folder / RECORD, record.to_json())
    with contextlib.suppress(RunError):  # it is finished all the same
        tidy(context.folder)
    return record


def _per_frame(fitted: Fitted, clips: int | None) -> dict[str, Any]:
    """What each frame of a stream took; nothing for another run."""
    if clips is None:
        return {}
    seconds, cpu = (round(spent / clips, 5) for spent in (fitted.wall_seconds, fitted.cpu_seconds))
    return {"frames": clips, "seconds_per_frame": seconds, "cpu_seconds_per_frame": cpu}


def _source_from(context: Context, source: Path | None) -> str | None:
    """Whether the source model was released or trained here; None for a given one, and for none."""
    if source is None or context.config.source_file or isinstance(context.shift.data.source, ModelFile):
        return None
    return "released" if source.parent == context.workspace.released else "trained"


def _environments(fitted: Fitted, source: Path | None) -> dict[str, Environments] | None:
    """What a record says of where its run and its source model came about."""
    of_source = environments_in(read_header(source)[1]) if source else ()
    by_origin = {"adaptation": fitted.environments, "source model": of_source}
    return {name: environments for name, environments in by_origin.items() if environments} or None


def _save_predictions(
    context: Context, segmenter: VideoSegmenter, weights: list[tuple[int, Path]], splits: dict[str, Split]
) -> None:
    """``--save-predictions``: what the kept weights, and the source model, say about target training clips."""
    with stage("target-train"):
        loader = open_clips(splits["target-train"], context.config.flow, context.workspace.cache)
        folder, clips = context.folder / "predictions", context.workspace.save_predictions
        corners, device = context.shift.evaluation.align_corners, context.workspace.device
        save_predictions(folder, segmenter, weights, loader, clips, corners, device)


def _draw(
    context: Context, cls: type[Method], segmenter: VideoSegmenter, source: Path | None, loader: ClipLoader
) -> None:
    """Figures of the run, after scoring; the source model's prediction stands beside the adapted one's."""
    shift, device, streams = context.shift, context.workspace.device, context.config.mode == "stream"
    if streams and context.config.steps is not None:
        return  # cut short: some of the clips that are drawn may not have come
    labels = online_labels(shift, loader, context.folder) if streams else drawn_labels(segmenter, loader, shift, device)
    shown = {cls.card.title: labels}
    if source is not None and cls.start != "source":
        load_into(segmenter, source)
        shown = {"Source only": drawn_labels(segmenter, loader, shift, device), **shown}
    draw(context.folder / "figures", loader, shown, shift.score_classes)


def make_record(
    context: Context,
    cls: type[Method],
    source: Path | None,
    scores: Scores,
    beside: dict[str, Scores],
    snapshots: list[Snapshot],
    cost: Cost,
    flow: str | None,
) -> Record:
    """Put the record together."""
    config, card, streams = context.config, cls.card, context.config.mode == "stream"
    best, quiet_best = selection.oracle(snapshots), selection.unsupervised(snapshots)
    return Record(
        run=config.hash,
        config=config,
        shift_hash=context.shift.hash,
        source_model=source.stem if source else None,
        method={"title": card.title, "design": card.design, "setting": card.setting, "floor": card.floor},
        result=_result(context.shift, scores),
        beside={name: _result(context.shift, scored) for name, scored in beside.items()},
        selection=Selection(
            unsupervised={"step": quiet_best.step, "miou": quiet_best.miou},
            oracle={"step": best.step, "miou": best.miou, "label_looks": len(snapshots)},
            snapshots=[{"step": s.step, "target_score": s.target_score, "miou": s.miou} for s in snapshots],
        ),
        cost=cost,
        code=code(),
        versions=versions(),
        hardware=hardware(context.workspace.device, torch.get_num_threads())
        | ({"compiled": True} if context.workspace.compiled else {}),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        skipped=context.bad.found or None,
        flow=flow,
        digests=Digests(
            checkpoint=sha256_of(context.folder / CHECKPOINT),
            source_model=sha256_of(source) if source else None,
            predictions=online_digest(context.folder) if streams else None,
        ),
        protocol=config.mode,
    )


def ingredients_of(config: RunConfig, shift: Shift, method: type[Method], averages: str) -> dict[str, str]:
    """What a run's method has beyond its own loss, in words."""
    start: str = method.start if method.start == "scratch" else config.init
    if adapts_statistics(method, shift):
        start += ", target statistics" if config.mode == "offline" else ", statistics of each clip"
    used = {"fusion": config.fusion, "flow": config.flow, "averages": averages, "start": start}
    return {"set": config.ingredients, **used}


def _result(shift: Shift, scores: Scores) -> Result:
    return Result(
        iou={name: finite(value) for name, value in zip(shift.score_classes, scores.iou, strict=True)},
        miou=scores.miou,
        pixel_accuracy=scores.pixel_accuracy,
        temporal_consistency=finite(scores.temporal_consistency),
        **scores.video,
    )
