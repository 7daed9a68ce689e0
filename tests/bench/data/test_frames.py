"""A user's footage (data set ``frames``): folders, natural order, the YAML, video files."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image, features

from bench.core.errors import BadFile, RunError, UsageError
from bench.data.datasets._video import SUMS, extract
from bench.data.datasets.frames import DATASET, Frames, gaps, open_frames
from bench.data.fixtures import Tree
from bench.data.label_maps import named_space
from bench.data.recorded import VideoStore

RNG = np.random.default_rng(0)


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
    assert clips["img10"] == ("img10.png", "img10.png") and clips["img2"] == ("img1.JPG", "img2.jpg")  # 2, 10: a gap
    assert clips["b__img12"] == ("b/img12.png", "b/img12.png")
    assert clips["a__x1"] == ("a/x1.jpeg", "a/x1.jpeg")  # the first frame is its own predecessor
    assert {item.label for item in items} == {None} and data.guards() == {"": "train"}
    assert data.items(root, "val") == items
    longer = {item.key: item.frames for item in data.items(root, "val", 4)}
    assert longer["img2"] == ("img1.JPG", "img1.JPG", "img1.JPG", "img2.jpg")
    across = {item.key: item.frames for item in replace(data, across_gaps=True).items(root, "val", 4)}
    assert across["img10"] == ("img1.JPG", "img1.JPG", "img2.jpg", "img10.png")


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
        ({"fps": 3}, "fps: Unknown key 'fps'. Available: .*, classes, colors, .*, video$"),
        ({"lables": "x"}, r"lables: Unknown key 'lables'\. Did you mean 'labels'\? Available: "),
        ({"classes": "viper"}, "classes: unknown label space 'viper'; available: synthia2cityscapes, viper2cityscapes"),
        ({"folder": "nowhere"}, "folder: .*nowhere is not a folder"),
        ({"labels": "nowhere"}, "labels: .*nowhere is not a folder"),
        ({"labels": "v"}, "labels: must be a folder of their own"),
        ({"colors": {"road": [1, 2, 3]}}, "ids: and colors: exclude each other"),
        ({"ids": {}, "colors": {"rode": [1, 2, 3]}}, "colors.rode: unknown class 'rode'; available: road, .*, ignore"),
        ({"ids": {}, "colors": {"road": [1, 2, 300]}}, r"colors: \[1, 2, 300\] is no colour"),
        ({"ids": {}, "colors": {"road": [1, 2, 3], "car": [[1, 2, 3]]}}, r"colors: \[1, 2, 3\] is there twice"),
        ({"classes": ["road", "road"]}, "classes: 'road' is there twice"),
        ({"label_suffix": "_L.jpg"}, "label_suffix: "),
        ({"range": [5, 5]}, r"range: first and end of the pictures, 0 <= first < end, got \[5, 5\]"),
        ({"stride": 0}, "stride: "),
    ],
)
def test_a_wrong_description_is_one_line(changes: dict[str, object], says: str, tmp_path: Path) -> None:
    for name in ("v", "l"):
        (tmp_path / name).mkdir()
    (tmp_path / "d.yaml").write_text(yaml.safe_dump(GOOD | changes))
    with pytest.raises(UsageError, match=says) as raised:
        open_frames(tmp_path / "d.yaml", tmp_path / "c")
    assert "\n" not in str(raised.value)


def opened(tmp_path: Path, text: str) -> tuple[Frames, Path]:
    (tmp_path / "d.yaml").write_text(text)
    return open_frames(tmp_path / "d.yaml", tmp_path / "c")


def test_on_and_off_are_class_names_and_an_id_is_named_once(tmp_path: Path) -> None:
    picture(tmp_path / "v" / "1.png")
    (tmp_path / "l").mkdir()
    data, _ = opened(tmp_path, "folder: v\nlabels: l\nids: {1: on, 2: off}\nclasses: [off, on]\n")
    assert data.classes == ("off", "on") and data.id_table()[[0, 1, 2]].tolist() == [255, 1, 0]
    with pytest.raises(UsageError, match=r"d\.yaml is not YAML that is read here: line 3: '7' is there twice"):
        opened(tmp_path, "folder: v\nlabels: l\nids: {7: road, 7: car}\n")


def test_a_range_and_a_stride(tmp_path: Path) -> None:
    for k in range(12):
        picture(tmp_path / "v" / f"{k:03d}.png")
    data, root = opened(tmp_path, "folder: v\nrange: [2, 9]\nstride: 3\n")
    assert [item.frames for item in data.items(root, "val")] == [
        ("002.png", "002.png"), ("004.png", "005.png"), ("007.png", "008.png"),
    ]  # fmt: skip  # the picture just before, and nothing before the range
    data, root = opened(tmp_path, "folder: v\nrange: [12, 20]\n")
    with pytest.raises(RunError, match=r"v: range \[12, 20\] leaves none of 12 pictures"):
        data.items(root, "val")


def test_labels_named_with_a_suffix(tmp_path: Path) -> None:
    for k in (1, 2):
        picture(tmp_path / "v" / f"x{k}.png")
        Image.fromarray(np.full((20, 30), k, np.uint8)).save(tmp_path / f"x{k}_L.png")
    (tmp_path / "l").mkdir()
    for k in (1, 2):
        (tmp_path / f"x{k}_L.png").rename(tmp_path / "l" / f"x{k}_L.png")
    text = "folder: v\nlabels: l\nids: {1: road, 2: car}\n"
    data, root = opened(tmp_path, text)
    assert [item.label for item in data.items(root, "val")] == [None, None]
    assert data.remarks(root) == [
        "2 of 2 labels belong to no picture, e.g. x1_L.png; with label_suffix: _L.png in the YAML they would",
        "2 of 2 pictures have no label",
    ]
    data, root = opened(tmp_path, text + "label_suffix: _L.png\n")
    assert [item.label for item in data.items(root, "val")] == ["l/x1_L.png", "l/x2_L.png"] and data.remarks(root) == []


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "L"])
def test_labels_in_colours(mode: str, tmp_path: Path) -> None:
    """A class may have several colours; others are ignored. In grey pictures the colours are greys."""
    colours = {
        "RGB": [[10, 20, 30], [1, 1, 1], [2, 2, 9], [0, 0, 0]],
        "L": [[9, 9, 9], [1, 1, 1], [2, 2, 2], [0, 0, 0]],
    }
    palette = np.array(colours.get(mode, colours["RGB"]), np.uint8)
    truth = RNG.integers(0, 4, (20, 30))
    image = Image.fromarray(palette[truth])
    image = image.quantize(8) if mode == "P" else image.convert(mode)
    picture(tmp_path / "v" / "1.jpg")
    (tmp_path / "l").mkdir()
    image.save(tmp_path / "l" / "1.png")
    named = {"road": palette[0].tolist(), "car": palette[1:3].tolist()}
    data, root = opened(tmp_path, yaml.safe_dump({"folder": "v", "labels": "l", "colors": named}))
    label = data.read_label(root / "l" / "1.png", data.id_table(), None, (20, 30))
    car = named_space("viper2cityscapes").classes.index("car")
    np.testing.assert_array_equal(label, np.array([0, car, car, 255])[truth])


def test_labels_of_another_size_are_resized_where_it_is_asked_for(tmp_path: Path) -> None:
    picture(tmp_path / "v" / "1.jpg", (20, 30))
    ids = RNG.integers(1, 3, (10, 15)).astype(np.uint8)
    (tmp_path / "l").mkdir()
    Image.fromarray(ids).save(tmp_path / "l" / "1.png")
    text = "folder: v\nlabels: l\nids: {1: road, 2: sidewalk}\n"
    data, root = opened(tmp_path, text)
    with pytest.raises(BadFile, match="is 15x10 pixels, expected 30x20"):
        VideoStore(root, data, data.items(root, "val"), data.id_table(), (32, 32)).label(0)
    data, root = opened(tmp_path, text + "resize_labels: true\n")
    store = VideoStore(root, data, data.items(root, "val"), data.id_table(), (32, 32))
    np.testing.assert_array_equal(store.label(0), np.kron(ids, np.ones((2, 2), np.uint8)) - 1)
    assert store.labelled(0).label.shape == (32, 32)
    Image.fromarray(ids[:, :10].copy()).save(tmp_path / "l" / "1.png")
    with pytest.raises(BadFile, match="is 10x10 pixels, which cannot be scaled to 30x20"):
        store.label(0)


def test_a_palette_that_contradicts_the_ids_is_refused(tmp_path: Path) -> None:
    """Indices are ids, whatever the palette, unless it shows the classes' colours at other places."""
    space = named_space("viper2cityscapes")
    picture(tmp_path / "v" / "1.jpg")
    (tmp_path / "l").mkdir()
    label = Image.fromarray(np.array([[0, 1]], np.uint8).repeat(20, 0).repeat(15, 1))
    label.putpalette([*space.palette[1], *space.palette[0]])  # 0 shows sidewalk, 1 shows road
    label.save(tmp_path / "l" / "1.png")
    data, root = opened(tmp_path, "folder: v\nlabels: l\nids: {0: road, 1: sidewalk}\n")
    with pytest.raises(BadFile, match="indices may be ids or stand for colours"):
        data.read_label(root / "l" / "1.png", data.id_table())
    data, root = opened(tmp_path, "folder: v\nlabels: l\nids: {1: road, 0: sidewalk}\n")
    assert data.read_label(root / "l" / "1.png", data.id_table())[0, [0, -1]].tolist() == [1, 0]


# What is said ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["10", "11", "20", "21"], [2]),
        (["1", "2", "3"], []),
        (["5", "10", "15"], []),  # every fifth frame
        (["11", "20"], [1]),
        (["0001_1080p", "0002_1080p", "0004_1080p"], [2]),  # the number that counts is the one that changes
        (["100", "133", "167", "200", "266"], [4]),  # milliseconds
        (["a_01_05", "a_01_06", "a_02_00", "a_02_01"], [2]),  # another recording
        (["a", "b", "d"], []),
        (["x1", "x2", "y3"], [2]),
        (["7"], []),
        (["img3", "img03"], [1]),  # which of the two is the third frame is not said
        (["img2", "img3", "img03", "img4"], [2]),
        (["img3_a7", "img03_a7", "img4_a7"], [1]),
    ],
)
def test_gaps_in_the_numbering(names: list[str], found: list[int]) -> None:
    assert gaps([f"day/{name}.png" for name in names]) == found


def test_remarks_are_made_with_counts(tmp_path: Path) -> None:
    for name in ("img1.jpg", "img2.jpg", "img3.webp", "img11.bmp", "gt/img1.png", "x_mask.png", "video_labels.png"):
        picture(tmp_path / "day" / name)
    for name in ("img4.heic", "img5.JFIF"):
        (tmp_path / "day" / name).write_bytes(b"")
    (tmp_path / "day" / "drive.mp4").write_bytes(b"")
    assert DATASET.remarks(tmp_path / "day") == [
        "the pictures are of several kinds, all are read: 1 .bmp, 2 .jpg, 3 .png, 1 .webp",
        "not read, since they are of no kind that is read as a picture: 1 .heic, 1 .jfif, 1 .mp4",
        "3 of 7 pictures look like ground truth by their names, e.g. gt/img1.png; they are taken as footage: give the folder of "
        "the pictures alone, or a frames.yaml with labels:",
        "the numbering has 1 gap, e.g. img3.webp to img11.bmp; pictures on the two sides are not taken as consecutive "
        "(across_gaps: true in a frames.yaml does)",
    ]
    (tmp_path / "day").rename(tmp_path / "gtFine")
    assert "7 of 7 pictures look like ground truth" in DATASET.remarks(tmp_path / "gtFine")[2]
    for name in ("left_1.png", "l/2.png", "maskingtape/3.png", "segments_4.png", "gtx.png"):
        picture(tmp_path / "plain" / name)
    assert not any("ground truth" in remark for remark in DATASET.remarks(tmp_path / "plain"))


def test_what_is_no_footage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="gone is not there; give a folder of pictures"):
        open_frames(tmp_path / "gone", tmp_path)
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(UsageError, match=r"Unknown kind of footage '\.txt' of .*a\.txt"):
        open_frames(tmp_path / "a.txt", tmp_path)
    (tmp_path / "a.yaml").write_text("a: [")
    with pytest.raises(UsageError, match=r"a\.yaml is not YAML"):
        open_frames(tmp_path / "a.yaml", tmp_path)


def video(path: Path, frames: int = 5, codec: str = "MJPG") -> Path:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25, (64, 48))
    assert writer.isOpened()
    for k in range(frames):
        writer.write(np.full((48, 64, 3), (0, 0, 40 * k), np.uint8))  # BGR: ever more red
    writer.release()
    return path


def test_a_video_is_taken_apart_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = video(tmp_path / "drive.avi")
    events: list[tuple[str, int, int]] = []
    data, root = open_frames(file, tmp_path / "c", lambda *event: events.append(event))
    items = data.items(root, "train")
    assert [item.key for item in items] == [f"{k:06d}" for k in range(5)]
    assert events[-1] == ("extract drive.avi", 5, 5)
    red = [int(data.read_frame(root / item.frames[-1])[0].mean()) for item in items]
    np.testing.assert_allclose(red, [0, 40, 80, 120, 160], atol=6)
    assert int(data.read_frame(root / items[-1].frames[-1])[2].max()) < 12
    monkeypatch.setattr("bench.data.datasets._video._decode_into", None)  # a second time it is found
    assert extract(file, tmp_path / "c") == root
    (tmp_path / "d.yaml").write_text("video: drive.avi\nsize: [32, 48]\n")
    described, described_root = open_frames(tmp_path / "d.yaml", tmp_path / "c")
    assert described_root == root.resolve() and described.size == (32, 48)


@pytest.mark.parametrize(
    ("ending", "codec"),
    [("m4v", "mp4v"), ("mpg", "MPG2"), ("ts", "MPG2"), ("wmv", "WMV2"), ("webm", "VP80"), ("mkv", "FFV1")],
)
def test_other_kinds_of_videos(ending: str, codec: str, tmp_path: Path) -> None:
    folder = extract(video(tmp_path / f"v.{ending}", codec=codec), tmp_path / "c")
    red = [np.asarray(Image.open(file))[..., 0].mean() for file in sorted(folder.glob("*.png"))]
    np.testing.assert_allclose(red, [0, 40, 80, 120, 160], atol=6)


def test_a_gif_is_a_video(tmp_path: Path) -> None:
    frames = [Image.fromarray(np.full((48, 64, 3), (40 * k, 0, 0), np.uint8)) for k in range(5)]
    frames[0].save(tmp_path / "v.gif", save_all=True, append_images=frames[1:], duration=100)
    data, root = open_frames(tmp_path / "v.gif", tmp_path / "c")
    red = [data.read_frame(root / item.frames[-1])[0].mean() for item in data.items(root, "val")]
    np.testing.assert_allclose(red, [0, 40, 80, 120, 160], atol=2)


@pytest.mark.skipif(not features.check("avif"), reason="Pillow cannot write AV1 here")
def test_a_codec_that_is_missing_is_named(tmp_path: Path) -> None:
    """An AVIF sequence is AV1 in an mp4's boxes. Where OpenCV can decode it, its frames are right."""
    frames = [Image.fromarray(np.full((64, 64, 3), (40 * k, 0, 0), np.uint8)) for k in range(5)]
    frames[0].save(tmp_path / "v.avif", save_all=True, append_images=frames[1:], duration=100)
    film = (tmp_path / "v.avif").rename(tmp_path / "v.mp4")
    try:
        folder = extract(film, tmp_path / "c")
    except BadFile as error:
        assert (
            "it is AV1 (av01), which this OpenCV cannot decode, or damaged. Convert it: ffmpeg -i IN -c:v libx264 OUT.mp4"
            in str(error)
        )
    else:
        assert np.asarray(Image.open(sorted(folder.glob("*.png"))[-1]))[..., 0].mean() == pytest.approx(160, abs=6)


@pytest.mark.parametrize("damage", ["flip", "gone", "more", "list", None])
def test_damaged_frames_are_taken_from_the_video_again(
    damage: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film, frame = video(tmp_path / "v.avi"), "000002.png"
    folder = extract(film, tmp_path / "c")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    if damage == "flip":
        (folder / frame).write_bytes(before[frame][:-20] + bytes([before[frame][-20] ^ 1]) + before[frame][-19:])
    elif damage == "gone":
        (folder / frame).unlink()
    elif damage == "more":
        (folder / (frame := "000099.png")).write_bytes(before["000001.png"])
    elif damage == "list":
        (folder / (frame := SUMS)).write_bytes(before[SUMS].replace(b"1", b"2", 1))
    extract(film, tmp_path / "c")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    error_output = capsys.readouterr().err
    assert (
        error_output == ""
        if damage is None
        else f"{folder / frame} is damaged; v.avi is taken apart again" in error_output
    )


def test_frames_of_before_they_had_a_list(tmp_path: Path) -> None:
    folder = extract(video(tmp_path / "v.avi"), tmp_path / "c")
    (folder / SUMS).unlink()
    (folder / "000002.png").unlink()
    assert extract(tmp_path / "v.avi", tmp_path / "c") == folder and not (folder / "000002.png").exists()


def test_broken_videos(tmp_path: Path) -> None:
    (tmp_path / "v.mp4").write_bytes(b"nonsense")
    with pytest.raises(BadFile, match=r"v\.mp4: no frame of it can be decoded"):
        extract(tmp_path / "v.mp4", tmp_path / "c")
    film = video(tmp_path / "w.avi", 40)
    film.write_bytes(film.read_bytes()[: film.stat().st_size // 2])
    with pytest.raises(BadFile, match=r"w\.avi: (stops after \d+ of 40 frames|no frame of it can be decoded)"):
        extract(film, tmp_path / "c")
    with pytest.raises(BadFile, match=r"gone\.mp4: cannot be read: No such file"):
        extract(tmp_path / "gone.mp4", tmp_path / "c")
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(BadFile, match=r"pipe\.mp4: is a pipe, a video file is expected"):
        extract(tmp_path / "pipe.mp4", tmp_path / "c")
    with pytest.raises(UsageError, match=r"pipe\.mp4 is a pipe; give a folder"):
        open_frames(tmp_path / "pipe.mp4", tmp_path / "c")
    assert not [p for p in (tmp_path / "c" / "frames").iterdir() if p.is_dir()]
