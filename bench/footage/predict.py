"""``bench predict``: label maps of a whole split or of one's own footage, as files that people and other programs read."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from bench.core.errors import UsageError
from bench.core.progress import Progress, quiet
from bench.core.workspace import Workspace
from bench.data.label_maps import named_space, space_names
from bench.data.loaders import ClipLoader
from bench.networks.build import place
from bench.networks.model_file import ModelInfo, load_model
from bench.runs.finished import RunFolder
from bench.runs.predictions import predictions as passes
from stpl.segmenter import VideoSegmenter


@dataclass(frozen=True)
class Loaded:
    """A model ready to predict, and what is known of it.

    Attributes:
        info: network and fusion.
        classes: names in train-id order.
        description: the model in words.
        shift, flow: of the run it comes from; None for a model file.
        seed: of the run; 0 for a model file.
    """

    segmenter: VideoSegmenter
    info: ModelInfo
    classes: tuple[str, ...]
    description: str
    shift: str | None = None
    flow: str | None = None
    seed: int = 0


def weights_file(checkpoint: Path) -> Path:
    """The file with the weights of a run folder or of a model file.

    Raises:
        UsageError: a folder that is no finished run.
    """
    return RunFolder.open(checkpoint, any_protocol=True).checkpoint if checkpoint.is_dir() else checkpoint


def load(checkpoint: Path, workspace: Workspace) -> Loaded:
    """The model of a run folder or of a model file.

    Raises:
        UsageError: neither.
        RunError: damaged, or weights that do not fit.
    """
    if not checkpoint.is_dir():
        segmenter, info = load_model(checkpoint)
        return Loaded(place(segmenter, workspace), info, names_of(info, checkpoint), f"model file {checkpoint.name}")
    run = RunFolder.open(checkpoint, any_protocol=True)
    config, shift, record = run.config, run.shift, run.record
    description = f"{config.method}, run {record.run}"
    info = ModelInfo(
        config.network,
        config.fusion,
        len(shift.classes),
        shift.data.frames,
        classes=shift.classes,
        origin={"run": record.run},
    )
    return Loaded(run.model(workspace), info, shift.classes, description, config.shift, config.flow, config.seed)


def names_of(info: ModelInfo, file: Path) -> tuple[str, ...]:
    """The classes of a model file: as it says, else those of the one label space that has as many.

    Raises:
        UsageError: neither.
    """
    if info.classes is not None:
        return info.classes
    spaces = [named_space(name).classes for name in space_names()]
    for classes in spaces:
        if len(classes) == info.num_classes:
            return classes
    raise UsageError(f"{file} does not name its {info.num_classes} classes; convert it with --shift")


@dataclass(frozen=True)
class Prediction:
    """What a model says of one clip.

    Attributes:
        key: of the clip.
        sequence: the video that it belongs to.
        frame: RGB of the current frame, uint8 ``(H, W, 3)``.
        labels: train ids of it, uint8 ``(h, w)``.
    """

    key: str
    sequence: str
    frame: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.uint8]


def predictions(
    segmenter: VideoSegmenter,
    loader: ClipLoader,
    size: Callable[[int], tuple[int, int]] | None,
    align_corners: bool,
    device: torch.device,
    progress: Progress = quiet,
) -> Iterator[Prediction]:
    """Predict every clip of a split in order, one by one.

    Args:
        size: ``(H, W)`` of a clip's label map by its number; the clip's own by default.
    """
    store = loader.store
    for number, predicted in enumerate(passes(segmenter, loader, device, align_corners, together=1)):
        (read,) = predicted.reads
        if read.number == number:  # else it was skipped, and another clip was read in its place
            labels = predicted.labels(size(number) if size else None)[0].byte().cpu().numpy()
            frame = read.clip.frames[-1].transpose(1, 2, 0)
            yield Prediction(store.key(number), store.sequence(number), frame, labels)
        progress("predict", number + 1, len(store))
