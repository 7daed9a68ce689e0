"""Who labels target clips, current and previous frame, with class-wise confidence thresholds: a mean teacher, or the student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from methods.base import ClipBatch, ours, published
from methods.common.checks import in_range
from methods.common.ema import ema_update, frozen_copy
from stpl import RunningThresholds, Segmentation, VideoSegmenter
from stpl.pseudo_labels import IGNORE


@dataclass(frozen=True)
class TeacherSettings:
    """What self_training and stpl share; values without a unit."""

    ema_decay: float = published(0.999, "mean teacher, appendix B: decay after the ramp-up")
    drop: float = ours(0.5, "share of each predicted class left unlabelled, the least confident first")
    cap: float = published(0.9, "FDA, getSudoLabel_multi.py: a class threshold is never above this confidence")
    strength: float = ours(0.5, "of the strong view's photometric noise")
    max_zoom: float = ours(1.5, "of the strong view")
    label_noise: float = ours(0.0, "ablation: share of pseudo-labels that are replaced by a class drawn at random")

    LATER: ClassVar[Mapping[str, Any]] = {"label_noise": 0.0}

    def __post_init__(self) -> None:
        in_range("ema_decay", self.ema_decay, 0, 1)
        in_range("drop", self.drop, 0, 0.99)
        in_range("cap", self.cap, 0, 1)
        in_range("strength", self.strength, 0, 1.5)
        in_range("max_zoom", self.max_zoom, 1, 4)
        in_range("label_noise", self.label_noise, 0, 1)


class TeacherLabels(NamedTuple):
    """Pseudo-labels ``(N, h, w)`` at score resolution, 255 = not confident, of frame t, and the pass that they are of."""

    current: Tensor
    out: Segmentation


def noisy(labels: Tensor, share: float, num_classes: int, generator: torch.Generator) -> Tensor:
    """Labels of which a share is replaced by classes drawn at random, all K alike (so a K-th of them stays right).

    Args:
        labels: integer ``(N, h, w)``; 255 stays.
        share: 0..1; at 0 nothing is drawn.
    """
    if share == 0:
        return labels
    replaced = torch.rand(labels.shape, generator=generator).to(labels.device, non_blocking=True) < share
    drawn = torch.randint(num_classes, labels.shape, generator=generator).to(labels, non_blocking=True)
    return torch.where(replaced & (labels != IGNORE), drawn, labels)


class Teacher(nn.Module):
    """Average of the student over steps, in train mode (each batch's own batch-norm statistics); or thresholds alone, with
    which the student labels its own weak view.

    Args:
        student: the segmenter it follows.
        num_classes: K.
        drop: share of each predicted class that gets no label, the least confident first.
        cap: no class threshold is above this confidence.
        average: False keeps no average.

    Attributes:
        segmenter: the average, None without one.
    """

    segmenter: VideoSegmenter | None

    def __init__(
        self, student: VideoSegmenter, num_classes: int, drop: float, cap: float, average: bool = True
    ) -> None:
        super().__init__()
        self.segmenter = frozen_copy(student) if average else None
        self.thresholds = RunningThresholds(num_classes, drop, cap)

    def labeller(self, student: VideoSegmenter | None) -> VideoSegmenter:
        """Who labels: the average, or the student where there is none."""
        segmenter = self.segmenter or student
        assert segmenter is not None, "without an average the student labels: give it"
        return segmenter

    def restart(self, student: VideoSegmenter) -> None:
        """Become a copy of the student as it is now."""
        if self.segmenter is not None:
            self.segmenter.load_state_dict(student.state_dict())

    @torch.no_grad()
    def label(
        self, clips: ClipBatch, noise: float, generator: torch.Generator, student: VideoSegmenter | None = None
    ) -> TeacherLabels:
        """Label a batch of weakly augmented clips; the thresholds follow the current frame's confidences.

        Args:
            noise: share of labels replaced at random, see :func:`noisy`.
            student: labels where there is no average.
        """
        out: Segmentation = self.labeller(student)(clips.frames, clips.flow, clips.valid)
        probabilities = out.scores.float().softmax(1)
        labels, _ = self.thresholds.update_and_label(probabilities)
        return TeacherLabels(noisy(labels, noise, probabilities.shape[1], generator), out)

    @torch.no_grad()
    def label_previous(
        self,
        clips: ClipBatch,
        out: Segmentation,
        noise: float,
        generator: torch.Generator,
        student: VideoSegmenter | None = None,
    ) -> Tensor:
        """Labels ``(N, h, w)`` of frame t-1 in the pass ``out`` of :meth:`label`, by the thresholds as they are."""
        segmenter = self.labeller(student)
        scores = segmenter.classify(segmenter.fuse_at(out.encoded, clips.flow, clips.valid, -2))
        labels, _ = self.thresholds(scores.float().softmax(1))
        return noisy(labels, noise, scores.shape[1], generator)

    def follow(self, student: VideoSegmenter, decay: float) -> None:
        """Move towards the student."""
        if self.segmenter is not None:
            ema_update(self.segmenter, student, decay)
