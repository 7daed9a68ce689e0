"""Input normalisation that travels with the weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Mean and standard deviation of RGB in 0..1 that torchvision's ImageNet weights were trained with."""

PUBLISHED_MEAN = (122.67891434 / 255, 116.66876762 / 255, 104.00698793 / 255)
PUBLISHED = PUBLISHED_MEAN, (1 / 255, 1 / 255, 1 / 255)
"""What AdaptSegNet, ADVENT, DA-VSN and TPS feed their networks, for RGB in 0..1: 0..255 minus a mean, not divided. Their
channels run B, G, R; whoever brings their weights here turns the first convolution's input channels round."""


class Normalise(nn.Module):
    """``(x - mean) / std`` per channel, ``(N, 3, H, W)``.

    The buffers are persistent: a converted checkpoint has another mean than a network on torchvision's weights, and it must
    match exactly, since the convolution's zero padding means "mean colour".
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return (image - self.mean) / self.std
