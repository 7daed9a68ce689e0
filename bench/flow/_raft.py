"""torchvision's RAFT as an estimator: weights, padding, both directions in one pass.

Weights are torchvision's own, downloaded once to torch's hub folder, or a file named by an environment variable. The
download's SHA-256 must start with what its name says; files are read as safetensors or with ``weights_only=True``.
"""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from urllib.error import URLError

import numpy as np
import torch
from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights

from bench.core.errors import RunError
from bench.core.files import sha256_of
from bench.data.clip import Flow, Frame
from bench.networks.foreign import load_foreign
from bench.networks.weights import check_finite

from ._estimated import pad

MULTIPLE, MINIMUM = 8, 128
"""RAFT works on eighths of a frame and pools them three times: sides are multiples of 8 and at least 128."""
UPDATES = 12
"""Iterations of RAFT's recurrent unit, torchvision's default."""


class Raft:
    """Both directions of one pair in a single batch; the network is built when it is first needed.

    Args:
        model: ``raft_large`` or ``raft_small``.
        variable: environment variable that may name a file with weights.
        random: random weights from seed 0, to time the network or to test what is around it; the flow means nothing.
    """

    def __init__(self, model: str, variable: str, random: bool = False) -> None:
        self.model, self.variable, self.random = model, variable, random

    def identity(self) -> str:
        """Model, hash of its weights and iterations; torchvision's weights have the same name before they are downloaded.

        Raises:
            RunError: the environment names a file that cannot be read.
        """
        file = self.own_file()
        weights = (
            "random" if self.random else file_hash(file)[:8] if file else self.url().rsplit("-", 1)[1].split(".")[0]
        )
        return f"{self.model}-{weights}-{UPDATES}it"

    def url(self) -> str:
        """Where torchvision's weights are."""
        return str(get_model_weights(self.model).DEFAULT.url)

    def own_file(self) -> Path | None:
        """The file that the environment names, None without one."""
        return Path(os.environ[self.variable]) if os.environ.get(self.variable) else None

    def reads(self, needed: bool) -> list[Path]:
        """The file of the weights, downloaded if they are needed and not there; see :func:`bench.flow.resolve.reads`."""
        file = self.own_file()
        return [file or self.downloaded()] if needed and not self.random else [file] if file else []

    @cached_property
    def network(self) -> nn.Module:
        """The network with its weights, on the GPU if there is one.

        Raises:
            RunError: no weights, or weights of something else.
        """
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            network: nn.Module = get_model(self.model, weights=None)
        if not self.random:
            file = self.own_file()
            path = file or self.downloaded()
            tensors = read_weights(path)
            expected = {name: tuple(value.shape) for name, value in network.state_dict().items()}
            actual = {name: tuple(value.shape) for name, value in tensors.items()}
            if expected != actual:
                differing = sorted(set(expected.items()) ^ set(actual.items()))[0][0]
                raise RunError(f"{path} does not hold weights of torchvision's {self.model}: '{differing}' differs")
            network.load_state_dict(tensors)
        return network.eval().to("cuda" if torch.cuda.is_available() else "cpu")

    def downloaded(self) -> Path:
        """torchvision's weights on disk, downloaded if they are not there.

        Raises:
            RunError: they cannot be had, or are damaged.
        """
        url = self.url()
        path = Path(torch.hub.get_dir()) / "checkpoints" / url.rsplit("/", 1)[1]
        prefix = path.stem.rsplit("-", 1)[1]
        remedy = f"get {url} on a machine that can and set {self.variable} to the file"
        if not path.is_file():
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(url, str(path), hash_prefix=prefix, progress=False)
            except (URLError, OSError, RuntimeError) as error:
                reason = getattr(error, "reason", None) or " ".join(str(error).split())
                raise RunError(f"No weights for {self.model}, and no download ({reason!s:.120}): {remedy}") from None
        if not file_hash(path).startswith(prefix):
            raise RunError(f"{path} is damaged: its SHA-256 does not start with {prefix}; delete it, or {remedy}")
        return path

    def __call__(self, previous: Frame, current: Frame) -> tuple[Flow, Flow]:
        """Backward and forward flow of two frames of any size."""
        frames, (rows, columns) = pad(np.stack([current, previous]), MULTIPLE, MINIMUM)
        network = self.network
        batch = torch.from_numpy(frames).to(next(network.parameters()).device).float().div_(127.5).sub_(1)
        with torch.inference_mode():
            flow: Tensor = network(batch, batch.flip(0), num_flow_updates=UPDATES)[-1]
        backward, forward = flow[..., rows, columns].float().cpu().numpy()
        return np.ascontiguousarray(backward), np.ascontiguousarray(forward)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a file, safetensors or a plain state dict; nothing in it is executed.

    Raises:
        RunError: missing, damaged, or holding more than tensors.
    """
    tensors = load_foreign(path)
    check_finite(tensors, path)
    return tensors


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hexadecimal.

    Raises:
        RunError: it cannot be read.
    """
    try:
        return sha256_of(path)
    except OSError as error:
        raise RunError(f"Cannot read weights {path}: {error.strerror or error}") from None
