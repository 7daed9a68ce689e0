"""Cleaning up after a killed process: its scratch files, locks and worker processes."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from bench.core import files
from bench.core.errors import RunError
from bench.core.files import clear_left_over, clear_scratch, disk_errors, locked, whole, write_atomically

KILLED = """
import os, signal, sys
from pathlib import Path
from bench.core.files import whole
with whole(Path(sys.argv[1]), sys.argv[2]) as scratch:
    scratch.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def kill_while_writing(path: Path, ending: str = "") -> Path:
    """Kills a process while it writes ``path``; gives the scratch file that it left."""
    before = set(path.parent.iterdir()) if path.parent.is_dir() else set()
    process = subprocess.run([sys.executable, "-c", KILLED, str(path), ending])
    assert process.returncode == -signal.SIGKILL
    (scratch,) = set(path.parent.iterdir()) - before
    return scratch


def test_the_next_process_that_writes_in_a_folder_removes_what_a_killed_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch = kill_while_writing(tmp_path / "page.md"), kill_while_writing(tmp_path / "film.gif", ".gif")
    assert scratch[1].suffix == ".gif"
    monkeypatch.setattr(files, "_cleared", set())
    write_atomically(tmp_path / "other.md", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["other.md"]


def test_only_scratch_files_of_processes_that_ended_go(tmp_path: Path) -> None:
    ended = kill_while_writing(tmp_path / "page.md")
    folder = ended.with_name(ended.name.replace("page", "clips"))
    folder.mkdir()
    (folder / "frames.npy").touch()
    elsewhere = ended.with_name(ended.name[:-8] + "0" * 8)  # another machine's process of that number
    kept = [elsewhere, tmp_path / ".page.md.12345", tmp_path / ".bench-1-00000000", tmp_path / "a.bench-1-00000000"]
    for path in kept:
        path.write_text("stays")
    with whole(tmp_path / "film.gif", ".gif") as running:
        running.touch()
        clear_scratch(tmp_path)
        assert sorted(tmp_path.iterdir()) == sorted([*kept, running])
    long_ago = time.time() - 2 * files.FORGOTTEN
    os.utime(elsewhere, (long_ago, long_ago))
    clear_scratch(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*kept[1:], tmp_path / "film.gif"])


def test_a_lock_leaves_no_file_and_still_keeps_others_out(tmp_path: Path) -> None:
    """Many take turns at a lock whose file comes and goes: the number that they raise is read and written by one at a time."""
    number = tmp_path / "number"
    number.write_text("0")

    def raise_it() -> None:
        for _ in range(20):
            with locked(tmp_path / "it", timeout=30):
                count = int(number.read_text())
                time.sleep(0.0005)
                number.write_text(str(count + 1))

    threads = [threading.Thread(target=raise_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert number.read_text() == "80"
    assert [path.name for path in tmp_path.iterdir()] == ["number"]


def test_a_lock_that_was_removed_while_it_was_waited_for_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between opening the file and locking it, its holder may have removed it: two would hold locks of one name."""
    held = []
    original = files._is_held

    def removed_once(lock: files.BaseFileLock, file: Path) -> bool:
        if not held:
            file.unlink()
        held.append(original(lock, file))
        return held[-1]

    monkeypatch.setattr(files, "_is_held", removed_once)
    with locked(tmp_path / "it"):
        assert (tmp_path / "it.lock").is_file()
    assert held == [False, True]


def test_what_a_kill_behind_a_result_left_goes_unless_somebody_is_at_work(tmp_path: Path) -> None:
    result, work, lock = tmp_path / "model.safetensors", tmp_path / "model", tmp_path / "model.safetensors.lock"
    result.touch()
    work.mkdir()
    lock.touch()
    with locked(result):
        clear_left_over(result, work)
        assert work.is_dir() and lock.is_file()
        (work / "state").touch()
    lock.touch()
    clear_left_over(result, work)
    assert list(tmp_path.iterdir()) == [result]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "free space or choose another folder"),
        (errno.EDQUOT, "free space or choose another folder"),
        (errno.EROFS, "choose another folder or name"),
        (errno.ENAMETOOLONG, "choose another folder or name"),
    ],
)
def test_an_error_of_the_disk_comes_with_what_helps(number: int, advice: str) -> None:
    with pytest.raises(RunError) as caught, disk_errors(Path("x")):
        raise OSError(number, os.strerror(number))
    assert str(caught.value) == f"Cannot write x: {os.strerror(number)}; {advice}"


RENDER = """
import sys
from pathlib import Path
from bench.core.progress import quiet
from bench.data import rendered
from bench.runs.config import load_shift

def told(what, done, total):
    print(done, flush=True)

if __name__ == "__main__":
    data = load_shift("ministreet-tiny").data
    many = data.model_copy(update={"target": data.target.model_copy(update={"train": 4000})})
    rendered.prepare_split(many, "target", "train", 0, Path(sys.argv[1]), told, workers=2)
"""


def workers_of(pid: int) -> list[int]:
    """Process numbers of the render workers that a process has started."""
    pids = []
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            text = status.read_text()
            if f"\nPPid:\t{pid}\n" in text and "spawn_main" in (status.parent / "cmdline").read_text():
                pids.append(int(status.parent.name))
        except OSError:
            continue
    return pids


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends them")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_processes_that_render_end_with_the_one_that_they_render_for(how: signal.Signals, tmp_path: Path) -> None:
    script = tmp_path / "render.py"
    script.write_text(RENDER)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "cache")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None and process.stdout.readline() == "1\n"
    workers = workers_of(process.pid)
    assert len(workers) == 2
    process.send_signal(how)
    process.communicate()
    waited = time.monotonic()
    while alive := [pid for pid in workers if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() - waited < 10, f"still there: {alive}"
        time.sleep(0.05)


def test_a_worker_whose_parent_has_ended_before_it_could_ask_ends_too() -> None:
    from bench.core.box import end_with_parent

    worker = multiprocessing.get_context("spawn").Process(target=end_with_parent, args=(os.getpid() + 1,))
    worker.start()
    worker.join(60)
    assert worker.exitcode == 1
