"""rda: align the uncertainty of both domains, and withstand an attack on the frequencies of the target.

Huang, Guan, Xiao, Lu, "RDA: Robust Domain Adaptation via Fourier Adversarial Attacking", ICCV 2021. UDA, image.

``L = CE(s_S, y_S) + 0.1 CE(aux) + adversarial_weight * fool(self-information of p_T)`` (AdvEnt)
``+ consistency_weight * mean |p(attacked x_T) - sg p(x_T)| + attack_weight * (- mean |change of amplitude in bands 2..15|)``.
The attack: of 32 frequency bands x 3 channels a gate picks a tenth, whose amplitude comes from another target image; the attacked
clip is rescaled by 0.8 to 1.19. By gradient reversal the gate is trained against the sum of the last two terms: to raise the
consistency term, and to spare bands 2..15, which carry shapes and outlines. (``methods.common.bands``,
``methods.common.adversarial``.)

Differs from the published code: the reference is a different target clip, the next one of the batch (there it is the image itself,
so nothing is swapped; a batch of one takes the source clip). The gate gets a gradient, by a straight-through choice (there none
arrives); it is one linear layer on the components' log energies, at the heads' rate (there two convolutions with Gumbel noise, at
1e-6). Frequencies in no band (odd sizes) are kept. Consistency is asked of the main head, and alignment of the main head on the
plain clip, alone. Starts from the source model; the gradient is clipped at the shift's norm.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
from methods.common.adversarial import Adversary, judged
from methods.common.bands import BANDS, attack_term, band_energy, reverse_gradient, swap_bands, top_components
from methods.common.checks import in_range
from methods.common.information import self_information
from methods.common.losses import supervised_terms
from methods.common.supervision import rescale
from methods.common.temporal import rescaled
from stpl import VideoSegmenter

COMPONENTS = 3 * BANDS


@dataclass(frozen=True)
class RDASettings:
    """Values without a unit."""

    adversarial_weight: float = published(0.001, "config.py: LAMBDA_ADV_MAIN")
    consistency_weight: float = published(1.0, "RDA.yml: LAMBDA_SVMIN")
    attack_weight: float = published(0.0002, "config.py: LAMBDA_FAA_AUX")
    attacked_share: float = published(0.1, "train_UDA.py: portion, of the 96 components")
    low: int = published(80, "config.py: SCALING_RATIO, smallest scale of the attacked clip, percent")
    high: int = published(119, "config.py: SCALING_RATIO, largest scale, percent")
    discriminator_lr: float = published(1e-4, "config.py: LEARNING_RATE_D")
    width: int = published(64, "ADVENT, discriminator.py: ndf")
    judged_stride: int = published(1, "train_UDA.py: maps are brought to the image's size, over this")

    def __post_init__(self) -> None:
        in_range("adversarial_weight", self.adversarial_weight, 0, 100)
        in_range("consistency_weight", self.consistency_weight, 0, 1000)
        in_range("attack_weight", self.attack_weight, 0, 100)
        in_range("attacked_share", self.attacked_share, 0.02, 1)
        in_range("low", self.low, 25, 400)
        in_range("high", self.high, self.low, 400)
        in_range("discriminator_lr", self.discriminator_lr, 0, 1)
        in_range("width", self.width, 1, 512)
        in_range("judged_stride", self.judged_stride, 1, 8)


class RDA(Method):
    """Entropy alignment and consistency under a learned attack on the spectrum."""

    card = Card(
        key="rda",
        title="RDA",
        authors="Huang, Guan, Xiao, Lu",
        venue="ICCV 2021",
        year=2021,
        url="https://arxiv.org/abs/2106.02874",
        design="image",
        setting="UDA",
    )
    Settings = RDASettings
    SEARCH: ClassVar[SearchSpace] = {
        "adversarial_weight": LogUniform(0.0005, 0.1),
        "consistency_weight": LogUniform(0.1, 30.0),
        "discriminator_lr": LogUniform(3e-5, 1e-3),
    }
    TUNED = tuned_on(
        "ministreet-dev",
        trial(2, adversarial_weight=0.0526, consistency_weight=3.01, discriminator_lr=4.44e-4),
        by_hand("for a network of 0.6 M parameters", width=16, judged_stride=2),
    ) | tuned_on(
        "ministreet2-dev",
        trial(3, adversarial_weight=0.0772, consistency_weight=4.38, discriminator_lr=0.000558),
        by_hand("for a network of 0.6 M parameters", width=16, judged_stride=2),
    )
    settings: RDASettings

    def __init__(self, segmenter: VideoSegmenter, settings: RDASettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.adversary = Adversary(setup.num_classes, settings.width, settings.discriminator_lr)
        self.gate = nn.Linear(COMPONENTS, COMPONENTS)

    @classmethod
    def revision(cls, settings: RDASettings) -> int:
        return 2  # 1 gave what rounding leaves of a spectrum the reference's amplitude under a phase of noise

    def optimisers(self) -> Mapping[str, torch.optim.Optimizer]:
        return {"discriminator": self.adversary.optimiser}

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert source is not None, "rda needs source clips"
        s = self.settings
        of_source = self.segmenter(source.frames, source.flow, source.valid)
        losses = supervised_terms(of_source, source.label, self.setup.supervision)
        plain = self.segmenter(target.frames, target.flow, target.valid).scores.float()
        size = (target.frames.shape[-2], target.frames.shape[-1])
        maps = self_information(judged(plain, size, s.judged_stride))
        of_source_maps = self_information(judged(of_source.scores.detach(), size, s.judged_stride))
        self.adversary.watch(of_source_maps, maps, self.part)
        losses["adversarial"] = s.adversarial_weight * self.adversary.fool(maps)

        attacked, moved = self.attack(target, source)
        generator = self.generator(step, "strong view")
        attacked = rescale(attacked, int(torch.randint(s.low, s.high + 1, (1,), generator=generator)))
        scores = self.segmenter(attacked.frames, attacked.flow, attacked.valid).scores
        probabilities = rescaled(scores, (plain.shape[-2], plain.shape[-1])).softmax(1)
        losses["consistency"] = s.consistency_weight * (probabilities - plain.detach().softmax(1)).abs().mean()
        losses["attack"] = s.attack_weight * attack_term(moved)
        return losses

    def attack(self, target: ClipBatch, source: ClipBatch) -> tuple[ClipBatch, Tensor]:
        """The attacked clips, and how far each component's amplitude moved in grey levels (0..255)."""
        n, t = target.frames.shape[:2]
        reference = source.frames if n == 1 else target.frames.roll(-1, 0)
        frames, reference = 255 * target.frames.flatten(0, 1), 255 * reference.flatten(0, 1)
        energy = band_energy(frames[t - 1 :: t]).flatten(1)
        count = max(1, int(self.settings.attacked_share * COMPONENTS))
        with torch.autocast(energy.device.type, enabled=False):
            chosen = top_components(self.gate((energy + 1).log10() - 6), count).view(n, BANDS, 3)
        shares = reverse_gradient(chosen).repeat_interleave(t, 0)  # all frames of a clip are attacked alike
        attacked, distance = swap_bands(frames, reference, shares)
        view = (attacked / 255).view_as(target.frames)
        return ClipBatch(view, target.flow, target.valid, target.keys), shares * distance

    def after_step(self, step: int) -> None:
        self.adversary.learn()


METHOD = RDA
