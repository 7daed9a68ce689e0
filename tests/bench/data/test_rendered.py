"""Rendered clips on disk: whole or not at all, made once, made again when damaged."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bench.core.errors import RunError
from bench.core.files import locked
from bench.data import rendered as store
from bench.data.clip import LabelledClip
from bench.data.rendered import (
    ARRAYS,
    ClipStore,
    is_whole,
    prepare_split,
    split_identity,
)
from bench.runs.config import Data, load_shift

ROOT = Path(__file__).resolve().parents[3]
CLIPS = 4


@pytest.fixture(scope="module")
def data() -> Data:
    return load_shift("ministreet-tiny").data


@pytest.fixture(scope="module")
def rendered(tiny_cache: Path, data: Data) -> Path:
    """A split that no test may touch."""
    return prepare_split(data, "target", "val", 0, tiny_cache)


@pytest.fixture
def cache(rendered: Path, tmp_path: Path) -> Path:
    """A cache of its own with that split in it."""
    shutil.copytree(rendered, tmp_path / "clips" / rendered.name)
    return tmp_path


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


class CountedRendering:
    """Counts clips that are rendered in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, delay: float = 0.0) -> None:
        self.jobs: list[tuple[str, int, int, int, int, int]] = []
        original = store._render_one

        def counted(job: tuple[str, int, int, int, int, int]) -> LabelledClip:
            time.sleep(delay)
            self.jobs.append(job)
            return original(job)

        monkeypatch.setattr(store, "_render_one", counted)


def test_a_split_holds_what_the_renderer_gave(rendered: Path, data: Data) -> None:
    from bench.data.ministreet import render_clip

    clips = ClipStore(rendered)
    world = split_identity(data, "target", "val", 0)["world"]
    assert len(clips) == CLIPS
    for i in (0, CLIPS - 1):
        clip, expected = clips.labelled(i), render_clip("cam", world, i, data.height, data.width, 2)
        for name in ARRAYS:
            np.testing.assert_array_equal(getattr(clip, name), getattr(expected, name))
        assert clip.key == f"{rendered.name}/{i:05d}"
    assert clips[-1].key == clips[CLIPS - 1].key
    with pytest.raises(IndexError, match=f"clip {CLIPS} of {CLIPS}"):
        clips[CLIPS]


def test_a_clip_is_a_copy(rendered: Path) -> None:
    clips = ClipStore(rendered)
    first = clips[0].frames.copy()
    clips[0].frames[:] = 0
    np.testing.assert_array_equal(clips[0].frames, first)


def test_a_whole_split_is_found_again_even_read_only(cache: Path, data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = CountedRendering(monkeypatch)
    monkeypatch.setattr("bench.core.files.FileLock", None)  # nothing may be locked, let alone written
    assert is_whole(prepare_split(data, "target", "val", 0, cache))
    assert counted.jobs == []


def truncate(folder: Path) -> None:
    os.truncate(folder / "flow.npy", 1000)


def flip_a_byte(folder: Path) -> None:
    with (folder / "label.npy").open("r+b") as file:
        file.seek(500)
        byte = file.read(1)
        file.seek(500)
        file.write(bytes([byte[0] ^ 1]))


def remove_file(folder: Path) -> None:
    (folder / "valid.npy").unlink()


def remove_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


def half_a_manifest(folder: Path) -> None:
    os.truncate(folder / "manifest.json", 200)


def binary_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(b"\xff\xfe\x00")


def list_manifest(folder: Path) -> None:
    (folder / "manifest.json").write_text("[1, 2]")


def foreign_array(folder: Path) -> None:
    np.save(folder / "frames.npy", np.zeros((CLIPS, 2, 3, 64, 128), np.uint8))


def other_world(folder: Path) -> None:
    """Another split's folder, whole in itself, under this one's name."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["identity"]["world"] += 1
    (folder / "manifest.json").write_text(json.dumps(manifest))


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGE = [
    truncate, flip_a_byte, remove_file, remove_manifest, half_a_manifest, binary_manifest, list_manifest, foreign_array,
    other_world, emptied,
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda f: f.__name__)
def test_a_damaged_split_is_rendered_again(
    damage: Callable[[Path], None], cache: Path, data: Data, rendered: Path
) -> None:
    folder = cache / "clips" / rendered.name
    damage(folder)
    assert not is_whole(folder)
    assert prepare_split(data, "target", "val", 0, cache) == folder
    assert is_whole(folder) and bytes_of(folder) == bytes_of(rendered)


def test_the_hash_covers_size_number_world_and_replicate(data: Data, tmp_path: Path) -> None:
    base = split_identity(data, "target", "train", 0)
    variants = [
        split_identity(data, "target", "val", 0),
        split_identity(data, "target", "train", 1),
        split_identity(data, "source", "train", 0),
        split_identity(data.model_copy(update={"height": 96}), "target", "train", 0),
        split_identity(data.model_copy(update={"frames": 3}), "target", "train", 0),
        split_identity(data.model_copy(update={"family": "other"}), "target", "train", 0),
    ]
    assert all(base != variant for variant in variants)
    assert base["spec"]["camera"] and base["version"]


def test_other_libraries_render_into_a_folder_of_their_own(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    base = split_identity(data, "target", "val", 0)
    assert "rendered with" not in base  # the committed records' hashes stand on it
    monkeypatch.setattr(store, "versions", lambda: {"numpy": "1.26.4", "opencv-python-headless": "4.11.0.86"})
    foreign = split_identity(data, "target", "val", 0)
    assert foreign == base | {"rendered with": {"numpy": "1.26", "opencv-python-headless": "4.11"}}


def test_three_frames(data: Data, tmp_path: Path) -> None:
    small = data.model_copy(update={"frames": 3, "height": 32, "width": 64})
    clip = ClipStore(prepare_split(small, "target", "val", 0, tmp_path))[0]
    assert clip.frames.shape == (3, 3, 32, 64) and clip.flow.shape == (2, 2, 32, 64)


def test_many_processes_render_the_same_bytes(data: Data, tmp_path: Path) -> None:
    few = data.model_copy(update={"height": 32, "width": 32, "target": data.target.model_copy(update={"val": 33})})
    serial = prepare_split(few, "target", "val", 0, tmp_path / "one", workers=1)
    parallel = prepare_split(few, "target", "val", 0, tmp_path / "two", workers=2)
    assert bytes_of(serial) == bytes_of(parallel)


def test_two_threads_render_it_once(data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counted = CountedRendering(monkeypatch, delay=0.02)
    small = data.model_copy(update={"height": 32, "width": 32})
    threads = [threading.Thread(target=prepare_split, args=(small, "target", "val", 0, tmp_path)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(counted.jobs) == CLIPS


def test_an_interrupted_rendering_leaves_nothing_and_a_killed_ones_rest_is_cleared(
    data: Data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = data.model_copy(update={"height": 32, "width": 32})

    def stop(task: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare_split(small, "target", "val", 0, tmp_path, progress=stop)
    assert list((tmp_path / "clips").iterdir()) == []
    folder = prepare_split(small, "target", "val", 0, tmp_path)
    shutil.rmtree(folder)
    leftover = folder.with_name(f".{folder.name}.99999999")  # what a kill -9 would have left
    leftover.mkdir()
    prepare_split(small, "target", "val", 0, tmp_path)
    assert not leftover.exists()


def test_a_lock_that_another_process_holds_is_named(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from filelock import FileLock
with FileLock({str(tmp_path / "split.lock")!r}):
    print("held", flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        with (
            pytest.raises(RunError, match=f"{tmp_path}/split is in use by another process for more than 0 s; wait"),
            locked(tmp_path / "split", timeout=0.1),
        ):
            pass
    finally:
        process.kill()
        process.communicate()
    with locked(tmp_path / "split", timeout=5):  # a killed process holds no lock
        pass


def test_a_lock_is_let_go_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(tmp_path / "x"):
        _ = 1 / 0
    with locked(tmp_path / "x", timeout=0.1):
        pass


@pytest.mark.parametrize("where", ["below a file", "is a file"])
def test_a_cache_that_cannot_be_written_is_named(where: str, data: Data, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache" if where == "below a file" else tmp_path / "cache"
    if where == "is a file":
        cache.mkdir()
        (cache / "clips").write_text("")
    with pytest.raises(RunError, match=f"Cannot write {cache}.*choose another folder") as caught:
        prepare_split(data, "target", "val", 0, cache)
    assert "\n" not in str(caught.value)


FULL = """
import sys, resource
from pathlib import Path
from bench.runs.config import load_shift
from bench.data.rendered import prepare_split
from bench.core.errors import RunError
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))  # no file may grow further: what a full disk looks like
try:
    prepare_split(load_shift("ministreet-tiny").data, "target", "val", 0, Path(sys.argv[1]))
except RunError as error:
    print(error)
"""


def test_a_full_disk_is_an_error_and_not_a_bus_error(tmp_path: Path) -> None:
    process = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    assert (
        process.stdout.startswith("Cannot write ")
        and process.stdout.count("\n") == 1
        and "free space" in process.stdout
    )
    assert [p for p in (tmp_path / "clips").iterdir() if p.suffix != ".lock"] == []


def test_space_is_reserved_before_the_first_clip_is_rendered(tmp_path: Path) -> None:
    array = store._new_array(tmp_path / "a.npy", (1000, 1000), np.uint8)
    assert os.stat(tmp_path / "a.npy").st_blocks * 512 >= 1000 * 1000
    assert not array.any()
    array[:] = 7
    array.flush()
    assert (np.load(tmp_path / "a.npy") == 7).all()


# Labels of earlier frames ---------------------------------------------------------------------------------------------


def test_earlier_labels_lie_in_a_folder_of_their_own_and_move_nothing(cache: Path, data: Data, rendered: Path) -> None:
    from bench.data.ministreet import render_labels

    before = bytes_of(cache / "clips" / rendered.name)
    folder = prepare_split(data, "target", "val", 0, cache, earlier=True)
    assert folder.name != rendered.name and folder.name.startswith("target-val-") and is_whole(folder)
    assert set(bytes_of(folder)) == {"label.npy", "manifest.json"}
    assert bytes_of(cache / "clips" / rendered.name) == before and is_whole(rendered)
    labels = ClipStore(cache / "clips" / rendered.name, folder).previous_labels()
    world = split_identity(data, "target", "val", 0)["world"]
    for i in range(CLIPS):
        expected = render_labels("cam", world, i, data.height, data.width, data.frames)
        np.testing.assert_array_equal(labels[i], expected[:-1])
        np.testing.assert_array_equal(ClipStore(rendered).labels()[i], expected[-1])


def test_earlier_labels_are_found_again_and_made_again_when_damaged(
    cache: Path, data: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepare_split(data, "target", "val", 0, cache, earlier=True)
    content, jobs = bytes_of(folder), []
    original = store._render_earlier
    monkeypatch.setattr(store, "_render_earlier", lambda job: jobs.append(job) or original(job))
    assert prepare_split(data, "target", "val", 0, cache, earlier=True) == folder and not jobs
    flip_a_byte(folder)
    assert bytes_of(prepare_split(data, "target", "val", 0, cache, earlier=True)) == content and len(jobs) == CLIPS


def test_earlier_labels_take_the_labels_grant(cache: Path, data: Data, rendered: Path) -> None:
    from bench.core.access import stage
    from bench.core.errors import AccessError

    clips = ClipStore(rendered, prepare_split(data, "target", "val", 0, cache, earlier=True))
    with stage("target-val"), pytest.raises(AccessError, match=r"label.npy is closed"):
        clips.previous_labels()
    with stage("target-val", "target-val/label"):
        assert clips.previous_labels().shape == (CLIPS, data.frames - 1, data.height, data.width)
