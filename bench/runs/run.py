"""One run, from config to record: ``run(config, workspace)``. The command line and a Ray trial call this same function.

1. Clips of the needed splits are rendered, or found in the cache.
2. The source model is trained, or found in the cache.
3. Adaptation, in a stage that opens what the method's setting allows: target frames; source clips and their labels for
   UDA; target training labels for the oracle. For a source-free method no source data set is constructed.
4. Evaluation, in a stage of its own: here the validation labels are opened for the first time.
"""

from __future__ import annotations

import datetime
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
import yaml

from bench.core.access import stage
from bench.core.errors import RunError, UsageError
from bench.core.files import disk_errors, locked, write_atomically
from bench.core.provenance import code, hardware, peak_memory_mb, reset_peak_memory, versions
from bench.core.schema import finite
from bench.core.seeding import seed_for
from bench.core.workspace import Workspace
from bench.data.loaders import BadClips, ClipLoader, LabelledLoader, ahead
from bench.data.splits import Split
from bench.data.splits import prepare as prepare_split
from bench.flow.resolve import flow_of, identity_of
from bench.networks.weights import load_into, save_tensors
from methods.base import Method, Setup
from stpl.segmenter import VideoSegmenter

from . import selection
from .config import RunConfig, Schedule, Shift, load_shift, method_class
from .evaluate import Everything, Scores, protocol_scores, reestimate_statistics, target_score
from .figures import draw, predictions
from .predictions import save_predictions
from .records import Cost, Record, Result, Selection, read_record
from .selection import Snapshot
from .sequences import FILE as SEQUENCES
from .sequences import write_sequences
from .settings import revision_of, settings_of
from .source import fresh_segmenter, initial_segmenter, source_flow, source_model, supervision_of
from .training import Batches, Fitted, Trainer, place, snapshot_steps

GRANTS = {
    "none": ("target-train",),
    "SFDA": ("target-train",),
    "UDA": ("target-train", "source-train", "source-train/label"),
    "oracle": ("target-train", "target-train/label"),
}
"""What each setting may open while it adapts."""


ANEW = "make the config anew, or check out the revision that its record names"


@dataclass(frozen=True)
class Context:
    """What the steps of one run share."""

    config: RunConfig
    shift: Shift
    workspace: Workspace
    folder: Path
    bad: BadClips = field(default_factory=BadClips)


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
    if config.shift_hash != (now := load_shift(config.shift)).hash:
        changed = f"shift '{now.name}' {config.shift_hash}, but its protocol is now {now.hash}"
        raise UsageError(f"This config was made for {changed}; {ANEW}")
    if config.revision != (today := revision_of(config.method, config.settings)):
        changed = f"revision {config.revision} of method '{config.method}', which is now {today}"
        raise UsageError(f"This config was made for {changed}; {ANEW}")
    folder = workspace.runs / config.hash
    with locked(folder):
        if workspace.force:
            shutil.rmtree(folder, ignore_errors=True)
        found = finished(folder, config)
        if found is not None:
            if workspace.save_predictions and not (folder / "predictions").is_dir():
                raise UsageError(f"Run {config.hash} is finished and its snapshots are gone; repeat it with --force")
            return found
        bad = BadClips(workspace.skip_bad)
        return _run(Context(config, config.protocol, workspace, folder, bad))


def finished(folder: Path, config: RunConfig) -> Record | None:
    """The record in a run folder, None if the run is not finished.

    Raises:
        RunError: the folder holds another config's run, or a damaged record.
    """
    path = folder / "config.yaml"
    if path.is_file():
        with disk_errors(path):
            text = path.read_text(encoding="utf-8", errors="replace")
        if text != config_text(config):
            raise _foreign(folder)
    if not (folder / "record.json").is_file():
        return None
    record = read_record(folder / "record.json")
    if record.config != config:
        raise _foreign(folder)
    return record


def _foreign(folder: Path) -> RunError:
    return RunError(f"Run folder {folder} holds another config's run; delete it or choose another --runs folder")


def config_text(config: RunConfig) -> str:
    """``config.yaml`` of a run folder."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=True)


def _run(context: Context) -> Record:
    began = time.perf_counter()
    code()  # the revision is the one that the run started with
    config, shift, workspace = context.config, context.shift, context.workspace
    write_atomically(context.folder / "config.yaml", config_text(config))
    cls = method_class(config.method)
    if cls.start == "scratch" and cls.card.setting != "oracle":
        raise UsageError(
            f"Method '{config.method}' starts from scratch, which only the oracle may; use --init backbone"
        )
    # Everything that must exist is made before the stages close: no rendering and no source data inside them.
    source, splits = prepare(config, shift, workspace)
    reset_peak_memory()  # rendering and source training are not the method's cost
    with stage(*GRANTS[cls.card.setting]):
        method = make_method(context, cls, source)
        fitted, weights, students = _adapt(context, method, splits)
    # Scored is a network that the harness built, with the weights from disk: nothing of the method's runs beside the labels.
    segmenter = place(fresh_segmenter(config, shift, 0), workspace)
    with stage("target-val", "target-val/label", "figures", processes=True):
        loader = open_clips(context, splits["target-val"])
        flow = identity_of(config.flow, loader.flow)  # reads weights: if they have gone, it says so before the scoring
        snapshots, scores = [], []

        def scored(path: Path, what: str) -> Scores:
            load_into(segmenter, path)
            return protocol_scores(shift, segmenter, loader, workspace.device, what, workspace.progress)

        beside = {name: scored(path, f"evaluate {name}") for name, path in students.items()}
        for step, path, score in weights:
            scores.append(scored(path, "evaluate" if len(weights) == 1 else f"evaluate step {step}"))
            snapshots.append(Snapshot(step, score, scores[-1].miou))
        _draw(context, cls, segmenter, source, loader)
    with disk_errors(context.folder):
        os.replace(weights[-1][1], context.folder / "checkpoint.safetensors")
    write_sequences(context.folder / SEQUENCES, scores[-1].sequences, shift.classes)
    parameters = sum(p.numel() for p in segmenter.parameters())
    cost = Cost(
        steps=fitted.steps,
        seconds=round(fitted.wall_seconds, 3),
        cpu_seconds=round(fitted.cpu_seconds, 3),
        total_seconds=round(time.perf_counter() - began, 3),
        peak_memory_mb=round(peak_memory_mb(), 1),
        parameters=parameters,
    )
    record = make_record(context, method, source, scores[-1], beside, snapshots, cost, flow)
    if workspace.save_predictions:
        start = [(0, source)] if source and method.trains else []
        kept = [(step, path) for step, path, _ in weights[:-1]] + [
            (fitted.steps, context.folder / "checkpoint.safetensors")
        ]
        _save_predictions(context, segmenter, start + kept, splits)
    write_atomically(context.folder / "record.json", record.to_json())
    shutil.rmtree(context.folder / "state", ignore_errors=True)
    return record


def _save_predictions(
    context: Context, segmenter: VideoSegmenter, weights: list[tuple[int, Path]], splits: dict[str, Split]
) -> None:
    """``--save-predictions``: what the kept weights, and the source model, say about target training clips."""
    with stage("target-train"):
        loader, rule = open_clips(context, splits["target-train"]), context.shift.evaluation
        folder, wanted = context.folder / "predictions", context.workspace.save_predictions
        save_predictions(folder, segmenter, weights, loader, wanted, rule.align_corners, context.workspace.device)


def _draw(
    context: Context, cls: type[Method], segmenter: VideoSegmenter, source: Path | None, loader: ClipLoader
) -> None:
    """Figures of the run, after scoring; the source model's prediction stands beside the adapted one's."""
    rule, device = context.shift.evaluation, context.workspace.device
    shown = {cls.card.title: predictions(segmenter, loader, rule, device)}
    if source is not None and cls.start != "source":
        load_into(segmenter, source)
        shown = {"Source only": predictions(segmenter, loader, rule, device), **shown}
    draw(context.folder / "figures", loader, shown, context.shift.classes)


def prepare(config: RunConfig, shift: Shift, workspace: Workspace) -> tuple[Path | None, dict[str, Split]]:
    """What must exist before a method may run: the source model, and the splits by ``role-split``.

    The oracle, and UDA methods with ``--init backbone``, have no source model (None). The source's training split is there for
    UDA methods only.
    """
    cls = method_class(config.method)
    bare = cls.start == "scratch" or config.init == "backbone"
    source = None if bare else source_model(config, shift, workspace)
    needed = [("target", "train"), ("target", "val")]
    if cls.card.setting == "UDA":
        needed.append(("source", "train"))
    return source, {
        f"{role}-{split}": prepare_split(shift, role, split, config.seed, workspace) for role, split in needed
    }


def make_method(context: Context, cls: type[Method], source: Path | None) -> Method:
    """The method around its start: the source model, or a fresh network for the oracle."""
    config, shift = context.config, context.shift
    seed = seed_for(config.seed, "adaptation", shift.data.family)
    fresh = initial_segmenter if source is None else fresh_segmenter
    segmenter = place(fresh(config, shift, seed_for(seed, "init")), context.workspace)
    if source is not None:
        load_into(segmenter, source)
    steps = schedule_of(cls, shift).steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "method init"))  # projection heads and the like
        setup = Setup(len(shift.classes), steps, seed, supervision_of(shift))
        method = cls(segmenter, settings_of(config.method, config.settings), setup)
    return method.to(context.workspace.device)


def schedule_of(cls: type[Method], shift: Shift) -> Schedule:
    """The source schedule for what starts from scratch, the adaptation schedule for everything else."""
    return shift.source_training if cls.start == "scratch" else shift.adaptation


def open_batches(
    context: Context, cls: type[Method], splits: dict[str, Split]
) -> tuple[ClipLoader, Batches, Batches | None]:
    """Unlabelled target clips; what the method is handed as target; labelled source clips for UDA methods."""
    shift, schedule = context.shift, schedule_of(cls, context.shift)
    seed = seed_for(context.config.seed, "adaptation", shift.data.family)
    split, bad, cache = splits["target-train"], context.bad, context.workspace.cache
    store = split.open()
    flow = flow_of(context.config.flow, store, split.name, cache)
    unlabelled = ClipLoader(store, flow, schedule.batch, seed_for(seed, "target"), bad)
    if cls.card.setting == "oracle":
        labelled = LabelledLoader(store, flow, schedule.batch, seed_for(seed, "target"), bad)
        return unlabelled, labelled, None
    if cls.card.setting == "UDA":
        split = splits["source-train"]
        source = split.open()
        flow = flow_of(source_flow(context.config, shift), source, split.name, cache)
        return unlabelled, unlabelled, LabelledLoader(source, flow, schedule.batch, seed_for(seed, "source"), bad)
    return unlabelled, unlabelled, None


def open_clips(context: Context, split: Split) -> ClipLoader:
    """Clips of a split one by one, without labels and without leave to skip any."""
    store = split.open()
    return ClipLoader(store, flow_of(context.config.flow, store, split.name, context.workspace.cache), 1, 0)


def adapts_statistics(method: Method, shift: Shift) -> bool:
    """True where batch norm starts from, and is scored with, statistics of the target."""
    return method.start == "target_statistics" and shift.adaptation.batch_norm == "target"


def begin(context: Context, method: Method, unlabelled: ClipLoader) -> None:
    """What comes before a method's first step: statistics of the target, and its own restart."""
    if adapts_statistics(method, context.shift):
        clips, device = context.shift.adaptation.statistics_clips, context.workspace.device
        reestimate_statistics(method.segmenter, unlabelled, clips, device)
    method.restart()


Weights = tuple[int, Path, float]
"""Step, file and target-only score of kept weights."""


def _adapt(context: Context, method: Method, splits: dict[str, Split]) -> tuple[Fitted, list[Weights], dict[str, Path]]:
    """Train the method; returns what it cost, the kept weights, and the last student's where the method keeps an average."""
    shift, device, progress = context.shift, context.workspace.device, context.workspace.progress
    cls, schedule = type(method), schedule_of(type(method), shift)
    unlabelled, target, source = open_batches(context, cls, splits)
    clips = shift.adaptation.statistics_clips
    observer = context.workspace.observer
    trainer = Trainer(method, schedule, context.folder, device, shift.evaluation.readout, observer)
    fitted, kept = Fitted(0, 0.0, 0.0), [0]
    if method.trains:
        if not trainer.state_path.is_file():
            begin(context, method, unlabelled)
        everything = Everything(unlabelled, device)
        with ahead(target, context.workspace) as targets, ahead(source, context.workspace) as sources:
            watch = watcher(context, method, trainer, unlabelled) if context.workspace.watch else None
            fitted = trainer.fit(targets, sources, "adapt", progress, everything, watch)
        kept = snapshot_steps(schedule)
    model: VideoSegmenter = method.segmenter

    def made_ready(path: Path, step: int) -> Weights:
        if method.trains:
            load_into(model, path)
        if adapts_statistics(method, shift):
            reestimate_statistics(model, unlabelled, clips, device)
        score = target_score(model, unlabelled, clips, device)
        ready = path.with_name(f"ready-{path.name}")
        save_tensors(ready, model.state_dict(), {"config": context.config.hash, "step": step})
        return step, ready, score

    students = {"student": trainer.student_path(kept[-1])} if method.evaluates_average and method.trains else {}
    students = {name: made_ready(path, kept[-1])[1] for name, path in students.items()}
    return fitted, [made_ready(trainer.snapshot_path(step), step) for step in kept], students


def watcher(context: Context, method: Method, trainer: Trainer, unlabelled: ClipLoader) -> Callable[[int], None]:
    """Tells the workspace's ``watch`` the target-only score of kept weights. The training does not notice: another network
    takes them, and the random numbers go on where they were."""
    config, shift, workspace = context.config, context.shift, context.workspace
    model, clips = place(fresh_segmenter(config, shift, 0), workspace), shift.adaptation.statistics_clips

    def watch(step: int) -> None:
        with torch.random.fork_rng(devices=[]):
            load_into(model, trainer.snapshot_path(step))
            if adapts_statistics(method, shift):
                reestimate_statistics(model, unlabelled, clips, workspace.device)
            score = target_score(model, unlabelled, clips, workspace.device)
        assert workspace.watch is not None
        workspace.watch(step, score)

    return watch


def make_record(
    context: Context,
    method: Method,
    source: Path | None,
    scores: Scores,
    beside: dict[str, Scores],
    snapshots: list[Snapshot],
    cost: Cost,
    flow: str | None,
) -> Record:
    """Put the record together."""
    config, card = context.config, method.card
    best, quiet_best = selection.oracle(snapshots), selection.unsupervised(snapshots)
    return Record(
        run=config.hash,
        config=config,
        shift_hash=context.shift.hash,
        source_model=source.stem if source else None,
        method={"title": card.title, "design": card.design, "setting": card.setting, "floor": card.floor},
        result=_result(context.shift, scores),
        beside={name: _result(context.shift, of) for name, of in beside.items()},
        selection=Selection(
            unsupervised={"step": quiet_best.step, "miou": quiet_best.miou},
            oracle={"step": best.step, "miou": best.miou, "label_looks": len(snapshots)},
            snapshots=[{"step": s.step, "target_score": s.target_score, "miou": s.miou} for s in snapshots],
        ),
        cost=cost,
        code=code(),
        versions=versions(),
        hardware=hardware(context.workspace.device.type, torch.get_num_threads())
        | ({"compiled": True} if context.workspace.compiled else {}),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        skipped=context.bad.found or None,
        flow=flow,
        ingredients=ingredients_of(config, context.shift, method),
    )


def ingredients_of(config: RunConfig, shift: Shift, method: Method) -> dict[str, str]:
    """What a run's method has beyond its own loss, in words."""
    start: str = method.start if method.start == "scratch" else config.init
    start = f"{start}, target statistics" if adapts_statistics(method, shift) else start
    used = {"fusion": config.fusion, "flow": config.flow, "averages": method.averages, "start": start}
    return {"set": config.ingredients, **used}


def _result(shift: Shift, scores: Scores) -> Result:
    return Result(
        iou={name: finite(value) for name, value in zip(shift.classes, scores.iou, strict=True)},
        miou=scores.miou,
        pixel_accuracy=scores.pixel_accuracy,
        temporal_consistency=finite(scores.temporal_consistency),
    )
