"""self_training: cross entropy on a teacher's confident pseudo-labels, and nothing else.

The mean teacher of Tarvainen & Valpola (NeurIPS 2017) for segmentation: an average of the student labels the weak view, the
student learns these labels on the strong view. It gets the same views, the same teacher, the same class-wise thresholds and
the same cross entropy as ``stpl``, so that the difference between the two is the contrast, and time in it.

Not in the paper's table; a floor that every SFDA method must beat.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from methods.base import (
    Card,
    Choice,
    ClipBatch,
    LabelledBatch,
    Method,
    SearchSpace,
    Setup,
    Uniform,
    trial,
    tuned_on,
)
from methods.common.augment import Geometry, strong_view
from methods.common.teacher import Teacher, TeacherSettings
from stpl import VideoSegmenter, pseudo_label_cross_entropy


class SelfTraining(Method):
    """Cross entropy of the strong view on the teacher's labels of the weak one."""

    card = Card(
        key="self_training",
        title="Self-training (mean teacher)",
        authors="Tarvainen, Valpola",
        venue="NeurIPS 2017",
        year=2017,
        url="https://arxiv.org/abs/1703.01780",
        design="image",
        setting="SFDA",
        floor=True,
    )
    Settings = TeacherSettings
    SEARCH: ClassVar[SearchSpace] = {
        "ema_decay": Choice((0.95, 0.99, 0.995)),
        "drop": Uniform(0.0, 0.8),
        "strength": Uniform(0.3, 1.2),
    }
    TUNED = tuned_on("ministreet-dev", trial(0, ema_decay=0.99, drop=0.5, strength=0.5)) | tuned_on(
        "ministreet2-dev",
        trial(1, drop=0.258, ema_decay=0.99, strength=0.674),
    )
    averages = "teacher"
    settings: TeacherSettings

    def __init__(self, segmenter: VideoSegmenter, settings: TeacherSettings, setup: Setup) -> None:
        super().__init__(segmenter, settings, setup)
        self.teacher = Teacher(segmenter, setup.num_classes, settings.drop, settings.cap)

    def restart(self) -> None:
        self.teacher.restart(self.segmenter)

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        weak = self.teacher.label(target, self.settings.label_noise, self.generator(step, "label noise"))
        generator = self.generator(step, "strong view")
        geometry = Geometry.draw(len(target.keys), self.settings.max_zoom, generator)
        view = strong_view(target, geometry, self.settings.strength, generator)
        strong = self.segmenter(view.frames, view.flow, view.valid)
        return {"ce": pseudo_label_cross_entropy(strong.scores.float(), geometry.labels(weak.current))}

    def after_step(self, step: int) -> None:
        self.teacher.follow(self.segmenter, self.settings.ema_decay)

    def evaluated(self, readout: str) -> VideoSegmenter:
        return self.teacher.labeller(self.segmenter) if readout == "teacher" else self.segmenter


METHOD = SelfTraining
