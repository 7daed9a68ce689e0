"""Source models: trained once on labelled source clips, cached by the hash of everything they depend on, shared by all methods."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from methods.base import NoSettings, Setup
from methods.common.supervised import Supervised

from .access import stage
from .checkpoint import load_tensors, save_tensors
from .config import RunConfig, Shift, hash_of
from .data.loaders import LabelledLoader
from .data.store import ClipStore, locked, prepare_split, split_identity
from .errors import RunError
from .flow.exact import exact
from .networks.build import build_segmenter
from .seeding import seed_for
from .training import Trainer

if TYPE_CHECKING:
    from stpl.segmenter import VideoSegmenter

    from .workspace import Workspace

RECIPE = 2
"""Raised whenever the training code changes what a source model becomes; old caches are then trained anew."""


def source_identity(config: RunConfig, shift: Shift) -> dict[str, Any]:
    """Everything that a source model depends on: data, schedule, network, fusion operator, seed, recipe."""
    return {
        "recipe": RECIPE,
        "data": split_identity(shift.data, "source", "train", config.seed),
        "schedule": shift.source_training.model_dump(mode="json"),
        "network": config.network,
        "fusion": config.fusion,
        "classes": len(shift.classes),
        "seed": seed_for(config.seed, "source model", shift.data.family),
    }


def fresh_segmenter(config: RunConfig, shift: Shift, seed: int) -> VideoSegmenter:
    """A segmenter initialised from ``seed`` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build_segmenter(config.network, config.fusion, len(shift.classes), shift.data.frames)


def source_model(config: RunConfig, shift: Shift, workspace: Workspace) -> Path:
    """Weights of the source model of this run, trained now if they are not cached.

    A training that was killed resumes. Two processes that need the same model do not train it twice.

    Raises:
        RunError: cache not writable, held by another process for over an hour, or training failed.
    """
    identity = source_identity(config, shift)
    path = workspace.cache / "sources" / f"{hash_of(identity)}.safetensors"
    if _is_good(path, identity):
        return path
    with locked(path, timeout=3600):
        if _is_good(path, identity):
            return path
        folder = prepare_split(shift.data, "source", "train", config.seed, workspace.cache, workspace.progress)
        work = path.with_suffix("")
        model = fresh_segmenter(config, shift, seed_for(identity["seed"], "init")).to(workspace.device)
        schedule = shift.source_training
        with stage("source-train", "source-train/label"):
            loader = LabelledLoader(ClipStore(folder), exact, schedule.batch, seed_for(identity["seed"], "data"))
            method = Supervised(model, NoSettings(), Setup(len(shift.classes), schedule.steps, identity["seed"]))
            Trainer(method, schedule, work, workspace.device).fit(loader, None, "train source", workspace.progress)
        save_tensors(path, model.state_dict(), {"identity": identity})
        shutil.rmtree(work, ignore_errors=True)
    return path


def _is_good(path: Path, identity: dict[str, Any]) -> bool:
    """True if the cached file is whole and was made with this identity."""
    if not path.is_file():
        return False
    try:
        return load_tensors(path)[1].get("identity") == identity
    except RunError:  # damaged: trained anew under the lock and replaced whole
        return False
