"""The scripts of ``examples/`` run, and what its shift says is so."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

import bench
from bench.core.schema import load_yaml
from bench.core.workspace import Workspace
from bench.data.fixtures import Tree
from bench.data.ministreet import DOMAINS, VARIANTS
from bench.runs.config import load_shift

ROOT = Path(__file__).resolve().parents[2]


Example = Callable[..., str]


@pytest.fixture
def example(
    tmp_path: Path, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Example:
    """``example(name, *arguments)``: what an example prints, run in an empty folder."""

    def run(name: str, *arguments: object) -> str:
        script = ROOT / "examples" / f"{name}.py"
        monkeypatch.setattr(sys, "argv", [str(script), *map(str, arguments)])
        monkeypatch.setenv("BENCH_RUNS", str(workspace.runs))
        monkeypatch.setenv("BENCH_CACHE", str(workspace.cache))
        (tmp_path / "empty").mkdir()
        monkeypatch.chdir(tmp_path / "empty")
        runpy.run_path(str(script), run_name="__main__")
        return capsys.readouterr().out

    return run


def test_adapting_your_own_network(tmp_path: Path, trees: dict[str, Tree], example: Example) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for number, picture in enumerate(sorted(trees["frames"].root.rglob("*.png"))[:4]):
        Image.open(picture).convert("RGB").resize((128, 64)).save(pictures / f"{number}.png")
    output = example("adapt_your_network", pictures, 5)
    assert [line.split()[0] for line in output.splitlines()] == list("01234") and "'contrast'" in output


def test_comparing_two_methods(tmp_path: Path, example: Example) -> None:
    output = example("compare_two_methods", "ministreet-tiny", 1)
    assert output.split()[1:3] == ["adabn", "stpl"] and (tmp_path / "empty" / "comparison.png").is_file()
    with Image.open(tmp_path / "empty" / "comparison.png") as picture:
        assert len(picture.convert("RGB").getcolors(10**6) or ()) > 20


def test_writing_a_method(example: Example) -> None:
    output = example("write_a_method", "ministreet-tiny")
    assert [line.split()[0] for line in output.splitlines()] == ["Source", "AdaBN", "Two"] and "mIoU" in output


def test_the_night_shift_can_be_looked_at_and_names_all_there_is(tmp_path: Path) -> None:
    path = ROOT / "examples" / "night_shift.yaml"
    shift = load_shift(str(path))
    assert shift.purpose == "private" and shift.data.target.title == "sim with sensor: cam, light: night (severity 0.5)"
    comment = [
        line.removeprefix("#   ") for line in path.read_text(encoding="utf-8").splitlines() if line[:4] == "#   "
    ]
    named = load_yaml("\n".join(line for line in comment if not line.startswith("bench ")))
    assert {group: names.split(", ") for group, names in named.items()} == {
        group: sorted(set(variants) - set(DOMAINS)) for group, variants in VARIANTS.items()
    }
    with Image.open(bench.preview(str(path), 0, 1, tmp_path / "clips.png")) as picture:
        assert len(picture.convert("RGB").getcolors(10**6) or ()) > 1000
