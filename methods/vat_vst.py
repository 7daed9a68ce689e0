"""vat_vst: align source and target predictions of frames and of frame pairs, then learn labels that several frames agree on.

Shin, Park, Woo, Kweon, "Unsupervised Domain Adaptation for Video Semantic Segmentation", AAAI 2022. UDA, video.

Phase 1 (VAT): ``L = CE(s_S, y_S) + 0.1 CE(aux) + adversarial_weight * (fool image + fool sequence)``: an image discriminator on
p_t, a sequence discriminator on p_t and p_{t-1} stacked. Phase 2 (VST), target alone: at its start the whole target is labelled
by the mean of each frame's prediction and the flow-warped predictions of the frames before it, the least confident pixels of each
class left out; ``L = CE(s_T, y)``.

Differs from the published code: there is none that we know of; phases are shares of one run, and start from the source model. The
mean counts valid pixels of a warp only. Confidence is filtered by class-wise quantiles over the whole target. The discriminators
are ADVENT's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial
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
    by_hand,
    ours,
    published,
    trial,
    tuned_on,
)
from methods.common.adversarial import Adversary, judged
from methods.common.checks import in_range
from methods.common.losses import supervised_terms
from methods.common.rounds import LabelBank, even_rounds, label_confident
from methods.common.temporal import aggregated_prediction, frame_scores
from stpl import Segmentation, VideoSegmenter, pseudo_label_cross_entropy


@dataclass(frozen=True)
class VATVSTSettings:
    """Values without a unit."""

    first_share: float = ours(0.5, "of the steps, for phase 1")
    rounds: int = ours(1, "of offline labels in phase 2")
    drop: float = ours(0.5, "share of each class without a label")
    cap: float = published(0.9, "FDA, getSudoLabel_multi.py: no threshold is above this confidence")
    adversarial_weight: float = published(0.001, "ADVENT, config.py: LAMBDA_ADV_MAIN")
    discriminator_lr: float = published(1e-4, "ADVENT, config.py: LEARNING_RATE_D")
    width: int = published(64, "ADVENT, discriminator.py: ndf")
    judged_stride: int = published(1, "ADVENT, train_UDA.py: maps are brought to the image's size, over this")

    def __post_init__(self) -> None:
        in_range("first_share", self.first_share, 0, 1)
        in_range("rounds", self.rounds, 1, 100)
        in_range("drop", self.drop, 0, 1)
        in_range("cap", self.cap, 0, 1)
        in_range("adversarial_weight", self.adversarial_weight, 0, 100)
        in_range("discriminator_lr", self.discriminator_lr, 0, 1)
        in_range("width", self.width, 1, 512)
        in_range("judged_stride", self.judged_stride, 1, 8)


class VATVST(Method):
    """Video adversarial training, then video self-training."""

    card = Card(
        key="vat_vst",
        title="VAT-VST",
        authors="Shin, Park, Woo, Kweon",
        venue="AAAI 2022",
        year=2022,
        url="https://arxiv.org/abs/2107.11052",
        design="video",
        setting="UDA",
    )
    Settings = VATVSTSettings
    SEARCH: ClassVar[SearchSpace] = {
        "adversarial_weight": LogUniform(0.0005, 0.1),
        "discriminator_lr": LogUniform(3e-5, 1e-3),
        "first_share": Choice((0.25, 0.5, 0.75)),
        "drop": Uniform(0.0, 0.8),
    }
    TUNED = tuned_on(
        "ministreet-dev",
        trial(2, adversarial_weight=0.00221, discriminator_lr=3.86e-4, first_share=0.25, drop=0.532),
        by_hand("for a network of 0.6 M parameters", width=16, judged_stride=2),
    ) | tuned_on(
        "ministreet2-dev",
        trial(2, adversarial_weight=0.00221, discriminator_lr=0.000386, drop=0.532, first_share=0.25),
        by_hand("for a network of 0.6 M parameters", width=16, judged_stride=2),
    )
    PAPER_HAS: ClassVar[Mapping[str, str]] = {"fusion": "accel_warp"}
    settings: VATVSTSettings

    def __init__(self, segmenter: VideoSegmenter, settings: VATVSTSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        classes = setup.num_classes
        self.image = Adversary(classes, settings.width, settings.discriminator_lr)
        self.sequence = Adversary(2 * classes, settings.width, settings.discriminator_lr)
        self.bank = LabelBank()
        self.first = round(settings.first_share * setup.steps)

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"image": self.image.optimiser, "sequence": self.sequence.optimiser}

    def round_steps(self) -> tuple[int, ...]:
        return even_rounds(self.first, self.setup.steps, self.settings.rounds)

    def start_round(self, number: int, clips: Iterable[ClipBatch]) -> None:
        predict = partial(aggregated_prediction, self.segmenter)
        label_confident(self.bank, clips, predict, self.settings.drop, self.settings.cap)

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert source is not None, "vat_vst needs source clips"
        of_target = self.segmenter(target.frames, target.flow, target.valid)
        if step >= self.first:
            return {"ce": pseudo_label_cross_entropy(of_target.scores.float(), self.bank.of(target.keys))}
        of_source = self.segmenter(source.frames, source.flow, source.valid)
        losses = supervised_terms(of_source, source.label, self.setup.supervision)
        image, sequence = self.see(of_target, target)
        with torch.no_grad():
            source_image, source_sequence = self.see(of_source, source)
        self.image.watch(source_image, image, self.part)
        self.sequence.watch(source_sequence, sequence, self.part)
        losses["image"] = self.settings.adversarial_weight * self.image.fool(image)
        losses["sequence"] = self.settings.adversarial_weight * self.sequence.fool(sequence)
        return losses

    def see(self, out: Segmentation, clips: ClipBatch) -> tuple[Tensor, Tensor]:
        """Probabilities of the current frame, and of it and the previous one stacked."""
        size, stride = (clips.frames.shape[-2], clips.frames.shape[-1]), self.settings.judged_stride
        current = judged(out.scores, size, stride)
        previous = judged(frame_scores(self.segmenter, out, -2).main, size, stride)
        return current, torch.cat([current, previous], 1)

    def after_step(self, step: int) -> None:
        if step < self.first:
            self.image.learn()
            self.sequence.learn()


METHOD = VATVST
