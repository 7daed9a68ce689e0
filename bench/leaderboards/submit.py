"""``bench submit``: a run's record goes to the leaderboard after its checkpoint has been scored again.

Beside the record go the scores per target sequence that the run wrote: they give the record's IoU to the last bit, and the second
scoring has the same labels. What else can be derived is checked first (:mod:`.consistency`, :mod:`.evidence`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
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
from bench.runs.finished import CONFIG, RECORD, RunFolder, config_text, folder_of
from bench.runs.records import TOLERANCE, Record, gap
from bench.runs.sequences import FILE as SEQUENCES
from bench.runs.sequences import Counts, mismatch, place, read_sequences, sequences_of, to_csv
from bench.runs.streaming import online_scores
from bench.runs.video_consistency import LENGTHS

from .consistency import MOST_THREADS, check_alone, pixel_fault
from .evidence import missing_evidence, wrong_source_model
from .standings import admit


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
    before, threads = torch.get_num_threads(), record.hardware.get("threads")
    torch.set_num_threads(threads if isinstance(threads, int) and 0 < threads <= MOST_THREADS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def rescore(run: RunFolder, workspace: Workspace) -> Scores:
    """Score a run's checkpoint on its validation split; of a stream what it predicted online."""
    segmenter = run.model(workspace)
    with run.labelled_clips(workspace) as loader:
        if frames := run.record.cost.frames:
            return online_scores(run.shift, loader, run.folder, min(frames, len(loader.store)))
        return protocol_scores(run.shift, segmenter, loader, workspace.device)


def submit_runs(
    folders: Sequence[Path],
    root: Path,
    cache: Path | None,
    allow_dirty: bool = False,
    progress: Progress = quiet,
    data_root: Path | None = None,
) -> list[Submitted]:
    """Check each run and copy its record to ``<root>/records/<shift>/<method>-s<seed>-<run>.json``.

    All runs are looked at before the first is scored: one that cannot be submitted is named at once, not after minutes. What
    is there already is left alone, so a submission that was stopped goes on.

    Raises:
        UsageError: not a finished run, or a shift that is not reported.
        RunError: code that was not committed, the second scoring differs from the record, or a file is damaged.
    """
    admitted = [_admitted(folder, allow_dirty) for folder in folders]
    workspace = Workspace.at(cache=cache, data_root=data_root, device="cpu")
    submitted = []
    for number, run in enumerate(admitted):
        submitted.append(_submit(run, root, workspace))
        progress("submit", number + 1, len(admitted))
    return submitted


def _admitted(folder: Path, allow_dirty: bool) -> RunFolder:
    """A finished run that may be reported; nothing is scored here."""
    config = RunFolder.open(folder, any_protocol=True).config
    outside = [*config.plugins, *([] if config.shift in shift_names() else [f"shift/{config.shift}"])]
    if outside:
        names = ", ".join(" ".join(key.split("/", 1)) for key in outside)
        raise UsageError(
            f"{folder} ran with {names} from outside this repository; add the file to it (CONTRIBUTING.md), commit, and "
            "run it again"
        )
    run = RunFolder.open(folder)
    record, shift, name = run.record, run.shift, str(folder / RECORD)
    if shift.purpose != "report":
        raise UsageError(f"{folder} ran on '{shift.name}', which is for {shift.purpose}, not for reporting")
    if config.steps is not None:
        raise UsageError(f"{folder} was cut short with --steps {config.steps}; run it whole")
    text = (folder / CONFIG).read_text(encoding="utf-8", errors="replace")
    if text != config_text(config) or config.hash != record.run:
        raise RunError(f"{folder}: config.yaml, record.json and the run's hash do not belong together; run it again")
    admit(record, shift, name, config.mode)
    check_alone(record, shift, name)
    if (fault := missing_evidence(run, allow_dirty)) is not None:
        raise RunError(f"{folder} {fault}")
    return run


def _submit(run: RunFolder, root: Path, workspace: Workspace) -> Submitted:
    folder, record, shift = run.folder, run.record, run.shift
    target = (
        folder_of(root, shift.name, record.config.mode)
        / f"{record.config.method}-s{record.config.seed}-{record.run}.json"
    )
    if _is_there(target, record, shift):
        return Submitted(target, False, place(target))
    if (fault := wrong_source_model(run, workspace)) is not None:
        raise RunError(f"{folder} {fault}")
    sequences = _sequences(run)
    compare_scores(str(folder), run, sequences, workspace)
    write_atomically(place(target), to_csv(sequences, shift.score_classes))
    write_atomically(target, record.to_json())
    return Submitted(target, True, place(target))


def compare_scores(name: str, run: RunFolder, sequences: Mapping[str, Counts], workspace: Workspace) -> None:
    """Score a run's checkpoint again and compare with its record.

    Args:
        name: of the record, for errors.
        sequences: the record's pixels per target sequence.

    Raises:
        RunError: other scores than the record's, or other labels than those of its pixels.
    """
    result, classes = run.record.result, run.shift.score_classes
    with threads_of(run.record):
        rescored = rescore(run, workspace)
    # A class counts once in the mean over classes.
    scores = {f"IoU of {c}": (result.iou.get(c), x, len(classes)) for c, x in zip(classes, rescored.iou, strict=True)}
    for key in ("temporal_consistency", "pixel_accuracy", "miou"):
        scores = {key: (getattr(result, key), getattr(rescored, key), 1), **scores}
    for key, value in result.video.items():  # a pixel that flips in any frame of a window leaves it
        scores[key] = value, rescored.video.get(key, math.nan), max(LENGTHS)
    for key, (recorded, scored, times) in scores.items():
        if gap(recorded, finite(scored)) > times * TOLERANCE:
            raise RunError(f"{name}: the record says {recorded} {key}, its checkpoint scores {finite(scored)}")
    if sequences.keys() != rescored.sequences.keys():
        raise RunError(f"{name}: its {len(sequences)} sequences are not the {len(rescored.sequences)} of the data")
    for sequence, counts in rescored.sequences.items():
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


def _sequences(run: RunFolder) -> dict[str, Counts]:
    """The run's own counts.

    Raises:
        RunError: missing, damaged, or not those of its record or data.
    """
    path, shift = run.folder / SEQUENCES, run.shift
    if not path.is_file():
        raise RunError(f"{run.folder} has no scores per sequence ({SEQUENCES}); run it again")
    counts = read_sequences(path, shift.score_classes)
    if (wrong := mismatch(counts, run.record.result, shift.score_classes, shift.unscored)) is not None:
        raise RunError(f"{path} does not belong to the run's record: {wrong}; run it again")
    if (wrong := pixel_fault(counts, shift)) is not None:
        raise RunError(f"{path}: {wrong}; run it again")
    return counts
