"""Files that are whole or not there: locks, atomic writes, hashes, errors of the disk."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import platform
import re
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from .errors import Busy, RunError, UsageError

watchers: list[Callable[[Path, Path], None]] = []
"""Called by :func:`whole` with a path and the file that is about to take its place; may refuse (``bench.core.outputs``)."""


@contextmanager
def locked(path: Path, timeout: float = 600.0) -> Iterator[None]:
    """Hold the lock file beside ``path``; it goes when it is let go.

    Raises:
        Busy: another process holds it for longer than ``timeout`` seconds.
        RunError: the folder cannot be written, or the lock's name is taken by a file of the user's.
    """
    path = Path(os.path.abspath(path))  # "." has no name
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.with_name(f"{path.name}.lock")
        lock = FileLock(file)
        while True:
            if _taken(file):  # older filelocks empty what they lock
                raise RunError(f"{file} is needed as a lock but is another file; move it away or choose another folder")
            try:
                lock.acquire(timeout=timeout)
            except Timeout:
                raise Busy(
                    f"{path} is in use by another process for more than {timeout:.0f} s; wait for it, or stop it and run again"
                ) from None
            if _is_held(lock, file):
                break
            lock.release()  # a file that its holder removed between our opening and our locking it
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            file.unlink()  # while it is held: whoever has opened it meanwhile sees that it is gone
        lock.release()


def clear_left_over(path: Path, work: Path | None = None, tidy: Callable[[Path], None] | None = None) -> None:
    """Remove what a process that was killed behind its result at ``path`` left: its lock, and the folder that it worked in.

    Where another process holds the lock, or nothing can be written, all stays.

    Args:
        work: the folder that it worked in.
        tidy: called with ``path`` where not all in that folder may go.
    """
    if path.with_name(f"{path.name}.lock").exists() or (work is not None and work.is_dir()):
        with contextlib.suppress(Busy, RunError), locked(path, timeout=0):
            if tidy is not None:
                tidy(path)
            elif work is not None:
                shutil.rmtree(work, ignore_errors=True)


def _taken(file: Path) -> bool:
    """Whether the lock's name belongs to another file: no regular one, or one that is not empty, as locks are."""
    try:
        status = file.stat()
    except FileNotFoundError:
        return False
    return not stat.S_ISREG(status.st_mode) or status.st_size > 0


def _is_held(lock: BaseFileLock, file: Path) -> bool:
    """Whether the file that was locked still has the lock's name."""
    descriptor = lock._context.lock_file_fd
    try:
        return descriptor is None or os.path.samestat(os.fstat(descriptor), file.stat())
    except FileNotFoundError:
        return False


PLACE = frozenset(
    {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY}
    | {errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}
)
"""Errors that more space would not mend."""


def check_folder(path: Path, option: str = "--out") -> None:
    """Refuse, before work starts, a folder that cannot be one: it or what it lies in is something else, or its name is too long.

    Args:
        option: that gives the folder, for the message.

    Raises:
        UsageError: names what is no folder.
    """
    try:
        os.lstat(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise UsageError(f"{path}: {error.strerror}; choose another {option}") from None
    there = next((place for place in (path, *path.parents) if os.path.lexists(place)), None)
    if there is not None and not os.path.isdir(there):
        raise UsageError(f"{there} is not a folder; choose another {option}")


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a full or read-only disk into one line with the path."""
    try:
        yield
    except OSError as error:
        advice = "choose another folder or name" if error.errno in PLACE else "free space or choose another folder"
        raise RunError(f"Cannot write {path}: {error.strerror or error}; {advice}") from error


@contextmanager
def whole(path: Path, ending: str = "") -> Iterator[Path]:
    """A name beside ``path`` for a file or folder that takes its place when the block ends well; else nothing of it stays.

    What killed processes left under such names in the folder is removed when a process first writes there.

    Args:
        ending: of that name, for encoders that go by it. Without one, what a killed process leaves is found by no ``*.json``.

    Raises:
        RunError: the disk is full or read-only.
    """
    with disk_errors(path), scratch_beside(path, ending) as scratch:
        yield scratch
        for watcher in watchers:
            watcher(path, scratch)
        os.replace(scratch, path)


@contextmanager
def scratch_beside(path: Path, ending: str = "") -> Iterator[Path]:
    """A name beside ``path`` for a file or folder of which nothing stays when the block ends; see :func:`whole`.

    Raises:
        RunError: the folder cannot be written.
    """
    scratch = path.with_name(f".{path.name}.bench-{os.getpid()}-{_processes()}{ending}")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent not in _cleared:
        clear_scratch(path.parent)
        _cleared.add(path.parent)
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch) if scratch.is_dir() else scratch.unlink(missing_ok=True)


_SCRATCH = re.compile(r"\..+\.bench-(\d+)-([0-9a-f]{8})(\.\w+)?")
_cleared: set[Path] = set()
FORGOTTEN = 86_400.0
"""Seconds after which a scratch file of another system is nobody's any more."""


def clear_scratch(folder: Path) -> None:
    """Remove what processes that have ended left behind under the names of :func:`whole`."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(folder)):
            if not (match := _SCRATCH.fullmatch(entry.name)):
                continue
            if match[2] == _processes():
                ended = os.path.isdir("/proc/self") and not os.path.isdir(f"/proc/{match[1]}")
            else:
                ended = time.time() - entry.stat(follow_symlinks=False).st_mtime > FORGOTTEN
            if ended and entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            elif ended:
                os.unlink(entry.path)


@lru_cache
def _processes() -> str:
    """Hash of the machine and its process namespace, within which alone a process number means one process."""
    identifiers = [platform.node()]
    with contextlib.suppress(OSError):
        identifiers.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256(" ".join(identifiers).encode()).hexdigest()[:8]


def write_atomically(path: Path, content: str | bytes | memoryview) -> None:
    """Write a file whole or not at all; text as UTF-8.

    Raises:
        RunError: the disk is full or read-only.
    """
    with whole(path) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)


def real(path: Path) -> Path:
    """Where a link leads: a file of the user's that is written anew is updated there, and the link stays."""
    return Path(os.path.realpath(path))


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
