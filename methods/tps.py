"""tps: an earlier frame's prediction, moved along the flow, teaches the strongly augmented current one.

Xing, Guan, Huang, Lu, "Domain Adaptive Video Segmentation via Temporal Pseudo Supervision", ECCV 2022. UDA, video.

``L = CE(s_S, y_S) + 0.1 CE(aux) + weight * CE(s(strong(x_t, x_{t-1})), argmax warp(sg p_earlier, o))``, the last term from
``methods.common.supervision``; source frames take the histogram of the target's current frame first. Strong: blur, colour
jitter, grey, rescaling by 0.8 to 1.2.

Differs from the published code: the strong view acts on real pictures (there on an inverted, wrapped 8-bit one). A mirrored
earlier clip is warped along a flow that is mirrored too, sign included. With two frames per clip the earlier clip is frame t-1
alone. Starts from the source model. Sigma of the blur is drawn from the whole range (there: 5, 7 or 9), after the colours (there
before). Hue is turned about the grey axis instead of in HSV.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from methods.base import (
    Card,
    Choice,
    ClipBatch,
    LabelledBatch,
    LogUniform,
    Method,
    SearchSpace,
    Uniform,
    by_hand,
    published,
    trial,
    tuned_on,
)
from methods.common.checks import in_range
from methods.common.histogram import match_histograms
from methods.common.losses import supervised
from methods.common.supervision import StrongViewSettings, temporal_pseudo_supervision


@dataclass(frozen=True)
class TPSSettings(StrongViewSettings):
    """The strong view's, and the term's weight."""

    weight: float = published(0.1, "tps_viper2city.yml, tps_syn2city.yml: LAMBDA_T", synthia_seq=1.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("weight", self.weight, 0, 100)


class TPS(Method):
    """Source supervision in target colours and temporal pseudo-supervision."""

    card = Card(
        key="tps",
        title="TPS",
        authors="Xing, Guan, Huang, Lu",
        venue="ECCV 2022",
        year=2022,
        url="https://arxiv.org/abs/2207.02372",
        design="video",
        setting="UDA",
    )
    Settings = TPSSettings
    SEARCH: ClassVar[SearchSpace] = {
        "weight": LogUniform(0.05, 2.0),
        "jitter": Uniform(0.2, 0.9),
        "blur_probability": Choice((0.0, 0.5)),
    }
    TUNED = tuned_on(
        "ministreet-dev",
        trial(2, weight=0.386, jitter=0.712, blur_probability=0.5),
        by_hand("a quarter, as the frames are", blur=2.25),
    ) | tuned_on(
        "ministreet2-dev",
        trial(2, blur_probability=0.5, jitter=0.712, weight=0.386),
        by_hand("three sixteenths, as the frames are", blur=1.6875),
    )
    PAPER_HAS: ClassVar[Mapping[str, str]] = {"fusion": "accel_warp"}
    settings: TPSSettings

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert source is not None, "tps needs source clips"
        t = source.frames.shape[1]
        current = target.frames[:, -1:].expand(-1, t, -1, -1, -1).flatten(0, 1)
        matched = match_histograms(255 * source.frames.flatten(0, 1), 255 * current) / 255
        source = dataclasses.replace(source, frames=matched.view_as(source.frames))
        losses = supervised(self.segmenter, source, self.setup.supervision)
        generator = self.generator(step, "strong view")
        terms = temporal_pseudo_supervision(self.segmenter, target, self.settings, generator)
        return losses | {name: self.settings.weight * loss for name, loss in terms.items()}


METHOD = TPS
