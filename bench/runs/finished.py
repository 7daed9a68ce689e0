"""Finished runs, found by method, hash, folder or record file, and their models."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from bench.core.errors import RunError, UsageError
from bench.networks.weights import load_into
from stpl.segmenter import VideoSegmenter

from .config import RunConfig, Shift, alterations, make_run_config, parse_options
from .records import Record, read_record
from .source import fresh_segmenter

LEADERBOARDS = Path("leaderboards")
_HASH = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class FinishedRun:
    """A run folder and its record."""

    folder: Path
    record: Record

    @property
    def name(self) -> str:
        """Title of the method, with the options in which the run differs from the leaderboard's, for captions."""
        return run_name(self.record)

    def model(self, device: torch.device) -> VideoSegmenter:
        """The scored network in evaluation mode: built by the harness, weights from the run's checkpoint.

        Raises:
            RunError: the checkpoint is missing, damaged or of another network.
        """
        config = self.record.config
        segmenter = fresh_segmenter(config, config.protocol, 0)
        load_into(segmenter, self.folder / "checkpoint.safetensors")
        return segmenter.to(device).eval()


def run_name(record: Record) -> str:
    """Title of a record's method, with its altered options in brackets."""
    title, altered = str(record.method.get("title", record.config.method)), alterations(record.config)
    return f"{title} ({', '.join(altered)})" if altered else title


def split_spec(spec: str) -> tuple[str, list[str]]:
    """``stpl:fusion=none:flow=dis`` to the method and its ``key=value`` options."""
    method, *options = spec.split(":")
    return method, options


def config_of(spec: str, shift: str, seed: int) -> RunConfig:
    """Config of ``method`` or ``method:key=value:...`` with everything else at its default.

    Raises:
        UsageError: unknown method, option or shift.
    """
    method, options = split_spec(spec)
    return make_run_config(method, shift, seed, parse_options(options))


def finished_run(spec: str, shift: str, seed: int, runs: Path) -> FinishedRun:
    """The finished run of ``method`` or ``method:key=value:...`` on a replicate.

    Raises:
        UsageError: it is unknown or has not been run here; says how to.
        RunError: its record is damaged.
    """
    config = config_of(spec, shift, seed)
    folder = runs / config.hash
    if not (folder / "record.json").is_file():
        method, options = split_spec(spec)
        how = " ".join(["bench run --method", method, f"--shift {shift} --seed {seed}", *(f"-o {o}" for o in options)])
        raise UsageError(f"No finished run of '{spec}' (seed {seed}) in {runs}; first: {how}")
    return FinishedRun(folder, read_record(folder / "record.json"))


def finished_runs(specs: Sequence[str], shift: str, seed: int, runs: Path) -> list[FinishedRun]:
    """:func:`finished_run` of each.

    Raises:
        UsageError: none is named, or one twice.
    """
    if not specs:
        raise UsageError("--methods names no method; e.g. --methods source_only,stpl,oracle")
    if twice := sorted({spec for spec in specs if specs.count(spec) > 1}):
        raise UsageError(f"--methods names '{twice[0]}' twice")
    return [finished_run(spec, shift, seed, runs) for spec in specs]


def need_rendered(shift: Shift) -> None:
    """Refuse shifts of recorded video, whose labels have another size than their frames and other places.

    Raises:
        UsageError: the shift's clips are not rendered.
    """
    if shift.data.kind != "ministreet":
        raise UsageError(f"Shift '{shift.name}' is recorded video; for pictures and films of it use bench predict")


def is_hash(text: str) -> bool:
    """True for what may be the hash of a run."""
    return bool(_HASH.fullmatch(text))


def find_record(reference: str, runs: Path, root: Path = LEADERBOARDS) -> Path:
    """The record file of a run hash, a run folder or a record file; hashes are looked for in ``runs`` and among the
    committed records.

    Raises:
        UsageError: nothing is there.
    """
    path = Path(reference)
    if path.is_dir() and (path / "record.json").is_file():
        return path / "record.json"
    if path.is_file():
        return path
    if is_hash(reference):
        places = [runs / reference / "record.json", *sorted((root / "records").glob(f"*/*-{reference}.json"))]
        if found := next((place for place in places if place.is_file()), None):
            return found
    raise UsageError(
        f"'{reference}' is no finished run: give a record file, a run folder, or the hash of a run in {runs} or {root}/records"
    )


def find_folder(reference: str, runs: Path) -> Path:
    """The run folder of a hash, a folder, or a record file inside one; it need not be finished.

    Raises:
        UsageError: nothing is there.
    """
    path = Path(reference)
    places = [path.parent if path.name == "record.json" and path.is_file() else path, runs / reference]
    if found := next((place for place in places if (place / "config.yaml").is_file()), None):
        return found
    raise UsageError(f"'{reference}' is no run: give a run folder or the hash of a run in {runs}")


def matching(records: Iterable[Record], config: RunConfig) -> dict[int, Record]:
    """Records of a config on any replicate, by seed; of several of one run, the first."""
    found: dict[int, Record] = {}
    for record in records:
        if record.config.model_copy(update={"seed": config.seed}) == config:
            found.setdefault(record.config.seed, record)
    return {seed: found[seed] for seed in sorted(found)}


def all_records(runs: Path, root: Path, shift: str) -> list[Record]:
    """Committed records of a shift, then the finished runs in ``runs``; damaged ones among the runs are left out."""
    found = [read_record(path) for path in sorted((root / "records" / shift).glob("*.json"))]
    for path in sorted(runs.glob("*/record.json")):
        try:
            found.append(read_record(path))
        except RunError:  # of another run: that run's business
            continue
    return found
