"""A mean teacher that labels target clips: current and previous frame, class-wise confidence thresholds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from methods.base import ClipBatch
from methods.common.checks import in_range
from methods.common.ema import ema_update, frozen_copy
from stpl import RunningThresholds, Segmentation, VideoSegmenter


@dataclass(frozen=True)
class TeacherSettings:
    """What self_training and stpl share; values without a unit, "ours" where a comment says nothing else.

    Either method searches these within its own budget on ministreet-dev (RULES.md), and has its own defaults.
    """

    LATER: ClassVar[tuple[str, ...]] = ("noise",)  # no part of a run's hash where it has its default

    ema_decay: float = 0.99  # ours; 0 = no teacher, the student labels itself
    drop: float = 0.5  # ours: share of each predicted class left unlabelled, the least confident first
    cap: float = 0.9  # FDA: a class threshold is never above this confidence
    strength: float = 0.5  # ours: of the strong view's photometric noise
    max_zoom: float = 1.5  # ours: of the strong view
    noise: float = 0.0  # ablation: share of the pseudo-labels that a random other class replaces

    def __post_init__(self) -> None:
        in_range("ema_decay", self.ema_decay, 0, 1)
        in_range("drop", self.drop, 0, 0.99)
        in_range("cap", self.cap, 0, 1)
        in_range("strength", self.strength, 0, 1.5)
        in_range("max_zoom", self.max_zoom, 1, 4)
        in_range("noise", self.noise, 0, 1)


def replaced(labels: Tensor, share: float, num_classes: int, generator: torch.Generator) -> Tensor:
    """Labels of which each is, with probability ``share``, another class drawn at random; 255 stays 255."""
    device = generator.device
    hit = (torch.rand(labels.shape, generator=generator, device=device) < share).to(labels.device)
    by = torch.randint(1, num_classes, labels.shape, generator=generator, device=device).to(labels.device)
    return torch.where(hit & (labels != 255), (labels + by) % num_classes, labels)


class TeacherLabels(NamedTuple):
    """Pseudo-labels ``(N, h, w)`` at score resolution, 255 = not confident, of frame t and of frame t-1, and the pass itself."""

    current: Tensor
    previous: Tensor
    out: Segmentation


class Teacher(nn.Module):
    """Average of the student over steps, in train mode (each batch's own batch-norm statistics).

    Args:
        student: the segmenter it follows.
        num_classes: K.
        drop: share of each predicted class that gets no label, the least confident first.
        cap: no class threshold is above this confidence.
        noise: share of the labels that a random other class replaces.
    """

    def __init__(self, student: VideoSegmenter, num_classes: int, drop: float, cap: float, noise: float = 0.0) -> None:
        super().__init__()
        self.num_classes, self.noise = num_classes, noise
        self.segmenter = frozen_copy(student)
        self.thresholds = RunningThresholds(num_classes, drop, cap)

    def restart(self, student: VideoSegmenter) -> None:
        """Become a copy of the student as it is now."""
        self.segmenter.load_state_dict(student.state_dict())

    @torch.no_grad()
    def label(self, clips: ClipBatch, generator: torch.Generator) -> TeacherLabels:
        """Label a batch of weakly augmented clips; the thresholds follow the current frame's confidences.

        Args:
            generator: for the noise.
        """
        out: Segmentation = self.segmenter(clips.frames, clips.flow, clips.valid)
        now = out.scores.float().softmax(1)
        before = self.segmenter.classify(self.segmenter.fuse_alone(out.encoded[-2])).float().softmax(1)
        self.thresholds.update(now)
        current, previous = self.thresholds(now)[0], self.thresholds(before)[0]
        if self.noise:
            current = replaced(current, self.noise, self.num_classes, generator)
            previous = replaced(previous, self.noise, self.num_classes, generator)
        return TeacherLabels(current, previous, out)

    def follow(self, student: VideoSegmenter, decay: float) -> None:
        """Move towards the student."""
        ema_update(self.segmenter, student, decay)
