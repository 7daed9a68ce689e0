"""States of a training loop: kept, gone on from to the same bits, and refused where they are not of this run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from bench.core.errors import RunError
from bench.networks.weights import load_tensors, save_tensors
from bench.runs import training
from bench.runs.training import Trainer, snapshot_steps
from methods.base import ClipBatch
from tests.bench.runs.toy import CPU, Toy, batch, schedule


@pytest.mark.parametrize("stop", range(1, 7))
@pytest.mark.parametrize("every", [1, 3])
def test_a_loop_that_stops_anywhere_goes_on_to_the_same_bits(
    stop: int, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STATE_EVERY", every)
    uninterrupted = Toy()
    Trainer(uninterrupted, schedule(), tmp_path / "whole", CPU).fit(batch)

    seen: list[int] = []

    def stopping(step: int) -> ClipBatch:
        if step == stop:
            raise KeyboardInterrupt
        return batch(step)

    with pytest.raises(KeyboardInterrupt):
        Trainer(Toy(), schedule(), tmp_path / "part", CPU).fit(stopping)
    resumed = Toy()
    with torch.no_grad():
        resumed.segmenter.weight.fill_(99)  # whatever it was: what was saved is all that counts

    def watched(step: int) -> ClipBatch:
        seen.append(step)
        return batch(step)

    if stop >= every:
        Trainer(resumed, schedule(), tmp_path / "part", CPU).fit(watched)
        assert seen == list(range(stop // every * every, 7))
        assert torch.equal(resumed.segmenter.weight, uninterrupted.segmenter.weight)
        assert resumed.steps_seen == 7
        for name in ("metrics.jsonl", *(f"state/snapshot-{s:06d}.safetensors" for s in (2, 5, 7))):
            assert (tmp_path / "part" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    else:
        assert not (tmp_path / "part" / "state" / "state.safetensors").exists()


def test_seconds_add_up_over_interruptions(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), schedule(), tmp_path, CPU)
    trainer._save(1, 100.0, 200.0)
    fitted = Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch)
    assert 100 < fitted.wall_seconds < 110 and 200 < fitted.cpu_seconds < 210


def test_a_state_of_other_code_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), schedule(), tmp_path, CPU)
    trainer._save(3, 1.0, 1.0)
    larger = Toy()
    larger.extra = nn.Parameter(torch.zeros(1))
    with pytest.raises(
        RunError, match=r"state\.safetensors was saved by other code than this; delete it and run again"
    ):
        Trainer(larger, schedule(), tmp_path, CPU).fit(batch)
    save_tensors(trainer.state_path, {f"method/{k}": v for k, v in Toy().state_dict().items()})
    with pytest.raises(RunError, match="saved by other code"):
        Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch)


def test_a_state_that_lost_its_momentum_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), schedule(steps=1), tmp_path, CPU)
    trainer.fit(batch)
    tensors, facts = load_tensors(trainer.state_path)
    without_momentum = {name: value for name, value in tensors.items() if not name.startswith("optimiser/")}
    assert without_momentum.keys() < tensors.keys()
    for stored, metadata in ((without_momentum, facts), (tensors, {**facts, "wall": True})):
        save_tensors(trainer.state_path, stored, metadata)
        with pytest.raises(RunError, match="saved by other code"):
            Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch)


def test_a_snapshot_that_has_gone_is_missed_when_the_run_goes_on(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), schedule(), tmp_path, CPU)
    trainer.fit(batch)
    gone = trainer.snapshot_path(snapshot_steps(trainer.schedule)[0])
    gone.unlink()
    with pytest.raises(RunError, match=rf"{gone} has gone, .*; delete {gone.parent} and run again"):
        Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch)


def test_every_environment_of_an_interrupted_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    environment = training.environment(CPU, 1)
    assert (
        environment["threads"] == "1"
        and environment["device"] == "cpu"
        and {"torch", "cpu_model"} <= environment.keys()
    )

    def stopping(step: int) -> ClipBatch:
        if step == 3:
            raise KeyboardInterrupt
        return batch(step)

    monkeypatch.setattr(training, "STATE_EVERY", 2)
    with monkeypatch.context() as elsewhere, pytest.raises(KeyboardInterrupt):
        elsewhere.setattr(training, "environment", lambda *_: environment | {"threads": "2"})
        Trainer(Toy(), schedule(), tmp_path, CPU).fit(stopping)
    environments = (environment | {"threads": "2"}, environment)
    assert Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch).environments == environments
    assert Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch).environments == environments  # nothing was left to do


def test_a_truncated_state_is_named(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), schedule(), tmp_path, CPU)
    trainer._save(3, 1.0, 1.0)
    trainer.state_path.write_bytes(trainer.state_path.read_bytes()[:100])
    with pytest.raises(RunError, match=f"{trainer.state_path} is damaged.*delete it and run again"):
        Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch)


@pytest.mark.parametrize(
    "forged", [{"step": -1}, {"step": 8}, {"step": "3"}, {"step": None}, {"step": 2.5}, {"wall": -1}, {"cpu": "soon"}]
)
def test_a_state_of_a_step_that_there_is_not(forged: dict[str, Any], tmp_path: Path) -> None:
    trainer = Trainer(Toy(), schedule(snapshots=1), tmp_path, CPU)
    trainer._save(3, 1.0, 1.0)
    tensors, meta = load_tensors(trainer.state_path)
    save_tensors(trainer.state_path, tensors, meta | forged)
    with pytest.raises(
        RunError, match=f"{trainer.state_path} was saved by other code than this; delete it and run again"
    ):
        Trainer(Toy(), schedule(snapshots=1), tmp_path, CPU).fit(batch)


def test_a_log_without_a_state_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text('{"step": 0, "of": "an older attempt"}\n')
    Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch)
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 7
