"""``smp:ARCHITECTURE:ENCODER``: a network of segmentation_models_pytorch as it is (``smp:unet:resnet34``).

Its encoder and decoder are the encoder here, its segmentation head is the classifier: the fusion over time acts on what the
decoder puts out, on the decoder's grid (full size for U-Net, a quarter for FPN and DeepLabV3+), and the scores have the size of
the frame. Frames are normalised with the mean and deviation of ImageNet, which its weights were trained with.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bench.core.errors import UsageError, unknown

from ._normalise import IMAGENET, Normalise
from .build import NetworkParts, library

LIBRARY = ("segmentation_models_pytorch", "segmentation-models-pytorch")


class SmpEncoder(nn.Module):
    """RGB in 0..1 ``(N, 3, H, W)`` to what the decoder puts out; no auxiliary features."""

    auxiliary_channels = 0

    def __init__(self, model: Any, name: str) -> None:
        super().__init__()
        self.name = name
        self.normalise = Normalise(*IMAGENET)
        self.encoder, self.neck = model.encoder, model.decoder
        convolution, upsampling, *_ = model.segmentation_head
        self.channels, self.stride = int(convolution.in_channels), int(getattr(upsampling, "scale_factor", 1))
        self.multiple = int(model.encoder.output_stride) if model.requires_divisible_input_shape else 1

    def forward(self, image: Tensor) -> tuple[Tensor, None]:
        return self.neck(self.encoder(self.normalise(image))), None

    def load_backbone(self, weights: Mapping[str, Tensor]) -> None:
        """Take the weights of the library's encoder of this name.

        Raises:
            RuntimeError: names or shapes differ.
        """
        self.encoder.load_state_dict(dict(weights))

    def download(self) -> dict[str, Tensor]:
        """The library's own weights for this encoder, from its cache or the internet."""
        name: Any = "imagenet" if not self.name.startswith("tu-") else True
        weights: dict[str, Tensor] = library(*LIBRARY).encoders.get_encoder(self.name, weights=name).state_dict()
        return weights


def check(name: str) -> None:
    """Refuse a name that the library does not have.

    Raises:
        UsageError: it does not, or the library is not installed.
    """
    smp = library(*LIBRARY)
    architecture, colon, encoder = name.partition(":")
    if not colon:
        raise UsageError(f"A network of segmentation_models_pytorch is smp:ARCHITECTURE:ENCODER, got 'smp:{name:.100}'")
    if architecture not in smp.MODEL_ARCHITECTURES_MAPPING:
        raise unknown("architecture", architecture, smp.MODEL_ARCHITECTURES_MAPPING, " of segmentation_models_pytorch")
    if not encoder.startswith("tu-") and encoder not in smp.encoders.encoders:
        raise unknown("encoder", encoder, smp.encoders.encoders, " of segmentation_models_pytorch (tu-NAME for timm's)")


def build(name: str, num_classes: int) -> NetworkParts:
    """Parts of the network; see :class:`bench.networks.build.NetworkParts`."""
    architecture, _, encoder = name.partition(":")
    device = torch.get_default_device()
    try:
        with torch.device("cpu"):  # some encoders compute numbers while they are built, which the meta device cannot
            model = library(*LIBRARY).create_model(architecture, encoder, encoder_weights=None, classes=num_classes)
    except Exception as error:  # each of its encoders has its own way to say no
        raise UsageError(
            f"segmentation_models_pytorch cannot build 'smp:{name:.100}': {' '.join(str(error).split()):.150}"
        ) from None
    if not isinstance(model.segmentation_head, nn.Sequential):  # DPT's wants class tokens beside features
        raise UsageError(
            f"smp:{name:.100} has no head that could be put on fused features; choose another architecture"
        )
    model.to(device)
    return NetworkParts(SmpEncoder(model, encoder), lambda channels: _head(model, channels))


def _head(model: Any, channels: int) -> nn.Module:
    """Its segmentation head for features of so many channels: a copy, or one with another first convolution."""
    head: nn.Sequential = copy.deepcopy(model.segmentation_head)
    old: Any = head[0]
    if channels != old.in_channels:
        head[0] = nn.Conv2d(channels, old.out_channels, old.kernel_size, padding=old.padding)
    return head
