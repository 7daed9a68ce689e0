"""``bench submit``: only what scores again as its record says reaches the leaderboard."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import bench.shifts
from bench.core.errors import RunError, UsageError
from bench.core.registry import ROOT
from bench.core.workspace import Workspace
from bench.leaderboards.submit import rescore, submit_runs
from bench.networks.weights import load_tensors, save_tensors
from bench.runs.config import RunConfig, make_run_config
from bench.runs.finished import RunFolder
from bench.runs.records import read_record
from bench.runs.run import run


@pytest.fixture(scope="module")
def reported(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunConfig, Path]]:
    """A finished run on a reported shift of the repository (a tiny one), config and folder."""
    base = tmp_path_factory.mktemp("reported")
    told = yaml.safe_load((ROOT / "shifts" / "ministreet-tiny.yaml").read_text(encoding="utf-8"))
    told["purpose"] = "report"
    (base / "tiny-reported.yaml").write_text(yaml.safe_dump(told), encoding="utf-8")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as held:
        held.setattr(bench.shifts, "__path__", [*bench.shifts.__path__, str(base)])
        config = make_run_config("adabn", "tiny-reported")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("bench.runs.run._draw", lambda *_: None)
            patch.setattr("bench.runs.run.code", lambda: {"revision": "abc123abc123", "dirty": False})
            run(config, Workspace(base / "runs", tiny_cache, torch.device("cpu")))
        yield config, base / "runs" / config.hash


@pytest.fixture
def folder(reported: tuple[RunConfig, Path], tmp_path: Path) -> Path:
    """A copy that may be spoilt."""
    return shutil.copytree(reported[1], tmp_path / "run")


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    told = json.loads(path.read_text())
    edit(told)
    path.write_text(json.dumps(told))


def test_a_run_is_scored_again_and_its_record_copied(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    record = read_record(folder / "record.json")
    (done,) = submit_runs([folder], tmp_path / "boards", tiny_cache)
    assert done.record == tmp_path / "boards" / "records" / "ministreet-tiny" / f"adabn-s0-{record.run}.json"
    assert read_record(done.record) == record
    assert done.sequences == done.record.parent / "sequences" / f"{done.record.stem}.csv"
    assert done.sequences.read_bytes() == (folder / "sequences.csv").read_bytes()


def test_the_second_scoring_is_the_first(folder: Path, tiny_cache: Path) -> None:
    done = RunFolder.open(folder)
    again, first = rescore(done, Workspace(cache=tiny_cache)), done.record.result
    assert (again.miou, again.temporal_consistency) == (first.miou, first.temporal_consistency)


@pytest.mark.parametrize("score", ["miou", "pixel_accuracy", "temporal_consistency"])
def test_a_touched_up_record_is_refused(score: str, folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    change(folder / "record.json", lambda told: told["result"].update({score: told["result"][score] + 0.5}))
    with pytest.raises(RunError, match=rf"the record says [\d.]+ {score}, its checkpoint scores [\d.]+"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)
    assert not (tmp_path / "boards").exists()


def test_other_weights_are_refused(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    tensors, metadata = load_tensors(folder / "checkpoint.safetensors")
    name = "encoder.stem.0.0.weight"
    save_tensors(folder / "checkpoint.safetensors", {**tensors, name: -tensors[name]}, metadata)
    with pytest.raises(RunError, match="its checkpoint scores"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)


def test_a_truncated_checkpoint_is_named(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    path = folder / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RunError, match=f"{path} is damaged"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)


@pytest.mark.parametrize("what", ["config", "record's config", "record's run"])
def test_parts_that_do_not_belong_together_are_refused(
    what: str, folder: Path, tmp_path: Path, tiny_cache: Path
) -> None:
    if what == "config":
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    elif what == "record's config":
        change(folder / "record.json", lambda told: told["config"].update(seed=3))
    else:
        change(folder / "record.json", lambda told: told.update(run="0123456789ab"))
    with pytest.raises(RunError, match="do not belong together; run it again"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)


def test_submitting_twice_changes_nothing_and_scores_once(
    folder: Path, tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (first,) = submit_runs([folder], tmp_path / "boards", tiny_cache)
    before = {path: path.read_bytes() for path in (tmp_path / "boards").rglob("*.*")}
    with monkeypatch.context() as patch:
        patch.setattr("bench.leaderboards.submit.rescore", None)  # would fail if it were called
        (second,) = submit_runs([folder], tmp_path / "boards", tiny_cache)
    assert (first.new, second.new) == (True, False) and first.sequences == second.sequences
    assert {path: path.read_bytes() for path in (tmp_path / "boards").rglob("*.*")} == before
    assert first.sequences is not None
    first.sequences.write_text(first.sequences.read_text().replace("00000,", "00000,1"))  # spoilt: made again
    (third,) = submit_runs([folder], tmp_path / "boards", tiny_cache)
    assert third.new and {path: path.read_bytes() for path in before} == before


def test_a_run_from_before_sequences_were_kept_gets_them_from_the_second_scoring(
    folder: Path, tmp_path: Path, tiny_cache: Path
) -> None:
    own = (folder / "sequences.csv").read_bytes()
    (folder / "sequences.csv").unlink()
    (done,) = submit_runs([folder], tmp_path / "boards", tiny_cache)
    assert done.sequences is not None and done.sequences.read_bytes() == own


def test_without_exact_counts_the_record_stands_alone(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    (first,) = submit_runs([folder], tmp_path / "boards", tiny_cache)
    change(folder / "record.json", lambda told: told["result"].update(miou=told["result"]["miou"] + 0.01))
    (folder / "sequences.csv").unlink()
    (done,) = submit_runs([folder], tmp_path / "boards", tiny_cache)  # within the tolerance of the second scoring
    assert done.new and done.sequences is None and first.sequences is not None and not first.sequences.exists()


def test_sequences_that_are_not_the_records_are_refused(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    lines = (folder / "sequences.csv").read_text().splitlines(keepends=True)
    (folder / "sequences.csv").write_text("".join(lines[:-1]))
    with pytest.raises(RunError, match=r"sequences.csv does not belong to the run's record: IoU of road is [\d.]+ in"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)
    assert not (tmp_path / "boards").exists()


def test_code_that_was_not_committed_is_refused(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    change(folder / "record.json", lambda told: told["code"].update(dirty=True))
    with pytest.raises(RunError, match=r"ran with changes that are not in revision abc123abc123; .* --allow-dirty"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)
    (done,) = submit_runs([folder], tmp_path / "boards", tiny_cache, allow_dirty=True)
    assert read_record(done.record).code["dirty"] is True


def test_all_runs_are_looked_at_before_the_first_is_scored(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    with pytest.raises(UsageError, match="nowhere is not a finished run"):
        submit_runs([folder, tmp_path / "nowhere"], tmp_path / "boards", tiny_cache)
    assert not (tmp_path / "boards").exists()


@pytest.mark.parametrize("missing", ["record.json", "config.yaml", "checkpoint.safetensors"])
def test_an_unfinished_run_is_wrong_use(missing: str, folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    (folder / missing).unlink()
    with pytest.raises(UsageError, match=f"is not a finished run: it has no {missing}"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)


def test_a_run_of_another_protocol_is_wrong_use(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    change(folder / "record.json", lambda told: told.update(shift_hash="0123456789ab"))
    with pytest.raises(UsageError, match="was made under protocol 0123456789ab; 'ministreet-tiny' is now"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)


@pytest.mark.usefixtures("no_figures")
def test_what_is_not_reported_cannot_be_submitted(workspace: Workspace, tmp_path: Path) -> None:
    config = make_run_config("source_only", "ministreet-tiny")
    run(config, workspace)
    with pytest.raises(UsageError, match="ran on 'ministreet-tiny', which is for test, not for reporting"):
        submit_runs([workspace.runs / config.hash], tmp_path / "boards", workspace.cache)


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_was_cut_short_cannot_be_submitted(
    reported: tuple[RunConfig, Path], workspace: Workspace, tmp_path: Path
) -> None:
    config = make_run_config("source_only", reported[0].shift, steps=1)
    run(config, workspace)
    with pytest.raises(UsageError, match=r"was cut short with --steps 1; run it whole"):
        submit_runs([workspace.runs / config.hash], tmp_path / "boards", workspace.cache)
