"""Adapt a network of your own to frames of your own with `stpl` alone: no harness, no configuration, no labels.

    python examples/adapt_your_network.py FOLDER_OF_PICTURES [STEPS]

Replace `Encoder` and `classifier` by your trained ones. An encoder takes RGB in 0..1 and gives features and, optionally, auxiliary
features; a classifier takes the fused features and gives scores.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

import stpl

CLASSES = 5


class Encoder(nn.Module):
    """Stands for your own: features at an eighth of the picture's size."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(3, channels, 8, stride=8), nn.BatchNorm2d(channels), nn.ReLU())

    def forward(self, frames: Tensor) -> tuple[Tensor, None]:
        return self.layers(frames - 0.5), None


def clip_of(before: np.ndarray, now: np.ndarray, estimator: cv2.DISOpticalFlow) -> tuple[Tensor, Tensor]:
    """Two BGR pictures as frames ``(1, 2, 3, H, W)`` in 0..1, and the backward flow now to before, ``(1, 1, 2, H, W)``, pixels."""
    grey = [cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY) for picture in (now, before)]
    flow = torch.from_numpy(estimator.calc(*grey, None)).permute(2, 0, 1)
    frames = torch.from_numpy(np.stack([before, now])[..., ::-1].copy()).permute(0, 3, 1, 2) / 255
    return frames[None], flow[None, None]


def main(folder: Path, steps: int = 100) -> stpl.VideoSegmenter:
    """Adapt to consecutive pictures of a folder; returns the adapted segmenter."""
    torch.manual_seed(0)
    fusion = stpl.build_fusion("conv1x1", channels=16)  # starts as the single-frame model
    segmenter = stpl.VideoSegmenter(Encoder(), nn.Conv2d(fusion.out_channels, CLASSES, 1), fusion)
    project = stpl.ProjectionHead(fusion.out_channels)
    teacher = copy.deepcopy(segmenter).requires_grad_(False)  # labels come from an average of the steps
    thresholds = stpl.RunningThresholds(num_classes=CLASSES, fraction=0.3)
    groups = segmenter.parameter_groups(lr=1e-3)
    optimiser = torch.optim.SGD([*groups, {"params": project.parameters(), "lr": 1e-2}], momentum=0.9)
    estimator = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    pictures = [cv2.imread(str(path)) for path in sorted(folder.glob("*.png"))]
    if len(pictures) < 2:
        raise SystemExit(f"{folder}: a clip needs two consecutive pictures (.png)")

    for step in range(steps):
        number = 1 + step % (len(pictures) - 1)
        frames, flow = clip_of(pictures[number - 1], pictures[number], estimator)
        valid = stpl.inside_mask(flow[:, 0])[:, None]
        with torch.no_grad():
            probabilities = teacher(frames, flow, valid).scores.softmax(dim=1)
        thresholds.update(probabilities)
        labels, _ = thresholds(probabilities)  # 255 where the teacher is not sure

        strong = (frames * torch.empty(1).uniform_(0.6, 1.4) + 0.05 * torch.randn_like(frames)).clamp(0, 1)
        out = segmenter(strong, flow, valid)
        before = segmenter.fuse_alone(out.encoded[0])
        losses = stpl.stpl_objective(out.scores, labels, [project(out.features), project(before)], [labels, labels])
        optimiser.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        with torch.no_grad():
            for average, now in zip(teacher.parameters(), segmenter.parameters(), strict=True):
                average.lerp_(now, 0.01)
        print(step, {name: round(float(loss), 3) for name, loss in losses.items()})
    return segmenter.eval()


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:3]))
