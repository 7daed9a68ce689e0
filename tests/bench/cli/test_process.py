"""The command line as a process of its own: exit codes, and standard output that cannot be written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize(
    ("arguments", "where", "code", "says"),
    [
        ("--help", ">/dev/full", 1, "bench: Cannot write to standard output: No space left on device\n"),
        ("list methods", ">/dev/full", 1, "bench: Cannot write to standard output: No space left on device\n"),
        ("list methods --json", ">&-", 1, "bench: Cannot show the result: standard output is closed\n"),
        ("--help", "| true", 1, ""),
        ("flops", "| true", 1, ""),
    ],
)
def test_what_cannot_be_shown_is_one_line_and_a_reader_that_has_enough_none(
    arguments: str, where: str, code: int, says: str
) -> None:
    command = f"set -o pipefail; {sys.executable} -m bench {arguments} {where}"
    process = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False)
    assert (process.returncode, process.stderr) == (code, says)


def test_a_process_of_its_own_has_the_exit_codes_too(tmp_path: Path) -> None:
    script = shutil.which("bench", path=str(Path(sys.executable).parent))
    command = [script] if script else [sys.executable, "-m", "bench"]
    for arguments, code in ((["run", "-m", "tsp"], 2), (["run"], 2), (["--help"], 0)):
        process = subprocess.run([*command, *arguments], capture_output=True, text=True, cwd=ROOT)
        assert process.returncode == code, process.stderr
        assert "Traceback" not in process.stderr
        if arguments[-1] == "tsp":
            assert process.stderr.count("\n") == 1 and process.stderr.startswith("bench: Unknown method 'tsp'")
