"""``bench flow`` from the command line: summaries, tables and pictures, exit codes, wrong flow in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from bench import cli
from bench.core.workspace import Workspace
from bench.flow import _formats
from bench.flow import compare as _compare
from bench.flow.compute import open_split
from bench.runs.config import load_shift

PNG = b"\x89PNG"


def call(*arguments: object) -> Any:
    return CliRunner().invoke(cli.app, ["flow", *map(str, arguments)])


@pytest.fixture
def own_flow(tmp_path: Path, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the exact flow of the validation clips as Middlebury files, for the backend ``files``."""
    split = open_split(load_shift("ministreet-tiny"), "target-val", 0, Workspace(cache=tiny_cache))
    clips, folder = split.open(), tmp_path / "own"
    for index in range(len(clips)):
        clip = clips[index]
        _formats.write(folder / f"{index:05d}.flo", clip.flow[0], clip.valid[0])
    monkeypatch.setenv("BENCH_FLOW_FILES", str(folder))
    monkeypatch.delenv("BENCH_FLOW_DIRECTION", raising=False)
    return folder


def compute(tiny_cache: Path, *arguments: object) -> Any:
    options = ("--split", "target-val", "--cache", tiny_cache, "--workers", 1)
    return call("compute", "ministreet-tiny", "--backend", "files", *options, *arguments)


def test_compute_tells_writes_and_draws(own_flow: Path, tiny_cache: Path, tmp_path: Path) -> None:
    result = compute(tiny_cache, "--out", tmp_path / "out", "--json")
    assert result.exit_code == 0, result.output
    (summary,) = json.loads(result.stdout)
    assert summary == json.loads((tmp_path / "out" / "target-val.json").read_text())
    assert (tmp_path / "out" / "target-val.png").read_bytes().startswith(PNG)
    assert summary["clips"] == 4 and summary["size"] == [64, 128] and summary["wrong"] is None
    assert summary["photometric_error"]["flow"] < 0.7 * summary["photometric_error"]["no motion"]
    assert (Path(summary["folder"]) / "manifest.json").is_file() and 0.5 < summary["valid_share"] < 1
    repeated = compute(tiny_cache)
    assert (
        repeated.exit_code == 0
        and f"Wrote {summary['folder']}, picture {summary['folder']}/summary.png" in repeated.stdout
    )
    assert "| good" in repeated.stdout and "flow of" not in repeated.stderr  # found, not computed


def test_a_wrong_direction_is_one_line_and_exit_code_1(own_flow: Path, tiny_cache: Path) -> None:
    for path in own_flow.iterdir():
        flow, valid = _formats.read(path)
        _formats.write(path, -flow, valid)
    result = compute(tiny_cache)
    assert result.exit_code == 1 and "WRONG" in result.stdout
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("bench: ")]
    assert "points the wrong way, like forward flow t-1 to t: frames differ by" in line
    assert line.endswith("No run uses it: give backward flow t to t-1, or release it with --force")
    assert compute(tiny_cache, "--force").exit_code == 0


def test_a_damaged_file_is_one_line_and_exit_code_1(own_flow: Path, tiny_cache: Path) -> None:
    (own_flow / "00002.flo").write_bytes(b"PIEH")
    result = compute(tiny_cache)
    assert result.exit_code == 1
    assert (
        result.stderr.strip().splitlines()[-1] == f"bench: Flow {own_flow}/00002.flo is damaged: its header is cut off"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("compute", "ministreet-tiny", "-b", "exact"), "Flow 'exact' needs no computing. Available: dis, files"),
        (("compute", "ministreet-tiny", "-b", "rafft"), "Unknown flow 'rafft'. Did you mean 'raft'?"),
        (("compute", "ministret", "-b", "dis"), "Unknown shift 'ministret'."),
        (
            ("compute", "ministreet-tiny", "-b", "dis", "--split", "val"),
            "Unknown split 'val'. Available: source-train, source-val, target-train",
        ),
        (("compute", "ministreet-tiny", "-b", "dis", "--store", "x"), "Unknown store 'x'. Available: float32, int16"),
        (("compute", "ministreet-tiny", "-b", "files"), "set BENCH_FLOW_FILES to its folder"),
        (("compute", "ministreet-tiny", "-b", "mmflow"), "needs BENCH_MMFLOW_CONFIG"),
        (("compare", "ministreet-tiny", "-b", "rafft"), "Unknown flow 'rafft'. Did you mean 'raft'?"),
    ],
)
def test_wrong_use_is_exit_code_2(
    arguments: tuple[str, ...], says: str, tiny_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("BENCH_FLOW_FILES", "BENCH_MMFLOW_CONFIG", "BENCH_MMFLOW_CHECKPOINT"):
        monkeypatch.delenv(name, raising=False)
    result = call(*arguments, "--cache", tiny_cache)
    assert result.exit_code == 2 and says in result.stderr.strip().splitlines()[-1]


def test_compare_has_a_row_for_each_backend(tiny_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_RAFT_SMALL_WEIGHTS", str(tmp_path / "gone.pth"))
    out = tmp_path / "flow.md"
    names = ("-b", "dis", "-b", "raft_small", "--clips", 2, "--cache", tiny_cache, "--out", out)
    result = call("compare", "ministreet-tiny", *names, "--json")
    assert result.exit_code == 0, result.output
    comparison = json.loads(result.stdout)
    rows = {row["backend"]: row for row in comparison["results"]}
    assert list(rows) == ["exact", "zero", "dis", "raft_small"] and comparison["clips"] == 2
    assert rows["exact"]["epe"] == 0 and rows["zero"]["epe"] > rows["dis"]["epe"] > 0
    assert rows["exact"]["photometric"] < rows["dis"]["photometric"] < rows["zero"]["photometric"]
    assert rows["dis"]["rate"] > 0 and rows["dis"]["clock"] == "cpu" and rows["zero"]["rate"] is None
    assert rows["raft_small"]["note"].startswith("No checkpoint at") and rows["raft_small"]["epe"] is None
    assert len({line.count("|") for line in comparison["table"].splitlines()}) == 1  # no heading breaks the table
    assert comparison["table"] in out.read_text() and out.with_suffix(".png").read_bytes().startswith(PNG)
    timed = json.loads(call("compare", "ministreet-tiny", *names, "--random-weights", "--json").stdout)["results"][-1]
    assert timed["note"] == "random weights: speed only" and timed["rate"] > 0 and timed["epe"] is None


def test_errors_are_those_of_the_pixels_where_exact_flow_is_valid(tiny_cache: Path) -> None:
    clips = open_split(load_shift("ministreet-tiny"), "target-val", 0, Workspace(cache=tiny_cache)).open()
    (zero,), flows = _compare.compare(clips, ["zero"], 3)
    length = np.concatenate([np.hypot(*clips[n].flow[0])[clips[n].valid[0]] for n in range(3)])
    assert zero.epe == pytest.approx(length.mean(), rel=1e-6) and zero.valid == 1
    assert zero.outliers == pytest.approx((length > 3).mean())
    assert zero.epe_valid == zero.epe and not flows["zero"][0].any()
