"""Model files: a segmenter's weights with what it takes to build it again, as one safetensors file.

The file is a checkpoint like that of a run, with ``{"model": {...}}`` in its metadata. ``bench convert`` makes one from a
published checkpoint, ``bench adapt`` from another one; ``bench run --source-model`` and ``bench predict`` read it.
"""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import ValidationError

from stpl.segmenter import VideoSegmenter

from .checkpoint import load_tensors, save_tensors
from .errors import RunError
from .networks.build import build_segmenter
from .schema import Model, one_line


class ModelInfo(Model):
    """What a model is.

    Attributes:
        network, fusion: names, as for ``-o``.
        classes: in train-id order.
        frames: per clip.
        origin: where the weights come from, in words.
        adapted: method that adapted them, or None.
    """

    network: str
    fusion: str
    classes: tuple[str, ...]
    frames: int = 2
    origin: str = ""
    adapted: str | None = None


def save_model(path: Path, segmenter: VideoSegmenter, info: ModelInfo) -> None:
    """Write a model file.

    Raises:
        RunError: the disk is full or read-only.
    """
    save_tensors(path, segmenter.state_dict(), {"model": info.model_dump(mode="json")})


def read_info(path: Path) -> ModelInfo:
    """What a file says it is.

    Raises:
        RunError: missing, damaged, or no model file.
    """
    return _info(path, load_tensors(path)[1])


def _info(path: Path, metadata: dict[str, object]) -> ModelInfo:
    if "model" not in metadata:
        raise RunError(f"{path} does not say what model it holds; make a model file with `bench convert`")
    try:
        return ModelInfo.model_validate(metadata["model"])
    except ValidationError as error:
        raise RunError(f"{path} is not a model file: {one_line(error)}") from None


def load_model(path: Path) -> tuple[VideoSegmenter, ModelInfo]:
    """Build the segmenter of a model file and load its weights.

    Raises:
        RunError: damaged, no model file, or weights that do not fit what it says.
        UsageError: a network or fusion operator that is not there.
    """
    tensors, metadata = load_tensors(path)
    info = _info(path, metadata)
    with torch.random.fork_rng(devices=[]):
        segmenter = build_segmenter(info.network, info.fusion, len(info.classes), info.frames)
    own = segmenter.state_dict()
    for name in sorted(own.keys() | tensors.keys()):
        if name not in own or name not in tensors or own[name].shape != tensors[name].shape:
            raise RunError(f"{path}: weights do not fit network '{info.network}': '{name}' differs")
    segmenter.load_state_dict(tensors)
    return segmenter, info
