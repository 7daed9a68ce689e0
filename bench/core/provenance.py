"""Where a number comes from: code revision, versions, hardware. No path, user or host name."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .registry import ROOT

if TYPE_CHECKING:
    import torch

CODE = ("stpl", "methods", "bench")
"""Folders of the code, beside each other."""
BUILT = "core/built.json"
"""In ``bench``, written by ``setup.py`` into the wheel: what :func:`code` said where it was built."""
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "safetensors")


def _git(*arguments: str) -> str | None:
    # Or status writes the index anew, and a run that is killed meanwhile leaves the checkout locked.
    command = ["git", "--no-optional-locks", *arguments]
    try:
        done = subprocess.run(command, cwd=ROOT.parent, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


@lru_cache
def code() -> dict[str, Any]:
    """Revision of the checkout and whether code differs from it, None where git does not say; digest of the code itself.

    Of an installed package: the revision that it was built from, whether it differed from that or was edited since, its version.
    """
    # What git does not track is no checkout, though it may lie inside another repository.
    if not _git("ls-files", "--", "bench"):
        return {**_installed(), "source": source_here()}
    revision = _git("rev-parse", "--short=12", "HEAD")
    dirty = _git("status", "--porcelain", "--", *CODE, "pyproject.toml")
    facts = {"revision": revision, "dirty": bool(dirty) if revision and dirty is not None else None}
    return {**facts, "source": source_here()}


def source_here() -> str:
    """SHA-256 over the files of the code as they lie here: Python and YAML, each by path and git's name for its bytes."""
    files = (path for name in CODE for path in (ROOT.parent / name).rglob("*") if path.suffix in (".py", ".yaml"))
    return _digest({path.relative_to(ROOT.parent).as_posix(): _blob(path.read_bytes()) for path in files})


def source_at(revision: str) -> str | None:
    """The same of a revision, None where the history of this checkout has no such one."""
    if _git("merge-base", "--is-ancestor", revision, "HEAD") is None:
        return None
    lines = (_git("ls-tree", "-r", revision, "--", *CODE) or "").splitlines()
    files = {path: facts.split()[2] for facts, _, path in (line.partition("\t") for line in lines)}
    return _digest({path: blob for path, blob in files.items() if path.endswith((".py", ".yaml"))})


def _blob(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _digest(files: Mapping[str, str]) -> str:
    return hashlib.sha256("\n".join(f"{blob} {path}" for path, blob in sorted(files.items())).encode()).hexdigest()


def _installed() -> dict[str, Any]:
    built = {"revision": None, "dirty": None}
    with contextlib.suppress(OSError, ValueError):
        built |= json.loads((ROOT / BUILT).read_text(encoding="utf-8"))
    try:
        package = importlib.metadata.distribution("stpl-benchmark")
    except importlib.metadata.PackageNotFoundError:
        return {**built, "version": None}
    if built["revision"] and not built["dirty"]:
        built["dirty"] = any(_edited(file) for file in package.files or () if file.hash)
    return {**built, "version": package.version}


def _edited(file: importlib.metadata.PackagePath) -> bool:
    """Whether an installed file differs from what was installed."""
    assert file.hash is not None
    with contextlib.suppress(OSError):
        digest = hashlib.new(file.hash.mode, file.read_binary()).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=") != file.hash.value
    return True


@lru_cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that numbers depend on."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            installed[package] = "missing"
    return installed


@lru_cache
def cpu_name() -> str:
    """Model name of the processor."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


@lru_cache
def cpu_model() -> str:
    """Family, model and stepping of the processor, and the widest instructions that torch uses on it.

    Clouds call different processors by one name (``AMD EPYC``), and these sum in different orders.
    """
    import torch

    numbers: dict[str, str] = {}
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            key, _, value = line.partition(":")
            if key.strip() in ("cpu family", "model", "stepping"):
                numbers.setdefault(key.strip(), value.strip())
    facts = [
        f"{name.removeprefix('cpu ')} {numbers[name]}"
        for name in ("cpu family", "model", "stepping")
        if name in numbers
    ]
    return ", ".join([*facts, torch.backends.cpu.get_cpu_capability()])


def card(device: torch.device) -> dict[str, str]:
    """The name of a GPU, as its driver says it; nothing for a processor."""
    import torch

    return {"gpu": torch.cuda.get_device_name(device)} if device.type == "cuda" else {}


def hardware(device: torch.device, threads: int) -> dict[str, Any]:
    """Processor, cores, threads used, kind of device, and which GPU it is."""
    return {
        "cpu": cpu_name(),
        "cpu_model": cpu_model(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": device.type,
        **card(device),
        "system": platform.system(),
    }


Environments = tuple[dict[str, str], ...]
"""Each environment that something was made in, in order; several where it was interrupted and resumed elsewhere."""


def environment(device: torch.device, threads: int) -> dict[str, str]:
    """What decides in which order is summed, for a file that outlives the process that wrote it."""
    packages = {name: versions()[name] for name in PACKAGES}
    return {"cpu_model": cpu_model(), "threads": str(threads), "device": device.type, **card(device), **packages}


def environments_in(facts: Mapping[str, object]) -> Environments:
    """Environments that a file's metadata lists under ``environments``; empty for files from before they were recorded."""
    environments = facts.get("environments")
    return (
        tuple(dict(entry) for entry in environments if isinstance(entry, dict))
        if isinstance(environments, list)
        else ()
    )


def reset_peak_memory() -> None:
    """Start counting peak memory anew, where the system can (Linux)."""
    with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak_memory_mb() -> float:
    """Peak resident memory of this process in MB (1e6 bytes), since :func:`reset_peak_memory` where that works."""
    with contextlib.suppress(OSError), open("/proc/self/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak * 1024 / 1e6
