"""What ``bench predict`` and ``bench adapt`` write: label ids, overlays and films, from a run, a model file, or own footage.

out/labels/<key>_pred_labelIds.png      one id per pixel, grey: the ids that one's own YAML names, else those of Cityscapes, as the
                                        official evaluator reads them: CITYSCAPES_RESULTS=out/labels
out/labels/<key>.png                    instead, with a palette of colours: where the YAML names colours, or classes have no ids
out/legend.json                         id, name and colour of every class
out/overlays/<key>.png                  the picture under its classes' colours
out/<sequence>.mp4|gif                  the overlays of a sequence as a film
out/predict.json                        what was predicted with what, what was left out, and IoU by class where there are labels
out/changes.json, changes.png           of `bench adapt`: see `bench.footage.changes`
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from bench.core.access import stage
from bench.core.errors import BadFile, UsageError
from bench.core.files import check_folder, file_hash, write_atomically
from bench.core.outputs import Output, apart
from bench.core.registry import resolve
from bench.core.schema import finite
from bench.core.workspace import Workspace
from bench.data.loaders import BadClips, ClipLoader
from bench.data.splits import Store, prepare
from bench.flow.base import backend_of
from bench.flow.resolve import flow_of
from bench.pictures.media import FILMS, check_rate
from bench.runs.config import load_shift
from bench.runs.evaluate import reestimate_statistics
from bench.runs.metrics import ConfusionMatrix, counts_of, iou_from_counts, mean_iou, pixel_accuracy
from bench.shifts.protocol import Adaptation

from .adapt import KEPT, Work, adapt, check_flow, opened, source_free
from .changes import ADAPTED, BEFORE, STATISTICS, changes, has_statistics, write
from .changes import FILES as CHANGED
from .masks import Legend, Looks, Masks, Size, legend_of
from .predict import Prediction, load, predictions, weights_file


def predict_and_export(
    checkpoint: Path,
    out: Path,
    looks: Looks,
    workspace: Workspace,
    *,
    shift: str | None = None,
    frames: Path | None = None,
    split: str | None = None,
    seed: int | None = None,
    flow: str | None = None,
    size: Size | None = None,
) -> dict[str, Any]:
    """``bench predict``; returns what was written, and mIoU where one's own footage has labels.

    Raises:
        UsageError: nothing to predict on, classes that do not fit, or an option that would count for nothing.
        RunError: unreadable files, a full disk.
    """
    check_video(looks)
    of_shift = {"--shift": shift, "--split": split, "--seed": seed}
    unused = [name for name, value in of_shift.items() if value is not None] if frames else ["--size"] if size else []
    if unused:
        kind = "a shift, and --frames is your own footage" if frames else "your own footage (--frames), not of a shift"
        raise UsageError(f"{', '.join(unused)}: of {kind}; leave it out")
    split = split or "val"
    if split not in ("val", "train"):
        raise UsageError(f"--split is val or train, got '{split}'")
    flow = resolve("flow", flow) if flow else None
    if frames is None:
        return _on_shift(
            checkpoint, resolve("shift", shift) if shift else None, split, seed, flow, out, looks, workspace
        )
    check_flow(flow or "dis")
    with opened("predict", out, checkpoint, frames, size, workspace) as work:
        masks = Masks(out, legend_of(work.loaded.classes, work.footage.described), *looks)
        work.output.check(masks.names(work.footage.store))
        with work.output.replaced() as new:
            return _on_footage(work, masks, new, flow or "dis", workspace)


def check_video(looks: Looks) -> None:
    """Refuse a film that cannot be made.

    Raises:
        UsageError: its kind is unknown, or its rate.
    """
    _, video, rate = looks
    check_rate(rate)
    if video not in ("none", *FILMS):
        raise UsageError(f"--video is one of none, {', '.join(FILMS)}, got '{video}'")


def _tell(masks: Masks, folder: Path, report: dict[str, Any]) -> dict[str, Any]:
    """Write ``predict.json``, last: an output without it is not finished. The file holds no paths; the output folder is added
    to what is returned."""
    write_atomically(folder / "predict.json", json.dumps(report, indent=1, sort_keys=True) + "\n")
    return report | {"out": str(masks.out)}


def _on_shift(
    checkpoint: Path,
    name: str | None,
    split: str,
    seed: int | None,
    flow: str | None,
    out: Path,
    looks: Looks,
    workspace: Workspace,
) -> dict[str, Any]:
    weights = weights_file(checkpoint)
    inputs = {"the model": checkpoint, "the cache": workspace.cache, "the runs": workspace.runs}
    check_folder(out)
    apart(out, inputs | ({"the data": workspace.data_root} if workspace.data_root else {}))
    loaded = load(checkpoint, workspace)
    name = name or loaded.shift
    if name is None:
        raise UsageError("A model file does not say on what to predict: give --shift or --frames")
    shift, masks = load_shift(name), Masks(out, legend_of(loaded.classes), *looks)
    if shift.classes != loaded.classes:
        raise UsageError(f"The model's classes are {', '.join(loaded.classes)}; shift '{name}' has others")
    if shift.data.frames > loaded.info.num_frames:
        raise UsageError(
            f"The model is made for clips of {loaded.info.num_frames} frames, those of '{name}' have {shift.data.frames}"
        )
    if loaded.shift == name:
        if seed not in (None, loaded.seed):
            raise UsageError(f"The run is of replicate {loaded.seed} of '{name}', got --seed {seed}; leave it out")
        seed = loaded.seed
    flow = flow or loaded.flow or shift.flow
    clips = prepare(shift, "target", split, seed or 0, workspace)
    rule, bad_clips = shift.evaluation, BadClips(workspace.skip_bad)
    height, width = rule.height, rule.width
    size = (lambda _: (height, width)) if height and width else None
    granted = f"target-{split}"
    with Output(out, "predict") as output:
        with stage(granted):
            store = clips.open()
        output.check(masks.names(store))
        # The stage ends first: what is left of the folder is removed by names like "labels", which may be closed in it.
        with output.replaced() as new, stage(granted):
            loader = ClipLoader(store, flow_of(flow, store, clips.name, workspace.cache), 1, 0, bad_clips)
            predicted = predictions(
                loaded.segmenter, loader, size, rule.align_corners, workspace.device, workspace.progress
            )
            counts = masks.write(new, predicted)
            left_out = _left_out(bad_clips, store)
            report = {
                "model": loaded.description,
                "weights": file_hash(weights),
                "shift": name,
                "split": split,
                "flow": flow,
                **counts,
            }
            return _tell(masks, new, {**report, "skipped": len(left_out), "left out": left_out})


def _left_out(bad_clips: BadClips, store: Store) -> dict[str, str]:
    """What was skipped and why, without the place where the data lies."""
    return {key: reason.replace(f"{getattr(store, 'root', '')}/", "") for key, reason in bad_clips.found.items()}


def _on_footage(work: Work, masks: Masks, folder: Path, flow: str, workspace: Workspace) -> dict[str, Any]:
    """Predict one's own footage into a folder and score it where it has labels. A label that cannot be read is left out with
    ``skip_bad``."""
    store, loaded = work.footage.store, work.loaded
    matrix, labelled, bad_clips = ConfusionMatrix(len(loaded.classes)), 0, BadClips(workspace.skip_bad)
    numbers = {store.key(i): i for i in range(len(store))}

    def scored(predicted: Iterator[Prediction]) -> Iterator[Prediction]:
        nonlocal labelled
        for prediction in predicted:
            if store.has_label(number := numbers[prediction.key]):
                try:
                    truth = torch.from_numpy(store.label(number))
                except BadFile as error:
                    if not bad_clips.skip:
                        raise
                    bad_clips.note(f"{prediction.key} (its label)", error)
                else:
                    matrix.update(truth, torch.from_numpy(prediction.labels))
                    labelled += 1
            yield prediction

    with stage("target-train", "target-val/label"):  # nothing adapts here: the labels are those of the user
        loader = ClipLoader(store, backend_of(flow), 1, 0, bad_clips)
        predicted = predictions(
            loaded.segmenter, loader, store.picture_size, False, workspace.device, workspace.progress
        )
        counts = masks.write(folder, scored(predicted))
    left_out = work.footage.left_out | _left_out(bad_clips, store)
    report: dict[str, Any] = {
        "model": loaded.description, "weights": work.weights, "content": work.footage.content, "flow": flow,
        "size": list(store.frame_size), **counts, "skipped": len(left_out), "left out": left_out,
    }  # fmt: skip
    if labelled:
        report |= {"labelled pictures": labelled, **_scores(matrix.matrix, loaded.classes)}
    return _tell(masks, folder, report)


def _scores(matrix: torch.Tensor, classes: tuple[str, ...]) -> dict[str, Any]:
    """IoU by class of those with a labelled pixel, their mean, and the names of the others."""
    iou = iou_from_counts(counts_of(matrix))
    by_class = dict(zip(classes, (finite(100 * float(value)) for value in iou), strict=True))
    return {
        "mIoU": finite(100 * mean_iou(iou)),
        "pixel accuracy": finite(100 * pixel_accuracy(matrix)),
        "IoU": {name: value for name, value in by_class.items() if value is not None},
        "without a labelled pixel": [name for name, value in by_class.items() if value is None],
    }


def _changes(
    work: Work,
    model: Path,
    folder: Path,
    legend: Legend,
    method: str,
    plan: Adaptation,
    flow: str,
    workspace: Workspace,
) -> Any:
    """What an adaptation changed (`bench.footage.changes`); the model that came in is read again, since it was adapted in place."""
    device, store = workspace.device, work.footage.store
    models = {BEFORE: load(work.checkpoint, workspace).segmenter}
    loader = ClipLoader(store, backend_of(flow), 1, 0, BadClips(workspace.skip_bad))
    with stage("target-train"):
        if method != STATISTICS and has_statistics(models[BEFORE]):
            models[STATISTICS] = load(work.checkpoint, workspace).segmenter
            reestimate_statistics(models[STATISTICS], loader, plan.statistics_clips, device)
        models[ADAPTED] = load(model, workspace).segmenter
        arguments = (loader, legend.classes, device, legend.colours, workspace.progress)
        return write(folder, *changes(models, *arguments))


def adapt_and_export(
    checkpoint: Path,
    frames: Path,
    method: str,
    out: Path,
    plan: Adaptation,
    looks: Looks | None,
    workspace: Workspace,
    *,
    options: dict[str, Any],
    flow: str = "dis",
    size: Size | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """``bench adapt``: :func:`bench.footage.adapt.adapt_video`, what ``bench predict`` writes of all pictures, and what changed.

    Args:
        looks: None: the adapted model alone, and nothing of what it changed.
    """
    if looks:
        check_video(looks)
    method, flow = resolve("method", method), resolve("flow", flow)
    cls = source_free(method, flow, options)
    with opened("adapt", out, checkpoint, frames, size, workspace) as work:
        masks = Masks(out, legend_of(work.loaded.classes, work.footage.described), *looks) if looks else None
        if masks:
            work.output.check([*masks.names(work.footage.store), *CHANGED])
        model = adapt(work, cls, method, options, plan, flow, seed, workspace)
        report: dict[str, Any] = {"model": str(model), "out": str(out)}
        if masks:
            adapted = replace(work, loaded=load(model, workspace), weights=file_hash(model))
            with work.output.replaced(keep=KEPT) as new:
                report = _on_footage(adapted, masks, new, flow, workspace) | report
                report["changes"] = _changes(work, model, new, masks.legend, method, plan, flow, workspace)
    return report
