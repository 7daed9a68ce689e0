"""Standard output and error take every character, whatever the terminal's encoding."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

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
