"""pixmatch: the prediction on an augmented target frame should equal that on the plain one.

Melas-Kyriazi, Manrai, "PixMatch: Unsupervised Domain Adaptation via Pixelwise Consistency Training", CVPR 2021. UDA, image.

``y = argmax sg p(x_T)``; ``L = CE(s(x_S), y_S) + weight * (CE(s(aug x_T), y) + 0.1 CE(aux, y_aux))``. The auxiliary head learns the
mean of both heads' predictions. ``aug`` is photometric noise and a random crop, the low frequencies of a source frame (Fourier),
or CutMix with labelled source clips, in which both heads learn one label map. An average of the weights is evaluated, whatever the
shift's readout is.

Differs from the published code: the auxiliary head's labels go through the same draw of the augmentation as the image. Fourier
styles are resized to the content. A mixed clip has the flow and validity of either part. Starts from the source model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
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
    ours,
    published,
    trial,
    tuned_on,
)
from methods.common.augment import Geometry, strong_view
from methods.common.checks import in_range
from methods.common.ema import ema_update, frozen_copy
from methods.common.fourier import fourier_mix
from methods.common.losses import supervised
from methods.common.mixing import cut_mix, random_boxes
from methods.common.selection import two_head_labels
from stpl import VideoSegmenter, pseudo_label_cross_entropy


@dataclass(frozen=True)
class PixMatchSettings:
    """Values without a unit."""

    weight: float = published(0.1, "README: lam_aug, of the consistency term")
    auxiliary: float = published(0.1, "configs: lam_aux, of the auxiliary head within it")
    threshold: float = published(0.0, "configs: pseudolabel_threshold, a label needs more confidence than this")
    augmentation: Literal["photometric", "fourier", "cutmix"] = published("photometric", "README: the baseline")
    strength: float = ours(0.5, "of the photometric noise, which has other ranges than the published one")
    max_zoom: float = ours(1.5, "published: crops of 0.2 to 1 of the area, resized to 512 x 512")
    fraction: float = published(0.01, "configs: fourier_beta, window of the style, share of the shorter side")
    ema_decay: float = published(0.999, "configs: ema_decay, for 40,000 steps")

    def __post_init__(self) -> None:
        in_range("weight", self.weight, 0, 100)
        in_range("auxiliary", self.auxiliary, 0, 100)
        in_range("threshold", self.threshold, 0, 1)
        in_range("strength", self.strength, 0, 1.5)
        in_range("max_zoom", self.max_zoom, 1, 4)
        in_range("fraction", self.fraction, 0, 0.5)
        in_range("ema_decay", self.ema_decay, 0, 1)


class PixMatch(Method):
    """Source supervision and consistency under augmentation."""

    card = Card(
        key="pixmatch",
        title="PixMatch",
        authors="Melas-Kyriazi, Manrai",
        venue="CVPR 2021",
        year=2021,
        url="https://arxiv.org/abs/2105.08128",
        design="image",
        setting="UDA",
    )
    Settings = PixMatchSettings
    SEARCH: ClassVar[SearchSpace] = {
        "weight": LogUniform(0.03, 3.0),
        "threshold": Choice((0.0, 0.5, 0.8)),
        "augmentation": Choice(("photometric", "fourier", "cutmix")),
        "ema_decay": Choice((0.9, 0.97, 0.99)),
    }
    TUNED = tuned_on(
        "ministreet-dev", trial(3, weight=0.986, threshold=0.0, augmentation="photometric", ema_decay=0.9)
    ) | tuned_on(
        "ministreet2-dev",
        trial(3, augmentation="photometric", ema_decay=0.9, threshold=0.0, weight=0.986),
    )
    evaluates_average = True
    averages = "evaluated"
    settings: PixMatchSettings

    def __init__(self, segmenter: VideoSegmenter, settings: PixMatchSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.average = frozen_copy(segmenter)

    def restart(self) -> None:
        self.average.load_state_dict(self.segmenter.state_dict())

    @classmethod
    def revision(cls, settings: PixMatchSettings) -> int:
        return 2 if settings.augmentation == "cutmix" else 1  # 1 pasted from another target clip

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert source is not None, "pixmatch needs source clips"
        losses = supervised(self.segmenter, source, self.setup.supervision)
        labels, auxiliary_labels = self.label(target)
        view, labels, auxiliary_labels = self.augment(target, source, labels, auxiliary_labels, step)
        out = self.segmenter(view.frames, view.flow, view.valid)
        losses["consistency"] = self.settings.weight * pseudo_label_cross_entropy(out.scores.float(), labels)
        if out.auxiliary_scores is not None:
            auxiliary = pseudo_label_cross_entropy(out.auxiliary_scores.float(), auxiliary_labels)
            losses["consistency_aux"] = self.settings.weight * self.settings.auxiliary * auxiliary
        return losses

    @torch.no_grad()
    def label(self, target: ClipBatch) -> tuple[Tensor, Tensor]:
        """Labels of both heads, at score resolution."""
        out = self.segmenter(target.frames, target.flow, target.valid)
        main = out.scores.float()
        if out.auxiliary_scores is None:
            return two_head_labels(main.softmax(1), main.softmax(1), self.settings.threshold)
        size = (main.shape[-2], main.shape[-1])
        auxiliary = F.interpolate(out.auxiliary_scores.float(), size, mode="bilinear", align_corners=False)
        return two_head_labels(main.softmax(1), auxiliary.softmax(1), self.settings.threshold)

    def augment(
        self, target: ClipBatch, source: LabelledBatch, labels: Tensor, auxiliary_labels: Tensor, step: int
    ) -> tuple[ClipBatch, Tensor, Tensor]:
        """The augmented clips and both heads' labels, moved by one draw."""
        s, generator = self.settings, self.generator(step, "strong view")
        n = len(target.keys)
        if s.augmentation == "fourier":
            frames = fourier_mix(target.frames.flatten(0, 1), source.frames.flatten(0, 1), s.fraction)
            return (
                ClipBatch(frames.view_as(target.frames), target.flow, target.valid, target.keys),
                labels,
                auxiliary_labels,
            )
        if s.augmentation == "cutmix":
            boxes = random_boxes(n, (source.frames.shape[-2], source.frames.shape[-1]), generator)
            mixed = cut_mix(target, labels, source, boxes)
            return mixed, mixed.label, mixed.label
        geometry = Geometry.draw(n, s.max_zoom, generator)
        view = strong_view(target, geometry, s.strength, generator)
        return view, geometry.labels(labels), geometry.labels(auxiliary_labels)

    def after_step(self, step: int) -> None:
        ema_update(self.average, self.segmenter, self.settings.ema_decay)

    def evaluated(self, readout: str) -> VideoSegmenter:
        return self.average


METHOD = PixMatch
