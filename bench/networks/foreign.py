"""Weights from elsewhere: read as data and never as code, and what to do with a file that is not one of ours."""

from __future__ import annotations

import io
import mmap
import os
import pickle
import pickletools
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from bench.core.errors import RunError, short

from .weights import MAGIC, SAFETENSORS, load_tensors, what_is

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
"""Keys under which repositories keep a model's tensors beside optimiser and epoch."""

PREFIXES = ("module.", "Scale.", "model.")
"""In front of every name: torch's DataParallel, the Caffe conversion that AdaptSegNet starts from, wrappers."""


TORCH = tuple(kind for kind in MAGIC.values() if "torch" in kind)


def load_foreign(path: Path) -> dict[str, Tensor]:
    """The named tensors of a ``.safetensors`` file or of a torch file, without wrapper and common prefixes.

    Raises:
        RunError: the file is missing, damaged, not a set of named tensors, or holds more than data (a pickled class or
            function), which is refused.
    """
    return read_foreign(path)[0]


def read_foreign(path: Path) -> tuple[dict[str, Tensor], str]:
    """As :func:`load_foreign`, and what kind of checkpoint the file is, in words."""
    if not os.path.isfile(path):
        raise RunError(f"No checkpoint at {path}")
    kind = what_is(path)
    is_torch = kind != SAFETENSORS and (path.suffix != ".safetensors" or kind in TORCH)
    content: Any = _load_torch(path, kind) if is_torch else load_tensors(path)[0]
    description = _kind(content) if is_torch else SAFETENSORS
    for _ in WRAPPERS:  # nested, and a pickle may hold itself
        if not isinstance(content, Mapping) or _is_tensors(content):
            break
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
    if not isinstance(content, Mapping) or not content or not _is_tensors(content):
        raise RunError(f"{path} is not a state dict: no named tensors at its top or under {', '.join(WRAPPERS)}")
    for name, value in content.items():
        if not _is_plain(value) or len(str(name)) > 1000:
            raise RunError(f"{path}: '{short(name, 120)}' is not a plain tensor with all of its values in the file")
    return _without_prefixes({str(name): value for name, value in content.items()}), description


def described(path: Path, meta: Mapping[str, object] | None = None) -> str:
    """What a file is that is no model file, and the command that makes one of it.

    Args:
        meta: its metadata, of a safetensors file.
    """
    if meta and "step" in meta:
        return "the checkpoint of a run; give the folder of the finished run instead"
    if meta and "identity" in meta:
        return "a source model that the cache keeps for `bench run`; give the folder of a finished run instead"
    kind = what_is(path)
    if kind not in (*TORCH, SAFETENSORS):
        return str(kind)
    try:
        tensors, description = read_foreign(path)
    except RunError as error:
        return f"{kind} that cannot be converted: {str(error).removeprefix(f'{path} ')}"
    name = next(iter(tensors))
    return (
        f"{description} with {len(tensors)} tensors ('{name:.60}', ...); "
        f"`bench convert {path} {layout_hint(tensors)} --out model.safetensors` makes a model file of it"
    )


def layout_hint(tensors: Mapping[str, Tensor]) -> str:
    """Options with which ``bench convert`` takes a checkpoint, by its names."""
    if "encoder.level2_0.c1.conv.weight" in tensors:
        return "--layout espnet"
    if "layer5.conv2d_list.0.weight" in tensors or "layer6.conv2d_list.0.weight" in tensors:
        return "--layout LAYOUT"
    return "--network NAME --shift SHIFT"


def _load_torch(path: Path, kind: str | None) -> Any:
    """What a torch file holds, by torch's reader of data alone.

    Raises:
        RunError: damaged, or it holds more than data.
    """
    if kind not in (None, *TORCH):
        raise RunError(f"{path} is not a torch file: it is {kind}")
    try:
        if new := zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                entries = archive.infolist()
                if sum(entry.file_size for entry in entries) > path.stat().st_size:
                    raise ValueError("it claims to hold more bytes than it has")
                # torch does not look at the checksums that it writes; where it was told to write none, all are 0
                if any(entry.CRC for entry in entries) and (bad := archive.testzip()) is not None:
                    raise ValueError(f"the checksum of its part {bad:.60} is another")
        elif _longest_storage(path) > path.stat().st_size:
            raise ValueError("it claims to hold more bytes than it has")
        # Of a path, torch goes by the ending; of a file of the old format it asks for as many bytes as a text claims to have, and
        # Python makes room for all of them, in memory for those that are there.
        with path.open("rb") if new else io.BytesIO(path.read_bytes()) as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # on arbitrary bytes torch's reader fails in every way there is
        message = short(error, 2000).rpartition("WeightsUnpickler error: ")[2]
        if isinstance(error, pickle.UnpicklingError) and ("GLOBAL" in message or "Unsupported global" in message):
            named = re.search(r"Unsupported global: GLOBAL ([\w.]{1,80})", message)
            raise RunError(
                f"{path} holds more than tensors (pickled code{f', {named[1]}' if named else ''}), which is not loaded; where "
                "you trust it, save its state dict alone, in the environment that it comes from: "
                "torch.save(model.state_dict(), ...)"
            ) from None
        raise RunError(f"{path} is damaged or not a torch file ({message:.120})") from None


def _longest_storage(path: Path) -> int:
    """How many numbers a storage claims to hold that lies behind the pickles of a torch file of the old format, at most.

    Raises:
        ValueError: these are no pickles.
    """
    longest = since = 0
    # Of a map, as many bytes are read as are there; of a file, room is made for as many as are asked for.
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for _ in range(4):  # a number, a version, the system, and what was saved
            if content.tell() == len(content):
                break  # a single pickle, say: torch's own reader refuses it
            for code, value, _ in pickletools.genops(cast("IO[bytes]", content)):
                if code.name in ("MARK", "BINPERSID"):  # around ("storage", kind, key, place, numbers, None)
                    longest, since = max(longest, since if code.name == "BINPERSID" else 0), 0
                elif isinstance(value, int) and code.name not in ("BINPUT", "LONG_BINPUT", "BINGET", "LONG_BINGET"):
                    since = max(since, value)
    return longest


def _kind(content: Any) -> str:
    """What a torch file holds, by the keys at its top."""
    if not isinstance(content, Mapping) or _is_tensors(content):
        return "a torch file"
    meta = content.get("meta")
    if "pytorch-lightning_version" in content:
        return "a Lightning checkpoint"
    if isinstance(meta, Mapping) and {"mmseg_version", "mmengine_version", "mmcv_version"} & set(meta):
        return "an mmsegmentation checkpoint"
    return "a torch checkpoint of weights and other things"


def _is_tensors(tensors: Mapping[Any, Any]) -> bool:
    return all(isinstance(value, Tensor) for value in tensors.values())


def _is_plain(value: Tensor) -> bool:
    """Whether every number of the tensor is there, once: no sparse, quantised, or endlessly repeated one."""
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in tensors)), None):
        tensors = {name.removeprefix(prefix): value for name, value in tensors.items()}
    return tensors
