"""Reading arrays from untrusted files: false headers, pickled objects, archives that unpack to too much."""

from __future__ import annotations

import io
import struct
import zipfile

import numpy as np
import pytest

from bench.core.arrays import NotArrays, array_of, arrays_of


def npy(header: str, body: bytes) -> bytes:
    text = header.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + body


@pytest.mark.parametrize("shape", ["(1000000, 1000000)", "(-2, -4)", "(2.0, 4)", "()"])
def test_a_header_that_claims_other_than_its_bytes(shape: str) -> None:
    with pytest.raises(NotArrays, match="not an array of numbers"):
        array_of(npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}", bytes(9)))


@pytest.mark.parametrize("letter", [0xD800, 0x110000])
def test_letters_that_there_are_not(letter: int) -> None:
    with pytest.raises(NotArrays, match="letters that there are not"):
        array_of(npy("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", struct.pack("<I", letter)))


def test_nothing_is_unpickled() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    with pytest.raises(NotArrays, match="not an array of numbers"):
        array_of(file.getvalue())


def test_an_archive_that_unpacks_to_more() -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", bytes(10_000_000))
    assert len(packed.getvalue()) < 20_000
    with pytest.raises(NotArrays, match="its array a unpacks to 10 MB"):
        arrays_of(packed.getvalue(), ("a",), 1_000_000)


def test_what_numpy_writes_is_read() -> None:
    file, arrays = io.BytesIO(), {"a": np.arange(6.0).reshape(2, 3), "b": np.array(["é", "😀x"]), "c": np.zeros((0, 2))}
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    for name, array in zip(arrays, arrays_of(file.getvalue(), tuple(arrays), 1000), strict=True):
        assert array.dtype == arrays[name].dtype and np.array_equal(array, arrays[name])
