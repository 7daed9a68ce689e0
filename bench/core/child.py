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
from .progress import Aside

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
    """A function call for a child process.

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
        """The call as JSON, for another process."""
        return json.dumps(vars(self), default=str).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Call:
        """The call, in the other process."""
        fields = json.loads(text)
        return cls(**fields | {name: [Path(path) for path in fields[name]] for name in ("read", "write", "listed")})


@dataclass(frozen=True)
class Answer:
    """What a call gave, and what the system measured of its child: peak resident memory in MB (1e6 bytes)."""

    result: Any
    peak_memory_mb: float


# The parent's side ----------------------------------------------------------------------------------------------------


class _Nursery:
    def __init__(self) -> None:
        self.owner, self.broken = os.getpid(), True  # until a child of it has ended in order
        self.control, child_end = socket.socketpair()
        code = "import sys, json; sys.path[:] = json.loads(sys.argv[2]); from bench.core.child import serve; serve()"
        command = [sys.executable, "-c", code, str(child_end.fileno()), json.dumps(sys.path)]
        with child_end:
            self.process = subprocess.Popen(
                command, pass_fds=[child_end.fileno()], stdin=subprocess.DEVNULL, start_new_session=True
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
    if box.available() and not _inside and not any(nursery.owner == os.getpid() for nursery in _idle):
        _idle.append(_Nursery())


@contextlib.contextmanager
def _nursery() -> Iterator[_Nursery]:
    nursery = next((idle for idle in _idle if idle.owner == os.getpid() and idle.process.poll() is None), None)
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


def run_boxed(call: Call, listener: Say = lambda kind, content: None) -> Answer:
    """Do a call in a child.

    Args:
        listener: called with each message of the child; an error that it raises ends the child and goes on.

    Raises:
        RunError: what the child raised, if it is an error of ours or of Python's own; or that it ended without a word.
        AccessError: it was refused a file or another right.
    """
    with _nursery() as nursery:
        nursery.broken = True
        parent_end, child_end = socket.socketpair()
        with child_end:
            socket.send_fds(nursery.control, [b"r"], [child_end.fileno()])
        connection = Connection(parent_end.detach())
        try:
            connection.send_bytes(call.to_json())
            kind, content = _listen(connection, listener)
        except BaseException:
            _end(nursery, b"i")
            raise
        finally:
            connection.close()
        status, peak = _end(nursery, b"k")
    if kind == "error":
        raise _error(content)
    if kind == "gone":
        cause = f"signal {signal.Signals(os.WTERMSIG(status)).name}" if os.WIFSIGNALED(status) else "no word"
        raise RunError(f"The process of the method ended with {cause}; out of memory, or a crash in a library")
    return Answer(content, peak * 1024 / 1e6)


def _listen(connection: Connection, listener: Say) -> tuple[str, Any]:
    while True:
        try:
            message = connection.recv_bytes(LARGEST)
        except (OSError, EOFError):  # it has ended
            return "gone", None
        try:
            kind, content = json.loads(message)
        except (ValueError, TypeError, RecursionError):
            raise AccessError("The process of the method said what is no message") from None
        if kind in ("result", "error"):
            return str(kind), content
        if kind in ("out", "err"):
            Aside(sys.stdout if kind == "out" else sys.stderr).write(str(content))
        else:
            listener(str(kind), content)


def _end(nursery: _Nursery, command: bytes) -> tuple[int, int]:
    """End the child, gently or at once; its exit status, and its peak memory in KiB."""
    control = nursery.control
    report = b""
    with contextlib.suppress(OSError):
        control.send(command)
        if command != b"k":
            control.settimeout(PATIENCE)
            try:
                report = control.recv(_STATUS.size)
            except TimeoutError:
                control.send(b"k")
            control.settimeout(None)
        report = report or control.recv(_STATUS.size)
    nursery.broken = len(report) != _STATUS.size
    return (0, 0) if nursery.broken else _STATUS.unpack(report)


_STATUS = struct.Struct("=iq")


def _error(report: Any) -> Exception:
    """The error that a child reported: one of ours or of Python's own, by its name; everything else is a RunError."""
    name, text, trace = (str(report.get(key, "")) for key in ("name", "text", "trace"))
    arguments = [str(argument) for argument in report.get("arguments", [text])]
    error_type = getattr(errors, name, None) or getattr(builtins, name, None)
    is_ours = hasattr(errors, name)
    error: Exception
    if error_type is BadFile:
        error = BadFile(*arguments[:3])
    elif (
        isinstance(error_type, type)
        and issubclass(error_type, Exception)
        and not issubclass(error_type, (OSError, UnicodeError))
    ):
        error = error_type(text)
    else:
        error = RunError(f"{name}: {text}")
    if hasattr(error, "add_note") and not is_ours:
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
        command, handles, *_ = socket.recv_fds(control, 1, 1)
        if not command:
            os._exit(0)
        if not handles:  # a command about a child that has ended meanwhile
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
            command = control.recv(1)
            os.kill(
                pid, signal.SIGINT if command == b"i" else signal.SIGKILL
            )  # not waited for yet: it is still this child
            if not command:
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
    """What a child does: read its call, close the box, run the function, send the result or the error. Never returns."""
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
        process_files, gpu = Path(f"/proc/{os.getpid()}"), call.device.startswith("cuda")
        box.close_box([*call.read, process_files], call.write, box.of_devices(gpu), listed, driver=gpu)
        module, _, name = call.function.partition(":")
        say("result", getattr(importlib.import_module(module), name)(call.payload, say))
    except BaseException as error:
        with contextlib.suppress(BaseException):
            say("error", _report_of(error))
    finally:
        os._exit(0)


def _report_of(error: BaseException) -> dict[str, Any]:
    report = {"name": type(error).__name__, "text": str(error), "trace": "".join(traceback.format_exception(error))}
    if isinstance(error, BadFile):
        return report | {"arguments": [str(argument) for argument in error.args]}
    if isinstance(error, PermissionError):
        refused = (
            f"{Path(str(error.filename)).name} is closed" if error.filename else f"{error.strerror}: this is closed"
        )
        return report | {"name": AccessError.__name__, "text": f"{refused} in this stage of a run"}
    return report
