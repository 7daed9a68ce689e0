"""Published checkpoints of AdaptSegNet, ADVENT, DA-VSN and TPS as model files that give the same scores.

All four train the same network (``deeplabv2_resnet101_published``) under the same names: ``conv1 bn1 layer1 ... layer4``,
classifiers ``layer5``/``layer6`` with ``conv2d_list.0..3``, and DA-VSN and TPS a score fusion ``sf_layer``. What a name cannot
tell is the *layout*:

- ``adaptsegnet``: its classifier returns from inside its loop, so that two of the four branches count. The other two, never
  trained, are set to zero here.
- ``advent``: all four branches.
- ``da_vsn``, ``tps``: all four, and the previous frame's scores are splatted (``accel_splat``) or warped (``accel_warp``).

Input there is B, G, R in 0..255 minus a mean; here RGB in 0..1. The first convolution's input channels are turned round and
mean and scale go into the encoder's buffers, so the scores are the same up to rounding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bench.core.errors import RunError, UsageError, unknown
from bench.core.registry import find, resolve

from .build import build_segmenter, fusion_names
from .foreign import load_foreign

if TYPE_CHECKING:
    from stpl.segmenter import VideoSegmenter

NETWORK = "deeplabv2_resnet101_published"

SCORE_FUSION_OF = {"adaptsegnet": "none", "advent": "none", "da_vsn": "accel_splat", "tps": "accel_warp"}
"""Fusion that a layout's checkpoints were trained with."""

FEATURE_FUSIONS = ("none", "conv1x1", "cross_attention")
"""Operators on features that start as the single-frame model exactly, so that they can be put under its weights."""

BRANCHES_THAT_COUNT = {"adaptsegnet": 2}
"""Of the classifier's four, where not all."""

INITIAL_STD = 0.01
"""Of the classifier's weights before training, in all four repositories."""


@dataclass(frozen=True)
class Conversion:
    """A converted model and what became of every name.

    Attributes:
        segmenter: with the checkpoint's weights; without auxiliary head where the checkpoint has none.
        layout, network, fusion, num_classes: what it is.
        matched: number of the checkpoint's tensors that were taken.
        ignored: its names that the model has no place for.
        missing: the model's names that the checkpoint does not have and that keep their initial value.
    """

    segmenter: VideoSegmenter
    layout: str
    network: str
    fusion: str
    num_classes: int
    matched: int
    ignored: tuple[str, ...]
    missing: tuple[str, ...]


def convert(checkpoint: Path, layout: str = "auto", network: str = NETWORK, fusion: str = "") -> Conversion:
    """Read a published checkpoint.

    Args:
        checkpoint: ``.safetensors`` or a torch file; never unpickled.
        layout: one of :data:`SCORE_FUSION_OF`, or ``auto`` where the names leave one choice.
        network: a network in the published layout.
        fusion: by default the layout's own; or one of :data:`FEATURE_FUSIONS`, which leaves ``sf_layer`` out.

    Raises:
        UsageError: unknown or unfitting names.
        RunError: a file that cannot be read, or holds another network.
    """
    if layout not in ("auto", *SCORE_FUSION_OF):
        raise unknown("layout", layout, ["auto", *SCORE_FUSION_OF])
    network = resolve("network", network)
    find("network", network)
    if fusion and fusion not in fusion_names():
        raise unknown("fusion", fusion, fusion_names())
    tensors = load_foreign(checkpoint)
    heads = classifiers(tensors, checkpoint)
    layout = layout if layout != "auto" else guessed(tensors, heads, checkpoint)
    fusion = fusion or SCORE_FUSION_OF[layout]
    if fusion not in (*FEATURE_FUSIONS, SCORE_FUSION_OF[layout]):
        allowed = sorted({*FEATURE_FUSIONS, SCORE_FUSION_OF[layout]})
        raise UsageError(
            f"fusion '{fusion}' would change the scores of a {layout} checkpoint; allowed: {', '.join(allowed)}"
        )
    num_classes = int(tensors[f"{heads['classifier']}.conv2d_list.0.weight"].shape[0])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # cross_attention has weights of its own
        segmenter = build_segmenter(network, fusion, num_classes)
    if not getattr(segmenter.encoder, "published", False):
        raise UsageError(f"network '{network}' is not in the published layout; use {NETWORK}")
    if "auxiliary_classifier" not in heads:
        segmenter.auxiliary_classifier = None
    return _filled(segmenter, tensors, heads, (layout, network, fusion, num_classes), checkpoint)


def classifiers(tensors: Mapping[str, Tensor], checkpoint: Path) -> dict[str, str]:
    """Which of ``layer5`` and ``layer6`` is the classifier and which the auxiliary one, by our name.

    Two levels: ``layer5`` is auxiliary, ``layer6`` main. One level: ``layer6`` (ADVENT) or ``layer5`` (AdaptSegNet).
    """
    there = [name for name in ("layer5", "layer6") if f"{name}.conv2d_list.0.weight" in tensors]
    if not there or "conv1.weight" not in tensors:
        some = ", ".join(list(tensors)[:3])
        raise RunError(
            f"{checkpoint} is not a DeepLabv2 checkpoint of AdaptSegNet, ADVENT, DA-VSN or TPS: it has no conv1.weight with "
            f"layer5 or layer6.conv2d_list.0.weight; its names begin {some}"
        )
    return dict(zip(("classifier", "auxiliary_classifier"), reversed(there), strict=False))


def guessed(tensors: Mapping[str, Tensor], heads: Mapping[str, str], checkpoint: Path) -> str:
    """The layout where the names leave one choice."""
    if "sf_layer.weight" in tensors:
        raise UsageError(f"{checkpoint} has sf_layer: it is of DA-VSN or of TPS; say --layout da_vsn or --layout tps")
    if "auxiliary_classifier" not in heads:
        return "adaptsegnet" if heads["classifier"] == "layer5" else "advent"
    names = [f"{heads['classifier']}.conv2d_list.{branch}.weight" for branch in (2, 3)]
    last = [tensors[name].float() for name in names if name in tensors]
    untrained = bool(last) and all(abs(float(weight.std()) / INITIAL_STD - 1) < 0.02 for weight in last)
    likely = (
        "adaptsegnet, since branches 2 and 3 look untrained" if untrained else "advent, since all four look trained"
    )
    raise UsageError(
        f"{checkpoint} is of AdaptSegNet (which uses two of the classifier's branches) or of ADVENT (four); "
        f"say --layout adaptsegnet or --layout advent (probably {likely})"
    )


def _filled(
    segmenter: VideoSegmenter,
    tensors: Mapping[str, Tensor],
    heads: Mapping[str, str],
    what: tuple[str, str, str, int],
    checkpoint: Path,
) -> Conversion:
    """Copy every tensor to its place and account for all names on both sides."""
    layout, network, fusion, num_classes = what
    own = segmenter.state_dict()
    taken: dict[str, Tensor] = {}
    ignored = []
    for name, value in tensors.items():
        place = our_name(name, heads)
        if place not in own:
            ignored.append(name)
        elif own[place].shape != value.shape:
            raise RunError(
                f"{checkpoint}: '{name}' is {tuple(value.shape)}, but network '{network}' with {num_classes} classes has "
                f"{tuple(own[place].shape)}"
            )
        else:
            taken[place] = value
    missing = [name for name in own if name not in taken and not name.startswith("encoder.normalise.")]
    needed = [name for name in missing if not (name.endswith("num_batches_tracked") or name.startswith("fusion."))]
    if needed:
        raise RunError(
            f"{checkpoint} lacks {len(needed)} of the tensors of network '{network}' with fusion '{fusion}', the first: "
            f"'{needed[0]}'"
        )
    if unplaced := [name for name in ignored if name.startswith(("layer", "conv1", "bn1"))]:
        raise RunError(
            f"{checkpoint} has {len(unplaced)} tensors of the network that '{network}' has no place for, the first: "
            f"'{unplaced[0]}'"
        )
    taken["encoder.conv1.weight"] = taken["encoder.conv1.weight"].flip(1)
    for head in heads:
        for branch in range(BRANCHES_THAT_COUNT.get(layout, 4), 4):
            for kind in ("weight", "bias"):
                name = f"{head}.branches.{branch}.{kind}"
                taken[name] = torch.zeros_like(taken[name])
    segmenter.load_state_dict({**own, **taken})
    return Conversion(segmenter, *what, len(tensors) - len(ignored), tuple(ignored), tuple(missing))


def our_name(name: str, heads: Mapping[str, str]) -> str:
    """Where a published name goes in a :class:`stpl.segmenter.VideoSegmenter`."""
    for ours, theirs in heads.items():
        if name.startswith(f"{theirs}.conv2d_list."):
            return name.replace(f"{theirs}.conv2d_list", f"{ours}.branches", 1)
    if name == "sf_layer.weight":
        return "score_fusion.mix.weight"
    return f"encoder.{name}"
