"""``bench submit``: only what scores again as its record says reaches the leaderboard."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import RunError, UsageError
from bench.core.workspace import Workspace
from bench.leaderboards.submit import rescore, submit_runs
from bench.runs.config import make_run_config
from bench.runs.finished import RunFolder
from bench.runs.records import read_record
from bench.runs.run import run


@pytest.fixture
def folder(copied: Callable[[str], Path]) -> Path:
    """A finished run that may be spoilt."""
    return copied("adabn")


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    fields = json.loads(path.read_text())
    edit(fields)
    path.write_text(json.dumps(fields))


def test_a_run_is_scored_again_and_its_record_copied(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    record = read_record(folder / "record.json")
    (submitted,) = submit_runs([folder], tmp_path / "boards", tiny_cache)
    assert submitted.record == tmp_path / "boards" / "records" / "tiny-reported" / f"adabn-s0-{record.run}.json"
    assert read_record(submitted.record) == record
    assert submitted.sequences == submitted.record.parent / "sequences" / f"{submitted.record.stem}.csv"
    assert submitted.sequences.read_bytes() == (folder / "sequences.csv").read_bytes()


def test_the_second_scoring_is_the_first(folder: Path, tiny_cache: Path) -> None:
    run_folder = RunFolder.open(folder)
    second, first = rescore(run_folder, Workspace(cache=tiny_cache)), run_folder.record.result
    assert (second.miou, second.temporal_consistency) == (first.miou, first.temporal_consistency)


def test_a_truncated_checkpoint_is_refused(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    path = folder / "checkpoint.safetensors"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(RunError, match=f"{folder} has another checkpoint than its record says: SHA-256"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)


@pytest.mark.parametrize("what", ["config", "record's config", "record's run"])
def test_parts_that_do_not_belong_together_are_refused(
    what: str, folder: Path, tmp_path: Path, tiny_cache: Path
) -> None:
    if what == "config":
        text = (folder / "config.yaml").read_text()
        (folder / "config.yaml").write_text(text.replace("seed: 0", "seed: 1"))
    elif what == "record's config":
        change(folder / "record.json", lambda fields: fields["config"].update(seed=3))
    else:
        change(folder / "record.json", lambda fields: fields.update(run="0123456789ab"))
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
    first.sequences.write_text(first.sequences.read_text().replace("00000,", "00000,1"))  # spoilt: made again
    (third,) = submit_runs([folder], tmp_path / "boards", tiny_cache)
    assert third.new and {path: path.read_bytes() for path in before} == before


def test_code_that_was_not_committed_is_refused(folder: Path, tmp_path: Path, tiny_cache: Path) -> None:
    change(folder / "record.json", lambda fields: fields["code"].update(dirty=True))
    with pytest.raises(RunError, match=r"ran with changes that are not in revision abc123abc123; .* --allow-dirty"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)
    (submitted,) = submit_runs([folder], tmp_path / "boards", tiny_cache, allow_dirty=True)
    assert read_record(submitted.record).code["dirty"] is True


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
    change(folder / "record.json", lambda fields: fields.update(shift_hash="0123456789ab"))
    with pytest.raises(UsageError, match="was made under protocol 0123456789ab; 'tiny-reported' is now"):
        submit_runs([folder], tmp_path / "boards", tiny_cache)


@pytest.mark.usefixtures("no_figures")
def test_what_is_not_reported_cannot_be_submitted(workspace: Workspace, tmp_path: Path) -> None:
    config = make_run_config("source_only", "ministreet-tiny")
    run(config, workspace)
    with pytest.raises(UsageError, match="ran on 'ministreet-tiny', which is for test, not for reporting"):
        submit_runs([workspace.runs / config.hash], tmp_path / "boards", workspace.cache)


@pytest.mark.usefixtures("no_figures", "copied")
def test_a_run_that_was_cut_short_cannot_be_submitted(workspace: Workspace, tmp_path: Path) -> None:
    config = make_run_config("source_only", "tiny-reported", steps=1)
    run(config, workspace)
    with pytest.raises(UsageError, match=r"was cut short with --steps 1; run it whole"):
        submit_runs([workspace.runs / config.hash], tmp_path / "boards", workspace.cache)
