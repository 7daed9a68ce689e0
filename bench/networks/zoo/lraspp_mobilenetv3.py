"""``lraspp_mobilenetv3``: LR-ASPP on torchvision's MobileNetV3-Large, 3.2 M parameters, for small GPUs.

Howard et al., "Searching for MobileNetV3", ICCV 2019. Features at stride 8 are [global-context branch, upsampled from stride
16; low-level branch], 128 + 40 channels. The paper's two 1x1 classifiers, one per branch and summed, are one 1x1 convolution
over both, so what is fused over time is exactly what the classifier sees.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models import mobilenet_v3_large
from torchvision.models.segmentation.lraspp import LRASPPHead

from .._normalise import IMAGENET as NORMALISATION
from .._normalise import Normalise
from ..build import NetworkParts

IMAGENET = "MobileNet_V3_Large_Weights.IMAGENET1K_V1"
"""Initial weights by torchvision's name; see ``_pretrained``."""

INNER = 128
"""Channels of the global-context branch (torchvision's ``lraspp_mobilenet_v3_large``)."""


class MobileEncoder(nn.Module):
    """RGB in 0..1 ``(N, 3, H, W)`` to features ``(N, 168, H/8, W/8)`` and auxiliary ones ``(N, 160, H/16, W/16)``."""

    stride, multiple = 8, 1

    def __init__(self) -> None:
        super().__init__()
        self.normalise = Normalise(*NORMALISATION)
        self.features = mobilenet_v3_large(weights=None, dilated=True).features
        strided = [position for position, block in enumerate(self.features) if getattr(block, "_is_cn", False)]
        self.low = strided[-3]  # the last block at stride 8
        low, high = int(self.features[self.low].out_channels), int(self.features[-1].out_channels)
        head = LRASPPHead(low, high, 1, INNER)
        self.context, self.scale = head.cbr, head.scale
        self.channels = INNER + low
        self.auxiliary_channels = int(self.features[-2].out_channels)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.normalise(image)
        low = auxiliary = x
        for position, block in enumerate(self.features):
            auxiliary = x
            x = block(x)
            low = x if position == self.low else low
        context = self.context(x) * self.scale(x)
        size = (low.shape[-2], low.shape[-1])
        context = F.interpolate(context, size, mode="bilinear", align_corners=False)
        return torch.cat((context, low), dim=1), auxiliary

    def load_backbone(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of torchvision's classification network, its classifier left out.

        Raises:
            RuntimeError: names or shapes differ.
        """
        start = "features."
        self.features.load_state_dict({n.removeprefix(start): v for n, v in weights.items() if n.startswith(start)})


def build(num_classes: int) -> NetworkParts:
    """Parts of the network; see :class:`bench.networks.build.NetworkParts`."""
    encoder = MobileEncoder()
    return NetworkParts(
        encoder=encoder,
        classifier=lambda channels: nn.Conv2d(channels, num_classes, 1),
        auxiliary_classifier=nn.Conv2d(encoder.auxiliary_channels, num_classes, 1),
    )
