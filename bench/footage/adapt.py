"""``bench adapt``: adapt a source-trained model to one's own footage. No source data, no labels, no scores.

The pieces are those of a benchmark run: the same methods, training loop, batch-norm statistics and watch over what is opened.
What differs is that nothing is known of the footage but its pictures, so there is no record and nothing to compare with.

The output folder holds ``adapt.yaml`` (what was asked for), ``metrics.jsonl`` and ``state/`` while it works, and ends with
``model.safetensors``, a model file like the one that came in. A killed adaptation goes on when the same command is given again; a
finished one is found again. Both are known by what goes in: the model's and the pictures' content, and the request.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from pydantic import TypeAdapter, ValidationError

from bench.core import child
from bench.core.access import stage
from bench.core.errors import RunError, UsageError
from bench.core.files import check_folder, file_hash, locked, write_atomically
from bench.core.loading import sources
from bench.core.outputs import Output, apart
from bench.core.registry import resolve
from bench.core.schema import check_names, one_line
from bench.core.seeding import seed_for
from bench.core.workspace import Workspace
from bench.data.datasets._description import find_frames
from bench.data.loaders import BadClips, ClipLoader, ahead
from bench.data.splits import Store
from bench.flow.base import backend_of
from bench.networks.build import place
from bench.networks.model_file import save_model, segmenter_of
from bench.networks.weights import load_into, save_tensors
from bench.runs.around import Around
from bench.runs.boxed import ForwardedLog, boxable
from bench.runs.evaluate import Everything, reestimate_statistics
from bench.runs.settings import RUN_OPTIONS, check_options, loaded_class, method_class, resolve_settings, settings_of
from bench.runs.training import Log, Trainer
from bench.shifts.protocol import Adaptation
from methods.base import Method, Setup
from stpl.segmenter import VideoSegmenter

from .boxed import ADAPTED, Task, fit_boxed
from .pictures import Footage, open_footage
from .predict import Loaded, load, weights_file
from .request import Request

MOST_BATCH = 1024
"""Clips per step."""
STATE_FILE = "state/state.safetensors"
KEPT = (ASKED, RESULT, METRICS) = ("adapt.yaml", "model.safetensors", "metrics.jsonl")
"""What an adaptation leaves: the request, the model file, and the losses by step."""


def schedule(steps: int, batch: int, lr: float) -> Adaptation:
    """The schedule of MiniStreet with other numbers: batch-norm statistics of the target, one snapshot at the end.

    Raises:
        UsageError: a number out of range.
    """
    if batch > MOST_BATCH:  # memory would end first, after minutes
        raise UsageError(f"batch: at most {MOST_BATCH} clips per step, got {batch}")
    try:
        return Adaptation(
            steps=steps, batch=batch, lr=lr, head_multiplier=10.0, momentum=0.9, weight_decay=5e-4, power=0.9, clip_norm=10.0,
            precision="bfloat16", batch_norm="target", snapshots=1, statistics_clips=64,
        )  # fmt: skip
    except ValidationError as error:
        raise UsageError(one_line(error)) from None


@dataclass(frozen=True)
class Work:
    """What a command on one's own footage works with: its output, the model, where it lies and its weights' hash, the pictures."""

    output: Output
    checkpoint: Path
    loaded: Loaded
    weights: str
    footage: Footage


@contextlib.contextmanager
def opened(
    command: str, out: Path, checkpoint: Path, frames: Path, size: tuple[int, int] | None, workspace: Workspace
) -> Iterator[Work]:
    """Open a command's output, the model and the footage, after a look at whether one would harm another.

    Raises:
        UsageError: the output holds, is, or lies in what is read; or the classes are not the model's.
        RunError: unreadable files.
    """
    check_folder(out)
    weights, footage_files = weights_file(checkpoint), find_frames(frames)
    inputs = {"the model": checkpoint, **footage_files.inputs}
    apart(out, inputs | {"the cache": workspace.cache, "the runs": workspace.runs})
    loaded = load(checkpoint, workspace)
    if footage_files.description is not None:
        check_classes(loaded.classes, footage_files.description.class_names, frames)
    with locked(out / f".{command}"), Output(out, command) as output:
        footage = open_footage(frames, size, loaded.info.network, workspace)
        yield Work(output, checkpoint, loaded, file_hash(weights), footage)


def adapt_video(
    checkpoint: Path,
    frames: Path,
    method: str,
    out: Path,
    options: dict[str, Any],
    plan: Adaptation,
    workspace: Workspace,
    *,
    flow: str = "dis",
    size: tuple[int, int] | None = None,
    seed: int = 0,
) -> Path:
    """Adapt a model; returns the model file. A finished adaptation is found again, a killed one goes on.

    Args:
        checkpoint: model file (``bench.networks.model_file``), or folder of a finished run.
        frames: folder, video or YAML.
        method: a source-free method.
        out: folder of the result. What lies in it and is not this command's stays as it is (``bench.core.outputs``).
        options: settings of the method.
        plan: schedule.
        workspace: with ``force`` an earlier adaptation in ``out`` is removed first.
        flow: backend.
        size: see :func:`bench.footage.pictures.open_footage`.
        seed: of the order of clips and of the method's draws.

    Raises:
        UsageError: a method that needs more than the model and the pictures; an output folder of another request, with files of
            the user in the way, or that holds or lies in what is read.
        RunError: unreadable files, a full disk, a loss that is not finite.
    """
    method, flow = resolve("method", method), resolve("flow", flow)
    cls = source_free(method, flow, options)
    with opened("adapt", out, checkpoint, frames, size, workspace) as work:
        return adapt(work, cls, method, options, plan, flow, seed, workspace)


def source_free(method: str, flow: str, options: dict[str, Any]) -> type[Method]:
    """A method that footage alone suffices for, checked with its options before anything is opened.

    Raises:
        UsageError: an unknown method, one that needs more, an option that it does not take, or exact flow, which footage does not
            have.
    """
    cls: type[Method] = method_class(method)
    if cls.card.setting != "SFDA":
        raise UsageError(
            f"Method '{method}' needs {'source data' if cls.card.setting == 'UDA' else 'more'} ({cls.card.setting}); "
            "your own footage is adapted to by source-free methods: see `bench list methods`"
        )
    check_flow(flow)
    own = " on your own footage, where fusion, network and weights are the model's and the flow is --flow's"
    check_options(method, options, (), own if set(options) & set(RUN_OPTIONS) else "")
    resolve_settings(method, options)
    return cls


def check_flow(flow: str) -> None:
    """Refuse a backend that footage has no use for, before anything is read.

    Raises:
        UsageError: it is unknown, or exact.
    """
    if flow == "exact":
        raise UsageError("Your own footage comes without exact flow; use --flow dis or raft")
    backend_of(flow)


def adapt(
    work: Work,
    cls: type[Method],
    method: str,
    options: dict[str, Any],
    plan: Adaptation,
    flow: str,
    seed: int,
    workspace: Workspace,
) -> Path:
    """:func:`adapt_video` with everything opened."""
    output, model, store = work.output, work.loaded, work.footage.store
    out, info = output.folder, model.info
    request = Request(
        checkpoint=work.weights,
        method=method,
        settings=resolve_settings(method, options),
        flow=flow,
        size=store.frame_size,
        pictures=len(store),
        content=work.footage.content,
        seed=seed,
        schedule=plan,
        plugins=sources((("method", method), ("flow", flow))),
    )
    model_path, request_path = out / RESULT, out / ASKED
    output.check(KEPT)
    if workspace.force or not model_path.is_file():
        pictures = (path for item in store.items for path in item.frames)
        handed = (workspace.runs, workspace.cache, store.root, *pictures)
        check_names([out, *(handed if boxable(workspace) else ())])
    if workspace.force:
        output.clear()
    text = yaml.safe_dump(request.model_dump(mode="json"), sort_keys=True)
    if request_path.is_file() and request_path.read_text(encoding="utf-8", errors="replace") != text:
        raise UsageError(f"{out} holds another adaptation (see {request_path}); choose another --out, or --force")
    if model_path.is_file():
        return model_path
    write_atomically(request_path, text)
    output.grows(METRICS)
    try:
        output.check([STATE_FILE])
        if boxable(workspace):
            weights = weights_file(work.checkpoint)
            arguments = (info, weights, model.segmenter, len(model.classes), store)
            adapted = fit_boxed(request, *arguments, output, workspace)
        else:
            adapted = fit(cls, request, model.segmenter, len(model.classes), store, out, Log(out / METRICS), workspace)
    finally:
        output.ends(METRICS)
    save_model(
        model_path, adapted, info.network, info.fusion, info.num_classes, num_frames=info.num_frames,
        classes=model.classes, origin={**info.origin, "adapted_by": method, "from": request.checkpoint},
    )  # fmt: skip
    output.clear("state")
    return model_path


def fit(
    cls: type[Method],
    request: Request,
    segmenter: VideoSegmenter,
    classes: int,
    store: Store,
    out: Path,
    log: Log,
    workspace: Workspace,
) -> VideoSegmenter:
    """Adapt the network in place, with nothing open but the pictures; the state goes to ``out/state``."""
    plan, device = request.schedule, workspace.device
    setup = Setup(classes, plan.steps, seed_for(request.seed, "own video"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(setup.seed, "method init"))
        with stage("target-train"):
            method = loaded_class(request.method)(segmenter, settings_of(request.method, request.settings), setup)
        method = method.to(device)
    bad_clips = BadClips(workspace.skip_bad)
    loader = ClipLoader(store, backend_of(request.flow), plan.batch, seed_for(setup.seed, "target"), bad_clips)
    with stage("target-train"):
        trainer = Trainer(method, plan, out, device, log=log)
        if not trainer.state_path.is_file() and cls.start == "target_statistics":
            reestimate_statistics(segmenter, loader, plan.statistics_clips, device)
            method.restart()
        if cls.trains:
            with ahead(loader, workspace) as batches:
                assert batches is not None
                trainer.fit(batches, None, "adapt", workspace.progress, Everything(loader, device))
        adapted: VideoSegmenter = method.evaluated("student")
        if cls.start == "target_statistics":
            reestimate_statistics(adapted, loader, plan.statistics_clips, device)
    return adapted


def check_classes(classes: tuple[str, ...], described: tuple[str, ...], path: Path) -> None:
    """The labels of the footage must be of the model's classes.

    Raises:
        RunError: they are not.
    """
    if described != classes:
        raise RunError(f"{path}: its classes ({', '.join(described)}) are not the model's ({', '.join(classes)})")


def adapt_footage_here(payload: str, say: child.Say) -> None:
    """The adaptation of a :class:`Task`, inside the box."""
    task = TypeAdapter(Task).validate_json(Around.unpacked(payload))
    workspace = Workspace(
        task.runs,
        task.cache,
        torch.device(task.device),
        progress=lambda activity, done, total: say("progress", [activity, done, total]),
        data_root=None,
        workers=task.workers,
        skip_bad=task.skip,
    )
    segmenter = place(segmenter_of(task.info, task.weights), workspace)
    load_into(segmenter, task.weights)
    segmenter.train(task.training)
    cls = method_class(task.request.method)
    adapted = fit(
        cls, task.request, segmenter, task.classes, task.store.open(), task.folder, ForwardedLog(say), workspace
    )
    save_tensors(task.folder / ADAPTED, adapted.state_dict())
