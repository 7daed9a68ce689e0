"""fda: source clips in the target's colours, by exchanging the low frequencies' amplitude; then rounds of self-training.

Yang, Soatto, "FDA: Fourier Domain Adaptation for Semantic Segmentation", CVPR 2020. UDA, image.

``x_ST``: phase of the source frame, amplitude of a target frame in a low-frequency window (``methods.common.fourier``).
``L = CE(s(x_ST), y_S) + entropy_weight * mean((H / ln K)^2 + 1e-8)^eta`` on target scores, the second term from ``entropy_from`` of
the first phase on. In that phase three segmenters learn so, each with a window of its own; then the target is labelled by their
mean prediction, the least confident pixels of each class left out, and the evaluated one goes on with ``+ CE(s(x_T), y)`` in
rounds. In a later round the mean is of the evaluated one as it is then and the other two as they were left.

Differs from the published code: the window is symmetric (-b..b), since the published one, b = floor(L min(H, W)), does nothing at
1 % of 128 pixels without it. Starts from the source model, not from ImageNet, with the shift's schedule; three runs of 150,000
steps and a fourth from their labels become one run of two phases, in which the three see the same batches. The entropy's
constant is ln K (published: ln 19 whatever K is). The evaluated segmenter has the middle window.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

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
from methods.common.checks import in_range
from methods.common.ema import frozen_copy
from methods.common.fourier import fourier_mix
from methods.common.information import robust_entropy
from methods.common.losses import supervised
from methods.common.rounds import LabelBank, even_rounds, in_mode, label_confident
from stpl import VideoSegmenter, pseudo_label_cross_entropy

MAIN, OTHERS = 0.05, (0.01, 0.09)
"""Windows, shares of the shorter side (published code): of the evaluated segmenter and of the other two."""


@dataclasses.dataclass(frozen=True)
class FDASettings:
    """Values without a unit."""

    entropy_weight: float = published(0.005, "train_options.py: entW")
    entropy_from: float = published(0.5, "train_options.py: switch2entropy, step 50,000 of 100,000 of the first phase")
    eta: float = published(2.0, "train_options.py: ita, power of the entropy")
    first_share: float = ours(0.5, "of the steps, before the first pseudo-labels; published is a run of its own")
    rounds: int = ours(1, "of pseudo-labels; the paper makes up to three, each a run of its own")
    drop: float = published(0.66, "getSudoLabel_multi.py: share of each class that gets no pseudo-label")
    cap: float = published(0.9, "getSudoLabel_multi.py: no threshold is above this confidence")

    labelling: Literal["eval", "train"] = published("eval", "getSudoLabel_multi.py: batch norm while it labels")

    LATER: ClassVar[Mapping[str, Any]] = {"entropy_from": 0.0, "labelling": "train"}

    def __post_init__(self) -> None:
        in_range("entropy_weight", self.entropy_weight, 0, 100)
        in_range("entropy_from", self.entropy_from, 0, 1)
        in_range("eta", self.eta, 0.5, 10)
        in_range("first_share", self.first_share, 0, 1)
        in_range("rounds", self.rounds, 1, 100)
        in_range("drop", self.drop, 0, 1)
        in_range("cap", self.cap, 0, 1)


class FDA(Method):
    """Cross entropy on restyled source clips, entropy on the target, pseudo-labels from three windows."""

    card = Card(
        key="fda",
        title="FDA",
        authors="Yang, Soatto",
        venue="CVPR 2020",
        year=2020,
        url="https://arxiv.org/abs/2004.05498",
        design="image",
        setting="UDA",
    )
    Settings = FDASettings
    SEARCH: ClassVar[SearchSpace] = {
        "entropy_weight": LogUniform(0.0005, 0.5),
        "first_share": Choice((0.25, 0.5, 0.75)),
        "drop": Uniform(0.1, 0.8),
    }
    TUNED = tuned_on(
        "ministreet-dev",
        trial(4, entropy_weight=0.215, first_share=0.5, drop=0.306),
        by_hand("from the first step: it starts from the source model, and there are 75 steps", entropy_from=0.0),
        by_hand("the shift's batch norm is in train mode throughout", labelling="train"),
    ) | tuned_on(
        "ministreet2-dev",
        trial(4, drop=0.306, entropy_weight=0.215, first_share=0.5),
        by_hand("from the first step: it starts from the source model, and there are 75 steps", entropy_from=0.0),
        by_hand("the shift's batch norm is in train mode throughout", labelling="train"),
    )
    settings: FDASettings

    def __init__(self, segmenter: VideoSegmenter, settings: FDASettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.others = nn.ModuleList(frozen_copy(segmenter).requires_grad_(True) for _ in OTHERS)
        self.bank = LabelBank()
        self.first = round(settings.first_share * setup.steps)

    @classmethod
    def revision(cls, settings: FDASettings) -> int:
        return 2  # 1 clipped the three segmenters' gradients as one

    def parameter_groups(self, lr: float, head_multiplier: float) -> list[dict[str, Any]]:
        return [
            {**group, "clipped": number}
            for number, member in enumerate(self.members)
            for group in member.parameter_groups(lr, head_multiplier)
        ]

    @property
    def members(self) -> list[Any]:
        """The three segmenters, the evaluated one first."""
        return [self.segmenter, *self.others]

    def restart(self) -> None:
        for segmenter in self.others:
            segmenter.load_state_dict(self.segmenter.state_dict())

    def round_steps(self) -> tuple[int, ...]:
        return even_rounds(self.first, self.setup.steps, self.settings.rounds)

    def start_round(self, number: int, clips: Iterable[ClipBatch]) -> None:
        with in_mode(self.settings.labelling, *self.members):
            label_confident(self.bank, clips, self.mean_prediction, self.settings.drop, self.settings.cap)

    def mean_prediction(self, batch: ClipBatch) -> Tensor:
        """Probabilities averaged over the three segmenters."""
        passes = [member(batch.frames, batch.flow, batch.valid).scores for member in self.members]
        return torch.stack([scores.float().softmax(1) for scores in passes]).mean(0)

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert source is not None, "fda needs source clips"
        scores, losses = self.learn(self.segmenter, MAIN, target, source, step)
        if step >= self.first:
            losses["pseudo"] = pseudo_label_cross_entropy(scores, self.bank.of(target.keys))
            return losses
        for fraction, segmenter in zip(OTHERS, self.others, strict=True):
            terms = self.learn(segmenter, fraction, target, source, step)[1]
            losses |= {f"{name}_L{fraction}": loss for name, loss in terms.items()}
        return losses

    def learn(
        self, segmenter: nn.Module, fraction: float, target: ClipBatch, source: LabelledBatch, step: int
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Target scores and losses of one segmenter under its window."""
        styled = fourier_mix(source.frames.flatten(0, 1), target.frames.flatten(0, 1), fraction)
        frames = styled.view_as(source.frames)
        source = dataclasses.replace(source, frames=frames)
        losses = supervised(segmenter, source, self.setup.supervision)  # type: ignore[arg-type]
        scores: Tensor = segmenter(target.frames, target.flow, target.valid).scores.float()
        weight = self.settings.entropy_weight if step >= self.settings.entropy_from * self.first else 0.0
        return scores, losses | {"entropy": weight * robust_entropy(scores, self.settings.eta)}


METHOD = FDA
