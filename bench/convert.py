"""``bench convert``: published checkpoints of DeepLabv2-ResNet-101 to a model file of ours, with a report of what matched.

AdaptSegNet, ADVENT, DA-VSN and TPS share their names: ``conv1 bn1 layer1..4``, the heads ``layer5`` and ``layer6`` with
``conv2d_list.N``, and ``sf_layer``, the 1x1 score fusion of the last two. Which head is which is read off its input channels:
2048 is the main one, 1024 the auxiliary one (AdaptSegNet's single-level model calls its main head ``layer5``).

These networks take BGR 0..255 minus a mean. The model file takes RGB 0..1: the first convolution's input channels are reversed,
and mean and deviation become buffers. The zero padding of the first convolution then means the same colour as before.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .errors import RunError, UsageError
from .model_file import ModelInfo, save_model
from .networks.build import build_segmenter

NETWORK = "deeplabv2_resnet101_published"
MEAN_BGR = (104.00698793, 116.66876762, 122.67891434)
"""Subtracted by all four codes, grey levels."""
WRAPPERS = ("state_dict", "model", "model_state_dict", "net")
"""Keys under which a checkpoint may hold the weights beside other things."""
HEAD = re.compile(r"(layer[56])\.conv2d_list\.([0-3])\.(weight|bias)")


@dataclass
class Report:
    """What became of a checkpoint's tensors, by name.

    Attributes:
        matched: ours by theirs.
        ignored: theirs that have no place here.
        missing: ours that stay as initialised.
        notes: what was decided, in words.
    """

    matched: dict[str, str] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_foreign(path: Path) -> dict[str, Tensor]:
    """Weights of a foreign checkpoint, safetensors or torch; nothing in it is executed.

    Raises:
        UsageError: no such file.
        RunError: it cannot be read safely, or holds no weights.
    """
    if not path.is_file():
        raise UsageError(f"No checkpoint at {path}")
    try:
        torch_file = path.suffix != ".safetensors"
        loaded: Any = torch.load(path, map_location="cpu", weights_only=True) if torch_file else load_file(path)
    except (SafetensorError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise RunError(f"{path} is damaged: {' '.join(str(error).split()):.150}") from None
    except Exception as error:  # weights_only refuses whatever is not plain tensors, in many words
        first = " ".join(str(error).split())
        raise RunError(f"{path} is not a checkpoint of plain tensors, which alone is read: {first:.120}") from None
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = {str(k): v for k, v in loaded.items() if isinstance(v, Tensor)} if isinstance(loaded, Mapping) else {}
    if not tensors:
        raise RunError(f"{path} holds no weights; expected names like conv1.weight, layer1.0.conv1.weight")
    return {name.removeprefix("module."): value for name, value in tensors.items()}


def translate(theirs: Mapping[str, Tensor], fusion: str) -> tuple[dict[str, Tensor], Report]:
    """Their weights under our names.

    Raises:
        RunError: no main head, or heads of other channels than ResNet-101's.
    """
    report, ours = Report(), {}
    roles = {}
    for name, value in theirs.items():
        if (found := HEAD.fullmatch(name)) and found[3] == "weight":
            roles[found[1]] = {2048: "classifier", 1024: "auxiliary_classifier"}.get(value.shape[1])
    if "classifier" not in roles.values():
        raise RunError("No main head: a layer5 or layer6 with conv2d_list.N.weight of 2048 input channels is expected")
    for name, value in theirs.items():
        place = None
        if (found := HEAD.fullmatch(name)) and roles.get(found[1]):
            place = f"{roles[found[1]]}.conv2d_list.{found[2]}.{found[3]}"
        elif re.match(r"(conv1|bn1|layer[1-4])\.", name):
            place = f"encoder.{name}"
        elif name == "sf_layer.weight" and fusion.startswith("accel"):
            place = "score_fusion.mix.weight"
        if place is None:
            report.ignored.append(name)
        else:
            ours[place] = value.flip(1) if place == "encoder.conv1.weight" else value
            report.matched[name] = place
    ours["encoder.mean"] = torch.tensor(MEAN_BGR[::-1]).view(1, 3, 1, 1) / 255
    ours["encoder.std"] = torch.full((1, 3, 1, 1), 1 / 255)
    return ours, report


def convert(path: Path, out: Path, classes: tuple[str, ...] | None, fusion: str | None, branches: int = 4) -> Report:
    """Write a model file from a published checkpoint.

    Args:
        classes: in train-id order; by default those of the known label space with as many classes.
        fusion: by default ``accel_warp`` for a checkpoint with score fusion, ``none`` for one without.
        branches: of the heads that its code used. AdaptSegNet's code returns after the second of four, so that the others were
            never trained: 2 sets them to zero.

    Raises:
        UsageError, RunError: see :func:`read_foreign` and :func:`translate`; classes that do not fit.
    """
    theirs = read_foreign(path)
    fusion = fusion or ("accel_warp" if "sf_layer.weight" in theirs else "none")
    ours, report = translate(theirs, fusion)
    count = len(ours["classifier.conv2d_list.0.bias"])
    names = classes or _known_classes(count, path)
    if len(names) != count:
        raise UsageError(f"{path} predicts {count} classes, but {len(names)} names are given")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = build_segmenter(NETWORK, fusion, count)
    own = segmenter.state_dict()
    for theirs_name, name in list(report.matched.items()):
        if name not in own or own[name].shape != ours[name].shape:
            wanted = tuple(own[name].shape) if name in own else "nothing of that name"
            raise RunError(f"{path}: '{theirs_name}' is {tuple(ours[name].shape)}, {NETWORK} has {wanted}")
    if branches < 4:
        report.notes.append(f"branches {branches + 1} to 4 of the heads are set to zero: their code did not use them")
        for name in list(ours):
            if (found := re.search(r"conv2d_list\.([0-3])\.", name)) and int(found[1]) >= branches:
                ours[name] = torch.zeros_like(ours[name])
    counters = {name for name in own if name.endswith("num_batches_tracked")}  # older torch did not save them
    report.missing = sorted(own.keys() - ours.keys() - counters)
    if fusion.startswith("accel"):
        report.notes.append(
            "score fusion of DA-VSN splats (--fusion accel_splat), that of TPS warps (--fusion accel_warp)"
        )
    segmenter.load_state_dict({**own, **ours})
    info = ModelInfo(network=NETWORK, fusion=fusion, classes=names, origin=f"converted from {path.name}")
    save_model(out, segmenter, info)
    return report


def _known_classes(count: int, path: Path) -> tuple[str, ...]:
    from .data.label_maps import named_space, space_names

    spaces = [named_space(name).classes for name in space_names()]
    for classes in spaces:
        if len(classes) == count:
            return classes
    known = ", ".join(str(len(classes)) for classes in spaces)
    raise UsageError(f"{path} predicts {count} classes; known are label spaces of {known}: name them with --classes")
