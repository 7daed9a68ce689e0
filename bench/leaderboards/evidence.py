"""What a finished run must show for its record before it is scored again: the code of its revision, the files that it names by
digest, the log of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from bench.core.files import sha256_of
from bench.core.provenance import source_at
from bench.core.schema import hash_of
from bench.core.workspace import Workspace
from bench.networks.weights import load_tensors
from bench.runs.finished import RunFolder
from bench.runs.records import Record
from bench.runs.source import source_identity
from bench.runs.streaming import online_digest

AGAIN = "run it again"


def missing_evidence(run: RunFolder, allow_dirty: bool) -> str | None:
    """The first thing in a run's folder, or in the history of the code, that does not bear its record out; None where all does.

    Raises:
        RunError: the checkpoint is damaged.
    """
    return next(chain(_code(run.record, allow_dirty), _checkpoint(run), _log(run)), None)


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
    if record.hardware.get("compiled"):
        yield f"ran with --compile, whose compilers are processes that nobody watches; {AGAIN} without"


def _checkpoint(run: RunFolder) -> Iterator[str]:
    record, digests = run.record, run.record.digests
    if digests is None:
        yield f"names no digest of its checkpoint; {AGAIN}"
    elif record.source_model and not digests.source_model:
        yield f"names no digest of its source model; {AGAIN}"
    elif digests.checkpoint != (actual := sha256_of(run.checkpoint)):
        yield f"has another checkpoint than its record says: SHA-256 {actual:.12}..., not {digests.checkpoint:.12}...; {AGAIN}"
    elif run.config.mode == "stream" and digests.predictions != online_digest(run.folder):
        yield f"has other online predictions than its record says; {AGAIN}"
    metadata, step = load_tensors(run.checkpoint)[1], record.selection.snapshots[-1]["step"]
    if (metadata.get("config"), metadata.get("step")) != (record.run, step):
        yield f"has the checkpoint of run {metadata.get('config')}, step {metadata.get('step')}; {AGAIN}"


def _log(run: RunFolder) -> Iterator[str]:
    path, steps = run.folder / "metrics.jsonl", run.record.cost.steps
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.is_file() else []
    if len(lines) != steps:
        yield f"logged {len(lines)} steps, its record says {steps}; {AGAIN}"


def wrong_source_model(run: RunFolder, workspace: Workspace) -> str | None:
    """How the record's source model is not the one that its configuration gives; None where it is, or was given as a file."""
    stated = run.record.source_model
    if stated is None or run.config.source_file:
        return None
    expected = hash_of(source_identity(run.config, run.shift, workspace))
    return None if stated == expected else f"says source model {stated}, not {expected}; {AGAIN}"
