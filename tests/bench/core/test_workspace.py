"""Workspace: folders, devices, threads; what ``doctor`` reports of them."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import torch

from bench.core.errors import UsageError
from bench.core.workspace import Workspace, default_cache, default_released, default_runs, pick_device
from bench.runs.doctor import examine


def test_folders_come_from_the_environment_or_lie_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BENCH_RUNS", "BENCH_CACHE"):
        monkeypatch.delenv(name, raising=False)
    assert (default_runs(), default_cache()) == (Path("runs"), Path("cache"))
    monkeypatch.setenv("BENCH_RUNS", "/a")
    monkeypatch.setenv("BENCH_CACHE", "/b")
    assert (Workspace().runs, Workspace().cache) == (Path("/a"), Path("/b"))
    monkeypatch.setenv("BENCH_SOURCES", "")
    released = default_released()
    assert released.parts[-2:] == ("leaderboards", "sources")
    for name in ("BENCH_RUNS", "BENCH_CACHE"):  # of a variable that was not set; not the working folder
        monkeypatch.setenv(name, "")
    assert (default_runs(), default_cache()) == (Path("runs"), Path("cache"))


def test_a_workspace_from_what_a_person_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("RUNS", "CACHE", "DATA"):
        monkeypatch.setenv(f"BENCH_{name}", f"/{name}")
    assert Workspace.at(device="cpu") == Workspace(Path("/RUNS"), Path("/CACHE"), data_root=Path("/DATA"))
    workspace = Workspace.at("here", tmp_path, "there", "cpu", force=True, workers=3)
    assert workspace == Workspace(Path("here"), tmp_path, data_root=Path("there"), force=True, workers=3)
    before = cv2.getNumThreads()
    torch.set_num_threads(2)
    cv2.setNumThreads(3)
    Workspace.at(device="cpu")
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (2, 3)  # 0 leaves them as they are
    Workspace.at(device="cpu", threads=1)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == (1, 1)
    cv2.setNumThreads(before)
    with pytest.raises(UsageError, match="Unknown device 'gpu'"):
        Workspace.at(device="gpu")


def test_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pick_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert pick_device("auto").type == "cuda" and pick_device("cuda:1").index == 1
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert pick_device("auto").type == "cpu"
    with pytest.raises(UsageError, match="torch sees no GPU here; use --device cpu"):
        pick_device("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "", "meta", "mps", "cpu:"])
def test_unknown_devices(name: str) -> None:
    with pytest.raises(UsageError, match=f"Unknown device '{name}'. Available: auto, cpu, cuda"):
        pick_device(name)


def test_the_doctor_names_a_full_disk_an_unusable_folder_and_a_missing_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = examine(tmp_path / "runs", tmp_path / "deep" / "cache")
    assert report["missing"] == [] and set(report["disk"]) == {"runs", "cache"}
    assert not (tmp_path / "runs").exists()  # looking changes nothing
    (tmp_path / "so.json").touch()
    assert examine(tmp_path / "so.json", Path("/proc/nope"))["missing"] == [
        f"{tmp_path / 'so.json'} is not a folder; choose another --runs",
        "/proc/nope cannot be written (No such file or directory): choose another folder with --cache",
    ]
    monkeypatch.setattr("bench.runs.doctor.NEEDED_GB", 1e9)
    monkeypatch.setattr("bench.runs.doctor.versions", lambda: {"torch": "1", "safetensors": "missing"})
    missing = examine(tmp_path, tmp_path)["missing"]
    assert "safetensors: pip install safetensors" in missing
    assert any("GB free for cache" in line and "--cache" in line for line in missing)
