"""Shared by the harness tests: one cache of tiny rendered clips and source models per session, one thread."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import methods
from bench.core import registry
from bench.core.registry import ROOT
from bench.core.workspace import Workspace
from bench.data.fixtures import Tree, write_all
from bench.runs import settings
from tests.bench.own_files import write_files
from tests.threads import one_thread  # noqa: F401

LONGEST = (
    "sweeps/test_on_ray.py",
    "shifts/test_real_shifts.py",
    "test_wheel.py",
    "runs/test_resume.py",
    "test_kill_points.py",
    "runs/test_plugins.py",
    "runs/test_run.py",
    "runs/test_dry_run.py",
    "sweeps/test_own_files.py",
    "core/test_cheats.py",
    "test_examples.py",
)
"""Files that go first, so that no process is left alone with one of them at the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; all others in their order."""
    items.sort(key=lambda item: next((i for i, name in enumerate(LONGEST) if name in item.nodeid), len(LONGEST)))


FAKE = '''
from __future__ import annotations
from methods.base import Card, ClipBatch, LabelledBatch, Method

class Fake(Method):
    """A method made up by a test."""
    card = Card(key={name!r}, title="Fake", authors="-", venue="-", year=None, url="", design="image", setting={setting!r})

    def ordinary(self, target):
        """Something that can be minimised."""
        return {{"loss": self.segmenter(target.frames, target.flow, target.valid).scores.float().square().mean()}}

    def losses(self, target, source, step):
        {losses}
        return self.ordinary(target)

{more}
METHOD = Fake
'''


@pytest.fixture(scope="session")
def tiny_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cache folder that fills as tests need it; nothing in it may be damaged by a test (copy it first)."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tree]:
    """Small data sets in the layouts of the real ones; nothing in them may be changed by a test (``corrupt`` copies)."""
    return write_all(tmp_path_factory.mktemp("data"), scale=8)


@pytest.fixture(autouse=True)
def no_files_of_other_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test names by its path is forgotten when it ends; the next one may have another file of that name."""
    monkeypatch.setattr(registry, "_files", dict(registry._files))
    monkeypatch.delenv("BENCH_PLUGINS", raising=False)
    settings.executed_here.clear()


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing is half of a tiny run's time and beside the point in most tests."""
    monkeypatch.setattr("bench.runs.run._draw", lambda *_: None)


@pytest.fixture
def workspace(tmp_path: Path, tiny_cache: Path) -> Workspace:
    """Own runs, shared cache; methods run in this process, where tests can look at them (the box: test_box.py)."""
    return Workspace(tmp_path / "runs", tiny_cache, torch.device("cpu"), unboxed=True)


@pytest.fixture
def fake_method(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., str]]:
    """``fake_method(losses="...code...", setting="SFDA", more="...code...")`` registers a method and returns its name.

    ``losses`` runs at the start of every step, in a scope with ``self, target, source, step``.
    """
    folder = tmp_path / "fake methods"
    folder.mkdir()
    monkeypatch.setattr(methods, "__path__", [*methods.__path__, str(folder)])
    names: list[str] = []

    def make(losses: str = "pass", setting: str = "SFDA", more: str = "") -> str:
        name = f"fake{len(names)}"
        code = FAKE.format(name=name, setting=setting, losses=losses.replace("\n", "\n        "), more=more)
        (folder / f"{name}.py").write_text(code, encoding="utf-8")
        names.append(name)
        sys.modules.pop(f"methods.{name}", None)
        return name

    yield make
    for name in names:
        sys.modules.pop(f"methods.{name}", None)


@pytest.fixture
def shift_file(tmp_path: Path) -> Callable[..., str]:
    """``shift_file({"adaptation.steps": 50})`` writes a variant of ministreet-tiny and returns its path."""
    count = 0

    def make(changes: dict[str, Any]) -> str:
        nonlocal count
        count += 1
        shift = yaml.safe_load((ROOT / "shifts" / "ministreet-tiny.yaml").read_text(encoding="utf-8"))
        for dotted, value in changes.items():
            *parents, last = dotted.split(".")
            section = shift
            for key in parents:
                section = section[key]
            if value is ...:
                del section[last]
            else:
                section[last] = value
        path = tmp_path / f"variant-{count}.yaml"  # a new name each time: shifts are cached by name
        path.write_text(yaml.safe_dump(shift), encoding="utf-8")
        return str(path)

    return make


@pytest.fixture(scope="session")
def finished_tiny(tiny_cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs folder with finished runs of source_only, adabn and self_training on ministreet-tiny, seed 0; not to be changed."""
    from bench.runs.config import make_run_config
    from bench.runs.run import run

    runs = tmp_path_factory.mktemp("finished")
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("bench.runs.run._draw", lambda *_: None)
        for method in ("source_only", "adabn", "self_training"):
            run(
                make_run_config(method, "ministreet-tiny"),
                Workspace(runs, tiny_cache, torch.device("cpu"), unboxed=True),
            )
    return runs


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A method, a network, a flow backend and a shift in files of one's own, by name."""
    return write_files(tmp_path / "own files")


@pytest.fixture
def forget(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A function that forgets every file of one's own, as if in another process."""
    return lambda: monkeypatch.setattr(registry, "_files", {})
