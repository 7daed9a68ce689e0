"""Watching a run's training loop without a part in it: the hook, and TensorBoard behind it (``bench run --tensorboard``).

Losses, learning rates and seconds per step as scalars, and now and then the segmenter's predictions on the first target training
clips beside their frames. Labels are closed while a method adapts, so no truth is shown. The log lies in ``<run>/tensorboard``
and is no part of the run: neither its hash nor a number of its record depends on it.
"""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from bench.core.errors import UsageError
from bench.core.files import disk_errors
from bench.core.workspace import Observer
from bench.data.loaders import moved
from methods.base import ClipBatch
from stpl.segmenter import VideoSegmenter

from .predictions import predict

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

LOGS = "tensorboard"
"""Folder of the log inside a run's folder."""
PICTURES = 10
"""Times that pictures are drawn over a run, evenly spread, beside those after the first step."""
CLIPS = 3
"""Clips that are drawn."""


class Unwatched:
    """The observer that does nothing."""

    def start(self, *_: Any) -> None:
        return None

    def step(self, *_: Any) -> None:
        return None


@contextlib.contextmanager
def watched(tensorboard: bool) -> Iterator[Observer | None]:
    """A TensorBoard observer that is closed in the end, or None."""
    if not tensorboard:
        yield None
        return
    observer = TensorBoard()
    try:
        yield observer
    finally:
        observer.close()


class TensorBoard:
    """Writes what it is told to ``<run>/tensorboard``. A run that goes on continues its log where the run continues.

    Raises:
        UsageError: tensorboard is not installed.
    """

    def __init__(self) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise UsageError("--tensorboard needs tensorboard: pip install tensorboard") from None
        self._open = SummaryWriter
        self._writer: SummaryWriter | None = None

    def start(
        self, folder: Path, first: int, steps: int, segmenter: VideoSegmenter, clips: Iterable[ClipBatch]
    ) -> None:
        self.close()
        logs = folder / LOGS
        with disk_errors(logs):
            if first == 0 and logs.is_dir():  # of a run that was killed before it had a state
                for file in logs.glob("events.out.tfevents.*"):
                    file.unlink()
            # TensorBoard reads files in the order of their names: seconds, host, process, number. Within a second that is no order.
            while any(logs.glob(f"events.out.tfevents.{int(time.time())}.*")):
                time.sleep(0.05)
            # What was logged after the state that the run goes on from is logged again; purge_step hides the old.
            self._writer = self._open(str(logs), purge_step=first)
        self._segmenter, self._clips = segmenter, list(itertools.islice(clips, 1))
        self._steps, self._every = steps, max(1, steps // PICTURES)
        self._last = time.perf_counter()

    def step(self, step: int, scalars: Mapping[str, float]) -> None:
        assert self._writer is not None, "start comes before step"
        with disk_errors(Path(self._writer.log_dir)):
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, step)
            self._writer.add_scalar("time/seconds per step", time.perf_counter() - self._last, step)
            done = step + 1
            if step == 0 or done % self._every == 0 or done == self._steps:
                for name, picture in pictures(self._segmenter, self._clips):
                    self._writer.add_image(name, picture, step, dataformats="HWC")
            self._writer.flush()  # before the loop saves a state that would go on after this step
        self._last = time.perf_counter()

    def close(self) -> None:
        """Finish the log."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


def pictures(segmenter: VideoSegmenter, clips: Iterable[ClipBatch]) -> list[tuple[str, np.ndarray]]:
    """The last frame beside its prediction for the first clips, RGB uint8 ``(H, 2W, 3)``, by ``target/<clip>``."""
    from bench.pictures.canvas import colourise

    panels = []
    for batch in clips:
        batch = moved(batch, lambda x: x[:CLIPS])
        with evaluating(segmenter):
            labels = predict(segmenter, batch).labels().cpu().numpy()
        frames = (255 * batch.frames[:, -1]).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        for key, frame, label in zip(batch.keys, frames, labels, strict=False):
            panels.append((f"target/{key.rsplit('/', 1)[-1]}", np.concatenate([frame, colourise(label)], axis=1)))
    return panels


@contextlib.contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards every submodule is in the mode that it was in."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode
