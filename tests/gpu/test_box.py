"""Whether a GPU computes in a method's box; where it does not, which closed calls and folders its driver wants."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from bench.core import box
from bench.runs.around import Around
from bench.runs.boxed import _computes

SPECIAL = {"clone", "kill", "tgkill", "ioctl"}
"""Closed in part: the filter knows them by name."""
FOLDERS = ("/proc", "/sys", "/dev", "/dev/shm", "/tmp", "/run", "/var", "/etc", "/usr", "/opt", "/root", "/home")


def in_child(close: Callable[[], None], device: str) -> bool:
    """Whether a device computes in a process of its own that has closed something first."""

    def work() -> None:
        close()
        os._exit(0 if (torch.ones(8, 8, device=device) @ torch.ones(8, 8, device=device)).sum().item() == 512 else 1)

    child = multiprocessing.get_context("fork").Process(target=work)
    child.start()
    child.join(60)
    child.kill()
    return child.exitcode == 0


def only_calls(names: set[str]) -> None:
    """Close these system calls alone."""
    _, calls = box._CALLS[os.uname().machine]
    for table in (calls, box._SHARED):
        for name in table.keys() - names - SPECIAL:
            del table[name]
    box._filter_calls()


def only_files(more: Mapping[str, int]) -> None:
    """Close files alone, as a method's box does, but for these folders."""
    box._filter_calls = lambda driver=False: None
    own = {Path(f"/proc/{os.getpid()}"): box.READ, **dict.fromkeys(Around.of_now().code([]), box.READ)}
    opened = own | {Path(place): rights for place, rights in more.items()}
    by_rights = {rights: [place for place, of in opened.items() if of == rights] for rights in set(opened.values())}
    box.close_box(
        by_rights.get(box.READ, []),
        by_rights.get(box.WORK, []),
        [*box.of_devices(gpu=True), *by_rights.get(box.DEVICE, [])],
    )


def wanted(device: str) -> tuple[list[str], list[str]]:
    """Calls each of which alone, closed, stops a device; folders each of which alone, opened, lets it compute."""
    _, calls = box._CALLS[os.uname().machine]
    closed = sorted({*calls, *box._SHARED} - SPECIAL)
    with ThreadPoolExecutor(max(1, (os.cpu_count() or 1) // 2)) as pool:
        alive = pool.map(lambda name: in_child(lambda: only_calls({name}), device), closed)
        open_too = pool.map(
            lambda one: in_child(lambda: only_files({one[0]: one[1]}), device),
            [(place, rights) for place in FOLDERS for rights in (box.READ, box.WORK, box.DEVICE)],
        )
        stopping = [name for name, good in zip(closed, alive, strict=True) if not good]
        kinds = [f"{place} ({what})" for place in FOLDERS for what in ("read", "write", "device")]
        helping = [kind for kind, good in zip(kinds, open_too, strict=True) if good]
    return stopping, helping


@pytest.mark.skipif(not box.available(), reason="no box on this system")
def test_a_gpu_computes_in_a_box(measured: Callable[..., None]) -> None:
    if torch.cuda.is_initialized():
        pytest.skip("CUDA is initialised in this process, which then cannot fork; run this file alone")
    if _computes("cuda"):
        return
    calls, folders = wanted("cuda")
    measured(what="box", stopping_calls=calls, helping_folders=folders)
    pytest.skip(
        f"methods are watched only: its driver wants of {', '.join(calls) or 'no call'}; of {', '.join(folders) or 'no folder'}"
    )
