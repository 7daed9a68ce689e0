"""Provenance of results: revision, dirty flag and digest of the code, name of the processor or GPU."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
import torch

from bench.core import provenance


def installed_version() -> str | None:
    try:
        return version("stpl-benchmark")
    except PackageNotFoundError:  # a checkout that is run from its folder
        return None


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout laid out like ours, one commit, seen by ``provenance`` as its own."""
    for name in ("bench/a.py", "methods/b.py", "stpl/c.py", "README.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("1\n")
    author = ["-c", "user.name=n", "-c", "user.email=e"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-qm", "first"]):
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "bench")
    return tmp_path


def test_a_clean_checkout_is_not_dirty(checkout: Path) -> None:
    (checkout / "README.md").write_text("2\n")  # not code
    code = provenance.code.__wrapped__()
    assert code["dirty"] is False and len(code["revision"]) == 12


@pytest.mark.parametrize("name", ["bench/a.py", "methods/b.py", "stpl/c.py", "bench/new.py", "methods/new.py"])
def test_changed_or_new_code_is_dirty(name: str, checkout: Path) -> None:
    (checkout / name).write_text("2\n")
    assert provenance.code.__wrapped__()["dirty"] is True


def test_looking_writes_nothing_into_the_checkout(checkout: Path) -> None:
    """Git would note that a touched file is the same after all; killed while it writes, it would leave its lock behind."""
    os.utime(checkout / "bench" / "a.py", (1, 1))
    before = (checkout / ".git" / "index").read_bytes()
    assert provenance.code.__wrapped__()["dirty"] is False
    assert (checkout / ".git" / "index").read_bytes() == before


def test_outside_a_checkout_nothing_is_claimed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance, "ROOT", tmp_path / "bench")
    (tmp_path / "bench").mkdir()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    expected = {"revision": None, "dirty": None, "version": installed_version()}
    assert provenance.code.__wrapped__() == {**expected, "source": provenance.source_here()}


def test_a_repository_around_an_installed_package_is_not_ours(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = checkout / "env" / "site-packages"
    (site / "bench" / "core").mkdir(parents=True)
    monkeypatch.setattr(provenance, "ROOT", site / "bench")
    expected = {"revision": None, "dirty": None, "version": installed_version()}
    assert provenance.code.__wrapped__() == {**expected, "source": provenance.source_here()}
    (site / "bench" / provenance.BUILT).write_text('{"revision": "0123456789ab", "dirty": true}\n')
    assert (
        provenance.code.__wrapped__()["revision"] == "0123456789ab" and provenance.code.__wrapped__()["dirty"] is True
    )
    (site / "bench" / provenance.BUILT).write_text("damaged")
    assert provenance.code.__wrapped__()["revision"] is None


def git(*arguments: str, cwd: Path) -> str:
    command = ["git", "-c", "user.name=n", "-c", "user.email=e", *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout.strip()


def test_the_code_of_a_revision_has_one_digest_wherever_it_lies(checkout: Path) -> None:
    first = provenance.source_here()
    revision = git("rev-parse", "HEAD", cwd=checkout)
    assert provenance.source_at(revision) == provenance.source_at(revision[:12]) == first
    (checkout / "README.md").write_text("2\n")  # not code
    (checkout / "bench" / "__pycache__").mkdir()
    (checkout / "bench" / "__pycache__" / "a.pyc").write_bytes(b"x")
    assert provenance.source_here() == first
    for name, text in (("methods/b.py", "2\n"), ("bench/new.yaml", "1\n")):
        before = provenance.source_here()
        (checkout / name).write_text(text)
        assert provenance.source_here() != before
    git("add", ".", cwd=checkout)
    git("commit", "-qm", "second", cwd=checkout)
    assert provenance.source_at("HEAD") == provenance.source_here() != provenance.source_at(revision) == first


def test_a_revision_that_is_not_in_the_history_has_no_code(checkout: Path) -> None:
    home = git("symbolic-ref", "--short", "HEAD", cwd=checkout)
    git("checkout", "-qb", "elsewhere", cwd=checkout)
    git("commit", "-q", "--allow-empty", "-m", "other", cwd=checkout)
    elsewhere = git("rev-parse", "HEAD", cwd=checkout)
    assert provenance.source_at(elsewhere) is not None
    git("checkout", "-q", home, cwd=checkout)
    assert [provenance.source_at(revision) for revision in (elsewhere, "0123456789ab", "--all", "")] == [None] * 4


def test_the_processor_is_named_by_model_and_instructions() -> None:
    hardware = provenance.hardware(torch.device("cpu"), 1)
    assert hardware["cpu_model"].endswith(torch.backends.cpu.get_cpu_capability())
    cpuinfo = Path("/proc/cpuinfo").read_text()
    if "\nmodel\t\t: " in cpuinfo:
        assert (
            f"model {cpuinfo.split(chr(10) + 'model' + chr(9) * 2 + ': ')[1].splitlines()[0]}," in hardware["cpu_model"]
        )


def test_a_gpu_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cards sum in different orders, as two processors do."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"A card at {device}")
    card, cpu = torch.device("cuda:1"), torch.device("cpu")
    hardware, environment = provenance.hardware(card, 1), provenance.environment(card, 1)
    assert (hardware["device"], hardware["gpu"], environment["device"], environment["gpu"]) == (
        "cuda",
        "A card at cuda:1",
    ) * 2
    assert not {"gpu"} & (provenance.hardware(cpu, 1).keys() | provenance.environment(cpu, 1).keys())
