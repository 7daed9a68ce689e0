"""``mini``: about 0.6 M parameters and 0.9 GFLOP per 128x256 frame, for the embedded benchmark on a laptop CPU.

Features at stride 8 (so that a video's motion spans more than one feature cell), scores at stride 4: the classifier
predicts a 2x2 block of scores per feature cell (pixel shuffle), since lamps and signs are smaller than a cell.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..build import NetworkParts

MEAN = (0.45, 0.45, 0.45)
STD = (0.25, 0.25, 0.25)


def conv_bn(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    """3x3 convolution without bias, batch norm, ReLU."""
    conv = nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with a skip connection; the resolution stays."""

    def __init__(self, channels: int, dilation: int = 1) -> None:
        super().__init__()
        self.first = conv_bn(channels, channels, dilation=dilation)
        self.second = conv_bn(channels, channels, dilation=dilation)[:2]

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.second(self.first(x)))


class MiniEncoder(nn.Module):
    """RGB in 0..1 ``(N, 3, H, W)`` to features ``(N, 96, H/8, W/8)`` and, one block earlier, auxiliary features."""

    channels = 96
    auxiliary_channels = 96
    stride, multiple = 8, 1

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(STD).view(1, 3, 1, 1), persistent=False)
        self.stem = nn.Sequential(conv_bn(3, 32, stride=2), conv_bn(32, 48, stride=2))
        self.fine = ResidualBlock(48)
        self.coarse = nn.Sequential(conv_bn(48, 96, stride=2), ResidualBlock(96, dilation=2))
        self.context = ResidualBlock(96, dilation=4)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = (image - self.mean) / self.std
        auxiliary = self.coarse(self.fine(self.stem(x)))
        return self.context(auxiliary), auxiliary


class ShuffleClassifier(nn.Sequential):
    """Fused features ``(N, C, h, w)`` to scores ``(N, K, 2h, 2w)``."""

    def __init__(self, channels: int, num_classes: int, hidden: int = 64) -> None:
        super().__init__(conv_bn(channels, hidden), nn.Conv2d(hidden, 4 * num_classes, 1), nn.PixelShuffle(2))


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :class:`bench.networks.build.NetworkParts`."""
    encoder = MiniEncoder()
    return NetworkParts(
        encoder=encoder,
        classifier=lambda channels: ShuffleClassifier(channels, num_classes),
        auxiliary_classifier=nn.Conv2d(encoder.auxiliary_channels, num_classes, 1),
    )
