"""``mmflow``: RAFT, PWC-Net, FlowNet2 and others of mmflow 0.5.2, in its own environment (``make mmflow``), ahead of a run.

    BENCH_MMFLOW_CONFIG      a config that mmflow carries, such as raft_8x2_100k_mixed_368x768, or the path of one
    BENCH_MMFLOW_CHECKPOINT  its weights, a file; `random` for tests
    BENCH_MMFLOW_PYTHON      Python of the environment [default: .venv-mmflow/bin/python of this checkout]

mmflow needs NumPy 1 and an mmcv that is compiled for it, so it runs as a process of its own, which is given pairs of frames
through a pipe (see ``_mmflow_worker``). During adaptation no process may be started: compute this flow before a run, with
``bench flow compute``. A file of a config is Python and is executed; checkpoints are not.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import numpy as np

from bench.core.errors import RunError, UsageError
from bench.core.registry import ROOT
from bench.data.clip import Flow, Frame

from .. import _mmflow_worker
from .._estimated import backend, pad
from .._mmflow_worker import RANDOM, receive, send
from .._raft import file_hash

CONFIG, CHECKPOINT, PYTHON = "BENCH_MMFLOW_CONFIG", "BENCH_MMFLOW_CHECKPOINT", "BENCH_MMFLOW_PYTHON"
MULTIPLE, MINIMUM = 64, 128
"""Sides that every network of mmflow takes without resizing, and the least that RAFT's pyramid takes."""
AHEAD = True
"""This flow must be there before a run."""


def settings() -> tuple[str, str]:
    """Config and checkpoint, from the environment.

    Raises:
        UsageError: one is not set.
    """
    config, checkpoint = os.environ.get(CONFIG, ""), os.environ.get(CHECKPOINT, "")
    if not config or not checkpoint:
        raise UsageError(
            f"Flow backend 'mmflow' needs {CONFIG} (such as raft_8x2_100k_mixed_368x768) and {CHECKPOINT} (a file)"
        )
    return config, checkpoint


def environment() -> Path:
    """Python of mmflow's environment; it need not be there."""
    return Path(os.environ.get(PYTHON) or ROOT.parent / ".venv-mmflow" / "bin" / "python")


def identity() -> str:
    """Name of this backend's precomputed flow: config and hash of the checkpoint."""
    config, checkpoint = settings()
    config_hash = f"-{file_hash(Path(config))[:8]}" if config.endswith(".py") else ""
    weights = RANDOM if checkpoint == RANDOM else file_hash(Path(checkpoint))[:8]
    return f"mmflow-{Path(config).name.removesuffix('.py')}{config_hash}-{weights}"


class Worker:
    """The other process; started when it is first needed, ended with this one."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.stderr: IO[bytes] | None = None
        self.versions: dict[str, str] = {}

    def __call__(self, previous: Frame, current: Frame) -> tuple[Flow, Flow]:
        """Backward and forward flow of two frames of any size.

        Raises:
            UsageError: no config or checkpoint is given.
            RunError: there is no such environment, or the network cannot do it.
        """
        if self.process is None:
            self.start()
        frames, (rows, columns) = pad(np.stack([previous, current]), MULTIPLE, MINIMUM)
        flow = self._exchange(frames)[1]
        if flow is None or flow.shape != (2, 2, *frames.shape[2:]) or flow.dtype != np.float32:
            raise RunError("mmflow answered with something else than flow")
        backward, forward = (np.ascontiguousarray(direction[:, rows, columns]) for direction in flow)
        return backward, forward

    def start(self) -> None:
        """Start the process and wait until its network is built."""
        config, checkpoint = settings()
        python = environment()
        if not python.is_file():
            raise RunError(f"mmflow has no environment at {python}; build it: make mmflow (or set {PYTHON})")
        self.stderr = tempfile.TemporaryFile()  # noqa: SIM115  (closed with the process)
        # As text: with our folder on its path it would take packages of this environment where we are installed in one.
        worker = Path(_mmflow_worker.__file__).read_text(encoding="utf-8")
        command = [str(python), "-c", worker, "--config", config, "--checkpoint", checkpoint]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.stderr,
            env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
        )
        atexit.register(self.close)
        self.versions = self._exchange(None)[0].get("versions", {})

    def _exchange(self, frames: np.ndarray[Any, Any] | None) -> tuple[dict[str, Any], np.ndarray[Any, Any] | None]:
        assert self.process and self.process.stdin and self.process.stdout
        try:
            if frames is not None:
                send(self.process.stdin, {}, frames)
            header, array = receive(self.process.stdout)
        except (EOFError, OSError, ValueError, KeyError, TypeError):
            raise RunError(f"mmflow's process ended: {self._last_words()}") from None
        if "error" in header:
            self.close()
            raise RunError(str(header["error"]))
        return header, array

    def _last_words(self) -> str:
        """Last line that the process said, after ending it."""
        stderr = self.stderr
        self.stderr = None
        self.close()
        if stderr is None:
            return "without a word"
        with stderr:
            stderr.seek(0)
            lines = stderr.read().decode(errors="replace").strip().splitlines()
        return lines[-1][:200] if lines else "without a word"

    def close(self) -> None:
        """End the process."""
        atexit.unregister(self.close)
        process, self.process = self.process, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe:
                        pipe.close()
            process.kill()
            process.wait()
        if self.stderr is not None:
            self.stderr.close()
            self.stderr = None


WORKER = Worker()
BACKEND = backend(WORKER)
