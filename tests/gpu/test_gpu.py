"""On a real GPU: memory, time and waits of every method's full-size step against the plan, losses against the CPU's, whole runs."""

from __future__ import annotations

import json
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import bench
import bench.runs.training
from bench.core.registry import method_names
from bench.core.workspace import Workspace
from bench.data.loaders import to_device
from bench.networks.build import build_segmenter, place
from bench.networks.weights import load_tensors
from bench.runs.config import load_shift, make_run_config, method_class
from bench.runs.dry_run import Training, dry_look, noise
from bench.runs.predictions import predict
from bench.runs.training import Noted, Trainer
from bench.sweeps.gpus import GPUS, seconds
from tests.bench.runs.steps import WAITS, real_steps
from tests.gpu.conftest import FULL

TINY = "ministreet-tiny"
TRAINED = [name for name in method_names() if method_class(name).trains]
MEMORY = (0.75, 1.3)
"""Measured over planned: cuDNN's workspaces are not planned, selections of pixels are planned at their largest."""
TIME = 3.0
"""How far a step may be from the plan's seconds, either way; the shares of the data sheet are assumptions."""
LOSS = {"float32": 2e-3, "bfloat16": 0.1}
"""Relative difference of a loss from the CPU's: another order of sums, and pixels that cross a threshold by it."""
FLIPS = {"hcl": 1e-2}
"""Methods of which a pixel that crosses a threshold shows in more than that: 4.3e-3 of hcl's contrast of categories, on an H100."""


@pytest.mark.parametrize("name", TRAINED)
def test_a_full_size_step(
    name: str, gpu: torch.device, card: str | None, plans: dict[str, Training], measured: Callable[..., None]
) -> None:
    config, planned = make_run_config(name, FULL), plans[name]
    assert config.protocol.adaptation.precision == "bfloat16"
    torch.cuda.empty_cache()
    torch.backends.cudnn.allow_tf32 = False
    trainer, parts = real_steps(config, gpu)
    trainer.method.segmenter.to(memory_format=torch.channels_last)
    last = trainer.schedule.steps - 1
    trainer.step(0, parts)  # libraries choose their algorithms
    trainer.step(last, parts)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    durations = []
    torch.cuda.set_sync_debug_mode("default" if name in WAITS else "error")
    try:
        for _ in range(3):
            trainer._noted.clear()
            began = time.perf_counter()
            trainer.step(last, parts)
            torch.cuda.set_sync_debug_mode("default")
            torch.cuda.synchronize()
            durations.append(time.perf_counter() - began)
            torch.cuda.set_sync_debug_mode("default" if name in WAITS else "error")
    finally:
        torch.cuda.set_sync_debug_mode("default")
    peak, step = torch.cuda.max_memory_allocated(), statistics.median(durations)
    ahead = seconds(planned.step.operations, GPUS[card]) if card else None
    measured(what="step", method=name, seconds=step, planned_seconds=ahead, peak=peak, planned_peak=planned.step.peak)
    assert MEMORY[0] <= peak / planned.step.peak <= MEMORY[1]
    assert ahead is None or ahead / TIME <= step <= ahead * TIME


@pytest.mark.parametrize("precision", LOSS)
@pytest.mark.parametrize("name", TRAINED)
def test_its_losses_are_those_of_a_cpu(name: str, precision: str, gpu: torch.device) -> None:
    config = make_run_config(name, TINY)
    losses = []
    for device in (torch.device("cpu"), gpu):
        trainer, parts = real_steps(config, device)
        trainer.schedule = trainer.schedule.model_copy(update={"precision": precision})
        noted: list[Noted] = []
        trainer._note = noted.append  # type: ignore[assignment,method-assign]
        trainer.step(0, parts)
        values = [(key, value) for note in noted if note.kind == "loss" for key, value in note.values.items()]
        losses.append({key: float(value) for key, value in values})
    on_cpu, on_gpu = losses
    assert on_cpu and on_cpu.keys() == on_gpu.keys()
    for key, value in on_cpu.items():
        assert on_gpu[key] == pytest.approx(value, rel=max(LOSS[precision], FLIPS.get(name, 0.0)), abs=1e-3), key


class Killed(Exception):
    pass


def test_a_killed_run_goes_on(tmp_path: Path, gpu: torch.device, monkeypatch: pytest.MonkeyPatch) -> None:
    """To weights that differ by no more than the order in which a GPU adds."""
    monkeypatch.setattr(bench.runs.training, "STATE_EVERY", 1)
    config = make_run_config("stpl", TINY)

    def run(folder: str, kill_after: int = 0) -> Trainer:
        trainer, parts = real_steps(config, gpu, folder=tmp_path / folder)

        def progress(task: str, done: int, total: int) -> None:
            if done == kill_after:
                raise Killed

        trainer.fit(lambda _: parts[0][0], progress=progress)
        return trainer

    straight = run("straight")
    with pytest.raises(Killed):
        run("killed", 3)
    resumed = run("killed")
    last = straight.schedule.steps
    undisturbed, interrupted = (load_tensors(trainer.snapshot_path(last))[0] for trainer in (straight, resumed))
    assert undisturbed.keys() == interrupted.keys()
    for name, value in undisturbed.items():
        assert torch.allclose(value.float(), interrupted[name].float(), rtol=1e-2, atol=1e-3), name
    lines = [(tmp_path / folder / "metrics.jsonl").read_text().splitlines() for folder in ("straight", "killed")]
    assert [[json.loads(line)["step"] for line in log] for log in lines] == [list(range(last))] * 2


def test_a_run_with_a_compiled_encoder(tmp_path: Path, gpu: torch.device) -> None:
    pytest.importorskip("triton")
    if shutil.which("gcc") is None and shutil.which("cc") is None:
        pytest.skip("torch.compile needs a C compiler")
    places: Any = {"runs": tmp_path / "runs", "cache": tmp_path / "cache", "device": "cuda"}
    record = bench.run("self_training", TINY, compiled=True, **places)
    assert record.hardware["device"] == "cuda" and record.hardware["compiled"] is True


def test_evaluation_at_the_labels_full_size(gpu: torch.device, measured: Callable[..., None]) -> None:
    """2048x1024: memory as planned, and the labels of a CPU."""
    shift = load_shift(FULL)
    size, corners = (1024, 2048), shift.evaluation.align_corners
    planned = dry_look(make_run_config("source_only", FULL))
    torch.backends.cudnn.allow_tf32 = False
    torch.manual_seed(0)
    large = build_segmenter("deeplabv2_resnet101", "conv1x1", len(shift.classes)).to(gpu).eval()
    clip = noise(shift, "target", 1, False)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    prediction = predict(large, to_device(clip, gpu), corners)
    prediction.labels()
    prediction.previous_labels()
    assert prediction.labels(size).shape == (1, *size)
    peak = torch.cuda.max_memory_allocated()
    measured(what="evaluation", peak=peak, planned_peak=planned.peak)
    assert MEMORY[0] <= peak / planned.peak <= MEMORY[1]
    small = build_segmenter("mini", "conv1x1", len(shift.classes)).eval()
    expected = predict(small, clip, corners).labels(size)
    equal = predict(small.to(gpu), to_device(clip, gpu), corners).labels(size).cpu() == expected
    assert equal.float().mean() > 0.995


def test_two_runs_share_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    places: Any = {"runs": tmp_path / "runs", "cache": tmp_path / "cache"}
    jobs = bench.sweep(methods=["tent", "self_training"], shift=TINY, gpu=0.5, **places)
    assert [job.state for job in jobs.runs] == ["done", "done"], [job.reason for job in jobs.runs]
    assert {record.hardware["device"] for record in jobs.records()} == {"cuda"}


def test_the_main_leaderboard_of_one_seed(
    tmp_path: Path, request: pytest.FixtureRequest, measured: Callable[..., None]
) -> None:
    """``--board``: every method on MiniStreet, seed 0, beside its committed record of a CPU; another processor is another source
    model, as another seed would be, so scores are reported and only what is far off fails."""
    if not request.config.getoption("--board"):
        pytest.skip("takes long; ask for it with --board")
    places: Any = {"runs": tmp_path / "runs", "cache": tmp_path / "cache", "device": "cuda"}
    table = bench.records("ministreet", runs=tmp_path / "none")
    committed = table[(table["seed"] == 0) & (table["options"] == "")].set_index("method")["miou"]
    for name in method_names():
        record = bench.run(name, "ministreet", **places)
        before = float(committed[name]) if name in committed.index else None
        measured(what="board", method=name, miou=record.result.miou, committed=before, seconds=record.cost.seconds)
        assert before is None or abs(record.result.miou - before) < 5.0, name


def test_a_network_is_put_where_it_computes(gpu: torch.device) -> None:
    segmenter = place(build_segmenter("mini", "conv1x1", 3), Workspace(device=gpu))
    assert all(p.device.type == "cuda" for p in segmenter.parameters())
    assert torch.backends.cudnn.allow_tf32 is False
