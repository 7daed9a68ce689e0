"""``espnet``: ESPNet with p = 2, q = 8 and its decoder, 0.4 M parameters; public weights trained on Cityscapes convert to it.

Mehta et al., "ESPNet: Efficient Spatial Pyramid of Dilated Convolutions for Semantic Segmentation", ECCV 2018: the ESP block of
§3, the network of fig. 4d. ``espnet_q3`` and ``espnet_q5`` are shallower.

The cut between encoder and classifier lies before the last layer, the only one that is linear in what it gets, as in DeepLab:
what is fused over time has seen every scale and every skip connection, at half of the input's resolution, and a fusion that
starts as ``[I | 0]`` starts as the published network. A cut after the deepest stage would leave two skip connections that
bypass the fusion. The decoder is as wide as the published one, one map per class and one for void, but void is not scored.
"""

from __future__ import annotations

import re

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .._normalise import Normalise
from ..build import NetworkParts

MEAN_BGR, STD_BGR = (72.3923111, 82.90893555, 73.15840149), (45.3192215, 46.15289307, 44.91483307)
"""Of Cityscapes in 0..255; the published network gets ``(x - mean) / std / 255``."""
DILATIONS = (1, 2, 4, 8, 16)
EPS = 1e-3
"""Of every batch norm, as published."""

PUBLISHED = {
    "encoder.level1.conv": "stem", "encoder.level1": "norm_stem", "encoder.b1": "norm1",
    "encoder.level2_0": "down2", "encoder.level2": "stage2", "encoder.b2": "norm2",
    "encoder.level3_0": "down3", "encoder.level3": "stage3", "encoder.b3": "norm3",
    "encoder.classifier.conv": "reduce3.0", "br": "reduce3.1", "up_l3.0": "reduce3.2", "level3_C.conv": "reduce2",
    "combine_l2_l3.0": "merge2.0", "combine_l2_l3.1": "merge2.1", "up_l2.0": "double2.0", "up_l2.1": "double2.1",
    "conv.conv": "merge1", "conv": "norm_merge1",
}  # fmt: skip
"""Modules of the published code (sacmehta/ESPNet) to those of :class:`ESPEncoder`."""


def norm_act(channels: int) -> nn.Sequential:
    """Batch norm, PReLU with a slope per channel."""
    return nn.Sequential(nn.BatchNorm2d(channels, eps=EPS), nn.PReLU(channels))


def conv(inputs: int, outputs: int, size: int, stride: int = 1, dilation: int = 1) -> nn.Conv2d:
    """Convolution without bias whose padding keeps the size, but for the stride."""
    return nn.Conv2d(inputs, outputs, size, stride, dilation * (size // 2), dilation, bias=False)


def doubled(inputs: int, outputs: int) -> nn.ConvTranspose2d:
    """2x2 transposed convolution to twice the resolution, without bias."""
    return nn.ConvTranspose2d(inputs, outputs, 2, stride=2, bias=False)


class ESP(nn.Module):
    """Efficient spatial pyramid: reduce, five dilated 3x3 convolutions, added up hierarchically, side by side again.

    The widest branches would show a grid of holes; each of dilation 4 and more has the sum of the narrower ones added (the
    paper's hierarchical feature fusion).

    Args:
        stride: 2 reduces with a 3x3 convolution, 1 with a 1x1 one.
        residual: add the input.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, residual: bool = True) -> None:
        super().__init__()
        width = outputs // len(DILATIONS)
        first = outputs - (len(DILATIONS) - 1) * width
        self.residual = residual
        self.reduce = conv(inputs, width, 3 if stride == 2 else 1, stride)
        self.branches = nn.ModuleList(conv(width, first if d == 1 else width, 3, dilation=d) for d in DILATIONS)
        self.norm = norm_act(outputs)

    def forward(self, x: Tensor) -> Tensor:
        reduced = self.reduce(x)
        narrowest, *wider = (branch(reduced) for branch in self.branches)
        parts = [narrowest, wider[0]]
        for part in wider[1:]:
            parts.append(parts[-1] + part)
        joined = torch.cat(parts, dim=1)
        activated: Tensor = self.norm(x + joined if self.residual else joined)
        return activated


class ESPEncoder(nn.Module):
    """RGB in 0..1 ``(N, 3, H, W)`` to features ``(N, channels, H/2, W/2)``; H and W are multiples of 8.

    Args:
        width: of the decoder, 5 or more.
        p, q: ESP blocks at stride 4 and 8.
    """

    stride, multiple, auxiliary_channels = 2, 8, 0

    def __init__(self, width: int, p: int, q: int) -> None:
        super().__init__()
        self.channels = width
        mean, std = (tuple(value / by for value in values) for values, by in ((MEAN_BGR, 255), (STD_BGR, 1)))
        self.normalise = Normalise(mean, std)
        self.stem, self.norm_stem, self.norm1 = conv(3, 16, 3, 2), norm_act(16), norm_act(16 + 3)
        self.down2, self.stage2 = ESP(16 + 3, 64, 2, residual=False), nn.Sequential(*(ESP(64, 64) for _ in range(p)))
        self.norm2 = norm_act(2 * 64 + 3)
        self.down3 = ESP(2 * 64 + 3, 128, 2, residual=False)
        self.stage3, self.norm3 = nn.Sequential(*(ESP(128, 128) for _ in range(q))), norm_act(2 * 128)
        self.reduce3 = nn.Sequential(conv(2 * 128, width, 1), nn.BatchNorm2d(width, eps=EPS), doubled(width, width))
        self.reduce2 = conv(2 * 64 + 3, width, 1)
        self.merge2 = nn.Sequential(norm_act(2 * width), ESP(2 * width, width, residual=False))
        self.double2 = nn.Sequential(doubled(width, width), norm_act(width))
        self.merge1, self.norm_merge1 = conv(width + 16, width, 3), norm_act(width)

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        image = self.normalise(image.flip(1))  # the published weights expect B, G, R
        image = image.contiguous(
            memory_format=torch.channels_last
        )  # many narrow convolutions: a fifth less time on a CPU
        half = F.avg_pool2d(image, 3, 2, 1)
        stem = self.norm_stem(self.stem(image))
        fine = self.norm1(torch.cat((stem, half), dim=1))
        first = self.down2(fine)
        middle = self.norm2(torch.cat((self.stage2(first), first, F.avg_pool2d(half, 3, 2, 1)), dim=1))
        first = self.down3(middle)
        coarse = self.norm3(torch.cat((first, self.stage3(first)), dim=1))
        x = self.merge2(torch.cat((self.reduce2(middle), self.reduce3(coarse)), dim=1))
        return self.norm_merge1(self.merge1(torch.cat((self.double2(x), stem), dim=1))), None


def espnet(num_classes: int, p: int = 2, q: int = 8) -> NetworkParts:
    """ESPNet of any depth; see :class:`bench.networks.build.NetworkParts`."""
    encoder = ESPEncoder(max(num_classes + 1, len(DILATIONS)), p, q)
    return NetworkParts(encoder, lambda channels: doubled(channels, num_classes))


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :class:`bench.networks.build.NetworkParts`."""
    return espnet(num_classes)


def published_place(name: str) -> str:
    """Where a tensor of the published code goes in a segmenter; ``""`` for one that is not of the network."""
    if name == "classifier.weight":
        return name
    module = next((m for m in sorted(PUBLISHED, key=len, reverse=True) if name.startswith(f"{m}.")), None)
    if module is None:
        return ""
    module_name, ending = PUBLISHED[module], name.removeprefix(f"{module}.")
    in_block = module_name in ("down2", "stage2", "down3", "stage3", "merge2.1")
    ending = re.sub(r"c1\.conv\.", "reduce.", ending)
    ending = re.sub(r"d(1|2|4|8|16)\.conv\.", lambda m: f"branches.{DILATIONS.index(int(m[1]))}.", ending)
    ending = re.sub(r"(?:bn\.)?bn\.(\w+)$", r"norm.0.\1" if in_block else r"0.\1", ending)
    ending = re.sub(r"(?:bn\.)?act\.(\w+)$", r"norm.1.\1" if in_block else r"1.\1", ending)
    return f"encoder.{module_name}.{ending}"
