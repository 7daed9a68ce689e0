"""``bench predict``: label maps of a whole split or of one's own footage, as files that people and other programs read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from stpl.segmenter import VideoSegmenter

from .data.loaders import ClipLoader
from .data.store import Progress, quiet
from .evaluate import batches, predict
from .training import to_device


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


@torch.no_grad()
def predictions(
    segmenter: VideoSegmenter,
    loader: ClipLoader,
    size: tuple[int, int] | None,
    align_corners: bool,
    device: torch.device,
    progress: Progress = quiet,
) -> Iterator[Prediction]:
    """Predict every clip of a split in order, one by one.

    Args:
        size: of the label maps; the clips' own by default.
    """
    segmenter.eval()
    store = loader.store
    for number, batch in enumerate(batches(loader, len(store), 1)):
        frame = (batch.frames[0, -1] * 255).round().byte().permute(1, 2, 0).numpy()
        batch = to_device(batch, device)
        own = (batch.frames.shape[-2], batch.frames.shape[-1])
        out = segmenter(batch.frames, batch.flow, batch.valid)
        labels = predict(out, segmenter, size or own, align_corners)[0][0]
        yield Prediction(store.key(number), store.sequence(number), frame, labels.byte().cpu().numpy())
        progress("predict", number + 1, len(store))
