"""A finished run's folder: opened whole or refused in one line, with the network, clips and flow of the run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bench.core.access import stage
from bench.core.errors import AccessError, RunError, UsageError
from bench.core.workspace import Workspace
from bench.flow import resolve
from bench.flow._shards import Precomputed
from bench.flow.backends import dis
from bench.flow.compute import compute, open_split
from bench.networks.weights import load_tensors
from bench.runs.config import load_shift, make_run_config
from bench.runs.evaluate import protocol_scores
from bench.runs.finished import CHECKPOINT, CONFIG, RECORD, RunFolder, all_records, finished, finished_runs
from bench.runs.run import run

TINY = "ministreet-tiny"


@pytest.fixture
def folder(finished_tiny: Path, tmp_path: Path) -> Path:
    """A copy of the finished run of adabn that may be spoilt."""
    name = make_run_config("adabn", TINY).hash
    return shutil.copytree(finished_tiny / name, tmp_path / name)


def edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    fields = json.loads((folder / RECORD).read_text())
    change(fields)
    (folder / RECORD).write_text(json.dumps(fields))


def test_what_is_opened_scores_what_the_record_says(folder: Path, tiny_cache: Path) -> None:
    finished_run, workspace = RunFolder.open(folder), Workspace(cache=tiny_cache)
    model = finished_run.model(workspace)
    assert not model.training and finished_run.name == "AdaBN" and finished_run.shift.name == TINY
    weights, _ = load_tensors(finished_run.checkpoint)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    with finished_run.labelled_clips(workspace) as loader:
        scores = protocol_scores(finished_run.shift, model, loader, workspace.device)
    assert (scores.miou, scores.pixel_accuracy) == (
        finished_run.record.result.miou,
        finished_run.record.result.pixel_accuracy,
    )


def test_labels_are_open_inside_alone_and_never_during_an_adaptation(folder: Path, tiny_cache: Path) -> None:
    finished_run, workspace = RunFolder.open(folder), Workspace(cache=tiny_cache)
    with finished_run.labelled_clips(workspace) as loader:
        assert len(loader.store.labels()) == 4
        with pytest.raises(AccessError, match="target-train"):
            np.load(next(tiny_cache.glob("clips/target-train-*/frames.npy")))
    with stage("target-train"), pytest.raises(AccessError), finished_run.labelled_clips(workspace):
        raise AssertionError("opened")


def test_flow_is_the_runs_computed_ahead_where_it_is(
    finished_tiny: Path, tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The record's config is what is asked for, so another flow than the default's is the run's."""
    shutil.copytree(tiny_cache / "clips", tmp_path / "clips")
    finished_run, workspace = finished_runs(["adabn"], TINY, [0], finished_tiny)[0], Workspace(cache=tmp_path)
    with_dis = finished_run.record.model_copy(update={"config": finished_run.config.model_copy(update={"flow": "dis"})})
    finished_run = RunFolder(finished_run.folder, with_dis)
    with finished_run.labelled_clips(workspace) as loader:
        assert loader.flow is dis.BACKEND
    compute(open_split(load_shift(TINY), "target-val", 0, workspace), "dis", tmp_path, workers=1)
    with finished_run.labelled_clips(workspace) as loader:
        assert isinstance(loader.flow, Precomputed) and loader.flow.identity == "dis-medium"
    monkeypatch.setattr(dis, "AHEAD", True, raising=False)  # as mmflow: a process of its own, so never in a run
    shutil.rmtree(tmp_path / "flow")
    with (
        pytest.raises(RunError, match="a run cannot compute it: bench flow compute first"),
        finished_run.labelled_clips(workspace),
    ):
        raise AssertionError("opened")
    assert resolve.identity_of("dis", dis.BACKEND) == "dis-medium"


@pytest.mark.parametrize("missing", [CONFIG, RECORD, CHECKPOINT])
def test_a_folder_that_lacks_something_is_no_finished_run(missing: str, folder: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(UsageError, match=f"{folder} is not a finished run: it has no {missing}$"):
        RunFolder.open(folder)
    with pytest.raises(UsageError, match=f"it has no {RECORD}"):
        RunFolder.open(folder / "nowhere", any_protocol=True)


def test_a_damaged_record_and_a_damaged_checkpoint_failed(folder: Path) -> None:
    (folder / CHECKPOINT).write_bytes(b"x" * 100)
    with pytest.raises(RunError, match="damaged or not a safetensors file"):
        RunFolder.open(folder).model(Workspace())
    (folder / RECORD).write_text("{")
    with pytest.raises(RunError, match=r"Record .* is damaged"):
        RunFolder.open(folder)


def test_a_run_of_another_protocol_is_refused_unless_it_is_asked_for(folder: Path) -> None:
    edit(folder, lambda fields: fields.update(shift_hash="0" * 12))
    current_hash = load_shift(TINY).hash
    message = (
        rf"{folder} was made under protocol 000000000000; '{TINY}' is now {current_hash}; run it again, or check out"
    )
    with pytest.raises(UsageError, match=message):
        RunFolder.open(folder)
    assert RunFolder.open(folder, any_protocol=True).model(Workspace()).training is False


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_was_cut_short_is_of_its_own_short_protocol(workspace: Workspace) -> None:
    config = make_run_config("source_only", TINY, steps=2)
    run(config, workspace)
    finished_run = RunFolder.open(workspace.runs / config.hash)
    assert finished_run.shift.adaptation.steps == 2 and finished_run.record.shift_hash != config.shift_hash


def test_only_records_of_the_protocol_are_compared(folder: Path) -> None:
    root = folder.parent / "boards"
    assert [record.run for record in all_records(folder.parent, root, TINY)] == [folder.name]
    edit(folder, lambda fields: fields["config"].update(shift_hash="0" * 12))
    assert all_records(folder.parent, root, TINY) == []
    (folder / RECORD).write_text("damaged")
    assert all_records(folder.parent, root, TINY) == []


def test_a_record_without_its_checkpoint_is_a_finished_run_of_another_machine(folder: Path) -> None:
    (folder / CHECKPOINT).unlink()
    record = finished(folder, make_run_config("adabn", TINY))
    assert record is not None and record.run == folder.name
