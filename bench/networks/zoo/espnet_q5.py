"""``espnet_q5``: ESPNet with p = 2, q = 5 and its decoder; see ``espnet``."""

from __future__ import annotations

from ..build import NetworkParts
from .espnet import espnet


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :class:`bench.networks.build.NetworkParts`."""
    return espnet(num_classes, q=5)
