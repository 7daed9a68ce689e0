"""The adaptation of a run: what a method is given, where it starts, and its training up to weights that can be scored.

Everything that must exist is made by :func:`prepare`, before the stage that closes whatever the method's setting does not grant.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch

from bench.core.access import stage
from bench.core.seeding import seed_for
from bench.core.workspace import Workspace
from bench.data.loaders import BadClips, ClipLoader, ahead
from bench.data.splits import Split, check_labels
from bench.data.splits import prepare as prepare_split
from bench.flow.resolve import open_clips
from bench.networks.build import place
from bench.networks.weights import load_into, save_tensors
from bench.shifts.sides import Pictures
from methods.base import Method, Setup
from stpl.segmenter import VideoSegmenter

from .config import RunConfig, Schedule, Shift, method_class
from .evaluate import Everything, reestimate_statistics, target_score
from .settings import loaded_class, settings_of
from .source import fresh_segmenter, initial_segmenter, source_flow, source_model, supervision_of
from .training import Batches, Fitted, Log, Trainer, snapshot_steps

GRANTS = {
    "none": ("target-train",),
    "SFDA": ("target-train",),
    "UDA": ("target-train", "source-train", "source-train/label"),
    "oracle": ("target-train", "target-train/label"),
}
"""What each setting may open while it adapts."""
STREAM = ("target-val",)
"""What a method may open in a stream: the clips that are scored, without their labels."""
TRANSDUCTIVE = "target-transductive"
"""Split that some shifts score beside the validation split; opened after adaptation."""


Weights = tuple[int, Path, float]
"""Step, file and target-only score of kept weights."""


@dataclass(frozen=True)
class Adapted:
    """What came of an adaptation.

    Attributes:
        fitted: what it cost.
        weights: what was kept, in the order of the steps.
        students: the last student's, where the method keeps an average.
        averages: ``averages`` of the method.
        peak_memory_mb: of the process that it ran in, where that has ended.
    """

    fitted: Fitted
    weights: list[Weights]
    students: dict[str, Path]
    averages: str
    peak_memory_mb: float = 0.0


@dataclass(frozen=True)
class Context:
    """What the steps of one run share."""

    config: RunConfig
    shift: Shift
    workspace: Workspace
    folder: Path
    bad: BadClips = field(default_factory=BadClips)
    log: Log | None = None


def grants_of(config: RunConfig, cls: type[Method]) -> tuple[str, ...]:
    """What the method of a run may open while it adapts."""
    return STREAM if config.mode == "stream" else GRANTS[cls.card.setting]


def prepare(config: RunConfig, shift: Shift, workspace: Workspace) -> tuple[Path | None, dict[str, Split]]:
    """What must exist before a method may run: the source model, and the splits by ``role-split``.

    The oracle, and UDA methods with ``--init backbone``, have no source model (None). The source's training split is there for
    UDA methods only; a stream has the target's validation split alone.
    """
    cls = method_class(config.method)
    bare = cls.start == "scratch" or config.init == "backbone"
    offline = config.mode == "offline"
    needed = [("target", "train"), ("target", "val")] if offline else [("target", "val")]
    if offline and isinstance(shift.data.target, Pictures) and shift.data.target.transductive:
        needed.append(("target", "transductive"))
    oracle = cls.card.setting == "oracle"
    splits = {
        f"{role}-{split}": prepare_split(shift, role, split, config.seed, workspace, labelled=oracle)
        for role, split in needed
    }
    if cls.card.setting == "UDA":
        splits["source-train"] = prepare_split(shift, "source", "train", config.seed, workspace, cls.previous_labels)
    for name, split in splits.items():
        if name != "target-train" or oracle:
            check_labels(split, workspace.skip_bad)
    return None if bare else source_model(config, shift, workspace), splits


def make_method(context: Context, cls: type[Method], source: Path | None, steps: int | None = None) -> Method:
    """The method around its start: the source model, or a fresh network for the oracle. ``steps``: by default the schedule's."""
    config, shift = context.config, context.shift
    seed = seed_for(config.seed, "adaptation", shift.data.family)
    fresh = initial_segmenter if source is None else fresh_segmenter
    segmenter = place(fresh(config, shift, seed_for(seed, "init")), context.workspace)
    if source is not None:
        load_into(segmenter, source)
    steps = steps or schedule_of(cls, shift).steps
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "method init"))  # projection heads and the like
        setup = Setup(len(shift.classes), steps, seed, supervision_of(shift))
        method = cls(segmenter, settings_of(config.method, config.settings), setup)
    return method.to(context.workspace.device)


def schedule_of(cls: type[Method], shift: Shift) -> Schedule:
    """The source schedule for what starts from scratch, the adaptation schedule for everything else."""
    return shift.training if cls.start == "scratch" else shift.adaptation


def open_batches(
    context: Context, cls: type[Method], splits: dict[str, Split]
) -> tuple[ClipLoader, Batches, Batches | None]:
    """Unlabelled target clips; what the method is handed as target; labelled source clips for UDA methods."""
    shift, config, setting = context.shift, context.config, cls.card.setting
    batch, seed = schedule_of(cls, shift).batch, seed_for(config.seed, "adaptation", shift.data.family)

    def clips(role: str, flow: str, labelled: bool) -> ClipLoader:
        split, cache = splits[f"{role}-train"], context.workspace.cache
        earlier = labelled and role == "source" and cls.previous_labels
        return open_clips(split, flow, cache, batch, seed_for(seed, role), context.bad, labelled, earlier)

    unlabelled = clips("target", config.flow, labelled=False)
    target = clips("target", config.flow, labelled=True) if setting == "oracle" else unlabelled
    source = clips("source", source_flow(config, shift), labelled=True) if setting == "UDA" else None
    return unlabelled, target, source


def adapts_statistics(method: Method | type[Method], shift: Shift) -> bool:
    """True where batch norm starts from, and is scored with, statistics of the target."""
    return method.start == "target_statistics" and shift.adaptation.batch_norm == "target"


def begin(context: Context, method: Method, unlabelled: ClipLoader) -> None:
    """What comes before a method's first step: statistics of the target, and its own restart."""
    if adapts_statistics(method, context.shift):
        clips, device = context.shift.adaptation.statistics_clips, context.workspace.device
        reestimate_statistics(method.segmenter, unlabelled, clips, device)
    method.restart()


def adapted(context: Context, cls: type[Method], source: Path | None, splits: dict[str, Split]) -> Adapted:
    """Make the method and train it, in a stage that opens what its setting grants."""
    # Opened is what the card said before the method's code ran; compilers are processes.
    with stage(*grants_of(context.config, cls), processes=context.workspace.compiled):
        return adapt(context, make_method(context, loaded_class(context.config.method), source), splits)


def adapt(context: Context, method: Method, splits: dict[str, Split]) -> Adapted:
    """Train the method."""
    shift, device, progress = context.shift, context.workspace.device, context.workspace.progress
    cls, schedule = type(method), schedule_of(type(method), shift)
    unlabelled, target, source = open_batches(context, cls, splits)
    clips = shift.adaptation.statistics_clips
    observer = context.workspace.observer
    trainer = Trainer(method, schedule, context.folder, device, shift.evaluation.readout, observer, context.log)
    fitted, kept = Fitted(0, 0.0, 0.0), [0]
    if method.trains:
        if not trainer.state_path.is_file():
            begin(context, method, unlabelled)
        everything = Everything(unlabelled, device)
        with ahead(target, context.workspace) as targets, ahead(source, context.workspace) as sources:
            assert targets is not None
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
    weights = [made_ready(trainer.snapshot_path(step), step) for step in kept]
    return Adapted(fitted, weights, students, str(method.averages))


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
