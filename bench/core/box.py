"""A box around a process: from now on it reads and writes what it was given, and can do nothing else (Linux alone).

Landlock closes the file system, whoever asks: Python, a reader in C++, a system call by hand. A seccomp filter closes what leads
around it: other processes, sockets, io_uring, mounts, modes and owners of files, handles of other processes. Both last until the
process ends and pass to whatever it starts. Neither needs a right that an ordinary user lacks.

https://docs.kernel.org/userspace-api/landlock.html, https://docs.kernel.org/userspace-api/seccomp_filter.html
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import stat
import struct
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_FILE, MAKE_REG = 1, 2, 4, 8, 1 << 5, 1 << 8
TRUNCATE, IOCTL_DEV = 1 << 14, 1 << 15
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
"""Rights that a rule about a file may name; others are of folders."""
READ = READ_FILE | READ_DIR
WORK = READ | WRITE_FILE | REMOVE_FILE | MAKE_REG | TRUNCATE
"""Files of one's own in a folder: no links, no folders, nothing moved in from elsewhere."""
DEVICE = READ | WRITE_FILE | IOCTL_DEV
_KNOWN = {1: 13, 2: 14, 3: 15, 4: 15}
"""Rights on files by version of Landlock; 16 from version 5 on."""

_CALLS = {
    "x86_64": (0xC000003E, {
        "socket": 41, "connect": 42, "bind": 49, "fork": 57, "vfork": 58, "execve": 59, "kill": 62,
        "truncate": 76, "chmod": 90, "fchmod": 91, "chown": 92, "fchown": 93, "lchown": 94, "ptrace": 101,
        "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64, "msgget": 68, "utime": 132, "mknod": 133,
        "personality": 135, "setpriority": 141, "pivot_root": 155, "chroot": 161, "mount": 165, "umount2": 166,
        "swapon": 167, "swapoff": 168, "init_module": 175, "delete_module": 176, "quotactl": 179,
        "setxattr": 188, "lsetxattr": 189, "fsetxattr": 190, "removexattr": 197, "lremovexattr": 198,
        "fremovexattr": 199, "tkill": 200, "utimes": 235, "mq_open": 240, "kexec_load": 246, "add_key": 248,
        "request_key": 249, "keyctl": 250, "mknodat": 259, "fchownat": 260, "futimesat": 261, "fchmodat": 268,
        "unshare": 272, "utimensat": 280, "perf_event_open": 298, "open_by_handle_at": 304, "setns": 308,
        "process_vm_readv": 310, "process_vm_writev": 311, "finit_module": 313, "kexec_file_load": 320, "bpf": 321,
        "execveat": 322, "userfaultfd": 323, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "clone": 56, "tgkill": 234,
        "ioctl": 16, "accept": 43, "accept4": 288,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "connect": 203, "bind": 200, "execve": 221, "kill": 129, "truncate": 45, "fchmod": 52,
        "fchmodat": 53, "fchownat": 54, "fchown": 55, "ptrace": 117, "shmget": 194, "shmat": 196, "shmctl": 195,
        "semget": 190, "msgget": 186, "mknodat": 33, "personality": 92, "setpriority": 140, "pivot_root": 41,
        "chroot": 51, "mount": 40, "umount2": 39, "swapon": 224, "swapoff": 225, "init_module": 105,
        "delete_module": 106, "quotactl": 60, "setxattr": 5, "lsetxattr": 6, "fsetxattr": 7, "removexattr": 14,
        "lremovexattr": 15, "fremovexattr": 16, "tkill": 130, "mq_open": 180, "kexec_load": 104, "add_key": 217,
        "request_key": 218, "keyctl": 219, "unshare": 97, "utimensat": 88, "perf_event_open": 241,
        "open_by_handle_at": 265, "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271,
        "finit_module": 273, "kexec_file_load": 294, "bpf": 280, "execveat": 281, "userfaultfd": 282,
        "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "clone": 220, "tgkill": 131, "ioctl": 29, "accept": 202,
        "accept4": 242,
    }),
}  # fmt: skip
"""Closed system calls by processor: the kernel's name for it, and their numbers."""
_SHARED = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_open": 434,
    "pidfd_getfd": 438, "mount_setattr": 442, "fchmodat2": 452, "setxattrat": 463, "removexattrat": 466,
}  # fmt: skip
"""Those that have one number everywhere."""
_CLONE3 = 435
_CLONE_THREAD, _TIOCSTI, _TIOCLINUX = 0x10000, 0x5412, 0x541C
_AF_UNIX, _SEQPACKET = 1, 5

_LIBC = ctypes.CDLL(None, use_errno=True)


def _call(number: int, *arguments: object) -> int:
    returned = int(_LIBC.syscall(number, *arguments))
    if returned < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return returned


@lru_cache
def landlock() -> int:
    """Version of Landlock's interface; 0 where there is none."""
    try:
        return _call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    except (OSError, AttributeError):
        return 0


@lru_cache
def available() -> bool:
    """Whether this system can close the box: Linux 5.13 or later with Landlock, on a processor whose calls are known."""
    return os.name == "posix" and platform.system() == "Linux" and platform.machine() in _CALLS and landlock() > 0


def close_box(
    read: Iterable[Path],
    write: Iterable[Path] = (),
    devices: Iterable[Path] = (),
    listed: Iterable[Path] = (),
    driver: bool = False,
) -> None:
    """Close the box around this process, which must have one thread, for good.

    What a GPU's driver wants beside its devices, or it ends in error 304 ("OS call failed"): CUDA writes the names of its threads
    under ``/proc``, and listens on a socket without a file, by which other processes could ask for its handle. Nobody is let in:
    connections are neither made nor taken. (Public reports: NVIDIA/OpenShell #710 for ``/proc``; snapd's profile for the socket.)

    Args:
        read: files, and folders with all below them.
        write: folders in which files may be made, changed and removed.
        devices: that may be talked to.
        listed: folders of which the names alone may be read, with all below them.
        driver: a GPU is used.

    Raises:
        OSError: the kernel refuses; then nothing may be run.
    """
    version = landlock()
    rights = (1 << _KNOWN.get(version, 16)) - 1
    network, scoped = (3 if version >= 4 else 0), (3 if version >= 6 else 0)
    attributes = struct.pack("=QQQ", rights, network, scoped)[: 8 if version < 4 else 16 if version < 6 else 24]
    ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
    for paths, allowed in ((read, READ), (write, WORK), (devices, DEVICE), (listed, READ_DIR)):
        for path in paths:
            _add(ruleset, path, allowed & rights)
    if driver:
        _add(ruleset, Path(f"/proc/{os.getpid()}/task"), (WRITE_FILE | TRUNCATE) & rights)
    if _LIBC.prctl(38, 1, 0, 0, 0):  # PR_SET_NO_NEW_PRIVS
        raise OSError(ctypes.get_errno(), "no_new_privs")
    _call(RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    os.close(ruleset)
    _filter_calls(driver)


def _add(ruleset: int, path: Path, allowed: int) -> None:
    """Allow some rights on a file or folder; a path that does not exist needs no rule."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(handle).st_mode):
                allowed &= OF_FILES
            rule = struct.pack("=Qi", allowed, handle)
            _call(ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0))
        finally:
            os.close(handle)


def _filter_calls(driver: bool = False) -> None:
    """The seccomp filter, a program of classic BPF: load a word of the call, compare, return a verdict."""
    machine, calls = _CALLS[platform.machine()]
    closed = {**calls, **_SHARED}
    special = {name: closed.pop(name) for name in ("clone", "kill", "tgkill", "ioctl")}
    refuse, allow = 0x50000 | errno.EPERM, 0x7FFF0000
    program: list[tuple[int, int, int, int]] = [
        (0x20, 0, 0, 4), (0x15, 1, 0, machine), (0x06, 0, 0, refuse),  # another processor's calls (32 bits)
        (0x20, 0, 0, 0), (0x35, 0, 1, 0x40000000), (0x06, 0, 0, refuse),  # x32
        (0x15, 0, 1, _CLONE3), (0x06, 0, 0, 0x50000 | errno.ENOSYS),  # its flags lie in memory; libc then uses clone
    ]  # fmt: skip
    if driver:
        special["socket"] = closed.pop("socket")
        del closed["bind"]  # to no file: Landlock lets none be made that is a socket
    for number in sorted(closed.values()):
        program += [(0x15, 0, 1, number), (0x06, 0, 0, refuse)]
    first, second = 16, 24  # where the arguments lie, lower halves
    # Threads may be started, processes not; signals go to this process alone.
    program += [(0x15, 0, 4, special["clone"]), (0x20, 0, 0, first), (0x45, 0, 1, _CLONE_THREAD)]
    program += [(0x06, 0, 0, allow), (0x06, 0, 0, refuse)]
    for name in ("kill", "tgkill"):
        program += [(0x15, 0, 4, special[name]), (0x20, 0, 0, first), (0x15, 0, 1, os.getpid())]
        program += [(0x06, 0, 0, allow), (0x06, 0, 0, refuse)]
    if driver:  # a socket of this system that nothing is sent to before it is connected
        program += [(0x15, 0, 7, special["socket"]), (0x20, 0, 0, first), (0x15, 0, 4, _AF_UNIX)]
        program += [(0x20, 0, 0, second), (0x54, 0, 0, 0xF), (0x15, 0, 1, _SEQPACKET)]
        program += [(0x06, 0, 0, allow), (0x06, 0, 0, refuse)]
    program += [(0x15, 0, 4, special["ioctl"]), (0x20, 0, 0, second)]  # nothing is typed into a terminal
    program += [(0x15, 1, 0, _TIOCSTI), (0x15, 0, 1, _TIOCLINUX), (0x06, 0, 0, refuse), (0x06, 0, 0, allow)]
    code = b"".join(struct.pack("=HBBI", *line) for line in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    descriptor = struct.pack("@HP", len(program), ctypes.addressof(buffer))
    if _LIBC.prctl(22, 2, descriptor, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "seccomp")


# What a box needs -----------------------------------------------------------------------------------------------------


def open_parts(paths: Iterable[Path], closed: Iterable[Path]) -> Iterator[Path]:
    """Files and folders without the closed ones: each path itself, or, where something below it is closed, the open paths in it."""
    shut = set(closed)
    above = {parent for path in shut for parent in path.parents}
    todo = list(paths)
    while todo:
        path = todo.pop()
        if path in shut:
            continue
        if path not in above:
            yield path
            continue
        with contextlib.suppress(OSError):
            todo += path.iterdir()


def of_python() -> list[Path]:
    """Files and folders from which Python, its packages and their libraries are read, and those that describe the system."""
    system = (
        "/lib",
        "/lib64",
        "/usr/lib",
        "/usr/lib64",
        "/usr/local/lib",
        "/usr/local/lib64",
        "/usr/local/cuda",
        "/usr/local/nvidia",
        "/sys",
    )
    facts = ("/etc/ld.so.cache", "/etc/localtime", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/usr/share/zoneinfo")
    proc = ("cpuinfo", "meminfo", "stat", "version", "driver", "devices", "modules", "sys/vm", "sys/kernel")
    libraries = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if os.path.isabs(folder)]
    for file in Path("/etc/ld.so.conf.d").glob("*.conf"):  # where the loader of libraries looks
        with contextlib.suppress(OSError):
            libraries += [
                line.strip() for line in file.read_text(errors="replace").splitlines() if line.startswith("/")
            ]
    paths = [
        *system,
        *libraries,
        *facts,
        *(f"/proc/{name}" for name in proc),
        sys.prefix,
        sys.base_prefix,
        sys.exec_prefix,
    ]
    packages = [entry for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    paths += [path for path in (sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")) if path]
    readable = {Path(os.path.realpath(path)) for path in [*paths, *packages]}
    for entry in {
        Path(os.path.realpath(entry or ".")) for entry in sys.path
    } - readable:  # a folder of one's own: its code
        with contextlib.suppress(OSError):
            readable |= {
                path for path in entry.iterdir() if path.suffix in (".py", ".so") or (path / "__init__.py").is_file()
            }
    return sorted(readable)


def of_devices(gpu: bool = False) -> list[Path]:
    """Device files that computing needs: null and zero devices, random bytes, and with ``gpu`` those of GPUs."""
    devices = [Path("/dev") / name for name in ("null", "zero", "full", "random", "urandom")]
    return [*devices, *Path("/dev").glob("nvidia*"), *Path("/dev/nvidia-caps").glob("*")] if gpu else devices


def end_with_parent(parent: int | None = None) -> None:
    """Let the kernel end this process when the one that started it ends (Linux alone).

    Args:
        parent: its number, where it may have ended before.
    """
    if platform.system() == "Linux":
        _LIBC.prctl(1, 9, 0, 0, 0)  # PR_SET_PDEATHSIG, SIGKILL
        if parent is not None and os.getppid() != parent:
            os._exit(1)
