"""``bench flow compute``: the flow of a split ahead of a run, in shards, by several processes, checked against the frames.

Shards that are there and whole are kept, so the command goes on after it was killed. Who computes a shard and in which order
changes no bit of it: every process works with one thread.
"""

from __future__ import annotations

import contextlib
import io
import json
import multiprocessing
import os
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from bench.core.box import end_with_parent
from bench.core.errors import BadFile, RunError, UsageError, unknown
from bench.core.files import disk_errors, locked, write_atomically
from bench.core.loading import load
from bench.core.progress import Progress, quiet
from bench.core.provenance import versions
from bench.core.registry import flow_names, packed, resolve, unpack
from bench.core.schema import finite
from bench.core.sealed import sealed
from bench.core.workspace import Workspace
from bench.data.clip import FlowBackend
from bench.data.splits import Split, Store, prepare
from bench.shifts.protocol import Shift

from . import base
from ._photometric import UNKNOWN, Check, average, check, verdict
from ._shards import STORES, VERSION, Layout, Note, Precomputed, flow_folder, note_of, shard_file

SPLITS = ("target-train", "target-val", "source-train", "source-val")


def open_split(shift: Shift, split: str, seed: int, workspace: Workspace) -> Split:
    """A split of a shift by ``<role>-<split>``.

    Raises:
        UsageError: there is no such split, or no data root for recorded data.
        RunError: it cannot be prepared.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    role, part = split.split("-")
    return prepare(shift, role, part, seed, workspace)


def backend_of(name: str) -> tuple[FlowBackend, str]:
    """A backend and its identity.

    Raises:
        UsageError: unknown, or one that is not computed, or not set up.
        RunError: its file cannot be loaded, or its weights are not there.
    """
    name = resolve("flow", name)
    if name not in flow_names():
        raise unknown("flow", name, _computed())
    backend, identity = base.backend_of(name), base.identity(name)
    if identity is None:
        raise UsageError(f"Flow '{name}' needs no computing. Available: {', '.join(_computed())}")
    return backend, identity


def _computed() -> list[str]:
    """Backends that can be computed ahead; files that cannot be loaded are passed over."""
    able = []
    for name in flow_names():
        with contextlib.suppress(RunError, UsageError):
            able += [name] if hasattr(base.module_of(name), "identity") else []
    return able


@dataclass(frozen=True)
class Job:
    """A shard to be computed by some process."""

    open: Callable[[], Store]
    backend: str
    folder: Path
    layout: Layout
    shard: int
    skip_bad: bool


def compute(
    split: Split,
    name: str,
    cache: Path,
    *,
    store: str = "float32",
    workers: int | None = None,
    progress: Progress = quiet,
    force: bool = False,
    skip_bad: bool = False,
    per_shard: int | None = None,
) -> dict[str, Any]:
    """Compute, or finish, or find the flow of a split.

    Args:
        name: of the backend.
        store: ``float32`` or ``int16`` (see ``bench.flow._shards``).
        workers: processes; by default one per core, one in all where there is a GPU.
        force: release flow that the frames speak against.
        skip_bad: note clips whose files cannot be read and go on; their flow is zero and nowhere valid.
        per_shard: clips of a shard; by default what makes about 64 MB.

    Returns:
        A summary for JSON: ``folder``, ``wrong`` (None, or what is wrong with the flow) and what was measured. Without
        ``force`` wrong flow is not released to runs.

    Raises:
        UsageError: unknown backend, or one that is not set up.
        RunError: a backend or the disk failed; what is finished is kept.
    """
    if store not in STORES:
        raise unknown("store", store, STORES)
    name = resolve("flow", name)
    _, identity = backend_of(name)
    layout = Layout.of(split.open(), store, per_shard)
    folder = flow_folder(cache, identity, store, split.name)
    with locked(folder):
        with disk_errors(folder):
            if (folder / "manifest.json").is_file() and not _same(folder, layout):
                shutil.rmtree(folder)
            folder.mkdir(parents=True, exist_ok=True)
            for left_over in folder.glob(".*"):  # of a process that was killed: the lock is ours
                left_over.unlink()
            notes = [_finished(folder, layout, n, skip_bad) for n in range(layout.shards)]
        jobs = [Job(split.open, name, folder, layout, n, skip_bad) for n, note in enumerate(notes) if note is None]
        done = layout.clips - sum(len(layout.span(job.shard)) for job in jobs)
        for job, note in zip(jobs, _worked(jobs, workers or default_workers()), strict=True):
            notes[job.shard] = note
            done += len(layout.span(job.shard))
            progress(f"flow of {split.name.rsplit('-', 1)[0]}", done, layout.clips)
        finished = [note for note in notes if note is not None]
        return _conclude(folder, split.name, name, identity, layout, finished, force)


def default_workers() -> int:
    """One process per core, or one in all where the work is the GPU's."""
    return 1 if torch.cuda.is_available() else len(os.sched_getaffinity(0))


def _same(folder: Path, layout: Layout) -> bool:
    try:
        stored = Precomputed(folder)
    except RunError:
        return False
    return stored.layout == layout and stored.version == VERSION


def _finished(folder: Path, layout: Layout, shard: int, skip_bad: bool) -> Note | None:
    """What was noted of a shard, None if it is not there whole, or has bad clips and none may be skipped."""
    note = note_of(folder, layout, shard)
    try:
        if note is None or (note["bad"] and not skip_bad):
            return None
        return (
            note if len([Check(**fields) for fields in _with_nan(note["clips"])]) == len(layout.span(shard)) else None
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _worked(jobs: list[Job], workers: int) -> Iterator[Note]:
    """What is noted of the shards, as they are finished, in order."""
    if workers == 1 or len(jobs) < 2:
        with one_thread():
            yield from map(_compute_shard, jobs)
        return
    context = multiprocessing.get_context("spawn")  # never fork a process that may hold torch's threads
    try:
        with ProcessPoolExecutor(
            min(workers, len(jobs)), mp_context=context, initializer=_begin, initargs=(os.getpid(), packed())
        ) as pool:
            yield from pool.map(_compute_shard, jobs)
    except BrokenProcessPool:
        raise RunError(
            "A process that computes flow was killed, perhaps for memory; run the command again, it goes on (--workers fewer)"
        ) from None


def _begin(parent: int, files: list[dict[str, Any]]) -> None:
    """Set a worker process up: register the parent's plugin files, load its data sets (clips need them), use one thread."""
    end_with_parent(parent)
    unpack(files)
    for file in files:
        if file["kind"] == "dataset":
            load("dataset", file["name"])
    _single_thread()


def _single_thread() -> None:
    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One thread in this process, as in the others: sums over several would differ in their last bits."""
    import cv2

    before = cv2.getNumThreads(), torch.get_num_threads()
    _single_thread()
    try:
        yield
    finally:
        cv2.setNumThreads(before[0])
        torch.set_num_threads(before[1])


def _compute_shard(job: Job) -> Note:
    """Compute a shard and write it: first the rows, then the note that says they are whole."""
    backend, layout = backend_of(job.backend)[0], job.layout
    clips = job.open()
    rows, checks, bad, seconds = [], [], {}, 0.0
    expected = (layout.pairs, 2, layout.height, layout.width)
    for index in layout.span(job.shard):
        try:
            clip = clips[index]
            began = time.perf_counter()
            flow, valid = backend(clip, clips, index)
            seconds += time.perf_counter() - began
        except BadFile as error:
            if not job.skip_bad:
                raise
            bad[clips.key(index)] = str(error)
            rows.append(np.zeros(layout.row, np.uint8))  # a run that skips bad clips does not come here
            checks.append(UNKNOWN)
            continue
        if flow.shape != expected:
            raise RunError(f"Flow of clip {clips.key(index)} has shape {flow.shape}, its frames need {expected}")
        rows.append(layout.encode(flow, valid))
        checks.append(check(clip.frames, flow, valid))
    buffer = io.BytesIO()
    np.save(buffer, np.stack(rows), allow_pickle=False)
    data, path = buffer.getbuffer(), shard_file(job.folder, job.shard)
    write_atomically(path, data)
    note: Note = {
        "layout": asdict(layout),
        "bytes": len(data),
        "crc32": zlib.crc32(data),
        "seconds": round(seconds, 3),
        "clips": [_without_nan(asdict(clip_check)) for clip_check in checks],
        "bad": bad,
    }
    write_atomically(path.with_suffix(".json"), json.dumps(sealed(note), indent=1, sort_keys=True) + "\n")
    return note


def _conclude(
    folder: Path, split: str, name: str, identity: str, layout: Layout, notes: list[Note], force: bool
) -> dict[str, Any]:
    """The summary; the manifest too if the flow is good."""
    checks = [Check(**fields) for note in notes for fields in _with_nan(note["clips"])]
    mean, seconds = average(checks), sum(note["seconds"] for note in notes)
    wrong = verdict(checks)
    pairs = layout.clips * layout.pairs
    summary = {
        "folder": str(folder),
        "split": split,
        "backend": name,
        "identity": identity,
        "store": layout.store,
        "clips": layout.clips,
        "pairs": pairs,
        "size": [layout.height, layout.width],
        "shards": layout.shards,
        "bytes": sum(note["bytes"] for note in notes),
        "pairs_per_second_of_a_worker": round(pairs / seconds, 3) if seconds else None,
        "photometric_error": _without_nan({"flow": mean.moved, "no motion": mean.still, "negated": mean.negated}),
        "valid_share": finite(mean.valid),
        "mean_length_px": finite(mean.length),
        "bad": {key: error for note in notes for key, error in note["bad"].items()},
        "wrong": wrong,
    }
    if wrong is None or force:
        manifest = {
            "version": VERSION,
            "backend": name,
            "identity": identity,
            "layout": asdict(layout),
            "versions": versions(),
            "summary": {key: value for key, value in summary.items() if key != "folder"},
        }
        write_atomically(folder / "manifest.json", json.dumps(sealed(manifest), indent=1, sort_keys=True) + "\n")
    else:
        (folder / "manifest.json").unlink(missing_ok=True)
    return summary


def peek(folder: Path, layout: Layout, index: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Flow and validity of a clip, released or not."""
    shard, row = divmod(index, layout.per_shard)
    return layout.decode(np.load(shard_file(folder, shard), mmap_mode="r", allow_pickle=False)[row])


def _without_nan(values: dict[str, float]) -> dict[str, float | None]:
    return {key: finite(value) for key, value in values.items()}


def _with_nan(clips: list[dict[str, float | None]]) -> list[dict[str, float]]:
    return [{key: float("nan") if value is None else value for key, value in clip.items()} for clip in clips]
