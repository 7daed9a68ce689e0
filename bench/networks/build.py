"""Network registry and assembly: a network is one file here with a function ``build(num_classes) -> NetworkParts``.

Nothing else has to be edited to add one. The encoder takes RGB in 0..1 and normalises by itself; it has the attributes
``channels``, ``auxiliary_channels`` and ``stride`` and returns ``(main, auxiliary or None)`` features. The classifier is
built for the number of channels that the fusion operator puts out, and may raise the resolution.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from torch import nn

from bench.core.errors import UsageError, unknown
from bench.core.registry import import_from, names_in

if TYPE_CHECKING:
    from stpl.segmenter import VideoSegmenter


SCORE_FUSIONS: dict[str, Literal["splat", "warp"]] = {"accel_splat": "splat", "accel_warp": "warp"}
"""Fusion of scores instead of features, by name: how ``stpl.segmenter.AccelScoreFusion`` propagates (DA-VSN, TPS)."""


@dataclass(frozen=True)
class NetworkParts:
    """What a network brings: encoder, classifier by input channels, auxiliary classifier or None."""

    encoder: nn.Module
    classifier: Callable[[int], nn.Module]
    auxiliary_classifier: nn.Module | None = None


def network_names() -> list[str]:
    """Networks at hand, by file name."""
    return names_in("bench.networks.zoo")


def check_network(network: str) -> None:
    """Refuse a name that is no network.

    Raises:
        UsageError: unknown; names the nearest one and all there are.
    """
    if network not in network_names():
        raise unknown("network", network, network_names())


def fusion_names() -> list[str]:
    """What can be named as fusion: the operators on features of ``stpl.fusion``, then those on scores."""
    from stpl.fusion import FUSIONS

    return [*FUSIONS, *SCORE_FUSIONS]


def build_segmenter(network: str, fusion: str, num_classes: int, num_frames: int = 2) -> VideoSegmenter:
    """A freshly initialised video segmenter.

    Args:
        network: one of :func:`network_names`.
        fusion: one of :func:`fusion_names`.
        num_classes: classes K of the scores.
        num_frames: frames T per clip.

    Raises:
        UsageError: unknown network.
        ValueError: unknown fusion.
    """
    from stpl.fusion import build_fusion
    from stpl.segmenter import AccelScoreFusion, VideoSegmenter

    parts: NetworkParts = import_from("bench.networks.zoo", network, kind="network").build(num_classes)
    propagate = SCORE_FUSIONS.get(fusion)
    operator = build_fusion("none" if propagate else fusion, int(parts.encoder.channels), num_frames)  # type: ignore[arg-type]
    return VideoSegmenter(
        parts.encoder,
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
