"""Source models: trained once on labelled source clips, cached by the hash of everything they depend on, shared by all methods."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bench.core import child
from bench.core.access import stage
from bench.core.errors import UsageError
from bench.core.files import clear_left_over, file_hash, locked
from bench.core.loading import sources
from bench.core.seeding import seed_for
from bench.data.loaders import BadClips, ahead
from bench.data.splits import check_labels, identity_of, prepare
from bench.flow.base import module_of
from bench.flow.resolve import open_clips
from bench.networks.build import build_segmenter, place
from bench.networks.weights import save_tensors
from bench.shifts.sides import ModelFile
from methods.base import NoSettings, Setup, Supervision
from methods.common.supervised import Supervised

from .config import RunConfig, Shift, check_sources, hash_of
from .model_source import is_good, model_of_file, read_model
from .released import released_model
from .training import Trainer

if TYPE_CHECKING:
    from bench.core.workspace import Workspace
    from stpl.segmenter import VideoSegmenter

RECIPE = 2
"""Raised whenever the training code changes what a source model becomes; old caches are then trained anew."""


def source_flow(config: RunConfig, shift: Shift) -> str:
    """The flow backend of source clips: the shift's for rendered ones, which are exact; else the run's, if it is not wrong
    on purpose."""
    if shift.data.kind == "ministreet" or getattr(module_of(config.flow), "WRONG", False):
        return shift.flow
    return config.flow


def supervision_of(shift: Shift) -> Supervision:
    """How labelled clips teach on a shift, as methods are told."""
    if (training := shift.source_training) is None:  # the source is a trained model: nothing labelled is ever read
        return Supervision()
    return Supervision(training.loss, training.mirror, training.jitter, training.auxiliary)


def source_identity(config: RunConfig, shift: Shift, workspace: Workspace | None = None) -> dict[str, Any]:
    """Everything that a source model depends on: data, schedule, network, fusion operator, seed, recipe.

    Args:
        workspace: where recorded data lies; rendered data does not need it.
    """
    if isinstance(shift.data.source, ModelFile):
        assert workspace is not None, "a model file lies in a workspace"
        return read_model(config, shift, workspace).identity
    identity = {
        "recipe": RECIPE,
        "data": identity_of(shift, "source", "train", config.seed, workspace),
        "schedule": shift.training.model_dump(mode="json"),
        "network": config.network,
        "fusion": config.fusion,
        "classes": len(shift.classes),
        "seed": seed_for(config.seed, "source model", shift.data.family),
    }
    flow = source_flow(config, shift)
    if shift.data.kind == "video" or flow != "exact":
        identity["flow"] = flow
    if config.weights != "random":
        identity["weights"] = config.weights
    if plugins := sources((("network", config.network), ("flow", flow))):
        identity["plugins"] = plugins
    return identity


def fresh_segmenter(config: RunConfig, shift: Shift, seed: int) -> VideoSegmenter:
    """A segmenter initialised from ``seed`` alone; the global generator is left as it was.

    Raises:
        UsageError: the run is of another network file than the one at hand.
    """
    if not child.inside():  # what made the child has looked
        check_sources(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_segmenter(config.network, config.fusion, len(shift.classes), shift.data.frames)


def initial_segmenter(config: RunConfig, shift: Shift, seed: int) -> VideoSegmenter:
    """A fresh segmenter on the backbone that the run starts from: random, or trained on ImageNet.

    Raises:
        RunError: the ImageNet weights are not at hand.
    """
    segmenter = fresh_segmenter(config, shift, seed)
    if config.weights != "random":
        from bench.networks._pretrained import initial_weights

        initial_weights(segmenter, config.network, config.weights)
    return segmenter


def cached_model(identity: dict[str, Any], workspace: Workspace) -> Path:
    """Where a source model of an identity lies that was trained here."""
    return workspace.cache / "sources" / f"{hash_of(identity)}.safetensors"


def source_model(config: RunConfig, shift: Shift, workspace: Workspace) -> Path:
    """Weights of the source model of this run: the given file, the released one, or those trained now if they are not cached.

    A training that was killed resumes. Two processes that need the same model do not train it twice.

    Raises:
        RunError: cache not writable, held by another process for over an hour, or training failed; the released one is damaged.
        UsageError: the given file is not the one of the config, or of another network.
    """
    if config.source_file is not None:
        return given_model(config, shift, workspace)
    if isinstance(shift.data.source, ModelFile):
        return model_of_file(config, shift, workspace)
    identity = source_identity(config, shift, workspace)
    if (released := released_model(identity, workspace)) is not None:
        return released
    path = cached_model(identity, workspace)
    work = path.with_suffix("")
    if is_good(path, identity):
        clear_left_over(path, work)
        return path
    with locked(path, timeout=3600):
        if is_good(path, identity):
            return path
        split = prepare(shift, "source", "train", config.seed, workspace)
        check_labels(split, workspace.skip_bad)
        model = place(initial_segmenter(config, shift, seed_for(identity["seed"], "init")), workspace)
        schedule = shift.training
        with stage("source-train", "source-train/label", processes=workspace.compiled):  # compilers are processes
            bad, order = BadClips(workspace.skip_bad), seed_for(identity["seed"], "data")
            flow, cache = source_flow(config, shift), workspace.cache
            loader = open_clips(split, flow, cache, schedule.batch, order, bad, labelled=True)
            setup = Setup(len(shift.classes), schedule.steps, identity["seed"], supervision_of(shift))
            method = Supervised(model, NoSettings(), setup)
            with ahead(loader, workspace) as batches:
                assert batches is not None
                trainer = Trainer(method, schedule, work, workspace.device)
                fitted = trainer.fit(batches, None, "train source", workspace.progress)
        facts = {"identity": identity, "environments": list(fitted.environments)}
        save_tensors(path, model.state_dict(), facts)
        shutil.rmtree(work, ignore_errors=True)
    return path


def given_model(config: RunConfig, shift: Shift, workspace: Workspace) -> Path:
    """The source model that was given as a file, after a look at what it says it is.

    Raises:
        UsageError: no file, another file than the config was made for, or a model of another network, fusion or classes.
    """
    path = workspace.source_file
    if path is None or file_hash(path) != config.source_file:
        raise UsageError(f"This run starts from source model {config.source_file}; give that file with --source-model")
    from bench.networks.model_file import check_network, read_info

    info = read_info(path)
    check_network(path, info)
    required = {"network": config.network, "fusion": config.fusion, "num_classes": len(shift.classes)}
    required["num_frames"] = shift.data.frames
    if info.classes is not None:
        required["classes"] = shift.classes
    for name, value in required.items():
        if (actual := getattr(info, name)) != value:
            option = name.removeprefix("num_")
            raise UsageError(f"{path}: {name} is {actual}, the run's is {value}; use -o {option}=... or another file")
    return path
