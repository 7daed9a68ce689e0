"""Standard output and error take every character, whatever the terminal's encoding; remarks that cannot be written stop nothing."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest

from bench.core.progress import ProgressDisplay, say
from bench.core.registry import ROOT


def bench(encoding: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process of its own whose standard output has an encoding."""
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT.parent), "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-m", "bench", *arguments], capture_output=True, env=environment, check=False
    )


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_no_command_stops_at_a_character(encoding: str) -> None:
    process = bench(encoding, "list", "shifts")
    assert process.returncode == 0, process.stderr
    assert b"\\u2192" in process.stdout  # the arrow of VIPER → Cityscapes-Seq
    lost = bench(encoding, "data", "check", "frames", "--root", "straße→\udcff")
    assert lost.returncode == 2 and b"is not there" in lost.stderr and b"Traceback" not in lost.stderr


def test_utf8_is_as_it_was() -> None:
    assert "→".encode() in bench("utf-8", "list", "shifts").stdout


class Lost(io.StringIO):
    """A terminal that is gone, or a log on a full disk."""

    def __init__(self, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("stream", [Lost(True), Lost(False), None])
def test_progress_that_cannot_be_written_stops_nothing(
    stream: io.StringIO | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", stream)
    with ProgressDisplay() as display:
        for step in range(1, 4):
            display("adapt", step, 3)
        assert bool(display.bars) == (stream is not None and stream.isatty())
        say("a clip was skipped")


def test_a_sweeps_table_that_cannot_be_written_stops_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    from bench.sweeps.table import SweepTable

    class NoJobs(list):  # type: ignore[type-arg]
        runs = ()

    monkeypatch.setenv("TERM", "xterm")
    for stream in (Lost(True), Lost(False), None):
        monkeypatch.setattr(sys, "stderr", stream)
        with SweepTable(NoJobs()) as table:  # type: ignore[arg-type]
            table.show()
        assert sys.stderr is stream  # and given back


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-"])
def test_wrong_use_has_its_exit_code_where_nobody_can_be_told(where: str) -> None:
    command = f"{sys.executable} -m bench run -m tsp {where}"
    environment = os.environ | {"PYTHONPATH": str(ROOT.parent)}
    assert subprocess.run(command, shell=True, env=environment, check=False).returncode == 2
