"""cotta: learn what an averaged teacher says, averaged over views where the source model is unsure, and forget a little each
step.

Wang, Fink, Van Gool, Dai, "Continual Test-Time Domain Adaptation", CVPR 2022. Source-free, image.

A teacher, the average of the student over steps, labels the target softly (weight-averaged pseudo-labels). Where the source
model (the anchor) is less confident than ``threshold``, the label y' is the teacher's mean over resized and mirrored views
instead of its plain prediction (augmentation-averaged pseudo-labels). ``L = - mean_pixels sum_c y'_c ln p_c``. After each step a
share of the student's weights, chosen at random, goes back to the source model's (stochastic restoration). The paper scores the
teacher.

What batch norm's policy, which belongs to the shift (RULES.md), means here: anchor, teacher and the weights that are restored
start with the statistics that every method starts from; on MiniStreet they are the target's.

Differs from the published code: the choice between plain and averaged prediction is each pixel's, as in the authors'
segmentation code (the classification code takes the batch's mean confidence); labels are soft, as in the paper (there hard). The
mean is over ``views`` drawn in each step from the published 14 (seven sizes, each with its mirror image; 14 takes them all), of
probabilities (the classification code: of logits, over 32 colour and affine augmentations). The threshold cannot be the
published 5 % quantile of confidences on source images less 0.05, which takes source data. Scored is the teacher's single plain
prediction, as for every method. Offline, over the protocol's steps, instead of once through a stream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from methods.base import (
    Card,
    Choice,
    ClipBatch,
    LabelledBatch,
    LogUniform,
    Method,
    SearchSpace,
    Setup,
    Uniform,
    ours,
    published,
    trial,
    tuned_on,
)
from methods.common.checks import in_range
from methods.common.ema import ema_update, frozen_copy
from methods.common.restore import restore_weights
from methods.common.soft_labels import soft_cross_entropy
from methods.common.views import View, averaged_views
from stpl import VideoSegmenter

VIEWS: tuple[View, ...] = tuple(
    (size, mirror) for size in (50, 75, 100, 125, 150, 175, 200) for mirror in (False, True)
)
"""Sizes in percent, each with its mirror image: those of the authors' segmentation code (mmsegmentation's)."""


@dataclass(frozen=True)
class CoTTASettings:
    """Values without a unit."""

    ema_decay: float = published(0.999, "published code")
    restore: float = published(
        0.01, "published code: share of the weights that go back to the source model's in a step"
    )
    threshold: float = published(0.69, "issue 16 of the repository, for Cityscapes: the anchor's confidence")
    views: int = ours(4, "published 14; predictions in the mean, drawn anew in each step")

    def __post_init__(self) -> None:
        in_range("ema_decay", self.ema_decay, 0, 1)
        in_range("restore", self.restore, 0, 1)
        in_range("threshold", self.threshold, 0, 1)
        in_range("views", self.views, 1, len(VIEWS))


CHOSEN = trial(0, ema_decay=0.999, restore=0.01, threshold=0.69)
"""By both searches, which had the same trials: these are drawn from the method's name."""


class CoTTA(Method):
    """Averaged teacher, averaged views, stochastic restoration."""

    card = Card(
        key="cotta",
        title="CoTTA",
        authors="Wang, Fink, Van Gool, Dai",
        venue="CVPR 2022",
        year=2022,
        url="https://arxiv.org/abs/2203.13591",
        design="image",
        setting="SFDA",
    )
    Settings = CoTTASettings
    SEARCH: ClassVar[SearchSpace] = {
        "ema_decay": Choice((0.9, 0.97, 0.99, 0.999)),
        "restore": LogUniform(0.001, 0.1),
        "threshold": Uniform(0.3, 0.95),
    }
    TUNED = tuned_on("ministreet-dev", CHOSEN) | tuned_on("ministreet2-dev", CHOSEN)
    evaluates_average = True
    averages = "teacher"
    settings: CoTTASettings

    def __init__(self, segmenter: VideoSegmenter, settings: CoTTASettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.teacher, self.anchor = frozen_copy(segmenter), frozen_copy(segmenter)

    def restart(self) -> None:
        self.teacher.load_state_dict(self.segmenter.state_dict())
        self.anchor.load_state_dict(self.segmenter.state_dict())

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        label = self.label(target, step)
        scores = self.segmenter(target.frames, target.flow, target.valid).scores.float()
        return {"ce": soft_cross_entropy(scores, label)}

    @torch.no_grad()
    def label(self, target: ClipBatch, step: int) -> Tensor:
        """Soft labels ``(N, K, h, w)``: the teacher's prediction where the anchor is confident, else its mean over views."""
        plain = self.teacher(target.frames, target.flow, target.valid).scores.float().softmax(1)
        anchor = self.anchor(target.frames, target.flow, target.valid).scores.float().softmax(1)
        order = torch.randperm(len(VIEWS), generator=self.generator(step, "views"))
        views = [VIEWS[int(i)] for i in order[: self.settings.views]]
        mean = averaged_views(self.teacher, target, views, (plain.shape[-2], plain.shape[-1]))
        return torch.where(anchor.max(1, keepdim=True).values > self.settings.threshold, plain, mean)

    def after_step(self, step: int) -> None:
        ema_update(self.teacher, self.segmenter, self.settings.ema_decay)
        device = next(self.segmenter.parameters()).device
        restore_weights(self.segmenter, self.anchor, self.settings.restore, self.generator(step, "restored", device))

    def evaluated(self, readout: str) -> VideoSegmenter:
        return self.teacher


METHOD = CoTTA
