"""Weights from elsewhere: files of torchvision and of the published repositories, read as data and never as code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bench.core.errors import RunError

from .weights import load_tensors

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Keys under which repositories keep a model's tensors beside optimiser and epoch."""

PREFIXES = ("module.", "Scale.", "model.")
"""In front of every name: torch's DataParallel, the Caffe conversion that AdaptSegNet starts from, wrappers."""


def load_foreign(path: Path) -> dict[str, Tensor]:
    """The named tensors of a ``.safetensors`` file or of a torch file, without wrapper and common prefixes.

    Raises:
        RunError: the file is missing, damaged, not a set of named tensors, or holds more than data (a pickled class or
            function), which is refused.
    """
    if not path.is_file():
        raise RunError(f"No checkpoint at {path}")
    found: Any = load_tensors(path)[0] if path.suffix == ".safetensors" else _load_torch(path)
    while isinstance(found, Mapping) and not _is_tensors(found):
        inner = next((key for key in WRAPPERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            break
        found = found[inner]
    if not isinstance(found, Mapping) or not found or not _is_tensors(found):
        raise RunError(f"{path} is not a state dict: no named tensors at its top or under {', '.join(WRAPPERS)}")
    return _without_prefixes({str(name): value for name, value in found.items()})


def _load_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = " ".join(str(error).split())
        if "GLOBAL" in what or "Unsupported global" in what:  # a name that torch does not allow
            raise RunError(
                f"{path} holds more than tensors (pickled code), which is not loaded; where you trust it, save its "
                "state dict alone, in the environment that it comes from: torch.save(model.state_dict(), ...)"
            ) from None
        raise RunError(f"{path} is damaged or not a torch file ({what:.120})") from None
    except Exception as error:  # on arbitrary bytes torch's reader fails in every way there is
        raise RunError(f"{path} is damaged or not a torch file ({' '.join(str(error).split()):.120})") from None


def _is_tensors(found: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in found.values())


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
