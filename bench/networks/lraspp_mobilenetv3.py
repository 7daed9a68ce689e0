"""``lraspp_mobilenetv3``: LR-ASPP on MobileNetV3-Large (Howard et al., ICCV 2019), torchvision's, for small GPUs and own footage.

The head pools, gates and classifies the encoder's features at stride 16 together with those at stride 8. Video fusion happens on
one map, so the encoder brings both to stride 8 and joins them; the head then does to this map what torchvision's does to two.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large
from torchvision.models._utils import IntermediateLayerGetter

from ._deeplab import IMAGENET_MEAN, IMAGENET_STD
from .build import NetworkParts

LOW, HIGH, INTER = 40, 960, 128
"""Channels at stride 8, at stride 16, and inside the head."""


class MobileEncoder(nn.Module):
    """RGB in 0..1 ``(N, 3, H, W)`` to features ``(N, 168, H/8, W/8)``: 128 of the reduced deep map and 40 of the shallow one."""

    channels = INTER + LOW
    auxiliary_channels = LOW
    stride = 8

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        features = mobilenet_v3_large(dilated=True).features
        # As in torchvision's LR-ASPP: the last map before the stride goes from 8 to 16, and the last map of all.
        strided = [i for i, block in enumerate(features) if getattr(block, "_is_cn", False)]
        self.backbone = IntermediateLayerGetter(
            features, return_layers={str([0, *strided, len(features) - 1][-4]): "low", str(len(features) - 1): "high"}
        )
        self.reduce = nn.Sequential(nn.Conv2d(HIGH, INTER, 1, bias=False), nn.BatchNorm2d(INTER), nn.ReLU(inplace=True))
        self.scale = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(HIGH, INTER, 1, bias=False), nn.Sigmoid())

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.backbone((image - self.mean) / self.std)
        low, high = maps["low"], maps["high"]
        deep = self.reduce(high) * self.scale(high)
        deep = F.interpolate(deep, low.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat((deep, low), dim=1), low


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :class:`bench.networks.build.NetworkParts`."""
    return NetworkParts(
        encoder=MobileEncoder(),
        classifier=lambda channels: nn.Conv2d(channels, num_classes, 1),
        auxiliary_classifier=nn.Conv2d(LOW, num_classes, 1),
    )
