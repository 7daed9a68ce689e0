"""Sweeps for tests: a small default, of which a test changes some fields."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from bench.core.workspace import Workspace
from bench.sweeps.spec import Sweep

TINY = "ministreet-tiny"
CPU = torch.device("cpu")


def make(folder: Path, **fields: Any) -> tuple[Sweep, Workspace]:
    fields = {"name": "s", "shift": TINY, "methods": ["source_only"], "seeds": "0:4", **fields}
    return Sweep.model_validate(fields), Workspace(folder / "runs", folder / "cache", CPU)
