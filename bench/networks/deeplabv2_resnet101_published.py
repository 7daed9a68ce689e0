"""``deeplabv2_resnet101_published``: DeepLabv2 on ResNet-101 in the layout of the published checkpoints (``bench convert``)."""

from __future__ import annotations

from ._deeplab import deeplab
from .build import NetworkParts


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :mod:`bench.networks._deeplab`."""
    return deeplab(num_classes, depth=101, published=True)
