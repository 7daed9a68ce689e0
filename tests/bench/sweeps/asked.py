"""Sweeps as tests ask for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bench.core.workspace import Workspace
from bench.sweeps.spec import Sweep

TINY = "ministreet-tiny"
CPU = torch.device("cpu")


def make(folder: Path, **asked: Any) -> tuple[Sweep, Workspace]:
    asked = {"name": "s", "shift": TINY, "methods": ["source_only"], "seeds": "0:4", **asked}
    return Sweep.model_validate(asked), Workspace(folder / "runs", folder / "cache", CPU)
