"""Clips read from files: the interface of ClipStore, guarded labels, odd files."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bench.core.errors import BadFile, RunError
from bench.core.workspace import Workspace
from bench.data.clip import Clip, LabelledClip
from bench.data.fixtures import Tree, corrupt, write_cityscapes, write_viper
from bench.data.label_maps import named_space
from bench.data.recorded import VideoStore
from bench.data.splits import Split, check_labels, prepare
from bench.runs.config import load_shift

SIZE = (48, 80)


def store_of(tree: Tree, split: str = "train", frames: int = 2, **options: object) -> VideoStore:
    space = "synthia2cityscapes" if tree.name == "synthia_seq" else "viper2cityscapes"
    items = tree.data.items(tree.root, split, frames)
    return VideoStore(tree.root, tree.data, items, named_space(space).ids[tree.name], SIZE, **options)  # type: ignore[arg-type]


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
    for frame, path in zip(clip.frames, item.frames, strict=True):
        np.testing.assert_array_equal(frame, tree.data.read_frame(tree.root / path, SIZE))
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
    earlier = store.previous_labels()[1]
    assert earlier.shape == (frames - 1, 30, 50) and len(store.previous_labels()) == len(store)
    for label, path in zip(earlier, store.items[1].frames[:-1], strict=True):
        number = Path(path).stem
        file = next(tree.root.glob(f"**/{'cls' if name == 'viper' else 'LABELS'}/**/{number}.png"))
        np.testing.assert_array_equal(label, tree.data.read_label(file, store.ids, (30, 50)))
    assert not np.array_equal(earlier[-1], store.label(1))


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
    sound = [i for i, item in enumerate(store.items) if culprit not in item.frames]
    assert sound and all(store[i].frames.any() for i in sound)


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
    assert [store.follows(i) for i in range(4)] == [False, True, False, True]
    sparse = VideoStore(tmp_path, DATASET, [store.items[1], store.items[3], store.items[3]], None, SIZE)
    assert not any(sparse.follows(i) for i in range(3)), "another video, and the same frame again"
    with pytest.raises(BadFile, match=r"b/0\.png: is 31x25 pixels, expected 31x24"):
        store[3]


# Ids and labels that count for nothing -------------------------------------------------------------------------------


def test_ids_without_a_name_are_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = write_viper(tmp_path, 16, sequences=1)
    for path in (tree.root / "train/cls").rglob("*.png"):
        label = np.asarray(Image.open(path)).copy()
        label[0, :3], label[1, :3] = 77, 200
        Image.fromarray(label).save(path)
    items = tree.data.items(tree.root, "train")
    store = VideoStore(tree.root, tree.data, items, named_space("viper2cityscapes").ids["viper"], (32, 64))
    labels = [store.label(0), store.label(1), store.label(0)]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        f"bench: {tree.root / items[0].label}: has ids 77, 200, which viper does not have; these pixels are ignored"
    ]
    assert all((label[:2, :3] == 255).all() for label in labels)


def real(root: Path, workspace: Workspace, split: str) -> Split:
    return prepare(load_shift("viper2cityscapes"), "target", split, 0, replace(workspace, data_root=root))


def test_labels_are_looked_at_before_a_run(tmp_path: Path, workspace: Workspace) -> None:
    tree = write_cityscapes(tmp_path, 16, complete=False)
    check_labels(real(tmp_path, workspace, "val"))
    paths = sorted((tree.root / "gtFine/val").rglob("*.png"))
    for path in paths[:-1]:
        Image.fromarray(np.zeros(tree.size, np.uint8)).save(path)
    check_labels(real(tmp_path, workspace, "val"))  # one is enough
    Image.fromarray(np.zeros(tree.size, np.uint8)).save(paths[-1])
    with pytest.raises(
        RunError, match=r"None of the 3 labels of target-val \(cityscapes_seq\) has a pixel of the classes"
    ) as raised:
        check_labels(real(tmp_path, workspace, "val"))
    assert "\n" not in str(raised.value)
    paths[0].write_bytes(b"")
    with pytest.raises(BadFile, match="is empty"):
        check_labels(real(tmp_path, workspace, "val"))
    with pytest.raises(RunError, match="all are ignored, 1 cannot be read"):
        check_labels(real(tmp_path, workspace, "val"), skip_bad=True)


def test_a_run_stops_before_its_source_model_is_trained(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from bench.runs.config import make_run_config
    from bench.runs.run import run

    write_viper(tmp_path, 16)
    tree = write_cityscapes(tmp_path, 16, complete=False)
    for path in (tree.root / "gtFine/val").rglob("*.png"):
        Image.fromarray(np.zeros(tree.size, np.uint8)).save(path)
    monkeypatch.setattr("bench.runs.adaptation.source_model", lambda *_: pytest.fail("trained for hours"))
    config = make_run_config("adabn", "viper2cityscapes", 0, {"network": "mini", "flow": "dis"}, steps=1)
    with pytest.raises(RunError, match="None of the 3 labels of target-val"):
        run(config, replace(workspace, data_root=tmp_path))
