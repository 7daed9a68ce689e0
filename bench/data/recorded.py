"""Clips of a real data set, read from their own files when they are asked for; the interface of `bench.data.rendered.ClipStore`.

No flow comes with such clips: it is zero and nowhere valid, and ``carries_flow`` says so. A file that cannot be used raises
`BadFile`, one line with its path; whether a run stops at it is the caller's policy.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bench.core.errors import BadFile
from bench.core.progress import say

from .clip import Clip, LabelledClip
from .datasets import Dataset, Item
from .datasets.frames import Frames
from .reading import AS_THEY_ARE, Ids, Size, lookup, native_size, picture_size, to_train


class Labels(Sequence[npt.NDArray[np.uint8]]):
    """Label maps of a store by number, as ``read`` gives them."""

    def __init__(self, store: VideoStore, read: Callable[[int], npt.NDArray[np.uint8]]) -> None:
        self.store, self.read = store, read

    def __len__(self) -> int:
        return len(self.store)

    def __getitem__(self, index: int) -> npt.NDArray[np.uint8]:  # type: ignore[override]
        return self.read(index)


def unnamed(data: Dataset, ids: Sequence[int]) -> str:
    """Raw ids that a data set has no name for, in words."""
    if isinstance(data, Frames):
        if data.coloured:
            return "has colours that colors: does not name"
        return f"has {'ids' if len(ids) > 1 else 'id'} {', '.join(map(str, ids))}, which ids: does not name"
    return f"has {'ids' if len(ids) > 1 else 'id'} {', '.join(map(str, ids))}, which {data.name} does not have"


class VideoStore:
    """Clips of one split.

    Args:
        root: of the data set; the items' paths are relative to it.
        dataset: says how files are read.
        items: the clips.
        ids: raw label id to train id; 255 for what it lacks. None where there are no labels.
        frame_size: ``(H, W)`` of the frames that clips hold; files are resized to it (bicubic).
        label_size: ``(H, W)`` of what `label` gives (nearest neighbour); None leaves labels at their own size.
        native: size that the files must have. By default what most of nine files spread over the items have; where a data
            set has no fixed size, the size of a clip's own frame t.
    """

    carries_flow = False

    def __init__(
        self,
        root: Path,
        dataset: Dataset,
        items: Sequence[Item],
        ids: Ids | None,
        frame_size: Size,
        label_size: Size | None = None,
        native: Size | None = None,
    ) -> None:
        self.root, self.dataset, self.items = Path(root), dataset, tuple(items)
        self.ids = None if ids is None else lookup(ids)
        self.frame_size, self.label_size = frame_size, label_size
        self._native = native
        self._sizes: dict[str, Size] = {}
        self._unnamed = np.array([raw not in dataset.names for raw in range(256)], np.uint8)

    def __len__(self) -> int:
        return len(self.items)

    def _item(self, index: int) -> Item:
        if not -len(self) <= index < len(self):
            raise IndexError(f"clip {index} of {len(self)} in {self.dataset.name}")
        return self.items[index]

    def _expected(self, item: Item) -> Size | None:
        if self.dataset.raw_size is None:
            return self._size(item)
        if self._native is None:
            self._native = native_size([self.root / clip.frames[-1] for clip in self.items])
        return self._native

    def _size(self, item: Item) -> Size:
        path = item.frames[-1]
        if path not in self._sizes:
            self._sizes[path] = picture_size(self.root / path)
        return self._sizes[path]

    def key(self, index: int) -> str:
        """Name of the clip in its data set."""
        return self._item(index).key

    def sequence(self, index: int) -> str:
        """The video that the clip belongs to."""
        return self._item(index).sequence

    def follows(self, index: int) -> bool:
        """Whether a clip's frame t comes right after that of the clip before it, in the same video."""
        if index == 0:
            return False
        previous, current = self._item(index - 1), self._item(index)
        return previous.sequence == current.sequence and previous.frames[-1] == current.frames[-2]

    def picture_size(self, index: int) -> Size:
        """``(H, W)`` of the file of a clip's current frame.

        Raises:
            BadFile: it cannot be used.
        """
        return self._size(self._item(index))

    def frames(self, index: int) -> npt.NDArray[np.uint8]:
        """Frames ``(T, 3, H, W)``, oldest first.

        Raises:
            BadFile: one of them cannot be used.
        """
        item = self._item(index)
        expect = self._expected(item)
        out = np.empty((len(item.frames), 3, *self.frame_size), np.uint8)
        for t, path in enumerate(item.frames):
            if t and path == item.frames[t - 1]:  # before the start of a video of one's own
                out[t] = out[t - 1]
            else:
                out[t] = self.dataset.read_frame(self.root / path, self.frame_size, expect)
        return out

    def __getitem__(self, index: int) -> Clip:
        item, frames = self._item(index), self.frames(index)
        pairs, (height, width) = len(frames) - 1, self.frame_size
        flow = np.zeros((pairs, 2, height, width), np.float32)
        return Clip(frames, flow, np.zeros((pairs, height, width), np.bool_), item.key)

    def has_label(self, index: int) -> bool:
        """Whether the data set has a place for this clip's label (a video of one's own may have none)."""
        return self.ids is not None and self._item(index).label is not None

    def label(self, index: int) -> npt.NDArray[np.uint8]:
        """Train ids of frame t at ``label_size``; refused where the stage does not grant it.

        Raises:
            BadFile: there is no label, or it cannot be used.
            AccessError: labels are closed in this stage.
        """
        return self._label(index, self.label_size)

    def previous_label(self, index: int) -> npt.NDArray[np.uint8]:
        """Train ids of the frames before t at ``label_size``, ``(T-1, H, W)``, oldest first; refused likewise.

        Raises:
            BadFile: the data set has none, or one of them cannot be used.
            AccessError: labels are closed in this stage.
        """
        earlier = self._item(index).previous_labels
        if not earlier:
            raise BadFile(self.root / self._item(index).frames[-2], "missing", "has no label")
        return np.stack([self._label(index, self.label_size, path) for path in earlier])

    def _label(self, index: int, size: Size | None, path: str | None = None) -> npt.NDArray[np.uint8]:
        item = self._item(index)
        path = path or item.label
        if self.ids is None or path is None:
            raise BadFile(self.root / item.frames[-1], "missing", "has no label")
        file = self.root / path
        raw = self.dataset.read_label(file, AS_THEY_ARE, size, self._expected(item))
        if to_train(raw, self._unnamed).any():  # said once for each id
            new_ids = [int(raw_id) for raw_id in np.unique(raw) if self._unnamed[raw_id]]
            self._unnamed[new_ids] = 0
            say(f"{file}: {unnamed(self.dataset, new_ids)}; these pixels are ignored")
        return to_train(raw, self.ids)

    def labels(self) -> Labels:
        """All labels by number, read when they are asked for.

        Raises:
            AccessError: labels are closed in this stage.
        """
        if self.items:  # refused here already, not at the first batch
            with contextlib.suppress(BadFile):
                self.label(0)
        return Labels(self, self.label)

    def previous_labels(self) -> Labels:
        """Those of the frames before t, read when they are asked for."""
        return Labels(self, self.previous_label)

    def labelled(self, index: int) -> LabelledClip:
        """A clip with its label at the size of its frames; refused where the stage does not grant it."""
        clip = self[index]
        return LabelledClip(clip.frames, clip.flow, clip.valid, clip.key, self._label(index, self.frame_size))
