"""A source that is nothing but a model file (`bench.shifts.sides.ModelFile`): found, known by content, fitted to the fusion."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.core.errors import RunError, UsageError
from bench.core.files import clear_left_over, locked, sha256_of
from bench.core.schema import hash_of
from bench.data.described import find_place
from bench.networks.build import build_segmenter
from bench.networks.model_file import load_model, read_info
from bench.networks.published import convert
from bench.networks.weights import digest, load_tensors, save_tensors
from bench.shifts.protocol import Shift
from bench.shifts.sides import ModelFile

from .config import RunConfig

if TYPE_CHECKING:
    from bench.core.workspace import Workspace
    from stpl.segmenter import VideoSegmenter

STARTS = ("none", "conv1x1", "cross_attention", "add", "attention")
"""Fusion operators that can be put under the weights of a single-frame model. The first three leave its scores as they are; the
last two start as the mean of the frames' features."""


@dataclass(frozen=True)
class Read:
    """A model as its file has it.

    Attributes:
        file: where it lies.
        segmenter: the network with its weights.
        fusion: its operator.
        weights: SHA-256 of the weights (`bench.networks.weights.digest`): the same for a checkpoint and what was converted from it.
        identity: what the source model of the run depends on.
    """

    file: Path
    segmenter: VideoSegmenter
    fusion: str
    weights: str
    identity: dict[str, Any]


def model_place(shift: Shift, workspace: Workspace) -> Path:
    """The file that a shift starts from, as it is named there or as a model file of that name.

    Raises:
        RunError: it is not there.
    """
    source = shift.data.source
    assert isinstance(source, ModelFile)
    try:
        return find_place(source.model, "data.source.model", shift, workspace.data_root)
    except RunError:
        converted = str(Path(source.model).with_suffix(".safetensors"))
        if converted == source.model:
            raise
        try:
            return find_place(converted, "data.source.model", shift, workspace.data_root)
        except RunError:
            pass
        raise


def read_model(config: RunConfig, shift: Shift, workspace: Workspace) -> Read:
    """Read the model that a shift starts from; a published checkpoint is converted in memory.

    Raises:
        RunError: not there, damaged, or not the file that the shift names.
        UsageError: of another network or other classes than the run's.
    """
    source = shift.data.source
    assert isinstance(source, ModelFile)
    file = model_place(shift, workspace)
    try:
        info, of_ours = read_info(file), True
    except RunError:
        of_ours = False
    if of_ours:
        segmenter, info = load_model(file)
        network, fusion, classes = info.network, info.fusion, info.classes or shift.classes
        if fusion != "none" and info.num_frames != shift.data.frames:
            raise UsageError(
                f"{file} is made for clips of {info.num_frames} frames, those of '{shift.name}' have {shift.data.frames}"
            )
    else:
        converted = convert(file, source.layout, "", "none", len(shift.classes))
        segmenter, network, fusion, classes = (
            converted.segmenter,
            converted.network,
            converted.fusion,
            converted.classes or shift.classes,
        )
    weights = digest(segmenter.state_dict())
    if (
        source.sha256 is not None
        and (sha := sha256_of(file)) != source.sha256
        and not (of_ours and weights == source.weights)
    ):
        raise RunError(
            f"{file} is not the model of shift '{shift.name}': its SHA-256 is {sha}, that of the shift is {source.sha256}"
        )
    if network != config.network:
        raise UsageError(f"Shift '{shift.name}' starts from a model of network '{network}', not '{config.network}'")
    if classes != shift.classes:
        raise UsageError(
            f"{file}: its classes are {', '.join(classes)}; those of '{shift.name}' are {', '.join(shift.classes)}"
        )
    facts = {"network": network, "fusion": config.fusion, "frames": shift.data.frames, "classes": len(shift.classes)}
    return Read(file, segmenter, fusion, weights, {"model": weights, **facts})


def model_of_file(config: RunConfig, shift: Shift, workspace: Workspace) -> Path:
    """Weights of a run's source model where the source is a model file: written into the cache once for each fusion operator.

    Raises:
        RunError, UsageError: see :func:`read_model` and :func:`fitted`.
    """
    model = read_model(config, shift, workspace)
    path = workspace.cache / "sources" / f"{hash_of(model.identity)}.safetensors"
    if is_good(path, model.identity):
        clear_left_over(path)
    else:
        with locked(path):
            save_tensors(path, fitted(model, config, shift).state_dict(), {"identity": model.identity})
    return path


def fitted(model: Read, config: RunConfig, shift: Shift) -> VideoSegmenter:
    """The model with the run's fusion operator, whose own weights are as they start, drawn the same way every time.

    Raises:
        UsageError: it has another operator, or one that needs a classifier of its own.
    """
    if model.fusion == config.fusion and model.segmenter.auxiliary_classifier is not None:
        return model.segmenter
    if model.fusion not in ("none", config.fusion) or config.fusion not in (*STARTS, model.fusion):
        allowed = STARTS if model.fusion == "none" else (model.fusion,)
        raise UsageError(
            f"fusion '{config.fusion}' cannot be put under {model.file}, which has '{model.fusion}'; possible: {', '.join(allowed)}"
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        segmenter = build_segmenter(config.network, config.fusion, len(shift.classes), shift.data.frames)
    segmenter.load_state_dict({**segmenter.state_dict(), **model.segmenter.state_dict()})
    return segmenter


def is_good(path: Path, identity: dict[str, Any]) -> bool:
    """True if a cached source model is whole and was made with this identity."""
    if not path.is_file():
        return False
    try:
        return load_tensors(path)[1].get("identity") == identity
    except RunError:  # damaged: made anew under the lock and replaced whole
        return False
