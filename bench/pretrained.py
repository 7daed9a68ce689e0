"""ImageNet weights for the backbones of ``bench/networks``, from torchvision or from a file on disk.

torchvision downloads its files once into torch's hub folder, checks their hash, and reads them with ``weights_only=True``. Where
there is no network, ``$BENCH_IMAGENET`` names a folder that holds the same files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision.models as tv
from torch import Tensor, nn

from stpl.segmenter import VideoSegmenter

from .errors import RunError, UsageError

WEIGHTS: Mapping[str, Any] = {
    "deeplabv2_resnet101": tv.ResNet101_Weights.IMAGENET1K_V1,
    "deeplabv2_resnet50": tv.ResNet50_Weights.IMAGENET1K_V1,
    "lraspp_mobilenetv3": tv.MobileNet_V3_Large_Weights.IMAGENET1K_V1,
}
"""By network. V1: the recipe of the time; V2's augmentation would make ResNets of another strength than the published ones."""


def initial_weights(segmenter: VideoSegmenter, network: str, weights: str) -> None:
    """Fill the encoder's backbone in place.

    Args:
        network: name of the segmenter's network.
        weights: ``imagenet``; ``random`` leaves it as it is.

    Raises:
        UsageError: no such weights for this network.
        RunError: they cannot be had, or do not fit.
    """
    if weights == "random":
        return
    if network not in WEIGHTS:
        raise UsageError(
            f"Network '{network}' has no ImageNet weights; use -o weights=random or one of {', '.join(WEIGHTS)}"
        )
    load_backbone(segmenter.encoder, network, read_weights(network))


def read_weights(network: str) -> dict[str, Tensor]:
    """torchvision's state dict for a network's backbone.

    Raises:
        RunError: neither on disk nor to be downloaded, or damaged.
    """
    source = WEIGHTS[network]
    folder = os.environ.get("BENCH_IMAGENET")
    name = source.url.rsplit("/", 1)[-1]
    if folder:
        file = Path(folder) / name
        try:
            found: dict[str, Tensor] = torch.load(file, map_location="cpu", weights_only=True)
        except FileNotFoundError:
            raise RunError(f"No {name} in $BENCH_IMAGENET ({folder}); it is torchvision's file of that name") from None
        except Exception as error:  # whatever torch finds wrong with a damaged file
            what = " ".join(str(error).split())
            raise RunError(f"{file} is not a checkpoint that can be read safely: {what:.150}") from None
        return found
    try:
        state: dict[str, Tensor] = source.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # no network, a proxy's page instead of the file, a full disk
        what = " ".join(str(error).split())
        raise RunError(
            f"Cannot get ImageNet weights {name} ({what:.150}); put the file into a folder and set $BENCH_IMAGENET, "
            "or use -o weights=random"
        ) from None
    return state


def load_backbone(encoder: nn.Module, network: str, state: Mapping[str, Tensor]) -> None:
    """Copy the layers of ``state`` that the encoder has; all of the encoder's backbone must be among them.

    Raises:
        RunError: a layer is missing or of another shape.
    """
    if network == "lraspp_mobilenetv3":
        state = {f"backbone.{name.removeprefix('features.')}": value for name, value in state.items()}
        wanted = {name for name in encoder.state_dict() if name.startswith("backbone.")}
    else:
        wanted = {name for name in encoder.state_dict() if name not in ("mean", "std")}
    own = encoder.state_dict()
    for name in sorted(wanted):
        if name not in state or state[name].shape != own[name].shape:
            raise RunError(
                f"These are not the ImageNet weights of '{network}': '{name}' is missing or of another shape"
            )
    encoder.load_state_dict({name: state[name] for name in wanted}, strict=False)
