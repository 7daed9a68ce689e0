"""Footage of one's own: folders, natural order, the YAML, video files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from bench.core.errors import BadFile, RunError, UsageError
from bench.data.datasets._video import extract
from bench.data.datasets.frames import DATASET, open_frames
from bench.data.fixtures import Tree
from bench.data.label_maps import named_space
from bench.data.recorded import VideoStore


def picture(path: Path, size: tuple[int, int] = (20, 30), value: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def test_a_bare_folder_in_natural_order(tmp_path: Path) -> None:
    for name in ("img10.png", "img2.jpg", "img1.JPG", "b/img3.png", "b/img12.png", "a/x1.jpeg", ".hidden.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("")
    data, root = open_frames(tmp_path, tmp_path / "cache")
    items = data.items(root, "train")
    assert [item.key for item in items] == ["a__x1", "b__img3", "b__img12", "img1", "img2", "img10"]
    assert [item.sequence for item in items] == ["a", "b", "b", ".", ".", "."]
    clips = {item.key: item.frames for item in items}
    assert clips["img10"] == ("img2.jpg", "img10.png") and clips["img2"] == ("img1.JPG", "img2.jpg")
    assert clips["b__img12"] == ("b/img3.png", "b/img12.png")
    assert clips["a__x1"] == ("a/x1.jpeg", "a/x1.jpeg")  # the first frame is its own predecessor
    assert {item.label for item in items} == {None} and data.guards() == {"": "train"}
    assert data.items(root, "val") == items
    longer = {item.key: item.frames for item in data.items(root, "val", 4)}
    assert longer["img10"] == ("img1.JPG", "img1.JPG", "img2.jpg", "img10.png")


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    picture(tmp_path / "a.jpg")
    with pytest.raises(RunError, match=r"a\.png: has the same name as .*a\.jpg; rename one"):
        DATASET.items(tmp_path, "train")


def test_an_empty_folder_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"No frames of 'frames' under .*; expected files like \./img1\.jpg"):
        DATASET.items(tmp_path, "train")


def test_the_fixture_as_described(trees: dict[str, Tree], tmp_path: Path) -> None:
    tree = trees["frames"]
    for path in (tree.root, tree.root / "frames.yaml"):
        data, root = open_frames(path, tmp_path)
        assert root == tree.root.resolve() and data.size == tree.size
    items = data.items(root, "val")
    assert [i.key for i in items][:4] == ["north__img1", "north__img2", "north__img10", "north__img11"]
    assert data.guards() == {"images": "train", "labels": "val/label"}
    np.testing.assert_array_equal(data.id_table(), named_space("viper2cityscapes").ids["cityscapes_seq"])
    store = VideoStore(root, data, items, data.id_table(), (48, 80))
    for i, item in enumerate(items):
        assert store[i].frames.shape == (2, 3, 48, 80)
        assert store.has_label(i) == item.key.startswith("north")
    np.testing.assert_array_equal(store.label(2), tree.label("north__img10", "viper2cityscapes"))
    with pytest.raises(BadFile, match=r"south/img2.png: has no label"):
        store.label(5)


def test_labels_inside_the_pictures_folder(tmp_path: Path) -> None:
    picture(tmp_path / "v" / "1.jpg")
    (tmp_path / "v" / "gt").mkdir()
    Image.fromarray(np.full((20, 30), 7, np.uint8)).save(tmp_path / "v" / "gt" / "1.png")
    (tmp_path / "d.yaml").write_text("folder: v\nlabels: v/gt\nids: {7: road}\n")
    data, root = open_frames(tmp_path / "d.yaml", tmp_path / "c")
    (item,) = data.items(root, "train")
    assert item.frames == ("1.jpg", "1.jpg") and item.label == "gt/1.png"
    assert data.guards() == {"": "train", "gt": "val/label"}
    assert (data.read_label(root / str(item.label), data.id_table()) == 0).all()


GOOD = {"folder": "v", "labels": "l", "ids": {7: "road"}}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"folder": None}, "give either folder: or video:"),
        ({"video": "a.mp4"}, "give either folder: or video:"),
        ({"ids": {}}, "labels: and ids: belong together"),
        ({"ids": {7: "rode"}}, "ids.7: unknown class 'rode'; available: road, sidewalk"),
        ({"ids": {300: "road"}}, "ids: raw ids are 0..255, got 300"),
        ({"size": [8, 8]}, "size: at least 16 x 16"),
        ({"fps": 3}, "fps: Extra inputs are not permitted"),
        ({"classes": "viper"}, "classes: unknown label space 'viper'; available: synthia2cityscapes, viper2cityscapes"),
        ({"folder": "nowhere"}, "folder: .*nowhere is not a folder"),
        ({"labels": "nowhere"}, "labels: .*nowhere is not a folder"),
    ],
)
def test_a_wrong_description_is_one_line(changes: dict[str, object], says: str, tmp_path: Path) -> None:
    for name in ("v", "l"):
        (tmp_path / name).mkdir()
    (tmp_path / "d.yaml").write_text(yaml.safe_dump(GOOD | changes))
    with pytest.raises(UsageError, match=says) as raised:
        open_frames(tmp_path / "d.yaml", tmp_path / "c")
    assert "\n" not in str(raised.value)


def test_what_is_no_footage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone is not there; give a folder of pictures"):
        open_frames(tmp_path / "gone", tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UsageError, match=r"Unknown kind of footage '\.txt' of .*a\.txt"):
        open_frames(tmp_path / "a.txt", tmp_path)
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(UsageError, match=r"a\.yaml is not YAML"):
        open_frames(tmp_path / "a.yaml", tmp_path)


def video(path: Path, frames: int = 5) -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    assert writer.isOpened()
    for k in range(frames):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * k), np.uint8))  # BGR: ever more red
    writer.release()
    return path


def test_a_video_is_taken_apart_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = video(tmp_path / "drive.avi")
    told: list[tuple[str, int, int]] = []
    data, root = open_frames(file, tmp_path / "c", lambda *what: told.append(what))
    items = data.items(root, "train")
    assert [item.key for item in items] == [f"{k:06d}" for k in range(5)]
    assert told[-1] == ("extract drive.avi", 5, 5)
    red = [int(data.read_frame(root / item.frames[-1])[0].mean()) for item in items]
    np.testing.assert_allclose(red, [0, 40, 80, 120, 160], atol=6)
    assert int(data.read_frame(root / items[-1].frames[-1])[2].max()) < 12
    monkeypatch.setattr("bench.data.datasets._video._decode_into", None)  # a second time it is found
    assert extract(file, tmp_path / "c") == root
    (tmp_path / "d.yaml").write_text("video: drive.avi\nsize: [32, 48]\n")
    described, again = open_frames(tmp_path / "d.yaml", tmp_path / "c")
    assert again == root.resolve() and described.size == (32, 48)


def test_broken_videos(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"nonsense")
    with pytest.raises(BadFile, match=r"v\.mp4: no frame of it can be decoded"):
        extract(tmp_path / "v.mp4", tmp_path / "c")
    whole = video(tmp_path / "w.avi", 40)
    whole.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    with pytest.raises(BadFile, match=r"w\.avi: (stops after \d+ of 40 frames|no frame of it can be decoded)"):
        extract(whole, tmp_path / "c")
    with pytest.raises(BadFile, match=r"gone\.mp4: cannot be read: No such file"):
        extract(tmp_path / "gone.mp4", tmp_path / "c")
    assert not [p for p in (tmp_path / "c" / "frames").iterdir() if p.is_dir()]
