"""One adaptation step at the size of the real benchmarks, on the CPU: seconds, peak memory, and a kill in the middle.

DeepLabv2-ResNet-101 with fusion conv1x1, frames of 1024x512, batch 1, frame t-1 included. Each measurement is a process of its
own, so that its peak memory is its own. Takes many minutes; the figures are printed with ``-rP`` and stand in ``extra_info``.

    python tests/benchmarks/test_full_size.py stpl bfloat16      # one measurement by hand
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
HEIGHT, WIDTH, CLASSES = 512, 1024, 15
THREADS = int(os.environ.get("OMP_NUM_THREADS", "2"))  # on a machine that is busy, one: waiting threads spend CPU time
PEAK_GB = 12.0
"""What a step may hold in memory (1e9 bytes)."""


def clip(step: int) -> Any:
    """A smooth pattern that moves 8 pixels to the right from frame to frame, with its exact flow."""
    from methods.base import ClipBatch

    g = torch.Generator().manual_seed(step)
    wide = torch.nn.functional.interpolate(torch.rand(1, 3, 16, 32, generator=g), (HEIGHT, WIDTH + 8), mode="bilinear")
    frames = torch.stack([wide[..., 8:], wide[..., :-8]], dim=1)
    flow = torch.zeros(1, 1, 2, HEIGHT, WIDTH)
    flow[:, :, 0] = -8
    valid = torch.ones(1, 1, HEIGHT, WIDTH, dtype=torch.bool)
    valid[..., :8] = False
    return ClipBatch(frames, flow, valid, (f"clip {step}",))


def trainer(name: str, precision: str, folder: Path, steps: int, checkpointing: bool) -> Any:
    """The harness's own trainer around a method on the full-size network."""
    from bench.networks.build import build_segmenter, set_checkpointing
    from bench.runs.config import load_shift, method_class, resolve_settings
    from bench.runs.settings import settings_of
    from bench.runs.training import Trainer
    from methods.base import Setup

    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    segmenter = build_segmenter("deeplabv2_resnet101", "conv1x1", CLASSES)
    if checkpointing:
        set_checkpointing(segmenter)
    cls = method_class(name)
    method = cls(segmenter, settings_of(name, resolve_settings(name, {})), Setup(CLASSES, steps, 0))
    method.restart()
    changes = {
        "steps": steps,
        "batch": 1,
        "lr": 2.5e-4,
        "head_multiplier": 10.0,
        "precision": precision,
        "snapshots": 1,
    }
    schedule = load_shift("ministreet-tiny").adaptation.model_copy(update=changes)
    return Trainer(method, schedule, folder, torch.device("cpu"))


def measure(name: str, precision: str, checkpointing: bool) -> dict[str, float]:
    """CPU and wall seconds, peak memory and operations of one step."""
    import tempfile

    from torch.utils.flop_counter import FlopCounterMode

    from bench.core.provenance import peak_memory_mb

    with tempfile.TemporaryDirectory() as folder:
        loop = trainer(name, precision, Path(folder), 1, checkpointing)
        loop.method.train()
        began, cpu = time.perf_counter(), time.process_time()
        with FlopCounterMode(display=False) as counter:
            loop.step(0, [(clip(0), None)])
        return {
            "cpu_seconds": time.process_time() - cpu,
            "seconds": time.perf_counter() - began,
            "peak_gb": peak_memory_mb() / 1e3,
            "gflop": counter.get_total_flops() / 1e9,
        }


def train(folder: Path, kill_after: int) -> None:
    """Two steps of self_training with state written after each; killed in the middle where ``kill_after`` is 1."""
    import bench.runs.training

    bench.runs.training.STATE_EVERY = 1

    def progress(task: str, done: int, total: int) -> None:
        if done == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)

    trainer("self_training", "bfloat16", folder, 2, False).fit(clip, progress=progress)


def child(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, __file__, *arguments], cwd=ROOT, text=True, stdout=subprocess.PIPE)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
@pytest.mark.parametrize("name", ["stpl", "self_training"])
def test_a_step(name: str, precision: str, checkpointing: bool, benchmark: Any) -> None:
    arguments = name, precision, "checkpointing" if checkpointing else "plain"
    completed = benchmark.pedantic(child, args=arguments, rounds=1)
    assert completed.returncode == 0
    figures = json.loads(completed.stdout)
    benchmark.extra_info.update(figures)
    print(f"{' '.join(arguments)}: {json.dumps({k: round(v, 2) for k, v in figures.items()})}")
    assert figures["peak_gb"] <= PEAK_GB


def test_killed_in_the_middle_it_ends_with_the_same_bits(tmp_path: Path, benchmark: Any) -> None:
    from bench.networks.weights import load_tensors

    def train_twice() -> None:
        assert child("train", str(tmp_path / "straight"), "0").returncode == 0
        assert child("train", str(tmp_path / "killed"), "1").returncode == -signal.SIGKILL
        assert not (tmp_path / "killed" / "state" / "snapshot-000002.safetensors").exists()
        assert child("train", str(tmp_path / "killed"), "0").returncode == 0

    benchmark.pedantic(train_twice, rounds=1)
    for file in ("snapshot-000002.safetensors", "state.safetensors"):
        straight, killed = (load_tensors(tmp_path / run / "state" / file)[0] for run in ("straight", "killed"))
        assert straight.keys() == killed.keys()
        assert all(torch.equal(value, killed[name]) for name, value in straight.items())
    logs = [(tmp_path / run / "metrics.jsonl").read_text() for run in ("straight", "killed")]
    assert logs[0] == logs[1] and logs[0].count("\n") == 2


if __name__ == "__main__":
    if sys.argv[1] == "train":
        train(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        print(json.dumps(measure(sys.argv[1], sys.argv[2], sys.argv[3:] == ["checkpointing"])))
