"""`bench run --force`: only what a run wrote makes way, and a result is not lost before the new one is there."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core.errors import RunError, UsageError
from bench.core.workspace import Workspace
from bench.runs import run as adapt
from bench.runs.config import RunConfig, make_run_config
from bench.runs.own_files import EARLIER, own_files
from bench.runs.run import run
from bench.runs.watching import watched

TINY = "ministreet-tiny"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def finished_run(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[RunConfig, Path]:
    """A finished run that no test may touch; its config and the folder of runs."""
    runs = tmp_path_factory.mktemp("done")
    config = make_run_config("self_training", TINY)
    run(config, Workspace(runs, tiny_cache, CPU))
    return config, runs


@pytest.fixture
def done(
    finished_run: tuple[RunConfig, Path], tmp_path: Path, tiny_cache: Path, no_figures: None
) -> tuple[RunConfig, Workspace]:
    """A copy of it that may be repeated."""
    shutil.copytree(finished_run[1], tmp_path / "runs")
    return finished_run[0], Workspace(tmp_path / "runs", tiny_cache, CPU)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_force_keeps_and_names_files_of_the_users(
    done: tuple[RunConfig, Workspace], capsys: pytest.CaptureFixture[str]
) -> None:
    config, workspace = done
    folder = workspace.runs / config.hash
    mine = ["figures/mine.png", "notes.txt", "state/mine.txt", "tensorboard/mine.txt"]
    for name in mine:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("mine")
    run(config, dataclasses.replace(workspace, force=True))
    own = {"checkpoint.safetensors", "config.yaml", "metrics.jsonl", "record.json", "sequences.csv"}
    assert contents(folder).keys() == {*mine, *own}
    said = capsys.readouterr().err
    assert said.startswith(f"bench: kept in {folder}, as no run wrote it: ") and all(name in said for name in mine)
    run(config, workspace)
    assert (folder / "state/mine.txt").read_text() == "mine"  # nor are they taken for what a kill left


def test_a_repetition_that_fails_gives_the_result_back(
    done: tuple[RunConfig, Workspace], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed it leaves it put aside, and whichever way it goes on, it is not lost."""
    config, workspace = done
    folder = workspace.runs / config.hash
    before, again = contents(folder), dataclasses.replace(workspace, force=True)
    with pytest.raises(RunError, match="Cannot write"):
        run(config, dataclasses.replace(again, cache=Path("/proc/x")))
    assert contents(folder) == before
    with monkeypatch.context() as killed:
        killed.setattr(adapt, "failed", lambda folder: None)
        for _ in range(2):
            with pytest.raises(RunError, match="Cannot write"):
                run(config, dataclasses.replace(again, cache=Path("/proc/x")))
            assert not (folder / "record.json").exists()
    assert run(config, workspace).to_json().encode() == before["record.json"] and contents(folder) == before


def test_a_repetition_that_is_stopped_goes_on_and_then_takes_the_place_of_the_result(
    done: tuple[RunConfig, Workspace], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, workspace = done
    folder = workspace.runs / config.hash
    before = contents(folder)

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(adapt, "protocol_scores", stop)
        with pytest.raises(KeyboardInterrupt):
            run(config, dataclasses.replace(workspace, force=True))
    assert f"the earlier result is in {folder / EARLIER} until" in capsys.readouterr().err
    assert {name: content for name, content in contents(folder / EARLIER).items()} == before
    record = run(config, workspace)
    assert record.to_json().encode() != before["record.json"] and not (folder / EARLIER).exists()
    assert (folder / "checkpoint.safetensors").read_bytes() == before["checkpoint.safetensors"]


def test_force_repeats_a_run_in_a_linked_folder_and_says_where_it_cannot_be_written(
    done: tuple[RunConfig, Workspace], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, workspace = done
    folder, again = workspace.runs / config.hash, dataclasses.replace(workspace, force=True)
    before = contents(folder)
    with monkeypatch.context() as read_only:

        def refused(*_: Any) -> None:
            raise PermissionError(13, "Permission denied")

        read_only.setattr("bench.runs.own_files.os.replace", refused)
        with pytest.raises(RunError, match=r"Cannot write .*: Permission denied"):
            run(config, again)
    assert contents(folder) == before
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")
    assert run(config, again).to_json().encode() != before["record.json"] and folder.is_symlink()


def test_what_is_in_the_way_of_a_runs_files_is_said_before_it_works(workspace: Workspace) -> None:
    config = make_run_config("adabn", TINY)
    (workspace.runs / config.hash).mkdir(parents=True)
    (workspace.runs / config.hash / "figures").write_text("mine")
    with pytest.raises(UsageError, match=r"figures is in the way of a folder of the run; move it away"):
        run(config, workspace)


@pytest.mark.parametrize("mode", ["offline", "stream"])
def test_every_file_of_a_run_is_known_as_its_own(
    mode: str, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of its state, which go when it is finished."""
    monkeypatch.setattr(adapt, "tidy", lambda folder: None)
    config = make_run_config("hcl", TINY, mode=mode)
    with watched(True) as observer:
        saved = 2 if mode == "offline" else 0
        run(config, dataclasses.replace(workspace, observer=observer, save_predictions=saved))
    folder = workspace.runs / config.hash
    assert sorted(own_files(folder)) == sorted(contents(folder)) and len(own_files(folder, "state/")) > 0
    folders = {name.partition("/")[0] for name in own_files(folder) if "/" in name}
    assert folders == {"state", "figures", "tensorboard", "predictions" if mode == "offline" else "online"}
