"""The worked examples of CONTRIBUTING.md, executed: inside the repository, from files, and as an installed package."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from typer.testing import CliRunner

import bench.networks.zoo
import methods
from bench import cli
from bench.core import registry
from bench.core.loading import source_hash
from bench.core.registry import ROOT, method_names
from bench.core.workspace import Workspace
from bench.data.fixtures import Tree
from bench.runs.config import load_shift, make_run_config
from bench.runs.run import run

TEXT = (ROOT.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(name: str) -> str:
    match = re.search(rf"<!-- example: {name} -->\n```\w+\n(.*?)```", TEXT, re.S)
    assert match, f"no example '{name}' in CONTRIBUTING.md"
    return match[1]


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
    assert record.cost.steps == 6 and record.config.plugins == {}


def test_the_method_of_the_guide_passes_the_contract_suite_that_it_names(tmp_path: Path) -> None:
    path = tmp_path / "entropy.py"
    path.write_text(example("method"), encoding="utf-8")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/methods/test_contract.py"]
    process = subprocess.run([*command, "--method", str(path)], cwd=ROOT.parent, capture_output=True, text=True)
    assert process.returncode == 0 and "18 passed" in process.stdout, process.stdout[-3000:]


@pytest.fixture
def project(tmp_path: Path, trees: dict[str, Tree]) -> Path:
    """A folder with the guide's files in it, and ``data`` with drives for ``yard`` beside a small VIPER."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name, block in (("entropy", "method"), ("micro", "network"), ("yard", "dataset")):
        (folder / f"{name}.py").write_text(example(block), encoding="utf-8")
    shift = yaml.safe_load((ROOT / "shifts" / "viper2cityscapes.yaml").read_text(encoding="utf-8"))
    shift |= {"name": "viper2yard", "purpose": "test", "flow": "zero", **yaml.safe_load(example("shift"))}
    shift["evaluation"] = {"align_corners": True, "readout": "student"}
    for side in ("source", "target"):
        shift["data"][side] |= {"height": 64, "width": 128}
    (folder / "viper2yard.yaml").write_text(yaml.safe_dump(shift), encoding="utf-8")
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for part, values in ((split, (48, 96, 3)), (f"{split}_ids", (48, 96))):
            (drive := folder / "data" / "yard" / part / "drive7").mkdir(parents=True)
            for number in range(4):
                picture = rng.integers(0, 256 if len(values) == 3 else 4, values, np.uint8)
                Image.fromarray(picture).save(drive / f"{number:06d}.png")
    (folder / "data" / "VIPER").symlink_to(trees["viper"].root)
    return folder


def test_the_files_of_the_guide_run_from_outside(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    checked = CliRunner().invoke(cli.app, ["data", "check", "./yard.py", "--root", "data", "--json"])
    assert checked.exit_code == 0, checked.output
    assert [
        (report["split"], report["clips"], report["findings"]) for report in json.loads(checked.stdout)["reports"]
    ] == [
        ("train", 3, []),
        ("val", 3, []),
    ]
    workspace = Workspace(tmp_path / "runs", tmp_path / "cache", torch.device("cpu"), data_root=Path("data"))
    config = make_run_config("./entropy.py", "./viper2yard.yaml", 0, {"network": "./micro.py"}, steps=2)
    assert sorted(config.plugins) == ["dataset/yard", "method/entropy", "network/micro"]
    record = run(config, workspace)
    assert list(record.result.iou) == ["road", "vegetation", "person"] and record.cost.steps == 2


def test_the_package_of_the_guide_offers_its_names(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    package = project.rename(site / "our_package")
    (package / "__init__.py").write_text("")
    (package / "still.py").write_text(
        '"""still: no motion."""\n\nfrom bench.flow.backends.zero import BACKEND as BACKEND\n'
    )
    shift = yaml.safe_load((package / "viper2yard.yaml").read_text())
    shift["data"]["target"]["dataset"] = "yard"  # by its name, as it is installed
    (package / "viper2yard.yaml").write_text(yaml.safe_dump(shift))
    points = re.sub(r'\[project\.entry-points\."([\w.]+)"\]', r"[\1]", example("entry points")).replace('"', "")
    (site / "our_package-1.0.dist-info").mkdir()
    (site / "our_package-1.0.dist-info" / "entry_points.txt").write_text(points)
    (site / "our_package-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: our-package\nVersion: 1.0\n"
    )
    monkeypatch.syspath_prepend(str(site))
    registry._installed.cache_clear()
    try:
        listing: dict[str, Any] = json.loads(CliRunner().invoke(cli.app, ["list", "--json"]).stdout)
        brought = {
            "methods": "entropy",
            "networks": "micro",
            "flows": "still",
            "datasets": "yard",
            "shifts": "viper2yard",
        }
        broken = {name: entry["broken"] for kind, name in brought.items() if "broken" in (entry := listing[kind][name])}
        assert not broken
        config = make_run_config("entropy", "viper2yard", 0, {"network": "micro", "flow": "still"})
        hashes = {f"{kind}/{name}": source_hash(kind, name) for kind, name in
                  (("method", "entropy"), ("network", "micro"), ("flow", "still"), ("dataset", "yard"))}  # fmt: skip
        assert config.plugins == hashes and len(set(hashes.values())) == 1, "one package, one hash"
        assert load_shift("viper2yard").data.target.dataset == "yard"
    finally:
        registry._installed.cache_clear()
        for module in [name for name in sys.modules if name.startswith("our_package")]:
            del sys.modules[module]
