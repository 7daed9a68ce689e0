"""``bench adapt``: adapt a source-trained model to one's own footage. No source data, no labels, no scores.

The pieces are those of a benchmark run: the same methods, training loop, batch-norm statistics and watch over what is opened.
What differs is that nothing is known of the footage but its pictures, so there is no record and nothing to compare with.

The output folder holds ``adapt.yaml`` (what was asked for), ``metrics.jsonl`` and ``state/`` while it works, and ends with
``model.safetensors``, a model file like the one that came in. A killed adaptation goes on when the same command is given again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from pydantic import Field

from bench.core.access import guard, stage
from bench.core.errors import RunError, UsageError
from bench.core.files import disk_errors, file_hash, locked, write_atomically
from bench.core.schema import Model
from bench.core.seeding import seed_for
from bench.core.workspace import Workspace
from bench.data.datasets.frames import Frames, open_frames
from bench.data.loaders import BadClips, ClipLoader, ahead
from bench.data.recorded import VideoStore
from bench.data.splits import Store
from bench.flow.base import backend_of
from bench.networks.model_file import save_model
from bench.runs.evaluate import Everything, reestimate_statistics
from bench.runs.settings import method_class, resolve_settings, settings_of
from bench.runs.training import Trainer
from bench.shifts.protocol import Adaptation
from methods.base import Method, Setup
from stpl.segmenter import VideoSegmenter

from .predict import load, weights_file

FRAMES = 2
"""Frames per clip: the picture and the one before it."""
LARGEST = 1024
"""Longer side, in pixels, to which pictures are reduced unless a size is given; what the published networks are made for."""
MULTIPLE = 8
"""Sides are multiples of this: strides of the networks fit."""


class Request(Model):
    """What was asked for, completely; written as ``adapt.yaml``. Nothing in it says where a file lies."""

    LATER: ClassVar[tuple[str, ...]] = ()

    checkpoint: str
    method: str
    settings: dict[str, Any]
    flow: str
    size: tuple[int, int]
    pictures: int
    seed: int = Field(ge=0)
    schedule: Adaptation


def schedule(steps: int, batch: int, lr: float) -> Adaptation:
    """The schedule of MiniStreet with other numbers: batch-norm statistics of the target, one snapshot at the end."""
    return Adaptation(
        steps=steps, batch=batch, lr=lr, head_multiplier=10.0, momentum=0.9, weight_decay=5e-4, power=0.9, clip_norm=10.0,
        precision="bfloat16", batch_norm="target", snapshots=1, statistics_clips=64,
    )  # fmt: skip


def footage(path: Path, size: tuple[int, int] | None, workspace: Workspace) -> tuple[Frames, VideoStore]:
    """One's own pictures as clips, and what describes them.

    Args:
        path: folder, video or YAML (``bench.data.datasets.frames``).
        size: ``(height, width)`` the network works at; by default the description's, else the pictures' own, reduced to
            :data:`LARGEST` and rounded to multiples of :data:`MULTIPLE`.

    Raises:
        UsageError: nothing is there, or its description is wrong.
        RunError: no pictures, or none that can be read.
    """
    frames, root = open_frames(path, workspace.cache, workspace.progress)
    items = frames.items(root, "val", FRAMES)
    guard(root, "target", frames.guards())
    wanted = size or frames.size
    if wanted is None:
        height, width = frames.look(root / items[0].frames[-1], label=False)
        scale = min(1.0, LARGEST / max(height, width))
        wanted = tuple(max(32, round(side * scale / MULTIPLE) * MULTIPLE) for side in (height, width))  # type: ignore[assignment]
    assert wanted is not None
    ids = frames.id_table() if frames.labels is not None else None
    return frames, VideoStore(root, frames, items, ids, wanted)


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
        out: folder of the result.
        options: settings of the method.
        plan: schedule.
        flow: backend.
        size: see :func:`footage`.
        seed: of the order of clips and of the method's draws.

    Raises:
        UsageError: a method that needs more than the model and the pictures; an output folder of another request.
        RunError: unreadable files, a full disk, a loss that is not finite.
    """
    cls = method_class(method)
    if cls.card.setting != "SFDA":
        raise UsageError(
            f"Method '{method}' needs {'source data' if cls.card.setting == 'UDA' else 'more'} ({cls.card.setting}); "
            "your own footage is adapted to by source-free methods: see `bench list methods`"
        )
    if flow == "exact":
        raise UsageError("Your own footage comes without exact flow; use --flow dis or raft")
    described, store = footage(frames, size, workspace)
    request = Request(
        checkpoint=file_hash(weights_file(checkpoint)),
        method=method,
        settings=resolve_settings(method, options),
        flow=flow,
        size=store.frame_size,
        pictures=len(store),
        seed=seed,
        schedule=plan,
    )
    with locked(out):
        text = yaml.safe_dump(request.model_dump(mode="json"), sort_keys=True)
        asked = out / "adapt.yaml"
        if asked.is_file() and asked.read_text(encoding="utf-8", errors="replace") != text:
            if not workspace.force:
                raise UsageError(f"{out} holds another adaptation (see {asked}); choose another --out, or --force")
            shutil.rmtree(out)
        result = out / "model.safetensors"
        if result.is_file() and not workspace.force:
            return result
        write_atomically(asked, text)
        model = load(checkpoint, workspace)
        check_classes(model.classes, described, frames)
        adapted = _fit(cls, request, model.segmenter, len(model.classes), store, out, workspace)
        told = model.info
        origin = {**told.origin, "adapted_by": method, "from": request.checkpoint}
        save_model(
            result, adapted, told.network, told.fusion, told.num_classes, num_frames=told.num_frames,
            classes=model.classes, origin=origin,
        )  # fmt: skip
        with disk_errors(out):
            shutil.rmtree(out / "state", ignore_errors=True)
    return result


def _fit(
    cls: type[Method],
    request: Request,
    segmenter: VideoSegmenter,
    classes: int,
    store: Store,
    out: Path,
    workspace: Workspace,
) -> VideoSegmenter:
    """Adapt the network in place, with nothing open but the pictures."""
    plan, device = request.schedule, workspace.device
    setup = Setup(classes, plan.steps, seed_for(request.seed, "own video"))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(setup.seed, "method init"))
        method = cls(segmenter, settings_of(request.method, request.settings), setup).to(device)
    bad = BadClips(workspace.skip_bad)
    loader = ClipLoader(store, backend_of(request.flow), plan.batch, seed_for(setup.seed, "target"), bad)
    with stage("target-train"):
        trainer = Trainer(method, plan, out, device)
        if not trainer.state_path.is_file() and cls.start == "target_statistics":
            reestimate_statistics(segmenter, loader, plan.statistics_clips, device)
            method.restart()
        if cls.trains:
            with ahead(loader, workspace) as batches:
                assert batches is not None
                trainer.fit(batches, None, "adapt", workspace.progress, Everything(loader, device))
        adapted = method.evaluated("student")
        if cls.start == "target_statistics":
            reestimate_statistics(adapted, loader, plan.statistics_clips, device)
    return adapted


def check_classes(classes: tuple[str, ...], frames: Frames, path: Path) -> None:
    """The labels of the footage must be of the model's classes.

    Raises:
        RunError: they are not.
    """
    if frames.classes and tuple(frames.classes) != classes:
        raise RunError(f"{path}: its classes ({', '.join(frames.classes)}) are not the model's ({', '.join(classes)})")
