"""Flow computed ahead of runs: wrong flow is found and not used; errors are one line."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from bench.core.errors import RunError, UsageError
from bench.core.workspace import Workspace
from bench.data.rendered import ClipStore
from bench.data.splits import Split
from bench.flow._shards import Precomputed, with_precomputed
from bench.flow.backends import dis
from bench.flow.compute import compute, open_split
from bench.runs.config import load_shift
from tests.bench.flow.folders import contents

# Wrong flow --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flow", "says"),
    [
        ("-clip.flow", "points the wrong way, like forward flow t-1 to t: frames differ by "),
        ("clip.flow[:, ::-1].copy()", "explains the frames worse than no motion: frames differ by "),
    ],
)
def test_wrong_flow_is_found_and_not_released(
    split: Split, tmp_path: Path, fake_flow: Callable[..., str], flow: str, says: str
) -> None:
    name = fake_flow(flow)
    summary = compute(split, name, tmp_path, workers=1)
    assert summary["wrong"].startswith(says)
    clips = split.open()
    backend = with_precomputed(dis.BACKEND, name, clips, split.name, tmp_path)
    assert backend is dis.BACKEND  # nothing was released
    compute(split, name, tmp_path, workers=1, force=True)
    assert isinstance(with_precomputed(dis.BACKEND, name, clips, split.name, tmp_path), Precomputed)
    compute(split, name, tmp_path, workers=1)  # without force it is withdrawn again
    assert with_precomputed(dis.BACKEND, name, clips, split.name, tmp_path) is dis.BACKEND


@pytest.mark.parametrize("flow", ["clip.flow", "0 * clip.flow"])
def test_right_flow_and_no_flow_at_all_pass(
    split: Split, tmp_path: Path, fake_flow: Callable[..., str], flow: str
) -> None:
    assert compute(split, fake_flow(flow), tmp_path, workers=1)["wrong"] is None


def test_flow_that_is_valid_nowhere_passes_with_nulls(
    split: Split, tmp_path: Path, fake_flow: Callable[..., str]
) -> None:
    summary = compute(split, fake_flow(valid=" & False"), tmp_path, workers=1)
    assert summary["photometric_error"] == {"flow": None, "no motion": None, "negated": None}
    assert summary["wrong"] is None and summary["valid_share"] == 0 and summary["mean_length_px"] is None
    assert contents(compute(split, "fake0", tmp_path, workers=1))  # found again, nulls and all


# Errors ------------------------------------------------------------------------------------------------------------------


def test_wrong_names(split: Split, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Flow 'exact' needs no computing. Available: dis, files, mmflow, raft"):
        compute(split, "exact", tmp_path)
    with pytest.raises(UsageError, match=r"Unknown flow 'raff'. Did you mean 'raft'?"):
        compute(split, "raff", tmp_path)
    with pytest.raises(UsageError, match=r"Unknown store 'float16'. Did you mean 'float32'?"):
        compute(split, "dis", tmp_path, store="float16")
    with pytest.raises(UsageError, match=r"Unknown split 'target-trian'. Did you mean 'target-train'?"):
        open_split(load_shift("ministreet-tiny"), "target-trian", 0, Workspace(cache=tmp_path))


def test_a_backend_that_fails_or_gives_something_else(
    split: Split, tmp_path: Path, fake_flow: Callable[..., str]
) -> None:
    with pytest.raises(RunError, match=r"Flow of clip .*/00000 has shape \(1, 2, 32, 64\), its frames need"):
        compute(split, fake_flow("clip.flow[..., ::2, ::2]", "small"), tmp_path, workers=1)
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Cannot write .*file"):
        compute(split, "dis", tmp_path / "file", workers=1)


def test_a_worker_that_is_killed_is_one_line(split: Split, tmp_path: Path) -> None:
    store = split.open()
    assert isinstance(store, ClipStore)
    copy = tmp_path / split.name
    shutil.copytree(store.folder, copy)
    with pytest.raises(RunError, match="was killed, perhaps for memory; run the command again, it goes on"):
        compute(Split(split.name, {}, partial(Deadly, copy)), "dis", tmp_path, workers=2, per_shard=4)


class Deadly(ClipStore):
    """Clips whose sixth kills the process that reads it."""

    def __getitem__(self, index: int) -> Any:
        if index == 5:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(index)


def test_a_changed_layout_is_named_and_an_older_manifest_read(
    split: Split, tmp_path: Path, fake_flow: Callable[..., str]
) -> None:
    """A manifest that says other clips to a shard would give each clip another one's flow."""
    path = Path(compute(split, fake_flow(), tmp_path, workers=1, per_shard=3)["folder"]) / "manifest.json"
    text = path.read_text()
    path.write_text(text.replace('"per_shard": 3', '"per_shard": 4'))
    with pytest.raises(RunError, match=r"manifest.json is damaged; delete its folder"):
        Precomputed(path.parent)
    for file in path.parent.glob("*.json"):  # as they were before they had checksums
        older = {key: value for key, value in json.loads(file.read_text()).items() if key != "checksum"}
        file.write_text(json.dumps(older))
    path.write_text(json.dumps({key: value for key, value in json.loads(text).items() if key != "checksum"}))
    clips = split.open()
    assert Precomputed(path.parent)(clips[5], clips, 5)[0].shape == clips[5].flow.shape
