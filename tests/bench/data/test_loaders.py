"""Loaders of batches: clips that cannot be read, reading ahead in threads."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from bench.core.errors import BadFile
from bench.core.workspace import Workspace
from bench.data.clip import Clip
from bench.data.loaders import Ahead, BadClips, ClipLoader, LabelledLoader, ahead, moved
from bench.flow.backends.zero import zero

H, W = 4, 6


class Store:
    """Clips whose grey level is their number; some cannot be read, and some have no readable label."""

    carries_flow = False

    def __init__(self, clips: int, bad: set[int] = frozenset(), bad_labels: set[int] = frozenset()) -> None:  # type: ignore[assignment]
        self.clips, self.bad, self.bad_labels = clips, bad, bad_labels

    def __len__(self) -> int:
        return self.clips

    def __getitem__(self, index: int) -> Clip:
        if index in self.bad:
            raise BadFile(f"clips/{index}.jpg", "truncated", "is truncated")
        frames = np.full((2, 3, H, W), index, np.uint8)
        return Clip(frames, np.zeros((1, 2, H, W), np.float32), np.ones((1, H, W), bool), self.key(index))

    def key(self, index: int) -> str:
        return f"clip-{index}"

    def labels(self) -> Any:
        store = self

        class Labels:
            def __getitem__(self, index: int) -> NDArray[np.uint8]:
                if index in store.bad_labels:
                    raise BadFile(f"labels/{index}.png", "truncated", "is truncated")
                return np.full((H, W), index, np.uint8)

        return Labels()


def numbers(batch: Any) -> list[int]:
    return [round(float(x) * 255) for x in batch.frames[:, 0, 0, 0, 0]]


def test_a_clip_that_cannot_be_read_stops_by_default() -> None:
    loader = ClipLoader(Store(4, bad={2}), zero, 4, 0)  # type: ignore[arg-type]
    with pytest.raises(BadFile, match=r"clips/2.jpg: is truncated"):
        loader(0)


def test_a_skipped_clip_is_replaced_by_the_next_and_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    bad = BadClips(skip=True)
    loader = ClipLoader(Store(5, bad={2, 3}), zero, 5, 0, bad)  # type: ignore[arg-type]
    order = loader.indices(0)
    for step in range(3):
        loader(step)
    assert numbers(loader(0)) == [4 if i in (2, 3) else i for i in order]
    assert loader(0).keys == tuple(f"clip-{4 if i in (2, 3) else i}" for i in order)
    assert bad.found == {"clip-2": "clips/2.jpg: is truncated", "clip-3": "clips/3.jpg: is truncated"}
    assert capsys.readouterr().err.count("skipped clip clip-2") == 1


def test_the_label_goes_with_the_clip_that_is_there() -> None:
    loader = LabelledLoader(Store(4, bad={1}, bad_labels={2}), zero, 4, 0, BadClips(skip=True))  # type: ignore[arg-type]
    batch = loader(0)
    assert numbers(batch) == batch.label[:, 0, 0].tolist() == [3 if i in (1, 2) else i for i in loader.indices(0)]


class Earlier(Store):
    """The same with labels of the frame before, ten more than the clip's number."""

    def previous_labels(self) -> Any:
        labels = self.labels()

        class Before:
            def __getitem__(self, index: int) -> NDArray[np.uint8]:
                return labels[index][None] + np.uint8(10)

        return Before()


def test_labels_of_earlier_frames_come_where_they_are_asked_for() -> None:
    bad = BadClips(skip=True)
    loader = LabelledLoader(Earlier(4, bad={1}, bad_labels={2}), zero, 4, 0, bad, earlier=True)  # type: ignore[arg-type]
    batch = loader(0)
    assert batch.previous_label is not None and batch.previous_label.dtype == torch.int64
    assert batch.previous_label.shape == (4, 1, H, W)
    assert torch.equal(batch.previous_label[:, 0], batch.label + 10)
    doubled = moved(batch, lambda x: x + x)
    assert torch.equal(doubled.previous_label, 2 * batch.previous_label)  # type: ignore[attr-defined]
    assert LabelledLoader(Earlier(4), zero, 4, 0)(0).previous_label is None  # type: ignore[arg-type]


def test_where_all_are_bad_it_stops() -> None:
    with pytest.raises(BadFile):
        ClipLoader(Store(3, bad={0, 1, 2}), zero, 1, 0, BadClips(skip=True))(0)  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_reading_ahead_gives_the_same_batches(workers: int) -> None:
    plain, wrapped = (ClipLoader(Store(7), zero, 3, 5) for _ in range(2))  # type: ignore[arg-type]
    reader = Ahead(wrapped, workers)
    for step in [*range(9), 4, 20]:  # jumps too: a resumed run starts anywhere
        assert torch.equal(reader(step).frames, plain(step).frames)
    reader.close()


def test_the_next_batches_are_read_while_one_is_used_and_not_more(tmp_path: Path) -> None:
    steps: list[int] = []
    ready = threading.Event()

    def loader(step: int) -> Any:
        steps.append(step)
        if step == 2:
            ready.set()
        return step

    reader = Ahead(loader, 2)
    assert reader(0) == 0
    assert ready.wait(10), "steps 1 and 2 are read without being asked for"
    time.sleep(0.05)
    assert sorted(steps) == [0, 1, 2]
    reader.close()


def test_an_error_comes_with_its_own_step() -> None:
    def loader(step: int) -> Any:
        if step == 3:
            raise BadFile("frame 9000", "truncated", "is truncated")
        return step

    reader = Ahead(loader, 4)
    assert [reader(step) for step in range(3)] == [0, 1, 2]
    with pytest.raises(BadFile, match="frame 9000"):
        reader(3)
    reader.close()


def test_without_workers_the_loader_is_used_as_it_is(tmp_path: Path) -> None:
    with ahead(len, Workspace(tmp_path, tmp_path)) as unchanged, ahead(None, Workspace(tmp_path, tmp_path)) as nothing:  # type: ignore[arg-type]
        assert unchanged is len and nothing is None
    with ahead(lambda step: step, Workspace(tmp_path, tmp_path, workers=1)) as reader:  # type: ignore[arg-type, return-value]
        assert reader(3) == 3  # type: ignore[misc, comparison-overlap]
