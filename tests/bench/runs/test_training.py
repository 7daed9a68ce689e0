"""The training loop: schedule, snapshots, what it does when a loss is not a number."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import RunError
from bench.core.workspace import Workspace
from bench.networks.weights import load_tensors
from bench.runs import training
from bench.runs.config import Schedule
from bench.runs.training import Log, Trainer, poly, snapshot_steps
from methods.base import ClipBatch, LabelledBatch
from tests.bench.runs.toy import CPU, Toy, batch, by_hand, schedule


@pytest.mark.parametrize("clip", [10.0, 0.5, None])
def test_the_loop_is_sgd_under_a_polynomial_schedule(clip: float | None, tmp_path: Path) -> None:
    method = Toy()
    fitted = Trainer(method, schedule(clip_norm=clip), tmp_path, CPU).fit(batch)
    assert fitted.steps == 7 and fitted.wall_seconds > 0
    torch.testing.assert_close(
        method.segmenter.weight.detach(), torch.tensor(by_hand(7, 7, clip)), rtol=1e-5, atol=1e-6
    )


def test_networks_side_by_side_are_clipped_apart(tmp_path: Path) -> None:
    """One whose gradient is long does not shorten the other's step; without the mark it does."""

    class Two(Toy):
        apart = True

        def __init__(self) -> None:
            super().__init__()
            self.other = nn.Parameter(torch.tensor([300.0]))

        def parameter_groups(self, lr: float, head_multiplier: float) -> list[dict[str, Any]]:
            mark: list[dict[str, Any]] = [{"clipped": 0}, {"clipped": 1}] if self.apart else [{}, {}]
            groups = [*self.segmenter.parameter_groups(lr, head_multiplier), {"params": [self.other], "lr": lr}]
            return [{**group, **extra} for group, extra in zip(groups, mark, strict=True)]

        def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
            return {**super().losses(target, source, step), "other": self.other.square().sum() / 2}

    apart, together = Two(), Two()
    together.apart = False
    for number, method in enumerate((apart, together)):
        Trainer(method, schedule(), tmp_path / str(number), CPU).fit(batch)
    torch.testing.assert_close(apart.segmenter.weight.detach(), torch.tensor(by_hand(7, 7)), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(together.segmenter.weight, apart.segmenter.weight, atol=0.1)


def test_a_step_on_several_batches_takes_their_mean(tmp_path: Path) -> None:
    """Two batches a step whose means are 0, 1, 2, 0, ...: the gradient is that of their mean; losses are logged as a mean."""
    method = Toy()
    Trainer(method, schedule(accumulate=2, steps=2, momentum=0.0, weight_decay=0.0), tmp_path, CPU).fit(batch)
    w = [2.0, -1.0]
    for step, mean in enumerate((0.5, 1.0)):  # batches 0 and 1, then 2 and 0
        rate = 0.1 * (1 - step / 2) ** 0.9
        w = [x - rate * (x + mean) for x in w]
    torch.testing.assert_close(method.segmenter.weight.detach(), torch.tensor(w), rtol=1e-5, atol=1e-6)
    first = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[0])
    assert first["pull"] == pytest.approx(0.5) and first["square"] == pytest.approx(2.5)


def test_parts_of_a_step_draw_different_views_and_one_part_the_usual_one(tmp_path: Path) -> None:
    drawn: list[float] = []

    class Drawing(Toy):
        def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
            drawn.append(float(torch.rand((), generator=self.generator(step, "view"))))
            return super().losses(target, source, step)

    for parts in (1, 3):
        Trainer(Drawing(), schedule(accumulate=parts, steps=2), tmp_path / str(parts), CPU).fit(batch)
    one_part, three_parts = drawn[:2], drawn[2:]
    assert len(set(three_parts)) == 6 and three_parts[0] == one_part[0] and three_parts[3] == one_part[1]


def test_the_global_generator_is_set_by_the_step_and_given_back(tmp_path: Path) -> None:
    """Dropout draws from it: the same numbers whatever was drawn before, others in each step and part."""
    drawn: list[float] = []

    class Dropping(Toy):
        def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
            drawn.append(float(torch.rand(())))
            return super().losses(target, source, step)

        def after_step(self, step: int) -> None:
            drawn.append(float(torch.rand(())))

    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        Trainer(Dropping(), schedule(accumulate=2, steps=2), tmp_path / str(seed), CPU).fit(batch)
        assert torch.equal(torch.get_rng_state(), before)
    first, second = drawn[:6], drawn[6:]
    assert first == second and len(set(first)) == 6


def test_a_run_may_stop_early_in_a_longer_schedule(tmp_path: Path) -> None:
    method = Toy()
    Trainer(method, schedule(steps=3, horizon=7), tmp_path, CPU).fit(batch)
    torch.testing.assert_close(method.segmenter.weight.detach(), torch.tensor(by_hand(3, 7)), rtol=1e-5, atol=1e-6)


class Late(Trainer):
    """A trainer that believes to be on a GPU: what it notes is checked when it settles."""

    def _note(self, noted: Any) -> None:
        self._noted.append(noted)


def test_what_is_checked_late_is_checked_before_it_is_saved(tmp_path: Path) -> None:
    """NaN in step 4 of 7, noticed when the weights of step 5 would be kept; what was logged before is what else is logged."""
    Trainer(Toy(), schedule(), tmp_path / "plain", CPU).fit(batch)
    late = Late(Toy(), schedule(), tmp_path / "whole", CPU)
    late.fit(batch)
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == (tmp_path / "plain" / "metrics.jsonl").read_text()

    method = Toy()
    method.fault = lambda step, losses: {k: v * math.nan if step == 3 else v for k, v in losses.items()}
    broken = Late(method, schedule(), tmp_path / "broken", CPU)
    with pytest.raises(RunError, match=r"Step 3: loss 'square' is nan on clips first-3, second-3"):
        broken.fit(batch)
    assert not broken.snapshot_path(5).exists() and not broken.state_path.exists()


def test_compiling_the_encoder_changes_no_name(tmp_path: Path) -> None:
    from bench.networks.build import build_segmenter, place

    plain = build_segmenter("mini", "conv1x1", 3)
    compiled = place(build_segmenter("mini", "conv1x1", 3), Workspace(tmp_path, tmp_path, compiled=True))
    assert plain.state_dict().keys() == compiled.state_dict().keys()
    assert compiled.encoder._compiled_call_impl is not None and plain.encoder._compiled_call_impl is None


def test_the_schedule_scales_every_group(tmp_path: Path) -> None:
    method = Toy()
    method.extra = nn.Parameter(torch.zeros(1))
    trainer = Trainer(method, schedule(), tmp_path, CPU)
    trainer.step(0, [(batch(0), None)])
    assert [g["lr"] for g in trainer.optimiser.param_groups] == [0.1, 1.0]
    trainer.step(5, [(batch(5), None)])
    factor = (2 / 7) ** 0.9
    assert [g["lr"] for g in trainer.optimiser.param_groups] == pytest.approx([0.1 * factor, factor])


def test_poly_falls_from_one_to_almost_nothing() -> None:
    assert poly(0, 10, 0.9) == 1.0
    assert poly(5, 10, 1.0) == 0.5
    assert 0 < poly(9, 10, 0.9) < 0.13


@pytest.mark.parametrize(
    ("steps", "count", "expected"),
    [(200, 3, [67, 133, 200]), (7, 1, [7]), (2, 5, [1, 2]), (1, 3, [1]), (6, 3, [2, 4, 6])],
)
def test_snapshots_are_evenly_spaced_and_end_with_the_last_step(steps: int, count: int, expected: list[int]) -> None:
    assert snapshot_steps(schedule(steps=steps, snapshots=count)) == expected


def test_a_plain_schedule_keeps_the_last_step_only() -> None:
    plain = {k: v for k, v in schedule().model_dump().items() if k in Schedule.model_fields}
    assert snapshot_steps(Schedule(**plain)) == [7]


def test_every_step_is_logged_with_each_loss(tmp_path: Path) -> None:
    Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(7))
    assert lines[0]["square"] == 2.5 and lines[0]["pull"] == 0.0


# Not a number ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_loss_that_is_no_number_stops_with_step_loss_and_clips(
    value: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STATE_EVERY", 2)
    method = Toy()
    method.fault = lambda step, losses: {**losses, "pull": losses["pull"] + (value if step == 5 else 0)}
    with pytest.raises(RunError) as caught:
        Trainer(method, schedule(), tmp_path, CPU).fit(batch)
    message = str(caught.value)
    assert message.startswith(
        f"Step 5: loss 'pull' is {value} on clips first-5, second-5; the last good state is kept in "
    )
    assert str(tmp_path / "state") in message and "\n" not in message
    tensors, metadata = load_tensors(tmp_path / "state" / "state.safetensors")
    assert metadata["step"] == 4
    torch.testing.assert_close(tensors["method/segmenter.weight"], torch.tensor(by_hand(4, 7)), rtol=1e-5, atol=1e-6)
    repaired = Toy()
    Trainer(repaired, schedule(), tmp_path, CPU).fit(batch)
    torch.testing.assert_close(repaired.segmenter.weight.detach(), torch.tensor(by_hand(7, 7)), rtol=1e-5, atol=1e-6)


def test_a_gradient_that_is_no_number_stops_before_it_reaches_the_weights(tmp_path: Path) -> None:
    method = Toy()
    # sqrt has an infinite slope at 0, and infinity times 0 is not a number; the loss itself is 0.
    method.fault = lambda step, losses: {"root": (method.segmenter.weight * 0).square().sum().sqrt()}
    for clip in (10.0, None):
        with pytest.raises(RunError, match=r"Step 0: the gradient of 'root' is nan on clips first-0, second-0"):
            Trainer(method, schedule(clip_norm=clip), tmp_path, CPU).fit(batch)
        assert torch.equal(method.segmenter.weight.detach(), torch.tensor([2.0, -1.0]))


def test_before_the_first_state_the_start_is_what_is_left(tmp_path: Path) -> None:
    method = Toy()
    method.fault = lambda step, losses: {"bad": losses["square"] * float("nan")}
    with pytest.raises(RunError, match="the last good state is the start"):
        Trainer(method, schedule(), tmp_path, CPU).fit(batch)


def test_nan_at_the_command_line(
    fake_method: Callable[..., str], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STATE_EVERY", 2)
    monkeypatch.setattr("bench.runs.run.boxable", lambda _: False)  # it would not know of the 2
    name = fake_method(losses="if step == 3:\n    return {'odd': self.ordinary(target)['loss'] * float('nan')}")
    folders = ["--runs", str(workspace.runs), "--cache", str(workspace.cache)]
    result = CliRunner().invoke(cli.app, ["run", "-m", name, "--shift", "ministreet-tiny", *folders])
    assert result.exit_code == 1 and "Traceback" not in result.stderr
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("bench: ")]
    assert "Step 3: loss 'odd' is nan on clips target-train-" in line
    (folder,) = [path for path in workspace.runs.iterdir() if path.is_dir()]
    assert sorted(p.name for p in folder.iterdir()) == ["config.yaml", "metrics.jsonl", "state"]
    assert load_tensors(folder / "state" / "state.safetensors")[1]["step"] == 2


# Disk and precision ---------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_during_training_keeps_the_last_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STATE_EVERY", 2)
    original = training.save_tensors

    def full_at_four(path: Path, tensors: Any, metadata: Any) -> None:
        if metadata.get("step") == 4:
            monkeypatch.setattr(
                "bench.networks.weights.save_file", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left"))
            )
        original(path, tensors, metadata)

    monkeypatch.setattr(training, "save_tensors", full_at_four)
    with pytest.raises(RunError, match=r"Cannot write .*state.safetensors: No space left; free space"):
        Trainer(Toy(), schedule(snapshots=1), tmp_path, CPU).fit(batch)
    assert load_tensors(tmp_path / "state" / "state.safetensors")[1]["step"] == 2
    assert [p.name for p in (tmp_path / "state").iterdir()] == ["state.safetensors"]


def test_an_error_of_a_method_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    method = Toy()

    def missing(step: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        raise FileNotFoundError(2, "No such file", "something of the method's own")

    method.fault = missing
    with pytest.raises(FileNotFoundError):
        Trainer(method, schedule(), tmp_path, CPU).fit(batch)


def test_losses_are_computed_under_autocast_and_summed_in_float32(tmp_path: Path) -> None:
    method = Toy()
    autocast = []

    def look(step: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        autocast.append(torch.is_autocast_enabled("cpu"))
        return {k: v.bfloat16() for k, v in losses.items()} if step == 0 else losses

    method.fault = look
    Trainer(method, schedule(precision="bfloat16", steps=2), tmp_path, CPU).fit(batch)
    assert autocast == [True, True]
    autocast.clear()
    Trainer(method, schedule(steps=2), tmp_path / "other", CPU).fit(batch)
    assert autocast == [False, False]


def test_a_log_that_lacks_steps_that_are_done_is_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = Log(tmp_path / "metrics.jsonl")
    log.cut(3)
    assert "metrics.jsonl has 0 lines, 3 steps are done: the losses of the others are lost" in capsys.readouterr().err
    for step in range(4):
        log.add({"step": step})
    log.cut(3)
    assert len(log.path.read_text().splitlines()) == 3 and capsys.readouterr().err == ""
    log.cut(5)
    assert "has 3 lines, 5 steps are done" in capsys.readouterr().err and len(log.path.read_text().splitlines()) == 3
    log.cut(0)
    assert not log.path.exists() and capsys.readouterr().err == ""
