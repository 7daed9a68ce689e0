"""mmflow in a process and an environment of its own: ``python -m bench.flow._mmflow_worker --config NAME --checkpoint FILE``.

mmflow 0.5.2 needs mmcv-full below 1.8, which needs NumPy 1, so it cannot share the benchmark's environment. This file runs
inside ``.venv-mmflow`` and needs nothing of the benchmark. It reads pairs of frames from standard input and writes flow to
standard output until the input ends. A message either way is a line of JSON with its length in ``bytes``, then those bytes:

    ready          {"ready": true, "versions": {...}}                         once, when the network is built
    request        .npy, uint8 (2, 3, H, W), RGB: frames t-1 and t            sides multiples of 64
    reply          .npy, float32 (2, 2, H, W): flow t to t-1 and t-1 to t     pixels, x first
    either time    {"error": "..."} instead; after that the process ends
"""

from __future__ import annotations

import argparse
import difflib
import io
import json
import os
import sys
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

RANDOM = "random"
"""A checkpoint that is none: weights from seed 0, for tests of what is around the network."""


class Problem(Exception):
    """What went wrong, in one line, for the other side to show."""


def send(stream: IO[bytes], header: dict[str, Any], array: NDArray[Any] | None = None) -> None:
    """Write one message."""
    body = b""
    if array is not None:
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        body = buffer.getvalue()
    stream.write(json.dumps({**header, "bytes": len(body)}).encode() + b"\n" + body)
    stream.flush()


def receive(stream: IO[bytes]) -> tuple[dict[str, Any], NDArray[Any] | None]:
    """Read one message.

    Raises:
        EOFError: the other side has ended.
        ValueError: not a message.
    """
    line = stream.readline()
    if not line:
        raise EOFError
    header = json.loads(line)
    body = stream.read(header["bytes"])
    if len(body) != header["bytes"]:
        raise EOFError
    return header, np.load(io.BytesIO(body), allow_pickle=False) if body else None


def config_file(name: str) -> Path:
    """A config by name, from those that mmflow carries, or by path.

    Raises:
        Problem: there is none; names the nearest one.
    """
    if name.endswith(".py"):
        if not Path(name).is_file():
            raise Problem(f"no mmflow config at {name}")
        return Path(name)
    import mmflow

    files = (Path(mmflow.__file__).parent / ".mim" / "configs").glob("*/*.py")
    configs = {path.stem: path for path in files if path.parent.name != "_base_"}
    if name not in configs:
        near = difflib.get_close_matches(name, configs, n=1, cutoff=0.3)
        raise Problem(f"Unknown mmflow config '{name}'." + (f" Did you mean '{near[0]}'?" if near else ""))
    return configs[name]


class Network:
    """A flow estimator of mmflow.

    Raises:
        Problem: unknown config, or a checkpoint that cannot be read or is another network's.
    """

    def __init__(self, config: str, checkpoint: str) -> None:
        import torch
        from mmflow.apis import init_model

        torch.set_num_threads(1)
        torch.manual_seed(0)
        self.config = config
        self.model = init_model(str(config_file(config)), device="cuda" if torch.cuda.is_available() else "cpu")
        if checkpoint != RANDOM:
            self.load(checkpoint)

    def load(self, checkpoint: str) -> None:
        """Weights from a file that is read without unpickling."""
        import torch

        try:
            content = torch.load(checkpoint, map_location="cpu", weights_only=True)
        except OSError as error:
            raise Problem(f"cannot read mmflow checkpoint {checkpoint}: {error.strerror or error}") from None
        except Exception:
            raise Problem(f"mmflow checkpoint {checkpoint} is damaged, or holds more than weights") from None
        weights = content.get("state_dict", content) if isinstance(content, dict) else {}
        expected = {name: tuple(value.shape) for name, value in self.model.state_dict().items()}
        tensors = {name.removeprefix("module."): value for name, value in weights.items()}
        differing = sorted(
            set(expected.items()) ^ {(name, tuple(getattr(value, "shape", ()))) for name, value in tensors.items()}
        )
        if differing:
            raise Problem(f"mmflow checkpoint {checkpoint} is not of {self.config}: '{differing[0][0]}' differs")
        self.model.load_state_dict(tensors)

    def both_ways(self, frames: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Backward and forward flow ``(2, 2, H, W)`` of frames t-1 and t, RGB ``(2, 3, H, W)``."""
        from mmflow.apis import inference_model

        previous, current = (
            np.ascontiguousarray(frame[::-1].transpose(1, 2, 0)) for frame in frames
        )  # BGR, as mmcv reads
        try:
            predictions = inference_model(self.model, [current, previous], [previous, current], [None, None])
        except (AssertionError, RuntimeError) as error:
            message = " ".join(str(error).split())
            if "device cpu not found" in message or "CPU inference with Correlation" in message:
                message = "its correlation has no CPU implementation in mmcv; use a GPU, or a RAFT config"
            raise Problem(f"mmflow's {self.config} failed: {message:.200}") from None
        flows = [
            prediction["flow"] if prediction.get("flow") is not None else prediction["flow_fw"]
            for prediction in predictions
        ]
        return np.stack([np.asarray(flow, np.float32).transpose(2, 0, 1) for flow in flows])


def versions() -> dict[str, str]:
    """What the numbers depend on."""
    import mmcv
    import mmflow
    import torch

    return {"mmflow": mmflow.__version__, "mmcv": mmcv.__version__, "torch": torch.__version__, "numpy": np.__version__}


def serve(requests: IO[bytes], replies: IO[bytes], config: str, checkpoint: str) -> None:
    """Answer requests until they end."""
    try:
        network = Network(config, checkpoint)
        send(replies, {"ready": True, "versions": versions()})
        while True:
            try:
                _, frames = receive(requests)
            except EOFError:
                return
            assert frames is not None
            send(replies, {}, network.both_ways(frames))
    except Problem as error:
        send(replies, {"error": str(error)})
    except ImportError as error:
        send(replies, {"error": f"mmflow cannot be imported in {sys.prefix} ({error}); build it: make mmflow"})


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="mmflow's side of bench.flow.backends.mmflow")
    parser.add_argument("--config", required=True)
    parser.add_argument("--checkpoint", required=True)
    chosen = parser.parse_args()
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what mmcv prints must not get between the replies
    serve(sys.stdin.buffer, replies, chosen.config, chosen.checkpoint)


if __name__ == "__main__":
    main()
