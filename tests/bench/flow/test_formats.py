"""Files of flow: round trips, values worked out by hand, and every malformed file as one line with its path."""

from __future__ import annotations

import io
import os
import resource
import struct
import zipfile
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from bench.core.errors import RunError, UsageError
from bench.flow import _formats

NAMES = ("a.flo", "a.png", "a_int16_x10.npy", "a.npz")
QUANTUM = {"a.flo": 0.0, "a.png": 1 / 128, "a_int16_x10.npy": 1 / 20, "a.npz": 1 / 8}
"""Most that a value within 500 pixels is off after writing and reading."""


def field(seed: int, height: int, width: int, most: float = 500) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    rng = np.random.default_rng(seed)
    flow = rng.uniform(-most, most, (2, height, width)).astype(np.float32)
    return flow, rng.random((height, width)) < 0.7


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), height=st.integers(1, 13), width=st.integers(1, 13))
def test_what_is_written_is_read(name: str, seed: int, height: int, width: int) -> None:
    flow, valid = field(seed, height, width)
    with TemporaryDirectory() as folder:
        path = Path(folder) / "deep" / name
        _formats.write(path, flow, valid)
        flow_read, valid_read = _formats.read(path)
        assert flow_read.dtype == np.float32 and valid_read.dtype == np.bool_
        np.testing.assert_array_equal(valid_read, valid | name.endswith(".npy"))  # DA-VSN's has no place for validity
        assert np.abs(flow_read - flow)[:, valid].max(initial=0) <= QUANTUM[name] + 1e-4 * bool(QUANTUM[name])
        assert not flow_read[:, ~valid].any()
        _formats.write(path, flow_read, valid_read)  # what has been through the format once comes through unchanged
        np.testing.assert_array_equal(_formats.read(path)[0], flow_read)
        assert [p.name for p in path.parent.iterdir()] == [name]  # no scratch file stays


@pytest.mark.parametrize("name", NAMES)
def test_what_is_not_finite_is_not_valid(name: str, tmp_path: Path) -> None:
    flow = np.ones((2, 2, 3), np.float32)
    flow[0, 0, 1], flow[1, 1, 2] = np.nan, np.inf
    _formats.write(tmp_path / name, flow)
    flow_read, valid_read = _formats.read(tmp_path / name)
    expected = np.array([[True, False, True], [True, True, False]])
    np.testing.assert_array_equal(valid_read, expected | name.endswith(".npy"))
    np.testing.assert_array_equal(flow_read, np.where(expected, 1, 0)[None].repeat(2, axis=0))


def test_middlebury_by_hand(tmp_path: Path) -> None:
    body = np.array([1.5, -2, 1e10, 1e10], "<f4").tobytes()
    (tmp_path / "a.flo").write_bytes(b"PIEH" + np.array([2, 1], "<i4").tobytes() + body)
    flow, valid = _formats.read(tmp_path / "a.flo")
    np.testing.assert_array_equal(flow, [[[1.5, 0]], [[-2, 0]]])
    np.testing.assert_array_equal(valid, [[True, False]])
    # OpenCV has a reader of its own.
    np.testing.assert_array_equal(cv2.readOpticalFlow(str(tmp_path / "a.flo"))[0, 0], [1.5, -2])
    _formats.write(tmp_path / "b.flo", flow, valid)
    assert (tmp_path / "b.flo").read_bytes() == (tmp_path / "a.flo").read_bytes()


def test_kitti_by_hand(tmp_path: Path) -> None:
    image = np.zeros((1, 2, 3), np.uint16)
    image[0, 0] = (1, 32768 - 64, 32768 + 96)  # OpenCV writes blue, green, red: valid, y, x
    cv2.imwrite(str(tmp_path / "a.png"), image)
    flow, valid = _formats.read(tmp_path / "a.png")
    np.testing.assert_array_equal(flow, [[[1.5, 0]], [[-1, 0]]])
    np.testing.assert_array_equal(valid, [[True, False]])


def test_kitti_has_no_code_beyond_512_pixels(tmp_path: Path) -> None:
    flow = np.array([[[511.0, 513.0, -513.0]], [[0, 0, 0]]], np.float32)
    _formats.write(tmp_path / "a.png", flow)
    flow_read, valid = _formats.read(tmp_path / "a.png")
    np.testing.assert_array_equal(valid, [[True, False, False]])
    np.testing.assert_array_equal(flow_read[0], [[511, 0, 0]])


def test_da_vsn_by_hand(tmp_path: Path) -> None:
    np.save(tmp_path / "a_int16_x10.npy", np.array([[[15, -20], [0, 7]]], np.int16))
    flow, valid = _formats.read(tmp_path / "a_int16_x10.npy")
    np.testing.assert_allclose(flow, [[[1.5, 0]], [[-2, 0.7]]], rtol=1e-6)
    assert valid.all()


def test_viper_by_hand(tmp_path: Path) -> None:
    u, v = np.array([[1.5, np.nan]], np.float16), np.array([[-2, 3]], np.float16)
    np.savez_compressed(tmp_path / "a.npz", u=u, v=v)
    flow, valid = _formats.read(tmp_path / "a.npz")
    np.testing.assert_array_equal(flow, [[[1.5, 0]], [[-2, 0]]])
    np.testing.assert_array_equal(valid, [[True, False]])
    assert _formats.is_forward(tmp_path / "a.npz") and not _formats.is_forward(tmp_path / "a.flo")


# Malformed ---------------------------------------------------------------------------------------------------------------


def flo(width: int, height: int, body: int) -> bytes:
    return b"PIEH" + np.array([width, height], "<i4").tobytes() + b"\0" * body


def png(image: NDArray[np.generic]) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


def npy(array: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npz(**arrays: NDArray[np.generic]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def zipped(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return buffer.getvalue()


half = np.zeros((4, 6), np.float16)
colour = np.random.default_rng(0).integers(0, 65535, (40, 60, 3)).astype(np.uint16)

MALFORMED: list[tuple[str, bytes, str]] = [
    *((name, b"", "is empty") for name in NAMES),
    *((name, b"junk that is no flow", "is damaged: ") for name in NAMES),
    ("a.flo", b"PIEH\1\0", "its header is cut off"),
    ("a.flo", flo(2, 3, 47), "2x3 pixels take 60 bytes, it has 59"),
    ("a.flo", flo(2, 3, 49), "2x3 pixels take 60 bytes, it has 61"),
    ("a.flo", flo(-2, 3, 48), "its header says -2x3 pixels"),
    ("a.flo", flo(1 << 30, 1 << 30, 8), "its header says"),
    ("a.png", png(colour)[:3000], "not a PNG, or cut off"),
    ("a.png", png(colour)[:-12], "not a PNG, or cut off"),
    ("a.png", png(colour.astype(np.uint8)), "16-bit RGB PNG, this one holds uint8 (40, 60, 3)"),
    ("a.png", png(colour[:, :, 0]), "16-bit RGB PNG, this one holds uint16 (40, 60)"),
    ("a_int16_x10.npy", npy(np.zeros((4, 6, 2), np.int16))[:-3], "not an array of numbers"),
    ("a_int16_x10.npy", npy(np.zeros((4, 6, 2), np.float32)), "int16 (H, W, 2), this is float32 (4, 6, 2)"),
    ("a_int16_x10.npy", npy(np.zeros((2, 4, 6), np.int16)), "int16 (H, W, 2), this is int16 (2, 4, 6)"),
    ("a_int16_x10.npy", npy(np.array([{"x": 1}], object)), "not an array of numbers (Object arrays cannot be loaded"),
    ("a.npz", npz(u=half), "its array v is missing"),
    ("a.npz", npz(u=half, v=half)[:-30], "not a zip archive of arrays, or cut off"),
    ("a.npz", npz(u=half, v=half[:2]), "two float arrays (H, W), got float16 (4, 6) and float16 (2, 6)"),
    ("a.npz", npz(u=half.astype(np.int16), v=half), "two float arrays"),
    ("a.npz", npz(u=np.array([[None]], object), v=half), "not an array of numbers"),
    ("a.npz", zipped(u_npy=b"junk", v_npy=npy(half)), "not an array of numbers"),
]


@pytest.mark.parametrize(("name", "data", "says"), MALFORMED)
def test_a_malformed_file_is_one_line_with_its_path(name: str, data: bytes, says: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(RunError) as caught:
        _formats.read(path)
    message = str(caught.value)
    assert message.startswith(f"Flow {path} is ") and says in message and "\n" not in message


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(cut=st.floats(0, 0.999), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3))
def test_no_damage_brings_anything_but_flow_or_one_line(name: str, cut: float, flips: list[tuple[float, int]]) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        _formats.write(path, *field(1, 6, 9))
        data = bytearray(path.read_bytes())
        for position, value in flips:
            data[int(position * len(data))] = value
        path.write_bytes(data[: len(data) - int(cut * len(data))])
        try:
            flow, valid = _formats.read(path)
        except RunError as error:
            assert str(path) in str(error) and "\n" not in str(error)
        else:
            assert np.isfinite(flow).all() and flow.shape[1:] == valid.shape


def test_missing_files_and_other_names(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"Cannot read flow .*gone.flo: No such file"):
        _formats.read(tmp_path / "gone.flo")
    with pytest.raises(UsageError, match=r"a.txt is no flow file; their names end in .flo, .png, _int16_x10.npy, .npz"):
        _formats.read(tmp_path / "a.txt")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="Cannot write"):
        _formats.write(tmp_path / "file" / "a.flo", np.zeros((2, 3, 3), np.float32))


# Inversion ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [(3, -2), (-4, 0), (0, 5), (0, 0)])
def test_constant_flow_inverts_to_its_negation_where_something_arrives(step: tuple[int, int]) -> None:
    forward = np.broadcast_to(np.array(step, np.float32)[:, None, None], (2, 9, 12)).copy()
    backward, valid = _formats.invert(forward, np.ones((9, 12), np.bool_))
    y, x = np.mgrid[:9, :12]
    reached = (x - step[0] >= 0) & (x - step[0] < 12) & (y - step[1] >= 0) & (y - step[1] < 9)
    np.testing.assert_array_equal(valid, reached)
    np.testing.assert_array_equal(backward, np.where(reached, -forward, 0))


def test_inversion_is_the_obvious_loop() -> None:
    forward, valid = field(3, 8, 11, most=4)
    backward, reached = np.zeros((2, 8, 11), np.float32), np.zeros((8, 11), np.bool_)
    longest = np.full((8, 11), -1.0)
    for y in range(8):
        for x in range(11):
            u, v = forward[:, y, x]
            to_x, to_y = round(float(x + u)), round(float(y + v))
            if valid[y, x] and 0 <= to_x < 11 and 0 <= to_y < 8 and np.hypot(u, v) > longest[to_y, to_x]:
                longest[to_y, to_x] = np.hypot(u, v)
                backward[:, to_y, to_x], reached[to_y, to_x] = (-u, -v), True
    inverted, inverted_valid = _formats.invert(forward, valid)
    np.testing.assert_array_equal(inverted_valid, reached)
    np.testing.assert_array_equal(inverted, backward)


# Bombs and damage that decoders do not see ---------------------------------------------------------------------------


def huge_png(width: int, height: int) -> bytes:
    """A 16-bit RGB PNG whose rows are zeros and come to an end early."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(1 << 24))) + chunk(b"IEND", b"")


def huge_npz(rows: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("u.npy", "v.npy"):
            with archive.open(name, "w") as file:
                head = {"descr": "<f2", "fortran_order": False, "shape": (rows, 1 << 15)}
                np.lib.format.write_array_header_1_0(file, head)
                for _ in range(rows):
                    file.write(bytes(1 << 16))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data"),
    [("a.png", huge_png(30_000, 30_000)), ("a.flo", _formats.FLO_MAGIC + np.array([30_000, 30_000], "<i4").tobytes())],
)
def test_a_small_file_takes_little_memory(name: str, data: bytes, tmp_path: Path) -> None:
    """This PNG of 16 kB took 10 GB."""
    (tmp_path / name).write_bytes(data)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(RunError, match="its header says 30000x30000 pixels; at most 67 million are read"):
        _formats.read(tmp_path / name)
    assert len(data) < 100_000 and resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000


@pytest.mark.parametrize(
    ("rows", "says"), [(512, "its array u unpacks to 34 MB"), (64, "its header says 32768x64 pixels")]
)
def test_an_archive_is_not_unpacked_beyond_the_limit(
    rows: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _formats.MOST_PIXELS == 1 << 26
    monkeypatch.setattr(_formats, "MOST_PIXELS", 1 << 20)
    (tmp_path / "a.npz").write_bytes(huge_npz(rows))
    with pytest.raises(RunError, match=says):
        _formats.read(tmp_path / "a.npz")


def test_an_array_holds_what_its_header_says(tmp_path: Path) -> None:
    """NumPy makes room by the header, 8 TB here."""
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<i2", "fortran_order": False, "shape": (2000000, 1000000, 2)}
    )
    (tmp_path / "a_int16_x10.npy").write_bytes(buffer.getvalue() + bytes(64))
    with pytest.raises(RunError, match=r"int16 \(2000000, 1000000, 2\) is not what its 64 bytes hold"):
        _formats.read(tmp_path / "a_int16_x10.npy")


def test_a_flipped_bit_of_kittis_flow_is_found(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    rng = np.random.default_rng(0)
    _formats.write(path, rng.normal(0, 9, (2, 20, 30)).astype(np.float32))
    content, truth = path.read_bytes(), _formats.read(path)[0]
    detected = 0
    for bit in range(0, 8 * len(content), 97):
        data = bytearray(content)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        try:
            assert np.array_equal(_formats.read(path)[0], truth), bit
        except RunError:
            detected += 1
    assert detected > 100


def test_a_pipe_is_no_flow(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.flo")
    with pytest.raises(RunError, match=r"a\.flo is a pipe, not a file"):
        _formats.read(tmp_path / "a.flo")
