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

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
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
from bench.data.datasets.frames import Frames
from bench.data.label_maps import label_space
from bench.data.labels import CLASSES, PALETTE
from bench.data.loaders import BadClips, ClipLoader
from bench.data.splits import Store, prepare
from bench.flow.base import backend_of
from bench.flow.resolve import flow_of
from bench.pictures.media import FILMS, Colour, check_rate, overlay, write_labels, write_palette_png, write_png
from bench.runs.config import load_shift
from bench.runs.evaluate import reestimate_statistics
from bench.runs.metrics import ConfusionMatrix, counts_of, iou_from_counts, mean_iou, pixel_accuracy
from bench.shifts.protocol import Adaptation

from .adapt import KEPT, Work, adapt, check_flow, opened, source_free
from .changes import ADAPTED, BEFORE, STATISTICS, changes, has_statistics, write
from .changes import FILES as CHANGED
from .predict import Prediction, load, predictions, weights_file


@dataclass(frozen=True)
class Legend:
    """How classes become pixels, by train id.

    Attributes:
        ids: what a mask holds.
        colours: of overlays, and of masks with a palette.
        palette: masks have the colours beside the ids.
    """

    classes: tuple[str, ...]
    ids: tuple[int, ...]
    colours: tuple[Colour, ...]
    palette: bool = False

    def as_json(self) -> str:
        """``legend.json``."""
        rows = zip(self.ids, self.classes, self.colours, strict=True)
        return json.dumps([{"id": i, "name": name, "color": list(c)} for i, name, c in rows], indent=1) + "\n"


def legend_of(classes: tuple[str, ...], described: Frames | None = None) -> Legend:
    """Ids and colours of a model's classes.

    Ids are the first that one's own description names for each class; else, for a known label space, those of Cityscapes; else
    train ids. A class that the description does not name has an id that it leaves free. Colours likewise: those that the
    description names, Cityscapes', or spread over its palette.
    """
    ids: tuple[int, ...] = tuple(range(len(classes)))
    try:
        space = label_space(classes)
        colours, ids, palette = space.palette, space.label_ids, False
    except UsageError:
        by_name = dict(zip(CLASSES, PALETTE, strict=True))
        colours = tuple(by_name.get(name, PALETTE[i % len(PALETTE)]) for i, name in enumerate(classes))
        palette = True
    if described is None or not described.names:
        return Legend(classes, ids, colours, palette)
    first_id = {name: raw for raw, name in reversed(list(described.names.items()))}
    if described.coloured:
        described_colours = tuple(
            described.colours[first_id[n]] if n in first_id else c for n, c in zip(classes, colours, strict=True)
        )
        return Legend(classes, tuple(range(len(classes))), described_colours, palette=True)
    preferred = {name: i for name, i in zip(classes, ids, strict=True) if not palette and i not in described.names}
    free = (i for i in range(256) if i not in described.names and i not in preferred.values())
    return Legend(
        classes,
        tuple(first_id[n] if n in first_id else preferred[n] if n in preferred else next(free) for n in classes),
        colours,
    )


Looks = tuple[bool, str, float]
"""Whether overlays are written, ``mp4``, ``gif`` or ``none`` for a film of each sequence, and its pictures per second."""
Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class Masks:
    """The files of a prediction in an output folder.

    Attributes:
        overlays: write the pictures under their classes' colours.
        video: ``mp4``, ``gif`` or ``none``: a film of each sequence.
        rate: its pictures per second.
    """

    out: Path
    legend: Legend
    overlays: bool
    video: str
    rate: float

    def label_name(self, key: str) -> str:
        """Name of a clip's mask."""
        return f"labels/{key.replace('/', '__')}{'' if self.legend.palette else '_pred_labelIds'}.png"

    def film_name(self, sequence: str) -> str:
        """Name of a sequence's film."""
        return f"{sequence.replace('/', '__') if sequence not in ('', '.') else 'film'}.{self.video}"

    def names(self, store: Store) -> list[str]:
        """All files that :meth:`write` will write for a store.

        Raises:
            UsageError: two of one name.
        """
        keys = [store.key(number) for number in range(len(store))]
        names = [self.label_name(key) for key in keys] + ["legend.json", "predict.json"]
        names += [f"overlays/{key.replace('/', '__')}.png" for key in keys] if self.overlays else []
        if self.video != "none":
            names += [
                self.film_name(sequence) for sequence in dict.fromkeys(store.sequence(n) for n in range(len(store)))
            ]
        name, count = Counter(names).most_common(1)[0]
        if count > 1:
            raise UsageError(f"Two of the files to write would be {self.out / name}; rename a picture or its folder")
        return names

    def write(self, folder: Path, predicted: Iterator[Prediction]) -> dict[str, int]:
        """Write all files into a folder; returns how many of each kind. One picture is held at a time, but for GIFs.

        Raises:
            RunError: the disk is full or read-only.
        """
        legend, counts = self.legend, {"label maps": 0, "overlays": 0, "films": 0}
        write_atomically(folder / "legend.json", legend.as_json())
        for sequence, group in itertools.groupby(predicted, lambda prediction: prediction.sequence):
            film = FILMS[self.video](folder / self.film_name(sequence), self.rate) if self.video != "none" else None
            good = False
            try:
                for prediction in group:
                    key, labels = prediction.key.replace("/", "__"), prediction.labels
                    if legend.palette:
                        write_palette_png(folder / self.label_name(key), labels, legend.colours)
                    else:
                        write_labels(folder / "labels", key, labels, legend.ids)
                    counts["label maps"] += 1
                    if not (self.overlays or film):
                        continue
                    shown = overlay(prediction.frame, labels, legend.colours)
                    if self.overlays:
                        write_png(folder / "overlays" / f"{key}.png", shown)
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
