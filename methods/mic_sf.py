"""mic_sf: the source-free half of mic: recognise target clips of which most blocks are hidden.

Hoyer, Dai, Wang, Van Gool, "MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation", CVPR 2023; there one term
beside others that use source data. Source-free, image.

``L = masked_weight * q CE(s(masked x_T), y)``: a teacher, the average of the student, labels every pixel of the whole clip (y);
q is the share of its pixels above ``threshold``; the student sees the clip with seven tenths of its blocks hidden in both frames
and photometric noise (``methods.common.masking``).

Differs from the published code: there is none of this variant; otherwise as mic.
"""

from __future__ import annotations

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
    Setup,
    Uniform,
    trial,
    tuned_on,
)
from methods.common.ema import ema_update, frozen_copy
from methods.common.masking import MaskedSettings, dense_labels, masked_consistency, ramped_decay
from stpl import VideoSegmenter

CHOSEN = trial(3, masked_weight=0.366, hidden=0.384, threshold=0.9, ema_decay=0.99)
"""By both searches, which had the same trials: these are drawn from the method's name."""


class MICSF(Method):
    """Masked consistency alone."""

    card = Card(
        key="mic_sf",
        title="MIC (source-free)",
        authors="Hoyer, Dai, Wang, Van Gool",
        venue="CVPR 2023",
        year=2023,
        url="https://arxiv.org/abs/2212.01322",
        design="image",
        setting="SFDA",
    )
    Settings = MaskedSettings
    SEARCH: ClassVar[SearchSpace] = {
        "masked_weight": LogUniform(0.1, 3.0),
        "hidden": Uniform(0.3, 0.8),
        "threshold": Choice((0.8, 0.9, 0.968)),
        "ema_decay": Choice((0.9, 0.97, 0.99, 0.999)),
    }
    TUNED = tuned_on("ministreet-dev", CHOSEN) | tuned_on("ministreet2-dev", CHOSEN)
    averages = "teacher"
    settings: MaskedSettings

    def __init__(self, segmenter: VideoSegmenter, settings: MaskedSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.teacher = frozen_copy(segmenter)

    def restart(self) -> None:
        self.teacher.load_state_dict(self.segmenter.state_dict())

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        labels = dense_labels(self.teacher, target, self.settings.threshold)
        generator = self.generator(step, "masked view")
        return {"masked": masked_consistency(self.segmenter, target, labels, self.settings, generator)}

    def after_step(self, step: int) -> None:
        ema_update(self.teacher, self.segmenter, ramped_decay(step, self.settings.ema_decay))

    def evaluated(self, readout: str) -> VideoSegmenter:
        return self.teacher if readout == "teacher" else self.segmenter


METHOD = MICSF
