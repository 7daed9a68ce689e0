"""``bench strip``: consecutive frames, each method's prediction, and where it flickers.

Of a rendered shift they are of a demonstration world, rendered for this alone: it belongs to no split, so nothing that is tuned on
or reported is shown. Of a recorded one they are of its validation split, where that is labelled frame by frame.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.core.errors import UsageError
from bench.core.outputs import Output
from bench.core.seeding import seed_for
from bench.core.workspace import Workspace
from bench.data.clip import Clip, FlowBackend
from bench.data.labels import CLASSES, IGNORE, PALETTE, palette_of
from bench.data.loaders import ClipLoader
from bench.flow.base import backend_of
from bench.pictures.canvas import Colour, Image, colourise
from bench.pictures.media import check_film, check_rate, write_film, write_palette_png, write_png
from bench.pictures.tiles import tiled
from bench.runs.config import Evaluation, Shift, alterations, load_shift
from bench.runs.finished import RunFolder, finished_runs, rendered_data
from bench.runs.grouping import grouping_of
from bench.runs.metrics import ConfusionMatrix, carry_labels, confusion_matrix, iou_from_confusion, mean_iou
from bench.runs.predictions import predictions
from bench.runs.video_consistency import video_consistencies
from bench.shifts.protocol import Videos
from stpl.segmenter import VideoSegmenter

STAYED, CHANGED, UNKNOWN = (255, 255, 255), (214, 39, 40), (200, 200, 200)
"""Colours of a flicker map: same class as one frame earlier, another class, no place there."""


@dataclass(frozen=True)
class Footage:
    """Consecutive frames with the truth of each.

    Attributes:
        clip: all frames, with flow between neighbours.
        labels: uint8 ``(T, H, W)`` train ids.
    """

    clip: Clip
    labels: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Flicker:
    """What changed between two consecutive predictions, on the surfaces that both frames show.

    Attributes:
        changed: bool ``(H, W)``: the surface had another class one frame earlier.
        visible: bool ``(H, W)``: the surface was visible one frame earlier.
        share: changed among visible pixels, percent; NaN where none is visible.
        consistency: mean IoU of the carried previous prediction with the current one, percent; NaN where none is visible.
    """

    changed: npt.NDArray[np.bool_]
    visible: npt.NDArray[np.bool_]
    share: float
    consistency: float


@dataclass(frozen=True)
class Track:
    """One model over a strip: labels int64 ``(F, H, W)``, flicker of each frame against the one before, and in percent mIoU
    over the whole strip (None without truth) and mVC8, mVC16 (where there is truth and the strip is that long)."""

    labels: npt.NDArray[np.int64]
    flicker: tuple[Flicker, ...]
    miou: float | None
    mvc: Mapping[str, float] = field(default_factory=dict)


def demonstration_world(seed: int, family: str) -> int:
    """Seed of the world that is shown; no split has it."""
    return seed_for(seed, "world", family, "demonstration")


def demonstration(shift: Shift, seed: int, number: int, frames: int) -> Footage:
    """Render ``frames`` consecutive frames of clip ``number`` of the target domain's demonstration world.

    Raises:
        UsageError: the shift's clips are not rendered, or there is no clip of that number.
    """
    data = rendered_data(shift)
    if not 0 <= number < 2**64:
        raise UsageError(f"--clip is 0 to 2**64 - 1 in the demonstration world, got {number}")
    from bench.data.ministreet import render_clip, render_labels

    arguments = (data.target, demonstration_world(seed, data.family), number, data.height, data.width, frames)
    clip = render_clip(*arguments).without_label()
    return Footage(clip, render_labels(*arguments))


def recorded(run: RunFolder, number: int, frames: int, workspace: Workspace) -> tuple[Footage, npt.NDArray[np.int64]]:
    """``frames`` consecutive frames of a recorded shift's validation split from clip ``number`` on, with the flow that the run
    took, and the run's predictions of them, as evaluation makes them.

    Raises:
        UsageError: there are not as many, or the clips' last frames do not follow each other.
    """
    network, numbers = run.model(workspace), range(number, number + frames)
    with run.labelled_clips(workspace) as loader:
        if numbers.stop > len(loader.store):
            raise UsageError(
                f"The validation split of '{run.shift.name}' has {len(loader.store)} clips; clips {number} to {numbers.stop - 1} "
                "(a film of so many frames begins one clip before) are not all there: lower --frames or --clip"
            )
        passes = predictions(network, loader, workspace.device, run.shift.evaluation.align_corners, numbers, together=1)
        labels, reads = [], []
        for predicted in passes:
            labels.append(predicted.labels()[0].cpu().numpy())
            reads.append(predicted.reads[0])
        truth = np.stack([loader.store.labelled(index).label for index in numbers])
    for before, after in pairwise(reads):
        if not np.array_equal(before.clip.frames[-1], after.clip.frames[-2]):
            raise UsageError(
                f"Clips {before.clip.key} and {after.clip.key} of '{run.shift.name}' are not neighbours: a film needs every frame "
                "labelled"
            )
    clip = Clip(
        np.stack([read.clip.frames[-1] for read in reads]),
        np.stack([read.flow[-1] for read in reads[1:]]),  # what the backend says, not what came with the clip
        np.stack([read.valid[-1] for read in reads[1:]]),
        reads[0].clip.key,
    )
    return Footage(clip, truth), np.stack(labels)


def windows(clip: Clip, length: int) -> list[Clip]:
    """Every run of ``length`` consecutive frames of a longer clip, oldest first."""
    return [
        Clip(
            clip.frames[i : i + length],
            clip.flow[i : i + length - 1],
            clip.valid[i : i + length - 1],
            f"{clip.key}/{i}",
        )
        for i in range(len(clip.frames) - length + 1)
    ]


def predict_windows(
    segmenter: VideoSegmenter, clips: Sequence[Clip], flow: FlowBackend, rule: Evaluation, device: torch.device
) -> npt.NDArray[np.int64]:
    """Labels ``(F, H, W)`` of the last frame of each clip."""
    loader = ClipLoader(clips, flow, 1, 0)  # type: ignore[arg-type]  # any sequence of clips will do
    passes = predictions(segmenter, loader, device, rule.align_corners, together=1)
    return np.stack([predicted.labels()[0].cpu().numpy() for predicted in passes])


def flicker(
    previous: npt.NDArray[np.integer],
    current: npt.NDArray[np.integer],
    flow: npt.NDArray[np.float32],
    valid: npt.NDArray[np.bool_],
    classes: int,
) -> Flicker:
    """Compare two consecutive predictions ``(H, W)`` along backward flow ``(2, H, W)`` where it is ``valid``.

    Unlike the reported temporal consistency, whose previous prediction is made from frame t-1 alone, both are predictions as
    they are shown.
    """
    before = torch.from_numpy(np.asarray(previous, np.int64))
    carried = carry_labels(before[None], torch.from_numpy(flow)[None], torch.from_numpy(valid)[None])[0].numpy()
    visible = (carried != IGNORE) & (current != IGNORE)
    changed = visible & (carried != current)
    agreed = confusion_matrix(carried[visible], np.asarray(current)[visible], classes)
    share = 100 * float(changed.sum() / visible.sum()) if visible.any() else float("nan")
    return Flicker(changed, visible, share, 100 * mean_iou(iou_from_confusion(agreed)))


def flicker_map(change: Flicker) -> npt.NDArray[np.uint8]:
    """Red where the class changed, white where it stayed, grey where the frame before does not show the surface."""
    picture = np.full((*change.changed.shape, 3), STAYED, np.uint8)
    picture[~change.visible], picture[change.changed] = UNKNOWN, CHANGED
    return picture


def track(labels: npt.NDArray[np.int64], clip: Clip, classes: int, truth: npt.NDArray[np.uint8] | None = None) -> Track:
    """Follow predictions of the last frames of ``clip``; the first of them only serves the second's flicker.

    Args:
        labels: ``(F + 1, H, W)``, of the clip's last F + 1 frames.
        truth: ``(F, H, W)`` train ids of the last F frames.
    """
    count = len(labels) - 1
    pairs = zip(labels[:-1], labels[1:], clip.flow[-count:], clip.valid[-count:], strict=True)
    flickers = tuple(flicker(*pair, classes) for pair in pairs)
    if truth is None:
        return Track(labels[1:], flickers, None)
    pooled = ConfusionMatrix(classes)
    pooled.update(truth, labels[1:])
    miou = 100 * mean_iou(iou_from_confusion(pooled.matrix))
    return Track(labels[1:], flickers, miou, video_consistencies(truth, labels[1:]))


def run_strip(
    specs: Sequence[str],
    shift_name: str,
    seed: int,
    frames: int,
    number: int,
    rate: float,
    out: Path,
    workspace: Workspace,
    pictures: bool = True,
    films: Path | None = None,
) -> dict[str, Any]:
    """Predict consecutive frames with finished runs, and write a GIF, an mp4, or a PNG with the frames one below the other.

    Args:
        number: of the demonstration world's clip, or of the first clip of a recorded validation split.
        pictures: show frames and truth; without, what is shown may be published where the data may not.
        films: folder for a picture of each method alone, its predictions one below the other, and one of the frames, if they are
            shown: what `bench site` compares by a slider.

    Returns:
        The file, and by model, in percent, its mIoU over the strip, temporal consistency and share of changed pixels by frame,
        mVC8 and mVC16 where there are that many frames.

    Raises:
        UsageError: a run is not there, another ending than .gif, .mp4, .png, or a rate or clip that cannot be.
        RunError: the file cannot be written.
    """
    check_film(out, also=(".png",))
    check_rate(rate)
    output = Output.of_files("strip", out)
    shift = load_shift(shift_name)
    finished = finished_runs(specs, shift_name, [seed], workspace.runs)
    unaltered = [] if films is None else [run for run in finished if not alterations(run.config)]
    film_paths = (
        {}
        if films is None
        else {run.config.method: films / film_name(shift.name, run.config.method) for run in unaltered}
    )
    if films is not None and pictures:
        film_paths[FRAMES] = films / film_name(shift.name, FRAMES)
    owned = Output.of_files("strip", *film_paths.values(), option="--films") if film_paths else contextlib.nullcontext()
    groups, classes = grouping_of(shift), shift.score_classes
    if isinstance(shift.data, Videos):
        footages = (recorded(run, number, frames + 1, workspace) for run in finished)
        origin, flow_name = f"validation clips {number + 1} to {number + frames}", "flow that the method was given"
    else:
        demo = demonstration(shift, seed, number, frames + shift.data.frames)
        clips, rule = windows(demo.clip, shift.data.frames), shift.evaluation
        footages = (
            # these frames are in no split whose flow could be computed ahead
            (
                demo,
                predict_windows(run.model(workspace), clips, backend_of(run.config.flow), rule, workspace.device),
            )
            for run in finished
        )
        origin, flow_name = f"demonstration world {seed}/{number}", "exact flow"
    tracks: dict[str, Track] = {}
    for done, (run, (footage, labels)) in enumerate(zip(finished, footages, strict=True), 1):
        truth = footage.labels[-frames:]
        tracks[run.name] = track(groups(labels).astype(np.int64), footage.clip, len(classes), truth)
        workspace.progress("strip", done, len(finished))
    shown_frames = footage.clip.frames[-frames:] if pictures else None
    palette = palette_of(classes)
    drawn = compose(
        shown_frames, truth if pictures else None, tracks, f"{shift.title}, {origin}", classes, palette, flow_name
    )
    with output:
        if out.suffix.lower() == ".png":
            write_png(out, np.concatenate(drawn))
        else:
            write_film(out, drawn, rate, exact=(*palette, STAYED, CHANGED, UNKNOWN))
    with owned:
        for run in unaltered:
            stacked = np.concatenate(tracks[run.name].labels).astype(np.uint8)
            write_palette_png(film_paths[run.config.method], stacked, palette)
        if FRAMES in film_paths:
            write_png(film_paths[FRAMES], np.concatenate(footage.clip.frames[-frames:].transpose(0, 2, 3, 1)))
    return {"strip": str(out), "frames": frames, "models": summary(tracks)}


FRAMES = "frames"
"""What a film of the frames themselves is called, where another has the name of a method."""


def film_name(shift: str, name: str) -> str:
    """File of a film of one method, or of the frames: pictures one below the other."""
    return f"{shift}-film-{name}.png"


def summary(tracks: Mapping[str, Track]) -> dict[str, dict[str, Any]]:
    """Numbers of a strip by model, percent, as JSON: NaN is null."""

    def numbers(values: Sequence[float]) -> list[float | None]:
        return [None if np.isnan(value) else round(value, 2) for value in values]

    return {
        name: {
            "miou": None if model_track.miou is None else numbers([model_track.miou])[0],
            "consistency": numbers([change.consistency for change in model_track.flicker]),
            "changed": numbers([change.share for change in model_track.flicker]),
            **{name: numbers([value])[0] for name, value in model_track.mvc.items()},
        }
        for name, model_track in tracks.items()
    }


NOTES = (
    "Bottom row, along the {flow}: class changed since the frame before (red), stayed (white), surface not seen there (grey)",
    "TC: temporal consistency, mIoU of the frame before, carried along the flow, with this one; mIoU: over all frames shown",
)


def compose(
    frames: npt.NDArray[np.uint8] | None,
    truth: npt.NDArray[np.uint8] | None,
    tracks: Mapping[str, Track],
    title: str,
    classes: Sequence[str] = CLASSES,
    palette: Sequence[Colour] = PALETTE,
    flow: str = "exact flow",
) -> list[Image]:
    """One picture per frame: the frame over its truth at the left, then a column per model with its prediction over its flicker.

    Args:
        frames: uint8 RGB ``(F, 3, H, W)``; None leaves the column at the left out.
        truth: ``(F, H, W)`` train ids; None where there is none.
        tracks: by name of the model, of these F frames.
        title: above each picture.
        flow: along which flicker is told, in words.
    """
    ids = np.unique(np.concatenate([model_track.labels.ravel() for model_track in tracks.values()]))
    if truth is not None:
        ids = np.union1d(ids, truth)
    legend: dict[str, Colour] = {classes[i]: palette[i] for i in ids if i < len(classes)}
    legend |= {"ignored": (0, 0, 0)} if IGNORE in ids else {}
    legend |= {"changed": CHANGED, "not seen before": UNKNOWN}
    count = len(next(iter(tracks.values())).labels)
    drawn = []
    for k in range(count):
        above, under = [], []
        if frames is not None:
            blank = np.full((*frames.shape[2:], 3), 255, np.uint8)
            above.append((f"frame {k + 1} of {count}", frames[k].transpose(1, 2, 0)))
            under.append(("", blank) if truth is None else ("ground truth", colourise(truth[k], palette)))
        for name, model_track in tracks.items():
            score = "" if model_track.miou is None else f", mIoU {model_track.miou:.1f} %"
            above.append((f"{name}{score}", colourise(model_track.labels[k], palette)))
            change = model_track.flicker[k]
            caption = f"changed {change.share:.1f} %, TC {change.consistency:.1f} %"
            under.append((caption, flicker_map(change)))
        drawn.append(tiled([above, under], title, [note.format(flow=flow) for note in NOTES], legend))
    return drawn
