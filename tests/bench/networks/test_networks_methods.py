"""Every method on a narrow DeepLabv2: scores of 13x21 for frames of 96x160, odd frames, an auxiliary head or none, Accel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.models.resnet import Bottleneck

from bench.core.registry import method_names
from bench.networks._deeplab import DilatedResNet, deeplab
from bench.runs.config import load_shift, method_class, resolve_settings
from bench.runs.settings import settings_of
from bench.runs.training import Trainer
from methods.base import ClipBatch, LabelledBatch, Setup
from stpl import AccelScoreFusion, VideoSegmenter, build_fusion

CLASSES, STEPS = 5, 2
TRAINED = [name for name in method_names() if method_class(name).trains]


class Narrow(Bottleneck):
    expansion = 1


def segmenter_of(case: str) -> VideoSegmenter:
    torch.manual_seed(0)
    published = case == "published"
    encoder = DilatedResNet((1, 1, 1, 1), published=published, block=Narrow, width_per_group=8)
    parts = deeplab(encoder, CLASSES)
    fusion = build_fusion("conv1x1" if published else "none", encoder.channels)
    return VideoSegmenter(
        encoder,
        parts.classifier(fusion.out_channels),
        fusion,
        auxiliary_classifier=parts.auxiliary_classifier if published else None,
        score_fusion=None if published else AccelScoreFusion(CLASSES, propagate="warp"),
    )


def batch(step: int, size: tuple[int, int], labelled: bool) -> Any:
    g = torch.Generator().manual_seed(step)
    frames, flow = torch.rand(1, 2, 3, *size, generator=g), 4 * torch.randn(1, 1, 2, *size, generator=g)
    clip = frames, flow, torch.rand(1, 1, *size, generator=g) > 0.1, ("a clip",)
    if not labelled:
        return ClipBatch(*clip)
    previous_label, label = torch.randint(0, CLASSES, (2, 1, *size), generator=g)
    return LabelledBatch(*clip, label, previous_label[:, None])


@pytest.mark.parametrize(
    ("case", "size", "precision"), [("published", (96, 160), "bfloat16"), ("accel", (97, 161), "float32")]
)
@pytest.mark.parametrize("name", TRAINED)
def test_two_steps(name: str, case: str, size: tuple[int, int], precision: Any, tmp_path: Path) -> None:
    cls = method_class(name)
    torch.manual_seed(0)
    segmenter = segmenter_of(case)
    method = cls(segmenter, settings_of(name, resolve_settings(name, {})), Setup(CLASSES, STEPS, 0))
    method.restart()
    before = {n: p.detach().clone() for n, p in segmenter.named_parameters()}
    changes = {
        "steps": STEPS,
        "batch": 1,
        "lr": 2.5e-4,
        "head_multiplier": 10.0,
        "precision": precision,
        "snapshots": 1,
    }
    schedule = load_shift("ministreet-tiny").adaptation.model_copy(update=changes)
    setting = cls.card.setting
    trainer = Trainer(method, schedule, tmp_path, torch.device("cpu"))
    trainer.fit(  # a loss or gradient that is not finite would be an error
        lambda step: batch(step, size, setting == "oracle"),
        (lambda step: batch(step + 10, size, True)) if setting == "UDA" else None,
        everything=[batch(20, size, False)],
    )
    moved = {n for n, p in segmenter.named_parameters() if not torch.equal(p, before[n])}
    frozen = {
        f"{n}.{kind}"
        for n, m in segmenter.named_modules()
        if isinstance(m, nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    if name == "tent":  # trains what is frozen for all others, and nothing else
        assert moved and moved <= frozen
    else:
        assert "encoder.conv1.weight" in moved and not moved & frozen
    clip = batch(30, size, False)
    with torch.no_grad():
        scores = method.evaluated("student").eval()(clip.frames, clip.flow, clip.valid).scores
    assert scores.shape == (1, CLASSES, 13, 21) and bool(scores.isfinite().all())
