"""A data set of one's own, its YAML and a workspace for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.core.workspace import Workspace
from tests.bench.shifts.own import camvid_like, day2dusk, write_yaml


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set; not to be changed (copy it)."""
    return camvid_like(tmp_path_factory.mktemp("own data"))


@pytest.fixture(scope="session")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source model of :func:`shift`, made once."""
    return tmp_path_factory.mktemp("own cache")


@pytest.fixture
def shift(data: Path, tmp_path: Path) -> str:
    """The YAML, in a folder of its own: its paths lead to the data root."""
    return write_yaml(tmp_path / "yaml" / "day2dusk.yaml", day2dusk())


@pytest.fixture
def data_workspace(tmp_path: Path, own_cache: Path, data: Path) -> Workspace:
    return Workspace(tmp_path / "runs", own_cache, torch.device("cpu"), data_root=data)
