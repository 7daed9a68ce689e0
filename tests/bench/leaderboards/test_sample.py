"""``bench leaderboard --check --sample``: some of the committed records are scored again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import RunError
from bench.core.workspace import Workspace
from bench.leaderboards.page import write
from bench.leaderboards.sample import score_sample
from bench.leaderboards.standings import read_committed
from bench.leaderboards.submit import submit_runs
from bench.runs.config import load_shift
from bench.runs.sequences import place, read_sequences, write_sequences
from tests.bench.leaderboards.test_forgeries import rescored


@pytest.fixture
def submitted(copied: Callable[[str], Path], tmp_path: Path, tiny_cache: Path) -> tuple[Path, Workspace]:
    """Two records, with the run of one at hand."""
    runs = [copied("stpl"), copied("adabn")]
    submit_runs(runs, tmp_path / "boards", tiny_cache)
    (runs[1] / "checkpoint.safetensors").unlink()
    return tmp_path / "boards", Workspace(tmp_path / "runs", tiny_cache, torch.device("cpu"))


def test_what_is_at_hand_is_scored_again(submitted: tuple[Path, Workspace]) -> None:
    sample = score_sample(submitted[0], 5, submitted[1])
    assert (sample.records, sample.at_hand, [path.name[:4] for path in sample.scored]) == (2, 1, ["stpl"])
    assert sample.text.startswith(
        "1 of 2 records have their runs at hand; 1 drawn and scored again, as recorded: stpl-s0-"
    )
    nowhere = Workspace(submitted[0], submitted[1].cache, torch.device("cpu"))
    assert (
        score_sample(submitted[0], 5, nowhere).text == "0 of 2 records have their runs at hand; none was scored again"
    )


def test_a_run_of_another_training_is_not_at_hand(submitted: tuple[Path, Workspace]) -> None:
    root, workspace = submitted
    path = next((root / "records").glob("*/stpl-*.json"))
    fields = json.loads(path.read_text())
    path.write_text(json.dumps(fields | {"digests": {**fields["digests"], "checkpoint": "0" * 64}}))
    assert score_sample(root, 5, workspace).at_hand == 0
    path.write_text(
        json.dumps(fields | {"digests": None})
    )  # as before digests were kept: the same code, machine and day
    assert score_sample(root, 5, workspace).at_hand == 1
    path.write_text(json.dumps(fields | {"digests": None, "date": "2020-01-01"}))
    assert score_sample(root, 5, workspace).at_hand == 0


def test_numbers_that_fit_together_and_were_not_measured_are_found(submitted: tuple[Path, Workspace]) -> None:
    """The labels are right and every sum agrees: only the weights say otherwise."""
    root, workspace = submitted
    path = next((root / "records").glob("*/stpl-*.json"))
    classes = load_shift("tiny-reported").classes
    fields, counts = json.loads(path.read_text()), read_sequences(place(path), classes)
    for clip in counts.values():
        wrong = clip[:, 2] - clip[:, 0]
        clip[:, 0] = clip[:, 1] - (clip[:, 1] - clip[:, 0]) // 2
        clip[:, 2] = clip[:, 0] + wrong // 2
        clip[0, 2] += clip[:, 1].sum() - clip[:, 2].sum()
    rescored(fields, counts)
    path.write_text(json.dumps(fields))
    write_sequences(place(path), counts, classes)
    assert len(read_committed(root, "tiny-reported").records) == 2  # looks right
    with pytest.raises(RunError, match=rf"Record {path}: the record says [\d.]+ miou, its checkpoint scores [\d.]+"):
        score_sample(root, 5, workspace)


def test_the_command(submitted: tuple[Path, Workspace], monkeypatch: pytest.MonkeyPatch) -> None:
    root, workspace = submitted
    monkeypatch.setattr("bench.leaderboards.generated.Drawing.stale", lambda _: [])
    write(root)
    folders = ["--root", str(root), "--runs", str(workspace.runs), "--cache", str(workspace.cache)]
    result = CliRunner().invoke(cli.app, ["leaderboard", "--check", "--sample", "3", *folders])
    assert result.exit_code == 0 and result.stdout == "Leaderboards are fresh\n"
    assert "bench: 1 of 2 records have their runs at hand; 1 drawn" in result.stderr
    wrong = CliRunner().invoke(cli.app, ["leaderboard", "--sample", "3", *folders])
    assert wrong.exit_code == 2 and "sample" in wrong.stderr and "check" in wrong.stderr
