"""Files that are whole or not there: locks, atomic writes, hashes, errors of the disk."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import RunError, UsageError


@contextmanager
def locked(path: Path, timeout: float = 600.0) -> Iterator[None]:
    """Hold the lock file beside ``path``.

    Raises:
        RunError: another process holds it for longer than ``timeout`` seconds, or the folder cannot be written.
    """
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f"{path.name}.lock"))
        try:
            lock.acquire(timeout=timeout)
        except Timeout:
            raise RunError(
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


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole or not at all.

    Raises:
        RunError: the disk is full or read-only.
    """
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    with disk_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(text, encoding="utf-8")
            os.replace(scratch, path)
        finally:
            scratch.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """First 12 hex digits of a file's SHA-256.

    Raises:
        UsageError: no such file.
    """
    if not path.is_file():
        raise UsageError(f"No source model at {path}")
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()[:12]
