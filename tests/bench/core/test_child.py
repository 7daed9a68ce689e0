"""A function run in a boxed child process: its messages, its result or error, and that the process has ended."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench.core import box, child
from bench.core.errors import AccessError, BadFile, RunError, UsageError
from bench.runs.around import Around

pytestmark = pytest.mark.skipif(not box.available(), reason="no Landlock here")
HERE = Path(__file__).parent


def do(
    payload: str, listener: child.Say = lambda kind, content: None, write: tuple[Path, ...] = (), device: str = "cpu"
) -> Any:
    read = [*Around.of_now().code([]), HERE / "for_child.py"]
    path = [str(HERE), *sys.path]
    call = child.Call("for_child:work", payload, read, write, device, path=path)
    return child.run_boxed(call, listener).result


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_what_it_says_and_gives(capsys: pytest.CaptureFixture[str]) -> None:
    messages: list[Any] = []
    answer = do("answers abc", lambda kind, content: messages.append((kind, content)))
    assert answer["inside"] and not child.inside() and answer["rest"] == "abc" and gone(answer["pid"])
    assert messages == [("progress", ["adapt", 1, 2])]
    assert capsys.readouterr() == ("printed abc\n", "said\n")


@pytest.mark.parametrize(
    ("what", "kind", "says"),
    [
        ("UsageError", UsageError, "no such thing"),
        ("BadFile", BadFile, "a.png: is damaged"),
        ("ZeroDivisionError", ZeroDivisionError, "by zero"),
        ("OfALibrary", RunError, "OfALibrary: of a library"),
        ("SystemExit", RunError, "SystemExit: 3"),
    ],
)
def test_its_error_is_raised_here(what: str, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as caught:
        do(f"raises {what}")
    assert type(caught.value) is kind and str(caught.value) == says


def test_a_closed_file_is_an_access_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "label.png").write_bytes(b"x")
    with pytest.raises(AccessError, match=r"^label\.png is closed in this stage of a run$"):
        do(f"opens {tmp_path / 'label.png'}")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSEGV])
def test_a_sudden_end_is_told(how: signal.Signals) -> None:
    with pytest.raises(RunError, match=f"ended with signal {how.name}"):
        do(f"dies {int(how)}")
    assert do("answers again")["rest"] == "again"


@pytest.mark.parametrize("what", ["pickle", "deep", "text"])
def test_what_is_no_message_is_refused_and_never_unpickled(what: str) -> None:
    with pytest.raises(AccessError, match="no message"):
        do(f"babbles {what}")


def test_an_error_of_the_listener_ends_it() -> None:
    pids: list[int] = []

    def stop(kind: str, content: Any) -> None:
        pids.append(content)
        raise KeyboardInterrupt

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        do("waits", stop)
    assert time.monotonic() - began < 5 and gone(pids[0])


def test_nothing_of_it_goes_on_when_it_has_answered(tmp_path: Path) -> None:
    assert do(f"lingers {tmp_path}", write=(tmp_path,)) == "done"
    time.sleep(0.5)
    assert not (tmp_path / "late").exists()


def test_a_driver_may_name_threads_and_listen_and_nobody_is_let_in(tmp_path: Path) -> None:
    """What CUDA does when it starts; all else of its kind stays closed, and all of it where no GPU is used."""
    allowed = {"name a thread", "name a thread anew", "socket", "bind", "listen"}
    closed = {"SOCK_STREAM", "SOCK_DGRAM", "AF_INET", "connect", "accept"}
    for device in ("cuda:0", "cpu"):
        outcomes = do(f"drives {tmp_path}", write=(tmp_path,), device=device)
        assert {attempt for attempt, answer in outcomes.items() if answer == "works"} == (
            allowed if device != "cpu" else set()
        )
        assert {outcomes[attempt] for attempt in closed & outcomes.keys()} == {"EPERM"}
        assert outcomes["name another's"] == outcomes["write elsewhere of its own"] == "EACCES"
        assert outcomes.get("bind to a file", "EACCES") == "EACCES" and not list(tmp_path.iterdir())
    assert allowed | closed <= do(f"drives {tmp_path}", write=(tmp_path,), device="cuda").keys()
