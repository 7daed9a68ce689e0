"""The streaming protocol (``bench run --protocol stream``): the scored clips come once, in the order of the video, without labels.

Each clip is predicted first, then adapted to: one step of the shift's optimiser on this clip alone, at a constant rate, since
nobody knows where a stream ends. Scored is what was predicted, so a score says how the method did on the way, not how its last
weights would do. The source model knows nothing of the target when the first clip comes. Where the shift's policy is
``batch_norm: target``, each method that takes target statistics predicts a clip with the clip's own; else with the running ones.

While a method learns, the clips' files are closed (:mod:`bench.core.access`); predictions are written as PNGs of train ids and
scored when the method has ended.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from bench.core.access import stage
from bench.core.errors import BadFile, RunError
from bench.core.progress import Progress, quiet
from bench.data.loaders import ClipLoader, to_device
from bench.data.reading import id_picture
from bench.data.recorded import VideoStore
from bench.data.splits import Split, Store
from bench.flow.resolve import open_clips
from bench.networks.weights import save_tensors
from bench.pictures.media import write_png
from bench.shifts.protocol import Evaluation, Shift
from methods.base import Method
from stpl.segmenter import VideoSegmenter

from .adaptation import Adapted, Context, adapted, adapts_statistics, grants_of, make_method
from .config import RunConfig
from .evaluate import Information, Scores, Tally, unscored_of
from .figures import spread_clips
from .grouping import grouping_of
from .predictions import Predicted, Size, predict
from .settings import loaded_class
from .training import STATE_EVERY, Fitted, Trainer
from .watching import evaluating

ONLINE = "online"
"""Folder of a run with what was predicted: ``000012.png``, train ids at the label's size; ``000012-previous.png``, of frame t-1,
and where it is not the same picture ``000012-current.png``, both at the frames' size."""
LAST = "ready-snapshot-{:06d}.safetensors"
"""The weights after the last clip."""


def clips_of(config: RunConfig, split: Split) -> int:
    """How many clips a stream has: all of the split, or as many as the run was cut short to."""
    clips = len(split.open())
    return clips if config.steps is None else min(config.steps, clips)


def work(context: Context, cls: type[Method], source: Path | None, splits: dict[str, Split]) -> Adapted:
    """The adaptation of a run, in the mode that its config says."""
    return (streamed if context.config.mode == "stream" else adapted)(context, cls, source, splits)


def streamed(context: Context, cls: type[Method], source: Path | None, splits: dict[str, Split]) -> Adapted:
    """Make the method and let the stream go by it, in a stage that opens unlabelled target clips alone."""
    split = splits["target-val"]
    clips = clips_of(context.config, split)
    # Opened is what the card said before the method's code ran; compilers are processes.
    with stage(*grants_of(context.config, cls), processes=context.workspace.compiled):
        method = make_method(context, loaded_class(context.config.method), source, clips)
        method.restart()
        stream = Stream(context, method, clips)
        loader = open_clips(split, context.config.flow, context.workspace.cache)
        fitted = stream.run(loader, context.workspace.progress)
        ready, step = context.folder / "state" / LAST.format(clips), fitted.steps
        weights = method.evaluated(context.shift.evaluation.readout).state_dict()
        save_tensors(ready, weights, {"config": context.config.hash, "step": step})
    return Adapted(fitted, [(step, ready, stream.information.score())], {}, str(method.averages))


class Stream(Trainer):
    """A trainer that meets each clip once: predicts it, then takes a step on it.

    Args:
        method: at its start, on its device.
        clips: how many come.
    """

    def __init__(self, context: Context, method: Method, clips: int) -> None:
        shift, workspace = context.shift, context.workspace
        once = {"steps": clips, "batch": 1, "accumulate": 1, "horizon": None}
        schedule, rule = shift.adaptation.model_copy(update=once), shift.evaluation
        observer = workspace.observer if method.trains else None
        super().__init__(method, schedule, context.folder, workspace.device, rule.readout, observer, context.log)
        self.kept = []  # of weights nothing is scored
        self.rule, self.own_statistics = rule, adapts_statistics(method, shift)
        self.information, self.compiled = Information(), workspace.compiled
        anew = context.config.reset == "sequence"
        self.start = {name: value.clone() for name, value in method.state_dict().items()} if anew else None

    def run(self, loader: ClipLoader, progress: Progress = quiet) -> Fitted:
        """Let the clips come, from the saved state if there is one.

        Raises:
            RunError: a clip cannot be read, a loss is NaN or infinite, a saved state is damaged, or the disk is full.
        """
        store, steps = loader.store, self.schedule.steps
        for left_over in (self.folder / ONLINE).glob(".*.png.*"):  # of a process that was killed
            left_over.unlink()
        first, spent = self.begin()
        for number in range(first, steps):
            if self.start is not None and number and store.sequence(number) != store.sequence(number - 1):
                self.start_anew(self.start)
            read = loader.read(number)
            batch = to_device(loader.together([read]), self.device)
            with self._predicting() as segmenter:
                predicted = predict(segmenter, batch, self.rule.align_corners, [read])
                maps = maps_of(predicted, label_size(self.rule, store, number, predicted.size))
            self.information.add(predicted.out.scores)
            with self.off_clock():
                for name, labels in maps.items():
                    write_png(self.folder / ONLINE / f"{number:06d}{name}.png", labels.to(torch.uint8).numpy())
            if self.method.trains:
                with stage(processes=self.compiled):  # what is on the disk has not come yet
                    self.start_round(number, number, [batch])
                    self.step(number, [(batch, None)])
            done = number + 1
            saves = done % STATE_EVERY == 0 or done == steps
            if self.device.type == "cpu" or saves:
                self.settle()
            if saves:
                self._save(done, *spent())
            progress("stream", done, steps)
        return Fitted(steps if self.method.trains else 0, *spent(), self._environments)

    def start_anew(self, start: Mapping[str, Tensor]) -> None:
        """Forget everything since the start: weights, averages, momentum."""
        self.method.load_state_dict(start)
        for optimiser in self.optimisers.values():
            optimiser.state.clear()

    @contextlib.contextmanager
    def _predicting(self) -> Iterator[VideoSegmenter]:
        """The network that is scored, as it predicts; afterwards all is as it was."""
        segmenter = self.method.evaluated(self.readout)
        with evaluating(segmenter), own_statistics(segmenter) if self.own_statistics else contextlib.nullcontext():
            yield segmenter

    def _factor(self, step: int) -> float:
        return 1.0

    def beside(self) -> dict[str, Tensor]:
        return self.information.state()

    def load_beside(self, tensors: Mapping[str, Tensor]) -> None:
        self.information.load(tensors)


@contextlib.contextmanager
def own_statistics(module: nn.Module) -> Iterator[None]:
    """Let batch norm of a module in evaluation mode use the statistics of what it is given, and leave the running ones alone."""
    layers = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [(layer.training, layer.track_running_stats) for layer in layers]
    for layer in layers:
        layer.training, layer.track_running_stats = True, False
    try:
        yield
    finally:
        for layer, (training, track) in zip(layers, before, strict=True):
            layer.training, layer.track_running_stats = training, track


# What was predicted ---------------------------------------------------------------------------------------------------


def label_size(rule: Evaluation, store: Store, number: int, size: Size) -> Size:
    """``(H, W)`` of a clip's label, which is known without opening it: ``size`` is that of the frames."""
    if rule.height and rule.width:
        return rule.height, rule.width
    return store.picture_size(number) if rule.own_size and isinstance(store, VideoStore) else size


def maps_of(predicted: Predicted, size: Size) -> dict[str, Tensor]:
    """Label maps ``(H, W)`` of one clip on the CPU, by the ending of their file's name."""
    current, previous = predicted.labels(), predicted.previous_labels()
    maps = {"": current if size == predicted.size else predicted.labels(size), "-previous": previous}
    maps |= {} if size == predicted.size else {"-current": current}
    return {name: labels[0].cpu() for name, labels in maps.items()}


def read_map(path: Path, size: Size, classes: int) -> Tensor:
    """A written label map, int64 ``(H, W)``.

    Raises:
        RunError: missing, damaged, of another size, or with what is no class; names the file.
    """
    again = "run it again"
    try:
        labels = np.asarray(id_picture(path, size), np.int64)
    except BadFile as error:
        raise RunError(f"{error}; {again}") from None
    if (largest := int(labels.max())) >= classes:
        raise RunError(f"{path}: {largest} is no class; there are {classes}; {again}")
    return torch.from_numpy(labels)


def online_scores(shift: Shift, loader: ClipLoader, folder: Path, clips: int, progress: Progress = quiet) -> Scores:
    """Score what a run predicted online, with the labels, as the shift's protocol scores a model.

    Args:
        folder: of the run.
        clips: how many came.

    Raises:
        RunError: a prediction is missing or damaged.
    """
    store, groups, rule = loader.store, grouping_of(shift), shift.evaluation
    truth, tally = store.labels(), Tally(store, rule, groups, unscored_of(shift))
    for number in range(clips):
        read, label = loader.read(number), torch.from_numpy(truth[number].copy())
        frame = (read.clip.frames.shape[-2], read.clip.frames.shape[-1])
        size = (label.shape[-2], label.shape[-1])

        def predicted(ending: str, size: Size, number: int = number) -> Tensor:
            return groups(read_map(folder / ONLINE / f"{number:06d}{ending}.png", size, len(shift.classes)))

        guess = predicted("", size)
        current = guess if size == frame else predicted("-current", frame)
        tally.add(read, label, guess, current, predicted("-previous", frame))
        progress("evaluate", number + 1, clips)
    return tally.scores()


def online_labels(shift: Shift, loader: ClipLoader, folder: Path) -> dict[int, np.ndarray]:
    """What was predicted of the clips that figures show, ``(H, W)`` at the frames' size, by number; classes as they are scored."""
    groups, labels = grouping_of(shift), {}
    for number in spread_clips(len(loader.store)):
        current = folder / ONLINE / f"{number:06d}-current.png"
        path = current if current.is_file() else current.with_name(f"{number:06d}.png")
        frames = loader.store[number].frames
        labels[number] = groups(read_map(path, (frames.shape[-2], frames.shape[-1]), len(shift.classes)).numpy())
    return labels


def online_digest(folder: Path) -> str:
    """SHA-256 over the names and bytes of a run's online predictions, in hex."""
    digest = hashlib.sha256()
    for path in sorted((folder / ONLINE).glob("*.png")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
