"""Fixtures: a split to compute flow for, and backends made for a test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import bench.flow.backends
from bench.core.workspace import Workspace
from bench.data.splits import Split
from bench.flow.compute import open_split
from bench.runs.config import load_shift

FAKE = """
import numpy as np
from bench.flow._estimated import lands_inside
def BACKEND(clip, clips, index):
    flow = {flow}
    return flow, np.stack([lands_inside(f) for f in flow]){valid}
def identity():
    return {identity!r}
{more}
"""


@pytest.fixture(scope="session")
def split(tiny_cache: Path) -> Split:
    return open_split(load_shift("ministreet-tiny"), "target-train", 0, Workspace(cache=tiny_cache))


@pytest.fixture
def fake_flow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """``fake_flow("-clip.flow")`` registers a backend that can be computed ahead, and returns its name."""
    folder = tmp_path / "fake flows"
    folder.mkdir()
    monkeypatch.setattr(bench.flow.backends, "__path__", [*bench.flow.backends.__path__, str(folder)])
    names: list[str] = []

    def make(flow: str = "clip.flow", identity: str = "fake", valid: str = "", more: str = "") -> str:
        name = f"fake{len(names)}"
        (folder / f"{name}.py").write_text(FAKE.format(flow=flow, identity=identity, valid=valid, more=more))
        names.append(name)
        return name

    yield make
    for name in names:
        sys.modules.pop(f"bench.flow.backends.{name}", None)
