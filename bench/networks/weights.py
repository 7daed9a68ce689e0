"""Weights and resumable state on disk, as safetensors; written whole or not at all, never unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.core.errors import RunError
from bench.core.files import whole


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, object] | None = None) -> None:
    """Write tensors and JSON metadata to ``path`` under a temporary name, then move it into place.

    Raises:
        RunError: the disk is full or read-only; nothing half-written stays.
    """
    # Copies, since safetensors refuses tensors that share memory (a module under two names).
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    with whole(path) as scratch:
        try:
            save_file(copies, scratch, {"meta": json.dumps(metadata or {}, sort_keys=True)})
        except SafetensorError as error:
            raise RunError(f"Cannot write {path}: {error}; free space or choose another folder") from None
        scratch.chmod(0o644)  # safetensors makes it private, but caches are shared


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors and metadata of a file.

    Raises:
        RunError: the file is missing, truncated or not safetensors.
    """
    if not path.is_file():
        raise RunError(f"No checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = json.loads((file.metadata() or {}).get("meta", "{}"))
            return {name: file.get_tensor(name) for name in file.keys()}, metadata  # noqa: SIM118
    except (SafetensorError, OSError, ValueError) as error:
        raise RunError(f"{path} is damaged or not a safetensors file ({error}); delete it and run again") from None


def load_into(module: nn.Module, path: Path) -> dict[str, object]:
    """Load weights into ``module`` strictly; returns the metadata.

    Raises:
        RunError: damaged file, or weights of another network (names or shapes differ).
    """
    tensors, metadata = load_tensors(path)
    own = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    if own != found:
        differing = sorted(set(own.items()) ^ set(found.items()))[0][0]
        raise RunError(
            f"{path} holds weights of another network: '{differing}' differs; use the network and fusion it was made with"
        )
    module.load_state_dict(tensors)
    return metadata
