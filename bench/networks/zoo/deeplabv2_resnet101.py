"""``deeplabv2_resnet101``: DeepLabv2 on torchvision's ResNet-101, output stride 8, for ImageNet weights of torchvision."""

from __future__ import annotations

from .._deeplab import DilatedResNet, deeplab
from ..build import NetworkParts

IMAGENET = "ResNet101_Weights.IMAGENET1K_V1"
"""Initial weights by torchvision's name; see ``_pretrained``."""


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :class:`bench.networks.build.NetworkParts`."""
    return deeplab(DilatedResNet((3, 4, 23, 3)), num_classes)
