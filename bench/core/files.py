"""Files that are whole or not there: locks, atomic writes, hashes, errors of the disk."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import Busy, RunError, UsageError


@contextmanager
def locked(path: Path, timeout: float = 600.0) -> Iterator[None]:
    """Hold the lock file beside ``path``.

    Raises:
        Busy: another process holds it for longer than ``timeout`` seconds.
        RunError: the folder cannot be written.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.name}.lock"))
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            raise Busy(
                f"{path} is in use by another process for more than {timeout:.0f} s; wait for it, or stop it and run again"
            ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a full or read-only disk into one line with the path."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"Cannot write {path}: {error.strerror or error}; free space or choose another folder"
        ) from error


@contextmanager
def whole(path: Path, ending: str = "") -> Iterator[Path]:
    """A name beside ``path`` for a file or folder that takes its place when the block ends well; else nothing of it stays.

    Args:
        ending: of that name, for encoders that go by it. Without one, what a killed process leaves is found by no ``*.json``.

    Raises:
        RunError: the disk is full or read-only.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}{ending}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            yield scratch
            os.replace(scratch, path)
        finally:
            shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink(missing_ok=True)


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file whole or not at all; text as UTF-8.

    Raises:
        RunError: the disk is full or read-only.
    """
    with whole(path) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)


def file_hash(path: Path) -> str:
    """First 12 hex digits of a file's SHA-256.

    Raises:
        UsageError: no such file.
    """
    if not path.is_file():
        raise UsageError(f"No source model at {path}")
    return sha256(path)[:12]


def sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hex digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
