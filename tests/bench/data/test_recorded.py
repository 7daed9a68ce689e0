"""Clips read from files: the interface of ClipStore, guarded labels, odd files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core.errors import BadFile
from bench.data.clip import Clip, LabelledClip
from bench.data.fixtures import Tree, corrupt
from bench.data.label_maps import named_space
from bench.data.recorded import VideoStore

SIZE = (48, 80)


def store_of(tree: Tree, split: str = "train", frames: int = 2, **more: object) -> VideoStore:
    space = "synthia2cityscapes" if tree.name == "synthia_seq" else "viper2cityscapes"
    items = tree.data.items(tree.root, split, frames)
    return VideoStore(tree.root, tree.data, items, named_space(space).ids[tree.name], SIZE, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["viper", "cityscapes_seq", "synthia_seq"])
@pytest.mark.parametrize("frames", [2, 3])
def test_clips(name: str, frames: int, trees: dict[str, Tree]) -> None:
    tree = trees[name]
    store = store_of(tree, frames=frames, label_size=(30, 50))
    assert len(store) == len(store.items) and VideoStore.carries_flow is False
    clip, item = store[1], store.items[1]
    assert type(clip) is Clip and clip.key == store.key(1) == item.key and store.sequence(1) == item.sequence
    assert clip.frames.shape == (frames, 3, *SIZE) and clip.flow.shape == (frames - 1, 2, *SIZE)
    assert not clip.valid.any() and not clip.flow.any()
    for shown, path in zip(clip.frames, item.frames, strict=True):
        np.testing.assert_array_equal(shown, tree.data.read_frame(tree.root / path, SIZE))
    assert not np.array_equal(clip.frames[0], clip.frames[-1])
    labelled = store.labelled(1)
    assert type(labelled) is LabelledClip and labelled.label.shape == SIZE and store.label(1).shape == (30, 50)
    assert store[-1].key == store[len(store) - 1].key
    with pytest.raises(IndexError, match=f"clip {len(store)} of {len(store)} in {name}"):
        store[len(store)]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store))[1].frames, clip.frames)  # for data workers


@pytest.mark.parametrize("name", ["viper", "synthia_seq"])
@pytest.mark.parametrize("frames", [2, 3])
def test_labels_of_earlier_frames_are_those_of_their_own_files(name: str, frames: int, trees: dict[str, Tree]) -> None:
    tree = trees[name]
    store = store_of(tree, frames=frames, label_size=(30, 50))
    found = store.previous_labels()[1]
    assert found.shape == (frames - 1, 30, 50) and len(store.previous_labels()) == len(store)
    for label, path in zip(found, store.items[1].frames[:-1], strict=True):
        number = Path(path).stem
        own = next(tree.root.glob(f"**/{'cls' if name == 'viper' else 'LABELS'}/**/{number}.png"))
        np.testing.assert_array_equal(label, tree.data.read_label(own, store.ids, (30, 50)))
    assert not np.array_equal(found[-1], store.label(1))


def test_a_data_set_without_labels_of_earlier_frames_says_so(trees: dict[str, Tree]) -> None:
    with pytest.raises(BadFile, match=r"_leftImg8bit\.png: has no label"):
        store_of(trees["cityscapes_seq"]).previous_labels()[0]


def test_a_store_without_ids_has_no_labels(trees: dict[str, Tree]) -> None:
    tree = trees["viper"]
    store = VideoStore(tree.root, tree.data, tree.data.items(tree.root, "train"), None, SIZE)
    assert not store.has_label(0)
    with pytest.raises(BadFile, match=r"001_00010\.jpg: has no label"):
        store.label(0)


@pytest.mark.parametrize("name", ["viper", "cityscapes_seq", "synthia_seq"])
@pytest.mark.parametrize(
    "kind",
    ["truncated", "empty_file", "missing_frame", "missing_previous", "wrong_size", "not_an_image", "unreadable"],
)
def test_a_damaged_frame_is_one_line_and_the_others_still_work(
    name: str, kind: str, trees: dict[str, Tree], tmp_path: Path
) -> None:
    twin, culprit = corrupt(trees[name], kind, tmp_path)
    store = store_of(twin)
    with pytest.raises(BadFile) as raised:
        store[1]
    assert str(raised.value).startswith(f"{twin.root / culprit}: ") and "\n" not in str(raised.value)
    others = [i for i, item in enumerate(store.items) if culprit not in item.frames]
    assert others and all(store[i].frames.any() for i in others)


@pytest.mark.parametrize("name", ["viper", "cityscapes_seq", "synthia_seq"])
@pytest.mark.parametrize("kind", ["truncated_label", "missing_label", "wrong_size_label"])
def test_a_damaged_label_is_one_line(name: str, kind: str, trees: dict[str, Tree], tmp_path: Path) -> None:
    twin, culprit = corrupt(trees[name], kind, tmp_path)
    store = store_of(twin)
    assert store[1].frames.any()
    for read in (store.label, store.labelled):
        with pytest.raises(BadFile) as raised:
            read(1)
        assert str(raised.value).startswith(f"{twin.root / culprit}: ")


def test_the_usual_size_may_be_given(trees: dict[str, Tree]) -> None:
    with pytest.raises(BadFile, match="is 240x135 pixels, expected 1920x1080"):
        store_of(trees["viper"], native=(1080, 1920))[0]


def test_own_footage_has_any_size_but_one_per_clip(tmp_path: Path) -> None:
    from bench.data.datasets.frames import DATASET

    for folder, sizes in (("a", [(20, 30), (20, 30)]), ("b", [(25, 31), (24, 31)])):
        (tmp_path / folder).mkdir()
        for k, size in enumerate(sizes):
            Image.fromarray(np.full((*size, 3), 9, np.uint8)).save(tmp_path / folder / f"{k}.png")
    store = VideoStore(tmp_path, DATASET, DATASET.items(tmp_path, "train"), None, SIZE)
    assert [store[i].key for i in range(3)] == ["a__0", "a__1", "b__0"]
    with pytest.raises(BadFile, match=r"b/0\.png: is 31x25 pixels, expected 31x24"):
        store[3]
