"""Numbers next to zero: taken as zero wherever the suite computes, by all threads, and by nobody else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest
import torch

from bench._face.place import working
from bench.core.precision import flush_denormals


@pytest.fixture(autouse=True)
def kept() -> Iterator[None]:
    before = flush_denormals(False)
    yield
    flush_denormals(before)


def survivors(count: int = 1) -> int:
    """How many of so many numbers of 1e-39 are still there after a multiplication by one."""
    tiny = torch.full((count,), 713_624, dtype=torch.int32).view(torch.float32)
    return int((tiny * 1.0).view(torch.int32).count_nonzero())


def test_they_are_zero_while_it_is_on_and_it_says_what_was() -> None:
    assert survivors() == 1
    assert not flush_denormals() and survivors() == 0
    assert flush_denormals() and flush_denormals(False) and survivors() == 1


@pytest.mark.parametrize("before", [False, True])
def test_a_command_has_it_on_and_gives_back_what_was(before: bool) -> None:
    flush_denormals(before)
    with working({"device": "cpu"}):
        assert survivors() == 0
    assert survivors() == (0 if before else 1)
    with pytest.raises(ValueError, match="of the caller"), working({"device": "cpu"}):
        raise ValueError("of the caller")
    assert survivors() == (0 if before else 1)


def printed(code: str) -> list[str]:
    """What a fresh process prints: what it changes ends with it."""
    head = "import torch; from bench.runs.around import Around; from bench.core.precision import flush_denormals\n"
    head += "from tests.bench.core.test_denormals import survivors\n"
    return subprocess.run(
        [sys.executable, "-c", head + code], capture_output=True, text=True, check=True
    ).stdout.split()


def test_a_child_has_it_on_whoever_makes_it() -> None:
    assert printed("around = Around.of_now(); print(survivors()); around.settle(); print(survivors())") == ["1", "0"]


def test_all_threads_have_it_that_come_later() -> None:
    assert printed("torch.set_num_threads(4); flush_denormals(); print(survivors(4_000_000))") == ["0"]
