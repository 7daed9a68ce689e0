"""Put the tensors of a checkpoint into a segmenter, and account for every name on both sides."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from bench.core.errors import RunError

from .build import build_segmenter
from .weights import check_finite

if TYPE_CHECKING:
    from stpl.segmenter import VideoSegmenter

FEATURE_FUSIONS = ("none", "conv1x1", "cross_attention")
"""Operators on features that start as the single-frame model exactly, so that they can be put under its weights."""


@dataclass(frozen=True)
class Conversion:
    """A converted model and what became of every name.

    Attributes:
        segmenter: with the checkpoint's weights; without auxiliary head where the checkpoint has none.
        layout, network, fusion, num_classes: what it is.
        matched: number of the checkpoint's tensors that were taken.
        ignored: its names that the model has no place for.
        missing: the model's names that the checkpoint does not have and that keep their initial value.
        renamed: the model's module by the checkpoint's, where ``names`` found one under another name.
        classes: names in train-id order, where the layout tells.
        note: what else to know.
    """

    segmenter: VideoSegmenter
    layout: str
    network: str
    fusion: str
    num_classes: int
    matched: int
    ignored: tuple[str, ...]
    missing: tuple[str, ...]
    renamed: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] | None = None
    note: str = ""


def fresh(network: str, fusion: str, num_classes: int) -> VideoSegmenter:
    """A segmenter whose fusion, where the checkpoint has none, is drawn the same way every time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_segmenter(network, fusion, num_classes)


def filled(
    checkpoint: Path,
    tensors: Mapping[str, Tensor],
    places: Mapping[str, str],
    segmenter: VideoSegmenter,
    identity: tuple[str, str, str, int],
    **fields: Any,
) -> Conversion:
    """Copy every tensor to its place and account for all names on both sides.

    Args:
        places: the segmenter's name by the checkpoint's.
        identity: layout, network, fusion, number of classes.
        fields: of :class:`Conversion`.

    Raises:
        RunError: a shape or kind of number differs, something needed is missing, or weights are not finite.
    """
    _, network, fusion, num_classes = identity
    state = segmenter.state_dict()
    taken: dict[str, Tensor] = {}
    ignored = []
    for name, value in tensors.items():
        our_name = places[name]
        if our_name not in state:
            ignored.append(name)
        elif state[our_name].shape != value.shape or state[our_name].is_floating_point() != value.is_floating_point():
            raise RunError(
                f"{checkpoint}: '{name}' is {tuple(value.shape)} of {value.dtype}, but network '{network}' with {num_classes} "
                f"classes has {tuple(state[our_name].shape)} of {state[our_name].dtype}"
            )
        else:
            taken[our_name] = value
    check_finite({name: value for name, value in tensors.items() if name not in ignored}, checkpoint)
    missing = [name for name in state if name not in taken and not name.startswith("encoder.normalise.")]
    lacking = [name for name in missing if needed(name) and not name.startswith("fusion.")]
    if lacking:
        raise RunError(
            f"{checkpoint} lacks {len(lacking)} of the tensors of network '{network}' with fusion '{fusion}' and {num_classes} "
            f"classes, the first: '{lacking[0]}' {tuple(state[lacking[0]].shape)}; of its own have no place: {some(ignored)}"
        )
    segmenter.load_state_dict({**state, **taken})
    return Conversion(segmenter, *identity, len(tensors) - len(ignored), tuple(ignored), tuple(missing), **fields)


def needed(name: str) -> bool:
    """Whether a checkpoint must hold this tensor. Counters are not used, and normalisation is the network's own."""
    return not name.endswith("num_batches_tracked") and not name.startswith("encoder.normalise.")


def some(names: Iterable[str]) -> str:
    """The first three names."""
    return ", ".join(f"'{name:.60}'" for name in list(names)[:3]) or "none"
