"""Assembly of networks: a network is one file in ``zoo/``, or of one's own, with a function ``build(num_classes) -> NetworkParts``,
or one of a library's, named ``timm:...`` or ``smp:...``.

Nothing else has to be edited to add one. The encoder takes RGB in 0..1 and normalises by itself, and returns ``(main, auxiliary
or None)`` features. Its attributes: ``channels`` and ``auxiliary_channels`` of them, ``stride`` of the main ones, and ``multiple``:
what both sides of a frame must be a multiple of (by default ``stride``; 1 where any size will do). The classifier is built for
the number of channels that the fusion operator puts out, and may raise the resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from bench.core.errors import RunError, UsageError, unknown
from bench.core.loading import load
from bench.core.registry import names

if TYPE_CHECKING:
    from bench.core.workspace import Workspace
    from stpl.segmenter import VideoSegmenter


SCORE_FUSIONS: dict[str, Literal["splat", "warp"]] = {"accel_splat": "splat", "accel_warp": "warp"}
"""Fusion of scores instead of features, by name: how ``stpl.segmenter.AccelScoreFusion`` propagates (DA-VSN, TPS)."""

FAMILIES = {"timm": "timm:NAME", "smp": "smp:ARCHITECTURE:ENCODER"}
"""Libraries whose networks can be named, each with a module ``_<family>`` here, and how."""


@dataclass(frozen=True)
class NetworkParts:
    """What a network brings: encoder, classifier by input channels, auxiliary classifier or None."""

    encoder: nn.Module
    classifier: Callable[[int], nn.Module]
    auxiliary_classifier: nn.Module | None = None


def network_names() -> list[str]:
    """Networks at hand, by file name."""
    return names("network")


def check_network(network: str) -> None:
    """Refuse a name that is no network.

    Raises:
        UsageError: unknown (names the nearest one and all there are), or of a library that is not installed.
    """
    if ":" not in network:
        if network not in network_names():
            raise unknown("network", network, [*network_names(), *FAMILIES.values()])
    else:
        _family(network).check(network.partition(":")[2])


def network_parts(network: str, num_classes: int) -> NetworkParts:
    """Freshly initialised parts of a network.

    Raises:
        UsageError: as :func:`check_network`.
    """
    check_network(network)
    if ":" in network:
        parts: NetworkParts = _family(network).build(network.partition(":")[2], num_classes)
        return parts
    built = load("network", network).build(num_classes)
    if not isinstance(built, NetworkParts):
        raise RunError(f"Network '{network}': build() gives {type(built).__name__}, a NetworkParts is expected")
    return built


def _family(network: str) -> Any:
    family = network.partition(":")[0]
    if family not in FAMILIES:
        raise unknown("network family", family, FAMILIES, f" in '{network}'")
    return import_module(f"{__package__}._{family}")


def library(module: str, package: str) -> Any:
    """A library that networks come from, imported when the first one is asked for.

    Raises:
        UsageError: it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise UsageError(
            f"This network needs the package {package} ({' '.join(str(error).split()):.100}); install the extra: "
            "pip install 'stpl-benchmark[timm]'"
        ) from None


@lru_cache
def multiple_of(network: str) -> int:
    """What both sides of a frame must be a multiple of for a network; 1 where any size will do.

    Raises:
        UsageError: unknown network, or one that takes frames of one size only.
    """
    with torch.device("meta"):  # shapes only
        encoder: Any = network_parts(network, 2).encoder
        return int(getattr(encoder, "multiple", encoder.stride))


def rounded_size(network: str, height: int, width: int) -> tuple[int, int]:
    """The size nearest to ``height x width`` that a network takes."""
    multiple = multiple_of(network)
    nearest = [max(multiple, (side + multiple // 2) // multiple * multiple) for side in (height, width)]
    return nearest[0], nearest[1]


def check_size(network: str, height: int, width: int) -> None:
    """Refuse frames of a size that a network does not take.

    Raises:
        UsageError: says what it takes and the nearest size.
    """
    nearest = rounded_size(network, height, width)
    if nearest != (height, width):
        raise UsageError(
            f"Network '{network}' takes frames whose sides are multiples of {multiple_of(network)}, not {height}x{width}; the "
            f"nearest such size is {nearest[0]}x{nearest[1]}"
        )


def fusion_names() -> list[str]:
    """What can be named as fusion: the operators on features of ``stpl.fusion``, then those on scores."""
    from stpl.fusion import FUSIONS

    return [*FUSIONS, *SCORE_FUSIONS]


def build_segmenter(network: str, fusion: str, num_classes: int, num_frames: int = 2) -> VideoSegmenter:
    """A freshly initialised video segmenter.

    Args:
        network: one of :func:`network_names`, or of a library (:data:`FAMILIES`).
        fusion: one of :func:`fusion_names`.
        num_classes: classes K of the scores.
        num_frames: frames T per clip.

    Raises:
        UsageError: unknown network.
        RunError: its file cannot be loaded.
        ValueError: unknown fusion.
    """
    from stpl.fusion import build_fusion
    from stpl.segmenter import AccelScoreFusion, VideoSegmenter

    parts = network_parts(network, num_classes)
    encoder: Any = parts.encoder
    propagate = SCORE_FUSIONS.get(fusion)
    operator = build_fusion("none" if propagate else fusion, int(encoder.channels), num_frames)
    return VideoSegmenter(
        encoder,
        parts.classifier(operator.out_channels),
        operator,
        auxiliary_classifier=parts.auxiliary_classifier,
        score_fusion=AccelScoreFusion(num_classes, propagate=propagate) if propagate else None,
    )


def set_checkpointing(segmenter: VideoSegmenter, on: bool = True) -> None:
    """Compute the encoder's activations again in the backward pass instead of keeping them: same bits, less memory.

    Raises:
        UsageError: the network cannot.
    """
    encoder: Any = segmenter.encoder
    if not hasattr(encoder, "checkpointing"):
        raise UsageError("This network has no gradient checkpointing; only the deeplabv2 networks do")
    encoder.checkpointing = on


def place(segmenter: VideoSegmenter, workspace: Workspace) -> VideoSegmenter:
    """Put a network where it computes: on the device, channels last on a GPU, its encoder compiled where that is asked for."""
    segmenter = segmenter.to(workspace.device)
    if workspace.device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # float32 is float32: scores are those of a CPU up to the order of sums
        segmenter = segmenter.to(memory_format=torch.channels_last)
    if workspace.compiled:
        segmenter.encoder.compile()
    return segmenter
