"""Recorded data and optical flow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .place import Place, working
from .run import load_shift

if TYPE_CHECKING:
    from typing_extensions import Unpack


def data_check(
    name: str,
    root: str | Path,
    split: str | None = None,
    frames: int = 2,
    partial: bool = False,
    cache: str | Path | None = None,
    workers: int = 0,
) -> list[Any]:
    """Decode every file of a data set, a shift or footage (``frames``); a :class:`bench.data.check.Report` per split. Pictures
    and a model file that a shift knows by checksums are compared with them.

    Args:
        root: folder of the data sets, or the footage.
        partial: accept fewer clips or smaller pictures than published.
    """
    from bench.core.progress import ProgressDisplay
    from bench.core.workspace import Workspace, default_cache
    from bench.data.check import check_split, targets
    from bench.data.check_own import check_shift, is_own
    from bench.runs.config import shift_or_dataset

    reports, shift_or_name = [], shift_or_dataset(name)
    with ProgressDisplay() as progress:
        if not isinstance(shift_or_name, str) and is_own(shift_or_name):
            workspace = Workspace(cache=Path(cache or default_cache()), data_root=Path(root), progress=progress)
            return check_shift(shift_or_name, split, workspace, frames, partial)
        for data, folder, split_name in targets(shift_or_name, split, Path(root), Path(cache or default_cache())):

            def show(step: str, done: int, total: int, split_name: str = split_name) -> None:
                progress(f"{step} {split_name}", done, total)

            classes = None if isinstance(shift_or_name, str) else shift_or_name.classes
            reports.append(check_split(data, folder, split_name, frames, workers or None, partial, show, classes))
    return reports


def data_index(
    name: str, root: str | Path, split: str | None = None, frames: int = 2, cache: str | Path | None = None
) -> list[dict[str, Any]]:
    """List the clips of a shift or data set and keep the list in the cache, for when the disk is away."""
    from bench.core.workspace import default_cache
    from bench.data.check import targets
    from bench.data.index import build_index, index_file, store_index
    from bench.runs.config import shift_or_dataset

    cache_folder, entries = Path(cache or default_cache()), []
    for data, folder, split_name in targets(shift_or_dataset(name), split, Path(root), cache_folder):
        index, file = (
            build_index(data, folder, split_name, frames),
            index_file(cache_folder, data, folder, split_name, frames),
        )
        store_index(index, file)
        entries.append(index.model_dump(include={"dataset", "split", "published"}))
        entries[-1] |= {"clips": index.found, "hash": index.hash, "file": str(file)}
    return entries


def data_fixture(out: str | Path, small: bool = False) -> dict[str, Any]:
    """Write small rendered stand-ins for the recorded data sets, in their exact layouts; their :class:`Tree` by name."""
    from bench.core.errors import UsageError
    from bench.core.files import disk_errors
    from bench.data.fixtures import write_all

    root = Path(out)
    if root.exists() and not root.is_dir():
        raise UsageError(f"--out {root} is not a folder")
    with disk_errors(root):
        return dict(write_all(root, 8 if small else 1))


def flow_compute(
    shift: str,
    backend: str,
    split: str | Sequence[str] = ("target-train", "target-val"),
    seed: int = 0,
    *,
    store: str = "float32",
    out: str | Path | None = None,
    skip_bad: bool = False,
    force: bool = False,
    **place: Unpack[Place],
) -> list[dict[str, Any]]:
    """Compute a split's flow into the cache, where runs find it, and check it against the frames; a summary per split.

    Args:
        backend: ``raft``, ``raft_small``, ``dis``, ``mmflow`` or ``files``.
        store: ``float32``; or ``int16``: half the disk, off by up to 1/128 pixel.
        out: folder for summary and picture; by default beside the flow.
        force: release flow although the frames speak against it.
        place: ``workers`` are processes here; 0 = one per core, or one where there is a GPU.
    """
    from bench.flow.reports import run_compute

    splits = [split] if isinstance(split, str) else list(split)
    workers, target = place.pop("workers", 0), Path(out) if out else None
    with working(place, force=force, skip_bad=skip_bad) as workspace:
        return run_compute(load_shift(shift), backend, splits, seed, workspace, target, store, workers or None)


def flow_compare(
    shift: str,
    backend: str | Sequence[str] = ("dis", "raft", "raft_small"),
    clips: int = 32,
    split: str = "target-train",
    seed: int = 0,
    *,
    out: str | Path | None = None,
    random_weights: bool = False,
    **place: Unpack[Place],
) -> dict[str, Any]:
    """Measure backends against exact flow: end-point error, outliers, validity, photometric error, speed of one thread.

    Args:
        out: table to write, a .md; .json and .png are written beside it.
        random_weights: where RAFT has no weights, time it with random ones.
    """
    from bench.flow.compare import BOUNDS
    from bench.flow.reports import run_compare

    backends = [backend] if isinstance(backend, str) else backend
    names, target = [*BOUNDS, *(name for name in backends if name not in BOUNDS)], Path(out) if out else None
    with working(place) as workspace:
        return run_compare(load_shift(shift), names, split, clips, seed, workspace, target, random_weights)
