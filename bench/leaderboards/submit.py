"""``bench submit``: a run's record goes to the leaderboard after its checkpoint has been scored again.

Beside the record go its scores per target sequence. They must give the record's IoU to the last bit, so they are those that the
run wrote itself, or, for a run made before it did so, those of the second scoring.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.core.errors import RunError, UsageError
from bench.core.files import write_atomically
from bench.core.progress import Progress, quiet
from bench.core.registry import shift_names
from bench.core.schema import finite
from bench.core.workspace import Workspace
from bench.runs.config import Shift
from bench.runs.evaluate import Scores, protocol_scores
from bench.runs.finished import CONFIG, RunFolder, config_text
from bench.runs.records import TOLERANCE, Record, gap
from bench.runs.sequences import FILE as SEQUENCES
from bench.runs.sequences import Counts, mismatch, place, read_sequences, to_csv


@dataclass(frozen=True)
class Submitted:
    """What became of a run.

    Attributes:
        record: the committed file.
        new: False where the same record with its sequences was there already; it was not scored again.
        sequences: the committed scores per sequence; None where no counts give the record's IoU exactly.
    """

    record: Path
    new: bool
    sequences: Path | None


@contextmanager
def threads_of(record: Record) -> Iterator[None]:
    """As many threads as the run had: sums in the same order, so that the second scoring is the first one."""
    before, wanted = torch.get_num_threads(), record.hardware.get("threads")
    torch.set_num_threads(wanted if isinstance(wanted, int) and wanted > 0 else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rescore(run: RunFolder, workspace: Workspace) -> Scores:
    """Score a run's checkpoint on its validation split."""
    segmenter = run.model(workspace)
    with run.labelled_clips(workspace) as loader:
        return protocol_scores(run.shift, segmenter, loader, workspace.device)


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
    admitted = [_admitted(folder, allow_dirty) for folder in folders]
    workspace = Workspace.at(cache=cache, device="cpu")
    done = []
    for number, run in enumerate(admitted):
        done.append(_submit(run, root, workspace))
        progress("submit", number + 1, len(admitted))
    return done


def _admitted(folder: Path, allow_dirty: bool) -> RunFolder:
    """A finished run that may be reported; nothing is scored here."""
    run = RunFolder.open(folder)
    record, config, shift = run.record, run.config, run.shift
    outside = [*config.plugins]
    outside += [] if config.shift in shift_names() else [f"shift/{config.shift}"]
    if outside:
        raise UsageError(
            f"{folder} ran with {', '.join(outside).replace('/', ' ')} from outside this repository; add the file to it "
            "(CONTRIBUTING.md), commit, and run it again"
        )
    if shift.purpose != "report":
        raise UsageError(f"{folder} ran on '{shift.name}', which is for {shift.purpose}, not for reporting")
    if config.steps is not None:
        raise UsageError(f"{folder} was cut short with --steps {config.steps}; run it whole")
    text = (folder / CONFIG).read_text(encoding="utf-8", errors="replace")
    if text != config_text(config) or config.hash != record.run:
        raise RunError(f"{folder}: config.yaml, record.json and the run's hash do not belong together; run it again")
    if record.code.get("dirty") and not allow_dirty:
        raise RunError(
            f"{folder} ran with changes that are not in revision {record.code.get('revision')}; commit and run it again, "
            "or submit with --allow-dirty"
        )
    return run


def _submit(run: RunFolder, root: Path, workspace: Workspace) -> Submitted:
    folder, record, shift = run.folder, run.record, run.shift
    target = root / "records" / shift.name / f"{record.config.method}-s{record.config.seed}-{record.run}.json"
    if _is_there(target, record, shift):
        return Submitted(target, False, place(target))
    with threads_of(record):
        again = rescore(run, workspace)
    for name in ("miou", "pixel_accuracy", "temporal_consistency"):
        said, scored = getattr(record.result, name), finite(getattr(again, name))
        if gap(said, scored) > TOLERANCE:
            raise RunError(f"{folder}: the record says {said} {name}, its checkpoint scores {scored}")
    sequences, there = _sequences(folder, record, shift, again), place(target)
    if sequences is None:
        there.unlink(missing_ok=True)  # of an earlier record
    else:
        write_atomically(there, to_csv(sequences, shift.classes))
    write_atomically(target, record.to_json())
    return Submitted(target, True, None if sequences is None else there)


def _is_there(target: Path, record: Record, shift: Shift) -> bool:
    """Is this very record committed, with sequences that give its scores?"""
    try:
        if target.read_text(encoding="utf-8") != record.to_json():
            return False
        return mismatch(read_sequences(place(target), shift.classes), record.result, shift.classes) is None
    except (OSError, UnicodeDecodeError, RunError):
        return False


def _sequences(folder: Path, record: Record, shift: Shift, again: Scores) -> dict[str, Counts] | None:
    """The run's own counts, or else those of the second scoring if they give the record's IoU exactly.

    Raises:
        RunError: the run's own counts are damaged, or not those of its record.
    """
    if (folder / SEQUENCES).is_file():
        own = read_sequences(folder / SEQUENCES, shift.classes)
        if (wrong := mismatch(own, record.result, shift.classes)) is not None:
            raise RunError(f"{folder / SEQUENCES} does not belong to the run's record: {wrong}; run it again")
        return own
    scored = dict(again.sequences)
    return scored if mismatch(scored, record.result, shift.classes) is None else None
