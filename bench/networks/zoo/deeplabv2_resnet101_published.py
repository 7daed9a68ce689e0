"""``deeplabv2_resnet101_published``: DeepLabv2-ResNet-101 as in AdaptSegNet, ADVENT, DA-VSN and TPS, for their checkpoints."""

from __future__ import annotations

from .._deeplab import DilatedResNet, deeplab
from ..build import NetworkParts

IMAGENET = None
"""torchvision has no weights for this layout; see ``_pretrained``."""


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :class:`bench.networks.build.NetworkParts`."""
    return deeplab(DilatedResNet((3, 4, 23, 3), published=True), num_classes)
