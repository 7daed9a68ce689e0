"""Scores of a model without labels: what could choose between methods, settings and steps where no label is at hand.

All are higher where the model is thought better. None is used to choose the headline (RULES.md); :data:`SCORERS` says what each is.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bench.data.loaders import ClipLoader
from methods.base import ClipBatch
from methods.common.density import soft_neighbourhood_density
from methods.common.views import averaged_views
from stpl.segmenter import Segmentation, VideoSegmenter
from stpl.warp import resize_flow, resize_mask

from .metrics import ConfusionMatrix, carry_labels, iou_from_confusion, mean_iou
from .predictions import batches

SCORERS = {
    "information": "H(mean p) − mean H(p), nats: sure of each pixel, varied over all (information maximisation)",
    "entropy": "− mean H(p), nats: sure of each pixel",
    "density": "soft neighbourhood density of a clip's predictions at 256 pixels, nats, mean over clips (SND, ICCV 2021)",
    "mirror": "pixels with the same class on the mirrored clip, %",
    "temporal": "mIoU of the previous frame's prediction, carried along the flow, with the current one, %",
    "teacher": "pixels on which another set of weights, such as the method's teacher, says the same, %",
}
"""Name and meaning. The last one is there where a second model is given."""
SAMPLES = 256
"""Pixels of a clip whose neighbourhoods are looked at, evenly spread (published: 100, drawn at random)."""


def sampled(p: Tensor) -> Tensor:
    """Predictions of one clip ``(K, h, w)`` at :data:`SAMPLES` pixels evenly spread in raster order, ``(n, K)``."""
    flat = p.flatten(1).t()
    count = min(SAMPLES, len(flat))
    return flat[torch.arange(count, device=p.device) * len(flat) // count]


class Tally:
    """Scores that are filled batch by batch, at the resolution of the model's own scores.

    Args:
        classes: K.
    """

    def __init__(self, classes: int) -> None:
        self.mean: Tensor | float = 0.0
        self.entropy = self.density = 0.0
        self.pixels = self.clips = self.mirrored = self.agreed = 0
        self.temporal = ConfusionMatrix(classes)

    def add(self, segmenter: VideoSegmenter, batch: ClipBatch, teacher: VideoSegmenter | None) -> None:
        """Take in a batch."""
        out: Segmentation = segmenter(batch.frames, batch.flow, batch.valid)
        p = out.scores.float().softmax(1)
        size, label = (p.shape[-2], p.shape[-1]), p.argmax(1)
        self.mean = self.mean + p.sum((0, 2, 3))
        self.entropy -= float((p * p.clamp_min(1e-12).log()).sum())
        self.density += sum(float(soft_neighbourhood_density(sampled(clip))) for clip in p)
        self.mirrored += int((averaged_views(segmenter, batch, [(100, True)], size).argmax(1) == label).sum())
        before = segmenter.classify(segmenter.fuse_alone(out.encoded[-2])).argmax(1)
        motion = resize_flow(batch.flow[:, -1], size), resize_mask(batch.valid[:, -1], size)
        self.temporal.update(carry_labels(before, *motion), label)
        if teacher is not None:
            teacher_label = teacher(batch.frames, batch.flow, batch.valid).scores.argmax(1)
            self.agreed += int((teacher_label == label).sum())
        self.pixels, self.clips = self.pixels + label.numel(), self.clips + len(label)

    def scores(self, teacher: bool) -> dict[str, float]:
        """By name of :data:`SCORERS`."""
        marginal = (torch.as_tensor(self.mean) / self.pixels).clamp_min(1e-12)
        entropy = self.entropy / self.pixels
        values = {
            "information": float(-(marginal * marginal.log()).sum()) - entropy,
            "entropy": -entropy,
            "density": self.density / self.clips,
            "mirror": 100 * self.mirrored / self.pixels,
            "temporal": 100 * mean_iou(iou_from_confusion(self.temporal.matrix)),
        }
        return values | ({"teacher": 100 * self.agreed / self.pixels} if teacher else {})


@torch.no_grad()
def scores_without_labels(
    segmenter: VideoSegmenter,
    loader: ClipLoader,
    clips: int,
    classes: int,
    device: torch.device,
    teacher: VideoSegmenter | None = None,
) -> dict[str, float]:
    """Every scorer's value on the first clips of a split, in one pass; no label is opened.

    Args:
        segmenter: looked at in evaluation mode.
        loader: unlabelled clips, of the target's training split.
        clips: how many.
        classes: K.
        teacher: other weights of the same network, for the agreement with them.
    """
    segmenter.eval()
    if teacher is not None:
        teacher.eval()
    tally = Tally(classes)
    for _, batch in batches(loader, device, range(min(clips, len(loader.store)))):
        tally.add(segmenter, batch, teacher)
    return tally.scores(teacher is not None)
