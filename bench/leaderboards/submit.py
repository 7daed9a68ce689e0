"""``bench submit``: a run's record goes to the leaderboard after its checkpoint has been scored again.

Beside the record go the scores per target sequence that the run wrote: they give the record's IoU to the last bit, and the second
scoring has the same labels. What else can be derived is checked first (:mod:`.consistency`, :mod:`.evidence`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.core.access import stage
from bench.core.errors import RunError, UsageError
from bench.core.files import write_atomically
from bench.core.progress import Progress, quiet
from bench.core.registry import shift_names
from bench.core.schema import finite
from bench.core.workspace import Workspace, default_cache
from bench.data.loaders import ClipLoader
from bench.data.splits import prepare
from bench.flow.resolve import flow_of
from bench.networks.weights import load_into
from bench.runs.config import RunConfig, Shift, load_shift
from bench.runs.evaluate import Scores, protocol_scores
from bench.runs.records import Record, read_record
from bench.runs.run import config_text
from bench.runs.sequences import FILE as SEQUENCES
from bench.runs.sequences import Counts, mismatch, place, read_sequences, sequences_of, to_csv
from bench.runs.source import fresh_segmenter

from .consistency import MOST_THREADS, check_alone, pixel_fault
from .evidence import missing_evidence, wrong_source_model
from .standings import admit

TOLERANCE = 0.02
"""Percent by which a score of the second scoring may differ; another number of threads changes a few pixels."""


@dataclass(frozen=True)
class Submitted:
    """What became of a run.

    Attributes:
        record: the committed file.
        new: False where the same record with its sequences was there already; it was not scored again.
        sequences: the committed scores per sequence.
    """

    record: Path
    new: bool
    sequences: Path


@contextmanager
def threads_of(record: Record) -> Iterator[None]:
    """As many threads as the run had: sums in the same order, so that the second scoring is the first one."""
    before, wanted = torch.get_num_threads(), record.hardware.get("threads")
    torch.set_num_threads(wanted if isinstance(wanted, int) and 0 < wanted <= MOST_THREADS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rescore(config: RunConfig, shift: Shift, checkpoint: Path, workspace: Workspace) -> Scores:
    """Score a checkpoint on the shift's validation split."""
    split = prepare(shift, "target", "val", config.seed, workspace)
    segmenter = fresh_segmenter(config, shift, 0)
    load_into(segmenter, checkpoint)
    with stage("target-val", "target-val/label"):
        store = split.open()
        loader = ClipLoader(store, flow_of(config.flow, store, split.name, workspace.cache), 1, 0)
        return protocol_scores(shift, segmenter, loader, workspace.device)


def submit_runs(
    folders: Sequence[Path],
    root: Path,
    cache: Path | None,
    allow_dirty: bool = False,
    progress: Progress = quiet,
) -> list[Submitted]:
    """Check each run and copy its record to ``<root>/records/<shift>/<method>-s<seed>-<run>.json``.

    All runs are looked at before the first is scored: one that cannot be submitted is named at once, not after minutes. What
    is there already is left alone, so a submission that was stopped goes on.

    Raises:
        UsageError: not a finished run, or a shift that is not reported.
        RunError: code that was not committed, the second scoring differs from the record, or a file is damaged.
    """
    admitted = [(folder, *_admitted(folder, allow_dirty)) for folder in folders]
    workspace = Workspace(cache=cache or default_cache())
    done = []
    for number, (folder, record, shift) in enumerate(admitted):
        done.append(_submit(folder, record, shift, root, workspace))
        progress("submit", number + 1, len(admitted))
    return done


def _admitted(folder: Path, allow_dirty: bool) -> tuple[Record, Shift]:
    """Record and shift of a finished run that may be reported; nothing is scored here."""
    for name in ("record.json", "config.yaml", "checkpoint.safetensors"):
        if not (folder / name).is_file():
            raise UsageError(f"{folder} is not a finished run: it has no {name}")
    record = read_record(folder / "record.json")
    config = record.config
    if config.shift not in shift_names():  # before anything is read or written under its name
        raise UsageError(
            f"{folder} ran on '{config.shift}', which is not in bench/shifts; add it there and run it again"
        )
    shift = load_shift(config.shift)
    if shift.purpose != "report":
        raise UsageError(f"{folder} ran on '{shift.name}', which is for {shift.purpose}, not for reporting")
    if record.shift_hash != shift.hash:
        raise UsageError(f"{folder} ran under protocol {record.shift_hash}; '{shift.name}' is now {shift.hash}")
    text = (folder / "config.yaml").read_text(encoding="utf-8", errors="replace")
    if text != config_text(config) or config.hash != record.run:
        raise RunError(f"{folder}: config.yaml, record.json and the run's hash do not belong together; run it again")
    admit(record, shift, str(folder / "record.json"))
    check_alone(record, shift, str(folder / "record.json"))
    if (fault := missing_evidence(folder, record, allow_dirty)) is not None:
        raise RunError(f"{folder} {fault}")
    return record, shift


def _submit(folder: Path, record: Record, shift: Shift, root: Path, workspace: Workspace) -> Submitted:
    target = root / "records" / shift.name / f"{record.config.method}-s{record.config.seed}-{record.run}.json"
    if _is_there(target, record, shift):
        return Submitted(target, False, place(target))
    if (fault := wrong_source_model(record, shift, workspace)) is not None:
        raise RunError(f"{folder} {fault}")
    sequences = _sequences(folder, record, shift)
    compare_scores(str(folder), record, sequences, shift, folder / "checkpoint.safetensors", workspace)
    write_atomically(place(target), to_csv(sequences, shift.classes))
    write_atomically(target, record.to_json())
    return Submitted(target, True, place(target))


def compare_scores(
    name: str, record: Record, sequences: Mapping[str, Counts], shift: Shift, checkpoint: Path, workspace: Workspace
) -> None:
    """Score a record's checkpoint again.

    Args:
        name: of the record, for errors.
        sequences: its pixels per target sequence.

    Raises:
        RunError: other scores than the record's, or other labels than those of its pixels.
    """
    with threads_of(record):
        again = rescore(record.config, shift, checkpoint, workspace)
    scores = [(key, TOLERANCE) for key in ("miou", "pixel_accuracy", "temporal_consistency")]
    told = {key: (getattr(record.result, key), finite(getattr(again, key)), most) for key, most in scores}
    classes = zip(shift.classes, again.iou, strict=True)  # a class counts once in the mean over classes
    told |= {f"IoU of {c}": (record.result.iou.get(c), finite(x), TOLERANCE * len(again.iou)) for c, x in classes}
    for key, (said, scored, most) in told.items():
        if said != scored and (said is None or scored is None or abs(said - scored) > most):
            raise RunError(f"{name}: the record says {said} {key}, its checkpoint scores {scored}")
    if sequences.keys() != again.sequences.keys():
        raise RunError(f"{name}: its {len(sequences)} sequences are not the {len(again.sequences)} of the data")
    for sequence, counts in again.sequences.items():
        if (counts[:, 1] != sequences[sequence][:, 1]).any():
            raise RunError(f"{name}: the pixels of sequence '{sequence}' are not those of its labels")


def _is_there(target: Path, record: Record, shift: Shift) -> bool:
    """Is this very record committed, with sequences that give its scores?"""
    try:
        if target.read_text(encoding="utf-8") != record.to_json():
            return False
        sequences_of(record, target, shift)
        return True
    except (OSError, UnicodeDecodeError, RunError):
        return False


def _sequences(folder: Path, record: Record, shift: Shift) -> dict[str, Counts]:
    """The run's own counts.

    Raises:
        RunError: missing, damaged, or not those of its record or data.
    """
    path = folder / SEQUENCES
    if not path.is_file():
        raise RunError(f"{folder} has no scores per sequence ({SEQUENCES}); run it again")
    own = read_sequences(path, shift.classes)
    if (wrong := mismatch(own, record.result, shift.classes, shift.evaluation.unscored)) is not None:
        raise RunError(f"{path} does not belong to the run's record: {wrong}; run it again")
    if (wrong := pixel_fault(own, shift)) is not None:
        raise RunError(f"{path}: {wrong}; run it again")
    return own
