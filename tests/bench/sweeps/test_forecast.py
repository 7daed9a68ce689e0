"""What runs would take: seconds by hand, the order of the week, and a plan of a small shift."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bench.core.errors import UsageError
from bench.core.no_gpu import Operation
from bench.core.workspace import Workspace
from bench.runs.config import load_shift
from bench.sweeps import forecast, gpus
from bench.sweeps.forecast import clip_bytes, clips_of, planned, schedule, span, text
from bench.sweeps.gpus import Gpu, gpu_of, seconds
from bench.sweeps.jobs import Jobs, SweepFolder
from bench.sweeps.spec import Sweep, plan


def test_an_operation_is_bound_by_arithmetic_memory_or_its_launch() -> None:
    gpu = Gpu(80, 1000, 100, 10, "by hand")
    assert seconds([Operation(10**12, 0, torch.bfloat16)], gpu) == pytest.approx(1e12 / (100e12 * 0.4))
    assert seconds([Operation(10**12, 0, torch.float32)], gpu) == pytest.approx(1e12 / (10e12 * 0.4))
    assert seconds([Operation(10, 6 * 10**9, torch.float32)], gpu) == pytest.approx(6e9 / (1000e9 * 0.6))
    assert seconds([Operation(0, 4, torch.float32)] * 3, gpu) == pytest.approx(3 * 2e-5)
    with pytest.raises(UsageError, match="Unknown GPU 'h10'"):
        gpu_of("h10")


def test_the_week_is_what_free_slots_would_ask_for(tmp_path: Path) -> None:
    """2 seeds of 2 methods on 2 GPUs: data 1, source 10, runs 5 and 7 seconds."""
    sweep = Sweep(shift="ministreet-tiny", methods=["tent", "hcl"], seeds="0:2").named
    jobs = Jobs(SweepFolder(tmp_path, sweep.name), plan(sweep), note=False)
    durations = {"data": 1.0, "source": 10.0}
    slots = schedule(jobs, 2, lambda job: durations.get(job.kind) or {"tent": 5.0, "hcl": 7.0}[job.config.method])
    timeline = [(s.gpu, s.start, s.end, s.kind, s.seed) for s in slots]
    assert timeline[:4] == [
        (0, 0, 1, "data", 0),
        (1, 0, 1, "data", 1),
        (0, 1, 11, "source", 0),
        (1, 1, 11, "source", 1),
    ]
    assert [(s.gpu, s.start, s.end, s.label, s.seed) for s in slots[4:]] == [
        (0, 11, 16, "tent", 0), (1, 11, 18, "hcl", 0), (0, 16, 21, "tent", 1), (1, 18, 25, "hcl", 1),
    ]  # fmt: skip
    assert list(tmp_path.iterdir()) == []  # nothing is written


def test_sizes_that_are_known_without_files() -> None:
    shift = load_shift("viper2cityscapes")
    assert clips_of(shift, "target", "val") == 500 and clips_of(load_shift("ministreet-tiny"), "source", "train") == 8
    assert clip_bytes(2, 4, 5) == 20 * (2 * 3 + 8 + 1)


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_released_source_model_takes_no_time(tmp_path: Path) -> None:
    sweep = Sweep(shift="ministreet2", methods=["source_only"], seeds="7:9", gpu=1).named  # of replicates 0 to 7
    prediction = planned(sweep, Workspace(tmp_path), "a100", 1)
    trained = [(slot["seed"], slot["kind"]) for slot in prediction["schedule"] if slot["kind"] != "data"]
    assert trained == [(7, "run"), (8, "source"), (8, "run")]
    assert prediction["rows"][0]["source_released"] and "released" in text(prediction).splitlines()[1]
    prediction = planned(sweep, Workspace(tmp_path, released=None), "a100", 1)
    assert not prediction["rows"][0]["source_released"] and prediction["rows"][0]["source_seconds"] > 0


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
def test_a_plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sweep = Sweep(shift="ministreet-tiny", methods=["tent", "source_only"], seeds="0:2", gpu=1).named
    prediction = planned(sweep, Workspace(tmp_path), "a100", 2)
    tent, bare = prediction["rows"]
    assert (
        (tent["run"], bare["run"]) == ("tent", "source_only") and prediction["runs"] == 4 and prediction["there"] == 0
    )
    assert tent["tflop_per_step"] > 0 == bare["tflop_per_step"] == bare["adapt_seconds"] == bare["read_mb_per_second"]
    assert tent["adapt_seconds"] == pytest.approx(6 * tent["seconds_per_step"])
    assert (
        tent["source_seconds"] == bare["source_seconds"] > 0 and tent["evaluate_seconds"] > bare["evaluate_seconds"] > 0
    )
    assert tent["read_mb_per_second"] == pytest.approx(2 * clip_bytes(2, 64, 128) / 1e6 / tent["seconds_per_step"])
    work = {
        kind: [s["end"] - s["start"] for s in prediction["schedule"] if s["kind"] == kind]
        for kind in ("data", "source", "run")
    }
    assert [len(work[kind]) for kind in ("data", "source", "run")] == [2, 2, 4]
    assert prediction["seconds"] == max(s["end"] for s in prediction["schedule"]) and 0 < prediction["busy"] <= 1
    assert prediction["disk_gb"]["clips"] == pytest.approx(2 * 20 * (clip_bytes(2, 64, 128) + 64 * 128) / 1e9)
    assert prediction["too_large"] == [] and "will not fit" not in text(prediction)
    lines = text(prediction).splitlines()
    assert (
        lines[1].startswith("tent ")
        and "NVIDIA A100 data sheet" in lines[-2]
        and "assumed, not measured: 40 %" in lines[-1]
    )
    monkeypatch.setitem(gpus.GPUS, "tiny", Gpu(1, 1, 1, 1, "by hand"))
    small = planned(sweep, Workspace(tmp_path), "tiny", 1)
    assert small["too_large"] == ["tent", "source_only"] and "will not fit into 1 GB: tent, source_only" in text(small)
    assert small["rows"][0]["fit_side_by_side"] == 0


def test_times_in_units_that_suit_them() -> None:
    assert [span(x) for x in (None, 42, 720, 12240, 181440)] == ["-", "42 s", "12 min", "3.4 h", "2.1 d"]
    assert forecast.RENDERED == 24 * 2 * 128 * 256
