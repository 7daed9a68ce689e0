"""Supervised training on labelled clips: how a source model is made, and the oracle on the target."""

from __future__ import annotations

from torch import Tensor

from methods.base import ClipBatch, LabelledBatch, Method
from methods.common.augment import Geometry, strong_view
from methods.common.losses import supervised


STRENGTH = 0.2


class Supervised(Method):
    """Class-balanced cross entropy on clips that are mirrored with probability 1/2 and mildly jittered.

    The published source-only recipe has no augmentation; a schedule of 800 steps on 300 clips needs a little. Stronger jitter
    and zoom would be domain generalisation, a method of its own.
    """

    start = "scratch"

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert isinstance(target, LabelledBatch), "supervised training needs labels"
        generator = self.generator(step, "supervised view")
        mirror = Geometry.draw(len(target.keys), 1.0, generator)
        clips = strong_view(target, mirror, STRENGTH, generator)
        batch = LabelledBatch(clips.frames, clips.flow, clips.valid, clips.keys, mirror.labels(target.label))
        return supervised(self.segmenter, batch)
