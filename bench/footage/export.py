"""What ``bench predict`` and ``bench adapt`` write: label ids, overlays and films, from a run, a model file, or own footage.

out/labels/<key>_pred_labelIds.png      what the official evaluator reads: CITYSCAPES_RESULTS=out/labels
out/overlays/<key>.png                  the picture under its classes' colours
out/<sequence>.mp4|gif                  the overlays of a sequence as a film
out/predict.json                        what was predicted with what
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from bench.core.access import stage
from bench.core.errors import UsageError
from bench.core.files import write_atomically
from bench.core.progress import ProgressDisplay
from bench.core.registry import resolve
from bench.core.schema import finite
from bench.core.workspace import Workspace, default_cache, default_data_root, pick_device
from bench.data.label_maps import label_space
from bench.data.labels import CLASSES, PALETTE
from bench.data.loaders import BadClips, ClipLoader
from bench.data.splits import prepare
from bench.flow.base import backend_of
from bench.flow.resolve import flow_of
from bench.pictures.media import FILMS, overlay, write_labels, write_palette_png, write_png
from bench.runs.config import load_shift
from bench.runs.metrics import ConfusionMatrix, iou_from_confusion, mean_iou

from .adapt import adapt_video, check_classes, footage, schedule
from .predict import Loaded, Prediction, load, predictions


def colours_of(classes: tuple[str, ...]) -> tuple[tuple[int, int, int], ...]:
    """A colour per class: Cityscapes' where the classes are a known label space, else spread over the known ones."""
    try:
        return label_space(classes).palette
    except UsageError:
        known = dict(zip(CLASSES, PALETTE, strict=True))
        return tuple(known.get(name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(classes))


def label_ids_of(classes: tuple[str, ...]) -> tuple[int, ...] | None:
    """Cityscapes label id by train id; None where the classes are no known label space."""
    try:
        return label_space(classes).label_ids
    except UsageError:
        return None


def write_predictions(
    found: Iterator[Prediction], out: Path, classes: tuple[str, ...], with_overlay: bool, video: str, rate: float
) -> dict[str, int]:
    """Write all files; returns how many of each kind. One picture is held at a time, but for GIFs.

    Classes of no known label space are written as train ids with their colours beside them.

    Raises:
        RunError: the disk is full or read-only.
    """
    palette, ids = colours_of(classes), label_ids_of(classes)
    counts = {"label maps": 0, "overlays": 0, "films": 0}
    for sequence, of_it in itertools.groupby(found, lambda prediction: prediction.sequence):
        name = sequence.replace("/", "__") if sequence not in ("", ".") else "film"
        film = FILMS[video](out / f"{name}.{video}", rate) if video != "none" else None
        good = False
        try:
            for prediction in of_it:
                key, labels = prediction.key.replace("/", "__"), prediction.labels
                if ids is not None:
                    write_labels(out / "labels", key, labels, ids)
                else:
                    write_palette_png(out / "labels" / f"{key}.png", labels, palette)
                counts["label maps"] += 1
                if not (with_overlay or film):
                    continue
                shown = overlay(prediction.frame, labels, palette)
                if with_overlay:
                    write_png(out / "overlays" / f"{key}.png", shown)
                    counts["overlays"] += 1
                if film:
                    film.add(shown)
            good = True
        finally:
            if film:
                film.close(keep=good)
                counts["films"] += 1
    return counts


def predict_and_export(
    checkpoint: Path,
    out: Path,
    shift_name: str | None,
    frames: Path | None,
    split: str,
    seed: int,
    flow: str | None,
    size: tuple[int, int] | None,
    with_overlay: bool,
    video: str,
    rate: float,
    skip_bad: bool,
    data_root: Path | None,
    cache: Path | None,
    device: str,
    threads: int,
) -> dict[str, Any]:
    """``bench predict``; returns what was written, and mIoU where one's own footage has labels.

    Raises:
        UsageError: nothing to predict on, or classes that do not fit.
        RunError: unreadable files, a full disk.
    """
    if video not in ("none", *FILMS):
        raise UsageError(f"--video is one of none, {', '.join(FILMS)}, got '{video}'")
    if split not in ("val", "train"):
        raise UsageError(f"--split is val or train, got '{split}'")
    flow = resolve("flow", flow) if flow else None
    if threads:
        torch.set_num_threads(threads)
    with ProgressDisplay() as progress:
        place_of = Workspace(
            cache=cache or default_cache(), device=pick_device(device), progress=progress,
            data_root=data_root or default_data_root(), skip_bad=skip_bad,
        )  # fmt: skip
        loaded = load(checkpoint, place_of)
        if frames is not None:
            about = _on_footage(loaded, frames, out, flow or "dis", size, with_overlay, video, rate, place_of)
        else:
            name = resolve("shift", shift_name) if shift_name else loaded.shift
            if name is None:
                raise UsageError("A model file does not say on what to predict: give --shift or --frames")
            replicate = loaded.seed if loaded.shift == name else seed
            about = _on_shift(loaded, name, split, replicate, flow, out, with_overlay, video, rate, place_of)
    about = {"model": loaded.what, **about, "out": str(out)}
    text = json.dumps({k: v for k, v in about.items() if k != "out"}, indent=1, sort_keys=True)
    write_atomically(out / "predict.json", text + "\n")
    return about


def _on_shift(
    loaded: Loaded,
    name: str,
    split: str,
    seed: int,
    flow: str | None,
    out: Path,
    with_overlay: bool,
    video: str,
    rate: float,
    workspace: Workspace,
) -> dict[str, Any]:
    shift = load_shift(name)
    if shift.classes != loaded.classes:
        raise UsageError(f"The model's classes are {', '.join(loaded.classes)}; shift '{name}' has others")
    flow = flow or loaded.flow or shift.flow
    clips = prepare(shift, "target", split, seed, workspace)
    rule, bad = shift.evaluation, BadClips(workspace.skip_bad)
    height, width = rule.height, rule.width
    size = (lambda _: (height, width)) if height and width else None
    with stage(f"target-{split}"):
        store = clips.open()
        loader = ClipLoader(store, flow_of(flow, store, clips.name, workspace.cache), 1, 0, bad)
        found = predictions(loaded.segmenter, loader, size, rule.align_corners, workspace.device, workspace.progress)
        counts = write_predictions(found, out, loaded.classes, with_overlay, video, rate)
    return {"shift": name, "split": split, "flow": flow, **counts, "skipped": len(bad.found)}


def _on_footage(
    loaded: Loaded,
    frames: Path,
    out: Path,
    flow: str,
    size: tuple[int, int] | None,
    with_overlay: bool,
    video: str,
    rate: float,
    workspace: Workspace,
) -> dict[str, Any]:
    described, store = footage(frames, size, workspace)
    check_classes(loaded.classes, described, frames)
    matrix, labelled, bad = ConfusionMatrix(len(loaded.classes)), 0, BadClips(workspace.skip_bad)
    numbers = {store.key(i): i for i in range(len(store))}

    def scored(found: Iterator[Prediction]) -> Iterator[Prediction]:
        nonlocal labelled
        for prediction in found:
            if store.has_label(numbers[prediction.key]):
                truth = store.label(numbers[prediction.key])
                matrix.update(torch.from_numpy(truth), torch.from_numpy(prediction.labels))
                labelled += 1
            yield prediction

    with stage("target-train", "target-val/label"):  # nothing adapts here: the labels are those of the user
        loader = ClipLoader(store, backend_of(flow), 1, 0, bad)
        found = predictions(loaded.segmenter, loader, store.picture_size, False, workspace.device, workspace.progress)
        counts = write_predictions(scored(found), out, loaded.classes, with_overlay, video, rate)
    about: dict[str, Any] = {"flow": flow, "size": list(store.frame_size), **counts, "skipped": len(bad.found)}
    if labelled:
        about |= {"labelled pictures": labelled, "mIoU": finite(100 * mean_iou(iou_from_confusion(matrix.matrix)))}
    return about


def adapt_and_export(
    checkpoint: Path,
    frames: Path,
    method: str,
    out: Path,
    options: dict[str, Any],
    plan: tuple[int, int, float],
    flow: str,
    size: tuple[int, int] | None,
    seed: int,
    masks: bool,
    cache: Path | None,
    device: str,
    threads: int,
    workers: int,
    skip_bad: bool,
    force: bool,
) -> dict[str, Any]:
    """``bench adapt``: :func:`bench.footage.adapt.adapt_video`, then masks of all pictures."""
    flow = resolve("flow", flow)
    if threads:
        torch.set_num_threads(threads)
    with ProgressDisplay() as progress:
        workspace = Workspace(
            cache=cache or default_cache(), device=pick_device(device), progress=progress, force=force,
            workers=workers, skip_bad=skip_bad,
        )  # fmt: skip
        model = adapt_video(
            checkpoint, frames, method, out, options, schedule(*plan), workspace, flow=flow, size=size, seed=seed
        )
        about: dict[str, Any] = {"model": str(model)}
        if masks:
            loaded = load(model, workspace)
            about |= _on_footage(loaded, frames, out, flow, size, True, "none", 10.0, workspace)
    return about
