"""Flow that was computed ahead of a run: what lies on disk, and a backend that reads it.

    <cache>/flow/<identity>/<name of the split's folder>/00000.npy  00000.json  ...  manifest.json

A shard holds the flow of consecutive clips: one row of bytes per clip, its flow ``(T-1, 2, H, W)`` in C order and then its
validity, eight pixels a byte. One file is one shard, so a shard is there whole or not at all; a row is read without the
rest. The JSON beside it has its size, CRC-32 and each clip's photometric check, and is written after it; the manifest is
written when all are there and the flow has passed its check. Only then is it used, each shard after a look at its CRC-32.

Flow is kept as ``float32``, bit by bit what the backend gave: a run has the same numbers with and without precomputed flow.
``int16`` keeps sixty-fourths of a pixel, half the disk: off by at most 1/128 pixel, a hundredth of what separates good
estimators; what is longer than 512 pixels becomes invalid. (float16 would be off by 1/16 pixel at 128 pixels.)

The split's folder has its name from the clips (``target-train-<hash>``), so the guard in ``bench.core.access`` holds for their
flow as well.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import BadFile, RunError, UsageError
from bench.core.sealed import crc_of, load_json, unsealed
from bench.data.clip import Clip, Clips, FlowBackend

from .base import identity, module_of

VERSION = 1
STORES = ("float32", "int16")
QUANTUM = 64
"""Steps per pixel of ``int16``."""
SHARD_BYTES = 1 << 26
MOST_CLIPS = 64


@dataclass(frozen=True)
class Layout:
    """How the flow of a split lies in shards."""

    clips: int
    pairs: int
    height: int
    width: int
    store: str
    per_shard: int

    @classmethod
    def of(cls, clips: Clips, store: str, per_shard: int | None = None) -> Layout:
        """The layout for some clips; by default a shard has about 64 MB."""
        first = _first_frames(clips)
        layout = cls(len(clips), len(first) - 1, first.shape[2], first.shape[3], store, 1)
        return replace(layout, per_shard=per_shard or max(1, min(MOST_CLIPS, SHARD_BYTES // layout.row)))

    @property
    def pixels(self) -> int:
        return self.pairs * self.height * self.width

    @property
    def row(self) -> int:
        """Bytes of a clip."""
        return 2 * self.pixels * (4 if self.store == "float32" else 2) + -(-self.pixels // 8)

    @property
    def shards(self) -> int:
        return -(-self.clips // self.per_shard)

    def span(self, shard: int) -> range:
        """Clips of a shard."""
        return range(shard * self.per_shard, min((shard + 1) * self.per_shard, self.clips))

    def encode(self, flow: NDArray[np.float32], valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
        """A clip's row."""
        if self.store == "int16":
            steps = np.rint(flow.astype(np.float64) * QUANTUM)
            fits: NDArray[np.bool_] = np.all(np.abs(steps) <= np.iinfo(np.int16).max, axis=1)
            valid = np.asarray(valid & fits)
            numbers = np.where(fits[:, None], steps, 0).astype("<i2").tobytes()
        else:
            numbers = flow.astype("<f4").tobytes()
        return np.concatenate([np.frombuffer(numbers, np.uint8), np.packbits(valid)])

    def decode(self, row: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Flow and validity of a row."""
        bits = -(-self.pixels // 8)
        numbers = np.array(row[:-bits]).view("<i2" if self.store == "int16" else "<f4")
        flow = numbers.reshape(self.pairs, 2, self.height, self.width).astype(np.float32)
        if self.store == "int16":
            flow /= QUANTUM
        valid = np.unpackbits(row[-bits:], count=self.pixels).astype(np.bool_)
        return flow, valid.reshape(self.pairs, self.height, self.width)


def _first_frames(clips: Clips) -> NDArray[np.uint8]:
    """Frames of the first clip that can be read.

    Raises:
        BadFile: the first clip's, if none can.
    """
    first: BadFile | None = None
    for index in range(len(clips)):
        try:
            return clips[index].frames
        except BadFile as error:
            first = first or error
    raise first or RunError("A split without clips has no flow")


def shard_file(folder: Path, shard: int) -> Path:
    """Rows of a shard; its JSON has the same stem."""
    return folder / f"{shard:05d}.npy"


def flow_folder(cache: Path, identity: str, store: str, split: str) -> Path:
    """Where the flow of a split is kept."""
    return cache / "flow" / (identity if store == "float32" else f"{identity}-{store}") / split


class Precomputed:
    """A backend that reads what ``bench flow compute`` wrote.

    Raises:
        RunError: the manifest is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._looked_at: set[int] = set()
        path = folder / "manifest.json"
        try:
            manifest = unsealed(load_json(path.read_text(encoding="utf-8")))
            self.version: int = manifest["version"]
            self.backend, self.identity = str(manifest["backend"]), str(manifest["identity"])
            self.layout = layout_of(manifest["layout"])
        except (OSError, ValueError, KeyError, TypeError):
            raise self._damaged(path) from None

    @staticmethod
    def _damaged(path: Path) -> RunError:
        return RunError(f"Precomputed flow {path} is damaged; delete its folder and run `bench flow compute` again")

    def fits(self, clips: Clips) -> bool:
        """True if the clips have the number and size that the flow was computed for."""
        return Layout.of(clips, self.layout.store, self.layout.per_shard) == self.layout

    def __call__(self, clip: Clip, clips: Clips, index: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        if not 0 <= index < self.layout.clips:
            raise IndexError(f"clip {index} of {self.layout.clips} in {self.folder}")
        shard, row = divmod(index, self.layout.per_shard)
        path = shard_file(self.folder, shard)
        if shard not in self._looked_at:  # once: what is read later comes from the same pages of memory
            if note_of(self.folder, self.layout, shard) is None:
                raise self._damaged(path)
            self._looked_at.add(shard)
        try:
            rows = np.load(path, mmap_mode="r", allow_pickle=False)
            return self.layout.decode(rows[row])
        except (OSError, ValueError, EOFError, IndexError, TypeError):
            raise self._damaged(path) from None


Note = dict[str, Any]
"""What stands beside a shard: its layout, size, CRC-32, the seconds it took, and each clip's photometric check."""


def layout_of(fields: Any) -> Layout:
    """A layout as it was noted.

    Raises:
        ValueError, TypeError: it is none.
    """
    layout = Layout(**fields)
    numbers = (layout.clips, layout.pairs, layout.height, layout.width, layout.per_shard)
    if not all(isinstance(number, int) and number > 0 for number in numbers) or layout.store not in STORES:
        raise ValueError("no layout of shards")
    return layout


def note_of(folder: Path, layout: Layout, shard: int) -> Note | None:
    """What was noted of a shard of that layout; None if it is not there as it was written."""
    path = shard_file(folder, shard)
    try:
        note = unsealed(load_json(path.with_suffix(".json").read_text(encoding="utf-8")))
        unchanged = note["layout"] == asdict(layout) and [note["bytes"], note["crc32"]] == crc_of(path)
        return note if unchanged else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def found(name: str, split: str, cache: Path) -> list[Precomputed]:
    """Everything that was computed for a split with a backend, lossless first."""
    paths = sorted((cache / "flow").glob(f"*/{split}/manifest.json"))
    stored = [Precomputed(path.parent) for path in paths]
    return sorted(
        (p for p in stored if p.backend == name and p.version == VERSION), key=lambda p: STORES.index(p.layout.store)
    )


def with_precomputed(backend: FlowBackend, name: str, clips: Clips, split: str, cache: Path) -> FlowBackend:
    """The backend that a run uses: precomputed flow if there is any for these clips, else ``backend`` itself.

    Args:
        name: of the backend, ``raft``.
        split: name of the clips' folder, ``target-train-<hash>``.

    Returns:
        ``backend``, or a ``Precomputed`` with ``identity``, for the record.

    Raises:
        RunError: flow of several weights is there and nothing says which; or there is none and it cannot be computed during
            a run; or it belongs to other clips.
    """
    module = module_of(name)
    if not hasattr(module, "identity"):
        return backend
    candidates = found(name, split, cache)
    try:
        flow_identity = identity(name)
    except (RunError, UsageError):  # not configured here, but what was computed elsewhere may be at hand
        flow_identity = None
    candidates = [p for p in candidates if flow_identity in (None, p.identity)]
    kinds = sorted({p.identity for p in candidates})
    if len(kinds) > 1:
        raise RunError(
            f"Several flows of '{name}' are there for {split}: {', '.join(kinds)}; set the backend's variables"
        )
    if candidates:
        chosen = candidates[0]
        if not chosen.fits(clips):
            raise RunError(f"Precomputed flow {chosen.folder} belongs to other clips; delete it and compute it again")
        return chosen
    if getattr(module, "AHEAD", False):
        raise RunError(
            f"Flow of '{name}' for {split} is not there, and a run cannot compute it: bench flow compute first"
        )
    return backend
