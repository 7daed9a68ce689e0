"""Released source models: in source-free adaptation the source model is given, so everybody may start from the same one.

``leaderboards/sources/`` holds them as safetensors, named by the hash of everything they depend on (`bench.runs.source`), and
``manifest.json`` with the environment that each was trained in and the SHA-256 of its file. A run looks there before it trains
one.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from pydantic import Field

from bench.core.errors import RunError
from bench.core.files import sha256_of, write_atomically
from bench.core.provenance import environments_in
from bench.core.schema import Model, Name, hash_of, read_json
from bench.core.workspace import Workspace
from bench.networks.weights import read_header

from .model_source import is_good

MANIFEST = "manifest.json"


class Released(Model):
    """A released source model.

    Attributes:
        shift, seed: for a person; what counts is the hash that it is named by, of the identity that its file holds.
        sha256, size: of the file, bytes.
        environments: processor, threads, device and versions that it was trained with; several where it was interrupted.
    """

    shift: str
    seed: int
    file: Name
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size: int
    environments: tuple[dict[str, str], ...]


class Manifest(Model):
    """All of them, by the hash of their identity."""

    models: dict[str, Released] = Field(default={})


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder; an empty one where there is none.

    Raises:
        RunError: it is damaged.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return Manifest()
    return read_json(path, Manifest, "Manifest", "bring it back from git")


def released_model(identity: dict[str, Any], workspace: Workspace) -> Path | None:
    """The released source model of an identity; None where there is none, or where the workspace wants none.

    Raises:
        RunError: its file has gone or is not the one that was released.
    """
    folder = workspace.released
    released = read_manifest(folder).models.get(hash_of(identity)) if folder else None
    if folder is None or released is None:
        return None
    path = folder / released.file
    remedy = "bring it back from git, or train one with --train-source"
    if not path.is_file():
        raise RunError(f"Released source model {path} is not there; {remedy}")
    if (sha := sha256_of(path)) != released.sha256:
        raise RunError(
            f"{path} is not what was released: its SHA-256 is {sha:.12}..., not {released.sha256:.12}...; {remedy}"
        )
    if not is_good(path, identity):
        raise RunError(f"{path} is the source model of something else than its manifest says; {remedy}")
    return path


def release(
    shift: str, seed: int, identity: dict[str, Any], cached: Path, folder: Path, started: Collection[str] = ()
) -> Path:
    """Copy a cached source model into the folder of released ones and note it in the manifest.

    Args:
        cached: its file.
        started: SHA-256 of the source models that committed records of this identity started from.

    Raises:
        RunError: it is not in the cache, is another than records started from, or another one was released before.
    """
    name = hash_of(identity)
    if not is_good(cached, identity):
        raise RunError(
            f"No source model of {shift}, seed {seed} in the cache ({cached}); train it with: bench run --method source_only "
            f"--shift {shift} --seed {seed} --train-source"
        )
    sha, manifest = sha256_of(cached), read_manifest(folder)
    if started and sha not in started:
        raise RunError(
            f"{cached} has SHA-256 {sha:.12}..., committed records of {shift}, seed {seed} started from "
            f"{', '.join(f'{digest:.12}...' for digest in sorted(started))}; release that one"
        )
    if (before := manifest.models.get(name)) is not None and before.sha256 != sha:
        raise RunError(
            f"Another source model of {shift}, seed {seed} was released: SHA-256 {before.sha256:.12}..., that of {cached} is "
            f"{sha:.12}...; what was released does not change"
        )
    path, content = folder / f"{name}.safetensors", cached.read_bytes()
    write_atomically(path, content)
    path.chmod(0o644)
    entry = Released(
        shift=shift,
        seed=seed,
        file=path.name,
        sha256=sha,
        size=len(content),
        environments=environments_in(read_header(cached)[1]),
    )
    whole = Manifest(models=dict(sorted({**manifest.models, name: entry}.items())))
    write_atomically(folder / MANIFEST, whole.model_dump_json(indent=1) + "\n")
    return path
