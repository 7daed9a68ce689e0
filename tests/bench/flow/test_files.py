"""Flow from a user's files: which file belongs to which clip, direction, size, and the error when there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.errors import RunError, UsageError
from bench.data.clip import Clip
from bench.flow import _formats
from bench.flow._estimated import lands_inside
from bench.flow.backends import files

HEIGHT, WIDTH = 12, 16


class Video:
    """One clip of a data set on disk."""

    carries_flow = False

    def __init__(self, key: str, frames: int = 2, sequence: str = "") -> None:
        self.key, self.number, self.video = key, frames, sequence

    def __len__(self) -> int:
        return 1

    def sequence(self, index: int) -> str:
        return self.video

    def __getitem__(self, index: int, /) -> Clip:
        t, size = self.number - 1, (HEIGHT, WIDTH)
        no_flow = np.zeros((t, 2, *size), np.float32), np.zeros((t, *size), np.bool_)
        return Clip(np.zeros((t + 1, 3, *size), np.uint8), *no_flow, self.key)


def flow_of(video: Video) -> Any:
    return files.BACKEND(video[0], video, 0)


def field(x: float, y: float, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.broadcast_to(np.array([x, y], np.float32)[:, None, None], (2, height, width)).copy()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("BENCH_FLOW_FILES", str(tmp_path))
    monkeypatch.delenv("BENCH_FLOW_DIRECTION", raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("key", "sequence", "name"),
    [
        ("frankfurt_000000_000294", "", "frankfurt_000000_000294.flo"),
        ("frankfurt_000000_000294", "", "frankfurt/frankfurt_000000_000294.png"),
        ("frankfurt_000000_000294", "", "frankfurt_000000_000294_000293_int16_x10.npy"),
        ("001_00010", "", "001_0001000009_int16_x10.npy"),
        ("SEQS-04-DAWN_000017", "", "000017_int16_x10.npy"),
        ("target-train-0123456789ab/00012", "", "00012.flo"),
        ("drive__img7", "drive", "drive/drive__img7.flo"),
    ],
)
def test_a_clip_finds_its_file(folder: Path, key: str, sequence: str, name: str) -> None:
    _formats.write(folder / name, field(2, -1))
    flow, valid = flow_of(Video(key, sequence=sequence))
    np.testing.assert_array_equal(flow, field(2, -1)[None])
    np.testing.assert_array_equal(valid[0], lands_inside(field(2, -1)))
    assert flow.dtype == np.float32 and valid.dtype == np.bool_


def test_another_data_sets_flow_is_not_taken(folder: Path) -> None:
    """SYNTHIA's 000019 is no flow of a Cityscapes frame 000019, unless it lies in the folder of the frame's sequence."""
    _formats.write(folder / "000019_int16_x10.npy", field(2, -1))
    _formats.write(folder / "000018.npz", field(2, -1))
    for key, sequence in (("aachen_000000_000019", "aachen_000000"), ("drive__img000019", "drive"), ("img000019", ".")):
        with pytest.raises(RunError, match=r"No flow of .*; .*000019_int16_x10\.npy only in .*"):
            flow_of(Video(key, sequence=sequence))
    _formats.write(folder / "aachen" / "000019_int16_x10.npy", field(2, -1))  # the city's, not the sequence's
    with pytest.raises(RunError, match=r"only in .*/aachen_000000"):
        flow_of(Video("aachen_000000_000019", sequence="aachen_000000"))
    _formats.write(folder / "aachen_000000" / "000019_int16_x10.npy", field(1, 1))
    flow, _ = flow_of(Video("aachen_000000_000019", sequence="aachen_000000"))
    np.testing.assert_array_equal(flow, field(1, 1)[None])
    flow, _ = flow_of(Video("SEQS-04-DAWN_000019", sequence="SEQS-04-DAWN"))
    np.testing.assert_array_equal(flow, field(2, -1)[None])


def test_vipers_flow_is_that_of_the_frame_before_and_is_inverted(folder: Path) -> None:
    _formats.write(folder / "001" / "001_00009.npz", field(2, -1))
    flow, valid = flow_of(Video("001_00010"))
    assert valid.sum() == (HEIGHT - 1) * (WIDTH - 2) and (flow[0][:, valid[0]] == [[-2], [1]]).all()


def test_other_formats_may_be_forward_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _formats.write(folder / "a_000009.flo", field(2, -1))
    with pytest.raises(RunError, match=r"No flow of a_000010 in .*: looked for a_000010.flo, a_000010.png, "):
        flow_of(Video("a_000010"))
    backward = files.identity()
    monkeypatch.setenv("BENCH_FLOW_DIRECTION", "forward")
    flow, valid = flow_of(Video("a_000010"))
    assert valid.any() and (flow[0][:, valid[0]] == [[-2], [1]]).all()
    assert files.identity() != backward


def test_flow_of_another_size_is_scaled_with_its_vectors(folder: Path) -> None:
    _formats.write(folder / "a.flo", field(4, -2, 2 * HEIGHT, 2 * WIDTH))
    flow, valid = flow_of(Video("a"))
    np.testing.assert_allclose(flow, field(2, -1)[None], atol=1e-6)
    np.testing.assert_array_equal(valid[0], lands_inside(field(2, -1)))


def test_holes_do_not_leak_into_their_neighbours(folder: Path) -> None:
    mask = np.ones((2 * HEIGHT, 2 * WIDTH), np.bool_)
    mask[10, 10] = False
    _formats.write(folder / "a.flo", field(0, 0, 2 * HEIGHT, 2 * WIDTH), mask)
    flow, valid = flow_of(Video("a"))
    assert not valid[0, 5, 5] and valid.sum() == HEIGHT * WIDTH - 1 and not flow.any()


def test_other_proportions_are_refused(folder: Path) -> None:
    _formats.write(folder / "a.flo", field(0, 0, HEIGHT, 2 * WIDTH))
    with pytest.raises(RunError, match=r"Flow .*a.flo is 32x12, which cannot be scaled to frames of 16x12"):
        flow_of(Video("a"))


def test_longer_clips_of_a_video_take_each_frames_file(folder: Path) -> None:
    _formats.write(folder / "a_0008.flo", field(1, 0))
    _formats.write(folder / "a_0009.flo", field(0, 2))
    flow, _ = flow_of(Video("a_0009", frames=3))
    np.testing.assert_array_equal(flow[:, :, 0, 0], [[1, 0], [0, 2]])
    rendered = Video("a_0009", frames=3)
    rendered.carries_flow = True
    with pytest.raises(RunError, match="has 3 frames without names"):
        flow_of(rendered)


def test_a_damaged_file_is_named(folder: Path) -> None:
    (folder / "a.flo").write_bytes(b"")
    with pytest.raises(RunError, match=rf"Flow {folder}/a.flo is empty"):
        flow_of(Video("a"))


def test_settings_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_FLOW_FILES", raising=False)
    with pytest.raises(UsageError, match="set BENCH_FLOW_FILES to its folder"):
        files.identity()
    monkeypatch.setenv("BENCH_FLOW_FILES", str(tmp_path / "gone"))
    with pytest.raises(UsageError, match="gone, which is no folder"):
        flow_of(Video("a"))
    monkeypatch.setenv("BENCH_FLOW_FILES", str(tmp_path))
    monkeypatch.setenv("BENCH_FLOW_DIRECTION", "sideways")
    with pytest.raises(UsageError, match="must be backward or forward, got 'sideways'"):
        files.identity()
