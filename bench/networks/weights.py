"""Weights and resumable state on disk, as safetensors; written whole or not at all, never unpickled.

What is written here carries two checksums in its metadata: ``values``, of the tensors with their names, kinds and shapes, and
``checksum``, of the metadata (``bench.core.sealed``). Files without them, from elsewhere or older, are read as they are.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bench.core.errors import RunError, short
from bench.core.files import whole
from bench.core.schema import check_names
from bench.core.sealed import MARK, checksum, load_json, sealed, unsealed

MAGIC = {
    b"PK\x03\x04": "a torch file (or another zip archive)",
    b"\x80": "a torch file of the old format (or another pickle)",
    b"\x89HDF": "an HDF5 file, of Keras perhaps",
    b"<": "a web page; a download needs the link to the file itself",
    b"/annex/objects": "a git-annex pointer; `git annex get` fetches the file",
}
"""What files begin with that are taken for weights."""
SAFETENSORS = "a safetensors file"
VALUES = "values"
"""Key of the metadata under which the checksum of the tensors stands."""


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, object] | None = None) -> None:
    """Write tensors and JSON metadata to ``path`` under a temporary name, then move it into place.

    Raises:
        RunError: the disk is full or read-only; nothing half-written stays.
    """
    # Copies, since safetensors refuses tensors that share memory (a module under two names).
    copies = {name: value.detach().to("cpu", copy=True).contiguous() for name, value in tensors.items()}
    meta = sealed({**(metadata or {}), VALUES: checksum(_parts(copies))})
    with whole(path) as scratch:
        try:
            save_file(copies, scratch, {"meta": json.dumps(meta, sort_keys=True)})
        except SafetensorError as error:
            raise RunError(f"Cannot write {path}: {error}; free space or choose another folder") from None
        with suppress(PermissionError):  # in a box; the run that it belongs to does it
            scratch.chmod(0o644)  # safetensors makes it private, but caches are shared


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, object]]:
    """Shapes by name, and metadata, whose checksum is checked; no tensor is read.

    Raises:
        RunError: as :func:`load_tensors`.
    """
    with _opened(path) as file:
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
        return shapes, _without_sums(_metadata(file))


def load_tensors(path: Path, remedy: str = "copy or make it again") -> tuple[dict[str, Tensor], dict[str, object]]:
    """Tensors and metadata of a file.

    Args:
        remedy: what to do about a damaged one; deleting is for files that are ours.

    Raises:
        RunError: the file is missing, truncated, not safetensors, or has another checksum than when it was written.
    """
    with _opened(path, remedy) as file:
        meta = _metadata(file)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if VALUES in meta and meta[VALUES] != checksum(_parts(tensors)):
            raise ValueError("its values are not those that were saved: their checksum is another")
        return tensors, _without_sums(meta)


def load_into(module: nn.Module, path: Path) -> dict[str, object]:
    """Load weights into ``module`` strictly; returns the metadata. Nothing is loaded that does not fit.

    Raises:
        RunError: damaged file, weights of another network (names, shapes or kinds of number differ), or not finite.
    """
    check_shapes(module, path)
    tensors, metadata = load_tensors(path)
    state = module.state_dict()
    for name, value in tensors.items():
        if value.is_floating_point() != state[name].is_floating_point() or value.is_complex():
            raise RunError(f"{path}: '{name}' is {value.dtype}, the network's is {state[name].dtype}; save it as that")
    check_finite(tensors, path)
    module.load_state_dict(tensors)
    return metadata


def digest(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights: of names, kinds of number, shapes and values, whatever file they lie in."""
    whole = hashlib.sha256()
    for part in _parts(tensors):
        whole.update(part)
    return whole.hexdigest()


def _parts(tensors: Mapping[str, Tensor]) -> Iterator[bytes | memoryview]:
    """What tensors are, as bytes: name, kind of number, shape and values of each, in order of their names."""
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        yield f"{name}\0{value.dtype}\0{tuple(value.shape)}\0".encode()
        yield value.reshape(-1).view(torch.uint8).numpy().data


def check_shapes(module: nn.Module, path: Path) -> None:
    """Compare names and shapes of a file with those of ``module``, which may be on the meta device.

    Raises:
        RunError: as :func:`load_tensors`, or the file holds weights of another network.
    """
    stored, _ = read_header(path)
    expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    if expected != stored:
        differing = sorted(set(expected.items()) ^ set(stored.items()))[0][0]
        raise RunError(
            f"{path} holds weights of another network: '{differing:.120}' differs; use the network and fusion it was made "
            "with"
        )


def check_finite(tensors: Mapping[str, Tensor], path: Path | str) -> None:
    """Refuse weights with which a network says the same of every picture.

    Raises:
        RunError: NaN, infinity (also where float32 cannot hold a number), or a negative variance; names the first tensor.
    """
    for name, value in tensors.items():
        if not value.is_floating_point():
            continue
        single = value.detach().float()
        if not bool(single.isfinite().all()):
            bad = int((~single.isfinite()).sum())
            raise RunError(f"{path}: '{name:.120}' has {bad} values that are not finite; these weights cannot be used")
        if name.endswith("running_var") and bool((single < 0).any()):
            raise RunError(f"{path}: '{name:.120}' has negative variances; these weights cannot be used")


@contextmanager
def _opened(path: Path, remedy: str = "copy or make it again") -> Iterator[Any]:
    """The file as safetensors' reader; whatever goes wrong in it becomes one line that says what the file is."""
    if not os.path.isfile(path):
        raise RunError(f"No checkpoint at {path}")
    check_names([path])
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except MemoryError:
        raise
    except Exception as error:  # on arbitrary bytes the reader fails in many ways, and none of them is a fault here
        kind = what_is(path)
        if kind not in (None, SAFETENSORS):
            raise RunError(f"{path} is not a safetensors file: it is {kind}") from None
        raise RunError(f"{path} is damaged or not a safetensors file ({short(error, 120)}); {remedy}") from None


def _metadata(file: Any) -> dict[str, Any]:
    """With the checksum of the values, where there is one; the metadata's own is checked.

    Raises:
        ValueError: no JSON object, or of another checksum.
    """
    header: dict[str, str] = file.metadata() or {}
    if "meta" not in header and any(MARK in text for text in header.values()):
        raise ValueError("its metadata have another name than they were saved under")
    return unsealed(load_json(header.get("meta", "{}")))


def _without_sums(meta: Mapping[str, Any]) -> dict[str, object]:
    return {key: value for key, value in meta.items() if key != VALUES}


def what_is(path: Path) -> str | None:
    """What kind of file it is, from its first bytes; None where they do not tell."""
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError:
        return None
    if head[4:9] == b"\0\0\0\0{":  # a safetensors header's length and beginning
        return SAFETENSORS
    if head.startswith(b"version https://git-lfs"):
        size = next((int(line[5:17]) for line in head.split(b"\n") if line[:5] == b"size " and line[5:17].isdigit()), 0)
        return (
            f"a Git LFS pointer to {size / 1e6:.0f} MB that were not downloaded; `git lfs pull` in its repository does"
        )
    for start, kind in MAGIC.items():
        if head.startswith(start):
            return kind
    return None
