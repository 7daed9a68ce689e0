"""Finished runs: found by method, hash, folder or record file, with their networks and clips."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from bench.core.access import stage
from bench.core.errors import RunError, UsageError
from bench.core.files import disk_errors
from bench.core.registry import resolve
from bench.core.workspace import Workspace
from bench.data.loaders import ClipLoader
from bench.data.splits import prepare
from bench.flow.resolve import open_clips
from bench.networks.build import place
from bench.networks.weights import load_into
from bench.shifts.protocol import Data, Shift, check_protocol
from stpl.segmenter import VideoSegmenter

from .config import RunConfig, alterations, load_shift, make_run_config
from .options import parse_options
from .records import Record, read_record
from .source import fresh_segmenter

if TYPE_CHECKING:
    import pandas as pd

CONFIG, RECORD, CHECKPOINT = "config.yaml", "record.json", "checkpoint.safetensors"
"""What the folder of a finished run holds: written first, written last, and the scored weights."""
LEADERBOARDS = Path("leaderboards")
FOLDERS = {"offline": "records", "stream": "streams"}
"""Of a root, where records are committed, by the mode of their runs: two boards that are never mixed."""
_HASH = re.compile(r"[0-9a-f]{12}")


@dataclass(frozen=True)
class RunFolder:
    """A finished run: its folder and record, and what is made of them."""

    folder: Path
    record: Record

    @classmethod
    def open(cls, folder: Path, any_protocol: bool = False) -> RunFolder:
        """The finished run in a folder.

        Args:
            any_protocol: take also a run that was made before its shift's protocol was changed.

        Raises:
            UsageError: it is no finished run, or one of another protocol.
            RunError: its record is damaged.
        """
        for name in (RECORD, CONFIG, CHECKPOINT):
            if not (folder / name).is_file():
                raise UsageError(f"{folder} is not a finished run: it has no {name}")
        run = cls(folder, read_record(folder / RECORD))
        if not any_protocol:
            remedy = "run it again, or check out the revision that its record names"
            check_protocol(run.shift, run.record.shift_hash, str(folder), remedy)
        return run

    @property
    def config(self) -> RunConfig:
        """What was run."""
        return self.record.config

    @property
    def shift(self) -> Shift:
        """The shift as this run went through it."""
        return self.config.protocol

    @property
    def name(self) -> str:
        """Title of the method, with the options in which the run differs from the leaderboard's, for captions."""
        return run_name(self.record)

    @property
    def checkpoint(self) -> Path:
        """The scored weights."""
        return self.folder / CHECKPOINT

    def model(self, workspace: Workspace) -> VideoSegmenter:
        """The scored network in evaluation mode, where the workspace computes: built by the harness, weights from the run.

        Raises:
            RunError: the checkpoint is damaged or of another network.
        """
        segmenter = place(fresh_segmenter(self.config, self.shift, 0), workspace)
        load_into(segmenter, self.checkpoint)
        return segmenter.eval()

    @contextlib.contextmanager
    def labelled_clips(self, workspace: Workspace) -> Iterator[ClipLoader]:
        """Clips of the replicate's validation split with the flow that the run took, and, in this block, their labels.

        Raises:
            UsageError: no data root for recorded data.
            RunError: data or flow is missing.
        """
        split = prepare(self.shift, "target", "val", self.config.seed, workspace)
        with stage("target-val", "target-val/label"):
            yield open_clips(split, self.config.flow, workspace.cache)


def finished(folder: Path, config: RunConfig) -> Record | None:
    """The record in a config's run folder, None if the run is not finished. Its checkpoint may lie on another machine.

    Raises:
        RunError: the folder holds another config's run, or a damaged record.
    """
    foreign = RunError(f"Run folder {folder} holds another config's run; delete it or choose another --runs folder")
    path = folder / CONFIG
    if path.is_file():
        with disk_errors(path):
            text = path.read_text(encoding="utf-8", errors="replace")
        if text != config_text(config):
            raise foreign
    if not (folder / RECORD).is_file():
        return None
    record = read_record(folder / RECORD)
    if record.config != config:
        raise foreign
    return record


def config_text(config: RunConfig) -> str:
    """``config.yaml`` of a run folder."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=True)


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


def finished_run(spec: str, shift: str, seed: int, runs: Path) -> RunFolder:
    """The finished run of ``method`` or ``method:key=value:...`` on a replicate.

    Raises:
        UsageError: it is unknown or has not been run here; says how to.
        RunError: its record is damaged.
    """
    config = config_of(spec, shift, seed)
    folder = runs / config.hash
    if not (folder / RECORD).is_file():
        method, options = split_spec(spec)
        how = " ".join(["bench run --method", method, f"--shift {shift} --seed {seed}", *(f"-o {o}" for o in options)])
        raise UsageError(f"No finished run of '{spec}' (seed {seed}) in {runs}; first: {how}")
    return RunFolder.open(folder)


def finished_runs(specs: Sequence[str], shift: str, seeds: Iterable[int], runs: Path) -> list[RunFolder]:
    """:func:`finished_run` of each on every replicate.

    Raises:
        UsageError: none is named, or one twice.
    """
    if not specs:
        raise UsageError("--methods names no method; e.g. --methods source_only,stpl,oracle")
    if twice := sorted({spec for spec in specs if specs.count(spec) > 1}):
        raise UsageError(f"--methods names '{twice[0]}' twice")
    return [finished_run(spec, shift, seed, runs) for spec, seed in itertools.product(specs, seeds)]


def rendered_data(shift: Shift) -> Data:
    """What a shift says of its rendered data, for what is rendered for one picture or film alone.

    Raises:
        UsageError: the shift's clips are recorded.
    """
    if not isinstance(shift.data, Data):
        raise UsageError(f"Shift '{shift.name}' is recorded video; for pictures and films of it use bench predict")
    return shift.data


def is_hash(text: str) -> bool:
    """True for what may be the hash of a run."""
    return bool(_HASH.fullmatch(text))


def folder_of(root: Path, shift_name: str, mode: str = "offline") -> Path:
    """Where the records of a shift are committed."""
    return root / FOLDERS[mode] / shift_name


def find_record(reference: str, runs: Path, root: Path = LEADERBOARDS) -> Path:
    """The record file of a run hash, a run folder or a record file; hashes are looked for in ``runs`` and among the
    committed records.

    Raises:
        UsageError: nothing is there.
    """
    path = Path(reference)
    if os.path.isfile(path / RECORD):
        return path / RECORD
    if os.path.isfile(path):
        return path
    if is_hash(reference):
        committed = (path for board in FOLDERS.values() for path in sorted(root.glob(f"{board}/*/*-{reference}.json")))
        candidates = [runs / reference / RECORD, *committed]
        if record_file := next((candidate for candidate in candidates if candidate.is_file()), None):
            return record_file
    raise UsageError(
        f"'{reference}' is no finished run: give a record file, a run folder, or the hash of a run in {runs} or {root}/records"
    )


def find_folder(reference: str, runs: Path) -> Path:
    """The run folder of a hash, a folder, or a record file inside one; it need not be finished.

    Raises:
        UsageError: nothing is there.
    """
    path = Path(reference)
    candidates = [path.parent if path.name == RECORD and os.path.isfile(path) else path, runs / reference]
    if folder := next((candidate for candidate in candidates if os.path.isfile(candidate / CONFIG)), None):
        return folder
    raise UsageError(f"'{reference}' is no run: give a run folder or the hash of a run in {runs}")


def matching(records: Iterable[Record], config: RunConfig) -> dict[int, Record]:
    """Records of a config on any replicate, by seed; of several of one run, the first."""
    by_seed: dict[int, Record] = {}
    for record in records:
        if record.config.model_copy(update={"seed": config.seed}) == config:
            by_seed.setdefault(record.config.seed, record)
    return {seed: by_seed[seed] for seed in sorted(by_seed)}


def all_records(runs: Path, root: Path, shift: str, mode: str = "offline") -> list[Record]:
    """Records of a shift's protocol: the committed ones, then those of the finished runs in ``runs`` without the damaged.

    Args:
        mode: of the runs; what was predicted online does not compare with what the last weights predict.
    """
    protocol = load_shift(shift)
    records = [read_record(path) for path in sorted(folder_of(root, protocol.name, mode).glob("*.json"))]
    for path in sorted(runs.glob(f"*/{RECORD}")):
        with contextlib.suppress(RunError):  # of another run: that run's business
            records.append(read_record(path))
    ours = (record for record in records if record.config.mode == mode)
    return [record for record in ours if record.config.shift_hash == protocol.hash]  # also of runs cut short


def records_frame(shift: str, root: Path, runs: Path) -> pd.DataFrame:
    """:func:`all_records` of a shift as a table, each run once: where it came from, what was run, scores in percent, cost."""
    return frame_of(all_records(runs, root, resolve("shift", shift)))


def frame_of(records: Iterable[Record]) -> pd.DataFrame:
    """Records as a table, each run once."""
    import pandas as pd  # half a second, for the few who want a table

    rows: dict[str, dict[str, Any]] = {}
    for record in records:
        if record.run in rows:
            continue
        altered: Sequence[str] = ("unknown",)
        with contextlib.suppress(UsageError, RunError):  # its plugin has gone
            altered = alterations(record.config)
        rows[record.run] = {
            "method": record.config.method,
            "title": record.method["title"],
            "design": record.method["design"],
            "setting": record.method["setting"],
            "options": ", ".join(altered),
            "seed": record.config.seed,
            "miou": record.result.miou,
            "pixel_accuracy": record.result.pixel_accuracy,
            "temporal_consistency": record.result.temporal_consistency,
            **record.result.video,
            **{f"iou/{name}": value for name, value in record.result.iou.items()},
            "steps": record.cost.steps,
            "seconds": record.cost.seconds,
            "cpu_seconds": record.cost.cpu_seconds,
            "peak_memory_mb": record.cost.peak_memory_mb,
            "run": record.run,
            "revision": str(record.code["revision"]),
        }
    frame: pd.DataFrame = pd.DataFrame(list(rows.values()))
    return frame
