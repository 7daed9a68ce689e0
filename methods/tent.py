"""tent: minimise the entropy of the predictions by the scale and shift of batch norm, and by nothing else.

Wang, Shelhamer, Liu, Olshausen, Darrell, "Tent: Fully Test-Time Adaptation by Entropy Minimization", ICLR 2021. Source-free,
image.

Batch norm works with the target's statistics and its affine weights (under a hundredth of the network) are trained: ``L =
mean_pixels H(p)``, ``H(p) = - sum_c p_c ln p_c`` (§3.1). All other weights are frozen. So few weights, each moving a whole
channel, are what keeps entropy minimisation from collapsing (§3.2).

What batch norm's policy, which belongs to the shift (RULES.md), means here: on MiniStreet every method starts from target
statistics and is scored with them, so tent is adabn plus trained affine weights. The real shifts freeze the affine weights for
all methods, as published there; tent trains them, since nothing else of it would be left, and is scored with running statistics.

Differs from the published code: statistics are each test batch's own there, in the prediction that is scored too; here they are
the shift's. There one step per test batch, which is predicted on the way; here the protocol's steps, then the scoring. The
protocol's SGD with one rate for all affine weights and no weight decay; there Adam at 1e-3, without weight decay as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from methods.base import Card, ClipBatch, LabelledBatch, LogUniform, Method, SearchSpace, Setup, ours, trial, tuned_on
from methods.common.checks import in_range
from methods.common.soft_labels import soft_cross_entropy
from stpl import VideoSegmenter


@dataclass(frozen=True)
class TentSettings:
    """No unit."""

    rate: float = ours(1.0, "learning rate of the affine weights, times the shift's")

    def __post_init__(self) -> None:
        in_range("rate", self.rate, 0.0001, 10000)


CHOSEN = trial(4, rate=10.5)
"""By both searches, which had the same trials: these are drawn from the method's name."""


class Tent(Method):
    """Entropy, minimised by batch norm's affine weights."""

    card = Card(
        key="tent",
        title="Tent",
        authors="Wang, Shelhamer, Liu, Olshausen, Darrell",
        venue="ICLR 2021",
        year=2021,
        url="https://arxiv.org/abs/2006.10726",
        design="image",
        setting="SFDA",
    )
    Settings = TentSettings
    SEARCH: ClassVar[SearchSpace] = {"rate": LogUniform(0.1, 100.0)}
    TUNED = tuned_on("ministreet-dev", CHOSEN) | tuned_on("ministreet2-dev", CHOSEN)
    settings: TentSettings

    def __init__(self, segmenter: VideoSegmenter, settings: TentSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        segmenter.requires_grad_(False)
        norms = [m for m in segmenter.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.affine]
        if not norms:
            raise ValueError("tent trains batch norm's affine weights, and this network has none")
        for norm in norms:
            norm.requires_grad_(True)

    def parameter_groups(self, lr: float, head_multiplier: float) -> list[dict[str, Any]]:
        affine = [p for p in self.segmenter.parameters() if p.requires_grad]
        return [{"name": "affine", "params": affine, "lr": lr * self.settings.rate, "weight_decay": 0.0}]

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        scores = self.segmenter(target.frames, target.flow, target.valid).scores.float()
        return {"entropy": soft_cross_entropy(scores, scores.softmax(1))}


METHOD = Tent
