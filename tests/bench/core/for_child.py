"""Functions that test_child.py calls in child processes."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from bench.core import child
from bench.core.errors import BadFile, UsageError


def work(payload: str, say: child.Say) -> Any:
    """Calls the function named by the first word of the payload with the rest of the payload."""
    name, _, argument = payload.partition(" ")
    return globals()[name](argument, say)


def answers(argument: str, say: child.Say) -> Any:
    say("progress", ["adapt", 1, 2])
    print("printed", argument)
    sys.stderr.write("said\n")
    return {"inside": child.inside(), "pid": os.getpid(), "rest": argument}


def raises(argument: str, say: child.Say) -> None:
    errors = {"UsageError": UsageError("no such thing"), "BadFile": BadFile("a.png", "damaged", "is damaged")}
    errors |= {"ZeroDivisionError": ZeroDivisionError("by zero"), "SystemExit": SystemExit(3)}
    raise errors.get(argument) or type(argument, (Exception,), {})("of a library")


def opens(argument: str, say: child.Say) -> None:
    Path(argument).read_bytes()


def dies(argument: str, say: child.Say) -> None:
    os.kill(os.getpid(), int(argument))


def waits(argument: str, say: child.Say) -> None:
    say("pid", os.getpid())
    time.sleep(60)


def babbles(argument: str, say: child.Say) -> None:
    import gc
    from multiprocessing.connection import Connection

    (connection,) = [candidate for candidate in gc.get_objects() if isinstance(candidate, Connection)]
    connection.send_bytes({"pickle": b"cos\nsystem\n(S'true'\ntR.", "deep": b"[" * 100_000, "text": b"5"}[argument])
    time.sleep(60)


def lingers(argument: str, say: child.Say) -> str:
    """Starts a thread that writes a file after the function has returned."""

    def late() -> None:
        time.sleep(0.3)
        Path(argument, "late").write_text("here")

    threading.Thread(target=late).start()
    return "done"


def drives(argument: str, say: child.Say) -> dict[str, str]:
    """Tries what a GPU's driver does and some things that it does not do; by attempt, "works" or the name of the errno."""
    seqpacket, name = socket.SOCK_SEQPACKET, f"\0stpl-{os.getpid()}"
    outcomes: dict[str, str] = {}

    def tries(label: str, attempt: Callable[[], object]) -> None:
        try:
            attempt()
            outcomes[label] = "works"
        except OSError as error:
            outcomes[label] = errno.errorcode[error.errno or 0]

    def write(path: str, mode: int = os.O_RDWR) -> None:
        handle = os.open(path, mode)
        os.write(handle, b"bench")
        os.close(handle)

    def name_threads() -> None:
        own = f"/proc/self/task/{threading.get_native_id()}/comm"
        tries("name a thread", lambda: write(own))  # as glibc does
        tries(
            "name a thread anew", lambda: write(own, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        )  # as fopen(name, "w") does

    worker = threading.Thread(target=name_threads)
    worker.start()
    worker.join()
    tries("name another's", lambda: write(f"/proc/{os.getppid()}/task/{os.getppid()}/comm"))
    tries("write elsewhere of its own", lambda: write("/proc/self/comm"))
    for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
        tries(kind, lambda kind=kind: socket.socket(socket.AF_UNIX, getattr(socket, kind)).close())
    tries("AF_INET", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close())
    tries("socket", lambda: socket.socket(socket.AF_UNIX, seqpacket).close())
    if outcomes["socket"] == "works":
        with socket.socket(socket.AF_UNIX, seqpacket) as server, socket.socket(socket.AF_UNIX, seqpacket) as client:
            server.settimeout(0)
            tries("bind to a file", lambda: client.bind(f"{argument}/socket"))
            tries("bind", lambda: server.bind(name))
            tries("listen", server.listen)
            tries("connect", lambda: client.connect(name))
            tries("accept", server.accept)
    return outcomes
