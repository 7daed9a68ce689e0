"""Scores without labels: each against doing it by hand, and models that are perfect at one of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bench.data.clip import Clip
from bench.data.loaders import ClipLoader
from bench.networks.build import build_segmenter
from bench.runs.evaluate import target_score
from bench.runs.scorers import SAMPLES, SCORERS, sampled, scores_without_labels
from methods.common.density import soft_neighbourhood_density
from stpl.segmenter import VideoSegmenter
from stpl.warp import resize_flow, resize_mask

CPU = torch.device("cpu")


class Store:
    """Clips of noise with flow of whole pixels."""

    carries_flow = True

    def __init__(self, clips: int = 5, size: tuple[int, int] = (32, 64)) -> None:
        rng = np.random.default_rng(0)
        self.clips = [
            Clip(
                rng.integers(0, 256, (2, 3, *size), dtype=np.uint8),
                rng.integers(-4, 5, (1, 2, *size)).astype(np.float32),
                rng.random((1, *size)) > 0.2,
                f"clip {i}",
            )
            for i in range(clips)
        ]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> Clip:
        return self.clips[index]

    def key(self, index: int) -> str:
        return self.clips[index].key

    def labels(self) -> Any:
        raise AssertionError("a scorer without labels opened labels")


def loader() -> ClipLoader:
    store = Store()
    return ClipLoader(store, lambda clip, clips, i: (clip.flow, clip.valid), 1, 0)  # type: ignore[arg-type]


def model(seed: int = 0) -> VideoSegmenter:
    torch.manual_seed(seed)
    segmenter = build_segmenter("mini", "conv1x1", 5)
    with torch.no_grad():  # sure of something
        for p in segmenter.classifier.parameters():
            p.mul_(3)
    return segmenter.eval()


def test_every_score_by_hand() -> None:
    segmenter, teacher, clips = model(), model(1), loader()
    scores = scores_without_labels(segmenter, clips, 3, 5, CPU, teacher)
    assert scores.keys() == SCORERS.keys()
    mean, entropy, density, mirror, agreed, pixels = torch.zeros(5), 0.0, 0.0, 0, 0, 0
    pairs: list[tuple[int, int]] = []
    for i in range(3):
        batch = clips.collate([i])
        with torch.no_grad():
            out = segmenter(batch.frames, batch.flow, batch.valid)
            p = out.scores.softmax(1)[0]
            before = segmenter.classify(segmenter.fuse_alone(out.encoded[0])).argmax(1)[0]
            flow = torch.stack([-batch.flow[:, :, 0], batch.flow[:, :, 1]], 2).flip(-1)
            turned = segmenter(batch.frames.flip(-1), flow, batch.valid.flip(-1)).scores.argmax(1)[0].flip(-1)
            teacher_labels = teacher(batch.frames, batch.flow, batch.valid).scores.argmax(1)[0]
        label, (height, width) = p.argmax(0), p.shape[1:]
        small, visible = (
            resize_flow(batch.flow[:, 0], (height, width))[0],
            resize_mask(batch.valid[:, 0], (height, width))[0],
        )
        density += float(soft_neighbourhood_density(p.flatten(1).t()[:: height * width // len(sampled(p))]))
        for y in range(height):
            for x in range(width):
                q = p[:, y, x].double()
                mean += q.float()
                entropy -= float((q * q.log()).sum())
                mirror += int(turned[y, x] == label[y, x])
                agreed += int(teacher_labels[y, x] == label[y, x])
                pixels += 1
                u, v = round(x + float(small[0, y, x])), round(y + float(small[1, y, x]))
                if bool(visible[y, x]) and 0 <= u < width and 0 <= v < height:
                    pairs.append((int(before[v, u]), int(label[y, x])))
    q = mean / pixels
    assert scores["entropy"] == pytest.approx(-entropy / pixels, rel=1e-4)
    assert scores["information"] == pytest.approx(-float((q * q.log()).sum()) - entropy / pixels, rel=1e-3)
    assert scores["density"] == pytest.approx(density / 3, rel=1e-4)
    assert scores["mirror"] == pytest.approx(100 * mirror / pixels)
    assert scores["teacher"] == pytest.approx(100 * agreed / pixels)
    ious = []
    for c in range(5):
        intersection = sum(a == b == c for a, b in pairs)
        union = sum(a == c or b == c for a, b in pairs)
        ious += [intersection / union] if union else []
    assert scores["temporal"] == pytest.approx(100 * sum(ious) / len(ious))


def test_information_is_the_selection_rules_score() -> None:
    segmenter, clips = model(), loader()
    assert scores_without_labels(segmenter, clips, 5, 5, CPU)["information"] == pytest.approx(
        target_score(segmenter, clips, 5, CPU), rel=1e-5
    )


def test_a_model_agrees_with_itself_and_no_teacher_no_score() -> None:
    segmenter, clips = model(), loader()
    assert scores_without_labels(segmenter, clips, 2, 5, CPU, segmenter)["teacher"] == 100.0
    assert scores_without_labels(segmenter, clips, 2, 5, CPU).keys() == SCORERS.keys() - {"teacher"}


def test_one_class_everywhere_is_certain_consistent_and_says_nothing() -> None:
    class Constant(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.tensor([9.0, 0, 0, 0, 0]).view(1, 5, 1, 1).expand(len(x), 5, *x.shape[-2:])

    segmenter = model()
    segmenter.classifier = Constant()
    scores = scores_without_labels(segmenter, loader(), 5, 5, CPU)
    assert scores["mirror"] == scores["temporal"] == 100.0
    assert scores["information"] == pytest.approx(0.0, abs=1e-5) and -0.01 < scores["entropy"] < 0
    assert scores["density"] == pytest.approx(math.log(4 * 8 - 1), rel=1e-3)  # all cells are one neighbourhood


def test_samples_are_spread_over_the_clip() -> None:
    p = torch.arange(3 * 40 * 50).float().view(3, 40, 50)
    samples = sampled(p)
    assert (
        samples.shape == (SAMPLES, 3) and samples[0].tolist() == [0.0, 2000.0, 4000.0] and float(samples[-1, 0]) > 1980
    )
    assert sampled(p[:, :2, :5]).shape == (10, 3)
