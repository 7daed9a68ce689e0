"""``bench submit``: a run's record goes to the leaderboard after its checkpoint has been scored again."""

from __future__ import annotations

from pathlib import Path

from .access import stage
from .adapt import config_text
from .checkpoint import load_into
from .config import RunConfig, Shift, load_shift
from .data.loaders import ClipLoader
from .data.splits import prepare
from .errors import RunError, UsageError
from .evaluate import Scores, protocol_scores
from .flow.base import backend_of
from .records import finite, read_record, write_atomically
from .source import fresh_segmenter
from .workspace import Workspace, default_cache

TOLERANCE = 0.02
"""Percent by which a score of the second scoring may differ; another number of threads changes a few pixels."""


def rescore(config: RunConfig, shift: Shift, checkpoint: Path, workspace: Workspace) -> Scores:
    """Score a checkpoint on the shift's validation split."""
    split = prepare(shift, "target", "val", config.seed, workspace)
    segmenter = fresh_segmenter(config, shift, 0)
    load_into(segmenter, checkpoint)
    with stage("target-val", "target-val/label"):
        loader = ClipLoader(split.open(), backend_of(config.flow), 1, 0)
        return protocol_scores(shift, segmenter, loader, workspace.device)


def submit_runs(folders: list[Path], root: Path, cache: Path | None) -> list[Path]:
    """Check each run and copy its record to ``<root>/records/<shift>/<method>-s<seed>-<run>.json``.

    Raises:
        UsageError: not a finished run, or a shift that is not reported.
        RunError: the second scoring differs from the record, or a file is damaged.
    """
    workspace = Workspace(cache=cache or default_cache())
    written = []
    for folder in folders:
        for name in ("record.json", "config.yaml", "checkpoint.safetensors"):
            if not (folder / name).is_file():
                raise UsageError(f"{folder} is not a finished run: it has no {name}")
        record = read_record(folder / "record.json")
        config, shift = record.config, load_shift(record.config.shift)
        if shift.purpose != "report":
            raise UsageError(f"{folder} ran on '{shift.name}', which is for {shift.purpose}, not for reporting")
        if record.shift_hash != shift.hash:
            raise UsageError(f"{folder} ran under protocol {record.shift_hash}; '{shift.name}' is now {shift.hash}")
        text = (folder / "config.yaml").read_text(encoding="utf-8", errors="replace")
        if text != config_text(config) or config.hash != record.run:
            raise RunError(
                f"{folder}: config.yaml, record.json and the run's hash do not belong together; run it again"
            )
        again = rescore(config, shift, folder / "checkpoint.safetensors", workspace)
        for name in ("miou", "pixel_accuracy", "temporal_consistency"):
            said, scored = getattr(record.result, name), getattr(again, name)
            scored = finite(scored)
            if said != scored and (said is None or scored is None or abs(said - scored) > TOLERANCE):
                raise RunError(f"{folder}: the record says {said} {name}, its checkpoint scores {scored}")
        target = root / "records" / shift.name / f"{config.method}-s{config.seed}-{record.run}.json"
        write_atomically(target, record.to_json())
        written.append(target)
    return written
