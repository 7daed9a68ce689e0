"""Supervised training on labelled clips: how a source model is made, and the oracle on the target."""

from __future__ import annotations

from torch import Tensor

from methods.base import ClipBatch, LabelledBatch, Method
from methods.common.augment import Geometry
from methods.common.losses import supervised


class Supervised(Method):
    """Class-balanced cross entropy on clips that are mirrored with probability 1/2, and nothing else.

    The published source-only models see no photometric augmentation either: that would be domain generalisation, a method of
    its own (colour jitter alone moves source-only on development worlds by about ten points, RULES.md). They do not mirror; a
    schedule of 800 steps on 300 clips needs it.
    """

    start = "scratch"

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert isinstance(target, LabelledBatch), "supervised training needs labels"
        mirror = Geometry.draw(len(target.keys), 1.0, self.generator(step, "supervised view"))
        clips = mirror.clips(target)
        batch = LabelledBatch(clips.frames, clips.flow, clips.valid, clips.keys, mirror.labels(target.label))
        return supervised(self.segmenter, batch)
