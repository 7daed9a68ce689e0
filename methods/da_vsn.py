"""da_vsn: the target prediction should follow its own more certain past, and source and target should look alike over time.

Guan, Huang, Xiao, Lu, "Domain Adaptive Video Segmentation via Temporal Consistency Regularization", ICCV 2021. UDA, video.

``L = CE(s_S, y_S) + 0.1 CE(aux) + itcr_weight * TCR(p_t, splat(p_{t-1})) + adversarial_weight * (fool spatio-temporal + fool
spatial)`` (``methods.common.temporal``, ``methods.common.adversarial``). The spatio-temporal discriminator sees the joint softmax
of [s_t, s_{t-1}], the spatial one that of [s_t, s_t]; their own loss adds ``adversarial_weight * (1 + cos(weights))`` so that they
look at different things. The auxiliary head has the same terms: 0.2 of the adversarial one, a consistency of its own, a pair of
discriminators of its own.

Differs from the published code: every clip of a batch uses its own flow. Starts from the source model. The discriminators step one
after the other, so the second one's weight discrepancy sees the first one's new weights. The segmenter's gradient is clipped at
the shift's norm (published: 1).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from methods.base import (
    Card,
    ClipBatch,
    LabelledBatch,
    LogUniform,
    Method,
    SearchSpace,
    Setup,
    by_hand,
    published,
    trial,
    tuned_on,
)
from methods.common.adversarial import Adversary, judged, weight_discrepancy
from methods.common.checks import in_range
from methods.common.losses import supervised_terms
from methods.common.temporal import flow_at, frame_scores, intra_domain_consistency
from stpl import VideoSegmenter

AUXILIARY = 0.2
"""Share of the auxiliary head in the adversarial term (published code: LAMBDA_ADV_AUX / LAMBDA_ADV_MAIN)."""


@dataclass(frozen=True)
class DAVSNSettings:
    """Values without a unit."""

    itcr_weight: float = published(0.001, "config.py: lamda_u")
    adversarial_weight: float = published(0.001, "config.py: lamda_u, times lamda_sa = lamda_wd = 1")
    discriminator_lr: float = published(1e-4, "config.py: LEARNING_RATE_D")
    width: int = published(64, "ADVENT, discriminator.py: ndf")
    judged_stride: int = published(1, "train_video_UDA.py: maps are brought to the image's size, over this")

    def __post_init__(self) -> None:
        in_range("itcr_weight", self.itcr_weight, 0, 100)
        in_range("adversarial_weight", self.adversarial_weight, 0, 100)
        in_range("discriminator_lr", self.discriminator_lr, 0, 1)
        in_range("width", self.width, 1, 512)
        in_range("judged_stride", self.judged_stride, 1, 8)


class DAVSN(Method):
    """Temporal consistency within the target and across the domains."""

    card = Card(
        key="da_vsn",
        title="DA-VSN",
        authors="Guan, Huang, Xiao, Lu",
        venue="ICCV 2021",
        year=2021,
        url="https://arxiv.org/abs/2107.11004",
        design="video",
        setting="UDA",
    )
    Settings = DAVSNSettings
    SEARCH: ClassVar[SearchSpace] = {
        "itcr_weight": LogUniform(0.001, 10.0),
        "adversarial_weight": LogUniform(0.0005, 0.1),
        "discriminator_lr": LogUniform(3e-5, 1e-3),
    }
    TUNED = tuned_on(
        "ministreet-dev",
        trial(5, itcr_weight=0.769, adversarial_weight=0.00235, discriminator_lr=4.98e-5),
        by_hand("for a network of 0.6 M parameters", width=16, judged_stride=2),
    ) | tuned_on(
        "ministreet2-dev",
        trial(5, adversarial_weight=0.00235, discriminator_lr=4.98e-05, itcr_weight=0.769),
        by_hand("for a network of 0.6 M parameters", width=16, judged_stride=2),
    )
    PAPER_HAS: ClassVar[Mapping[str, str]] = {"fusion": "accel_splat"}
    settings: DAVSNSettings

    def __init__(self, segmenter: VideoSegmenter, settings: DAVSNSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        heads = ["main"] if segmenter.auxiliary_classifier is None else ["main", "auxiliary"]
        self.heads = dict(zip(heads, (1.0, AUXILIARY), strict=False))
        names = [f"{view}_{head}" for head in heads for view in ("temporal", "spatial")]
        arguments = (2 * setup.num_classes, settings.width, settings.discriminator_lr, 1.0)
        self.adversaries = nn.ModuleDict({name: Adversary(*arguments) for name in names})

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {name: self.adversary(name).optimiser for name in self.adversaries}

    def adversary(self, name: str) -> Adversary:
        """By view (``temporal``, ``spatial``) and head, as ``view_head``."""
        adversary = self.adversaries[name]
        assert isinstance(adversary, Adversary)
        return adversary

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert source is not None, "da_vsn needs source clips"
        s, segmenter = self.settings, self.segmenter
        of_source = segmenter(source.frames, source.flow, source.valid)
        losses = supervised_terms(of_source, source.label, self.setup.supervision)
        of_target = segmenter(target.frames, target.flow, target.valid)
        target_now = frame_scores(segmenter, of_target, -1)
        with torch.no_grad():
            target_before = frame_scores(segmenter, of_target, -2)
            source_now, source_before = frame_scores(segmenter, of_source, -1), frame_scores(segmenter, of_source, -2)

        for head, share in self.heads.items():
            current, previous = (getattr(frame, head).float() for frame in (target_now, target_before))
            flow = flow_at(target.flow[:, -1], (current.shape[-2], current.shape[-1]))
            tcr = intra_domain_consistency(current.softmax(1), previous.softmax(1), flow)
            losses[f"itcr_{head}"] = s.itcr_weight * tcr
            pairs = {
                "temporal": (previous, getattr(source_before, head)),
                "spatial": (current, getattr(source_now, head)),
            }
            for view, (second, source_second) in pairs.items():
                adversary = self.adversary(f"{view}_{head}")
                maps = self.see(current, second, target)
                losses[f"{view}_{head}"] = s.adversarial_weight * share * adversary.fool(maps)
                adversary.watch(self.see(getattr(source_now, head), source_second, source), maps, self.part)
        return losses

    def see(self, first: Tensor, second: Tensor, clips: ClipBatch) -> Tensor:
        """What a discriminator is shown of two score maps."""
        size = (clips.frames.shape[-2], clips.frames.shape[-1])
        return judged(torch.cat([first.float(), second.float()], 1), size, self.settings.judged_stride)

    def after_step(self, step: int) -> None:
        for head in self.heads:
            pair = self.adversary(f"temporal_{head}"), self.adversary(f"spatial_{head}")
            for adversary in pair:
                adversary.learn(partial(self.discrepancy, *pair))

    def discrepancy(self, first: Adversary, second: Adversary) -> Tensor:
        """What keeps the two discriminators of a head from looking at the same things."""
        return self.settings.adversarial_weight * weight_discrepancy(first.discriminator, second.discriminator)


METHOD = DAVSN
