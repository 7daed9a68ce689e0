"""hcl: do not forget the earlier models: contrast with their features, trust labels on which they agree.

Huang, Guan, Xiao, Lu, "Model Adaptation: Historical Contrastive Learning for Unsupervised Domain Adaptation without Source Data",
NeurIPS 2021. Source-free, image.

Two historical models: an average of the weights (m) and an older snapshot (o); every ``refresh`` steps both become the student as
it is then. ``L = HCCD(main) + 0.5 HCCD(aux) + 0.5 HCID``. HCCD: cross entropy on offline pseudo-labels, weighted by
``exp(-KL(p_o || p_m))`` and by class. HCID: current features are pulled to m's of their class, weighted by m's certainty; features
are those under the auxiliary head (layer 3 of the published network), or the main ones where a network has no others, through a
projector of their own. The labels are m's, before the first step: main head plus half of the auxiliary one, at two sizes, each
mirrored too.

Differs from the published code: current and historical models see the same geometry, the current one with photometric noise on top
(there AutoAugment's ImageNet policy, and crops that correspond in part). Where ``drop`` leaves pixels without a label they are no
class in the contrast. Labels and losses are at score resolution. No warm-up of the learning rate; no discriminators (in the code,
weight 0). Kept are Nesterov momentum, and class weight 7 for classes below 4096 of 256 x 512 pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

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
    by_hand,
    ours,
    published,
    trial,
    tuned_on,
)
from methods.common.augment import Geometry, photometric
from methods.common.checks import in_range
from methods.common.ema import ema_update, frozen_copy
from methods.common.historical import (
    RareClassWeights,
    agreement,
    instance_contrast,
    projector,
    reliability,
    samples,
    small_labels,
    trusted_cross_entropy,
)
from methods.common.rounds import LabelBank, even_rounds, in_mode, label_confident, mean_over_views
from stpl import Segmentation, VideoSegmenter, resize_labels
from stpl.pseudo_labels import IGNORE

RARE = 4096 / (256 * 512)
"""Share of the pixels below which a class is rare: 64 x 64 of the published crop."""
LABEL_SIZES = (100, 125)
"""At which clips are labelled offline, percent (generate_plabel_cityscapes_advent.py)."""


@dataclass(frozen=True)
class HCLSettings:
    """Values without a unit unless said."""

    auxiliary: float = published(0.5, "train_hcl.sh: lambda-seg, weight of the auxiliary head's HCCD")
    contrast_weight: float = published(0.5, "train_hcl.sh: lambda-seg, weight of HCID")
    temperature: float = published(0.07, "loss.py: temperature")
    ema_decay: float = published(0.996, "trainer_hcl.py: gen_update")
    refresh: int = published(300, "trainer_hcl.py: gen_update, steps between two resets of the historical models")
    rounds: int = published(1, "train_hcl.sh: pseudo-labels are made once")
    drop: float = published(0.0, "generate_plabel_cityscapes_advent.py: share of each class without a pseudo-label")
    cap: float = ours(0.9, "as FDA: no threshold is above this confidence")
    strength: float = ours(0.5, "of the current view's photometric noise; published: AutoAugment's ImageNet policy")
    max_zoom: float = published(1.5, "dataset: 1280 x 640 times 0.8 to 1.2, so 1 to 1.5 times 1024 x 512")
    labelling: Literal["eval", "train"] = published(
        "eval", "generate_plabel_cityscapes_advent.py: batch norm while it labels"
    )
    max_pixels: int = ours(4096, "feature cells per image in the contrast; more are thinned out evenly")

    def __post_init__(self) -> None:
        in_range("auxiliary", self.auxiliary, 0, 100)
        in_range("contrast_weight", self.contrast_weight, 0, 100)
        in_range("temperature", self.temperature, 0.01, 10)
        in_range("ema_decay", self.ema_decay, 0, 1)
        in_range("refresh", self.refresh, 1, 10**6)
        in_range("rounds", self.rounds, 1, 100)
        in_range("drop", self.drop, 0, 1)
        in_range("cap", self.cap, 0, 1)
        in_range("strength", self.strength, 0, 1.5)
        in_range("max_zoom", self.max_zoom, 1, 4)
        in_range("max_pixels", self.max_pixels, 2, 10**6)


class HCL(Method):
    """Historical contrast of instances and of categories."""

    card = Card(
        key="hcl",
        title="HCL",
        authors="Huang, Guan, Xiao, Lu",
        venue="NeurIPS 2021",
        year=2021,
        url="https://arxiv.org/abs/2110.03374",
        design="image",
        setting="SFDA",
    )
    Settings = HCLSettings
    SEARCH: ClassVar[SearchSpace] = {
        "contrast_weight": LogUniform(0.05, 2.0),
        "ema_decay": Choice((0.9, 0.97, 0.99, 0.996)),
        "drop": Uniform(0.0, 0.8),
        "strength": Uniform(0.0, 1.0),
    }
    TUNED = tuned_on(
        "ministreet-dev",
        trial(2, contrast_weight=1.28, ema_decay=0.996, drop=0.59, strength=0.83),
        by_hand("a third of the run", refresh=50),
        by_hand("the shift's batch norm is in train mode throughout", labelling="train"),
    ) | tuned_on(
        "ministreet2-dev",
        trial(4, contrast_weight=0.0724, drop=0.218, ema_decay=0.97, strength=0.037),
        by_hand("a third of the run", refresh=50),
        by_hand("the shift's batch norm is in train mode throughout", labelling="train"),
    )
    averages = "historical"
    streams = True  # clips are labelled one by one; the thresholds are then of the clip that has come
    settings: HCLSettings

    def __init__(self, segmenter: VideoSegmenter, settings: HCLSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.averaged, self.older = frozen_copy(segmenter), frozen_copy(segmenter)
        channels = int(getattr(segmenter.encoder, "auxiliary_channels", 0)) or segmenter.fusion.channels
        self.projector = projector(channels)
        self.averaged_projector = frozen_copy(self.projector)
        self.weights = RareClassWeights(setup.num_classes)
        self.bank = LabelBank()

    @classmethod
    def revision(cls, settings: HCLSettings) -> int:
        return 2  # 1 never reset the average, contrasted main features as they are, and counted 255 as a class there

    def parameter_groups(self, lr: float, head_multiplier: float) -> list[dict[str, Any]]:
        return [{**group, "nesterov": True} for group in super().parameter_groups(lr, head_multiplier)]

    def restart(self) -> None:
        self.averaged.load_state_dict(self.segmenter.state_dict())
        self.older.load_state_dict(self.segmenter.state_dict())

    def round_steps(self) -> tuple[int, ...]:
        return even_rounds(0, self.setup.steps, self.settings.rounds)

    def start_round(self, number: int, clips: Iterable[ClipBatch]) -> None:
        predict = partial(mean_over_views, self.averaged, percents=LABEL_SIZES, auxiliary=0.5)
        with in_mode(self.settings.labelling, self.averaged):
            label_confident(self.bank, clips, predict, self.settings.drop, self.settings.cap)

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        s, generator = self.settings, self.generator(step, "strong view")
        geometry = Geometry.draw(len(target.keys), s.max_zoom, generator)
        view = geometry.clips(target)
        label = geometry.labels(self.bank.of(target.keys))
        with torch.no_grad():
            averaged: Segmentation = self.averaged(view.frames, view.flow, view.valid)
            older: Segmentation = self.older(view.frames, view.flow, view.valid)
        current = self.segmenter(photometric(view.frames, s.strength, generator), view.flow, view.valid)

        weight = self.weights(label, RARE * label[0].numel())
        trust = agreement(older.scores.float(), averaged.scores.float())
        losses = {
            "hccd": trusted_cross_entropy(current.scores.float(), label, trust, weight),
            "hcid": s.contrast_weight * self.contrast(current, averaged, label),
        }
        if current.auxiliary_scores is not None:
            assert older.auxiliary_scores is not None and averaged.auxiliary_scores is not None
            trust = agreement(older.auxiliary_scores.float(), averaged.auxiliary_scores.float())
            coarse = resize_labels(label, (trust.shape[-2], trust.shape[-1]))
            losses["hccd_aux"] = s.auxiliary * trusted_cross_entropy(
                current.auxiliary_scores.float(), coarse, trust, weight
            )
        return losses

    def contrast(self, current: Segmentation, averaged: Segmentation, label: Tensor) -> Tensor:
        """HCID between the current features and the averaged model's, both with the pseudo-labels."""
        embedding = self.projector(contrasted(current)).float()
        with torch.no_grad():
            averaged_embedding = self.averaged_projector(contrasted(averaged)).float()
        size = (embedding.shape[-2], embedding.shape[-1])
        certain = averaged.scores if averaged.auxiliary_scores is None else averaged.auxiliary_scores
        small_label = small_labels(label, size)
        stride = -(-small_label.shape[1] // self.settings.max_pixels)
        return instance_contrast(
            samples(embedding)[:, ::stride],
            samples(averaged_embedding)[:, ::stride],
            small_label[:, ::stride],
            small_label[:, ::stride],
            reliability(certain.float(), size).flatten(1)[:, ::stride],
            self.settings.temperature,
            ignore=IGNORE,
        )

    def after_step(self, step: int) -> None:
        pairs = ((self.averaged, self.segmenter), (self.averaged_projector, self.projector))
        for average, student in pairs:
            ema_update(average, student, self.settings.ema_decay)
        if (step + 1) % self.settings.refresh == 0:
            for average, student in (*pairs, (self.older, self.segmenter)):
                average.load_state_dict(student.state_dict())


def contrasted(out: Segmentation) -> Tensor:
    """Features of the current frame that the contrast is about."""
    return out.current if out.auxiliary_encoded is None else out.auxiliary_encoded[-1]


METHOD = HCL
