"""Imports run stpl <- methods <- bench, one way through bench's rooms and in no circle, and light things stay light."""

from __future__ import annotations

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import networkx
import pytest

from bench.core.registry import names_in

ROOMS = (
    *(
        "core",
        "shifts",
        "networks",
        "data",
        "pictures",
        "flow",
        "runs",
        "sweeps",
        "footage",
        "leaderboards",
        "analysis",
        "pages",
    ),
    *("_face", "cli"),
)
"""In the order of the arrows: a room imports only rooms before it. ``bench/_face.py`` is what ``import bench`` offers."""
ROOT = Path(__file__).resolve().parents[2]
OURS = {"stpl", "methods", "bench", "tests"}
ALLOWED = {"stpl": {"stpl"}, "methods": {"stpl", "methods"}, "bench": {"stpl", "methods", "bench"}}
STPL_MAY_USE = {"torch", "stpl", *sys.stdlib_module_names}
METHODS_MAY_NOT_USE = {"os", "pathlib", "io", "shutil", "logging", "subprocess", "ray"}


@cache
def imports(path: Path) -> set[str]:
    """Absolute dotted names imported anywhere in a file (``package.module.name``), relative ones resolved."""
    package = path.relative_to(ROOT).with_suffix("").parts
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            names |= {f"{module}.{alias.name}" for alias in node.names}
    return names


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


def modules() -> dict[str, Path]:
    """Every file of bench by its dotted name."""
    names = {path.relative_to(ROOT).with_suffix("").parts: path for path in files("bench")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for parts, path in names.items()}


def arrows() -> set[tuple[str, str]]:
    """Which file of bench imports which, imports inside functions and for types included."""
    paths, pairs = modules(), set()
    for name, path in paths.items():
        for target in imports(path):
            while target and target not in paths:  # a name inside a module
                target = target.rpartition(".")[0]
            if target and target != name:
                pairs.add((name, target))
    return pairs


def room(module: str) -> int:
    """Place of a file in the order of the rooms; the package itself stands with its face, ``python -m bench`` with the commands."""
    if module == "bench.__main__":
        module = "bench.cli"
    parts = module.split(".")
    return ROOMS.index(parts[1] if len(parts) > 1 else "_face")


def upward() -> list[str]:
    return sorted(f"{a} imports {b}" for a, b in arrows() if room(a) < room(b))


def circles() -> list[list[str]]:
    graph = networkx.DiGraph(sorted(arrows()))
    return [sorted(component) for component in networkx.strongly_connected_components(graph) if len(component) > 1]


def test_every_folder_of_bench_is_a_room() -> None:
    assert {path.name for path in (ROOT / "bench").iterdir() if path.is_dir() and path.name[0] != "_"} == {
        room for room in ROOMS if room != "_face"
    }


def test_rooms_import_only_rooms_before_them() -> None:
    assert len(arrows()) > 300
    assert upward() == []


def test_no_files_import_each_other_in_a_circle() -> None:
    assert circles() == []


def test_tests_stand_in_the_rooms_of_what_they_test() -> None:
    folders = {path.name for path in (ROOT / "tests" / "bench").iterdir() if path.is_dir() and path.name[0] != "_"}
    assert folders <= set(ROOMS)
    loose = {path.name for path in (ROOT / "tests" / "bench").glob("test_*.py")}
    assert loose <= {"test_layering.py", "test_face.py", "test_examples.py", "test_wheel.py", "test_benchmarks_page.py"}


@pytest.mark.parametrize("shelf", ["networks/zoo", "flow/backends"])
def test_a_shelf_holds_nothing_but_what_is_discovered_on_it(shelf: str) -> None:
    stems = {path.stem for path in (ROOT / "bench" / shelf).glob("*.py")} - {"__init__"}
    assert stems == set(names_in(f"bench.{shelf.replace('/', '.')}"))


def test_stpl_needs_torch_only() -> None:
    used = {name.split(".")[0] for path in files("stpl") for name in imports(path)}
    assert used - STPL_MAY_USE == set()


def test_methods_see_no_files_loggers_or_processes() -> None:
    used = {(path.name, name) for path in files("methods") for name in imports(path)}
    assert {(file, name) for file, name in used if name.split(".")[0] in METHODS_MAY_NOT_USE} == set()


def test_no_step_brings_pixels_to_the_processor() -> None:
    """Within a step nothing of a method leaves the GPU but counts of classes in the contrast: no map, no flow, no label.

    The published codes go through numpy in every step. ``tolist`` elsewhere is of numbers drawn on the processor. Class quantiles
    are numpy's where they are on the processor already; the dry runs of all steps see that a GPU takes the other branch.
    """
    forbidden = {"cpu", "numpy", "item"}
    calls = {
        (path.name, node.func.attr)
        for package in ("stpl", "methods")
        for path in files(package)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    }
    assert {call for call in calls if call[1] in forbidden} == {("pseudo_labels.py", "numpy")}
    assert {name for name, call in calls if call == "tolist"} <= {
        "contrast.py",
        "augment.py",
        "supervision.py",
        "rounds.py",
        "pseudo_labels.py",
    }


def test_only_the_sweep_imports_ray() -> None:
    users = {path.name for path in files("bench") if any(name.split(".")[0] == "ray" for name in imports(path))}
    assert users <= {"on_ray.py"}


def test_the_check_sees_a_forbidden_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    (tmp_path / "stpl").mkdir()
    (tmp_path / "stpl" / "bad.py").write_text("def f():\n    from methods import base\n")
    assert violations("stpl") == ["stpl/bad.py imports methods.base"]


def test_the_check_sees_an_arrow_upwards_and_a_circle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    for name, text in {
        "core/files": "def f():\n    from bench.runs import run\n",
        "runs/run": "from . import source\n",
        "runs/source": "from .run import g\n",
    }.items():
        path = tmp_path / "bench" / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert upward() == ["bench.core.files imports bench.runs.run"]
    assert circles() == [["bench.runs.run", "bench.runs.source"]]


def test_command_line_starts_without_torch() -> None:
    code = "import sys, bench.cli; print(sorted({'torch', 'ray', 'pandas', 'matplotlib'} & set(sys.modules)))"
    completed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert completed.stdout.strip() == "[]"
