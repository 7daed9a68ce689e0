"""What evaluation and pseudo-labels do to whole pictures, against plain formulations of the same; CPU time of one thread."""

from __future__ import annotations

from multiprocessing import get_context
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bench.data.ministreet import render_clip
from bench.runs.metrics import confusion_matrix
from bench.runs.upsampling import best_labels
from stpl.pseudo_labels import class_quantiles
from tests.benchmarks.measuring import fastest, measured
from tests.threads import one_thread  # noqa: F401

CLASSES, SIZE = 15, (1024, 2048)


def truth() -> Tensor:
    return torch.randint(0, CLASSES, SIZE, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


@pytest.mark.parametrize("stride", [16, 8])
def test_evaluation_at_full_size(stride: int, benchmark: Any) -> None:
    """Noise, the hardest there is: nearly every pixel has another class than its neighbours' scores."""
    shape = (1, CLASSES, SIZE[0] // stride + 1, SIZE[1] // stride + 1)
    scores, label = torch.randn(shape, generator=torch.Generator().manual_seed(0)), truth()

    def plain() -> Tensor:
        guess = F.interpolate(scores, SIZE, mode="bilinear", align_corners=True).argmax(1)[0]
        return torch.bincount((label.long() * CLASSES + guess).flatten(), minlength=CLASSES**2)

    def ours() -> Tensor:
        return confusion_matrix(label, best_labels(scores, SIZE, True)[0], CLASSES)

    assert torch.equal(plain().view(CLASSES, CLASSES), ours())
    slow, fast = fastest([plain, ours])
    title = f"evaluation of scores {shape[2]}×{shape[3]} at 1024×2048, 15 classes"
    measured(benchmark, title, "interpolate, argmax, bincount", slow / fast, least=3)
    assert slow / fast >= 3


def test_confusion_matrix(benchmark: Any) -> None:
    metric = pytest.importorskip("torchmetrics.functional.classification", reason="takes the extra [bench]")
    label, guess = truth(), truth().roll(1).long()
    label[:20] = 255

    def theirs() -> Tensor:
        return metric.multiclass_confusion_matrix(guess, label.long(), CLASSES, ignore_index=255)

    assert torch.equal(theirs(), confusion_matrix(label, guess, CLASSES))
    slow, fast = fastest([theirs, lambda: confusion_matrix(label, guess, CLASSES)])
    measured(benchmark, "confusion matrix of 1024×2048 pixels", "torchmetrics", slow / fast, least=1)
    assert slow / fast >= 1


def thresholds_against_lists() -> float:
    """How many times as fast as every class's confidences in a sorted list of their own, as in CBST's published code, in four
    frames of 512x1024."""
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.randn(4, CLASSES, 16, 32, generator=g), (512, 1024), mode="bilinear")
    confidence, label = (4 * smooth + 0.3 * torch.randn(smooth.shape, generator=g)).softmax(1).max(1)

    def lists() -> list[float]:
        per_class = [confidence[label == k].tolist() for k in range(CLASSES)]
        return [sorted(values)[min(round(0.66 * len(values)), len(values) - 1)] for values in per_class]

    def ours() -> Tensor:
        return class_quantiles(confidence, label, CLASSES, 0.66)[0]

    assert ours().tolist() == lists()
    slow, fast = fastest([lists, ours], 3)
    return slow / fast


def test_class_thresholds(benchmark: Any) -> None:
    """In a process of its own, as in a run, whatever heap other tests leave."""
    with get_context("spawn").Pool(1) as pool:
        ratio = pool.apply(thresholds_against_lists)
    measured(benchmark, "class thresholds of four frames 512×1024", "a sorted list per class", ratio, least=20)
    assert ratio >= 20


@pytest.mark.parametrize("domain", ["sim", "cam"])
def test_rendering(domain: str, benchmark: Any) -> None:
    """Clips per second are the processor's. Against a gigabyte of float32 that is multiplied by itself."""
    numbers = torch.rand(2**24)

    def clips() -> None:
        for index in range(4):
            render_clip(domain, 970_001, index)

    slow, fast = fastest([clips, lambda: [torch.mul(numbers, numbers, out=numbers) for _ in range(16)]], 4)
    benchmark.extra_info["clips_per_second"] = 4 / slow
    title = f"a clip of {domain}, two frames 128×256 ({4 / slow:.0f} clips per second of CPU)"
    measured(benchmark, title, "a gigabyte of float32 squared in place", slow / 4 / fast, most=0.7)
    assert slow / 4 / fast <= 0.7  # 0.42 to 0.53 were measured on two shared AVX2 cores
