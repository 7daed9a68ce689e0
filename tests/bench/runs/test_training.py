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
from bench.networks.weights import load_tensors, save_tensors
from bench.runs import training
from bench.runs.config import Adaptation, Schedule
from bench.runs.training import Trainer, poly, snapshot_steps
from methods.base import Card, ClipBatch, LabelledBatch, Method, NoSettings, Setup

CPU = torch.device("cpu")


def schedule(**changes: Any) -> Adaptation:
    values: dict[str, Any] = {
        "steps": 7, "batch": 2, "lr": 0.1, "head_multiplier": 10.0, "momentum": 0.9, "weight_decay": 0.01, "power": 0.9,
        "clip_norm": 10.0, "precision": "float32", "batch_norm": "target", "snapshots": 3, "statistics_clips": 4,
    }  # fmt: skip
    return Adaptation(**{**values, **changes})


class Line(nn.Module):
    """One weight; looks like a segmenter to the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([2.0, -1.0]))

    def parameter_groups(self, lr: float, head_multiplier: float) -> list[dict[str, Any]]:
        return [{"params": [self.weight], "lr": lr}]


class Toy(Method):
    """``sum(w^2) / 2 + w . mean(frames)``, whose gradient is ``w + mean(frames)``."""

    card = Card("toy", "Toy", "-", "-", None, "", "-", "SFDA")
    fault: Callable[[int, dict[str, Tensor]], dict[str, Tensor]] | None = None

    def __init__(self) -> None:
        super().__init__(Line(), NoSettings(), Setup(2, 7, 0))  # type: ignore[arg-type]
        self.register_buffer("steps_seen", torch.tensor(0))

    def losses(self, target: ClipBatch, source: LabelledBatch | None, step: int) -> dict[str, Tensor]:
        w = self.segmenter.weight
        losses = {"square": w.square().sum() / 2, "pull": (w * target.frames.mean()).sum()}  # type: ignore[operator]
        return self.fault(step, losses) if self.fault else losses

    def after_step(self, step: int) -> None:
        self.steps_seen += 1  # type: ignore[operator]


def batch(step: int) -> ClipBatch:
    frames = torch.full((2, 2, 3, 4, 4), float(step % 3))
    flow, valid = torch.zeros(2, 1, 2, 4, 4), torch.ones(2, 1, 4, 4, dtype=torch.bool)
    return ClipBatch(frames, flow, valid, (f"first-{step}", f"second-{step}"))


def by_hand(steps: int, total: int, clip: float | None = 10.0) -> list[float]:
    """SGD with momentum and weight decay under a polynomial schedule, written out."""
    w, velocity = [2.0, -1.0], [0.0, 0.0]
    for step in range(steps):
        gradient = [x + step % 3 for x in w]
        norm = math.hypot(*gradient)
        if clip is not None and norm > clip:
            gradient = [g * clip / norm for g in gradient]
        for i in range(2):
            velocity[i] = 0.9 * velocity[i] + gradient[i] + 0.01 * w[i]
            w[i] -= 0.1 * (1 - step / total) ** 0.9 * velocity[i]
    return w


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
            return [{**group, **own} for group, own in zip(groups, mark, strict=True)]

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
    one, three = drawn[:2], drawn[2:]
    assert len(set(three)) == 6 and three[0] == one[0] and three[3] == one[1]


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
    whole = Late(Toy(), schedule(), tmp_path / "whole", CPU)
    whole.fit(batch)
    assert (tmp_path / "whole" / "metrics.jsonl").read_text() == (tmp_path / "plain" / "metrics.jsonl").read_text()

    method = Toy()
    method.fault = lambda step, losses: {k: v * math.nan if step == 3 else v for k, v in losses.items()}
    broken = Late(method, schedule(), tmp_path / "broken", CPU)
    with pytest.raises(RunError, match=r"Step 3: loss 'square' is nan on clips first-3, second-3"):
        broken.fit(batch)
    assert not broken.snapshot_path(5).exists() and not broken.state_path.exists()


def test_compiling_the_encoder_changes_no_name(tmp_path: Path) -> None:
    from bench.networks.build import build_segmenter
    from bench.runs.training import place

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


@pytest.mark.parametrize("stop", range(1, 7))
@pytest.mark.parametrize("every", [1, 3])
def test_a_loop_that_stops_anywhere_goes_on_to_the_same_bits(
    stop: int, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "STATE_EVERY", every)
    whole = Toy()
    Trainer(whole, schedule(), tmp_path / "whole", CPU).fit(batch)

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
        assert torch.equal(resumed.segmenter.weight, whole.segmenter.weight)
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
    other = Toy()
    other.extra = nn.Parameter(torch.zeros(1))
    with pytest.raises(
        RunError, match=r"state\.safetensors was saved by other code than this; delete it and run again"
    ):
        Trainer(other, schedule(), tmp_path, CPU).fit(batch)
    save_tensors(trainer.state_path, {f"method/{k}": v for k, v in Toy().state_dict().items()})
    with pytest.raises(RunError, match="saved by other code"):
        Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch)


def test_a_state_that_lost_its_momentum_is_refused(tmp_path: Path) -> None:
    trainer = Trainer(Toy(), schedule(steps=1), tmp_path, CPU)
    trainer.fit(batch)
    tensors, facts = load_tensors(trainer.state_path)
    kept = {name: value for name, value in tensors.items() if not name.startswith("optimiser/")}
    assert kept.keys() < tensors.keys()
    for left, told in ((kept, facts), (tensors, {**facts, "wall": True})):
        save_tensors(trainer.state_path, left, told)
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
    here = training.environment(CPU, 1)
    assert here["threads"] == "1" and here["device"] == "cpu" and {"torch", "cpu_model"} <= here.keys()

    def stopping(step: int) -> ClipBatch:
        if step == 3:
            raise KeyboardInterrupt
        return batch(step)

    monkeypatch.setattr(training, "STATE_EVERY", 2)
    with monkeypatch.context() as elsewhere, pytest.raises(KeyboardInterrupt):
        elsewhere.setattr(training, "environment", lambda *_: here | {"threads": "2"})
        Trainer(Toy(), schedule(), tmp_path, CPU).fit(stopping)
    both = (here | {"threads": "2"}, here)
    assert Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch).environments == both
    assert Trainer(Toy(), schedule(), tmp_path, CPU).fit(batch).environments == both  # nothing was left to do


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
    seen = []

    def look(step: int, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append(torch.is_autocast_enabled("cpu"))
        return {k: v.bfloat16() for k, v in losses.items()} if step == 0 else losses

    method.fault = look
    Trainer(method, schedule(precision="bfloat16", steps=2), tmp_path, CPU).fit(batch)
    assert seen == [True, True]
    seen.clear()
    Trainer(method, schedule(steps=2), tmp_path / "other", CPU).fit(batch)
    assert seen == [False, False]
