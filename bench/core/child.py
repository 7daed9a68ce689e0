"""A function in a child process with a box around it (:mod:`bench.core.box`): what it says on its way, what came of it.

A *nursery* is a Python process that has imported what methods need and waits; each call is a fork of it, so a child costs some
hundredths of a second, and no process is ever forked that has computed something (OpenMP's threads would be missing in the fork).
What the two say to each other is JSON; what a child says is not trusted. When a call returns, its child has ended: it is killed
once its result is there, with all its threads.
"""

from __future__ import annotations

import atexit
import builtins
import contextlib
import gc
import importlib
import io
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

from . import box, errors
from .errors import AccessError, BadFile, RunError

PRELOAD = ("bench.runs.boxed", "torchvision.transforms.v2.functional")
"""What a nursery imports: the harness, and what methods import slowly and late."""
LARGEST = 1 << 26
"""Bytes of the longest message of a child."""
PATIENCE = 5.0
"""Seconds that a child has to stop when it is interrupted."""

Say = Callable[[str, Any], None]
"""``say(kind, what)``: what a child tells its parent, as JSON can hold it."""

_inside = False


def inside() -> bool:
    """Whether this process is such a child."""
    return _inside


@dataclass(frozen=True)
class Call:
    """What a child does.

    Attributes:
        function: ``module:name``; called with ``payload`` and ``say``.
        payload: text that it takes, read when the box is closed.
        read, write, listed: see :func:`bench.core.box.close_box`.
        device: where it computes, as torch says it; a GPU's driver wants more than a processor does.
    """

    function: str
    payload: str
    read: Sequence[Path]
    write: Sequence[Path] = ()
    device: str = "cpu"
    listed: Sequence[Path] = ()
    path: Sequence[str] = field(default_factory=lambda: list(sys.path))
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    folder: str = field(default_factory=os.getcwd)

    def to_json(self) -> bytes:
        """For another process."""
        return json.dumps(vars(self), default=str).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Call:
        """The same there."""
        told = json.loads(text)
        return cls(**told | {name: [Path(one) for one in told[name]] for name in ("read", "write", "listed")})


@dataclass(frozen=True)
class Answer:
    """What a call gave, and what the system measured of its child: peak resident memory in MB (1e6 bytes)."""

    result: Any
    peak_memory_mb: float


# The parent's side ----------------------------------------------------------------------------------------------------


class _Nursery:
    def __init__(self) -> None:
        self.owner, self.broken = os.getpid(), True  # until a child of it has ended in order
        self.control, there = socket.socketpair()
        code = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from bench.core.child import serve; serve()"
        command = [sys.executable, "-c", code, str(there.fileno()), json.dumps(sys.path)]
        with there:
            self.process = subprocess.Popen(
                command, pass_fds=[there.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
            )

    def close(self) -> None:
        """End it, and a child of it."""
        self.control.close()  # it ends its child, and itself
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:  # still importing
            self.process.kill()
            self.process.wait()


_idle: list[_Nursery] = []


@atexit.register
def _close_all() -> None:
    while _idle:
        if (nursery := _idle.pop()).owner == os.getpid():
            nursery.process.kill()  # it may still be importing; it has no child
            nursery.close()


def prepare() -> None:
    """Start a nursery now, if none is there: it imports while this process does something else."""
    if box.available() and not _inside and not any(one.owner == os.getpid() for one in _idle):
        _idle.append(_Nursery())


@contextlib.contextmanager
def _nursery() -> Iterator[_Nursery]:
    nursery = next((one for one in _idle if one.owner == os.getpid() and one.process.poll() is None), None)
    if nursery is None:
        nursery = _Nursery()
    else:
        _idle.remove(nursery)
    try:
        yield nursery
    finally:
        if nursery.broken:
            nursery.close()
        else:
            _idle.append(nursery)


def run_boxed(call: Call, told: Say = lambda kind, what: None) -> Answer:
    """Do a call in a child.

    Args:
        told: gets what the child says; an error of it ends the child and goes on.

    Raises:
        RunError: what the child raised, if it is an error of ours or of Python's own; or that it ended without a word.
        AccessError: it was refused a file or another right.
    """
    with _nursery() as nursery:
        nursery.broken = True
        here, there = socket.socketpair()
        with there:
            socket.send_fds(nursery.control, [b"r"], [there.fileno()])
        connection = Connection(here.detach())
        try:
            connection.send_bytes(call.to_json())
            kind, what = _listen(connection, told)
        except BaseException:
            _end(nursery, b"i")
            raise
        finally:
            connection.close()
        status, peak = _end(nursery, b"k")
    if kind == "error":
        raise _error(what)
    if kind == "gone":
        how = f"signal {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else "no word"
        raise RunError(f"The process of the method ended with {how}; out of memory, or a crash in a library")
    return Answer(what, peak * 1024 / 1e6)


def _listen(connection: Connection, told: Say) -> tuple[str, Any]:
    while True:
        try:
            message = connection.recv_bytes(LARGEST)
        except (OSError, EOFError):  # it has ended
            return "gone", None
        try:
            kind, what = json.loads(message)
        except (ValueError, TypeError, RecursionError):
            raise AccessError("The process of the method said what is no message") from None
        if kind in ("result", "error"):
            return str(kind), what
        if kind in ("out", "err"):
            stream = sys.stdout if kind == "out" else sys.stderr
            stream.write(str(what))
            stream.flush()
        else:
            told(str(kind), what)


def _end(nursery: _Nursery, how: bytes) -> tuple[int, int]:
    """End the child, gently or at once; its exit status, and its peak memory in KiB."""
    control = nursery.control
    told = b""
    with contextlib.suppress(OSError):
        control.send(how)
        if how != b"k":
            control.settimeout(PATIENCE)
            try:
                told = control.recv(_STATUS.size)
            except TimeoutError:
                control.send(b"k")
            control.settimeout(None)
        told = told or control.recv(_STATUS.size)
    nursery.broken = len(told) != _STATUS.size
    return (0, 0) if nursery.broken else _STATUS.unpack(told)


_STATUS = struct.Struct("=iq")


def _error(told: Any) -> Exception:
    """The error that a child spoke of: of ours, or of Python's own by its name; everything else is a RunError."""
    name, text, trace = (str(told.get(key, "")) for key in ("name", "text", "trace"))
    arguments = [str(one) for one in told.get("arguments", [text])]
    known = getattr(errors, name, None) or getattr(builtins, name, None)
    ours = hasattr(errors, name)
    error: Exception
    if known is BadFile:
        error = BadFile(*arguments[:3])
    elif isinstance(known, type) and issubclass(known, Exception) and not issubclass(known, (OSError, UnicodeError)):
        error = known(text)
    else:
        error = RunError(f"{name}: {text}")
    if hasattr(error, "add_note") and not ours:
        error.add_note(trace)
    return error


# The nursery's and the child's side -----------------------------------------------------------------------------------


def serve() -> NoReturn:
    """What a nursery does, until its parent closes the socket or ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for module in PRELOAD:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()  # what is shared with the children is not copied when they collect
    control = socket.socket(fileno=int(sys.argv[1]))
    while True:
        word, handles, *_ = socket.recv_fds(control, 1, 1)
        if not word:
            os._exit(0)
        if not handles:  # a word about a child that has ended meanwhile
            continue
        if not (pid := os.fork()):
            control.close()
            _live(handles[0])
        os.close(handles[0])
        status, peak = _watch(control, pid)
        control.send(_STATUS.pack(status, peak))


def _watch(control: socket.socket, pid: int) -> tuple[int, int]:
    ended = os.pidfd_open(pid)
    watched: list[Any] = [control, ended]
    ready: list[Any] = []
    while ended not in ready:
        ready = select.select(watched, [], [])[0]
        if control in ready:
            word = control.recv(1)
            os.kill(
                pid, signal.SIGINT if word == b"i" else signal.SIGKILL
            )  # not waited for yet: it is still this child
            if not word:
                os._exit(0)
    os.close(ended)
    _, status, used = os.wait4(pid, 0)
    return status, used.ru_maxrss


class _Stream(io.TextIOBase):
    """Standard output and error of a child: the parent writes."""

    def __init__(self, kind: str, say: Say) -> None:
        self.kind, self.say = kind, say

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.say(self.kind, text)
        return len(text)


def _live(handle: int) -> NoReturn:
    """A child's life."""
    global _inside
    _inside = True
    box.end_with_parent()
    connection, lock = Connection(handle), threading.Lock()

    def say(kind: str, what: Any) -> None:
        message = json.dumps([kind, what]).encode()
        with lock:
            connection.send_bytes(message)

    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        call = Call.from_json(connection.recv_bytes())
        sys.path[:] = call.path
        os.environ.clear()
        os.environ.update(call.environment)
        os.chdir(call.folder)
        sys.stdout, sys.stderr = _Stream("out", say), _Stream("err", say)
        listed = [*call.listed, *map(Path, call.path)]  # where modules are looked for by name
        own, gpu = Path(f"/proc/{os.getpid()}"), call.device.startswith("cuda")
        box.close_box([*call.read, own], call.write, box.of_devices(gpu), listed, driver=gpu)
        module, _, name = call.function.partition(":")
        say("result", getattr(importlib.import_module(module), name)(call.payload, say))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            say("error", _told(error))
    finally:
        os._exit(0)


def _told(error: BaseException) -> dict[str, Any]:
    told = {"name": type(error).__name__, "text": str(error), "trace": "".join(traceback.format_exception(error))}
    if isinstance(error, BadFile):
        return told | {"arguments": [str(one) for one in error.args]}
    if isinstance(error, PermissionError):
        what = f"{Path(str(error.filename)).name} is closed" if error.filename else f"{error.strerror}: this is closed"
        return told | {"name": AccessError.__name__, "text": f"{what} in this stage of a run"}
    return told
