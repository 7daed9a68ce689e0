"""``deeplabv2_resnet101``: DeepLabv2 on ResNet-101, torchvision's layout and ImageNet weights: the network of the paper."""

from __future__ import annotations

from ._deeplab import deeplab
from .build import NetworkParts


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :mod:`bench.networks._deeplab`."""
    return deeplab(num_classes, depth=101, published=False)
