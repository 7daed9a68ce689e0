"""Weights: checkpoints, source models, states, files of others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from bench.flow._raft import read_weights
from bench.networks.build import build_segmenter
from bench.networks.foreign import load_foreign
from bench.networks.model_file import load_model, save_model
from bench.networks.weights import load_into, load_tensors, save_tensors
from bench.runs.config import load_shift
from bench.runs.model_source import is_good
from bench.runs.training import Trainer
from bench.shifts.protocol import Adaptation
from methods.base import Card, ClipBatch, LabelledBatch, Method, NoSettings, Setup
from stpl.segmenter import VideoSegmenter
from tests.faults import mutations as m

from .base import TINY, Again, Reader


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def _checkpoint(folder: Path) -> Path:
    save_tensors(folder / "a.safetensors", _network().state_dict(), {"config": "0123456789ab", "step": 3})
    return folder / "a.safetensors"


def _load_checkpoint(path: Path) -> Any:
    network = _network()
    return load_into(network, path), network.state_dict()


def _segmenter() -> VideoSegmenter:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build_segmenter("mini", "none", 3, 2)


def _model(folder: Path) -> Path:
    save_model(folder / "a.safetensors", _segmenter(), "mini", "none", 3, classes=("a", "b", "c"))
    return folder / "a.safetensors"


def _load_model(path: Path) -> Any:
    segmenter, info = load_model(path)
    return info, segmenter.state_dict()


IDENTITY = {"recipe": 2, "seed": 1}


def _source(folder: Path) -> Path:
    save_tensors(folder / "a.safetensors", _network().state_dict(), {"identity": IDENTITY})
    return folder / "a.safetensors"


def _load_source(path: Path) -> Any:
    if not is_good(path, IDENTITY):
        raise Again("it is trained again")
    return load_tensors(path)


class Toy(Method):
    """Two weights with momentum."""

    card = Card("toy", "Toy", "-", "-", None, "", "-", "SFDA")

    def __init__(self) -> None:
        super().__init__(_network(), NoSettings(), Setup(2, 7, 0))  # type: ignore[arg-type]

    def parameter_groups(self, lr: float, head_multiplier: float) -> list[dict[str, Any]]:
        return [{"params": list(self.segmenter.parameters()), "lr": lr}]

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, torch.Tensor]:
        return {"square": sum((p.square().sum() for p in self.parameters()), torch.zeros(()))}


def _trainer(folder: Path) -> Trainer:
    plan = load_shift(TINY).adaptation.model_copy(update={"snapshots": 1, "steps": 7})
    assert isinstance(plan, Adaptation)
    return Trainer(Toy(), plan, folder, torch.device("cpu"))


def _state(folder: Path) -> Path:
    trainer = _trainer(folder)
    sum(trainer.method.losses(None, None, 0).values()).backward()  # type: ignore[arg-type, union-attr]
    trainer.optimiser.step()
    trainer._save(3, 1.0, 1.0)
    return trainer.state_path


def _resume(path: Path) -> Any:
    trainer = _trainer(path.parents[1])
    resumed = trainer._resume()
    moments = [value for state in trainer.optimiser.state.values() for value in state.values()]
    return resumed, trainer.method.state_dict(), moments


def _torch(folder: Path) -> Path:
    torch.save({"state_dict": _network().state_dict(), "epoch": 1}, folder / "a.pth")
    return folder / "a.pth"


def _old_torch(folder: Path) -> Path:
    torch.save(_network().state_dict(), folder / "a.pth", _use_new_zipfile_serialization=False)
    return folder / "a.pth"


WEIGHTS = [
    Reader("checkpoint", _checkpoint, _load_checkpoint, m.a_safetensors, True),
    Reader("model file", _model, _load_model, m.a_safetensors, True),
    Reader("source model", _source, _load_source, m.a_safetensors, True),
    Reader("state", _state, _resume, m.a_safetensors, True),
    Reader("torch file", _torch, load_foreign, m.a_torch, True),
    Reader("torch file, old format", _old_torch, load_foreign, m.some_bytes, False),
    Reader("weights of RAFT", _torch, read_weights, m.a_torch, True),
]
