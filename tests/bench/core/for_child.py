"""What the child processes of test_child.py do."""

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
    """Does what the payload says."""
    what, _, rest = payload.partition(" ")
    return globals()[what](rest, say)


def answers(rest: str, say: child.Say) -> Any:
    say("progress", ["adapt", 1, 2])
    print("printed", rest)
    sys.stderr.write("said\n")
    return {"inside": child.inside(), "pid": os.getpid(), "rest": rest}


def raises(rest: str, say: child.Say) -> None:
    known = {"UsageError": UsageError("no such thing"), "BadFile": BadFile("a.png", "damaged", "is damaged")}
    known |= {"ZeroDivisionError": ZeroDivisionError("by zero"), "SystemExit": SystemExit(3)}
    raise known.get(rest) or type(rest, (Exception,), {})("of a library")


def opens(rest: str, say: child.Say) -> None:
    Path(rest).read_bytes()


def dies(rest: str, say: child.Say) -> None:
    os.kill(os.getpid(), int(rest))


def waits(rest: str, say: child.Say) -> None:
    say("pid", os.getpid())
    time.sleep(60)


def babbles(rest: str, say: child.Say) -> None:
    import gc
    from multiprocessing.connection import Connection

    (connection,) = [one for one in gc.get_objects() if isinstance(one, Connection)]
    connection.send_bytes({"pickle": b"cos\nsystem\n(S'true'\ntR.", "deep": b"[" * 100_000, "text": b"5"}[rest])
    time.sleep(60)


def lingers(rest: str, say: child.Say) -> str:
    """A thread that would write once the parent has gone on."""

    def late() -> None:
        time.sleep(0.3)
        Path(rest, "late").write_text("here")

    threading.Thread(target=late).start()
    return "done"


def drives(rest: str, say: child.Say) -> dict[str, str]:
    """What a GPU's driver does, and what it does not: by attempt, how the system answers."""
    seqpacket, name = socket.SOCK_SEQPACKET, f"\0stpl-{os.getpid()}"
    found: dict[str, str] = {}

    def tries(what: str, attempt: Callable[[], object]) -> None:
        try:
            attempt()
            found[what] = "works"
        except OSError as error:
            found[what] = errno.errorcode[error.errno or 0]

    def write(path: str) -> None:  # as glibc names threads
        handle = os.open(path, os.O_RDWR)
        os.write(handle, b"bench")
        os.close(handle)

    def thread() -> None:
        write(f"/proc/self/task/{threading.get_native_id()}/comm")

    worker = threading.Thread(target=lambda: tries("name a thread", thread))
    worker.start()
    worker.join()
    tries("name another's", lambda: write(f"/proc/{os.getppid()}/task/{os.getppid()}/comm"))
    tries("write elsewhere of its own", lambda: write("/proc/self/comm"))
    for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
        tries(kind, lambda kind=kind: socket.socket(socket.AF_UNIX, getattr(socket, kind)).close())
    tries("AF_INET", lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM).close())
    tries("socket", lambda: socket.socket(socket.AF_UNIX, seqpacket).close())
    if found["socket"] == "works":
        with socket.socket(socket.AF_UNIX, seqpacket) as own, socket.socket(socket.AF_UNIX, seqpacket) as other:
            own.settimeout(0)
            tries("bind to a file", lambda: other.bind(f"{rest}/socket"))
            tries("bind", lambda: own.bind(name))
            tries("listen", own.listen)
            tries("connect", lambda: other.connect(name))
            tries("accept", own.accept)
    return found
