"""Data sets: layouts, clip lists, reading, and every malformed file as one line with its path."""

from __future__ import annotations

import copy
import os
import re
import shutil
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from bench.core.errors import BadFile, RunError, UsageError
from bench.data.datasets import dataset, dataset_names, locate
from bench.data.datasets._base import lookup, natural
from bench.data.datasets.cityscapes_seq import ends, snippets
from bench.data.datasets.synthia_seq import before_cut, kept_rows
from bench.data.datasets.viper import CLASSES as VIPER_CLASSES
from bench.data.fixtures import Tree, write_cityscapes, write_viper
from bench.data.label_maps import label_space, named_space

SPACE = {"viper": "viper2cityscapes", "cityscapes_seq": "viper2cityscapes", "synthia_seq": "synthia2cityscapes"}
REAL = sorted(SPACE)


# Names and order ------------------------------------------------------------------------------------------------------


def test_data_sets_are_found_by_file_name() -> None:
    assert dataset_names() == ["cityscapes_seq", "frames", "synthia_seq", "viper"]
    assert all(dataset(name).name == name for name in dataset_names())
    with pytest.raises(UsageError, match=re.escape("Unknown data set 'vipr'. Did you mean 'viper'?")):
        dataset("vipr")


@given(st.lists(st.integers(0, 10**6), unique=True, max_size=12), st.sampled_from(["img", "", "a1b"]))
def test_natural_order_is_the_order_of_the_numbers(numbers: list[int], stem: str) -> None:
    names = [f"{stem}{n}.jpg" for n in numbers]
    assert sorted(names, key=natural) == [f"{stem}{n}.jpg" for n in sorted(numbers)]


@given(st.lists(st.text("ab019/._", max_size=8), max_size=8, unique=True))
def test_natural_order_is_total(names: list[str]) -> None:
    ordered = sorted(names, key=natural)
    assert sorted(ordered[::-1], key=natural) == ordered


def test_the_roots(trees: dict[str, Tree]) -> None:
    viper = trees["viper"]
    assert locate(viper.data, viper.root.parent) == viper.root == locate(viper.data, viper.root)


@pytest.mark.parametrize("name", REAL)
def test_items_follow_the_layout(name: str, trees: dict[str, Tree]) -> None:
    tree = trees[name]
    for split in tree.data.counts:
        items = tree.data.items(tree.root, split)
        assert [item.key for item in items] == sorted(item.key for item in items)
        assert len({item.key for item in items}) == len(items)
        for item in items:
            assert len(item.frames) == 2 and item.frames[0] < item.frames[1] and item.key.startswith(item.sequence)
            assert all((tree.root / path).is_file() for path in (*item.frames, item.label))
            assert all(tree.data.belongs(path) for path in (*item.frames, item.label))
        assert items == tree.data.items(tree.root, split)
        assert {item.key for item in items} <= set(tree.raw)
        longer = tree.data.items(tree.root, split, 3)
        assert all(len(item.frames) == 3 for item in longer)
        shorter = {item.key: item for item in items}
        assert all(item.frames[1:] == shorter[item.key].frames for item in longer)


def test_the_published_names(trees: dict[str, Tree]) -> None:
    first = {name: trees[name].data.items(trees[name].root, "train")[0] for name in REAL}
    assert first["viper"].key == "001_00010" and first["viper"].sequence == "001"
    assert first["viper"].frames == ("train/img/001/001_00009.jpg", "train/img/001/001_00010.jpg")
    assert first["viper"].label == "train/cls/001/001_00010.png"
    view = "Stereo_Left/Omni_F"
    assert first["synthia_seq"].key == "SEQS-04-DAWN_000001"
    assert first["synthia_seq"].frames[0] == f"SEQS-04-DAWN/RGB/{view}/000000.png"
    assert first["synthia_seq"].label == f"SEQS-04-DAWN/GT/LABELS/{view}/000001.png"
    val = trees["cityscapes_seq"].data.items(trees["cityscapes_seq"].root, "val")
    assert [item.key for item in val] == [
        "frankfurt_000000_000294", "frankfurt_000001_000576", "lindau_000000_000019",
    ]  # fmt: skip
    assert [item.sequence for item in val] == ["frankfurt_000000", "frankfurt_000001", "lindau_000000"]
    stem = "leftImg8bit_sequence/val/frankfurt/frankfurt_000000"
    assert val[0].frames == (f"{stem}_000293_leftImg8bit.png", f"{stem}_000294_leftImg8bit.png")
    assert val[0].label == "gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png"


def make(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")


def test_viper_counts_every_tenth_frame_and_misses_what_is_lost(tmp_path: Path) -> None:
    make(tmp_path, *(f"train/img/007/007_{k:05d}.jpg" for k in range(1, 35) if k != 20))
    make(tmp_path, *(f"train/cls/007/007_{k:05d}.png" for k in (10, 15, 20)))
    make(tmp_path, "train/img/007/008_00010.jpg", "train/img/007/007_00010.png", "train/img/7/7_00010.jpg")
    assert [item.key for item in dataset("viper").items(tmp_path, "train")] == ["007_00010", "007_00020", "007_00030"]


def test_synthia_has_849_clips_of_850_frames(tmp_path: Path) -> None:
    video = "SYNTHIA-SEQS-04-DAWN"  # as the archive calls it
    for k in range(850):
        make(tmp_path, f"{video}/RGB/Stereo_Left/Omni_F/{k:06d}.png", f"{video}/RGB/Stereo_Left/Omni_B/{k:06d}.png")
    items = dataset("synthia_seq").items(tmp_path, "train")
    assert len(items) == 849 == dataset("synthia_seq").counts["train"]
    assert items[0].key == "SEQS-04-DAWN_000001" and items[0].frames[0].startswith(f"{video}/RGB/Stereo_Left/Omni_F/")


def test_a_cityscapes_target_without_labels_gives_the_same_clips(trees: dict[str, Tree], tmp_path: Path) -> None:
    tree = trees["cityscapes_seq"]
    shutil.copytree(tree.root, tmp_path / "c")
    shutil.rmtree(tmp_path / "c" / "gtFine")
    for split in ("train", "val"):
        assert tree.data.items(tmp_path / "c", split) == tree.data.items(tree.root, split)


def test_thinned_out_snippets_end_at_their_last_frame(tmp_path: Path) -> None:
    tree = write_cityscapes(tmp_path, 16, complete=False, train_labels=False)
    keys = [item.key for item in tree.data.items(tree.root, "train")]
    assert keys == ["aachen_000000_000019", "bochum_000000_000313", "hamburg_000000_000042"]


def test_snippets_that_touch_are_told_apart() -> None:
    numbers = [*range(100, 160), *range(200, 230), 300, 301]
    assert [len(s) for s in snippets(numbers)] == [30, 30, 30, 2]
    assert ends(numbers, []) == {119, 149, 219, 301}
    assert ends(numbers, [119, 301]) == {119, 149, 219, 301}
    assert ends([], [5]) == {5} and ends([], []) == set()


@given(st.sets(st.integers(0, 400), max_size=90))
def test_snippets_are_a_partition_of_at_most_thirty_numbers(numbers: set[int]) -> None:
    runs = list(snippets(numbers))
    assert [k for run in runs for k in run] == sorted(numbers)
    assert all(run[-1] - run[0] < 30 for run in runs)
    assert all(later[0] - earlier[0] >= 30 for earlier, later in pairwise(runs))


@given(st.sets(st.integers(1, 29), max_size=28), st.booleans())
def test_lost_frames_do_not_move_a_clip(lost: set[int], labelled: bool) -> None:
    """Whatever is lost of a snippet behind its first frame, as long as something from frame 19 on is there."""
    images = [100 + k for k in range(30) if k not in lost]
    if images[-1] >= 119:
        assert ends(images, [119] if labelled else []) == {119}


@pytest.mark.parametrize("name", REAL)
def test_nothing_there_and_wrong_splits(name: str, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=f"No frames of '{name}' under {tmp_path}; expected files like "):
        dataset(name).items(tmp_path, "train")
    with pytest.raises(UsageError, match=re.escape("has no split 'tset'. Available: train")):
        dataset(name).items(tmp_path, "tset")
    with pytest.raises(UsageError, match="at least 2 frames, got 1"):
        dataset(name).items(tmp_path, "train", 1)


@pytest.mark.parametrize("name", REAL)
def test_guards_tell_frames_from_labels(name: str, trees: dict[str, Tree]) -> None:
    tree = trees[name]
    guards = tree.data.guards()
    assert set(guards.values()) <= {"train", "train/label", "val", "val/label"}

    def grant(path: str) -> str:
        (access,) = [g for folder, g in guards.items() if path.startswith(f"{folder}/")]
        return access

    for split in tree.data.counts:
        for item in tree.data.items(tree.root, split):
            assert {grant(path) for path in item.frames} == {split}
            assert grant(str(item.label)) == f"{split}/label"


# Reading --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REAL)
def test_labels_are_what_was_drawn(name: str, trees: dict[str, Tree]) -> None:
    tree, space = trees[name], SPACE[name]
    table = named_space(space).ids[name]
    for split in tree.data.counts:
        for item in tree.data.items(tree.root, split):
            expected = tree.label(item.key, space)
            if name == "synthia_seq":
                expected = expected[: expected.shape[0] * 640 // 760]
            label = tree.data.read_label(tree.root / str(item.label), table)
            np.testing.assert_array_equal(label, expected)
            assert label.dtype == np.uint8
            as_dict = {raw: int(train) for raw, train in enumerate(table)}
            np.testing.assert_array_equal(tree.data.read_label(tree.root / str(item.label), as_dict), label)


def test_viper_in_colours_is_viper_in_ids(tmp_path: Path) -> None:
    table = named_space("viper2cityscapes").ids["viper"]
    by_ids, by_colours = write_viper(tmp_path / "a", 16), write_viper(tmp_path / "b", 16, colours=True)
    for item in by_ids.data.items(by_ids.root, "train"):
        a, b = (tree.data.read_label(tree.root / str(item.label), table, (40, 70)) for tree in (by_ids, by_colours))
        np.testing.assert_array_equal(a, b)
        assert Image.open(by_colours.root / str(item.label)).mode == "RGB"


def test_viper_with_a_palette_is_read_by_index(tmp_path: Path) -> None:
    raw = np.arange(32, dtype=np.uint8).reshape(4, 8)
    picture = Image.fromarray(raw).convert("P")
    picture.putpalette([c for _, colour in VIPER_CLASSES for c in colour])
    picture.putdata(raw.ravel().tolist())
    picture.save(tmp_path / "p.png")
    table = named_space("viper2cityscapes").ids["viper"]
    np.testing.assert_array_equal(dataset("viper").read_label(tmp_path / "p.png", table), table[raw])


def test_strange_colours_are_refused_but_a_few_are_ignored(tmp_path: Path) -> None:
    table = named_space("viper2cityscapes").ids["viper"]
    pixels = np.full((20, 30, 3), (128, 64, 128), np.uint8)  # road
    pixels[3, 4] = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "few.png")
    label = dataset("viper").read_label(tmp_path / "few.png", table)
    assert label[3, 4] == 255 and (np.delete(label.ravel(), 3 * 30 + 4) == 0).all()
    pixels[:10] = (1, 2, 3)
    Image.fromarray(pixels).save(tmp_path / "many.png")
    with pytest.raises(BadFile, match=r"many.png: 50 % of the pixels are in the colour of no class, e.g. \(1, 2, 3\)"):
        dataset("viper").read_label(tmp_path / "many.png", table)


@pytest.mark.parametrize("name", REAL)
def test_frames_are_resized_as_published(name: str, trees: dict[str, Tree]) -> None:
    """Pillow's bicubic on the whole picture; SYNTHIA is cut after it."""
    tree = trees[name]
    file = tree.root / tree.data.items(tree.root, "train")[1].frames[-1]
    size = (64, 112)
    uncut = (76, 112) if name == "synthia_seq" else size
    expected = np.asarray(Image.open(file).convert("RGB").resize(uncut[::-1], Image.Resampling.BICUBIC))[: size[0]]
    frame = tree.data.read_frame(file, size)
    assert frame.shape == (3, *size) and frame.dtype == np.uint8 and frame.flags.c_contiguous
    np.testing.assert_array_equal(frame.transpose(1, 2, 0), expected)
    original = tree.data.read_frame(file)
    np.testing.assert_array_equal(original.transpose(1, 2, 0), np.asarray(Image.open(file))[: original.shape[1]])


def test_the_cut_of_synthia() -> None:
    assert before_cut((640, 1280)) == (760, 1280) and kept_rows(760) == 640


def test_synthia_labels_are_the_first_of_two_16_bit_channels(trees: dict[str, Tree]) -> None:
    tree = trees["synthia_seq"]
    item = tree.data.items(tree.root, "train")[0]
    pixels = cv2.imread(str(tree.root / str(item.label)), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint16
    np.testing.assert_array_equal(pixels[..., 2], tree.raw[item.key])
    assert (pixels[..., 1] == np.arange(pixels.shape[1])).all()  # instances
    classes = set(np.unique(tree.label(item.key, "synthia2cityscapes")))
    assert len(classes) >= 8 and {4, 10} & classes  # pole, rider: classes that MiniStreet has not


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32))
def test_labels_of_any_size_keep_to_their_ids(h: int, w: int, to_h: int, to_w: int, seed: int) -> None:
    """Nearest neighbour makes no new ids, and a resize to the same size changes nothing."""
    import tempfile

    raw = np.random.default_rng(seed).integers(0, 34, (h, w)).astype(np.uint8)
    table = named_space("viper2cityscapes").ids["cityscapes_seq"]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "l.png"
        Image.fromarray(raw).save(file)
        resized = dataset("cityscapes_seq").read_label(file, table, (to_h, to_w))
        unresized = dataset("cityscapes_seq").read_label(file, table, (h, w))
    assert resized.shape == (to_h, to_w) and set(np.unique(resized)) <= set(np.unique(table[raw]))
    np.testing.assert_array_equal(unresized, table[raw])


def test_tables_of_ids() -> None:
    table = lookup({-1: 7, 3: 1, 255: 2})
    assert table[3] == 1 and table[255] == 2 and (np.delete(table, [3, 255]) == 255).all()
    with pytest.raises(ValueError, match="uint8"):
        lookup(np.zeros(34, np.uint8))


def test_unknown_classes() -> None:
    with pytest.raises(
        UsageError, match=re.escape("No label space has the classes road, car. There are viper2cityscapes: road,")
    ):
        label_space(("road", "car"))
    with pytest.raises(
        UsageError, match=re.escape("Unknown label space 'viper2cityscape'. Did you mean 'viper2cityscapes'?")
    ):
        named_space("viper2cityscape")


# What goes wrong ------------------------------------------------------------------------------------------------------


def write_png(path: Path, pixels: np.ndarray) -> bytes:
    path.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())
    return path.read_bytes()


@pytest.mark.parametrize(
    ("name", "label", "content", "kind", "says"),
    [
        ("viper", False, None, "missing", "no such file"),
        ("viper", False, b"", "truncated", "is empty"),
        ("viper", False, b"<html>", "not an image", "is not a PNG or JPEG picture"),
        ("viper", True, b"\x89PNG\r\n\x1a\n", "not an image", "is not a PNG or JPEG picture"),
        ("viper", False, "cut jpeg", "truncated", "is truncated, decoding says: "),
        ("cityscapes_seq", False, "cut png", "truncated", "is truncated, decoding says: "),
        ("cityscapes_seq", True, "cut png", "truncated", "is truncated, decoding says: "),
        ("synthia_seq", True, "cut 16", "truncated", "decoding says: "),
        ("synthia_seq", True, "flipped 16", "damaged", "decoding says: "),
        ("cityscapes_seq", True, "colours", "wrong mode", "is no picture of label ids"),
        ("synthia_seq", True, "colours", "wrong mode", "is no SYNTHIA label: a colour PNG with 16 bits is expected"),
        ("cityscapes_seq", False, "16 grey", "wrong mode", "has more than 8 bits per channel"),
        ("viper", True, "16 grey", "wrong mode", "is no picture of label ids or colours"),
    ],
)
def test_a_bad_file_is_one_line_with_its_path(
    name: str, label: bool, content: bytes | str | None, kind: str, says: str, tmp_path: Path
) -> None:
    file = tmp_path / "f.png"
    rng = np.random.default_rng(0)
    if content == "cut jpeg":
        Image.fromarray(rng.integers(0, 255, (90, 120, 3)).astype(np.uint8)).save(file, "JPEG")
        file.write_bytes(file.read_bytes()[:-200])
        assert Image.open(file).size == (120, 90)  # the header is fine
    elif content == "cut png":
        shape = (90, 120) if label else (90, 120, 3)
        encoded = write_png(file, rng.integers(0, 34, shape).astype(np.uint8))
        file.write_bytes(encoded[: len(encoded) // 2])
    elif content in ("cut 16", "flipped 16"):
        encoded = bytearray(write_png(file, rng.integers(0, 16, (90, 120, 3)).astype(np.uint16)))
        if content == "cut 16":
            encoded = encoded[:-9]  # a cut through the closing chunk: OpenCV says nothing
        else:
            encoded[len(encoded) // 2] ^= 255
        file.write_bytes(bytes(encoded))
    elif content == "colours":
        write_png(file, rng.integers(0, 255, (9, 12, 3)).astype(np.uint8))
    elif content == "16 grey":
        write_png(file, rng.integers(0, 2**16, (9, 12)).astype(np.uint16))
    elif content is not None:
        file.write_bytes(content)  # type: ignore[arg-type]
    data = dataset(name)
    with pytest.raises(BadFile) as raised:
        data.read_label(file, {}) if label else data.read_frame(file)
    line = str(raised.value)
    assert line.startswith(f"{file}: ") and says in line and "\n" not in line
    assert raised.value.kind == kind and raised.value.path == str(file)
    with pytest.raises(BadFile):
        data.look(file, label)


def test_a_wrong_size_is_told_with_both_sizes(trees: dict[str, Tree]) -> None:
    tree = trees["viper"]
    item = tree.data.items(tree.root, "train")[0]
    with pytest.raises(BadFile, match="is 240x135 pixels, expected 1920x1080"):
        tree.data.read_frame(tree.root / item.frames[0], (64, 64), (1080, 1920))
    with pytest.raises(BadFile, match="is 240x135 pixels, expected 1920x1080"):
        tree.data.read_label(tree.root / str(item.label), {}, None, (1080, 1920))


def test_a_bad_file_travels_between_processes() -> None:
    error = BadFile(Path("/a/b.jpg"), "missing", "no such file")
    twin = copy.copy(error)  # made by ``__reduce_ex__``, as between processes
    assert str(twin) == str(error) == "/a/b.jpg: no such file" and twin.kind == "missing"
    assert str(BadFile("as one text")) == "as one text"  # how torch's workers rebuild it


def test_files_are_opened_by_python(trees: dict[str, Tree]) -> None:
    """The audit hook sees every file that is read; a reader in C++ would not be seen."""
    import sys

    opened: list[str] = []
    watching = True

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event == "open":
            opened.append(os.fspath(arguments[0]) if isinstance(arguments[0], (str, os.PathLike)) else "")

    sys.addaudithook(hook)
    for name in REAL:
        tree = trees[name]
        item = tree.data.items(tree.root, "train")[0]
        for path, label in ((item.frames[-1], False), (str(item.label), True)):
            opened.clear()
            file = tree.root / path
            tree.data.read_label(file, {}) if label else tree.data.read_frame(file)
            assert [s for s in opened if s == str(file)] == [str(file)], (name, label)
    watching = False
