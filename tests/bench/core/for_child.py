"""What the child processes of test_child.py do."""

from __future__ import annotations

import os
import sys
import threading
import time
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
