"""What ``import bench`` offers: lazy, complete, with the parameter names of the command line, and its examples run."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

import bench
from bench import cli
from bench.core.workspace import Workspace

ROOT = Path(__file__).resolve().parents[2]
PLACE = {"runs", "cache", "data_root", "device", "threads", "workers"}
SPELT = {
    "checkpoint": "model", "option": "options", "names": "runs_", "run_a": "run_a", "folders": "run", "max_listed": None,
    "strict": None, "figures_only": None, "asha": None, "search": None, "grid": None,
    "knn": "parts", "separation": "parts", "confusion": "parts", "calibration": "parts",
}  # fmt: skip
"""Words of the command line that are others in Python, or that only say how something is printed or parsed."""


def commands(group: Any, before: str = "") -> dict[str, Any]:
    """Every command by the name of its function: ``data check`` is ``data_check``."""
    by_name: dict[str, Any] = {}
    for name, command in group.commands.items():
        by_name |= commands(command, f"{before}{name}_") if hasattr(command, "commands") else {before + name: command}
    return by_name


COMMANDS = commands(get_command(cli.app))


def test_it_loads_nothing_heavy() -> None:
    heavy = "{'torch', 'ray', 'pandas', 'matplotlib', 'numpy', 'pydantic', 'typer'}"
    code = f"import sys, bench; dir(bench); print(sorted({heavy} & set(sys.modules)))"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert completed.stdout.strip() == "[]"


def test_every_name_is_there_and_documented() -> None:
    assert set(dir(bench)) == set(bench.__all__)
    for name in bench.__all__:
        member = getattr(bench, name)
        assert inspect.getdoc(member), name
        assert name in (bench.__doc__ or "") or name.endswith("Error"), name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        bench.nothing  # noqa: B018


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_a_call_with_the_same_words(name: str) -> None:
    parameters = inspect.signature(getattr(bench, name)).parameters
    doc = inspect.getdoc(getattr(bench, name)) or ""
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for option in COMMANDS[name].params:
        words = {option.name, SPELT.get(option.name, option.name), *(["search"] if option.name == "trials" else [])}
        if words & {"as_json", "debug", None}:
            continue
        assert words & set(parameters) or (open_ended and words & (PLACE | set(re.findall(r"``(\w+)", doc)))), (
            name,
            words,
        )


def test_names_of_types_are_those_of_the_functions() -> None:
    """The imports under TYPE_CHECKING are those of the lazy table."""
    text = (ROOT / "bench" / "__init__.py").read_text(encoding="utf-8")
    declared = text.split("if TYPE_CHECKING:")[1].split("_FACE")[0]
    for name, module in bench._MODULE.items():
        line = next(
            line for line in declared.splitlines() if line.strip().startswith(f"from {module} import") and name in line
        )
        assert name in line


def test_its_examples_run(tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BENCH_CACHE", str(workspace.cache))
    outcome = doctest.testmod(bench, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert outcome.attempted >= 8 and outcome.failed == 0


def test_options_are_keywords(workspace: Workspace, no_figures: None) -> None:
    options = {"runs": workspace.runs, "cache": workspace.cache, "device": "cpu", "threads": 1}
    record = bench.run("stpl", "ministreet-tiny", steps=1, fusion="add", options={"temperature": 0.2}, **options)
    assert record.config.fusion == "add" and record.config.settings["temperature"] == 0.2 and record.config.steps == 1
    table = bench.records("ministreet-tiny", runs=workspace.runs)
    assert table.set_index("run").loc[record.run, "options"] == "fusion=add, temperature=0.2"
    with pytest.raises(bench.UsageError, match="Unknown option 'fusio'"):
        bench.run("stpl", "ministreet-tiny", fusio="add")


def test_threads_are_given_back(workspace: Workspace) -> None:
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    bench.clips("ministreet-tiny", cache=workspace.cache, threads=max(before) + 1)
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before
