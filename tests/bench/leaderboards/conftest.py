"""Finished runs on a tiny benchmark that may be reported."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

import bench.shifts
from bench.core.registry import ROOT
from bench.core.workspace import Workspace
from bench.runs.config import make_run_config
from bench.runs.run import run

REVISION, SOURCE = "abc123abc123", "5" * 64


def register(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """As if the repository held these shifts too."""
    patch.setattr(bench.shifts, "__path__", [*bench.shifts.__path__, str(folder / "shifts")])


@pytest.fixture(scope="package")
def reported(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``shifts/tiny-reported.yaml`` and, in ``runs``, finished runs of adabn, stpl and the oracle on it."""
    base = tmp_path_factory.mktemp("reported")
    (base / "shifts").mkdir()
    shift = yaml.safe_load((ROOT / "shifts" / "ministreet-tiny.yaml").read_text(encoding="utf-8"))
    shift |= {"purpose": "report", "name": "tiny-reported"}
    (base / "shifts" / "tiny-reported.yaml").write_text(yaml.safe_dump(shift), encoding="utf-8")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        register(patch, base)
        patch.setattr("bench.runs.run._draw", lambda *_: None)
        patch.setattr("bench.runs.run.code", lambda: {"revision": REVISION, "dirty": False, "source": SOURCE})
        for method in ("adabn", "stpl", "oracle"):
            config = make_run_config(method, "tiny-reported")
            run(config, Workspace(base / "runs", tiny_cache, torch.device("cpu")))
            (base / method).symlink_to(base / "runs" / config.hash)
    return base


@pytest.fixture
def copied(reported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """``copied("stpl")`` is a copy of that method's run that may be spoilt; its code was committed."""
    register(monkeypatch, reported)
    monkeypatch.setattr("bench.leaderboards.evidence.source_at", {REVISION: SOURCE, "def456def456": "6" * 64}.get)

    def copy(method: str) -> Path:
        origin = (reported / method).resolve()
        return shutil.copytree(origin, tmp_path / "runs" / origin.name)

    return copy
