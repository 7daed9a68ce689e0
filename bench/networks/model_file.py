"""The portable *model file*: one safetensors file that knows which network it is for, so that any command can rebuild it.

Its tensors are the ``state_dict`` of a :class:`stpl.segmenter.VideoSegmenter`. Its JSON metadata, under the key ``meta``::

    format           "bench-model"; a file without it is not a model file
    version          1; raised when this list changes in a way that old code would misread
    network          a name from `bench list networks`
    fusion           a name from `bench list fusions`
    num_classes      K of the scores
    num_frames       frames per clip that the fusion was built for
    auxiliary        whether the auxiliary head is there
    classes          names in train-id order, or null where they are not known
    origin           what it was made from: free text by key, e.g. {"converted_from": "x.pth", "layout": "da_vsn"};
                     of a network from outside this repository also the hash of its source, network_source
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field, TypeAdapter, ValidationError

from bench.core.errors import RunError, UsageError
from bench.core.loading import source_hash
from bench.core.registry import names
from bench.core.schema import one_line

from .build import build_segmenter
from .foreign import described
from .weights import SAFETENSORS, check_shapes, load_into, read_header, save_tensors, what_is

if TYPE_CHECKING:
    from stpl.segmenter import VideoSegmenter

FORMAT, VERSION = "bench-model", 1


@dataclass(frozen=True)
class ModelInfo:
    """What a model file says of itself; see the module."""

    network: Annotated[str, Field(max_length=200)]
    fusion: Annotated[str, Field(max_length=200)]
    num_classes: Annotated[int, Field(ge=1, le=65535)]
    num_frames: Annotated[int, Field(ge=2, le=1024)] = 2
    auxiliary: bool = True
    classes: tuple[Annotated[str, Field(max_length=200)], ...] | None = None
    origin: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.classes is not None and len(self.classes) != self.num_classes:
            raise ValueError(f"{self.num_classes} classes but {len(self.classes)} names")


def save_model(
    path: Path,
    segmenter: VideoSegmenter,
    network: str,
    fusion: str,
    num_classes: int,
    *,
    num_frames: int = 2,
    classes: Sequence[str] | None = None,
    origin: Mapping[str, str] | None = None,
) -> ModelInfo:
    """Write a segmenter as a model file, whole or not at all.

    Args:
        segmenter: built by ``build_segmenter(network, fusion, num_classes, num_frames)``, with or without auxiliary head.
        classes: names in train-id order.
        origin: where the weights come from.

    Raises:
        UsageError: as many names as classes are needed.
        RunError: the disk is full or read-only.
    """
    if classes is not None and len(classes) != num_classes:
        raise UsageError(f"{num_classes} classes but {len(classes)} names: {', '.join(classes)}")
    if plugin := source_hash("network", network):
        origin = {**(origin or {}), "network_source": plugin}
    info = ModelInfo(
        network,
        fusion,
        num_classes,
        num_frames,
        segmenter.auxiliary_classifier is not None,
        tuple(classes) if classes is not None else None,
        dict(origin or {}),
    )
    save_tensors(path, segmenter.state_dict(), {"format": FORMAT, "version": VERSION, **asdict(info)})
    return info


def read_info(path: Path) -> ModelInfo:
    """What a model file says of itself.

    Raises:
        RunError: missing, damaged, or not a model file; says what it is and how to make a model file of it.
    """
    if os.path.isfile(path) and what_is(path) not in (None, SAFETENSORS):
        raise RunError(f"{path} is not a model file: it is {described(path)}")
    meta = read_header(path)[1]
    if meta.get("format") != FORMAT:
        raise RunError(
            f"{path} is not a model file: it does not say which network it is for. It is {described(path, meta)}"
        )
    if meta.get("version") != VERSION:
        raise RunError(
            f"{path} is a model file of version {meta.get('version')!r:.20}; this code reads version {VERSION}"
        )
    try:
        return TypeAdapter(ModelInfo).validate_python(meta)
    except ValidationError as error:
        raise RunError(f"{path}: its metadata are damaged ({one_line(error):.200}); make the file again") from None


def check_network(path: Path, info: ModelInfo) -> None:
    """Refuse a model file whose network is another one than that of this name here.

    Raises:
        UsageError: it is not at hand, or its source is another one.
    """
    old = info.origin.get("network_source")
    if old and info.network not in names("network"):
        raise UsageError(
            f"{path} is of network '{info.network}', which is not at hand: install its package, or name its file: "
            f"BENCH_PLUGINS=network=path/to/{info.network}.py"
        )
    if old != (new := source_hash("network", info.network)):
        raise UsageError(
            f"{path} is of network '{info.network}' {old or 'of this repository'}, at hand is {new or 'that of this repository'}"
        )


def load_model(path: Path) -> tuple[VideoSegmenter, ModelInfo]:
    """Rebuild the segmenter of a model file, on the CPU, in train mode as every fresh module.

    Raises:
        RunError: missing, damaged, not a model file, or its tensors do not fit the network that it names, or are not finite.
        UsageError: it names a network or fusion that is not here.
    """
    info = read_info(path)
    check_network(path, info)
    with torch.device("meta"):  # shapes only: what a damaged file asks for is never allocated
        check_shapes(segmenter_of(info, path), path)
    with torch.random.fork_rng(devices=[]):  # initial weights are drawn, and replaced
        segmenter = segmenter_of(info, path)
    load_into(segmenter, path)
    return segmenter, info


def segmenter_of(info: ModelInfo, path: Path) -> VideoSegmenter:
    """A fresh segmenter of the kind that a model file, at ``path``, is of.

    Raises:
        UsageError: it names a network or fusion that is not here.
    """
    try:
        segmenter = build_segmenter(info.network, info.fusion, info.num_classes, info.num_frames)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    if not info.auxiliary:
        segmenter.auxiliary_classifier = None
    return segmenter
