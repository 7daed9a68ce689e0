"""``timm:NAME``: any encoder of timm that gives feature maps, under SegFormer's all-MLP head (Xie et al., NeurIPS 2021, §3.2).

Of an encoder in stages the last map of each stride from 4 on is taken; of a plain transformer, whose maps all have its patch
size as stride, four of its blocks at equal distances. The head takes every map to 256 channels, brings all to the finest grid,
adds them up, batch norm, ReLU; the classifier is a 1x1 convolution. SegFormer has two linear layers in a row before the batch
norm (to 256 channels, then of the maps side by side); they are one here, which can compute the same and works on small maps.
Its dropout is left out. The head is ``encoder.neck``: it comes before the fusion over time, and starts from random weights.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bench.core.errors import UsageError

from ._normalise import Normalise
from .build import NetworkParts, library

CHANNELS, FINEST, BLOCKS = 256, 4, 4


class MLPNeck(nn.Module):
    """Feature maps of several grids to one of ``CHANNELS`` on the grid of the first."""

    def __init__(self, channels: list[int]) -> None:
        super().__init__()
        self.linear = nn.ModuleList(nn.Conv2d(c, CHANNELS, 1, bias=False) for c in channels)
        self.norm = nn.BatchNorm2d(CHANNELS)

    def forward(self, maps: list[Tensor]) -> Tensor:
        total = self.linear[0](maps[0])
        size = (int(total.shape[-2]), int(total.shape[-1]))
        for linear, features in zip(self.linear[1:], maps[1:], strict=True):
            total = total + F.interpolate(linear(features), size, mode="bilinear", align_corners=False)
        fused: Tensor = torch.relu(self.norm(total))
        return fused


class TimmEncoder(nn.Module):
    """RGB in 0..1 ``(N, 3, H, W)`` to features ``(N, 256, H/stride, W/stride)``; no auxiliary ones."""

    channels, auxiliary_channels = CHANNELS, 0

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name
        network = _create(name, num_classes=0)
        try:
            strides = [int(info["reduction"]) for info in network.feature_info]
            plain = len(set(strides)) == 1
            if plain:
                taken = sorted({len(strides) * (part + 1) // BLOCKS - 1 for part in range(BLOCKS)} - {-1})
            else:
                taken = [n for n, s in enumerate(strides) if s >= FINEST and s not in strides[n + 1 :]]
            # The last norm scales any block of a plain transformer; stages have maps of different widths.
            self.taken, self.normed = network.prune_intermediate_layers(taken, prune_norm=not plain), plain
        except (AssertionError, AttributeError, TypeError, ValueError) as error:
            raise UsageError(f"timm's '{name}' gives no feature maps ({' '.join(str(error).split()):.100})") from None
        self.normalise = Normalise(*(tuple(network.pretrained_cfg[key]) for key in ("mean", "std")))
        self.backbone = network
        self.neck = MLPNeck([int(network.feature_info[n]["num_chs"]) for n in self.taken])
        self.strides = [strides[n] for n in self.taken]
        self.size = int(network.pretrained_cfg["input_size"][-1])
        self.stride = self.strides[0]

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        return self.neck(self._maps(self.normalise(image))), None

    def _maps(self, image: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.backbone.forward_intermediates(
            image, indices=self.taken, norm=self.normed, output_fmt="NCHW", intermediates_only=True
        )
        return maps

    @property
    def multiple(self) -> int:
        """The least of 1, the largest stride and the size it was made for with which no row or column is left out.

        Encoders that pad take any size; those that cut into patches do not, or drop what is left over. Tried on the device of
        the encoder; see :func:`bench.networks.build.multiple_of`.
        """
        for multiple in (1, max(self.strides), self.size):
            unit = multiple if multiple > 1 else 2 * max(self.strides) + 1
            if all(self._covers(factor * unit, (factor + 2) * unit) for factor in (1, 3)):
                return multiple
        raise UsageError(f"timm's '{self.name}' takes frames of {self.size}x{self.size} only; choose another encoder")

    @torch.no_grad()
    def _covers(self, height: int, width: int) -> bool:
        image = torch.empty(1, 3, height, width, device=self.normalise.mean.device)
        try:
            maps = self._maps(image)
        except (AssertionError, RuntimeError, ValueError):
            return False
        return all(
            tuple(features.shape[-2:]) == (-(-height // stride), -(-width // stride))
            for features, stride in zip(maps, self.strides, strict=True)
        )

    def load_backbone(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of timm's network of this name, its classifier and unused blocks left out.

        Raises:
            RuntimeError: names or shapes differ.
        """
        state = self.backbone.state_dict()
        self.backbone.load_state_dict({name: value for name, value in weights.items() if name in state})

    def download(self) -> dict[str, Tensor]:
        """timm's own weights for this name, from its cache or the internet."""
        weights: dict[str, Tensor] = library("timm", "timm").create_model(self.name, pretrained=True).state_dict()
        return weights


def check(name: str) -> None:
    """Refuse a name that timm does not have.

    Raises:
        UsageError: it does not, or timm is not installed.
    """
    timm = library("timm", "timm")
    if not timm.is_model(name):
        near = difflib.get_close_matches(name, timm.list_models(), n=3, cutoff=0.4)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise UsageError(f"timm has no encoder '{name:.100}'.{hint} `timm.list_models()` in Python lists all")


def build(name: str, num_classes: int) -> NetworkParts:
    """Parts of the network; see :class:`bench.networks.build.NetworkParts`."""
    return NetworkParts(TimmEncoder(name), lambda channels: nn.Conv2d(channels, num_classes, 1))


def _create(name: str, **options: Any) -> Any:
    """timm's network; for frames of any size where it can be.

    Raises:
        UsageError: timm cannot build it.
    """
    timm = library("timm", "timm")
    try:
        try:
            return timm.create_model(name, dynamic_img_size=True, **options)
        except TypeError:  # most have no such option, and need none
            return timm.create_model(name, **options)
    except (AssertionError, RuntimeError, ValueError) as error:
        raise UsageError(f"timm cannot build '{name:.100}': {' '.join(str(error).split()):.150}") from None
