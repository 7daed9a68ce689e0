"""mic: learn on target clips with source classes pasted in, and recognise target clips of which most blocks are hidden.

Hoyer, Dai, Wang, Van Gool, "MIC: Masked Image Consistency for Context-Enhanced Domain Adaptation", CVPR 2023. UDA, image.

A teacher, the average of the student, labels every target pixel; q is the share of a clip's pixels above ``threshold``. ``L =
CE(s_S, y_S) + CE(s(mixed), y_mixed) + masked_weight * q CE(s(masked x_T), y_T)``. Mixed (DACS): half of the classes of a source
image are pasted into the target clip, whose own pixels count q. Masked: seven tenths of the blocks of a clip are hidden, so that
a class must be told from what is around it. (``methods.common.masking``, ``methods.common.class_mix``.)

Two frames: one mask for both, of the label of t in the mix, of the same blocks in the masked clip; flow and validity are mixed
by the same mask, and what was pasted over is no past (``mix_clips``).

Differs from the published code: classes are drawn among those of the image itself, without 255 (there of the whole batch, 255
included). q is each clip's own, as in the paper (there the batch's). Photometric noise is this suite's. Source clips are brought
to the target's size (there equal crops); no random crops, no sampling of rare classes, no distance to ImageNet's features (parts
of DAFormer and HRDA, its hosts there). Source supervision, and the start from the source model, are this suite's. The ramp of
the teacher's decay is the published one.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    published,
    trial,
    tuned_on,
)
from methods.common.augment import photometric
from methods.common.checks import in_range
from methods.common.class_mix import at_size, class_mask, draw_classes, mix_clips, mix_labels
from methods.common.ema import ema_update, frozen_copy
from methods.common.losses import supervised, upsampled_cross_entropy
from methods.common.masking import DenseLabels, MaskedSettings, dense_labels, masked_consistency, ramped_decay
from stpl import VideoSegmenter


@dataclass(frozen=True)
class MICSettings(MaskedSettings):
    """Masking and teacher as in mic_sf, plus the mix."""

    mixed_weight: float = published(1.0, "published code: of the cross entropy on mixed clips")

    def __post_init__(self) -> None:
        super().__post_init__()
        in_range("mixed_weight", self.mixed_weight, 0, 100)


CHOSEN = trial(2, mixed_weight=2.91, masked_weight=0.191, hidden=0.563, threshold=0.8, ema_decay=0.9)
"""By both searches, which had the same trials: these are drawn from the method's name."""


class MIC(Method):
    """Class mix and masked consistency."""

    card = Card(
        key="mic",
        title="MIC",
        authors="Hoyer, Dai, Wang, Van Gool",
        venue="CVPR 2023",
        year=2023,
        url="https://arxiv.org/abs/2212.01322",
        design="image",
        setting="UDA",
    )
    Settings = MICSettings
    SEARCH: ClassVar[SearchSpace] = {
        "mixed_weight": LogUniform(0.1, 3.0),
        "masked_weight": LogUniform(0.1, 3.0),
        "hidden": Uniform(0.3, 0.8),
        "threshold": Choice((0.8, 0.9, 0.968)),
        "ema_decay": Choice((0.9, 0.97, 0.99, 0.999)),
    }
    TUNED = tuned_on("ministreet-dev", CHOSEN) | tuned_on("ministreet2-dev", CHOSEN)
    averages = "teacher"
    settings: MICSettings

    def __init__(self, segmenter: VideoSegmenter, settings: MICSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.teacher = frozen_copy(segmenter)

    def restart(self) -> None:
        self.teacher.load_state_dict(self.segmenter.state_dict())

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        assert source is not None, "mic needs source clips"
        s = self.settings
        losses = supervised(self.segmenter, source, self.setup.supervision)
        labels = dense_labels(self.teacher, target, s.threshold)
        clips, label, weight = self.mix(source, target, labels, step)
        frames = photometric(clips.frames, s.strength, self.generator(step, "mixed view"))
        scores = self.segmenter(frames, clips.flow, clips.valid).scores
        losses["mixed"] = s.mixed_weight * upsampled_cross_entropy(scores, label, weight)
        generator = self.generator(step, "masked view")
        losses["masked"] = masked_consistency(self.segmenter, target, labels, s, generator)
        return losses

    def mix(
        self, source: LabelledBatch, target: ClipBatch, labels: DenseLabels, step: int
    ) -> tuple[ClipBatch, Tensor, Tensor]:
        """Mixed clips, their labels and the weight of each pixel, ``(N, H, W)``: 1 on source pixels, q on the target's."""
        source = at_size(source, (target.frames.shape[-2], target.frames.shape[-1]))
        generator = self.generator(step, "mixed classes")
        half = draw_classes(source.label, self.setup.num_classes, lambda n: (n + 1) // 2, generator)
        mask = class_mask(source.label, half)
        clips = mix_clips(source, target, mask[:, None].expand(-1, target.frames.shape[1], -1, -1))
        weight = torch.where(mask, 1.0, labels.weight[:, None, None])
        return clips, mix_labels(source.label, labels.label, mask), weight

    def after_step(self, step: int) -> None:
        ema_update(self.teacher, self.segmenter, ramped_decay(step, self.settings.ema_decay))

    def evaluated(self, readout: str) -> VideoSegmenter:
        return self.teacher if readout == "teacher" else self.segmenter


METHOD = MIC
