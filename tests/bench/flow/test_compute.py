"""Flow computed ahead of runs: the same bits with any number of workers and after kills; which stored flow a run uses."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.core.access import stage
from bench.core.errors import AccessError, RunError, UsageError
from bench.data.splits import Split
from bench.flow import _shards as _store
from bench.flow._shards import Layout, Precomputed, with_precomputed
from bench.flow.backends import dis
from bench.flow.base import backend_of
from bench.flow.compute import compute
from bench.flow.resolve import identity_of
from tests.bench.flow.folders import contents

# What is stored ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("store", ["float32", "int16"])
@pytest.mark.parametrize("size", [(1, 4, 6), (2, 5, 7), (3, 1, 9)])
def test_rows_round_trip(store: str, size: tuple[int, int, int]) -> None:
    rng = np.random.default_rng(0)
    pairs, height, width = size
    flow = rng.uniform(-500, 500, (pairs, 2, height, width)).astype(np.float32)
    valid = rng.random(size) < 0.5
    layout = Layout(1, pairs, height, width, store, 1)
    row = layout.encode(flow, valid)
    assert row.dtype == np.uint8 and row.shape == (layout.row,)
    decoded, decoded_valid = layout.decode(row)
    np.testing.assert_array_equal(decoded_valid, valid)
    if store == "float32":
        np.testing.assert_array_equal(decoded, flow)
    else:
        assert 0 < np.abs(decoded - flow).max() <= 1 / 128
        np.testing.assert_array_equal(layout.encode(decoded, decoded_valid), row)


def test_int16_gives_up_what_is_too_long() -> None:
    flow = np.zeros((1, 2, 1, 3), np.float32)
    flow[0, 0, 0] = (511, 513, -600)
    layout = Layout(1, 1, 1, 3, "int16", 1)
    decoded, valid = layout.decode(layout.encode(flow, np.ones((1, 1, 3), np.bool_)))
    np.testing.assert_array_equal(valid[0, 0], [True, False, False])
    np.testing.assert_array_equal(decoded[0, 0, 0], [511, 0, 0])


def test_a_shard_has_about_64_mb(split: Split) -> None:
    assert Layout.of(split.open(), "float32").per_shard == 64
    large = Layout(13367, 1, 720, 1280, "float32", 1)
    assert 1 <= _store.SHARD_BYTES // large.row <= 9
    spans = [n for shard in range(3) for n in Layout(7, 1, 4, 4, "float32", 3).span(shard)]
    assert spans == list(range(7)) and Layout(7, 1, 4, 4, "float32", 3).shards == 3


# Computing ---------------------------------------------------------------------------------------------------------------


def test_a_run_sees_the_same_bits_with_and_without(split: Split, tmp_path: Path) -> None:
    summary = compute(split, "dis", tmp_path, workers=1, per_shard=3)
    clips = split.open()
    backend = with_precomputed(dis.BACKEND, "dis", clips, split.name, tmp_path)
    assert isinstance(backend, Precomputed) and backend.identity == "dis-medium"
    assert identity_of("dis", backend) == identity_of("dis", dis.BACKEND) == "dis-medium"
    assert identity_of("exact", backend_of("exact")) is None
    for index in range(len(clips)):
        clip = clips[index]
        for loaded, computed in zip(backend(clip, clips, index), dis.BACKEND(clip, clips, index), strict=True):
            assert loaded.dtype == computed.dtype
            np.testing.assert_array_equal(loaded, computed)
    with pytest.raises(IndexError):
        backend(clips[0], clips, len(clips))
    assert summary["wrong"] is None and summary["clips"] == len(clips) and summary["shards"] == 3
    error = summary["photometric_error"]
    assert error["flow"] < error["no motion"] < error["negated"]


def test_the_number_of_workers_changes_no_bit(split: Split, tmp_path: Path) -> None:
    alone = contents(compute(split, "dis", tmp_path / "a", workers=1, per_shard=3))
    together = contents(compute(split, "dis", tmp_path / "b", workers=2, per_shard=3))
    assert sorted(alone) == [
        "00000.json",
        "00000.npy",
        "00001.json",
        "00001.npy",
        "00002.json",
        "00002.npy",
        "manifest.json",
    ]
    assert alone == together


def killed_at(split: Split, name: str, cache: Path, call: int, before: bool) -> None:
    """Compute in a child process that is killed around its ``call``-th move of a finished file."""
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        calls, move = 0, os.replace

        def replace(*arguments: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == call and before:
                os.kill(os.getpid(), signal.SIGKILL)
            move(*arguments)
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)

        os.replace = replace  # type: ignore[assignment]
        try:
            compute(split, name, cache, workers=1, per_shard=3)
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("call", [1, 2, 4, 7])  # a shard's rows, its note, another note, the manifest
def test_it_goes_on_after_a_kill(
    split: Split, tmp_path: Path, fake_flow: Callable[..., str], call: int, before: bool
) -> None:
    name = fake_flow()
    expected = contents(compute(split, name, tmp_path / "whole", workers=1, per_shard=3))
    killed_at(split, name, tmp_path / "killed", call, before)
    folder = tmp_path / "killed" / "flow" / "fake" / split.name
    assert (folder / "manifest.json").exists() == (call == 7 and not before)
    if call == 1 and before:
        assert list(folder.glob(".*"))  # a scratch file was left
    counts: list[int] = []
    summary = compute(
        split, name, tmp_path / "killed", workers=1, per_shard=3, progress=lambda _, done, total: counts.append(done)
    )
    assert contents(summary) == expected
    finished = (call if not before else call - 1) // 2  # shards whose note was there
    assert len(counts) == 3 - min(3, finished)  # and they were not computed again


@pytest.mark.parametrize("damage", ["cut", "flip", "note", "a digit of the note", "no note", "no rows"])
def test_a_damaged_shard_is_computed_again_and_no_other(
    split: Split, tmp_path: Path, fake_flow: Callable[..., str], damage: str
) -> None:
    name = fake_flow()
    run = partial(compute, split, name, tmp_path, workers=1, per_shard=3)
    summary = run()
    before, folder = contents(summary), Path(summary["folder"])
    rows, note = folder / "00001.npy", folder / "00001.json"
    if damage == "cut":
        rows.write_bytes(rows.read_bytes()[:-1])
    elif damage == "flip":
        data = bytearray(rows.read_bytes())
        data[-1] ^= 1
        rows.write_bytes(data)
    elif damage == "note":
        note.write_text("{")
    elif damage == "a digit of the note":
        note.write_text(note.read_text().replace('"moved": 1', '"moved": 2', 1).replace('"moved": 2', '"moved": 3', 1))
    else:
        (note if damage == "no note" else rows).unlink()
    clips = split.open()
    stored = Precomputed(folder)
    stored(clips[0], clips, 0)  # the other shards are as they were
    with pytest.raises(RunError, match=r"Precomputed flow .*00001.npy is damaged; delete its folder and run"):
        stored(clips[5], clips, 5)
    counts: list[int] = []
    assert contents(run(progress=lambda _, done, total: counts.append(done))) == before
    assert counts == [len(clips)]


def test_flow_of_other_clips_is_thrown_away(split: Split, tmp_path: Path, fake_flow: Callable[..., str]) -> None:
    name = fake_flow()
    compute(split, name, tmp_path, workers=1, per_shard=3)
    few = Few(split.open(), 4)
    with pytest.raises(RunError, match="belongs to other clips; delete it and compute it again"):
        with_precomputed(dis.BACKEND, name, few, split.name, tmp_path)
    summary = compute(Split(split.name, {}, lambda: few), name, tmp_path, workers=1)
    assert summary["clips"] == 4 and sorted(contents(summary)) == ["00000.json", "00000.npy", "manifest.json"]


class Few:
    """The first ``number`` clips of a store."""

    def __init__(self, clips: Any, number: int) -> None:
        self.clips, self.number = clips, number

    def __len__(self) -> int:
        return self.number

    def __getitem__(self, index: int, /) -> Any:
        return self.clips[index]


# What a run takes --------------------------------------------------------------------------------------------------------


def test_lossless_comes_first_and_int16_is_marked(split: Split, tmp_path: Path, fake_flow: Callable[..., str]) -> None:
    name, clips = fake_flow(), split.open()
    lossy = compute(split, name, tmp_path, workers=1, store="int16")
    assert Path(lossy["folder"]).parent.name == "fake-int16"
    backend = with_precomputed(dis.BACKEND, name, clips, split.name, tmp_path)
    assert 0 < np.abs(backend(clips[0], clips, 0)[0] - clips[0].flow).max() <= 1 / 128
    assert identity_of(name, backend) == "fake-int16"
    exact = compute(split, name, tmp_path, workers=1)
    assert exact["bytes"] > 1.9 * lossy["bytes"]
    backend = with_precomputed(dis.BACKEND, name, clips, split.name, tmp_path)
    np.testing.assert_array_equal(backend(clips[0], clips, 0)[0], clips[0].flow)


def test_without_settings_the_only_one_is_taken_and_several_are_refused(
    split: Split, tmp_path: Path, fake_flow: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, clips = fake_flow(), split.open()
    compute(split, name, tmp_path, workers=1)
    module = sys.modules[f"bench.flow.backends.{name}"]

    def unset() -> str:
        raise UsageError("set it")

    monkeypatch.setattr(module, "identity", unset)
    assert isinstance(with_precomputed(dis.BACKEND, name, clips, split.name, tmp_path), Precomputed)
    monkeypatch.setattr(module, "identity", lambda: "other")
    assert with_precomputed(dis.BACKEND, name, clips, split.name, tmp_path) is dis.BACKEND
    compute(split, name, tmp_path, workers=1)
    monkeypatch.setattr(module, "identity", unset)
    with pytest.raises(RunError, match=r"Several flows of 'fake0' are there for .*: fake, other; set the backend's"):
        with_precomputed(dis.BACKEND, name, clips, split.name, tmp_path)


def test_what_must_be_there_before_a_run_is_asked_for(
    split: Split, tmp_path: Path, fake_flow: Callable[..., str]
) -> None:
    name = fake_flow(more="AHEAD = True")
    with pytest.raises(RunError, match="is not there, and a run cannot compute it: bench flow compute first"):
        with_precomputed(dis.BACKEND, name, split.open(), split.name, tmp_path)


def test_other_backends_stay_as_they_are(split: Split, tmp_path: Path) -> None:
    assert with_precomputed(dis.BACKEND, "exact", split.open(), split.name, tmp_path) is dis.BACKEND
    assert with_precomputed(dis.BACKEND, "dis", split.open(), split.name, tmp_path) is dis.BACKEND


def test_the_guard_of_a_splits_clips_holds_for_its_flow(split: Split, tmp_path: Path) -> None:
    compute(split, "dis", tmp_path, workers=1)
    clips = split.open()
    backend = with_precomputed(dis.BACKEND, "dis", clips, split.name, tmp_path)
    with stage("target-train"):
        assert backend(clips[0], clips, 0)[0].any()
    with stage("source-train"), pytest.raises(AccessError):
        backend(clips[0], clips, 0)


def test_a_damaged_manifest_is_one_line(split: Split, tmp_path: Path, fake_flow: Callable[..., str]) -> None:
    name = fake_flow()
    folder = Path(compute(split, name, tmp_path, workers=1)["folder"])
    (folder / "manifest.json").write_text("{")
    with pytest.raises(
        RunError, match=r"manifest.json is damaged; delete its folder and run `bench flow compute` again"
    ):
        with_precomputed(dis.BACKEND, name, split.open(), split.name, tmp_path)
    compute(split, name, tmp_path, workers=1)
    assert isinstance(with_precomputed(dis.BACKEND, name, split.open(), split.name, tmp_path), Precomputed)
