"""Hashes of the user's own pictures that a run was made with, so that other pictures in their place are noticed."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.core.errors import RunError, UsageError, short
from bench.core.files import write_atomically
from bench.core.schema import hash_of
from bench.core.sealed import load_json, sealed, unsealed
from bench.core.workspace import Workspace
from bench.data.described import side_of
from bench.data.splits import Split, identity_of
from bench.networks.weights import read_header
from bench.shifts.protocol import Shift
from bench.shifts.sides import ModelFile

from .config import RunConfig
from .records import Record
from .source import source_identity

FILE = "data.json"


def what_data(shift: Shift, splits: Mapping[str, Split], source: Path | None) -> dict[str, str]:
    """Hash of each split of pictures of one's own, by name. ``source``: SHA-256 of the weights of a source that is a model file, or
    hash of what a source model depends on that was trained on pictures of one's own."""
    hashes = {name: hash_of(split.identity) for name, split in splits.items() if side_of(shift, name.split("-")[0])}
    if source is not None and (isinstance(shift.data.source, ModelFile) or side_of(shift, "source")):
        identity = read_header(source)[1].get("identity")
        if isinstance(identity, dict):
            hashes["source"] = _of_source(identity)
    return hashes


def _of_source(identity: Mapping[str, Any]) -> str:
    return str(identity["model"]) if "model" in identity else hash_of(identity)


def same_data(folder: Path, hashes: dict[str, str]) -> dict[str, str]:
    """Note what a run is made with in its folder, or see that it is what was noted when it began.

    Raises:
        UsageError: it goes on with other data.
        RunError: what was noted cannot be read any more.
    """
    file = folder / FILE
    before: Mapping[str, str] = hashes
    if file.is_file():
        try:
            before = unsealed(load_json(file.read_text(encoding="utf-8")))
        except OSError as error:
            raise RunError(f"Cannot read {file}: {error.strerror or error}") from None
        except ValueError as error:
            raise RunError(f"{file} is damaged ({short(error, 120)}); --force makes the run anew") from None
    if before != hashes:
        raise UsageError(_differs(folder, before, hashes))
    if hashes and not file.is_file():
        write_atomically(file, json.dumps(sealed(hashes), indent=1, sort_keys=True) + "\n")
    return hashes


def check_finished(record: Record, config: RunConfig, workspace: Workspace) -> None:
    """See that a finished run was made with the pictures that are there now; where none are, it stands.

    Raises:
        UsageError: it was made with others.
    """
    shift, recorded = config.protocol, record.data or {}
    current = dict(recorded)
    oracle = record.method.get("setting") == "oracle"
    for name in recorded:
        role, _, split = name.partition("-")
        with contextlib.suppress(RunError):
            if name == "source":
                current[name] = _of_source(source_identity(config, shift, workspace))
            else:
                current[name] = hash_of(identity_of(shift, role, split, config.seed, workspace, oracle))
    if current != recorded:
        raise UsageError(_differs(workspace.runs / config.hash, recorded, current))


def _differs(folder: Path, before: Mapping[str, str], current: Mapping[str, str]) -> str:
    names = sorted(name for name in {*before, *current} if before.get(name) != current.get(name))
    return f"{folder} was made with other data ({short(', '.join(names))}); --force makes it anew"
