"""Kill a process at any point at which it changes a file, do the same again, and compare with what was never disturbed.

A point is a call of Python that opens a file for writing, renames, removes or makes something under a folder, seen through an audit
hook before it happens. A rename is two points: the file as it is, and cut to its half, as when the machine goes down.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(
    [
        "bench.runs.run", "bench.leaderboards.page", "bench.leaderboards.submit", "cv2",
        "torch._dynamo", "torchvision.transforms.v2.functional",  # seconds; an optimiser's first step imports the former
    ]
)  # fmt: skip
"""One server for all, whoever asks it first: it has imported what the children need."""
CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def nothing(folder: Path) -> None:
    """Nothing need be there before."""


@dataclass(frozen=True)
class Case:
    """Something that is killed.

    Attributes:
        work: what it does in a folder; done again it goes on.
        prepare: what must be there before; done once.
    """

    name: str
    work: Callable[[Path], None]
    prepare: Callable[[Path], None] = nothing


@dataclass
class Count:
    """What came of the kills of a case: by the point, files with other bits than undisturbed, missing, and too many."""

    points: int
    kills: int = 0
    wrong: dict[str, list[str]] = field(default_factory=dict)
    missing: dict[str, list[str]] = field(default_factory=dict)
    stray: dict[str, list[str]] = field(default_factory=dict)


def watch(folder: Path, kill_at: int | None, log: Path) -> None:
    """Note the points of this process in ``log``, and kill it at one of them."""
    import sys

    root, lines = os.path.realpath(folder), os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    number = 0

    def point(event: str, path: str, half: bool = False) -> None:
        nonlocal number
        os.write(lines, f"{event} {os.path.relpath(path, root)}{' half' if half else ''}\n".encode())
        if number == kill_at:
            if half:
                handle = os.open(path, os.O_WRONLY)
                os.ftruncate(handle, os.fstat(handle).st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        number += 1

    busy = False

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal busy
        if busy or (event != "open" and event not in CHANGES):
            return
        name = arguments[0]
        if not isinstance(name, (str, bytes, os.PathLike)) or (event == "open" and not arguments[2] & WRITES):
            return
        folders = (
            [argument for argument in arguments[1:] if isinstance(argument, int) and argument > 2]
            if event != "open"
            else []
        )
        beside = os.readlink(f"/proc/self/fd/{folders[-1]}") if folders and not os.path.isabs(os.fsdecode(name)) else ""
        path = os.path.abspath(os.path.join(beside, os.fsdecode(name)))
        if not path.startswith(f"{root}{os.sep}"):
            return
        busy = True
        point(event, path)
        if event == "os.rename" and os.path.isfile(path):
            point(event, path, half=True)
        busy = False

    sys.addaudithook(hook)


def _child(act: Callable[[Path], None], folder: Path, kill_at: int | None, log: Path | None) -> None:
    import torch

    torch.set_num_threads(1)
    if log is not None:
        watch(folder, kill_at, log)
    act(folder)


def go(act: Callable[[Path], None], folder: Path, kill_at: int | None = None, log: Path | None = None) -> None:
    """Do something in a process of its own, which is killed at a point if one is given."""
    process = PROCESSES.Process(target=_child, args=(act, folder, kill_at, log))
    process.start()
    process.join(300)
    assert process.exitcode == (0 if kill_at is None else -signal.SIGKILL), f"{folder}: exit code {process.exitcode}"


def tree(folder: Path) -> dict[str, Any]:
    """Everything in a folder by its name; of a record without what it cost and when."""
    contents: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        content: Any = None if path.is_dir() else path.read_bytes()
        if path.name == "record.json" or (path.suffix == ".json" and path.parent.parent.name == "records"):
            content = {key: value for key, value in json.loads(content).items() if key not in ("cost", "date")}
        contents[path.relative_to(folder).as_posix()] = content
    return contents


def chosen(points: int, sample: int | None) -> list[int]:
    """Points spread evenly over all that there are, the first and the last among them; all without a number."""
    if sample is None or sample >= points:
        return list(range(points))
    return sorted({round(i * (points - 1) / (sample - 1)) for i in range(sample)})


def kill_everywhere(case: Case, base: Path, sample: int | None = None) -> Count:
    """Kill a case at its points, each time from the start, do it again, and compare.

    Args:
        sample: number of points; all by default.
    """
    ready, right, log = base / "ready", base / "right", base / "points.log"
    ready.mkdir(parents=True)
    go(case.prepare, ready)
    shutil.copytree(ready, right, symlinks=True)
    go(case.work, right, log=log)
    expected, points = tree(right), log.read_text().splitlines()
    count = Count(len(points))
    for number in chosen(len(points), sample):
        folder = base / "killed"
        shutil.copytree(ready, folder, symlinks=True)
        go(case.work, folder, number, log)
        go(case.work, folder)
        contents, at = tree(folder), f"{number} ({points[number]})"
        count.kills += 1
        for kind, names in (
            (count.wrong, [n for n in contents.keys() & expected.keys() if contents[n] != expected[n]]),
            (count.missing, list(expected.keys() - contents.keys())),
            (count.stray, list(contents.keys() - expected.keys())),
        ):
            if names:
                kind[at] = sorted(names)
        shutil.rmtree(folder)
    return count
