"""Contrast against peers' formulations of it, forward and backward, one thread, CPU time; values are compared first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stpl.contrast import pixel_contrast
from tests.benchmarks.measuring import fastest, measured
from tests.threads import one_thread  # noqa: F401

TEMPERATURE = 0.1


def pixels(count: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(count, 128, generator=g), dim=1).requires_grad_(), torch.arange(count) % 15


def square(z: Tensor, label: Tensor) -> Tensor:
    """Equation 5 of the paper with every N x N matrix written out, as ContrastiveSeg's published code does."""
    scores = (z @ z.T) / TEMPERATURE
    same = label[:, None] == label
    positive = same & ~torch.eye(len(z), dtype=torch.bool)
    negative = (scores.exp() * ~same).sum(1, keepdim=True)
    log_ratio = (scores - (scores.exp() + negative).log()) * positive
    return -(log_ratio.sum(1) / positive.sum(1)).mean()


def compared(theirs: Callable[[Tensor, Tensor], Tensor], denominator: Any, count: int) -> float:
    """Their time over ours, forward and backward."""
    z, label = pixels(count)

    def ours(z: Tensor, label: Tensor) -> Tensor:
        return pixel_contrast(z, label, temperature=TEMPERATURE, denominator=denominator)

    torch.testing.assert_close(theirs(z, label), ours(z, label), rtol=1e-4, atol=1e-4)
    slow, fast = fastest([lambda: theirs(z, label).backward(), lambda: ours(z, label).backward()], 3)
    return slow / fast


def test_the_square_of_pixels(benchmark: Any) -> None:
    ratio = compared(square, "pair", 4096)
    measured(benchmark, "contrast of 4,096 pixels, 128-d", "the N × N formulation", ratio, least=1.5)
    assert ratio >= 1.5


def test_supcon(benchmark: Any) -> None:
    losses = pytest.importorskip("pytorch_metric_learning.losses", reason="takes the extra [bench]")
    ratio = compared(losses.SupConLoss(temperature=TEMPERATURE), "supcon", 2048)
    measured(benchmark, "SupCon of 2,048 pixels, 128-d", "pytorch-metric-learning", ratio, least=1.5)
    assert ratio >= 1.5
