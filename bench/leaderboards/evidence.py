"""What a finished run must show for its record before it is scored again: the code of its revision, the files that it names by
digest, the log of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from bench.core.files import sha256
from bench.core.provenance import source_at
from bench.core.schema import hash_of
from bench.core.workspace import Workspace
from bench.networks.weights import load_tensors
from bench.runs.config import Shift
from bench.runs.records import Record
from bench.runs.source import source_identity

AGAIN = "run it again"


def missing_evidence(folder: Path, record: Record, allow_dirty: bool) -> str | None:
    """The first thing in a run's folder, or in the history of the code, that does not bear its record out; None where all does.

    Raises:
        RunError: the checkpoint is damaged.
    """
    return next(chain(_code(record, allow_dirty), _checkpoint(folder, record), _log(folder, record)), None)


def _code(record: Record, allow_dirty: bool) -> Iterator[str]:
    revision, source = record.code.get("revision"), record.code.get("source")
    if record.code.get("dirty") and not allow_dirty:
        yield f"ran with changes that are not in revision {revision}; commit and {AGAIN}, or submit with --allow-dirty"
    elif revision is None or source is None:
        yield f"does not say which revision of the code ran; {AGAIN} from a git checkout"
    elif (committed := source_at(str(revision))) is None:
        yield f"says revision {revision}, which is not in the history of this checkout; {AGAIN}, or check out its branch"
    elif committed != source and not record.code.get("dirty"):
        yield f"says revision {revision}, but its code was another; {AGAIN}"


def _checkpoint(folder: Path, record: Record) -> Iterator[str]:
    path, digests = folder / "checkpoint.safetensors", record.digests
    if digests is None:
        yield f"names no digest of its checkpoint; {AGAIN}"
    elif record.source_model and not digests.source_model:
        yield f"names no digest of its source model; {AGAIN}"
    elif digests.checkpoint != (found := sha256(path)):
        yield f"has another checkpoint than its record says: SHA-256 {found:.12}..., not {digests.checkpoint:.12}...; {AGAIN}"
    told, step = load_tensors(path)[1], record.selection.snapshots[-1]["step"]
    if (told.get("config"), told.get("step")) != (record.run, step):
        yield f"has the checkpoint of run {told.get('config')}, step {told.get('step')}; {AGAIN}"


def _log(folder: Path, record: Record) -> Iterator[str]:
    path = folder / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    if len(lines) != record.cost.steps:
        yield f"logged {len(lines)} steps, its record says {record.cost.steps}; {AGAIN}"


def wrong_source_model(record: Record, shift: Shift, workspace: Workspace) -> str | None:
    """How the record's source model is not the one that its configuration gives; None where it is, or was given as a file."""
    if record.source_model is None or record.config.source_file:
        return None
    wanted = hash_of(source_identity(record.config, shift, workspace))
    return None if record.source_model == wanted else f"says source model {record.source_model}, not {wanted}; {AGAIN}"
