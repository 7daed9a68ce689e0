"""A method of one weight whose steps can be worked out by hand, for tests of the training loop."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from bench.runs.config import Adaptation
from methods.base import Card, ClipBatch, LabelledBatch, Method, NoSettings, Setup

CPU = torch.device("cpu")


def schedule(**changes: Any) -> Adaptation:
    values: dict[str, Any] = {
        "steps": 7, "batch": 2, "lr": 0.1, "head_multiplier": 10.0, "momentum": 0.9, "weight_decay": 0.01, "power": 0.9,
        "clip_norm": 10.0, "precision": "float32", "batch_norm": "target", "snapshots": 3, "statistics_clips": 4,
    }  # fmt: skip
    return Adaptation(**{**values, **changes})


class Line(nn.Module):
    """One weight; looks like a segmenter to the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))

    def parameter_groups(self, lr: float, head_multiplier: float) -> list[dict[str, Any]]:
        return [{"params": [self.weight], "lr": lr}]


class Toy(Method):
    """``sum(w^2) / 2 + w . mean(frames)``, whose gradient is ``w + mean(frames)``."""

    card = Card("toy", "Toy", "-", "-", None, "", "-", "SFDA")
    fault: Callable[[int, dict[str, Tensor]], dict[str, Tensor]] | None = None

    def __init__(self) -> None:
        super().__init__(Line(), NoSettings(), Setup(2, 7, 0))  # type: ignore[arg-type]
        self.register_buffer("steps_seen", torch.tensor(0))

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        w = self.segmenter.weight
        losses = {"square": w.square().sum() / 2, "pull": (w * target.frames.mean()).sum()}  # type: ignore[operator]
        return self.fault(step, losses) if self.fault else losses

    def after_step(self, step: int) -> None:
        self.steps_seen += 1  # type: ignore[operator]


def batch(step: int) -> ClipBatch:
    frames = torch.full((2, 2, 3, 4, 4), float(step % 3))
    flow, valid = torch.zeros(2, 1, 2, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.bool)
    return ClipBatch(frames, flow, valid, (f"first-{step}", f"second-{step}"))


def by_hand(steps: int, total: int, clip: float | None = 10.0) -> list[float]:
    """SGD with momentum and weight decay under a polynomial schedule, written out."""
    w, velocity = [2.0, -1.0], [0.0, 0.0]
    for step in range(steps):
        gradient = [x + step % 3 for x in w]
        norm = math.hypot(*gradient)
        if clip is not None and norm > clip:
            gradient = [g * clip / norm for g in gradient]
        for i in range(2):
            velocity[i] = 0.9 * velocity[i] + gradient[i] + 0.01 * w[i]
            w[i] -= 0.1 * (1 - step / total) ** 0.9 * velocity[i]
    return w
