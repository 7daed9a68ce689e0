"""Initial weights of a network's backbone: torchvision's ImageNet ones, downloaded or from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, hub

from bench.core.errors import RunError, UsageError, unknown
from bench.core.loading import load

from .foreign import load_foreign
from .weights import check_finite

if TYPE_CHECKING:
    from stpl.segmenter import VideoSegmenter

WEIGHTS = ("random", "imagenet")
"""What a shift can ask for."""


def initial_weights(segmenter: VideoSegmenter, network: str, weights: str, file: Path | None = None) -> None:
    """Fill the backbone of a freshly built segmenter, in place; heads and fusion stay as they are.

    Args:
        segmenter: from ``build_segmenter(network, ...)``.
        network: its name.
        weights: one of :data:`WEIGHTS`; ``random`` leaves the segmenter as it was built.
        file: weights of a classification network in the network's layout, ``.safetensors`` or torch; without it torchvision
            downloads its own (once: they stay in torch's cache), checked against the hash in their name.

    Raises:
        UsageError: unknown ``weights``, a file for ``random``, or a network that has no ImageNet weights.
        RunError: no network connection, or a file that is damaged, holds code, or does not fit.
    """
    if weights not in WEIGHTS:
        raise unknown("weights", weights, WEIGHTS)
    if weights == "random":
        if file is not None:
            raise UsageError(f"weights: random takes no file, got {file}")
        return
    encoder: Any = segmenter.encoder
    if not hasattr(encoder, "load_backbone"):
        raise UsageError(f"Network '{network}' has no ImageNet weights; use weights: random")
    state = load_foreign(file) if file is not None else _download(network, encoder)
    check_finite(state, file or network)
    try:
        encoder.load_backbone(state)
    except RuntimeError as error:  # torch lists names and shapes over many lines
        first = str(error).splitlines()[1:2] or [str(error)]
        raise RunError(f"{file or network}: not the backbone of '{network}': {first[0].strip():.160}") from None


def _download(network: str, encoder: Any) -> Mapping[str, Tensor]:
    """Weights from a cache or the internet: torchvision's by name, or those of the library that the network is of."""
    if ":" in network:
        try:
            weights: Mapping[str, Tensor] = encoder.download()
            return weights
        except Exception as error:  # of the connection, of the disk, of the hub, of a name without weights
            raise RunError(
                f"Cannot get weights for '{network}' ({type(error).__name__}: {' '.join(str(error).split()):.100}): run once on "
                "a machine with internet and copy its cache (HF_HOME), or use -o weights=random"
            ) from None
    name = getattr(load("network", network), "IMAGENET", None)
    if name is None:
        raise UsageError(
            f"torchvision has no ImageNet weights for '{network}'; give a file in its layout (AdaptSegNet's README links "
            "DeepLab_resnet_pretrained_init-f81d91e8.pth), convert a checkpoint with `bench convert`, or use network "
            "deeplabv2_resnet101"
        )
    from torchvision.models import get_weight

    pretrained = get_weight(name)
    cached = Path(hub.get_dir()) / "checkpoints" / Path(pretrained.url).name
    try:
        state: Mapping[str, Tensor] = pretrained.get_state_dict(progress=False, check_hash=True, weights_only=True)
    except Exception as error:  # of the connection, of the disk, or of whatever bytes lie in the cache
        raise RunError(
            f"Cannot get {pretrained.url} ({' '.join(str(error).split()):.100}): fetch it on a machine with internet and put it at "
            f"{cached}, or use -o weights=random"
        ) from None
    return state
