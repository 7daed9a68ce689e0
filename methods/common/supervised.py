"""Supervised training on labelled clips: how a source model is made, and the oracle on the target."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from methods.base import ClipBatch, LabelledBatch, Method
from methods.common.augment import Geometry, colour_jitter
from methods.common.losses import supervised


class Supervised(Method):
    """Cross entropy on labelled clips, in the views that the shift asks for, and nothing else.

    The published source-only models see no photometric augmentation: that would be domain generalisation, a method of its own
    (colour jitter alone moves source-only on development worlds by about ten points, RULES.md). They do not mirror either;
    MiniStreet's schedule of 800 steps on 300 clips needs it.
    """

    start = "scratch"

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert isinstance(target, LabelledBatch), "supervised training needs labels"
        how, generator = self.setup.supervision, self.generator(step, "supervised view")
        if how.mirror:
            mirror = Geometry.draw(len(target.keys), 1.0, generator)
            clips = mirror.clips(target)
            target = LabelledBatch(clips.frames, clips.flow, clips.valid, clips.keys, mirror.labels(target.label))
        if how.jitter > 0:
            jittered = torch.stack([colour_jitter(clip, how.jitter, generator) for clip in target.frames])
            target = dataclasses.replace(target, frames=jittered)
        return supervised(self.segmenter, target, how)
