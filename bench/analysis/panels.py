"""``bench panels``: frame, truth, each method's prediction and its errors on validation clips, at t-1 and t."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from bench.core.errors import UsageError
from bench.core.outputs import Output
from bench.core.progress import say
from bench.core.workspace import Workspace
from bench.data.clip import LabelledClip
from bench.data.labels import CLASSES, IGNORE, PALETTE, palette_of
from bench.data.loaders import ClipLoader
from bench.pictures.canvas import Colour, Image, class_legend, colourise, save, show, tile_grid
from bench.runs.config import Shift, load_shift
from bench.runs.figures import spread_clips
from bench.runs.finished import RunFolder, finished_runs
from bench.runs.grouping import grouping_of
from bench.runs.metrics import confusion_matrix, iou_from_confusion, mean_iou
from bench.runs.predictions import predictions
from stpl.segmenter import VideoSegmenter

WRONG = (214, 39, 40)
"""Colour of wrong pixels."""
TILE = 3.2
"""Width of a tile, inches; three stand in a row."""


@dataclass(frozen=True)
class Prediction:
    """A model's labels ``(H, W)`` of frames t-1 (from that frame alone) and t."""

    previous: npt.NDArray[np.integer]
    current: npt.NDArray[np.integer]


@dataclass(frozen=True)
class Panel:
    """A clip with what is shown of it.

    Attributes:
        name: of the clip, for captions.
        frames: uint8 RGB ``(T, 3, H, W)``.
        label: of frame t, ``(H, W)`` train ids, 255 = ignore.
        predictions: by name of the model.
    """

    name: str
    frames: npt.NDArray[np.uint8]
    label: npt.NDArray[np.uint8]
    predictions: dict[str, Prediction]


def clip_miou(label: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer], classes: int) -> float:
    """mIoU of one picture in percent, over the classes that occur in truth or prediction; NaN if nothing is labelled."""
    return 100 * mean_iou(iou_from_confusion(confusion_matrix(label, prediction, classes)))


def error_map(
    frame: Image, label: npt.NDArray[np.integer], prediction: npt.NDArray[np.integer]
) -> tuple[npt.NDArray[np.uint8], float]:
    """The frame in light grey with wrong pixels red and ignored ones black, and the share of wrong among counted pixels
    in percent (NaN if none is counted)."""
    grey = 0.35 * frame.mean(axis=2, keepdims=True) + 0.65 * 255
    shown = np.repeat(np.round(grey).astype(np.uint8), 3, axis=2)
    counted = label != IGNORE
    wrong = counted & (label != prediction)
    shown[~counted], shown[wrong] = 0, WRONG
    return shown, 100 * float(wrong.sum() / counted.sum()) if counted.any() else float("nan")


def panels_figure(
    panels: Sequence[Panel], title: str, classes: Sequence[str] = CLASSES, palette: Sequence[Colour] = PALETTE
) -> Figure:
    """Three tiles a row. For each clip: frames t-1 and t and the truth, then for each model its prediction at t-1, at t, and
    its errors at t; captions give the clip's mIoU and the share of wrong pixels.

    Raises:
        ValueError: no clip, or a prediction of another size than its frame.
    """
    if not panels:
        raise ValueError("panels_figure needs at least one clip, got none")
    height, width = panels[0].frames.shape[2:]
    rows = sum(1 + len(panel.predictions) for panel in panels)
    figure, grid = tile_grid(rows, 3, (TILE, TILE * height / width), 0.25, (0.06, 0.75, 0.62))
    axes_rows, ids = iter(grid), [np.empty(0, np.int64)]
    for panel in panels:
        previous, current = (panel.frames[k].transpose(1, 2, 0) for k in (-2, -1))
        first = next(axes_rows)
        for axes, image, caption in zip(
            first,
            (previous, current, colourise(panel.label, palette)),
            (f"{panel.name}: frame t-1", f"{panel.name}: frame t", f"{panel.name}: ground truth of t"),
            strict=True,
        ):
            show(axes, image, caption, 10.5)
        ids.append(np.unique(panel.label))
        for name, prediction in panel.predictions.items():
            if not panel.label.shape == prediction.current.shape == prediction.previous.shape:
                raise ValueError(f"prediction '{name}' must be {panel.label.shape}, got {prediction.current.shape}")
            errors, share = error_map(current, panel.label, prediction.current)
            miou = clip_miou(panel.label, prediction.current, len(classes))
            images = colourise(prediction.previous, palette), colourise(prediction.current, palette), errors
            captions = f"{name}, t-1", f"{name}, t: mIoU {miou:.1f} %", f"wrong (red): {share:.1f} % of pixels"
            for axes, image, caption in zip(next(axes_rows), images, captions, strict=True):
                show(axes, image, caption, 10.5)
            ids += [np.unique(prediction.previous), np.unique(prediction.current)]
    class_legend(figure, np.concatenate(ids), classes, palette)
    figure.suptitle(title, fontsize=10.5, x=0.01, y=0.995, ha="left", va="top")
    return figure


def predictions_figure(
    panels: Sequence[Panel], title: str, classes: Sequence[str], palette: Sequence[Colour]
) -> Figure:
    """A row for each clip, a tile for each model's prediction at t: neither frames nor truth, which may not be ours to show."""
    height, width = panels[0].label.shape
    columns = len(panels[0].predictions)
    figure, grid = tile_grid(len(panels), columns, (TILE, TILE * height / width), 0.25, (0.06, 0.75, 0.62))
    for panel, axes_row in zip(panels, grid, strict=True):
        prefix = f"{panel.name}: "
        for (name, prediction), axes in zip(panel.predictions.items(), axes_row, strict=True):
            miou = clip_miou(panel.label, prediction.current, len(classes))
            show(axes, colourise(prediction.current, palette), f"{prefix}{name}, {miou:.1f} %", 10)
            prefix = ""
    ids = [np.unique(prediction.current) for panel in panels for prediction in panel.predictions.values()]
    class_legend(figure, np.concatenate(ids), classes, palette)
    figure.suptitle(title, fontsize=10.5, x=0.01, y=0.995, ha="left", va="top")
    return figure


def pair_predictions(
    segmenter: VideoSegmenter, loader: ClipLoader, indices: Sequence[int], shift: Shift, device: torch.device
) -> dict[int, Prediction]:
    """Predictions of clips by number, as in evaluation: classes as they are scored."""
    passes = predictions(segmenter, loader, device, shift.evaluation.align_corners, indices, together=1)
    groups = grouping_of(shift)
    return {
        index: Prediction(
            *(groups(labels[0].cpu().numpy()) for labels in (predicted.previous_labels(), predicted.labels()))
        )
        for index, predicted in zip(indices, passes, strict=True)
    }


def make_panels(runs: Sequence[RunFolder], clips: int, workspace: Workspace) -> list[Panel]:
    """Predictions of finished runs on clips that are evenly spread over the replicate's validation split; opens its labels."""
    labelled: dict[int, LabelledClip] = {}
    by_model: dict[str, dict[int, Prediction]] = {}
    for number, run in enumerate(runs):
        model = run.model(workspace)
        with run.labelled_clips(workspace) as loader:
            indices = spread_clips(len(loader.store), clips)
            labelled = labelled or {index: loader.store.labelled(index) for index in indices}
            by_model[run.name] = pair_predictions(model, loader, indices, run.shift, workspace.device)
        workspace.progress("panels", number + 1, len(runs))
    return [
        Panel(f"clip {index}", clip.frames, clip.label, {name: by_index[index] for name, by_index in by_model.items()})
        for index, clip in labelled.items()
    ]


def run_panels(
    specs: Sequence[str], shift_name: str, seed: int, clips: int, out: Path, workspace: Workspace, pictures: bool = True
) -> dict[str, object]:
    """Draw the panels of finished runs and write them as a PNG, at the size of the frames.

    Args:
        pictures: show frames, truth and errors; without, what is shown may be published where the data may not.

    Returns:
        The file, and mIoU in percent by clip and model.

    Raises:
        UsageError: a run is not there, or ``out`` is no PNG.
        RunError: the file cannot be written.
    """
    if out.suffix.lower() != ".png":
        raise UsageError(f"--out must be a .png file, got '{out}'")
    output = Output.of_files("panels", out)
    shift = load_shift(shift_name)
    panels = make_panels(finished_runs(specs, shift_name, [seed], workspace.runs), clips, workspace)
    if len(panels) < clips:
        say(f"the split has {len(panels)} clips, fewer than --clips {clips}: all of them are drawn")
    spread, scored = (
        "validation clips evenly spread over the split",
        "mIoU over the classes of that clip's truth or prediction",
    )
    title = f"{shift.title}, replicate {seed}, {spread};\nt-1 is predicted from its frame alone; {scored}"
    if not pictures:  # two methods are narrower than a line of three tiles
        title = f"{shift.title}, replicate {seed},\n{spread};\n{scored}"
    classes, draw = shift.score_classes, panels_figure if pictures else predictions_figure
    with output:
        save(draw(panels, title, classes, palette_of(classes)), out, dpi=110)
    miou = {
        panel.name: {
            name: round(clip_miou(panel.label, prediction.current, len(classes)), 2)
            for name, prediction in panel.predictions.items()
        }
        for panel in panels
    }
    return {"panels": str(out), "miou": miou}
