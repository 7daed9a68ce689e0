"""``bench leaderboard --check --sample N``: score some of the committed records again, as far as their runs are at hand."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import RunError
from bench.core.files import sha256_of
from bench.core.text import listed
from bench.core.workspace import Workspace
from bench.runs.finished import FOLDERS, RECORD, RunFolder
from bench.runs.records import Record, read_record
from bench.runs.sequences import sequences_of

from .submit import compare_scores


@dataclass(frozen=True)
class Sample:
    """What was scored again.

    Attributes:
        records: number of committed records.
        at_hand: of how many the run, with its checkpoint, lies in the folder of runs.
        scored: the records that were drawn and scored again, all as they say.
    """

    records: int
    at_hand: int
    scored: tuple[Path, ...]

    @property
    def text(self) -> str:
        """One sentence."""
        summary = f"{self.at_hand} of {self.records} records have their runs at hand"
        if not self.scored:
            return f"{summary}; none was scored again"
        return (
            f"{summary}; {len(self.scored)} drawn and scored again, as recorded: {listed(p.stem for p in self.scored)}"
        )


def score_sample(root: Path, number: int, workspace: Workspace) -> Sample:
    """Score a random sample of the committed records again.

    Args:
        number: of records, at most; drawn anew in each call.
        workspace: ``runs`` is where runs are looked for.

    Raises:
        RunError: a record whose checkpoint scores something else; names it.
    """
    files = sorted(path for folder in FOLDERS.values() for path in (root / folder).glob("*/*.json"))
    at_hand = [path for path in files if _is_at_hand(read_record(path), workspace.runs)]
    drawn = sorted(random.SystemRandom().sample(at_hand, min(number, len(at_hand))))
    for done, path in enumerate(drawn):
        record = read_record(path)
        run = RunFolder(workspace.runs / record.run, record)  # the committed record, the checkpoint of the run
        compare_scores(f"Record {path}", run, sequences_of(record, path, run.shift), workspace)
        workspace.progress("score again", done + 1, len(drawn))
    return Sample(len(files), len(at_hand), tuple(drawn))


def _is_at_hand(record: Record, runs: Path) -> bool:
    """Is the run here, and no other training of the same configuration? Its scores are not looked at: they are in question."""
    run = RunFolder(runs / record.run, record)
    if not run.checkpoint.is_file():
        return False
    if record.digests:
        return sha256_of(run.checkpoint) == record.digests.checkpoint
    try:
        run_record = read_record(run.folder / RECORD)
    except RunError:
        return False
    return (run_record.code, run_record.hardware, run_record.date) == (record.code, record.hardware, record.date)
