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
FOLDERS = ("/proc", "/sys", "/dev", "/dev/shm", "/tmp", "/run", "/var", "/etc", "/usr", "/opt", "/root", "/home")


def close_one_call(name: str) -> None:
    """Close this system call alone."""
    for table in (box._CALLS[os.uname().machine][1], box._SHARED):
        for call in table.keys() - {name} - SPECIAL:
            del table[call]
    box._filter_calls()


def close_files(folder: str, allowed: str) -> None:
    """Close files alone, as a method's box does, but for one folder."""
    box._filter_calls = lambda driver=False: None
    rules = {
        "read": [Path(f"/proc/{os.getpid()}"), *Around.of_now().code([])],
        "write": [],
        "devices": box.of_devices(gpu=True),
    }
    rules[allowed].append(Path(folder))
    box.close_box(**rules)


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
    """Where it does not, methods are watched only."""
    good = _computes("cuda")
    calls, folders = ([], []) if good else find_needs("cuda")
    measured(what="box", computes=good, stopping_calls=calls, helping_folders=folders)
    assert good, f"its driver wants of calls {calls}, and of folders one of {folders}"
