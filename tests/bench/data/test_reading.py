"""Pictures are read whole and right, or refused in one line: checksums, sizes, orientation, depth, palettes."""

from __future__ import annotations

import os
import resource
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from bench.core.errors import BadFile, RunError
from bench.data.datasets import dataset
from bench.data.datasets._base import files_under
from bench.data.datasets.viper import CLASSES as VIPER
from bench.data.label_maps import named_space
from bench.data.reading import (
    ADAM7,
    MOST_PIXELS,
    _png_bytes,
    _unpacked,
    colour_picture,
    label_ids,
    load,
    open_picture,
    picture_size,
)

RNG = np.random.default_rng(0)
SMALL = RNG.integers(0, 255, (6, 9, 3)).astype(np.uint8)
IDS = np.arange(16, dtype=np.uint8).reshape(2, 8)


def png(path: Path, width: int, height: int, depth: int, kind: int, rows: bytes, before: bytes = b"") -> Path:
    """A PNG by hand: ``rows`` as PNG stores them, ``before`` are chunks before the pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + before + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))
    return path


# Orientation ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_turns_pictures(orientation: int, ending: str, tmp_path: Path) -> None:
    """What is stored is the picture as the camera held it; the tag says how to hold it upright (EXIF 2.3, tag 0x0112)."""
    store = {
        1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }  # fmt: skip
    upright = np.kron(RNG.integers(0, 2, (3, 5)), np.ones((16, 16))).astype(np.uint8)[..., None] * np.uint8(
        [250, 200, 150]
    )
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / f"a{ending}"
    stored = Image.fromarray(np.ascontiguousarray(store[orientation](upright)))
    stored.save(file, exif=exif, **({"lossless": True} if ending == ".webp" else {}))
    picture = np.asarray(colour_picture(file)).astype(int)
    assert picture.shape == upright.shape and np.abs(picture - upright).mean() < (12 if ending == ".jpg" else 1e-9)
    assert picture_size(file) == upright.shape[:2] == dataset("frames").look(file, label=False)
    assert dataset("cityscapes_seq").read_frame(file, None, (48, 80)).shape == (3, 48, 80)


def test_labels_are_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(IDS, 1).copy()).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(label_ids(tmp_path / "a.png", expect=(2, 8)), IDS)
    assert dataset("frames").look(tmp_path / "a.png", label=True) == (2, 8)


# Depth ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
def test_grey_ids_of_few_bits_are_ids(depth: int, tmp_path: Path) -> None:
    ids = (np.arange(8) % 2**depth).astype(np.uint8)
    bits = "".join(f"{i:0{depth}b}" for i in ids)
    file = png(tmp_path / "a.png", 8, 1, depth, 0, b"\0" + int(bits, 2).to_bytes(len(bits) // 8, "big"))
    for data in ("cityscapes_seq", "viper", "frames"):
        label = dataset(data).read_label(file, np.arange(256, dtype=np.uint8))
        np.testing.assert_array_equal(label, ids[None])


@pytest.mark.parametrize("ending", [".png", ".tif"])
def test_16_bit_colours_are_refused(ending: str, tmp_path: Path) -> None:
    """Pillow opens them as 8-bit RGB, by their high bytes."""
    cv2.imwrite(str(tmp_path / f"a{ending}"), RNG.integers(0, 2**16, (6, 9, 3)).astype(np.uint16))
    assert Image.open(tmp_path / f"a{ending}").mode == "RGB"
    with pytest.raises(BadFile, match=r"has more than 8 bits per channel .*; save it as 8-bit RGB"):
        dataset("frames").read_frame(tmp_path / f"a{ending}")
    with pytest.raises(BadFile):
        dataset("frames").look(tmp_path / f"a{ending}", label=False)


def test_ids_that_synthia_does_not_have(tmp_path: Path) -> None:
    """8-bit ids that a converter stretched to 16 bits are 257 times too large; once all became 255, ignored in silence."""
    label = np.zeros((2, 8, 3), np.uint16)
    label[..., 2] = IDS
    cv2.imwrite(str(tmp_path / "right.png"), label)
    ids = dataset("synthia_seq").read_label(tmp_path / "right.png", np.arange(256, dtype=np.uint8), (2, 8))
    np.testing.assert_array_equal(ids, IDS)
    cv2.imwrite(str(tmp_path / "a.png"), label * 257)
    with pytest.raises(BadFile, match="holds id 3855; those of SYNTHIA are 0 to 15: they are 257 times too large"):
        dataset("synthia_seq").read_label(tmp_path / "a.png", {})


# Palettes -------------------------------------------------------------------------------------------------------------


def indexed(path: Path, ids: npt.NDArray[np.uint8], palette: list[tuple[int, int, int]]) -> Path:
    picture = Image.fromarray(ids).convert("L")
    picture.putpalette([value for colour in palette for value in colour])
    picture.save(path)
    assert Image.open(path).mode == "P"
    return path


def test_a_palette_of_the_classes_colours_is_read_by_its_colours(tmp_path: Path) -> None:
    """VIPER's labels in colours, saved as a palette picture without loss: an index is a place in a sorted table."""
    ids = np.repeat([2, 3, 4, 9, 24, 26], 8).astype(np.uint8).reshape(6, 8)
    colours = np.array([colour for _, colour in VIPER], np.uint8)[ids]
    Image.fromarray(colours).quantize(32, dither=Image.Dither.NONE).save(tmp_path / "a.png")
    stored = np.asarray(Image.open(tmp_path / "a.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "a.png").convert("RGB")), colours)
    assert not np.array_equal(stored, ids)
    table = named_space("viper2cityscapes").ids["viper"]
    ids[-1, 4] = 26  # not below the middle of the last row, where the player's own car would be
    np.testing.assert_array_equal(dataset("viper").read_label(tmp_path / "a.png", table), table[ids])
    for size in ((3, 4), (12, 16)):
        resized = dataset("viper").read_label(tmp_path / "a.png", table, size)
        np.testing.assert_array_equal(
            resized, np.asarray(Image.fromarray(table[ids]).resize(size[::-1], Image.Resampling.NEAREST))
        )


def test_a_palette_of_greys_or_of_classes_in_place_is_read_by_index(tmp_path: Path) -> None:
    ids = np.arange(32, dtype=np.uint8).reshape(4, 8)
    for palette in ([(i, i, i) for i in range(256)], [colour for _, colour in VIPER]):
        np.testing.assert_array_equal(label_ids(indexed(tmp_path / "a.png", ids, palette), colours={
            raw: colour for raw, (_, colour) in enumerate(VIPER)}), ids)  # fmt: skip


def test_a_palette_that_may_be_either_is_refused(tmp_path: Path) -> None:
    file = indexed(tmp_path / "a.png", IDS, [(3 * i % 256, 5 * i % 256, 255 - i) for i in range(256)])
    black = indexed(tmp_path / "b.png", IDS, [(0, 0, 0)] * 256)  # all one class by its colours
    for data in ("viper", "cityscapes_seq"):
        with pytest.raises(
            BadFile,
            match=r"palette picture whose indices may be ids or stand for colours \(index 0 shows \(0, 0, 255\)",
        ):
            dataset(data).read_label(file, {})
        with pytest.raises(BadFile, match="may be ids or stand for colours"):
            dataset(data).read_label(black, {})
        with pytest.raises(BadFile):
            dataset(data).look(file, label=True)
    np.testing.assert_array_equal(
        dataset("frames").read_label(file, np.arange(256, dtype=np.uint8)), IDS
    )  # ids by its YAML


# Sizes and damage -----------------------------------------------------------------------------------------------------


def test_every_flipped_bit_of_a_label_is_found(tmp_path: Path) -> None:
    """Some 12 % of single flipped bits gave other labels when checksums were not compared."""
    ids = RNG.integers(0, 30, (24, 32)).astype(np.uint8)
    readers = {"cityscapes_seq": ids, "viper": ids, "frames": ids}
    Image.fromarray(ids).save(tmp_path / "whole.png")
    content, silent, tried = (tmp_path / "whole.png").read_bytes(), 0, 0
    for bit in range(0, 8 * len(content), 13):
        data = bytearray(content)
        data[bit // 8] ^= 1 << bit % 8
        (tmp_path / "flipped.png").write_bytes(data)
        for name, truth in readers.items():
            tried += 1
            try:
                label = dataset(name).read_label(tmp_path / "flipped.png", np.arange(256, dtype=np.uint8))
            except BadFile as error:
                assert "\n" not in str(error)
            else:
                silent += not np.array_equal(label, truth)
    assert tried > 1000 and silent == 0


def test_a_large_picture_is_large_and_not_damaged(tmp_path: Path) -> None:
    file = png(tmp_path / "a.png", 20_000, 10_000, 1, 0, (b"\0" + bytes(2500)) * 10_000)
    assert picture_size(file) == (10_000, 20_000)
    huge = png(tmp_path / "b.png", 60_000, 50_000, 8, 2, b"")
    for read in (picture_size, colour_picture, label_ids):
        with pytest.raises(
            BadFile, match=r"b\.png: is 60000x50000 pixels, 3000 million; at most 268 are read: make it smaller"
        ):
            read(huge)
    assert MOST_PIXELS == 268_435_456


def test_nothing_is_allocated_for_a_header(tmp_path: Path) -> None:
    """A picture of 30 MB that would take 9 GB is refused with less than 300 MB more."""
    file = png(tmp_path / "a.png", 60_000, 50_000, 8, 2, (b"\0" + bytes(180_000)) * 200)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BadFile):
        colour_picture(file)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


def test_a_picture_that_its_file_cannot_hold_is_truncated(tmp_path: Path) -> None:
    """Pillow would fill up 700 MB with black."""
    file = png(tmp_path / "a.png", 32, 7_471_128, 8, 2, (b"\0" + bytes(96)) * 24)
    message = r"a\.png: is truncated: 32x7471128 pixels do not fit into \d+ bytes"
    for read in (picture_size, colour_picture):
        with pytest.raises(BadFile, match=message):
            read(file)
    packed = png(tmp_path / "b.png", 4096, 4096, 1, 0, (b"\0" + bytes(512)) * 4096)  # nothing packs better
    assert picture_size(packed) == (4096, 4096) and not np.asarray(colour_picture(packed)).any()


@pytest.mark.parametrize("kind", [0, 2, 6])
@pytest.mark.parametrize("rows", [1, 40, 63])
def test_a_picture_whose_pixels_end_early_is_truncated(rows: int, kind: int, tmp_path: Path) -> None:
    """In good order, checksums and all: Pillow fills up with black."""
    row = b"\0" + bytes([200]) * (16 * {0: 1, 2: 3, 6: 4}[kind])
    early, complete = (png(tmp_path / f"{n}.png", 16, 64, 8, kind, row * n) for n in (rows, 64))
    assert np.asarray(colour_picture(complete)).all()
    with pytest.raises(
        BadFile, match=r"\.png: is truncated, decoding says: the image is truncated, its pixels end early"
    ):
        colour_picture(early)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 9), (17, 33)])
@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "I;16"])
def test_black_pictures_are_whole(mode: str, size: tuple[int, int], tmp_path: Path) -> None:
    """The pixels unpack to the bytes that the header asks for, to the last one; interlaced, every pixel is in one pass."""
    Image.new(mode, size).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    assert _png_bytes(data) == _unpacked(data)
    assert load(tmp_path / "a.png", data, open_picture(tmp_path / "a.png", data)).getbbox() is None
    visits, depth = np.zeros(size, int), len(Image.new(mode, (1, 1)).tobytes())
    for x, y, right, down in ADAM7:
        visits[x::right, y::down] += 1
    assert (visits == 1).all()
    passes = [visits[x::right, y::down].shape for x, y, right, down in ADAM7]
    if mode in ("L", "RGB", "RGBA"):
        expected = sum(rows * (1 + columns * depth) for columns, rows in passes if columns)
        assert _png_bytes(data[:28] + b"\1" + data[29:]) == expected


def test_a_picture_whose_strips_end_too_early_is_truncated(tmp_path: Path) -> None:
    file = tmp_path / "a.tif"
    Image.new("RGB", (32, 24)).save(file)
    header, entry = file.read_bytes(), struct.pack("<HHI", 257, 4, 1)  # ImageLength, one number
    assert header.count(entry) == 1
    file.write_bytes(header.replace(entry + struct.pack("<I", 24), entry + struct.pack("<I", 25)))
    for read in (picture_size, colour_picture):
        with pytest.raises(BadFile, match=r"a\.tif: is truncated: it holds a part of its 32x25 pixels alone"):
            read(file)


def test_pipes_and_devices_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadFile, match=r"a\.png: is a pipe, a file is expected"):
        colour_picture(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/dev/zero")
    with pytest.raises(BadFile, match=r"b\.png: is a device, a file is expected"):
        colour_picture(tmp_path / "b.png")
    (tmp_path / "c.png").mkdir()
    with pytest.raises(BadFile, match=r"c\.png: is a folder, a file is expected"):
        colour_picture(tmp_path / "c.png")


@pytest.mark.parametrize("links", [{"a/up": ".."}, {"a/self": "../a"}, {"a/b": "../c", "c/d": "../a"}, {"a/root": "/"}])
def test_links_in_a_circle_are_refused(links: dict[str, str], tmp_path: Path) -> None:
    for folder in ("a", "c"):
        (tmp_path / folder).mkdir()
        Image.fromarray(SMALL).save(tmp_path / folder / "1.png")
    for name, destination in links.items():
        (tmp_path / name).symlink_to(destination)
    with pytest.raises(RunError, match="is a link to a folder that it lies in: it would have no end; remove it"):
        files_under(tmp_path)


def test_other_links_are_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "1.png").write_bytes(b"1")
    (tmp_path / "footage").mkdir()
    (tmp_path / "footage" / "day").symlink_to("../real")
    assert files_under(tmp_path / "footage") == (["day/1.png"], [])


@pytest.mark.parametrize("ending", [".webp", ".bmp", ".tif", ".tiff", ".jpeg"])
def test_other_kinds_of_pictures(ending: str, tmp_path: Path) -> None:
    flat = np.full((20, 30, 3), (200, 100, 50), np.uint8)
    Image.fromarray(flat).save(tmp_path / f"a{ending}")
    (item,) = dataset("frames").items(tmp_path, "train")
    frame = dataset("frames").read_frame(tmp_path / item.frames[-1])
    assert np.abs(frame.transpose(1, 2, 0).astype(int) - flat).max() <= 4
