"""Files that are whole or not there: locks, atomic writes, hashes, errors of the disk."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from .errors import Busy, RunError, UsageError

watchers: list[Callable[[Path, Path], None]] = []
"""Called by :func:`whole` with a path and the file that is about to take its place; may refuse (``bench.core.outputs``)."""


@contextmanager
def locked(path: Path, timeout: float = 600.0) -> Iterator[None]:
    """Hold the lock file beside ``path``.

    Raises:
        Busy: another process holds it for longer than ``timeout`` seconds.
        RunError: the folder cannot be written, or the lock's name is taken by a file of the user's.
    """
    path = Path(os.path.abspath(path))  # "." has no name
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f"{path.name}.lock")
        if file.exists() and (not file.is_file() or file.stat().st_size):  # older filelocks empty what they lock
            raise RunError(f"{file} is needed as a lock but is another file; move it away or choose another folder")
        lock = FileLock(file)
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
            for watcher in watchers:
                watcher(path, scratch)
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


def no_file(path: Path) -> str | None:
    """What stands where a file is expected: ``a folder``, ``a pipe``, ``a device``, ``a socket``. None for a file, and where
    nothing is. To open a pipe would wait for its other end for ever, and a device may never end."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return None if stat.S_ISREG(mode) else kinds.get(stat.S_IFMT(mode), "a device")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, in hex.

    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """First 12 hex digits of a file's SHA-256.

    Raises:
        UsageError: no such file.
    """
    if not os.path.isfile(path):
        raise UsageError(f"No source model at {path}")
    return sha256_of(path)[:12]
