"""Rendered clips on disk: one folder per split, named by the hash of everything it depends on.

A folder holds ``frames.npy flow.npy valid.npy label.npy`` and ``manifest.json`` with the size and CRC-32 of each; one of
earlier labels, which is made for methods that ask for them, holds ``label.npy`` alone. It is
written under a temporary name and moved into place whole. A half-written, damaged or foreign folder does not match its
manifest; it is deleted and rendered again. Two processes that need the same split do not render it twice (file lock).
"""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from bench.core.access import RENDER_EVENT
from bench.core.box import end_with_parent
from bench.core.files import clear_left_over, disk_errors, locked, whole
from bench.core.progress import Progress, quiet
from bench.core.provenance import versions
from bench.core.schema import hash_of
from bench.core.sealed import crc_of, load_json
from bench.core.seeding import seed_for
from bench.shifts.protocol import Data

from .clip import Clip, LabelledClip

if TYPE_CHECKING:
    from .ministreet import DomainSpec

ARRAYS = ("frames", "flow", "valid", "label")
EARLIER = "earlier labels"
"""What the identity of a folder with labels of the frames before t is marked with."""


class ClipStore:
    """Clips of one split, memory-mapped. Labels are opened only by :meth:`labelled` and :meth:`labels`."""

    carries_flow = True

    def __init__(self, folder: Path, earlier: Path | None = None) -> None:
        self.folder, self.earlier = folder, earlier
        self.frames = np.load(folder / "frames.npy", mmap_mode="r")
        self.flow = np.load(folder / "flow.npy", mmap_mode="r")
        self.valid = np.load(folder / "valid.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Clip:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)} in {self.folder.name}")
        frames, flow, valid = (np.array(array[index]) for array in (self.frames, self.flow, self.valid))
        return Clip(frames, flow, valid, self.key(index))

    def key(self, index: int) -> str:
        """Name of a clip, unique over all splits."""
        return f"{self.folder.name}/{index % len(self):05d}"

    def sequence(self, index: int) -> str:
        """Every clip is a video of its own."""
        return f"{index % len(self):05d}"

    def follows(self, index: int) -> bool:
        """Never: every clip is a video of its own."""
        return False

    def labels(self) -> npt.NDArray[np.uint8]:
        """All labels ``(clips, H, W)``, memory-mapped; refused where the stage does not grant them."""
        return np.load(self.folder / "label.npy", mmap_mode="r")  # type: ignore[no-any-return]

    def previous_labels(self) -> npt.NDArray[np.uint8]:
        """Labels of the frames before t, ``(clips, T-1, H, W)``, of a split that was prepared with them; refused likewise."""
        assert self.earlier is not None, "the split was prepared without labels of earlier frames"
        return np.load(self.earlier / "label.npy", mmap_mode="r")  # type: ignore[no-any-return]

    def labelled(self, index: int) -> LabelledClip:
        """A clip with its label; refused where the stage does not grant it."""
        clip = self[index]
        return LabelledClip(clip.frames, clip.flow, clip.valid, clip.key, np.array(self.labels()[index]))


RENDERED_WITH = {"numpy": "2.4", "opencv-python-headless": "5.0"}
"""Libraries that pixels depend on (OpenCV 4.11 with numpy 1.26 differs in 204 of 196,608 values), as the committed records were
rendered with."""


def libraries() -> dict[str, str]:
    """Installed versions of the libraries of :data:`RENDERED_WITH`, major and minor."""
    return {name: ".".join(versions()[name].split(".")[:2]) for name in RENDERED_WITH}


def split_identity(data: Data, role: str, split: str, replicate: int) -> dict[str, Any]:
    """Everything that the clips of a split depend on."""
    from .ministreet import VERSION, spec_json

    side = data.source if role == "source" else data.target
    installed = libraries()
    return {
        **({} if installed == RENDERED_WITH else {"rendered with": installed}),
        "kind": data.kind,
        "version": VERSION,
        "spec": json.loads(spec_json(side)),
        "domain": side.domain,
        "world": seed_for(replicate, "world", data.worlds or data.family, role, split),
        "clips": getattr(side, split),
        "size": [data.height, data.width],
        "frames": data.frames,
    }


def prepare_split(
    data: Data,
    role: str,
    split: str,
    replicate: int,
    cache: Path,
    progress: Progress = quiet,
    workers: int | None = None,
    earlier: bool = False,
) -> Path:
    """Folder of a split, rendered now if it is not there whole; with ``earlier`` that of the labels of its frames before t, which
    is another folder, so that the clips' own stays as it is.

    Raises:
        RunError: the cache cannot be written, or another process holds it for more than ten minutes.
    """
    from .ministreet import get_domain

    identity = split_identity(data, role, split, replicate) | ({"holds": EARLIER} if earlier else {})
    folder = cache / "clips" / f"{role}-{split}-{hash_of(identity)}"
    if is_whole(folder):
        clear_left_over(folder)
        return folder
    with locked(folder):
        if is_whole(folder):
            return folder
        with disk_errors(folder):
            if folder.exists():
                shutil.rmtree(folder)  # half-written, damaged or foreign
            for left_over in folder.parent.glob(f".{folder.name}.*"):  # of a process that was killed: the lock is ours
                shutil.rmtree(left_over, ignore_errors=True)
        with whole(folder) as scratch:
            scratch.mkdir()
            _render_into(
                scratch, get_domain(getattr(data, role)), identity, f"render {role} {split}", progress, workers
            )
    return folder


Job = tuple["DomainSpec", int, int, int, int, int]


def _render_one(job: Job) -> LabelledClip:
    from .ministreet import render_clip

    domain, world, index, height, width, frames = job
    return render_clip(domain, world, index, height, width, frames)


@dataclass(frozen=True)
class EarlierLabels:
    """Labels of a clip's frames before t, uint8 ``(T-1, H, W)``, oldest first."""

    label: npt.NDArray[np.uint8]


Rendered = LabelledClip | EarlierLabels


def _render_earlier(job: Job) -> EarlierLabels:
    from .ministreet import render_labels

    domain, world, index, height, width, frames = job
    return EarlierLabels(render_labels(domain, world, index, height, width, frames)[:-1])


def arrays_of(identity: dict[str, Any]) -> tuple[str, ...]:
    """Names of the arrays in the folder of an identity."""
    return ("label",) if identity.get("holds") == EARLIER else ARRAYS


def _render_into(
    folder: Path, domain: DomainSpec, identity: dict[str, Any], task: str, progress: Progress, workers: int | None
) -> None:
    sys.audit(RENDER_EVENT)  # here too: the clips of a large split are rendered in processes that no stage watches
    total, (height, width), frames = identity["clips"], identity["size"], identity["frames"]
    jobs = [(domain, identity["world"], i, height, width, frames) for i in range(total)]
    shapes = {
        "frames": ((total, frames, 3, height, width), np.uint8),
        "flow": ((total, frames - 1, 2, height, width), np.float32),
        "valid": ((total, frames - 1, height, width), np.bool_),
        "label": ((total, height, width), np.uint8),
    }
    names = arrays_of(identity)
    render: Callable[[Job], Rendered] = _render_one
    if names != ARRAYS:
        shapes = {"label": ((total, frames - 1, height, width), np.uint8)}
        render, task = _render_earlier, f"{task}, {EARLIER}"
    arrays = {name: _new_array(folder / f"{name}.npy", shape, dtype) for name, (shape, dtype) in shapes.items()}
    for index, clip in enumerate(_rendered(render, jobs, workers or len(os.sched_getaffinity(0)))):
        for name in names:
            arrays[name][index] = getattr(clip, name)
        progress(task, index + 1, total)
    for array in arrays.values():
        array.flush()
    manifest = {"identity": identity, "files": {f"{n}.npy": crc_of(folder / f"{n}.npy") for n in names}}
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1), encoding="utf-8")


def _new_array(path: Path, shape: tuple[int, ...], dtype: npt.DTypeLike) -> np.memmap[Any, np.dtype[Any]]:
    """A memory-mapped array to be filled, its space reserved: on a full disk a store into the map would be a bus error."""
    array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL):  # a file system that cannot reserve space
                    raise
    return array


def _rendered(render: Callable[[Job], Rendered], jobs: list[Job], workers: int) -> Iterator[Rendered]:
    if workers == 1 or len(jobs) < 32:  # starting processes costs more than it saves
        yield from map(render, jobs)
        return
    context = multiprocessing.get_context("spawn")  # never fork a process that may hold torch's threads
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_begin, initargs=(os.getpid(),)) as pool:
        yield from pool.map(render, jobs, chunksize=8)


def _begin(parent: int) -> None:
    import cv2

    end_with_parent(parent)
    cv2.setNumThreads(1)


def is_whole(folder: Path) -> bool:
    """True if the folder's files are what its manifest says and its name fits what was rendered."""
    try:
        manifest = load_json((folder / "manifest.json").read_text(encoding="utf-8"))
        if not folder.name.endswith(hash_of(manifest["identity"])):
            return False
        return all(crc_of(folder / name) == crc for name, crc in manifest["files"].items()) and set(
            manifest["files"]
        ) == {f"{n}.npy" for n in arrays_of(manifest["identity"])}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
