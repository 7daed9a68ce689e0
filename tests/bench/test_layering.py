"""Imports run stpl <- methods <- bench <- bench.cli, and light things stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OURS = {"stpl", "methods", "bench", "tests"}
ALLOWED = {"stpl": {"stpl"}, "methods": {"stpl", "methods"}, "bench": {"stpl", "methods", "bench"}}
STPL_MAY_USE = {"torch", "stpl", *sys.stdlib_module_names}
METHODS_MAY_NOT_USE = {"os", "pathlib", "io", "shutil", "logging", "subprocess", "ray"}


def imports(path: Path) -> set[str]:
    """Absolute dotted names imported anywhere in a file, relative ones resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) if node.level else ""
            found.add(".".join(part for part in (base, node.module or "") if part))
    return found


def files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def violations(package: str) -> list[str]:
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in files(package)
        for name in imports(path)
        if name.split(".")[0] in OURS - ALLOWED[package]
    ]


@pytest.mark.parametrize("package", sorted(ALLOWED))
def test_imports_run_one_way(package: str) -> None:
    assert files(package)
    assert violations(package) == []


def test_nothing_but_the_entry_imports_the_command_line() -> None:
    outside = [path for path in files("bench") if path.parent.name != "cli"]
    users = [path.name for path in outside if any(name.startswith("bench.cli") for name in imports(path))]
    assert users == []


def test_stpl_needs_torch_only() -> None:
    used = {name.split(".")[0] for path in files("stpl") for name in imports(path)}
    assert used - STPL_MAY_USE == set()


def test_methods_see_no_files_loggers_or_processes() -> None:
    used = {(path.name, name) for path in files("methods") for name in imports(path)}
    assert {(file, name) for file, name in used if name.split(".")[0] in METHODS_MAY_NOT_USE} == set()


def test_no_step_brings_pixels_to_the_processor() -> None:
    """Within a step nothing of a method leaves the GPU but counts of classes in the contrast: no map, no flow, no label.

    The published codes go through numpy in every step. ``tolist`` elsewhere is of numbers drawn on the processor.
    """
    forbidden = {"cpu", "numpy", "item"}
    calls = {
        (path.name, node.func.attr)
        for package in ("stpl", "methods")
        for path in files(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert {call for call in calls if call[1] in forbidden} == set()
    assert {name for name, call in calls if call == "tolist"} <= {"contrast.py", "augment.py", "supervision.py"}


def test_only_the_sweep_imports_ray() -> None:
    users = {path.name for path in files("bench") if any(name.split(".")[0] == "ray" for name in imports(path))}
    assert users <= {"sweep.py"}


def test_the_check_sees_a_forbidden_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "stpl").mkdir()
    (tmp_path / "stpl" / "bad.py").write_text("def f():\n    from methods import base\n")
    assert violations("stpl") == ["stpl/bad.py imports methods"]


def test_command_line_starts_without_torch() -> None:
    code = "import sys, bench.cli; print(sorted({'torch', 'ray', 'pandas', 'matplotlib'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
