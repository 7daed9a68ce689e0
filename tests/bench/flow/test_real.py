"""Flow of recorded data computed ahead of runs: from a data root, used by a run, with files that cannot be read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from bench import cli
from bench.core.registry import ROOT
from bench.core.workspace import Workspace
from bench.data.fixtures import Tree
from bench.flow._shards import Precomputed
from bench.flow.backends import dis
from bench.flow.compute import open_split
from bench.flow.resolve import flow_of
from bench.runs.config import load_shift


@pytest.fixture(scope="module")
def shift(tmp_path_factory: pytest.TempPathFactory) -> str:
    """VIPER to Cityscapes-Seq with small frames."""
    content = yaml.safe_load((ROOT / "shifts" / "viper2cityscapes.yaml").read_text(encoding="utf-8"))
    content["data"]["source"] |= {"height": 72, "width": 128}
    content["data"]["target"] |= {"height": 64, "width": 128}
    path = tmp_path_factory.mktemp("shift") / "flow-viper2cityscapes.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return str(path)


@pytest.fixture
def data(trees: dict[str, Tree], tmp_path: Path) -> Path:
    """A data root that a test may change."""
    for name in ("viper", "cityscapes_seq"):
        shutil.copytree(trees[name].root, tmp_path / "data" / trees[name].root.name)
    return tmp_path / "data"


def compute(shift: str, data: Path, cache: Path, *arguments: str) -> Any:
    options = ("--data-root", str(data), "--cache", str(cache), "--workers", "1")
    return CliRunner().invoke(cli.app, ["flow", "compute", shift, "-b", "dis", *options, *arguments])


def test_a_run_takes_what_was_computed(shift: str, data: Path, tmp_path: Path) -> None:
    splits = ("target-train", "source-train")
    result = compute(
        shift, data, tmp_path / "cache", *(word for name in splits for word in ("--split", name)), "--json"
    )
    assert result.exit_code == 0, result.output
    summaries = json.loads(result.stdout)
    assert [summary["size"] for summary in summaries] == [[64, 128], [72, 128]] and all(
        summary["bad"] == {} for summary in summaries
    )
    assert all(Path(summary["picture"]).is_file() for summary in summaries)
    workspace = Workspace(cache=tmp_path / "cache", data_root=data)
    for name, summary in zip(splits, summaries, strict=True):
        split = open_split(load_shift(shift), name, 0, workspace)
        clips = split.open()
        backend = flow_of("dis", clips, split.name, workspace.cache)
        assert isinstance(backend, Precomputed) and summary["clips"] == len(clips)
        expected = dis.BACKEND(clips[1], clips, 1)
        for loaded, computed in zip(backend(clips[1], clips, 1), expected, strict=True):
            np.testing.assert_array_equal(loaded, computed)


def test_a_truncated_picture_stops_or_is_counted(shift: str, data: Path, tmp_path: Path) -> None:
    workspace = Workspace(cache=tmp_path / "cache", data_root=data)
    split = open_split(load_shift(shift), "target-train", 0, workspace)
    keys = [split.open().key(index) for index in range(len(split.open()))]
    bad = keys[0]  # the first: its size cannot be looked up there
    (picture,) = data.rglob(f"leftImg8bit_sequence/**/{bad}_leftImg8bit.png")
    encoded = picture.read_bytes()
    picture.write_bytes(encoded[: len(encoded) // 2])
    split_option = ("--split", "target-train")
    stopped = compute(shift, data, workspace.cache, *split_option)
    assert stopped.exit_code == 1 and not list(workspace.cache.glob("flow/*/*/*.npy"))
    line = stopped.stderr.strip().splitlines()[-1]
    assert line.startswith(f"bench: {picture}: ") and "Traceback" not in stopped.stderr
    passed = compute(shift, data, workspace.cache, *split_option, "--skip-bad", "--json")
    assert passed.exit_code == 0, passed.output
    (summary,) = json.loads(passed.stdout)
    assert list(summary["bad"]) == [bad] and str(picture) in summary["bad"][bad]
    clips = split.open()
    backend = flow_of("dis", clips, split.name, workspace.cache)
    assert isinstance(backend, Precomputed)
    flow, valid = backend(clips[1], clips, 0)  # a run that skips the clip does not come here
    assert not flow.any() and not valid.any() and backend(clips[1], clips, 1)[0].any()
    picture.write_bytes(encoded)  # once it is repaired, its shard is computed again
    (summary,) = json.loads(compute(shift, data, workspace.cache, *split_option, "--json").stdout)
    assert summary["bad"] == {} and flow_of("dis", clips, split.name, workspace.cache)(clips[0], clips, 0)[0].any()


def test_recorded_clips_have_no_exact_flow_to_compare_with(shift: str, data: Path, tmp_path: Path) -> None:
    options = ("--data-root", str(data), "--cache", str(tmp_path))
    result = CliRunner().invoke(cli.app, ["flow", "compare", shift, "-b", "dis", *options])
    assert result.exit_code == 2
    assert result.stderr.strip().splitlines()[-1].startswith("bench: These clips come without exact flow; compare on")


def test_without_a_data_root_it_says_so(shift: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_DATA", raising=False)
    result = CliRunner().invoke(cli.app, ["flow", "compute", shift, "-b", "dis", "--cache", str(tmp_path)])
    assert result.exit_code == 2 and "give --data-root DIR or set $BENCH_DATA" in result.stderr
