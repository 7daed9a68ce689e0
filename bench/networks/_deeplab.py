"""DeepLabv2 (Chen et al., TPAMI 2018) on a torchvision ResNet, as the published video adaptation codes use it.

Backbone of output stride 8 (strides of the last two stages replaced by dilation 2 and 4), four parallel 3x3 atrous convolutions
with bias at rates 6, 12, 18, 24 whose outputs are summed, and an auxiliary head of the same kind on stage 3. The affine part of
batch norm is frozen; its statistics follow the harness's policy.

``published=True`` is the layout of the published checkpoints (AdaptSegNet, ADVENT, DA-VSN, TPS): a bottleneck's stride lies in
its first 1x1 convolution instead of the 3x3 one, and max pooling rounds up, so that 1024x512 gives scores of 129x65 instead of
128x64. The names of the weights are the same.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet

from .build import NetworkParts

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of torchvision's weights, RGB in 0..1."""
RATES = (6, 12, 18, 24)


class DeepLabEncoder(nn.Module):
    """RGB in 0..1 ``(N, 3, H, W)`` to features ``(N, 2048, h, w)`` and, after stage 3, auxiliary features of 1024 channels.

    ``mean`` and ``std`` are part of the weights: converted checkpoints were trained with others than torchvision's.

    Args:
        depth: 50 or 101.
        published: layout of the published checkpoints.
        width: channels of the first stage, 64; fewer in tests.
    """

    stride = 8

    mean: Tensor
    std: Tensor

    def __init__(self, depth: int, published: bool = False, width: int = 64) -> None:
        super().__init__()
        layers = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3)}[depth]
        self.channels, self.auxiliary_channels = 32 * width, 16 * width
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(1, 3, 1, 1))
        net = _narrow(layers, width)
        self.conv1, self.bn1, self.relu = net.conv1, net.bn1, net.relu
        self.maxpool = nn.MaxPool2d(3, 2, 1, ceil_mode=published)
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        if published:
            for block in self.modules():
                if isinstance(block, resnet.Bottleneck):
                    block.conv1.stride, block.conv2.stride = block.conv2.stride, (1, 1)
            # The published stages dilate their first block like the others; torchvision's first block still has the old rate.
            for stage, dilation in ((self.layer3, 2), (self.layer4, 4)):
                stage[0].conv2.dilation = stage[0].conv2.padding = (dilation, dilation)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.requires_grad_(False)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = self.relu(self.bn1(self.conv1((image - self.mean) / self.std)))
        auxiliary = self.layer3(self.layer2(self.layer1(self.maxpool(x))))
        return self.layer4(auxiliary), auxiliary


def _narrow(layers: tuple[int, ...], width: int) -> resnet.ResNet:
    """torchvision's ResNet with dilation in the last two stages; with fewer channels than 64 if asked for."""
    dilate = [False, True, True]
    if width == 64:
        return resnet.ResNet(resnet.Bottleneck, list(layers), replace_stride_with_dilation=dilate)

    class Narrow(resnet.ResNet):
        def _make_layer(self, block: Any, planes: int, *args: Any, **kwargs: Any) -> nn.Sequential:
            return super()._make_layer(block, planes * width // 64, *args, **kwargs)

    net = Narrow(resnet.Bottleneck, list(layers), replace_stride_with_dilation=dilate, norm_layer=nn.BatchNorm2d)
    return net


class AtrousClassifier(nn.Module):
    """Sum of 3x3 convolutions at several rates: features ``(N, C, h, w)`` to scores ``(N, K, h, w)``.

    Weights start from a normal distribution of deviation 0.01, biases from torch's default, as published.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        convolutions = [nn.Conv2d(channels, num_classes, 3, padding=rate, dilation=rate) for rate in RATES]
        self.conv2d_list = nn.ModuleList(convolutions)
        for convolution in convolutions:
            nn.init.normal_(convolution.weight, 0.0, 0.01)

    def forward(self, features: Tensor) -> Tensor:
        first, *others = self.conv2d_list
        scores: Tensor = first(features)
        for convolution in others:
            scores = scores + convolution(features)
        return scores


def deeplab(num_classes: int, depth: int, published: bool = False, width: int = 64) -> NetworkParts:
    """Parts of a DeepLabv2."""
    encoder = DeepLabEncoder(depth, published, width)
    return NetworkParts(
        encoder=encoder,
        classifier=lambda channels: AtrousClassifier(channels, num_classes),
        auxiliary_classifier=AtrousClassifier(encoder.auxiliary_channels, num_classes),
    )
