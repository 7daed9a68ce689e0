"""``bench list`` shows what can be loaded, and one line for what cannot."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bench import cli
from bench.core.errors import RunError, UsageError
from bench.core.registry import KINDS, ROOT, built_in
from bench.flow.compute import backend_of

SHOWN = {"method": "methods", "network": "networks", "flow": "flows", "dataset": "datasets", "shift": "shifts"}


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """In each folder of the repository a file ``bad`` that cannot be loaded."""
    paths = {}
    for name, kind in KINDS.items():
        paths[name] = tmp_path / name / f"bad{kind.suffixes[0]}"
        paths[name].parent.mkdir()
        paths[name].write_text("\nx = undefined\n" if kind.holds else "name: [\n")
        package = importlib.import_module(kind.package)
        monkeypatch.setattr(package, "__path__", [*package.__path__, str(paths[name].parent)])
    return paths


@pytest.mark.parametrize("kind", KINDS)
def test_one_broken_file_hides_no_other(kind: str, broken: dict[str, Path]) -> None:
    result = CliRunner().invoke(cli.app, ["list", SHOWN[kind]])
    assert result.exit_code == 0
    says = "Shift bad.yaml is not YAML" if kind == "shift" else f"{broken[kind]}, line 2: NameError"
    assert "\nbad: " in result.stdout and "".join(says.split()) in "".join(
        result.stdout.split()
    )  # long lines are wrapped
    entries = json.loads(CliRunner().invoke(cli.app, ["list", SHOWN[kind], "--json"]).stdout)[SHOWN[kind]]
    assert set(entries) >= set(built_in(kind)) and list(entries["bad"]) == ["broken"]
    assert not any("broken" in entry for name, entry in entries.items() if name != "bad")
    assert all(name in result.stdout for name in entries)


def test_using_it_is_an_error_of_one_line(broken: dict[str, Path]) -> None:
    for options in (["-m", "bad"], ["-m", "adabn", "--shift", "bad"]):
        result = CliRunner().invoke(cli.app, ["run", *options])
        assert result.exit_code in (1, 2) and result.stderr.count("\n") == 1 and "bad" in result.stderr
    with pytest.raises(RunError, match=r"Cannot load flow 'bad': .*bad\.py, line 2: NameError"):
        backend_of("bad")


def test_a_broken_flow_backend_is_not_in_the_way_of_the_others(broken: dict[str, Path]) -> None:
    assert backend_of("dis")[1].startswith("dis")
    with pytest.raises(UsageError, match=r"Flow 'zero' needs no computing\. Available: dis, .*raft"):
        backend_of("zero")
    with pytest.raises(UsageError, match=r"Unknown flow 'rft'\. Did you mean 'raft'"):
        backend_of("rft")


def test_the_cost_of_networks_is_listed_past_a_broken_one(broken: dict[str, Path]) -> None:
    result = CliRunner().invoke(cli.app, ["flops", "--height", "64", "--width", "64"])
    assert result.exit_code == 0 and f"bad: Cannot load network 'bad': {broken['network']}, line 2" in result.stdout
    assert all(f"\n{name}" in result.stdout for name in built_in("network"))


def test_the_contract_suite_is_collected_with_a_broken_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("x = undefined\n")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--collect-only",
        "tests/methods/test_contract.py",
    ]
    environment = {**os.environ, "BENCH_PLUGINS": f"method={tmp_path / 'bad.py'}"}
    process = subprocess.run(command, cwd=ROOT.parent, env=environment, capture_output=True, text=True)
    assert process.returncode == 0 and process.stdout.count("[bad]") == 1 and "[stpl]" in process.stdout, (
        process.stdout[-2000:]
    )
