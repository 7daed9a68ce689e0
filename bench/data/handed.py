"""Descriptions of a split's clips, as JSON can hold them, from which another process opens the clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from .datasets import Item, dataset
from .datasets.frames import Frames
from .reading import Size
from .recorded import VideoStore
from .rendered import ClipStore
from .splits import Split, Store


@dataclass(frozen=True)
class Rendered:
    """What another process needs to open a :class:`ClipStore`."""

    folder: Path
    earlier: Path | None

    def open(self) -> Store:
        """The clips."""
        return ClipStore(self.folder, self.earlier)


@dataclass(frozen=True)
class Recorded:
    """What another process needs to open a :class:`VideoStore`: of a data set by its name, or of one's own footage.

    Attributes:
        ids: train id by raw id, for all of 0..255.
    """

    root: Path
    dataset: str | Frames
    items: tuple[Item, ...]
    ids: tuple[int, ...] | None
    frame_size: Size
    label_size: Size | None
    native: Size | None

    def open(self) -> VideoStore:
        """The clips."""
        data_set = dataset(self.dataset) if isinstance(self.dataset, str) else self.dataset
        ids = None if self.ids is None else dict(enumerate(self.ids))
        return VideoStore(self.root, data_set, self.items, ids, self.frame_size, self.label_size, self.native)


@dataclass(frozen=True)
class HandedSplit:
    """A :class:`Split` without its identity, which says the seed of its worlds."""

    name: str
    clips: Rendered | Recorded

    def split(self) -> Split:
        """The split, in the other process."""
        return Split(self.name, {}, self.clips.open)


def hand_store(store: VideoStore) -> Recorded:
    """Recorded clips for another process."""
    data_set = store.dataset if isinstance(store.dataset, Frames) else store.dataset.name
    ids: Sequence[int] | None = None if store.ids is None else store.ids.tolist()
    sizes = store.frame_size, store.label_size, store._native
    return Recorded(store.root, data_set, store.items, None if ids is None else tuple(ids), *sizes)


def hand_split(split: Split) -> HandedSplit:
    """A split for another process."""
    store = split.open()
    assert isinstance(store, (ClipStore, VideoStore)), f"clips of {split.name} cannot be handed on"
    clips = Rendered(store.folder, store.earlier) if isinstance(store, ClipStore) else hand_store(store)
    return HandedSplit(split.name, clips)
