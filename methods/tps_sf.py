"""tps_sf: the source-free variant of tps: temporal pseudo-supervision on the target alone.

Xing, Guan, Huang, Lu, "Domain Adaptive Video Segmentation via Temporal Pseudo Supervision", ECCV 2022; the source-free variant is
the STPL paper's (CVPR 2023), where it collapses to 27.8, below source-only. Source-free, video.

``L = CE(s(strong(x_t, x_{t-1})), argmax warp(sg p_earlier, o))`` (``methods.common.supervision``), from the source model. There is
no threshold and no teacher, and none is added here.

Differs from the published code: there is none of this variant; otherwise as tps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from methods.base import (
    Card,
    Choice,
    ClipBatch,
    LabelledBatch,
    Method,
    SearchSpace,
    Uniform,
    by_hand,
    trial,
    tuned_on,
)
from methods.common.supervision import StrongViewSettings, temporal_pseudo_supervision


@dataclass(frozen=True)
class TPSSFSettings(StrongViewSettings):
    """The strong view's."""


class TPSSF(Method):
    """Temporal pseudo-supervision."""

    card = Card(
        key="tps_sf",
        title="TPS (source-free)",
        authors="Xing, Guan, Huang, Lu",
        venue="ECCV 2022",
        year=2022,
        url="https://arxiv.org/abs/2207.02372",
        design="video",
        setting="SFDA",
    )
    Settings = TPSSFSettings
    SEARCH: ClassVar[SearchSpace] = {"jitter": Uniform(0.2, 0.9), "blur_probability": Choice((0.0, 0.5))}
    TUNED = tuned_on(
        "ministreet-dev",
        trial(3, jitter=0.596, blur_probability=0.0),
        by_hand("a quarter, as the frames are", blur=2.25),
    ) | tuned_on(
        "ministreet2-dev",
        trial(4, blur_probability=0.5, jitter=0.243),
        by_hand("three sixteenths, as the frames are", blur=1.6875),
    )
    PAPER_HAS: ClassVar[Mapping[str, str]] = {"fusion": "accel_warp"}
    settings: TPSSFSettings

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        generator = self.generator(step, "strong view")
        return temporal_pseudo_supervision(self.segmenter, target, self.settings, generator)


METHOD = TPSSF
