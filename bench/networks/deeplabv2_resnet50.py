"""``deeplabv2_resnet50``: DeepLabv2 on ResNet-50, torchvision's layout and ImageNet weights."""

from __future__ import annotations

from ._deeplab import deeplab
from .build import NetworkParts


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :mod:`bench.networks._deeplab`."""
    return deeplab(num_classes, depth=50, published=False)
