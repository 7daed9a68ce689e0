"""Whether a GPU computes in a method's box; where it does not, which closed calls and folders its driver wants."""

from __future__ import annotations

import itertools
import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from bench.core import box
from bench.runs.around import Around
from bench.runs.boxed import _computes

SPECIAL = {"clone", "kill", "tgkill", "ioctl"}
"""Closed in part: the filter knows them by name."""
FOLDERS = (
    "/proc",
    "/proc/self",
    "/proc/self/task",
    "/sys",
    "/dev",
    "/dev/shm",
    "/tmp",
    "/run",
    "/var",
    "/etc",
    "/usr",
    "/opt",
    "/root",
    "/home",
)


def close_one_call(name: str) -> None:
    """Close this system call alone."""
    box._LIBC.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS: a filter without a right that users lack
    for table in (box._CALLS[os.uname().machine][1], box._SHARED):
        for call in table.keys() - {name} - SPECIAL:
            del table[call]
    box._filter_calls()


def close_files(folder: str, allowed: str) -> None:
    """Close files alone, as a method's box does, but for one folder."""
    box._filter_calls = lambda driver=False: None
    opened = {kind: [Path(folder)] if allowed == kind else [] for kind in ("read", "write", "devices")}
    box.close_box([*readable(), *opened["read"]], opened["write"], [*box.of_devices(gpu=True), *opened["devices"]])


def close_half(half: str) -> None:
    """Of what the box of a GPU closes, close files alone or calls alone."""
    if half == "calls":
        box._LIBC.prctl(38, 1, 0, 0, 0)
        box._filter_calls(driver=True)
    else:
        box._filter_calls = lambda driver=False: None
        box.close_box(readable(), devices=box.of_devices(gpu=True), driver=True)


def readable() -> list[Path]:
    return [Path(f"/proc/{os.getpid()}"), *Around.of_now().code([])]


def in_child(close: Callable[..., None], arguments: tuple[str, ...], device: str) -> None:
    """What a child does: close something, then compute."""
    close(*arguments)
    os._exit(0 if (torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item() == 512 else 1)


def computes(close: Callable[..., None], arguments: tuple[str, ...], device: str) -> bool:
    """Whether a device computes in a process that has closed something first; a fresh one, since CUDA does not survive a fork."""
    child = multiprocessing.get_context("spawn").Process(target=in_child, args=(close, arguments, device))
    child.start()
    child.join(120)
    child.kill()
    return child.exitcode == 0


def find_needs(device: str) -> tuple[list[str], list[str]]:
    """Calls each of which alone, closed, stops a device; folders each of which alone, opened, lets it compute."""
    calls: list[Any] = [(name,) for name in sorted({*box._CALLS[os.uname().machine][1], *box._SHARED} - SPECIAL)]
    folders = list(itertools.product(FOLDERS, ("read", "write", "devices")))
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        alive = list(pool.map(lambda arguments: computes(close_one_call, arguments, device), calls))
        opened = list(pool.map(lambda arguments: computes(close_files, arguments, device), folders))
    stopping = [name for (name,), good in zip(calls, alive, strict=True) if not good]
    return stopping, [" ".join(arguments) for arguments, good in zip(folders, opened, strict=True) if good]


@pytest.mark.skipif(not box.available(), reason="no box on this system")
def test_a_gpu_computes_in_a_box(measured: Callable[..., None]) -> None:
    """Where it does not, methods are watched only; which half of the box stops it is measured first, since a lease may end."""
    good = _computes("cuda")
    halves = {half: computes(close_half, (half,), "cuda") for half in ("files", "calls")}
    calls, folders = ([], []) if good else find_needs("cuda")
    measured(what="box", computes=good, in_half=halves, stopping_calls=calls, helping_folders=folders)
    assert good, f"in halves of the box {halves}; its driver wants of calls {calls}, and of folders one of {folders}"


@pytest.mark.skipif(not box.available(), reason="no box on this system")
@pytest.mark.parametrize(
    ("close", "arguments"),
    [
        (close_half, ("files",)),
        (close_half, ("calls",)),
        (close_one_call, ("socket",)),
        (close_files, ("/usr", "read")),
    ],
)
def test_what_closes_a_part_of_the_box_lets_a_processor_compute(
    close: Callable[..., None], arguments: tuple[str, ...]
) -> None:
    assert computes(close, arguments, "cpu")
