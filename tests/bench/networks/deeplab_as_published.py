"""The published DeepLabv2 written anew, under the published names, with nothing of ``bench.networks`` in it.

Sizes are open, so that a narrow one takes the same path as ResNet-101. Frames come in as the repositories feed them: B, G, R in
0..255 minus a mean. Slow loops stand in for the published warps.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)


class Block(nn.Module):
    """1x1 with the stride, 3x3 dilated, 1x1."""

    def __init__(self, inputs: int, inner: int, outputs: int, stride: int, dilation: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, inner, 1, stride, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, 1, dilation, dilation, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        if shortcut:
            self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (self.downsample(x) if hasattr(self, "downsample") else x))


class Heads(nn.Module):
    """Four atrous branches, of which the first ``counting`` are summed."""

    def __init__(self, channels: int, classes: int, counting: int) -> None:
        super().__init__()
        self.counting = counting
        self.conv2d_list = nn.ModuleList(nn.Conv2d(channels, classes, 3, 1, d, d) for d in (6, 12, 18, 24))

    def forward(self, x: Tensor) -> Tensor:
        return sum(branch(x) for branch in list(self.conv2d_list)[: self.counting])  # type: ignore[return-value]


class Published(nn.Module):
    """``heads``: which classifiers there are; ``score_fusion``: whether there is an ``sf_layer``."""

    def __init__(
        self,
        classes: int,
        blocks: tuple[int, ...],
        *,
        inner: int = 64,
        expansion: int = 4,
        counting: int = 4,
        heads: tuple[str, ...] = ("layer5", "layer6"),
        score_fusion: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for number, (count, dilation) in enumerate(zip(blocks, (1, 1, 2, 4), strict=True)):
            planes, stride = 64 * 2**number, 2 if number == 1 else 1
            outputs, width = planes * expansion, planes * inner // 64
            stage = []
            for index in range(count):
                changes = index == 0 and (number > 0 or inputs != outputs)
                stage.append(Block(inputs, width, outputs, stride if index == 0 else 1, dilation, changes))
                inputs = outputs
            setattr(self, f"layer{number + 1}", nn.Sequential(*stage))
        if len(heads) == 2:
            self.layer5 = Heads(256 * expansion, classes, counting)
            self.layer6 = Heads(512 * expansion, classes, counting)
        else:
            setattr(self, heads[0], Heads(512 * expansion, classes, counting))
        self.main, self.auxiliary = heads[-1], heads[0] if len(heads) == 2 else None
        if score_fusion:
            self.sf_layer = nn.Conv2d(2 * classes, classes, 1, bias=False)

    def forward(self, bgr: Tensor) -> tuple[Tensor | None, Tensor]:
        """Auxiliary and main scores of one frame."""
        x = torch.relu(self.bn1(self.conv1(bgr)))
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        x = self.layer3(self.layer2(self.layer1(x)))
        auxiliary = getattr(self, self.auxiliary)(x) if self.auxiliary else None
        return auxiliary, getattr(self, self.main)(self.layer4(x))

    def fused(self, current: Tensor, previous: Tensor, flow: Tensor, propagation: str) -> tuple[Tensor, Tensor]:
        """Auxiliary and main scores of two frames; ``propagation``: ``splat`` (DA-VSN) or ``warp`` (TPS); flow ``(1, 2, H, W)``."""
        out = []
        for current_scores, previous_scores in zip(self(current), self(previous), strict=True):
            height, width = current_scores.shape[-2:]
            scaled = F.interpolate(flow.double(), (height, width), mode="bilinear", align_corners=True)
            scaled = scaled * (height / flow.shape[-2])
            move = splatted if propagation == "splat" else warped
            moved = torch.from_numpy(move(previous_scores[0].numpy(), scaled[0].numpy()))[None].float()
            out.append(self.sf_layer(torch.cat((current_scores, moved), 1)))
        return out[0], out[1]


def splatted(scores: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Column by column, row by row: scores of t-1 written where the flow, read at their own pixel, comes from."""
    out = np.zeros_like(scores)
    _, height, width = scores.shape
    for x in range(width):
        for y in range(height):
            to_x, to_y = round(x - flow[0, y, x]), round(y - flow[1, y, x])
            if 0 <= to_x < width and 0 <= to_y < height:
                out[:, to_y, to_x] = scores[:, y, x]
    return out


def warped(scores: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """Bilinear with neighbours clamped to the map."""
    out = np.zeros_like(scores)
    _, height, width = scores.shape
    for y in range(height):
        for x in range(width):
            at_x, at_y = x + float(np.float32(flow[0, y, x])), y + float(np.float32(flow[1, y, x]))
            left, top = math.floor(at_x), math.floor(at_y)
            for row, weight_y in ((top, 1 - (at_y - top)), (top + 1, at_y - top)):
                for column, weight_x in ((left, 1 - (at_x - left)), (left + 1, at_x - left)):
                    neighbour = scores[:, min(max(row, 0), height - 1), min(max(column, 0), width - 1)]
                    out[:, y, x] += weight_y * weight_x * neighbour
    return out


def scrambled(model: Published, seed: int) -> Published:
    """Random weights and random batch-norm statistics that keep the signal's size; eval mode."""
    g = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.data.normal_(0, math.sqrt(2 / fan_in), generator=g)
            if module.bias is not None:
                module.bias.data.normal_(generator=g)
        if isinstance(module, nn.BatchNorm2d):
            for values, low, high in (
                (module.weight.data, 0.4, 0.8),
                (module.bias.data, -0.3, 0.3),
                (module.running_mean, -0.3, 0.3),
                (module.running_var, 0.5, 2.0),
            ):
                assert isinstance(values, Tensor)
                values.uniform_(low, high, generator=g)
    model.bn1.running_var.mul_(5e3)  # of pixels in 0..255
    return model.eval()


def bgr(rgb: Tensor) -> Tensor:
    """RGB in 0..1 ``(N, 3, H, W)`` as the repositories' loaders give it."""
    return 255 * rgb.flip(1) - torch.tensor(MEAN_BGR).view(1, 3, 1, 1)
