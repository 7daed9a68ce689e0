"""The worked examples of CONTRIBUTING.md, executed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import bench.networks.zoo
import methods
from bench.core.registry import method_names
from bench.core.workspace import Workspace
from bench.runs.config import make_run_config
from bench.runs.run import run

TEXT = (Path(__file__).resolve().parents[3] / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    found = re.search(rf"<!-- example: {name} -->\n```python\n(.*?)```", TEXT, re.S)
    assert found, f"no example '{name}' in CONTRIBUTING.md"
    return found[1]


def test_the_method_and_the_network_of_the_guide_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_cache: Path
) -> None:
    for package, name, block in ((methods, "entropy", "method"), (bench.networks.zoo, "micro", "network")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / f"{name}.py").write_text(example(block), encoding="utf-8")
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    assert "entropy" in method_names()
    config = make_run_config("entropy", "ministreet-tiny", 0, {"network": "micro", "weight": 0.2})
    record = run(config, Workspace(tmp_path / "runs", tiny_cache, torch.device("cpu")))
    assert record.config.settings == {"weight": 0.2} and record.config.network == "micro"
    assert record.cost.steps == 6
