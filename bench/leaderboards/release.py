"""``bench release``: the source models that a leaderboard's runs started from, for everybody to start from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.schema import hash_of
from bench.core.workspace import Workspace
from bench.runs.config import RunConfig
from bench.runs.records import read_records
from bench.runs.released import release
from bench.runs.source import cached_model, source_identity
from bench.shifts.sides import ModelFile


def release_sources(configs: Sequence[RunConfig], workspace: Workspace, root: Path) -> list[Path]:
    """Release the source model of each of these runs.

    Args:
        workspace: its cache has them.
        root: of the leaderboards; committed records there must have started from them.

    Raises:
        UsageError: the source of the shift is a model file.
        RunError: see :func:`bench.runs.released.release`.
    """
    released = []
    for config in configs:
        shift = config.protocol
        if isinstance(shift.data.source, ModelFile):
            raise UsageError(f"The source of shift '{shift.name}' is a model file: there is no source model to release")
        identity = source_identity(config, shift, workspace)
        name, records = hash_of(identity), read_records(root / "records" / shift.name)
        digests = {r.digests.source_model for r in records if r.source_model == name and r.digests}
        started = {sha for sha in digests if sha is not None}
        cached = cached_model(identity, workspace)
        released.append(release(shift.name, config.seed, identity, cached, root / "sources", started))
    return released
