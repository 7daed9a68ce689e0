"""The mmflow backend and its worker with a made-up mmflow: messages, direction, and every failure as one line.

The real one is tested by ``make test-mmflow`` (tests/mmflow).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from bench.core.errors import RunError, UsageError
from bench.flow import _mmflow_worker as server
from bench.flow.backends import mmflow as backend

INIT = "__version__ = '0.5.2'"
APIS = '''
import numpy as np
import torch
class Model(torch.nn.Linear):
    def __init__(self, config):
        super().__init__(1, 1)
        self.config = config
def init_model(config, device):
    print("noise on standard output")
    return Model(config)
def inference_model(model, firsts, seconds, valids):
    """Flow is (mean of first's blue, mean of second's red), to see what came where."""
    if "broken" in model.config:
        raise RuntimeError("corr_forward_impl: implementation for device cpu not found.\\n")
    if "deadly" in model.config:
        import os, sys
        sys.stderr.write("Segmentation fault\\n")
        sys.stderr.flush()
        os._exit(11)
    assert all(frame.dtype == np.uint8 and frame.shape[2] == 3 for frame in [*firsts, *seconds]) and len(valids) == 2
    values = [(a[..., 0].mean(), b[..., 2].mean()) for a, b in zip(firsts, seconds)]
    return [{"flow": np.broadcast_to(np.float32(v), (*firsts[0].shape[:2], 2))} for v in values]
'''


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a made-up mmflow and mmcv; the environment names config and checkpoint."""
    folder = tmp_path / "site"
    configs = folder / "mmflow" / ".mim" / "configs" / "raft"
    configs.mkdir(parents=True)
    (folder / "mmflow" / "__init__.py").write_text(INIT)
    (folder / "mmflow" / "apis.py").write_text(APIS)
    (folder / "mmcv.py").write_text("__version__ = '1.7.2'")
    for name in ("raft_fine", "raft_broken", "raft_deadly"):
        (configs / f"{name}.py").write_text("")
    monkeypatch.setenv("BENCH_MMFLOW_CONFIG", "raft_fine")
    monkeypatch.setenv("BENCH_MMFLOW_CHECKPOINT", "random")
    yield folder
    for name in [n for n in sys.modules if n.split(".")[0] in ("mmflow", "mmcv")]:
        del sys.modules[name]


def frames(height: int = 128, width: int = 128) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (2, 3, height, width), np.uint8)


def served(requests: list[np.ndarray], config: str, checkpoint: str = "random") -> list[tuple[dict, np.ndarray | None]]:
    """Replies of the worker's ``serve`` to these frame pairs, run in this process."""
    inbox, outbox = io.BytesIO(), io.BytesIO()
    for pair in requests:
        server.send(inbox, {}, pair)
    inbox.seek(0)
    server.serve(inbox, outbox, config, checkpoint)
    outbox.seek(0)
    replies = []
    while True:
        try:
            replies.append(server.receive(outbox))
        except EOFError:
            return replies


def test_messages_round_trip() -> None:
    stream = io.BytesIO()
    server.send(stream, {"a": "ä"}, frames())
    server.send(stream, {"ready": True})
    stream.seek(0)
    header, array = server.receive(stream)
    assert header["a"] == "ä" and array is not None
    np.testing.assert_array_equal(array, frames())
    header, array = server.receive(stream)
    assert header["ready"] and array is None
    with pytest.raises(EOFError):
        server.receive(stream)
    with pytest.raises(EOFError):
        server.receive(io.BytesIO(b'{"bytes": 5}\n123'))


def test_both_directions_colours_and_order(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(fake))
    previous, current = frames()
    (ready, _), (_, flow) = served([frames()], "raft_fine")
    assert ready["ready"] and ready["versions"]["mmflow"] == "0.5.2" and ready["versions"]["mmcv"] == "1.7.2"
    assert flow is not None and flow.shape == (2, 2, 128, 128) and flow.dtype == np.float32
    # RGB became BGR: the first image's blue is channel 2 of ours. Backward flow leads from the current frame.
    np.testing.assert_allclose(flow[0, :, 5, 5], [current[2].mean(), previous[0].mean()], rtol=1e-6)
    np.testing.assert_allclose(flow[1, :, 5, 5], [previous[2].mean(), current[0].mean()], rtol=1e-6)


def test_what_goes_wrong_over_there_is_one_line(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(fake))
    good = {name: value + 1 for name, value in torch.nn.Linear(1, 1).state_dict().items()}
    torch.save({"state_dict": {f"module.{k}": v for k, v in good.items()}, "meta": {"epoch": 1}}, fake / "good.pth")
    torch.save({"state_dict": {"weight": torch.zeros(1, 1)}}, fake / "other.pth")
    (fake / "junk.pth").write_bytes(b"junk")
    assert served([], "raft_fine", str(fake / "good.pth"))[0][0]["ready"]
    for config, checkpoint, says in (
        ("raft_fin", "random", "Unknown mmflow config 'raft_fin'. Did you mean 'raft_fine'?"),
        ("/gone.py", "random", "no mmflow config at /gone.py"),
        ("raft_fine", str(fake / "gone.pth"), f"cannot read mmflow checkpoint {fake}/gone.pth: No such file"),
        ("raft_fine", str(fake / "junk.pth"), f"mmflow checkpoint {fake}/junk.pth is damaged, or holds more"),
        (
            "raft_fine",
            str(fake / "other.pth"),
            f"mmflow checkpoint {fake}/other.pth is not of raft_fine: 'bias' differs",
        ),
    ):
        ((header, _),) = served([frames()], config, checkpoint)
        assert says in header["error"] and "\n" not in header["error"]
    _, (header, _) = served([frames()], "raft_broken")
    assert header["error"] == (
        "mmflow's raft_broken failed: its correlation has no CPU implementation in mmcv; use a GPU, or a RAFT config"
    )


def test_without_mmflow_it_says_how_to_build_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mmflow", None)
    ((header, _),) = served([], "raft_8x2_100k_mixed_368x768")
    assert "mmflow cannot be imported in" in header["error"] and header["error"].endswith("build it: make mmflow")


# Our side, with a process ------------------------------------------------------------------------------------------------


@pytest.fixture
def worker(fake: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[backend.Worker]:
    """A worker process whose Python is this one with the made-up mmflow first on its path."""
    python = fake / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{fake}:$PYTHONPATH" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    monkeypatch.setenv("BENCH_MMFLOW_PYTHON", str(python))
    started = backend.Worker()
    yield started
    started.close()


def test_a_process_of_its_own_answers_for_any_size(worker: backend.Worker) -> None:
    for size in ((70, 90), (200, 130)):
        previous, current = frames(*size)
        backward, forward = worker(previous, current)
        assert backward.shape == forward.shape == (2, *size) and backward.dtype == np.float32
        assert abs(backward[0, 0, 0] - current[2].mean()) < 6 and abs(forward[0, 0, 0] - previous[2].mean()) < 6
    assert worker.versions["mmflow"] == "0.5.2"
    process = worker.process
    assert process is not None
    worker.close()
    assert process.poll() is not None and worker.process is None


def test_a_process_that_dies_is_one_line(worker: backend.Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_MMFLOW_CONFIG", "raft_deadly")
    with pytest.raises(RunError, match=r"^mmflow's process ended: Segmentation fault$"):
        worker(*frames())
    assert worker.process is None


def test_what_is_not_set_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BENCH_MMFLOW_CONFIG", "BENCH_MMFLOW_CHECKPOINT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(UsageError, match=r"needs BENCH_MMFLOW_CONFIG \(such as raft_8x2_100k_mixed_368x768\) and"):
        backend.identity()
    monkeypatch.setenv("BENCH_MMFLOW_CONFIG", "raft_8x2_100k_mixed_368x768")
    monkeypatch.setenv("BENCH_MMFLOW_CHECKPOINT", "random")
    monkeypatch.setenv("BENCH_MMFLOW_PYTHON", str(tmp_path / "python"))
    assert backend.identity() == "mmflow-raft_8x2_100k_mixed_368x768-random"
    with pytest.raises(RunError, match=r"mmflow has no environment at .*; build it: make mmflow"):
        backend.Worker()(*frames())
    (tmp_path / "w.pth").write_bytes(b"weights")
    (tmp_path / "own.py").write_text("model = None")
    monkeypatch.setenv("BENCH_MMFLOW_CHECKPOINT", str(tmp_path / "w.pth"))
    named = backend.identity()
    monkeypatch.setenv("BENCH_MMFLOW_CONFIG", str(tmp_path / "own.py"))
    assert named.startswith("mmflow-raft_8x2_100k_mixed_368x768-") and backend.identity().startswith("mmflow-own-")


def test_the_other_side_needs_no_benchmark() -> None:
    """It runs in an environment that has neither pydantic nor our data code."""
    code = (
        "import sys; import bench.flow._mmflow_worker; "
        "print(sorted(n for n in sys.modules if n.split('.')[0] in ('bench', 'torch', 'pydantic', 'mmflow', 'cv2')))"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
    assert process.stdout.strip() == "['bench', 'bench.flow', 'bench.flow._mmflow_worker']"
