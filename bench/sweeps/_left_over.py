"""What a killed driver leaves of its Ray cluster: some of Ray's helper processes live on, and its temporary folder.

Runs as a process of its own beside a driver (``python -m bench.sweeps._left_over FOLDER``): when the pipe to it is closed, which
the operating system does however the driver ends, it ends what is left.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

MARK = "BENCH_RAY_DIR"
"""Environment variable of all processes of a local cluster: its temporary folder."""
PLACE = Path("/tmp")
"""Sockets lie in the folder, and their paths may not be long: not under $TMPDIR, which may be deep."""


@contextlib.contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder for a cluster that is started inside; nothing of either is left, even if this process is killed."""
    clear_left_over()
    folder = Path(tempfile.mkdtemp(prefix=f"bench-ray-{os.getuid()}-{os.getpid()}-", dir=PLACE))
    watcher = subprocess.Popen(
        [sys.executable, "-m", __name__, str(folder)], stdin=subprocess.PIPE, start_new_session=True
    )
    os.environ[MARK] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop(MARK, None)
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):
            watcher.communicate()  # closes the pipe


def clear_left_over() -> None:
    """End what is left of this user's sweeps whose driver was killed together with its watcher."""
    for folder in PLACE.glob(f"bench-ray-{os.getuid()}-*"):
        owner = folder.name.split("-")[3]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            clear(folder)


def clear(folder: Path) -> None:
    """End the processes of a cluster and remove its folder."""
    for pid in marked(folder):
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)


def marked(folder: Path) -> list[int]:
    """Processes that belong to the cluster of a temporary folder."""
    mark, pids = f"{MARK}={folder}".encode(), []
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if mark in path.read_bytes().split(b"\0"):
                pids.append(int(path.parent.name))
    return pids


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdin.read()
    for _ in range(3):  # what is just being started is caught the next time
        clear(Path(sys.argv[1]))
        if not marked(Path(sys.argv[1])):
            break
        time.sleep(0.5)
