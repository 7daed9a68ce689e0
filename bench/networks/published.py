"""Checkpoints from elsewhere as model files: of AdaptSegNet, ADVENT, DA-VSN, TPS and ESPNet with the same scores, and of any
network that is registered here.

What became of every name is accounted for. A *layout* says what a file's names mean:

- ``adaptsegnet``, ``advent``, ``da_vsn``, ``tps`` train the same network (``deeplabv2_resnet101_published``) under the same
  names: ``conv1 bn1 layer1 ... layer4``, classifiers ``layer5``/``layer6`` with ``conv2d_list.0..3``, and DA-VSN and TPS a
  score fusion ``sf_layer``. What a name cannot tell: ``adaptsegnet``'s classifier returns from inside its loop, so that two of
  the four branches count (the other two, never trained, are set to zero here); ``advent`` uses all four; ``da_vsn`` splats the
  previous frame's scores (``accel_splat``), ``tps`` warps them (``accel_warp``). Input there is B, G, R in 0..255 minus a mean;
  here RGB in 0..1. The first convolution's input channels are turned round and mean and scale go into the encoder's buffers,
  so the scores are the same up to rounding.
- ``espnet``: the published ESPNet of q = 3, 5 or 8. Its last output, void, is left out.
- ``names``: a network of `bench list networks`, its tensors found by names and shapes (``_matching``). Nothing is known here of
  how it was fed: the network's own normalisation must be the one that it was trained with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from bench.core.errors import RunError, UsageError, unknown
from bench.core.registry import resolve

from ._filling import FEATURE_FUSIONS, Conversion, filled, fresh, some
from ._matching import by_names
from .build import check_network, fusion_names
from .foreign import layout_hint, load_foreign

NETWORK = "deeplabv2_resnet101_published"

SCORE_FUSION_OF = {"adaptsegnet": "none", "advent": "none", "da_vsn": "accel_splat", "tps": "accel_warp"}
"""Fusion that a layout's checkpoints were trained with."""

LAYOUTS = ("auto", *SCORE_FUSION_OF, "espnet", "names")

BRANCHES_THAT_COUNT = {"adaptsegnet": 2}
"""Of the classifier's four, where not all."""

INITIAL_STD = 0.01
"""Of the classifier's weights before training, in all four repositories."""

ESPNETS = {3: "espnet_q3", 5: "espnet_q5", 8: "espnet"}
"""Network by depth q."""


def convert(
    checkpoint: Path,
    layout: str = "auto",
    network: str = "",
    fusion: str = "",
    num_classes: int = 0,
    rename: Sequence[str] = (),
) -> Conversion:
    """Read a checkpoint from elsewhere.

    Args:
        checkpoint: ``.safetensors`` or a torch file; never unpickled.
        layout: one of :data:`LAYOUTS`; ``auto`` where the names leave one choice.
        network: for ``names``, the network that the weights are of; for the DeepLab layouts, a network in the published layout.
        fusion: by default the layout's own, or ``none``; or one of :data:`FEATURE_FUSIONS`, which leaves ``sf_layer`` out.
        num_classes: K, for ``names``; the other layouts tell, and another number is refused.
        rename: ``THEIRS=OURS``, modules of the checkpoint and the names to read them under, for ``names``.

    Raises:
        UsageError: unknown or unfitting names.
        RunError: a file that cannot be read, holds another network, or weights that are not finite.
    """
    if layout not in LAYOUTS:
        raise unknown("layout", layout, LAYOUTS)
    if network:
        network = resolve("network", network)
        check_network(network)
    if fusion and fusion not in fusion_names():
        raise unknown("fusion", fusion, fusion_names())
    tensors = load_foreign(checkpoint)
    layout = layout if layout != "auto" else guessed(tensors, network, checkpoint)
    if layout in SCORE_FUSION_OF:
        conversion = _deeplab(checkpoint, tensors, layout, network or NETWORK, fusion)
    elif layout == "espnet":
        conversion = _espnet(checkpoint, tensors, network, fusion)
    else:
        conversion = by_names(checkpoint, tensors, network, fusion, num_classes, rename)
    if num_classes not in (0, conversion.num_classes):
        raise UsageError(f"{checkpoint} has {conversion.num_classes} classes, not the {num_classes} that are asked for")
    return conversion


def guessed(tensors: Mapping[str, Tensor], network: str, checkpoint: Path) -> str:
    """The layout where the names leave one choice.

    Raises:
        UsageError: they leave two, or none and no network is named.
    """
    hint = layout_hint(tensors)
    if "espnet" in hint and (not network or network.startswith("espnet")):
        return "espnet"
    if "LAYOUT" not in hint and network:
        return "names"
    if "LAYOUT" not in hint:
        raise UsageError(
            f"{checkpoint} is not of AdaptSegNet, ADVENT, DA-VSN, TPS or ESPNet; its names begin {some(tensors)}. Say which "
            "network it is of: --network NAME (see `bench list networks`; your own is one file, see CONTRIBUTING.md)"
        )
    heads = classifiers(tensors, checkpoint)
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


def classifiers(tensors: Mapping[str, Tensor], checkpoint: Path) -> dict[str, str]:
    """Which of ``layer5`` and ``layer6`` is the classifier and which the auxiliary one, by our name.

    Two levels: ``layer5`` is auxiliary, ``layer6`` main. One level: ``layer6`` (ADVENT) or ``layer5`` (AdaptSegNet).
    """
    weights = {name: tensors.get(f"{name}.conv2d_list.0.weight") for name in ("layer5", "layer6")}
    present = [name for name, weight in weights.items() if weight is not None and weight.dim() == 4 and len(weight)]
    if not present or "conv1.weight" not in tensors:
        raise RunError(
            f"{checkpoint} is not a DeepLabv2 checkpoint of AdaptSegNet, ADVENT, DA-VSN or TPS: it has no conv1.weight with "
            f"layer5 or layer6.conv2d_list.0.weight; its names begin {some(tensors)}"
        )
    return dict(zip(("classifier", "auxiliary_classifier"), reversed(present), strict=False))


def _deeplab(checkpoint: Path, tensors: dict[str, Tensor], layout: str, network: str, fusion: str) -> Conversion:
    heads = classifiers(tensors, checkpoint)
    fusion = fusion or SCORE_FUSION_OF[layout]
    if fusion not in (*FEATURE_FUSIONS, SCORE_FUSION_OF[layout]):
        allowed = sorted({*FEATURE_FUSIONS, SCORE_FUSION_OF[layout]})
        raise UsageError(
            f"fusion '{fusion}' would change the scores of a {layout} checkpoint; allowed: {', '.join(allowed)}"
        )
    num_classes = int(tensors[f"{heads['classifier']}.conv2d_list.0.weight"].shape[0])
    segmenter = fresh(network, fusion, num_classes)
    if not getattr(segmenter.encoder, "published", False):
        raise UsageError(f"network '{network}' is not in the published layout; use {NETWORK}")
    if "auxiliary_classifier" not in heads:
        segmenter.auxiliary_classifier = None
    if tensors["conv1.weight"].dim() == 4:
        tensors["conv1.weight"] = tensors["conv1.weight"].flip(1)
    for name in heads.values():
        for branch in range(BRANCHES_THAT_COUNT.get(layout, 4), 4):
            for kind in ("weight", "bias"):
                if (unused := f"{name}.conv2d_list.{branch}.{kind}") in tensors:
                    tensors[unused] = torch.zeros_like(tensors[unused])
    places = {name: our_name(name, heads) for name in tensors}
    conversion = filled(checkpoint, tensors, places, segmenter, (layout, network, fusion, num_classes))
    _all_placed(conversion, ("layer", "conv1", "bn1"), checkpoint)
    return conversion


def _espnet(checkpoint: Path, tensors: dict[str, Tensor], network: str, fusion: str) -> Conversion:
    from cityscapesscripts.helpers.labels import labels

    from .zoo.espnet import PUBLISHED, published_place

    classes = tuple(label.name for label in sorted(labels, key=lambda label: label.trainId) if 0 <= label.trainId < 19)
    blocks = {name.split(".")[2] for name in tensors if name.startswith("encoder.level3.")}
    if len(blocks) not in ESPNETS or network not in ("", ESPNETS[len(blocks)]):
        raise RunError(
            f"{checkpoint} is not {network or 'an ESPNet'}: it has {len(blocks)} blocks of level 3; espnet_q3 has 3, espnet_q5 5, "
            "espnet 8"
        )
    network, fusion = ESPNETS[len(blocks)], fusion or "none"
    if fusion not in FEATURE_FUSIONS:
        raise UsageError(f"fusion '{fusion}' would change the scores; allowed: {', '.join(FEATURE_FUSIONS)}")
    last = tensors.get("classifier.weight")
    if last is None or last.dim() != 4 or last.shape[1] != len(classes) + 1:
        shape = "none" if last is None else tuple(last.shape)
        raise RunError(
            f"{checkpoint}: classifier.weight is {shape}, the published decoder's is (20, 20, 2, 2): 19 classes of Cityscapes and "
            "void. An ESPNet-C (without decoder) or one trained on other classes is not read by this layout"
        )
    tensors["classifier.weight"] = last[:, :-1]
    segmenter = fresh(network, fusion, len(classes))
    places = {name: published_place(name) for name in tensors}
    identity = ("espnet", network, fusion, len(classes))
    note = "output 20 of 20, void, is left out: no labelled pixel is void"
    conversion = filled(checkpoint, tensors, places, segmenter, identity, classes=classes, note=note)
    _all_placed(conversion, tuple(f"{module}." for module in PUBLISHED), checkpoint)
    return conversion


def _all_placed(conversion: Conversion, starts: tuple[str, ...], checkpoint: Path) -> None:
    """Refuse a checkpoint that has more of the network than there is a place for."""
    if unplaced := [name for name in conversion.ignored if name.startswith(starts)]:
        raise RunError(
            f"{checkpoint} has {len(unplaced)} tensors of the network that '{conversion.network}' has no place for, the first: "
            f"'{unplaced[0]:.120}'"
        )


def our_name(name: str, heads: Mapping[str, str]) -> str:
    """Where a published name goes in a :class:`stpl.segmenter.VideoSegmenter`."""
    for ours, theirs in heads.items():
        if name.startswith(f"{theirs}.conv2d_list."):
            return name.replace(f"{theirs}.conv2d_list", f"{ours}.branches", 1)
    if name == "sf_layer.weight":
        return "score_fusion.mix.weight"
    return f"encoder.{name}"
