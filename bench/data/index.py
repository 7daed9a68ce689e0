"""The list of a split's clips: made from the names on the disk, kept in the cache, and identified by its content.

The stored list is used where the disk is away (a report on another machine, an unplugged drive). Its hash is made of names
relative to the data set's root, so it is the same wherever the data lies.
"""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from bench.core.errors import RunError
from bench.core.files import write_atomically
from bench.core.loading import source_hash
from bench.core.schema import Model, canonical, hash_of, read_json
from bench.core.sealed import sealed

from .datasets import Dataset, Item
from .reading import Size, native_size


class Index(Model):
    """Clips of a split.

    Attributes:
        frames: per clip.
        published: number of clips that are published for it; None if there is none.
        size: ``(H, W)`` of the picture files, by nine of them spread over the split; None if none could be read.
    """

    dataset: str
    split: str
    frames: int
    published: int | None
    size: Size | None
    items: tuple[Item, ...]

    @property
    def found(self) -> int:
        """Number of clips."""
        return len(self.items)

    @cached_property
    def hash(self) -> str:
        """Of what the clips are: data set, keys, sequences and frames by relative name. Labels are not part of it, so that a
        target is the same with and without them."""
        clips = [[item.key, item.sequence, *item.frames] for item in self.items]
        return hash_of({"dataset": self.dataset, "split": self.split, "frames": self.frames, "clips": clips})


def build_index(dataset: Dataset, root: Path, split: str, frames: int = 2) -> Index:
    """List a split from the disk. Names are read, and the headers of nine pictures.

    Raises:
        UsageError: the data set has no such split.
        RunError: nothing is there.
    """
    items = tuple(dataset.items(root, split, frames))
    return Index(
        dataset=dataset.name,
        split=split,
        frames=frames,
        published=dataset.counts.get(split),
        size=native_size([root / item.frames[-1] for item in items]),
        items=items,
    )


def index_file(cache: Path, dataset: Dataset, root: Path, split: str, frames: int) -> Path:
    """Where the list of this root is kept."""
    root_hash = hash_of(str(root.resolve()))
    plugin = source_hash("dataset", dataset.name)
    name = f"{dataset.name}-{plugin}" if plugin else dataset.name
    return cache / "indexes" / f"{name}-{split}-{frames}-{root_hash}.json"


def store_index(index: Index, file: Path) -> None:
    """Write it, whole or not at all.

    Raises:
        RunError: the cache cannot be written.
    """
    write_atomically(file, canonical(sealed(index.model_dump(mode="json"))))


def read_index(file: Path) -> Index:
    """Read a stored list.

    Raises:
        RunError: missing or damaged.
    """
    return read_json(file, Index, "Index", "delete it and run `bench data index` again")


def prepare_index(dataset: Dataset, root: Path, split: str, frames: int, cache: Path) -> Index:
    """The list of a split: from the disk if that is there (and kept for later), else the one that was kept.

    Raises:
        UsageError: the data set has no such split.
        RunError: neither is there.
    """
    file = index_file(cache, dataset, root, split, frames)
    try:
        index = build_index(dataset, root, split, frames)
    except RunError:
        if not file.is_file():
            raise
        return read_index(file)
    store_index(index, file)
    return index
